"""posix_files: errors, times, names, handles, and data changed in many ways at once."""
import ctypes
import errno
import fcntl
import mmap
import os
import random
import select
import socket
import stat
import struct
import time

from posix_lib import (KEEP_SIZE, LIBC, PUNCH_HOLE, RENAME_EXCHANGE, ZERO_RANGE, as_user, check,
                       fails, fallocate, get, libc, opened, put, renameat2)

RENAME_WHITEOUT = 4
BTIME = 0x800


def statx(path, mask, flags=0x100):
    buf = ctypes.create_string_buffer(256)
    libc("statx", -100, os.fsencode(path), flags, mask, buf)
    got = struct.unpack_from("<IIQ", buf.raw, 0)
    return {"mask": got[0], "btime": struct.unpack_from("<qI", buf.raw, 80)}


# ---- errors ----

@check
def errors_of_paths():
    put("f")
    os.mkdir("d")
    os.symlink("loop", "loop")
    os.symlink("none", "dangling")
    long, path = "n" * 256, "d/" * 2048 + "x"
    calls = {
        "open": lambda p: os.open(p, os.O_RDONLY), "creat": put, "mkdir": os.mkdir,
        "unlink": os.unlink, "rmdir": os.rmdir, "stat": os.stat, "chmod": lambda p: os.chmod(p, 0),
        "truncate": lambda p: os.truncate(p, 0), "utime": os.utime, "mkfifo": os.mkfifo,
        "chown": lambda p: os.chown(p, 0, 0), "link": lambda p: os.link(p, "x"),
        "link to": lambda p: os.link("f", p), "symlink": lambda p: os.symlink("x", p),
        "rename": lambda p: os.rename(p, "x"), "rename to": lambda p: os.rename("f", p),
        "readlink": os.readlink, "listdir": os.listdir, "access": lambda p: os.stat(p + "/."),
    }
    for name, fn in calls.items():
        for p, code in (("f/x", errno.ENOTDIR), ("none/x", errno.ENOENT),
                        (long, errno.ENAMETOOLONG),
                        (path, errno.ENAMETOOLONG), ("loop/x", errno.ELOOP),
                        (long + "/x", errno.ENAMETOOLONG), ("dangling/x", errno.ENOENT)):
            try:
                fails(code, fn, p)
            except AssertionError as e:
                raise AssertionError(f"{name} {p[:10]}: {e}") from e
    for name in ("open", "creat", "stat", "chmod", "truncate", "utime", "chown", "listdir"):
        fails(errno.ELOOP, calls[name], "loop")
    for name in ("mkdir", "symlink", "mkfifo", "link to"):
        for p in ("f", "d", "loop", "dangling"):
            fails(errno.EEXIST, calls[name], p)
    fails(errno.EINVAL, os.rmdir, "d/.")
    fails(errno.ENOTEMPTY, os.rmdir, "d/..")
    fails(errno.EINVAL, os.readlink, "f")
    fails(errno.ENOTDIR, os.listdir, "f")
    fails(errno.ENOENT, os.symlink, "", "x")
    fails(errno.EBUSY, os.rename, "d/.", "x")
    fails(errno.EXDEV, os.link, "f", "/dev/shm/x")
    fails(errno.ENXIO, os.open, sock("s"), os.O_RDWR)
    os.mkfifo("p")
    fails(errno.ENXIO, os.open, "p", os.O_WRONLY | os.O_NONBLOCK)


def sock(path):
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(path)
    return path


@check
def running_program_is_busy():
    import shutil
    import subprocess
    shutil.copy("/bin/sleep", "prog")
    os.chmod("prog", 0o755)
    with subprocess.Popen(["./prog", "100"]) as p:
        try:
            fails(errno.ETXTBSY, os.open, "prog", os.O_WRONLY)
            fails(errno.ETXTBSY, os.truncate, "prog", 0)
        finally:
            p.kill()
    fd = os.open("prog", os.O_RDWR)
    fails(errno.ETXTBSY, os.execv, "./prog", ["prog"])
    os.close(fd)


