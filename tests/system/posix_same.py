#!/usr/bin/env python3
"""posix_same.py SEED STEPS A B: the same random calls in two folders; must have the same results.

A lies on a kernel's file system. Compared are results and errors, and after each call the whole
tree: types, modes, owners, links, sizes, data, attributes, flags, and which times have changed.

Not compared is what FUSE does not carry: the kernel keeps the times of files by itself, so it does
not see a change of flags, a truncation to the size the file has, and takes a fallocate or the
removal of an ACL that does nothing for a change; and it knows nothing of immutable files, so that
other errors come first.
"""
import ctypes
import errno
import os
import random
import shutil
import stat
import struct
import sys
import time
import zlib

from posix_lib import LIBC, libc, renameat2
from posix_rights import (ACCESS, APPEND, CAPS, DEFAULT, GROUP, G_OBJ, IMMUTABLE, MASK, NODUMP,
                          OTHER, U_OBJ, USER, acl, flags_get, flags_set)

USERS = [(0, 0, []), (0, 0, []), (1000, 1000, [1000]), (1000, 1000, [1000, 2000]), (1001, 2000, []),
         (1002, 1002, [])]
NAMES = ["a", "b", "c"]
PATHS = NAMES + [f"{d}/{n}" for d in NAMES for n in NAMES] + \
    ["a/b/c", "b/a/a", "a/", "b/.", "a/..", "c/a/", "n" * 256, "a/" + "n" * 255, ""]
NOW, OMIT = (1 << 30) - 1, (1 << 30) - 2


