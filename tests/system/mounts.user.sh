# shellcheck shell=bash
# mounts.user.sh: what an ordinary user does in the test mounts. $1: pool, $2: work folder.
pool=$1 dir=$2/mnt/user denied=$2/denied.txt user=65534

as_user() { setpriv --reuid $user --regid $user --clear-groups "$@"; }
denied() {
	if "$@" 2>"$denied"; then
		echo "not refused: $*" >&2
		exit 1
	fi
	grep -Eqi "yours|permi|root|owner" "$denied" || {
		echo "refused, but not clearly: $*: $(cat "$denied")" >&2
		exit 1
	}
}

denied as_user tarn pool export "$pool"
denied as_user tarn volume destroy "$pool/home"
denied as_user tarn volume set "$pool/home" owner=$user
denied as_user tarn mount "$pool/home" "$dir"
[ -z "$(findmnt -rno TARGET "$dir")" ]
as_user tarn pool status "$pool" >/dev/null
tarn volume set "$pool/home" owner=$user
as_user tarn mount "$pool/home" "$dir"
findmnt -rno OPTIONS "$dir" | grep -q nosuid
as_user touch "$dir/mine"
[ "$(as_user stat -c %u "$dir/mine")" = $user ]
denied setpriv --reuid 64124 --regid 64124 --clear-groups ls "$dir"
as_user tarn umount "$dir"
[ -z "$(findmnt -rno TARGET "$dir")" ]
