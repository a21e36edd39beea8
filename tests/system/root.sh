# shellcheck shell=bash
# root.sh: small root folders made of the host's own programs, for chroots and containers.

# root_make DIR PROGRAM...: with these programs, what they need to run, and places to mount on.
root_make() {
	local root=$1 p
	shift
	mkdir -p "$root"/{proc,sys,dev,run,tmp,root,etc,usr/bin,usr/lib,usr/lib64}
	chmod 1777 "$root/tmp"
	for p in bin lib lib64; do ln -sfn usr/$p "$root/$p"; done
	ln -sfn bash "$root/usr/bin/sh"
	for p in bash "$@"; do
		p=$(type -P "$p")
		install "$p" "$root/usr/bin/"
		ldd "$p" | grep -o '/[^ ]*' | while read -r p; do
			install -D "$p" "$root/usr/${p#/usr/}" 2>/dev/null ||
				install -D "$p" "$root$p"
		done
	done
	printf 'root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n' >"$root/etc/passwd"
	printf 'root:x:0:\nuser:x:1000:\n' >"$root/etc/group"
}