@check
def rename_over_every_kind():
    kinds = {"file": put, "dir": os.mkdir, "fifo": os.mkfifo, "sock": sock,
             "link": lambda p: os.symlink("x", p)}
    for a, make_a in kinds.items():
        for b, make_b in kinds.items():
            make_a("a")
            make_b("b")
            ino = os.lstat("a").st_ino
            if a == "dir" and b != "dir":
                fails(errno.ENOTDIR, os.rename, "a", "b")
            elif a != "dir" and b == "dir":
                fails(errno.EISDIR, os.rename, "a", "b")
            else:
                os.rename("a", "b")
                assert os.lstat("b").st_ino == ino and not os.path.lexists("a"), (a, b)
            for p in ("a", "b"):
                if os.path.lexists(p):
                    (os.rmdir if stat.S_ISDIR(os.lstat(p).st_mode) else os.unlink)(p)
    os.mkdir("d")
    put("d/x")
    for p in ("d/x", "d"):
        os.rename(p, p)
    os.makedirs("e/f/g")
    fails(errno.EINVAL, os.rename, "e", "e/f/g/h")
    fails(errno.ENOTEMPTY, os.rename, "e/f", "e")


@check
def rename_leaves_a_whiteout():
    put("a", b"1")
    put("b", b"2")
    renameat2("a", "c", RENAME_WHITEOUT)
    s = os.stat("a")
    assert stat.S_ISCHR(s.st_mode) and s.st_rdev == 0 and get("c") == b"1"
    renameat2("c", "b", RENAME_WHITEOUT)
    assert get("b") == b"1" and stat.S_ISCHR(os.stat("c").st_mode)
    renameat2("a", "b", RENAME_EXCHANGE)
    assert get("a") == b"1" and stat.S_ISCHR(os.stat("b").st_mode)
    fails(errno.EINVAL, renameat2, "a", "b", RENAME_WHITEOUT | RENAME_EXCHANGE)
    os.unlink("b")
    os.mkdir("d")
    renameat2("d", "e", RENAME_WHITEOUT)
    assert stat.S_ISCHR(os.stat("d").st_mode) and os.path.isdir("e")


@check
def link_does_not_follow():
    put("f")
    os.symlink("f", "l")
    os.link("l", "m", follow_symlinks=False)
    assert os.readlink("m") == "f" and os.lstat("m").st_ino == os.lstat("l").st_ino
    assert os.lstat("l").st_nlink == 2
    libc("linkat", -100, b"l", -100, b"n", 0x400)
    assert os.lstat("n").st_ino == os.stat("f").st_ino
    for kind in ("p", "s"):
        (os.mkfifo if kind == "p" else sock)(kind)
        os.link(kind, kind + "2")
        assert os.stat(kind).st_nlink == 2


@check
def tmpfiles():
    fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o640)
    s = os.fstat(fd)
    assert stat.S_IMODE(s.st_mode) == 0o640 and s.st_nlink == 0 and os.listdir(".") == []
    os.write(fd, b"tmp" * 5000)
    os.fsync(fd)
    libc("linkat", -100, f"/proc/self/fd/{fd}".encode(), -100, b"named", 0x400)
    assert os.fstat(fd).st_nlink == 1
    os.close(fd)
    assert get("named") == b"tmp" * 5000
    fd = os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_EXCL, 0o640)
    fails(errno.ENOENT, libc, "linkat", -100, f"/proc/self/fd/{fd}".encode(), -100, b"n2", 0x400)
    os.close(fd)
    os.mkdir("d")
    os.chmod("d", 0o555)
    as_user(7, lambda: fails(errno.EACCES, os.open, "d", os.O_TMPFILE | os.O_RDWR))
    fails(errno.ENOENT, os.open, "none", os.O_TMPFILE | os.O_RDWR)
    fails(errno.ENOTDIR, os.open, "named", os.O_TMPFILE | os.O_RDWR)


# ---- times ----

def times(path):
    s = os.lstat(path)
    return s.st_atime_ns, s.st_mtime_ns, s.st_ctime_ns


