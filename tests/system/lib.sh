# shellcheck shell=bash
# lib.sh: what every system test needs; source it first.
#
# A test makes pools of files in its own folder ($WORK), with its own run and state folders, so that
# tests can run beside each other. Whatever happens, tests/system/sweep cleans up in the end.
#
#   TARN_BUILD      build folder with the programs (default: build)
#   TARN_LONG=1     tests that can, do more
#   TARN_SEED=N     repeat the random choices of a run; printed when a test fails
#   KEEP=1          keep $WORK

set -Eeuo pipefail

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
NAME=$(basename "$0")
TARN_BUILD=$(cd "${TARN_BUILD:-$TOP/build}" && pwd)
PATH=$TARN_BUILD/tools:$PATH:/usr/sbin:/sbin
export LONG=${TARN_LONG:-0}
POOL=t$$
KEEP=${KEEP:-0}
umask 022

if [ "$(id -u)" != 0 ]; then
	echo "$NAME: must run as root (it mounts)" >&2
	exit 77
fi

WORK=${TARN_TEST_WORK:-$(mktemp -d "${TMPDIR:-/var/tmp}/tarn-test.XXXXXX")}
chmod 755 "$WORK"
mkdir -p "$WORK/dev" "$WORK/mnt"
export TARN_RUN_DIR=$WORK/run TARN_STATE_DIR=$WORK/state PATH LC_ALL=C

SEED=${TARN_SEED:-$((RANDOM * 32768 + RANDOM))}
RANDOM=$((SEED & 32767))
export TARN_SEED=$SEED

# Sanitizers of a debug build report here; the sweep looks for these files.
export ASAN_OPTIONS="log_path=$WORK/san:detect_leaks=0:abort_on_error=1:${ASAN_OPTIONS:-}"
export UBSAN_OPTIONS="log_path=$WORK/san:print_stacktrace=1:halt_on_error=1:${UBSAN_OPTIONS:-}"

say() { printf '%s\n' "$*"; }

fail() {
	printf '%s: %s\n' "$NAME" "$*" >&2
	exit 1
}

skip() {
	printf 'SKIP: %s\n' "$*"
	exit 77
}

# Last lines of every daemon's log and every sanitizer report.
show_logs() {
	local f
	for f in "$WORK"/run*/*/log "$WORK"/run*/*/*/log; do
		[ -s "$f" ] || continue
		printf -- '---- end of %s\n' "${f#"$WORK"/}"
		tail -n 25 "$f"
	done
	for f in "$WORK"/san.*; do
		[ -s "$f" ] || continue
		printf -- '---- %s\n' "${f##*/}"
		head -n 60 "$f"
	done
}

AT_EXIT=() # more functions to run at the end

at_exit() {
	local status=$? f
	trap - EXIT INT TERM
	cd /
	for f in "${AT_EXIT[@]}"; do
		"$f" || status=1
	done
	for f in "$WORK"/san.*; do
		[ -s "$f" ] && [ "$status" != 77 ] && status=1
	done
	if [ "$status" != 0 ] && [ "$status" != 77 ]; then
		{
			show_logs
			printf '%s: failed; repeat with TARN_SEED=%s\n' "$NAME" "$SEED"
		} >&2
	fi
	[ "$KEEP" = 1 ] || "$TOP/tests/system/sweep" "$WORK" || status=1
	exit "$status"
}
trap at_exit EXIT
trap 'exit 143' INT TERM
trap 'printf "%s: line %s failed: %s\n" "$NAME" "$LINENO" "$BASH_COMMAND" >&2' ERR

# helper NAME: compile tests/system/NAME.c, print the program's path.
helper() {
	local out=$WORK/bin/$1
	if [ ! -x "$out" ]; then
		mkdir -p "$WORK/bin"
		cc -std=gnu11 -O2 -g -Wall -Wextra -pthread -o "$out" "$TOP/tests/system/$1.c" >&2
	fi
	printf '%s\n' "$out"
}

# expect WHAT ACTUAL WANTED
expect() {
	[ "$2" = "$3" ] || fail "$1: is '$2', should be '$3'"
}

# refused PATTERN COMMAND...: it fails, says why (a line matching PATTERN), and does not crash.
refused() {
	local pattern=$1 status=0 text
	shift
	text=$("$@" 2>&1 >"$WORK/refused.out") || status=$?
	[ "$status" != 0 ] || fail "not refused: $*"
	[ "$status" -lt 126 ] || fail "crashed with status $status: $*: $text"
	printf '%s\n' "$text" | grep -Eqi -- "$pattern" ||
		fail "refused, but not with /$pattern/: $*: ${text:-nothing said}"
}

# wait_until SECONDS COMMAND...: try until it succeeds.
wait_until() {
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -le $end ] || return 1
		sleep 0.1
	done
}

# ---- pools ----

# pool_create COUNT SIZE [OPTIONS...]: a pool over files $WORK/dev/d0.img ...; their paths in DEVS.
pool_create() {
	local n=$1 size=$2 i
	shift 2
	DEVS=()
	for ((i = 0; i < n; i++)); do DEVS+=("$WORK/dev/d$i.img"); done
	tarn pool create "$POOL" "${DEVS[@]}" --size "$size" "$@"
}

