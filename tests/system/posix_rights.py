"""posix_rights: owners, modes, set-id bits, sticky directories, ACLs, attributes, flags."""
import errno
import fcntl
import os
import stat
import struct

from posix_lib import as_user, check, fails, get, mode_of, opened, put

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
U_OBJ, USER, G_OBJ, GROUP, MASK, OTHER = 1, 2, 4, 8, 16, 32
GETFLAGS, SETFLAGS = 0x80086601, 0x40086602
FSGETXATTR, FSSETXATTR = 0x801c581f, 0x401c5820
IMMUTABLE, APPEND, NODUMP, NOATIME = 0x10, 0x20, 0x40, 0x80
CAPS = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)     # cap_net_raw, effective


def acl(*entries):
    """Of (tag, permissions[, id])."""
    return struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", e[0], e[1], e[2] if len(e) > 2 else 0xffffffff) for e in entries)


def entries_of(value):
    return {(t, i): p for t, p, i in struct.iter_unpack("<HHI", value[4:])}


# ---- owners and modes ----

@check
def chown_clears_set_ids():
    for make in (put, os.mkfifo):
        for mode, after in ((0o6555, 0o555), (0o6755, 0o755), (0o4755, 0o755)):
            make("a")
            os.chown("a", 1234, 1234)
            os.chmod("a", mode)
            os.chown("a", 1234, 1235)
            assert mode_of("a") == after, f"{make.__name__} {mode:o}: {mode_of('a'):o}"
            os.chmod("a", mode)
            as_user(1234, lambda: os.chown("a", -1, 1236), groups=[1235, 1236])
            assert mode_of("a") == after and os.stat("a").st_gid == 1236
            os.unlink("a")
    os.mkdir("d")
    os.chmod("d", 0o6755)
    os.chown("d", 1234, 1235)
    assert mode_of("d") == 0o6755
    put("a")
    os.chown("a", 1234, 1235)
    os.chmod("a", 0o6755)
    os.chown("a", -1, -1)
    assert mode_of("a") == 0o755, oct(mode_of("a"))


@check
def chown_needs_rights():
    put("a")
    os.chown("a", 1234, 1235)

    def owner():
        fails(errno.EPERM, os.chown, "a", 1, -1)
        fails(errno.EPERM, os.chown, "a", -1, 77)
        os.chown("a", 1234, 1236)
        os.chown("a", -1, 1235)
    as_user(1234, owner, groups=[1235, 1236])

    def other():
        fails(errno.EPERM, os.chown, "a", -1, 1235)
        fails(errno.EPERM, os.chmod, "a", 0o777)
        fails(errno.EPERM, os.utime, "a", (1, 1))
        fails(errno.EACCES, os.utime, "a")
    as_user(99, other, groups=[1235])
    os.symlink("a", "l")
    os.chown("l", 5, 6, follow_symlinks=False)
    assert (os.lstat("l").st_uid, os.stat("a").st_uid) == (5, 1234)


@check
def chmod_by_strangers_to_the_group():
    put("a")
    os.chown("a", 1234, 1235)
    as_user(1234, lambda: os.chmod("a", 0o2755))
    assert mode_of("a") == 0o755
    as_user(1234, lambda: os.chmod("a", 0o2755), groups=[1235])
    assert mode_of("a") == 0o2755
    os.mkdir("d")
    os.chown("d", 1234, 1235)
    os.chmod("d", 0o2777)

    def stranger():
        os.umask(0)
        os.close(os.open("d/f", os.O_CREAT | os.O_WRONLY, 0o2775))
        os.close(os.open("d/g", os.O_CREAT | os.O_WRONLY, 0o2765))
        os.mkdir("d/d")
    as_user(99, stranger)
    assert os.stat("d/f").st_gid == 1235 and mode_of("d/f") == 0o775, oct(mode_of("d/f"))
    assert mode_of("d/g") == 0o2765 & ~0 or mode_of("d/g") == 0o765
    assert mode_of("d/d") & stat.S_ISGID and os.stat("d/d").st_gid == 1235


@check
def truncating_clears_set_ids():
    for how in ("truncate", "open"):
        put("a", b"long enough")
        os.chmod("a", 0o6777)

        def user():
            if how == "truncate":
                os.truncate("a", 3)
            else:
                os.close(os.open("a", os.O_WRONLY | os.O_TRUNC))
        as_user(4321, user)
        assert mode_of("a") == 0o777, f"{how}: {mode_of('a'):o}"
    os.chmod("a", 0o6777)
    put("a", b"by root")
    assert mode_of("a") == 0o6777