@check
def who_changes_which_times():
    """Each step and the times that it must change: of the directory, of the file f."""
    put("x")
    put("f", b"12345")
    os.mkdir("sub")
    steps = [
        ("d", "", lambda: put("new")),
        ("d", "c", lambda: os.link("f", "g")),
        ("d", "c", lambda: os.unlink("g")),
        ("d", "", lambda: os.mkdir("e")),
        ("d", "", lambda: os.rmdir("e")),
        ("d", "", lambda: os.symlink("f", "l")),
        ("d", "", lambda: os.mkfifo("p")),
        ("d", "c", lambda: (os.rename("f", "f2"), os.rename("f2", "f"))),
        ("", "c", lambda: os.chmod("f", 0o600)),
        ("", "c", lambda: os.chown("f", 1, 1)),
        ("", "c", lambda: os.setxattr("f", "user.a", b"1")),
        ("", "c", lambda: os.removexattr("f", "user.a")),
        ("", "mc", lambda: os.truncate("f", 2)),
        ("", "mc", lambda: os.truncate("f", 4)),
        ("", "mc", lambda: put("f", b"6")),
        ("", "mc", lambda: append("f")),
        ("", "", lambda: fails(errno.EEXIST, os.mkdir, "f")),
        ("", "", lambda: fails(errno.ENOTEMPTY, os.rename, "sub", "full")),
        ("", "", lambda: os.rename("f", "f")),
        ("", "", lambda: os.stat("f")),
        ("", "", lambda: os.close(os.open("f", os.O_RDWR))),
    ]
    os.mkdir("full")
    put("full/x")
    for n, (of_dir, of_file, step) in enumerate(steps):
        before = times("."), times("f")
        time.sleep(0.03)    # the kernel's clock for times ticks in steps
        step()
        after = times("."), times("f")
        what = f"step {n}"
        for i, t in ((1, "m"), (2, "c")):
            assert (after[0][i] > before[0][i]) == (of_dir == "d"), f"{what}: {t}time of directory"
            assert (after[1][i] > before[1][i]) == (t in of_file), f"{what}: {t}time of file"


def append(path):
    with open(path, "ab") as f:
        f.write(b"more")


@check
def utimensat_now_and_omit():
    now, omit = (1 << 30) - 1, (1 << 30) - 2

    def utimensat(path, a, m, flags=0):
        ts = struct.pack("<qqqq", *a, *m)
        libc("utimensat", -100, path.encode(), ts, flags)
    put("a")
    os.chmod("a", 0o666)
    utimensat("a", (5, 6), (7, 8))
    assert times("a")[:2] == (5000000006, 7000000008)
    utimensat("a", (0, omit), (9, 9))
    assert times("a")[:2] == (5000000006, 9000000009)
    before = time.time_ns() - 20000000
    utimensat("a", (0, now), (0, omit))
    assert times("a")[0] >= before and times("a")[1] == 9000000009
    ctime = times("a")[2]
    time.sleep(0.011)
    utimensat("a", (0, omit), (0, omit))
    assert times("a")[2] == ctime
    fails(errno.EINVAL, utimensat, "a", (0, 10**9), (0, 0))
    os.symlink("a", "l")
    utimensat("l", (1, 1), (2, 2), 0x100)
    assert times("l")[:2] == (1000000001, 2000000002) and times("a")[1] == 9000000009

    def writer():
        utimensat("a", (0, now), (0, now))
        os.utime("a")
        fails(errno.EPERM, utimensat, "a", (0, now), (0, omit))
        fails(errno.EPERM, utimensat, "a", (5, 5), (5, 5))
        utimensat("a", (0, omit), (0, omit))
    as_user(7, writer)
    for t in (2**31, 2**32 + 5, 5 - 2**31, -1):
        utimensat("a", (t, 123456789), (t, 987654321))
        assert times("a")[:2] == (t * 10**9 + 123456789, t * 10**9 + 987654321), t


@check
def birth_time():
    put("a")
    s = statx("a", 0xfff)
    assert s["mask"] & BTIME and abs(s["btime"][0] - time.time()) < 60
    time.sleep(0.011)
    put("a", b"more")
    os.chmod("a", 0o600)
    os.utime("a", (1, 1))
    assert statx("a", 0xfff)["btime"] == s["btime"]
    os.mkdir("d")
    assert statx("d", BTIME)["mask"] & BTIME