class Call:
    """One call, decided once, made in each folder."""

    def __init__(self, rng):
        self.user = rng.choice(USERS)
        self.umask = rng.choice([0, 0o022, 0o077])
        kinds = [n for n in dir(self) if n.startswith("do_")]
        self.kind = rng.choice(kinds)
        self.p, self.q = rng.choice(PATHS), rng.choice(PATHS)
        self.mode = rng.choice([0, 0o600, 0o644, 0o666, 0o755, 0o777, 0o1777, 0o2755, 0o4755,
                                0o6777, 0o2644, 0o6666, 0o444, 0o111])
        self.owner = rng.choice([-1, 0, 1000, 1001]), rng.choice([-1, 0, 1000, 2000])
        self.n = rng.choice([0, 1, 3, 100, 5000])
        self.slot = rng.randrange(3)
        self.follow = rng.random() < 0.7
        self.flags = rng.choice([os.O_RDONLY, os.O_WRONLY, os.O_RDWR]) | rng.choice(
            [0, os.O_CREAT, os.O_CREAT, os.O_CREAT | os.O_EXCL]) | rng.choice(
                [0, 0, os.O_TRUNC]) | rng.choice([0, 0, os.O_APPEND]) | rng.choice(
                    [0, 0, os.O_NOFOLLOW, os.O_DIRECTORY]) | os.O_NONBLOCK
        self.rename = rng.choice([0, 0, 0, 1, 2, 4, 6, 5])
        self.times = [rng.choice([(5, 7), (0, NOW), (0, OMIT), (-3, 1), (1 << 33, 999999999)])
                      for _ in range(2)]
        self.xname = rng.choice(["user.x", "user.y", "trusted.x", "security.x", ACCESS, DEFAULT,
                                 "security.capability", "unknown.x", "system.x", "user."])
        self.xflags = rng.choice([0, 0, 1, 2])
        self.value = self.some_value(rng)
        self.attr = rng.choice([0, 0, 0, IMMUTABLE, APPEND, NODUMP])

    def some_value(self, rng):
        if self.xname in (ACCESS, DEFAULT):
            p = [rng.randrange(8) for _ in range(6)]
            return rng.choice([
                acl((U_OBJ, p[0]), (G_OBJ, p[1]), (OTHER, p[2])),
                acl((U_OBJ, p[0]), (USER, p[3], 1000), (USER, p[4], 1001), (G_OBJ, p[1]),
                    (MASK, p[5]), (OTHER, p[2])),
                acl((U_OBJ, p[0]), (G_OBJ, p[1]), (GROUP, p[3], 2000), (MASK, p[5]), (OTHER, p[2])),
                acl((U_OBJ, p[0]), (USER, p[3], 1000), (G_OBJ, p[1]), (OTHER, p[2])),
                acl()])
        if self.xname == "security.capability":
            return CAPS
        return rng.choice([b"", b"1", b"x" * 200])

    def __str__(self):
        u = self.user
        return f"{self.kind[3:]} {self.p[:20]!r} {self.q[:20]!r} as {u[0]}:{u[1]}{u[2]} " \
            f"umask {self.umask:o} mode {self.mode:o} owner {self.owner} n {self.n} " \
            f"slot {self.slot} flags {self.flags:o} {self.rename} times {self.times} " \
            f"{self.xname} {self.xflags} {self.value[:60]!r} attr {self.attr:x} {self.follow}"

    def at(self):
        return 0 if self.follow else 0x100

    def do_open(self, fds):
        fd = os.open(self.p, self.flags, self.mode)
        if fds[self.slot] is not None:
            os.close(fds[self.slot])
        fds[self.slot] = fd
        return os.fstat(fd).st_size if not stat.S_ISDIR(os.fstat(fd).st_mode) else -1

    do_open2 = do_open3 = do_open

    def do_close(self, fds):
        if fds[self.slot] is not None:
            os.close(fds[self.slot])
        fds[self.slot] = None

    def do_tmpfile(self, fds):
        fd = os.open(self.p, os.O_TMPFILE | os.O_RDWR, self.mode)
        try:
            libc("linkat", -100, f"/proc/self/fd/{fd}".encode(), -100, self.q.encode(), 0x400)
            return os.fstat(fd).st_mode
        finally:
            os.close(fd)

    def fd(self, fds):
        if fds[self.slot] is None:
            raise OSError(errno.EBADF, "closed")
        return fds[self.slot]

    def do_pwrite(self, fds):
        return os.pwrite(self.fd(fds), b"w" * self.n, self.n // 2)

    do_pwrite2 = do_pwrite

    def do_pread(self, fds):
        return os.pread(self.fd(fds), 10000, 0)

    def do_ftruncate(self, fds):
        s = os.fstat(self.fd(fds))
        if not stat.S_ISREG(s.st_mode) or s.st_size != self.n:
            os.ftruncate(self.fd(fds), self.n)

    def do_fchmod(self, fds):
        os.fchmod(self.fd(fds), self.mode)

    def do_fchown(self, fds):
        os.fchown(self.fd(fds), *self.owner)

    def do_fallocate(self, fds):
        libc("fallocate", self.fd(fds), (0, 1, 3, 16, 17)[self.rename % 5], ctypes.c_int64(self.n),
             ctypes.c_int64(self.n))

    def do_mkdir(self, _fds):
        os.mkdir(self.p, self.mode)

    do_mkdir2 = do_mkdir

    def do_rmdir(self, _fds):
        os.rmdir(self.p)

    def do_unlink(self, _fds):
        os.unlink(self.p)

    def do_rename(self, _fds):
        renameat2(self.p, self.q, self.rename)

    do_rename2 = do_rename

    def do_link(self, _fds):
        libc("linkat", -100, self.p.encode(), -100, self.q.encode(), 0x400 if self.follow else 0)

    def do_symlink(self, _fds):
        os.symlink(self.p, self.q)

    def do_mknod(self, _fds):
        os.mknod(self.p, self.mode | (stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFREG,
                                      stat.S_IFCHR)[self.slot + (self.n > 100)], 0x103)

    def do_chmod(self, _fds):
        os.chmod(self.p, self.mode)

    do_chmod2 = do_chmod

    def do_chown(self, _fds):
        os.chown(self.p, *self.owner, follow_symlinks=self.follow)

    do_chown2 = do_chown

    def do_truncate(self, _fds):
        if not os.path.isfile(self.p) or os.stat(self.p).st_size != self.n:
            os.truncate(self.p, self.n)

    def do_utimens(self, _fds):
        both = struct.pack("<qqqq", *self.times[0], *self.times[1])
        libc("utimensat", -100, self.p.encode(), both, self.at())

    def do_access(self, _fds):
        return [os.access(self.p, m, effective_ids=True) for m in range(8)]

    def do_list(self, _fds):
        return sorted(os.listdir(self.p))

    def do_stat(self, _fds):
        s = os.stat(self.p, follow_symlinks=self.follow)
        return s.st_mode, s.st_nlink, s.st_uid, s.st_gid

    def do_setxattr(self, _fds):
        os.setxattr(self.p, self.xname, self.value, self.xflags, follow_symlinks=self.follow)

    do_setxattr2 = do_setxattr3 = do_setxattr

    def do_getxattr(self, _fds):
        return os.getxattr(self.p, self.xname, follow_symlinks=self.follow)

    def do_listxattr(self, _fds):
        return sorted(os.listxattr(self.p, follow_symlinks=self.follow))

    def do_removexattr(self, _fds):
        os.removexattr(self.p, self.xname, follow_symlinks=self.follow)

    def do_chattr(self, _fds):
        if stat.S_ISREG(os.stat(self.p).st_mode) or stat.S_ISDIR(os.stat(self.p).st_mode):
            flags_set(self.p, self.attr)

    def do_exec(self, _fds):
        return os.access(self.p, os.X_OK)

    def make(self, folder, fds):
        os.chdir(folder)
        os.umask(self.umask)
        os.setgroups(self.user[2])
        os.setegid(self.user[1])
        os.seteuid(self.user[0])
        try:
            return getattr(self, self.kind)(fds)
        except OSError as e:
            return errno.errorcode[e.errno]
        finally:
            os.seteuid(0)
            os.setegid(0)
            os.setgroups([])
            os.umask(0)


def look(path, before):
    """What can be seen of one inode, and its times for the next look."""
    s = os.lstat(path)
    kind = stat.S_IFMT(s.st_mode)
    out = [(oct(s.st_mode), s.st_nlink, s.st_uid, s.st_gid, s.st_rdev)]
    attrs = {n: os.getxattr(path, n, follow_symlinks=False)
             for n in os.listxattr(path, follow_symlinks=False)}
    out.append(sorted(attrs.items()))
    if kind == stat.S_IFLNK:
        out.append((os.readlink(path),))
    elif kind == stat.S_IFREG:
        out.append((s.st_size, flags_get(path)))
        with open(path, "rb") as f:
            data = f.read()
            out.append((data.strip(b"\0")[:3], zlib.crc32(data)))
    elif kind == stat.S_IFDIR:
        out.append((flags_get(path),))
    old = before.get(s.st_ino)
    for what, t in (("mtime", s.st_mtime_ns), ("ctime", s.st_ctime_ns)):
        if abs(t - time.time_ns()) > 10**11:
            out.append((what, t))
        elif old:
            out.append((what, t != old[what == "ctime"]))
    return out, s.st_ino, (s.st_mtime_ns, s.st_ctime_ns)


def snapshot(folder, before):
    seen, times = {}, {}
    paths = [folder]
    for top, dirs, files in os.walk(folder):
        paths += [os.path.join(top, n) for n in dirs + files]
    for p in paths:
        seen[p[len(folder):]], ino, t = look(p, before)
        times[ino] = t
    return seen, times


def clean(folder):
    for top, dirs, files in os.walk(folder):
        for p in [top] + [os.path.join(top, n) for n in files]:
            if stat.S_IFMT(os.lstat(p).st_mode) in (stat.S_IFREG, stat.S_IFDIR):
                flags_set(p, 0)
    shutil.rmtree(folder)


def flagged(seen):
    return any((IMMUTABLE | APPEND) & x[-1] for v in seen.values() for x in v
               if x and isinstance(x[-1], int) and len(x) < 3)


def differences(a, b):
    for p in sorted(set(a) | set(b)):
        if a.get(p) != b.get(p):
            yield f"  {p or '.'}:\n    {a.get(p)}\n    {b.get(p)}"


def run(seed, steps, folders):
    rng = random.Random(seed)
    for f in folders:
        os.mkdir(f)
        os.chmod(f, 0o777)
    fds, times = [[None] * 3, [None] * 3], [{}, {}]
    bad = []
    for n in range(steps):
        call = Call(rng)
        time.sleep(0.005)
        got = [call.make(f, fds[i]) for i, f in enumerate(folders)]
        snaps = []
        for i, f in enumerate(folders):
            s, times[i] = snapshot(f, times[i])
            snaps.append(s)
        if call.kind in ("do_chattr", "do_fallocate") or call.xname in (ACCESS, DEFAULT):
            snaps = [{p: [x for x in v if not x or x[0] not in ("mtime", "ctime")]
                      for p, v in s.items()} for s in snaps]
        if flagged(snaps[0]) and (call.kind in ("do_access", "do_exec") or "EPERM" in got and
                                  all(str(g).startswith("E") for g in got)):
            got = [None, None]
        if got[0] != got[1] or snaps[0] != snaps[1]:
            bad = [f"seed {seed} step {n}: {call}", f"  results {got[0]!r} and {got[1]!r}"]
            bad += differences(*snaps)
            break
    os.chdir("/")
    for i, f in enumerate(folders):
        for fd in fds[i]:
            if fd is not None:
                os.close(fd)
        clean(f)
    return bad


def main():
    seed, steps = int(sys.argv[1]), int(sys.argv[2])
    found = 0
    for s in range(seed, seed + steps // 300):
        bad = run(s, 300, [os.path.join(os.path.abspath(p), f"same{s}") for p in sys.argv[3:5]])
        found += bool(bad)
        print("\n".join(bad), end="\n" if bad else "")
    print(f"{steps} calls, {found} differences")
    return 1 if found else 0


if __name__ == "__main__":
    assert LIBC
    sys.exit(main())
