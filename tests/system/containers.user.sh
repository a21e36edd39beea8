# shellcheck shell=bash
# containers.user.sh: root of a user namespace, on a folder of Tarn that is the user's outside.
# $1: work folder, $2: that folder.
set -Eeuo pipefail
trap 'echo "containers.user.sh: line $LINENO failed: $BASH_COMMAND" >&2' ERR
work=$1 d=$2
. "$(dirname "${BASH_SOURCE[0]}")/containers.bundle.sh"

touch "$d/owned"
chown 1:1 "$d/owned"
mkdir "$d/upper" "$d/work" "$d/merged"
mount -t overlay overlay \
	-o "userxattr,lowerdir=$d/root,upperdir=$d/upper,workdir=$d/work" "$d/merged"
rm "$d/merged/usr/bin/stat"
echo new >"$d/merged/etc/new"
chown 5:5 "$d/merged/etc/passwd"
umount "$d/merged"
[ -e "$d/root/usr/bin/stat" ]
[ "$(stat -c %u "$d/upper/etc/passwd")" = 5 ]
[ "$(stat -c %u "$d/root/etc/passwd")" = 0 ]

bundle "$d/bundle" "$d/root" --rootless
crun --root "$work/user/crun" --cgroup-manager=disabled run -b "$d/bundle" "u$$" >"$work/user/out"
[ "$(xargs <"$work/user/out")" = "crun 0 2" ] || {
	cat "$work/user/out" >&2
	exit 1
}
[ "$(cat "$d/root/tmp/d/f")" = text ]