@check
def writing_clears_capabilities():
    def drop(name, fn):
        put("a", b"xxxx")
        os.setxattr("a", "security.capability", CAPS)
        os.setxattr("a", "user.stays", b"1")
        fn()
        assert "security.capability" not in os.listxattr("a"), name
        assert os.getxattr("a", "user.stays") == b"1"
        os.unlink("a")

    def write():
        fd = os.open("a", os.O_WRONLY)
        os.write(fd, b"y")
        assert "security.capability" not in os.listxattr("a"), "not with the write"
        os.setxattr("a", "security.capability", CAPS)
        os.write(fd, b"y")
        os.close(fd)
        assert get("a") == b"yyxx"
    drop("write", write)
    drop("truncate", lambda: os.truncate("a", 2))
    drop("chown", lambda: os.chown("a", 1, 1))


@check
def sticky_directories():
    os.mkdir("s")
    os.chown("s", 1000, 1000)
    os.chmod("s", 0o1777)
    for name in ("a", "b", "c", "e"):
        put(f"s/{name}")
        os.chown(f"s/{name}", 1001, 1001)
    os.mkdir("s/d")
    os.chown("s/d", 1001, 1001)
    os.mkdir("o")
    os.chmod("o", 0o777)

    def stranger():
        put("s/mine")
        fails(errno.EPERM, os.unlink, "s/a")
        fails(errno.EPERM, os.rmdir, "s/d")
        fails(errno.EPERM, os.rename, "s/a", "o/a")
        fails(errno.EPERM, os.rename, "s/mine", "s/a")
        fails(errno.EPERM, os.rename, "s/d", "s/x")
        os.rename("s/mine", "o/mine")
    as_user(1002, stranger)

    def owner_of_file():
        os.unlink("s/a")
        os.rename("s/b", "s/bb")
        os.rmdir("s/d")
    as_user(1001, owner_of_file)

    def owner_of_directory():
        os.unlink("s/c")
        os.rename("s/bb", "s/e")
    as_user(1000, owner_of_directory)


@check
def group_rights_by_any_group():
    put("a", b"1")
    os.chown("a", 0, 500)
    os.chmod("a", 0o640)
    os.mkdir("d")
    os.chown("d", 0, 500)
    os.chmod("d", 0o770)
    as_user(7, lambda: get("a"), groups=[400, 500])
    as_user(7, lambda: put("d/x"), groups=[400, 500])
    as_user(7, lambda: fails(errno.EACCES, get, "a"), groups=[400])
    as_user(7, lambda: fails(errno.EACCES, os.listdir, "d"))
    os.chmod("a", 0o604)
    as_user(7, lambda: fails(errno.EACCES, get, "a"), groups=[500])

    def searching():
        fails(errno.EACCES, os.stat, "n/x")
        fails(errno.EACCES, os.link, "n/x", "d2")
        assert os.listdir("n") == ["x"]
    os.mkdir("n")
    put("n/x")
    os.chmod("n", 0o744)
    as_user(7, searching)


# ---- ACLs ----

@check
def acl_sets_and_follows_the_mode():
    put("a")
    os.chmod("a", 0o640)
    fails(errno.ENODATA, os.getxattr, "a", ACCESS)
    full = acl((U_OBJ, 6), (USER, 6, 1001), (G_OBJ, 4), (GROUP, 7, 77), (MASK, 6), (OTHER, 0))
    os.setxattr("a", ACCESS, full)
    assert os.getxattr("a", ACCESS) == full and mode_of("a") == 0o660, oct(mode_of("a"))
    assert ACCESS in os.listxattr("a")
    os.chmod("a", 0o604)
    got = entries_of(os.getxattr("a", ACCESS))
    assert got[(MASK, 0xffffffff)] == 0 and got[(OTHER, 0xffffffff)] == 4
    assert got[(G_OBJ, 0xffffffff)] == 4 and got[(USER, 1001)] == 6
    os.setxattr("a", ACCESS, acl((U_OBJ, 7), (G_OBJ, 5), (OTHER, 1)))
    assert mode_of("a") == 0o751
    fails(errno.ENODATA, os.getxattr, "a", ACCESS)
    os.setxattr("a", ACCESS, full)
    os.removexattr("a", ACCESS)
    fails(errno.ENODATA, os.getxattr, "a", ACCESS)
    assert mode_of("a") == 0o660
    os.removexattr("a", ACCESS)
    fails(errno.EOPNOTSUPP, os.setxattr, "a", ACCESS, b"junk")
    maskless = acl((U_OBJ, 7), (USER, 1, 1), (G_OBJ, 5), (OTHER, 1))
    fails(errno.EINVAL, os.setxattr, "a", ACCESS, maskless)
    fails(errno.EACCES, os.setxattr, "a", DEFAULT, full)


