#!/usr/bin/env python3
"""posix.py DIR: what a POSIX file system must do, call by call. Prints each check that fails.

Only what every Linux file system does (it passes on ext4), so that it can be tried on the host too.
"""
import ctypes
import errno
import fcntl
import mmap
import os
import shutil
import socket
import stat
import sys
import time
import traceback

from posix_lib import (CHECKS, KEEP_SIZE, LIBC, PUNCH_HOLE, RENAME_EXCHANGE, RENAME_NOREPLACE,
                       ZERO_RANGE, as_user, check, fails, fallocate, get, libc, opened, put,
                       renameat2)
import posix_files     # noqa: F401  their checks register themselves
import posix_rights    # noqa: F401
import posix_seek      # noqa: F401


# ---- names ----

@check
def create_and_errors():
    put("f")
    fails(errno.EEXIST, opened, "f", os.O_CREAT | os.O_EXCL)
    fails(errno.ENOENT, opened, "none", os.O_RDONLY)
    fails(errno.ENOTDIR, opened, "f/x", os.O_RDONLY)
    fails(errno.EISDIR, opened, ".", os.O_RDWR)
    fails(errno.ENOTDIR, os.rmdir, "f")
    fails(errno.ENOENT, os.unlink, "none")
    os.mkdir("d")
    fails(errno.EEXIST, os.mkdir, "d")
    fails(errno.EEXIST, os.mkdir, "f")
    fails(errno.EISDIR, os.unlink, "d")
    put("d/x")
    fails(errno.ENOTEMPTY, os.rmdir, "d")
    os.unlink("d/x")
    os.rmdir("d")
    fails(errno.ENAMETOOLONG, put, "n" * 256)
    put("n" * 255)
    assert "n" * 255 in os.listdir(".")


@check
def names_are_bytes():
    for name in (b"\xff\xfe", "ümläut".encode(), b" ", b"\n", b"a\\b", b"...", b"-rf"):
        with open(name, "wb") as f:
            f.write(name)
        assert name in os.listdir(b".")
        with open(name, "rb") as f:
            assert f.read() == name
    put("Case")
    put("case", b"y")
    assert get("Case") == b"x"


@check
def directory_links_and_times():
    before = os.stat(".")
    time.sleep(0.02)
    os.mkdir("a")
    after = os.stat(".")
    assert after.st_nlink == before.st_nlink + 1
    assert after.st_mtime_ns > before.st_mtime_ns and after.st_ctime_ns > before.st_ctime_ns
    os.mkdir("a/b")
    assert os.stat("a").st_nlink == 3
    assert os.stat("a/b/..").st_ino == os.stat("a").st_ino
    os.mkdir("c")
    os.rename("a/b", "c/b")
    assert os.stat("a").st_nlink == 2 and os.stat("c").st_nlink == 3
    assert os.stat("c/b/..").st_ino == os.stat("c").st_ino


@check
def removed_directory_is_gone():
    os.mkdir("a")
    fd = os.open("a", os.O_RDONLY)
    os.rmdir("a")
    fails(errno.ENOENT, os.open, "x", os.O_CREAT | os.O_RDWR, dir_fd=fd)
    assert os.fstat(fd).st_nlink == 0
    os.close(fd)


@check
def readdir_lists_once():
    os.mkdir("a")
    want = {f"{'e' * (i % 200)}{i}" for i in range(2500)}
    for n in want:
        put(f"a/{n}", b"")
    got = os.listdir("a")
    assert len(got) == len(want) and set(got) == want
    types = {e.name: (e.is_dir(follow_symlinks=False), e.inode()) for e in os.scandir("a")}
    for n in list(want)[:50]:
        assert types[n] == (False, os.stat(f"a/{n}").st_ino)


# ---- rename ----

@check
def rename_basics():
    put("a", b"1")
    put("b", b"2")
    ino = os.stat("a").st_ino
    os.rename("a", "b")
    assert get("b") == b"1" and os.stat("b").st_ino == ino and not os.path.exists("a")
    fails(errno.ENOENT, os.rename, "none", "b")
    os.mkdir("d")
    fails(errno.EISDIR, os.rename, "b", "d")
    fails(errno.ENOTDIR, os.rename, "d", "b")
    os.mkdir("e")
    put("e/x")
    fails(errno.ENOTEMPTY, os.rename, "d", "e")
    os.rename("e", "d")
    assert get("d/x") == b"x"
    os.mkdir("d/sub")
    fails(errno.EINVAL, os.rename, "d", "d/sub/d")
    os.rename("b", "b")
    os.link("b", "c")
    os.rename("b", "c")
    assert os.path.exists("b") and os.stat("c").st_nlink == 2


