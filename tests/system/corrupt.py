#!/usr/bin/env python3
"""corrupt.py FILE COUNT SEED: damage COUNT random places of a file: single bytes and 4 KiB blocks.

Only where something is written (holes stay holes). COUNT like 1%: so many of all blocks, anywhere.
Prints how many places were damaged.
"""
import os
import random
import sys


def extents(fd, size):
    """Ranges of the file that hold data."""
    found, at = [], 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:
            break
        at = os.lseek(fd, start, os.SEEK_HOLE)
        found.append((start, at))
    return found


def main():
    path, count, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
    rng = random.Random(seed)
    fd = os.open(path, os.O_RDWR)
    size = os.fstat(fd).st_size
    if count.endswith("%"):
        count = int(float(count[:-1]) / 100 * (size // 4096))
        ranges = [(0, size)]
    else:
        count = int(count)
        ranges = extents(fd, size)
    total = sum(e - s for s, e in ranges)
    for _ in range(count):
        where = rng.randrange(total)
        for start, end in ranges:
            if where < end - start:
                where += start
                break
            where -= end - start
        if rng.random() < 0.5:
            old = os.pread(fd, 1, where)
            os.pwrite(fd, bytes([old[0] ^ rng.randrange(1, 256)]), where)
        else:
            os.pwrite(fd, rng.randbytes(4096), where // 4096 * 4096)
    os.fsync(fd)
    print(count)


main()