# ---- names and handles ----

@check
def names_of_every_byte():
    folder = os.getcwdb()
    names = {bytes([c]) for c in range(1, 256) if c not in b"./"}
    names |= {bytes(range(1, 47)), bytes(range(48, 256)), b".x"}
    for n in names:
        put(os.path.join(folder, n), n)
    assert set(os.listdir(folder)) == names
    for n in names:
        assert get(os.path.join(folder, n)) == n


@check
def deep_tree():
    depth = 1000 if os.environ.get("TARN_LONG") == "1" else 200
    top = fd = os.open(".", os.O_RDONLY)
    fds = []
    for _ in range(depth):
        os.mkdir("d", dir_fd=fd)
        fds.append(fd)
        fd = os.open("d", os.O_RDONLY, dir_fd=fd)
    os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.rename("f", "f", src_dir_fd=fd, dst_dir_fd=top)
    fails(errno.EINVAL, os.rename, "d", "d", src_dir_fd=top, dst_dir_fd=fd)
    os.mkdir("moved", dir_fd=top)
    os.rename("moved", "moved", src_dir_fd=top, dst_dir_fd=fd)
    up = os.open("moved/" + "../" * 200, os.O_RDONLY, dir_fd=fd)
    assert os.fstat(up).st_ino == os.fstat(fds[depth - 199]).st_ino
    os.close(up)
    os.rmdir("moved", dir_fd=fd)
    while fds:
        os.close(fd)
        fd = fds.pop()
        os.rmdir("d", dir_fd=fd)
    os.close(fd)


@check
def handles_open_files():
    put("a", b"handle")
    os.makedirs("d/e")
    mount = os.open(".", os.O_RDONLY)
    for path in ("a", "d/e"):
        handle, mount_id = ctypes.create_string_buffer(struct.pack("<Ii", 128, 0) + bytes(128)), \
            ctypes.c_int()
        libc("name_to_handle_at", -100, path.encode(), handle, ctypes.byref(mount_id), 0)
        fd = LIBC.open_by_handle_at(mount, handle, os.O_RDONLY)
        assert fd >= 0, os.strerror(ctypes.get_errno())
        assert os.fstat(fd).st_ino == os.stat(path).st_ino
        if path == "a":
            assert os.read(fd, 10) == b"handle"
            os.unlink("a")
            os.close(fd)
            fd = LIBC.open_by_handle_at(mount, handle, os.O_RDONLY)
            assert fd == -1 and ctypes.get_errno() == errno.ESTALE
        else:
            os.close(fd)
    os.close(mount)


# ---- data ----

@check
def appends_do_not_overwrite():
    put("a", b"")
    children = []
    for c in range(4):
        pid = os.fork()
        if not pid:
            fd = os.open("a", os.O_WRONLY | os.O_APPEND)
            for n in range(200):
                os.write(fd, b"%d:%03d." % (c, n))
            os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
    lines = get("a").split(b".")[:-1]
    assert len(lines) == 800 and len(set(lines)) == 800
    for c in range(4):
        mine = [x for x in lines if x.startswith(b"%d:" % c)]
        assert mine == sorted(mine)