@check
def rename_open_target_stays_readable():
    put("a", b"new")
    put("b", b"old")
    fd = os.open("b", os.O_RDWR)
    os.rename("a", "b")
    assert os.read(fd, 10) == b"old" and os.fstat(fd).st_nlink == 0
    os.pwrite(fd, b"still", 0)
    assert os.pread(fd, 10, 0) == b"still"
    os.close(fd)
    assert get("b") == b"new"


@check
def rename_flags():
    put("a", b"1")
    put("b", b"2")
    fails(errno.EEXIST, renameat2, "a", "b", RENAME_NOREPLACE)
    renameat2("a", "c", RENAME_NOREPLACE)
    assert get("c") == b"1" and not os.path.exists("a")
    renameat2("c", "b", RENAME_EXCHANGE)
    assert get("c") == b"2" and get("b") == b"1"
    fails(errno.ENOENT, renameat2, "c", "none", RENAME_EXCHANGE)
    os.makedirs("d/inner")
    put("d/inner/f", b"3")
    os.mkdir("e")
    renameat2("d/inner", "b", RENAME_EXCHANGE)
    assert get("b/f") == b"3" and get("d/inner") == b"1"
    assert os.stat("d").st_nlink == 2
    assert os.stat("b/..").st_ino == os.stat(".").st_ino
    fails(errno.EINVAL, renameat2, "b", "c", RENAME_EXCHANGE | RENAME_NOREPLACE)


# ---- links ----

@check
def hard_links():
    put("a", b"data")
    ctime = os.stat("a").st_ctime_ns
    time.sleep(0.02)
    os.link("a", "b")
    s = os.stat("b")
    assert s.st_nlink == 2 and s.st_ino == os.stat("a").st_ino and s.st_ctime_ns > ctime
    fails(errno.EEXIST, os.link, "a", "b")
    os.mkdir("d")
    fails(errno.EPERM, os.link, "d", "e")
    os.unlink("a")
    assert os.stat("b").st_nlink == 1 and get("b") == b"data"


@check
def symbolic_links():
    for target in ("none", "a" * 4000, "../x/./y", "/"):
        os.symlink(target, "l")
        assert os.readlink("l") == target and os.lstat("l").st_size == len(target)
        assert stat.S_ISLNK(os.lstat("l").st_mode)
        os.unlink("l")
    os.symlink("l1", "l2")
    os.symlink("l2", "l1")
    fails(errno.ELOOP, opened, "l1", os.O_RDONLY)
    put("f", b"1")
    os.symlink("f", "lf")
    assert get("lf") == b"1"
    fails(errno.ELOOP, opened, "lf", os.O_RDONLY | os.O_NOFOLLOW)
    fails(errno.EEXIST, os.symlink, "x", "lf")


@check
def unlinked_file_stays_usable():
    fd = opened("a")
    os.write(fd, b"hello" * 10000)
    os.unlink("a")
    assert os.fstat(fd).st_nlink == 0
    os.write(fd, b"more")
    os.ftruncate(fd, 200000)
    assert os.pread(fd, 5, 0) == b"hello" and os.fstat(fd).st_size == 200000
    os.fsync(fd)
    os.close(fd)
    assert os.listdir(".") == []


@check
def tmpfile_gets_a_name():
    try:
        fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o600)
    except OSError as e:
        assert e.errno in (errno.EOPNOTSUPP, errno.EISDIR), e
        return
    os.write(fd, b"tmp")
    libc("linkat", -100, f"/proc/self/fd/{fd}".encode(), -100, b"named", 0x400)
    assert get("named") == b"tmp"
    os.close(fd)


# ---- attributes ----

@check
def times_to_the_nanosecond():
    put("a")
    for t in (1, 1234567890123456789, 2**32 * 10**9 + 999999999, -5 * 10**9 + 1):
        os.utime("a", ns=(t, t + 1 if t % 10**9 != 999999999 else t))
        s = os.stat("a")
        assert s.st_atime_ns == t, (s.st_atime_ns, t)
    os.utime("a", ns=(10**18, 2 * 10**18))
    os.chmod("a", 0o600)
    s = os.stat("a")
    assert (s.st_atime_ns, s.st_mtime_ns) == (10**18, 2 * 10**18)
    os.symlink("a", "l")
    os.utime("l", ns=(5, 6), follow_symlinks=False)
    assert os.lstat("l").st_mtime_ns == 6 and os.stat("a").st_mtime_ns == 2 * 10**18


