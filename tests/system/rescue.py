#!/usr/bin/env python3
"""rescue.py: destroy things on the devices of a pool, and compare trees.

    wipe DEV...                  garbage over every superblock ring and heartbeat
    nodes ADDR,ADDR,... DEV...   garbage over the newest version of these nodes, all copies
    tree ID LEVEL DEV...         garbage over all nodes of a tree at LEVEL or above, of any age
    leaves ID PERCENT DEV...     garbage over so many of a tree's leaves, all copies and ages
    scorch PERCENT DEV...        garbage over so many of the blocks that are no node
    manifest DIR                 one line for each file: all that must come back
    verify JSON WANT GOT         GOT equals WANT but for the ranges told, which are holes
    partly JSON WANT GOT         what is in the tree GOT is as in WANT, or told

Prints what it did. TARN_SEED repeats the random choices.
"""
import hashlib
import json
import os
import random
import stat
import struct
import sys

BLOCK, NODE, RING = 4096, 16384, 65536
MAGIC = struct.pack("<I", 0x31444e4e)
rng = random.Random(os.environ.get("TARN_SEED", "1"))


def data_ranges(fd):
    size, at = os.fstat(fd).st_size, 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:
            return
        at = os.lseek(fd, start, os.SEEK_HOLE)
        yield start // BLOCK * BLOCK, at


def nodes(fd):
    """(offset, level, address, birth, tree) of what looks like a node."""
    for start, end in data_ranges(fd):
        for off in range(start, end, BLOCK):
            head = os.pread(fd, 64, off)
            if len(head) == 64 and head[:4] == MAGIC:
                addr, birth, tree = struct.unpack_from("<QQQ", head, 32)
                yield off, head[10], addr, birth, tree


def each(paths):
    for path in paths:
        fd = os.open(path, os.O_RDWR)
        yield fd
        os.fsync(fd)
        os.close(fd)


def wipe(paths):
    for fd in each(paths):
        size = os.fstat(fd).st_size
        for off, n in ((0, RING + BLOCK), (size - RING, RING)):
            os.pwrite(fd, rng.randbytes(n), off)
    print(f"wiped the superblocks of {len(paths)} devices")


def kill_nodes(addresses, paths):
    wanted = {int(a, 16) for a in addresses.split(",") if a}
    newest = {}
    for fd in each(paths):
        for _, _, addr, birth, _ in nodes(fd):
            newest[addr] = max(newest.get(addr, 0), birth)
    dead = 0
    for fd in each(paths):
        for off, _, addr, birth, _ in list(nodes(fd)):
            if addr in wanted and birth == newest[addr]:
                os.pwrite(fd, rng.randbytes(NODE), off)
                dead += 1
    print(f"destroyed {dead} copies of {len(wanted)} nodes")
    return dead >= len(wanted)


def kill_tree(tree, level, paths):
    dead = 0
    for fd in each(paths):
        for off, node_level, _, _, node_tree in list(nodes(fd)):
            if node_tree == tree and node_level >= level:
                os.pwrite(fd, rng.randbytes(NODE), off)
                dead += 1
    print(f"destroyed {dead} nodes of tree {tree}")


def kill_leaves(tree, percent, paths):
    addresses = sorted({addr for fd in each(paths) for _, level, addr, _, t in nodes(fd)
                        if t == tree and level == 0})
    wanted = set(rng.sample(addresses, max(1, int(len(addresses) * percent / 100))))
    for fd in each(paths):
        for off, level, addr, _, t in list(nodes(fd)):
            if t == tree and addr in wanted:
                os.pwrite(fd, rng.randbytes(NODE), off)
    print(f"destroyed {len(wanted)} of {len(addresses)} leaves of tree {tree}")


