#!/usr/bin/env python3
"""posix_mounts.py idmap DIR | handles DIR FILE make|use: idmapped mounts; lasting handles."""
import ctypes
import errno
import os
import stat
import struct
import sys

from posix_lib import LIBC, as_user, fails, get, libc, put

OPEN_TREE, MOUNT_SETATTR = 428, 442
CLONE_NEWUSER, MOUNT_ATTR_IDMAP = 0x10000000, 0x100000


def user_namespace(first, count):
    """A descriptor of one in which ids from 0 are those from first outside."""
    r, w = os.pipe()
    pid = os.fork()
    if not pid:
        LIBC.unshare(CLONE_NEWUSER)
        os.write(w, b"1")
        os.read(os.open("/dev/zero", os.O_RDONLY), 1)
        import time
        time.sleep(1000)
    os.read(r, 1)
    for which in ("uid", "gid"):
        with open(f"/proc/{pid}/{which}_map", "w", encoding="ascii") as f:
            f.write(f"0 {first} {count}")
    fd = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return fd


def idmapped(folder, first):
    """A descriptor of folder on a mount of its own, where ids on disk show first larger."""
    tree = LIBC.syscall(OPEN_TREE, -100, os.fsencode(folder), 1 | os.O_CLOEXEC)
    assert tree >= 0, os.strerror(ctypes.get_errno())
    attr = struct.pack("<QQQQ", MOUNT_ATTR_IDMAP, 0, 0, user_namespace(first, 65536))
    libc("syscall", MOUNT_SETATTR, tree, b"", 0x1000, attr, len(attr))
    return tree


def idmap(folder):
    put(f"{folder}/f", b"data")
    os.chown(f"{folder}/f", 1000, 1000)
    os.chmod(f"{folder}/f", 0o600)
    os.mkdir(f"{folder}/d")
    os.chown(f"{folder}/d", 1000, 1000)
    fd = idmapped(folder, 100000)
    s = os.stat("f", dir_fd=fd)
    assert (s.st_uid, s.st_gid) == (101000, 101000), s

    def mapped():
        assert os.read(os.open("f", os.O_RDWR, dir_fd=fd), 9) == b"data"
        os.mkdir("d/new", dir_fd=fd)
        os.close(os.open("d/file", os.O_CREAT | os.O_WRONLY, 0o4755, dir_fd=fd))
        os.symlink("x", "d/link", dir_fd=fd)
        os.mkfifo("d/fifo", dir_fd=fd)
        os.chmod("f", 0o640, dir_fd=fd)
        os.rename("d/fifo", "d/fifo2", src_dir_fd=fd, dst_dir_fd=fd)
        os.close(os.open("d", os.O_TMPFILE | os.O_RDWR, 0o600, dir_fd=fd))
        os.close(os.open("d/file", os.O_WRONLY | os.O_TRUNC, dir_fd=fd))
    as_user(101000, mapped)
    for name in ("new", "file", "link", "fifo2"):
        s = os.lstat(f"{folder}/d/{name}")
        assert (s.st_uid, s.st_gid) == (1000, 1000), (name, s)
    assert stat.S_IMODE(os.stat(f"{folder}/f").st_mode) == 0o640
    assert get(f"{folder}/f") == b"data"
    as_user(1000, lambda: fails(errno.EACCES, os.open, "f", os.O_RDWR, dir_fd=fd))
    as_user(1000, lambda: fails(errno.EOVERFLOW, os.mkdir, "d/x", dir_fd=fd))
    os.chown("f", 100007, 100008, dir_fd=fd)
    assert os.stat(f"{folder}/f").st_uid == 7
    fails(errno.EOVERFLOW, os.chown, "f", 5, 5, dir_fd=fd)
    # an id that has no place on disk owns nothing there
    fails(errno.EOVERFLOW, os.mkdir, "x", dir_fd=fd)
    os.close(fd)


def handle_of(path):
    handle = ctypes.create_string_buffer(struct.pack("<Ii", 128, 0) + bytes(128))
    libc("name_to_handle_at", -100, os.fsencode(path), handle, ctypes.byref(ctypes.c_int()), 0)
    return handle.raw[:8 + struct.unpack_from("<I", handle.raw)[0]]


def handle_open(mount, handle):
    fd = LIBC.open_by_handle_at(mount, ctypes.create_string_buffer(handle), os.O_RDONLY)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "open_by_handle_at")
    return fd


def handles(folder, keep, what):
    names = ["h/f", "h/deep/er/g", "h/deep/er", "h/gone"]
    if what == "make":
        os.makedirs(f"{folder}/h/deep/er")
        for n in ("h/f", "h/deep/er/g", "h/gone"):
            put(f"{folder}/{n}", n.encode())
        lines = [f"{handle_of(f'{folder}/{n}').hex()} {os.stat(f'{folder}/{n}').st_ino}"
                 for n in names]
        put(keep, "\n".join(lines).encode())
        os.unlink(f"{folder}/h/gone")
        return
    mount = os.open(folder, os.O_RDONLY)
    for n, line in zip(names, get(keep).decode().split("\n")):
        handle, ino = bytes.fromhex(line.split()[0]), int(line.split()[1])
        if n == "h/gone":
            fails(errno.ESTALE, handle_open, mount, handle)
            continue
        fd = handle_open(mount, handle)
        assert os.fstat(fd).st_ino == ino, n
        if n == "h/deep/er":
            up = os.open("..", os.O_RDONLY, dir_fd=fd)
            assert os.path.realpath(f"/proc/self/fd/{up}") == f"{folder}/h/deep"
            assert os.listdir(fd) == ["g"]
        else:
            assert os.read(fd, 100) == n.encode()
        wrong = bytearray(handle)
        wrong[16 if wrong[4] > 1 else 12] ^= 1  # the generation
        fails(errno.ESTALE, handle_open, mount, bytes(wrong))


if __name__ == "__main__":
    if sys.argv[1] == "idmap":
        idmap(sys.argv[2])
    else:
        handles(*sys.argv[2:5])