@check
def writing_changes_times():
    fd = opened("a")
    os.write(fd, b"1")
    os.fsync(fd)
    before = os.stat("a")
    time.sleep(0.02)
    os.write(fd, b"2")
    os.close(fd)
    after = os.stat("a")
    assert after.st_mtime_ns > before.st_mtime_ns and after.st_ctime_ns > before.st_ctime_ns
    time.sleep(0.02)
    os.truncate("a", 1)
    assert os.stat("a").st_mtime_ns > after.st_mtime_ns


@check
def modes_and_owners():
    put("a")
    for mode in (0o000, 0o777, 0o4755, 0o2755, 0o1644):
        os.chmod("a", mode)
        assert stat.S_IMODE(os.stat("a").st_mode) == mode
    os.chmod("a", 0o4755)
    os.chown("a", 1234, 5678)
    s = os.stat("a")
    assert (s.st_uid, s.st_gid) == (1234, 5678) and not s.st_mode & stat.S_ISUID
    os.chown("a", -1, 77)
    assert (os.stat("a").st_uid, os.stat("a").st_gid) == (1234, 77)
    os.chown("a", 2**31 + 5, 2**31 + 6)
    assert os.stat("a").st_uid == 2**31 + 5
    old = os.umask(0o027)
    try:
        os.mkdir("d", 0o777)
        os.close(opened("f", mode=0o666))
    finally:
        os.umask(old)
    assert stat.S_IMODE(os.stat("d").st_mode) == 0o750
    assert stat.S_IMODE(os.stat("f").st_mode) == 0o640
    os.mkdir("g")
    os.chown("g", 0, 99)
    os.chmod("g", 0o2755)
    put("g/f")
    os.mkdir("g/d")
    assert os.stat("g/f").st_gid == 99 and os.stat("g/d").st_gid == 99
    assert os.stat("g/d").st_mode & stat.S_ISGID


@check
def permissions_are_checked():
    os.mkdir("d", 0o755)
    put("d/secret")
    os.chmod("d/secret", 0o600)
    put("d/open")
    os.chmod("d/open", 0o666)
    os.mkdir("d/sticky")
    os.chmod("d/sticky", 0o1777)
    put("d/sticky/root")

    def user():
        fails(errno.EACCES, get, "d/secret")
        fails(errno.EACCES, put, "d/new")
        fails(errno.EACCES, os.unlink, "d/open")
        fails(errno.EPERM, os.chmod, "d/open", 0o600)
        fails(errno.EPERM, os.chown, "d/open", 99, 99)
        put("d/open", b"changed")
        put("d/sticky/mine")
        assert os.stat("d/sticky/mine").st_uid == 4321
        fails(errno.EPERM, os.unlink, "d/sticky/root")
        os.unlink("d/sticky/mine")
    as_user(4321, user)
    assert get("d/open") == b"changed"


@check
def writing_clears_setuid():
    put("a", b"xxxx")
    os.chmod("a", 0o6777)

    def user():
        fd = os.open("a", os.O_WRONLY)
        os.write(fd, b"y")
        os.close(fd)
    as_user(4321, user)
    assert stat.S_IMODE(os.stat("a").st_mode) == 0o777