@check
def acl_is_enforced():
    put("a", b"1")
    os.chown("a", 1000, 1000)
    os.setxattr("a", ACCESS, acl((U_OBJ, 6), (USER, 6, 1001), (USER, 0, 1003), (G_OBJ, 0),
                                 (GROUP, 4, 77), (MASK, 6), (OTHER, 4)))
    as_user(1001, lambda: put("a", b"2"))
    as_user(1002, lambda: fails(errno.EACCES, put, "a"), groups=[77])
    as_user(1002, lambda: get("a"), groups=[77])
    as_user(1003, lambda: fails(errno.EACCES, get, "a"))
    as_user(1004, lambda: get("a"))
    os.chmod("a", 0o644)
    as_user(1001, lambda: fails(errno.EACCES, put, "a"))
    as_user(1001, lambda: get("a"))
    as_user(1001, lambda: fails(errno.EPERM, os.setxattr, "a", ACCESS,
                                acl((U_OBJ, 7), (G_OBJ, 7), (OTHER, 7))))


@check
def acl_is_inherited():
    os.mkdir("d")
    default = acl((U_OBJ, 7), (USER, 7, 1001), (G_OBJ, 5), (MASK, 7), (OTHER, 0))
    os.setxattr("d", DEFAULT, default)
    assert mode_of("d") == 0o755
    old = os.umask(0o077)
    try:
        os.close(os.open("d/f", os.O_CREAT | os.O_WRONLY, 0o666))
        os.mkdir("d/sub", 0o777)
        os.mkdir("d/plain", 0o700)
        os.mkfifo("d/fifo", 0o666)
        os.symlink("f", "d/link")
        fd = os.open("d", os.O_TMPFILE | os.O_RDWR, 0o666)
    finally:
        os.umask(old)
    assert mode_of("d/f") == 0o660, oct(mode_of("d/f"))
    got = entries_of(os.getxattr("d/f", ACCESS))
    assert got[(USER, 1001)] == 7 and got[(MASK, 0xffffffff)] == 6 and \
        got[(G_OBJ, 0xffffffff)] == 5
    fails(errno.ENODATA, os.getxattr, "d/f", DEFAULT)
    assert os.getxattr("d/sub", DEFAULT) == default and mode_of("d/sub") == 0o770
    assert entries_of(os.getxattr("d/sub", ACCESS)) == entries_of(default)
    assert mode_of("d/plain") == 0o700 and mode_of("d/fifo") == 0o660
    assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o660
    os.close(fd)
    os.chmod("d", 0o755)
    os.chown("d", 1001, 1001)
    as_user(1001, lambda: put("d/f", b"mine"))
    os.setxattr("d", DEFAULT, acl((U_OBJ, 7), (G_OBJ, 5), (OTHER, 4)))
    os.close(os.open("d/g", os.O_CREAT | os.O_WRONLY, 0o777))
    assert mode_of("d/g") == 0o754
    fails(errno.ENODATA, os.getxattr, "d/g", ACCESS)
    os.removexattr("d", DEFAULT)
    os.close(os.open("d/h", os.O_CREAT | os.O_WRONLY, 0o777))
    assert mode_of("d/h") == 0o755
    big = acl((U_OBJ, 7), *((USER, 7, n) for n in range(500)), (G_OBJ, 5), (MASK, 7), (OTHER, 0))
    try:
        os.setxattr("d", DEFAULT, big)
        os.mkdir("d/big")
    except OSError as e:
        assert e.errno == errno.ENOSPC      # ext4: one block
        return
    assert os.getxattr("d/big", DEFAULT) == big and len(os.getxattr("d/big", ACCESS)) == len(big)
    os.rmdir("d/big")


