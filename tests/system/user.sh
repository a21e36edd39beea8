# shellcheck shell=bash
# user.sh: what an ordinary user does in the test user: no root anywhere.
set -Eeuo pipefail
trap 'echo "user.sh: line $LINENO failed: $BASH_COMMAND" >&2' ERR
cd "$HOME"

say() { printf '%s\n' "$*"; }
fail() {
	printf 'user.sh: %s\n' "$*" >&2
	exit 1
}
refused() {
	local pattern=$1
	shift
	! "$@" >refused.txt 2>&1 || fail "not refused: $*"
	grep -Eqi -- "$pattern" refused.txt || fail "refused, but not so: $*: $(cat refused.txt)"
}
wait_until() {
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -le $end ] || return 1
		sleep 0.1
	done
}
daemon_pid() { cat "$XDG_RUNTIME_DIR/tarn/mine/pid"; }

say "create"
tarn pool create mine a.img b.img --size 512M
[ -S "$XDG_RUNTIME_DIR/tarn/mine/control" ]
[ -e .local/state/tarn/mine.pool ]
[ "$(ps -o uid= -p "$(daemon_pid)" | tr -d ' ')" = "$UID" ]
[ "$(tarn pool status --json | jq -r '.[].name' | sort | xargs)" = "mine $SYSTEM_POOL" ]
refused "running|exists" tarn pool create "$SYSTEM_POOL" c.img --size 256M
refused "only root" tarn volume destroy "$SYSTEM_POOL/home"

say "a tree through fusermount3"
tarn volume create mine/data --type fs --copies 2
mkdir data
tarn mount mine/data data
[ "$(stat -c %u:%g data)" = "$UID:$UID" ]
findmnt -rno OPTIONS "$HOME/data" | grep nosuid | grep -q nodev
cp -a /usr/include/linux data/
ln data/linux/fuse.h data/hard
ln -s hard data/soft
mkfifo data/fifo
setfattr -n user.note -v mine data/hard
setfacl -m u:1:r data/hard
[ "$(getfacl -cs data/hard | grep -c user:)" = 2 ]
refused "permi|permitted" chown 0 data/hard
refused "permi|permitted" mknod data/node c 1 3

say "an image"
tarn volume create mine/disk --type block --size 64M --copies 2
image=$XDG_RUNTIME_DIR/tarn/mine/images/disk
wait_until 10 test -w "$image" || fail "no image"
head -c 8M /dev/urandom >random
dd if=random of="$image" bs=1M conv=notrunc,fsync status=none
cmp -n 8388608 random "$image"

say "the daemon is killed"
sync -f data
dd if=random of=data/random bs=1M conv=fsync status=none
kill -9 "$(daemon_pid)"
tarn pool import mine
tarn mount mine/data data
diff -r /usr/include/linux data/linux
cmp random data/random
cmp -n 8388608 random "$image"

say "the pool is looked after"
tarn volume set mine/data compression=off
tarn pool check mine
refused "use|mount" tarn pool export mine
tarn umount data
tarn pool export mine
[ ! -e .local/state/tarn/mine.pool ]
tarn pool check a.img b.img

say "a tree mounted by root of a user namespace"
tarn pool import a.img b.img
tarn volume create mine/inner --type fs --copies 2
unshare -Ur -m bash -euc '
	export TARN_RUN_DIR="$XDG_RUNTIME_DIR/tarn"
	tarn mount mine/inner data
	[ "$(stat -c %u:%g data)" = 0:0 ]
	cp -r /usr/include/linux data/
	install -m 4755 /bin/true data/suid
	data/suid
	setcap cap_net_raw+ep data/suid
	tarn umount data
	tarn mount mine/inner data
	diff -r /usr/include/linux data/linux
	[ "$(stat -c %a data/suid)" = 4755 ]
	getcap data/suid | grep -q cap_net_raw
' || fail "in a user namespace"
released() { tarn mount mine/inner data; }
wait_until 10 released || fail "the volume stays in use after its namespace ended"
[ "$(stat -c %u data)" = 0 ] # the numbers are those of the namespace
tarn umount data
tarn mount mine/data data
tarn pool export mine --force
! mountpoint -q data || fail "still mounted"
tarn pool check a.img b.img