@check
def locks_of_three_kinds():
    ofd_setlk = 37

    def lock(fd, kind, start, length, cmd=ofd_setlk):
        fcntl.fcntl(fd, cmd, struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0))
    a, b = opened("a"), opened("a")
    lock(a, fcntl.F_WRLCK, 0, 10)
    fails(errno.EAGAIN, lock, b, fcntl.F_RDLCK, 5, 10)
    lock(b, fcntl.F_WRLCK, 10, 10)
    os.close(a)
    lock(b, fcntl.F_WRLCK, 0, 10)
    a = opened("a")
    fails(errno.EAGAIN, lock, a, fcntl.F_WRLCK, 0, 0, fcntl.F_SETLK)
    os.close(b)
    lock(a, fcntl.F_WRLCK, 0, 0, fcntl.F_SETLK)
    c = opened("a")
    os.close(c)         # gives up the process's own locks

    def child():
        fd = opened("a")
        lock(fd, fcntl.F_WRLCK, 0, 0, fcntl.F_SETLK)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    as_user(0, child)
    b = opened("a")
    fcntl.flock(a, fcntl.LOCK_SH)
    fcntl.flock(b, fcntl.LOCK_SH)
    fails(errno.EAGAIN, fcntl.flock, b, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(a)
    fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(b)


@check
def fifo_carries_data():
    os.mkfifo("p")
    r = os.open("p", os.O_RDONLY | os.O_NONBLOCK)
    w = os.open("p", os.O_WRONLY)
    os.write(w, b"through")
    assert select.select([r], [], [], 1)[0] and os.read(r, 10) == b"through"
    os.close(r)
    os.close(w)


@check
def changes_of_every_kind_at_random():
    """One file changed through descriptors, a mapping and direct I/O, against a copy in memory."""
    long = os.environ.get("TARN_LONG") == "1"
    seed = int(os.environ.get("TARN_SEED") or 1)
    for round_ in range(20 if long else 2):
        rng = random.Random(seed * 1000 + round_)
        try:
            random_changes(rng, 1000 if long else 250)
        except AssertionError as e:
            raise AssertionError(f"seed {seed} round {round_}: {e}") from e


def random_changes(rng, steps):
    most = 400000
    fd = opened("a", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    direct = os.open("a", os.O_RDWR | os.O_DIRECT)
    page = mmap.mmap(-1, 65536)
    want = bytearray()

    def place(room=most):
        at = rng.randrange(room)
        return at, min(rng.choice((1, 100, 4096, 30000)) + rng.randrange(1000), room - at)

    def write():
        at, n = place()
        data = rng.randbytes(n)
        os.pwrite(fd, data, at)
        want.extend(bytes(max(0, at + n - len(want))))
        want[at:at + n] = data

    def write_direct():
        at, n = rng.randrange(most // 4096) * 4096, rng.randrange(1, 16) * 4096
        page[:n] = rng.randbytes(n)
        os.pwritev(direct, [memoryview(page)[:n]], at)
        want.extend(bytes(max(0, at + n - len(want))))
        want[at:at + n] = page[:n]

    def mapped():
        if not want:
            return
        at, n = place(len(want))
        data = rng.randbytes(n)
        with mmap.mmap(fd, len(want)) as m:
            assert m[at:at + n] == want[at:at + n], f"mapping differs at {at}"
            m[at:at + n] = data
        want[at:at + n] = data

    def truncate():
        n = rng.randrange(most)
        os.ftruncate(fd, n)
        del want[n:]
        want.extend(bytes(n - len(want)))

    def punch():
        at, n = place()
        fallocate(fd, PUNCH_HOLE | KEEP_SIZE, at, n)
        want[at:at + n] = bytes(len(want[at:at + n]))

    def zero():
        at, n = place()
        fallocate(fd, ZERO_RANGE, at, n)
        want.extend(bytes(max(0, at + n - len(want))))
        want[at:at + n] = bytes(n)

    def reserve():
        at, n = place()
        fallocate(fd, 0, at, n)
        want.extend(bytes(max(0, at + n - len(want))))

    def read():
        at, n = place()
        assert os.pread(fd, n, at) == want[at:at + n], f"data differ within {n} at {at}"

    def read_direct():
        at, n = rng.randrange(most // 4096) * 4096, rng.randrange(1, 16) * 4096
        got = os.preadv(direct, [memoryview(page)[:n]], at)
        assert page[:got] == want[at:at + n], f"direct data differ within {n} at {at}"

    def forget():
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

    kinds = [write, write, write_direct, mapped, truncate, punch, zero, reserve, read, read,
             read_direct, forget]
    for n in range(steps):
        step = rng.choice(kinds)
        try:
            step()
        except AssertionError as e:
            raise AssertionError(f"step {n}, {step.__name__}: {e}") from e
        assert os.fstat(fd).st_size == len(want), f"step {n}, {step.__name__}: size"
    os.fsync(fd)
    os.close(direct)
    os.close(fd)
    assert get("a") == want
