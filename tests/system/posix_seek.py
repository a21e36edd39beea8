"""posix_seek: holes and data, also in what is not written back yet."""
import errno
import os
import threading
import time

from posix_lib import check, fails, opened


@check
def holes_and_data():
    fd = opened("a")
    os.ftruncate(fd, 10 << 20)
    os.pwrite(fd, b"x" * 4096, 4 << 20)
    start = os.lseek(fd, 0, os.SEEK_DATA)
    end = os.lseek(fd, start, os.SEEK_HOLE)
    assert 0 <= start <= 4 << 20 < end <= 10 << 20, (start, end)
    os.close(fd)
    fd = os.open("a", os.O_RDONLY)
    start = os.lseek(fd, 0, os.SEEK_DATA)
    end = os.lseek(fd, start, os.SEEK_HOLE)
    assert (4 << 20) - 131072 <= start <= 4 << 20 < end <= (4 << 20) + 131072, (start, end)
    assert os.lseek(fd, 0, os.SEEK_HOLE) == 0
    fails(errno.ENXIO, os.lseek, fd, 10 << 20, os.SEEK_DATA)
    fails(errno.ENXIO, os.lseek, fd, 9 << 20, os.SEEK_DATA)
    os.close(fd)


@check
def dirty_data_is_no_hole():
    fd = opened("a")
    os.ftruncate(fd, 1 << 20)
    os.pwrite(fd, b"x" * 4096, 512 << 10)
    assert os.lseek(fd, 512 << 10, os.SEEK_DATA) == 512 << 10
    os.close(fd)


@check
def many_seek_in_what_they_write():
    """POSIX_SEEKERS: for each CPU; a queue of io_uring has places for so many."""
    wrong = []
    seekers = int(os.environ.get("POSIX_SEEKERS", 24)) * len(os.sched_getaffinity(0))

    cpus = sorted(os.sched_getaffinity(0))

    def run(k):
        os.sched_setaffinity(threading.get_native_id(), {cpus[k % len(cpus)]})
        fd = os.open(f"seek{k}", os.O_RDWR | os.O_CREAT)
        for i in range(20):
            at = (3 * i + 1) << 16
            os.pwrite(fd, b"x" * 8192, at)
            try:
                if os.lseek(fd, 3 * i << 16, os.SEEK_DATA) > at:
                    wrong.append(f"{k}: no data at {at}")
            except OSError as e:
                wrong.append(f"{k}: {e}")
        os.close(fd)
        os.unlink(f"seek{k}")
    threads = [threading.Thread(target=run, args=(k,)) for k in range(seekers)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong, wrong[:3]


def on_fuse():
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        mounts = {m.split()[4]: m.split(" - ")[1].split()[0] for m in f}
    where = os.getcwd()
    while where not in mounts:
        where = os.path.dirname(where)
    return mounts[where].startswith("fuse")


def blocks_are(st, n):
    """Some file systems count the blocks that hold the extents, too: those of up to 60 here."""
    extra = st.st_blocks // 8 - n
    assert 0 <= extra <= 60 and (extra == 0 or not on_fuse()), (st.st_blocks, n)


@check
def blocks_of_a_scattered_file():
    """Many extents: counted less often while it is written, exactly afterwards."""
    fd = opened("a")
    for i in range(600):
        os.pwrite(fd, b"x", i << 13)
    for i in range(50):
        os.pwrite(fd, b"y", (600 + i) << 13)
        os.fsync(fd)
    time.sleep(1.1)
    blocks_are(os.fstat(fd), 650)
    os.pwrite(fd, b"z", 700 << 13)
    os.fsync(fd)
    os.close(fd)
    time.sleep(1.1)
    blocks_are(os.stat("a"), 651)
    fd = os.open("a", os.O_RDWR)
    os.pwrite(fd, b"z", 800 << 13)
    os.fsync(fd)
    blocks_are(os.fstat(fd), 652)
    os.close(fd)