@check
def copying_and_set_ids():
    put("src", b"y" * 8192)
    put("dst", b"x" * 8192)

    def copy():
        a, b = os.open("src", os.O_RDONLY), os.open("dst", os.O_WRONLY)
        assert os.copy_file_range(a, b, 4096) == 4096
        os.close(a)
        os.close(b)
    os.chown("dst", 1001, 1001)
    os.chmod("dst", 0o6775)
    copy()
    assert mode_of("dst") == 0o6775, oct(mode_of("dst"))
    as_user(1001, copy)
    assert mode_of("dst") == 0o775, oct(mode_of("dst"))
    os.chmod("dst", 0o6777)
    as_user(1002, copy)
    assert mode_of("dst") == 0o777, oct(mode_of("dst"))


@check
def acl_and_set_gid():
    put("a")
    os.chown("a", 1000, 77)
    os.chmod("a", 0o2755)
    three = acl((U_OBJ, 7), (USER, 5, 9), (G_OBJ, 5), (MASK, 5), (OTHER, 5))
    as_user(1000, lambda: os.setxattr("a", ACCESS, three), groups=[77])
    assert mode_of("a") == 0o2755
    as_user(1000, lambda: os.setxattr("a", ACCESS, three))
    assert mode_of("a") == 0o755, oct(mode_of("a"))


# ---- attributes ----

@check
def attributes_of_every_namespace():
    put("a")
    os.mkdir("d")
    for where in ("a", "d"):
        for name in ("user.x", "trusted.x", "security.x"):
            os.setxattr(where, name, name.encode())
            assert os.getxattr(where, name) == name.encode()
        fails(errno.EOPNOTSUPP, os.setxattr, where, "system.x", b"1")
        fails(errno.EOPNOTSUPP, os.setxattr, where, "unknown.x", b"1")
        fails(errno.EOPNOTSUPP, os.getxattr, where, "unknown.x")
    os.symlink("a", "l")
    fails(errno.EPERM, os.setxattr, "l", "user.x", b"1", follow_symlinks=False)
    os.setxattr("l", "trusted.x", b"1", follow_symlinks=False)
    assert os.listxattr("l", follow_symlinks=False) == ["trusted.x"]
    os.mkfifo("p")
    fails(errno.EPERM, os.setxattr, "p", "user.x", b"1")
    os.chmod("a", 0o666)

    def user():
        assert "trusted.x" not in os.listxattr("a") and "user.x" in os.listxattr("a")
        fails(errno.ENODATA, os.getxattr, "a", "trusted.x")
        fails(errno.EPERM, os.setxattr, "a", "trusted.x", b"2")
        fails(errno.EPERM, os.setxattr, "a", "security.x", b"2")
        os.setxattr("a", "user.x", b"theirs")
        fails(errno.EACCES, os.setxattr, "d", "user.x", b"2")
    as_user(4321, user)
    fails(errno.ERANGE, os.setxattr, "a", "user." + "n" * 251, b"1")
    os.setxattr("a", "user." + "n" * 250, b"1")
    fails(errno.E2BIG, os.setxattr, "a", "user.y", b"1" * 65537)
    ctime = os.stat("a").st_ctime_ns
    os.setxattr("a", "user.x", b"3")
    assert os.stat("a").st_ctime_ns >= ctime


# ---- flags ----

def flags_get(path):
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return struct.unpack_from("<I", fcntl.ioctl(fd, GETFLAGS, bytes(8)))[0] & 0xf0
    finally:
        os.close(fd)


def flags_set(path, flags):
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        now = struct.unpack_from("<I", fcntl.ioctl(fd, GETFLAGS, bytes(8)))[0]
        fcntl.ioctl(fd, SETFLAGS, struct.pack("<Q", now & ~0xf0 | flags))
    finally:
        os.close(fd)