@check
def special_files():
    os.mkfifo("fifo", 0o640)
    assert stat.S_ISFIFO(os.stat("fifo").st_mode)
    os.mknod("chr", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    s = os.stat("chr")
    assert stat.S_ISCHR(s.st_mode) and s.st_rdev == os.makedev(1, 3)
    os.mknod("blk", stat.S_IFBLK | 0o600, os.makedev(259, 70000))
    assert os.stat("blk").st_rdev == os.makedev(259, 70000)
    with socket.socket(socket.AF_UNIX) as s:
        s.bind("sock")
    assert stat.S_ISSOCK(os.stat("sock").st_mode)


@check
def extended_attributes():
    put("a")
    os.setxattr("a", "user.one", b"1")
    os.setxattr("a", "user.empty", b"")
    os.setxattr("a", "user.big", b"B" * 3000)
    os.setxattr("a", "trusted.t", b"t")
    assert set(os.listxattr("a")) >= {"user.one", "user.empty", "user.big", "trusted.t"}
    assert os.getxattr("a", "user.one") == b"1" and os.getxattr("a", "user.empty") == b""
    assert os.getxattr("a", "user.big") == b"B" * 3000
    fails(errno.EEXIST, os.setxattr, "a", "user.one", b"2", os.XATTR_CREATE)
    fails(errno.ENODATA, os.setxattr, "a", "user.none", b"2", os.XATTR_REPLACE)
    os.setxattr("a", "user.one", b"22", os.XATTR_REPLACE)
    assert os.getxattr("a", "user.one") == b"22"
    os.removexattr("a", "user.one")
    fails(errno.ENODATA, os.getxattr, "a", "user.one")
    fails(errno.ENODATA, os.removexattr, "a", "user.one")
    os.mkdir("d")
    os.setxattr("d", "user.x", b"dir")
    assert os.getxattr("d", "user.x") == b"dir"
    os.rename("a", "b")
    assert os.getxattr("b", "user.big") == b"B" * 3000
    buf = ctypes.create_string_buffer(1)
    got = LIBC.getxattr(b"b", b"user.big", buf, ctypes.c_size_t(1))
    assert got == -1 and ctypes.get_errno() == errno.ERANGE


@check
def file_system_numbers():
    s = os.statvfs(".")
    assert s.f_blocks > 0 and 0 < s.f_bavail <= s.f_bfree <= s.f_blocks
    assert s.f_namemax == 255
    put("a", os.urandom(8 << 20))
    fd = os.open("a", os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    used = (s.f_bavail - os.statvfs(".").f_bavail) * s.f_frsize
    assert 6 << 20 < used < 64 << 20, f"8 MiB written, {used} bytes fewer available"
    blocks = os.stat("a").st_blocks * 512
    assert 8 << 20 <= blocks <= 9 << 20, f"st_blocks says {blocks}"


# ---- data ----

@check
def read_and_write_anywhere():
    fd = opened("a")
    want = bytearray(300000)
    rng = 12345
    for _ in range(300):
        rng = (rng * 1103515245 + 12345) % 2**31
        at, n = rng % 290000, 1 + rng // 7 % 9000
        data = bytes([rng % 251 + 1]) * n
        os.pwrite(fd, data, at)
        want[at:at + n] = data
    size = os.fstat(fd).st_size
    assert os.pread(fd, 400000, 0) == bytes(want[:size])
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    assert os.pread(fd, 400000, 0) == bytes(want[:size])
    assert os.pread(fd, 10, size) == b"" and os.pread(fd, 10, size + 10**9) == b""
    os.close(fd)


@check
def append_mode():
    a, b = (opened("a", os.O_CREAT | os.O_WRONLY | os.O_APPEND) for _ in range(2))
    for i in range(50):
        os.write(a if i % 2 else b, b"%04d" % i)
    assert get("a") == b"".join(b"%04d" % i for i in range(50))
    os.close(a)
    os.close(b)


@check
def truncate_and_extend():
    put("a", b"z" * 10000)
    os.truncate("a", 5000)
    os.truncate("a", 9000)
    assert get("a") == b"z" * 5000 + b"\0" * 4000
    os.truncate("a", 0)
    assert os.stat("a").st_blocks == 0
    os.truncate("a", 1 << 40)
    assert os.stat("a").st_size == 1 << 40 and os.stat("a").st_blocks < 100
    fd = os.open("a", os.O_RDWR | os.O_TRUNC)
    assert os.fstat(fd).st_size == 0
    os.close(fd)
    fails(errno.EINVAL, os.truncate, "a", -1)
    os.mkdir("d")
    fails(errno.EISDIR, os.truncate, "d", 0)


@check
def small_files_of_every_size():
    for n in list(range(0, 40)) + [100, 500, 1000, 2047, 2048, 2049, 3000, 4095, 4096, 4097, 8193]:
        put(f"f{n}", b"%d" % (n % 10) * n)
    for n in (0, 1, 39, 500, 2048, 4095, 4096, 4097, 8193):
        assert get(f"f{n}") == b"%d" % (n % 10) * n, n
    for n in (39, 500, 2048):
        os.truncate(f"f{n}", 20000)
        assert get(f"f{n}") == b"%d" % (n % 10) * n + b"\0" * (20000 - n), n


@check
def far_offsets():
    fd = opened("a")
    far = 1 << 43
    os.pwrite(fd, b"far", far)
    os.pwrite(fd, b"near", 0)
    assert os.pread(fd, 3, far) == b"far" and os.pread(fd, 4, far - 4) == b"\0" * 4
    assert os.fstat(fd).st_size == far + 3 and os.fstat(fd).st_blocks * 512 < 1 << 20
    os.ftruncate(fd, 100)
    os.ftruncate(fd, far + 3)
    assert os.pread(fd, 3, far) == b"\0" * 3
    os.close(fd)


@check
def allocate_punch_zero():
    fd = opened("a")
    fallocate(fd, 0, 0, 1 << 20)
    assert os.fstat(fd).st_size == 1 << 20 and os.pread(fd, 1 << 20, 0) == b"\0" * (1 << 20)
    fallocate(fd, KEEP_SIZE, 1 << 20, 1 << 20)
    assert os.fstat(fd).st_size == 1 << 20
    os.pwrite(fd, b"x" * (1 << 20), 0)
    fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 5000, 100000)
    want = b"x" * 5000 + b"\0" * 100000 + b"x" * ((1 << 20) - 105000)
    assert os.pread(fd, 1 << 20, 0) == want
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    assert os.pread(fd, 1 << 20, 0) == want
    fallocate(fd, ZERO_RANGE, 200000, 10)
    assert os.pread(fd, 12, 199999) == b"x" + b"\0" * 10 + b"x"
    fallocate(fd, ZERO_RANGE, (1 << 20) - 10, 100)
    assert os.fstat(fd).st_size == (1 << 20) + 90
    fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 0, 1 << 40)
    assert os.pread(fd, 1 << 21, 0) == b"\0" * ((1 << 20) + 90)
    fails(errno.EINVAL, fallocate, fd, 0, -1, 10)
    fails(errno.EINVAL, fallocate, fd, 0, 0, 0)
    os.close(fd)