pool_import() { tarn pool import "${DEVS[@]}" "$@"; }

# pool_start: again after the daemon died or was stopped, by name.
pool_start() { tarn pool import "$POOL" "$@"; }

daemon_pid() { cat "$WORK/run/$POOL/pid"; }

# daemon_kill: kill -9. An import waits by itself until the process is gone.
daemon_kill() { kill -9 "$(daemon_pid)"; }

# status JQ: a value from the pool's status.   volume VOLUME JQ: one from a volume's.
status() { tarn pool status "$POOL" --json | jq -r "$1"; }
volume() { tarn volume status "$POOL/$1" --json | jq -r "$2"; }
# device INDEX JQ: a value of device INDEX.
device() { status ".devices[] | select(.path == \"${DEVS[$1]}\") | $2"; }
# devices_sum FIELD: over all devices.
devices_sum() { status "[.devices[].$1] | add"; }
events() { tarn pool events "$POOL" --json | jq -r "$1"; }

image() { printf '%s\n' "$WORK/run/$POOL/images/$1"; }

# block_create NAME SIZE [OPTIONS...]: a block volume with 2 copies, unless told otherwise.
block_create() {
	local name=$1 size=$2
	shift 2
	tarn volume create "$POOL/$name" --type block --size "$size" --copies 2 "$@"
	wait_until 10 test -e "$(image "$name")" || fail "no image file for $name"
}

# fs_create NAME [OPTIONS...]: an fs volume with 2 copies, mounted at $WORK/mnt/NAME.
fs_create() {
	local name=$1
	shift
	tarn volume create "$POOL/$name" --type fs --copies 2 "$@"
	fs_mount "$name"
}

fs_mount() {
	mkdir -p "$WORK/mnt/$1"
	tarn mount "$POOL/$1" "$WORK/mnt/$1"
}

fs_umount() { tarn umount "$WORK/mnt/$1"; }

tarn_mounts() { findmnt -rno TARGET -t fuse.tarn | grep "^$WORK/mnt/" || true; }

# recover [OPTIONS...]: what an administrator does after the daemon died: start it, mount again.
recover() {
	local mounts target
	mounts=$(tarn_mounts)
	pool_start "$@"
	for target in $mounts; do
		! mountpoint -q "$target" || tarn umount "$target"
		fs_mount "${target##*/}"
	done
}

# soon COMMAND...: it may take a moment until it can: a ring that ended with its process (fio) holds
# files open a little longer.
soon() { wait_until 10 "$@" || "$@"; }

# check_clean: export and verify the pool offline.
check_clean() {
	local target
	for target in $(tarn_mounts); do soon tarn umount "$target"; done
	soon tarn pool export "$POOL"
	tarn pool check "${DEVS[@]}" >"$WORK/check.txt" 2>&1 || {
		tail -n 30 "$WORK/check.txt" >&2
		fail "pool check found problems"
	}
}

# The state of what daemons write in background: nothing dirty in memory.
drained() { [ "$(status .delta_bytes)" = 0 ]; }
drain() { wait_until 60 drained || fail "dirty data is not written within 60 s"; }

drop_caches() {
	sync
	echo 3 >/proc/sys/vm/drop_caches
}

# random_file PATH MIB: not compressible, the same for the same seed and path.
random_file() {
	python3 -c 'import random, sys
rng = random.Random(sys.argv[3] + sys.argv[1])
with open(sys.argv[1], "wb") as f:
    for _ in range(int(sys.argv[2])):
        f.write(rng.randbytes(1 << 20))
' "$1" "$2" "$SEED"
}

# sample_tree MIB: a folder with about so many MiB of real files of all kinds; its path in SAMPLE.
sample_tree() {
	local part
	SAMPLE=$WORK/sample
	mkdir -p "$SAMPLE"
	for part in /usr/include /usr/share/zoneinfo /usr/share/perl /usr/lib/python3* /etc \
		/usr/share/doc /usr/share/man /usr/lib/gcc /usr/bin /usr/share/* /usr/lib/*; do
		[ -d "$part" ] && [ ! -e "$SAMPLE/${part##*/}" ] || continue
		[ "$(du -sm "$part" | cut -f1)" -le $(($1 / 2)) ] || continue
		cp -a "$part" "$SAMPLE/" 2>/dev/null || true
		[ "$(du -sm "$SAMPLE" | cut -f1)" -lt "$1" ] || break
	done
}

sum_of() { sha256sum <"$1" | cut -d' ' -f1; }

# verify_fio NAME FILE OPTIONS...: a fio job that verifies what it wrote. FILE "": files of its own.
verify_fio() {
	local name=$1 file=$2
	shift 2
	fio --name="$name" ${file:+--filename="$file"} --verify=crc32c --verify_fatal=1 \
		--verify_state_save=0 --do_verify=1 --fallocate=none --randrepeat=0 \
		--randseed="$SEED" \
		--output="$WORK/fio.txt" "$@" ||
		{ tail -n 20 "$WORK/fio.txt" >&2; fail "fio $name failed on $file"; }
}