def scorch(percent, paths):
    dead = 0
    for fd in each(paths):
        keep = {off + i * BLOCK for off, *_ in nodes(fd) for i in range(NODE // BLOCK)}
        for start, end in list(data_ranges(fd)):
            for off in range(start, end, BLOCK):
                if off not in keep and rng.random() * 100 < percent:
                    os.pwrite(fd, rng.randbytes(BLOCK), off)
                    dead += 1
    print(f"destroyed {dead} blocks")


def describe(path, st):
    if stat.S_ISREG(st.st_mode):
        with open(path, "rb") as f:
            return f"{st.st_size} {hashlib.file_digest(f, 'sha256').hexdigest()}"
    if stat.S_ISLNK(st.st_mode):
        return repr(os.readlink(path))
    if stat.S_ISBLK(st.st_mode) or stat.S_ISCHR(st.st_mode):
        return f"{os.major(st.st_rdev)}:{os.minor(st.st_rdev)}"
    return ""


def manifest(top):
    seen, lines = {}, []
    paths = [b"."]
    for folder, dirs, names in os.walk(top.encode()):
        paths += [os.path.relpath(os.path.join(folder, n), top.encode()) for n in dirs + names]
    for path in sorted(paths):
        full = os.path.join(top.encode(), path)
        st = os.lstat(full)
        xattrs = {n: hashlib.sha1(os.getxattr(full, n, follow_symlinks=False)).hexdigest()
                  for n in sorted(os.listxattr(full, follow_symlinks=False))}
        links = 0 if stat.S_ISDIR(st.st_mode) else st.st_nlink
        same = seen.setdefault(st.st_ino, path) if links > 1 else path
        lines.append(f"{path!r} {st.st_mode:o} {st.st_uid}:{st.st_gid} {links} {same!r} "
                     f"{st.st_mtime_ns} {describe(full, st)} {xattrs or ''}")
    print("\n".join(lines))


def as_told(name):
    """A name as `tarn rescue` prints it."""
    return "".join(chr(c) if 0x20 <= c < 0x7f and c != 0x5c else f"\\x{c:02x}"
                   for c in os.fsencode(name))


def verify(told, want, got):
    lost = {}
    with open(told, encoding="utf-8") as f:
        for d in json.load(f)["damage"]:
            if "bytes" in d:
                lost.setdefault(d.get("path", ""), []).append((d["offset"], d["bytes"]))
    assert lost, "nothing told"
    total = 0
    for name, ranges in [(n, lost.get(as_told(n), [])) for n in all_files(want)]:
        a, b = (open(os.path.join(t, name) if name else t, "rb").read() for t in (want, got))
        a = bytearray(a)
        for off, n in ranges:
            a[off:off + n] = bytes(n)
            total += n
        assert a == b, f"{name or want}: differs outside of what was told"
    print(f"{total} bytes lost, all told, the rest is right")


def content(top, name):
    with open(os.path.join(top, name), "rb") as f:
        return hashlib.file_digest(f, "sha256").digest()


def partly(told, want, got):
    with open(told, encoding="utf-8") as f:
        damaged = {d["path"] for d in json.load(f)["damage"] if "path" in d}
    known = {name: content(want, name) for name in all_files(want)}
    right = found = 0
    for name in all_files(got):
        if name.startswith("lost+found/"):
            found += 1
            assert content(got, name) in known.values() or as_told(name) in damaged, name
        elif name in known:
            same = content(got, name) == known[name]
            assert same or as_told(name) in damaged, f"{name} differs and is not told"
            right += same
    assert right > len(known) / 3, f"only {right} of {len(known)}"
    print(f"{right} of {len(known)} files are right, {found} in lost+found, "
          f"{len(damaged)} told damaged")


def all_files(top):
    if os.path.isfile(top):
        return [""]
    return [os.path.relpath(os.path.join(d, n), top) for d, _, names in os.walk(top)
            for n in names if stat.S_ISREG(os.lstat(os.path.join(d, n)).st_mode)]


def main(verb, *args):
    if verb == "wipe":
        wipe(args)
    elif verb == "nodes":
        return 0 if kill_nodes(args[0], args[1:]) else 1
    elif verb == "tree":
        kill_tree(int(args[0]), int(args[1]), args[2:])
    elif verb == "leaves":
        kill_leaves(int(args[0]), float(args[1]), args[2:])
    elif verb == "scorch":
        scorch(float(args[0]), args[1:])
    elif verb == "manifest":
        manifest(args[0])
    elif verb == "verify":
        verify(*args)
    elif verb == "partly":
        partly(*args)
    else:
        print(__doc__)
        return 2
    return 0


sys.exit(main(*sys.argv[1:]))
