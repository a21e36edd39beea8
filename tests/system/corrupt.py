#!/usr/bin/env python3
"""corrupt.py FILE COUNT SEED: damage COUNT random places of a file: single bytes and 4 KiB blocks.

Only where something is written (holes stay holes). Prints how many places were damaged.
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
    path, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    rng = random.Random(seed)
    fd = os.open(path, os.O_RDWR)
    ranges = extents(fd, os.fstat(fd).st_size)
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