@check
def flags_are_kept():
    put("a")
    os.mkdir("d")
    for where in ("a", "d"):
        for flags in (IMMUTABLE, APPEND, NODUMP, NOATIME, NODUMP | NOATIME, 0):
            flags_set(where, flags)
            assert flags_get(where) == flags
    flags_set("a", NODUMP)
    fd = os.open("a", os.O_RDONLY)
    x = bytearray(fcntl.ioctl(fd, FSGETXATTR, bytes(28)))
    assert struct.unpack_from("<I", x)[0] & 0x80
    struct.pack_into("<I", x, 0, struct.unpack_from("<I", x)[0] & ~0x80 | 0x40)
    fcntl.ioctl(fd, FSSETXATTR, bytes(x))
    os.close(fd)
    assert flags_get("a") == NOATIME
    flags_set("d", NODUMP)
    put("d/f")
    os.mkdir("d/e")
    assert flags_get("d/f") == NODUMP and flags_get("d/e") == NODUMP

    def user():
        fails(errno.EPERM, flags_set, "a", 0)
        put("mine")
        fails(errno.EPERM, flags_set, "mine", IMMUTABLE)
        flags_set("mine", NODUMP)
        assert flags_get("mine") == NODUMP
    os.chmod(".", 0o777)
    as_user(4321, user)


@check
def immutable_means_it():
    three = acl((U_OBJ, 7), (G_OBJ, 5), (OTHER, 1))
    put("a", b"1")
    os.mkdir("d")
    put("d/f")
    put("other")
    for where in ("a", "d"):
        flags_set(where, IMMUTABLE)
    try:
        fails(errno.EPERM, put, "a")
        fails(errno.EPERM, os.open, "a", os.O_RDWR)
        fails(errno.EPERM, os.truncate, "a", 0)
        fails(errno.EPERM, os.unlink, "a")
        fails(errno.EPERM, os.rename, "a", "b")
        fails(errno.EPERM, os.rename, "other", "a")
        fails(errno.EPERM, os.link, "a", "b")
        for where in ("a", "d"):
            fails(errno.EPERM, os.chmod, where, 0o600)
            fails(errno.EPERM, os.chown, where, 1, 1)
            fails(errno.EPERM, os.utime, where, (1, 1))
            fails(errno.EPERM, os.utime, where)
            fails(errno.EPERM, os.setxattr, where, "user.x", b"1")
            fails(errno.EPERM, os.setxattr, where, ACCESS, three)
        fails(errno.EPERM, put, "d/new")
        fails(errno.EPERM, os.mkdir, "d/new")
        fails(errno.EPERM, os.symlink, "x", "d/new")
        fails(errno.EPERM, os.mkfifo, "d/new")
        fails(errno.EPERM, os.link, "other", "d/new")
        fails(errno.EPERM, os.rename, "other", "d/new")
        fails(errno.EPERM, os.unlink, "d/f")
        fails(errno.EPERM, os.rename, "d/f", "b")
        fails(errno.EPERM, os.rmdir, "d")
        fails(errno.EPERM, os.rename, "d", "e")
        put("d/f", b"its entry stays, its data may change")
        assert get("a") == b"1" and sorted(os.listdir("d")) == ["f"]
    finally:
        for where in ("a", "d"):
            flags_set(where, 0)
    put("a", b"2")


@check
def append_only_means_it():
    put("a", b"1")
    os.mkdir("d")
    put("d/f")
    for where in ("a", "d"):
        flags_set(where, APPEND)
    try:
        fails(errno.EPERM, os.open, "a", os.O_WRONLY)
        fails(errno.EPERM, os.open, "a", os.O_WRONLY | os.O_APPEND | os.O_TRUNC)
        fd = os.open("a", os.O_WRONLY | os.O_APPEND)
        os.write(fd, b"2")
        fails(errno.EPERM, os.ftruncate, fd, 0)
        os.close(fd)
        assert get("a") == b"12"
        fails(errno.EPERM, os.truncate, "a", 0)
        fails(errno.EPERM, os.unlink, "a")
        fails(errno.EPERM, os.rename, "a", "b")
        fails(errno.EPERM, os.link, "a", "b")
        fails(errno.EPERM, os.chmod, "a", 0o600)
        fails(errno.EPERM, os.utime, "a", (1, 1))
        os.utime("a")
        put("d/new")
        os.mkdir("d/sub")
        fails(errno.EPERM, os.unlink, "d/f")
        fails(errno.EPERM, os.rmdir, "d/sub")
        fails(errno.EPERM, os.rename, "d/f", "d/g")
        fails(errno.EPERM, os.rename, "d/f", "g")
    finally:
        for where in ("a", "d"):
            flags_set(where, 0)
    fd = opened("a")
    os.ftruncate(fd, 0)
    os.close(fd)