@check
def punch_frees_blocks():
    fd = opened("a")
    os.write(fd, os.urandom(4 << 20))
    os.fsync(fd)
    before = os.fstat(fd).st_blocks
    fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 1 << 20, 2 << 20)
    os.fsync(fd)
    freed = (before - os.fstat(fd).st_blocks) * 512
    assert freed >= (2 << 20) - 131072, freed
    os.close(fd)


@check
def shared_mapping():
    fd = opened("a")
    os.ftruncate(fd, 3 * 4096)
    with mmap.mmap(fd, 3 * 4096) as m:
        m[4000:4200] = b"m" * 200
        assert os.pread(fd, 200, 4000) == b"m" * 200
        os.pwrite(fd, b"w" * 10, 4100)
        assert m[4100:4110] == b"w" * 10
        m.flush()
    os.close(fd)
    assert get("a")[4000:4100] == b"m" * 100


@check
def direct_io():
    fd = os.open("a", os.O_CREAT | os.O_RDWR | os.O_DIRECT, 0o644)
    buf = mmap.mmap(-1, 65536)
    buf[:] = bytes(range(256)) * 256
    assert os.pwrite(fd, buf, 4096) == 65536
    back = mmap.mmap(-1, 65536)
    assert os.preadv(fd, [back], 4096) == 65536 and back[:] == buf[:]
    os.close(fd)
    assert get("a") == b"\0" * 4096 + buf[:]


@check
def two_processes_see_each_other():
    put("a", b"0" * 8192)
    fd = os.open("a", os.O_RDWR)

    def child():
        put_fd = os.open("a", os.O_WRONLY)
        os.pwrite(put_fd, b"child", 4090)
        os.close(put_fd)
        os.rename("a", "b")
    as_user(0, child)
    assert os.pread(fd, 5, 4090) == b"child" and get("b")[4090:4095] == b"child"
    os.close(fd)


@check
def locks():
    a, b = opened("a"), opened("a")
    fcntl.flock(a, fcntl.LOCK_EX)
    fails(errno.EAGAIN, fcntl.flock, b, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(a, fcntl.LOCK_UN)
    fcntl.lockf(a, fcntl.LOCK_EX, 100, 0)

    def child():
        fd = os.open("a", os.O_RDWR)
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 50)
        except OSError as e:
            assert e.errno in (errno.EAGAIN, errno.EACCES)
        else:
            raise AssertionError("a locked range was locked again")
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 200)
    as_user(0, child)
    os.close(a)
    os.close(b)


@check
def programs_run_from_it():
    shutil.copy("/bin/true", "prog")
    os.chmod("prog", 0o755)
    assert os.spawnv(os.P_WAIT, "./prog", ["prog"]) == 0
    put("script", b"#!/bin/sh\nexit 7\n")
    os.chmod("script", 0o755)
    assert os.spawnv(os.P_WAIT, "./script", ["script"]) == 7


def main():
    top = os.path.abspath(sys.argv[1])
    only = sys.argv[2:]
    bad = 0
    for fn in CHECKS:
        if only and fn.__name__ not in only:
            continue
        folder = os.path.join(top, fn.__name__)
        os.mkdir(folder)
        os.chdir(folder)
        try:
            fn()
        except Exception as e:      # pylint: disable=broad-except
            bad += 1
            line = [f.lineno for f in traceback.extract_tb(e.__traceback__)
                    if f.name == fn.__name__][-1]
            print(f"posix: {fn.__name__}: line {line}: {type(e).__name__}: {e}")
        os.chdir(top)
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{len(CHECKS) if not only else len(only)} checks, {bad} failed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
