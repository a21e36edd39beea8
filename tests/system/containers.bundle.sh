# shellcheck shell=bash
# containers.bundle.sh: bundles for crun.

# unified COMMAND...: where it sees version 2 of cgroups only, whatever the host has mounted.
unified() {
	# shellcheck disable=SC2016
	unshare -m bash -ec 'mount -t cgroup2 none /sys/fs/cgroup; exec "$@"' unified "$@"
}

# bundle DIR ROOT SPEC-OPTIONS...: a container that runs a script of ours on this root folder.
bundle() {
	local b=$1 root=$2
	shift 2
	mkdir -p "$b"
	(cd "$b" && rm -f config.json && crun spec "$@")
	cat >"$root/script" <<-'END'
		set -e
		echo $HOSTNAME
		id -u
		touch /here
		mkdir /tmp/d
		ln /here /tmp/d/link
		stat -c %h /here
		echo text >/tmp/d/f
		rm /bin/rm
		[ ! -e /bin/rm ]
	END
	jq --arg root "$root" '.root = {path: $root, readonly: false} | .process.terminal = false |
		.process.args = ["/bin/sh", "/script"] | .hostname = "crun" |
		del(.linux.resources)' "$b/config.json" >"$b/new"
	mv "$b/new" "$b/config.json"
}
