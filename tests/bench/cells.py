"""The cells of the table: one load on one backend. Each returns a dictionary with its rate."""
import json
import os
import subprocess

from procs import run


class Cell:
    unit = "IOPS"
    group = "data"      # data: needs a file.  meta: needs a tree, cells run in order.

    def __init__(self, name):
        self.name = name

    def usable(self, backend):
        return backend.file if self.group == "data" else backend.tree


class Fio(Cell):
    def __init__(self, name, rw, bs, depth, **extra):
        super().__init__(name)
        self.rw = rw
        self.bs = bs
        self.depth = depth
        self.extra = extra
        self.unit = "MiB/s" if bs == "1m" else "IOPS"

    def run(self, backend, o):
        args = {"rw": self.rw, "bs": self.bs, "iodepth": self.depth, "runtime": o.runtime,
                "time_based": 1}
        if "read" not in self.rw:
            args["end_fsync"] = 1
        args.update(self.extra)
        return fio(backend, o, **args)


class Cached(Fio):
    """Reads of a part that fits the daemon's caches, read once before."""
    BYTES = 64 << 20

    def run(self, backend, o):
        fio(backend, o, rw="read", bs="4k", iodepth=32, size=self.BYTES)
        self.extra["size"] = self.BYTES
        return super().run(backend, o)


class Sustained(Fio):
    """Writes for so long that the background has to keep up."""

    def run(self, backend, o):
        self.extra["runtime"] = o.sustain
        return super().run(backend, o)


def fio(backend, o, **args):
    """Run one fio job on the backend's file. The rate counts the final fsync into the time."""
    args = {"size": o.size, **args}
    argv = ["fio", "--name=cell", f"--filename={backend.file}", "--direct=1",
            f"--ioengine={o.engine}", "--fallocate=none", "--randrepeat=0", "--norandommap=1",
            "--group_reporting", "--output-format=json"]
    argv += [f"--{k}={v}" for k, v in args.items()]
    out = run(*argv, timeout=max(o.runtime, o.sustain) * 10 + 600)
    job = json.loads(out[out.index("{"):])["jobs"][0]
    if job["error"]:
        raise RuntimeError(f"fio: {os.strerror(job['error'])}")
    reads = "read" in args["rw"]
    side = job["read" if reads else "write"]
    seconds = job["job_runtime"] / 1000
    ops = side["total_ios"]
    latency = side["clat_ns"].get("percentile", {})
    return {
        "rate": side["io_bytes"] / seconds / 2**20 if args["bs"] == "1m" else ops / seconds,
        "ops": ops, "bytes": side["io_bytes"], "seconds": seconds,
        "written": 0 if reads else side["io_bytes"],
        "p50_us": latency.get("50.000000", 0) / 1000,
        "p99_us": latency.get("99.000000", 0) / 1000,
    }


def precondition(backend, o):
    """Write the whole test file once, so that no cell measures first allocation."""
    fio(backend, o, rw="write", bs="1m", iodepth=4, end_fsync=1)


class Meta(Cell):
    unit = "ops/s"
    group = "meta"

    def __init__(self, name, phase, threads=1, warm=False):
        super().__init__(name)
        self.phase = phase
        self.threads = threads
        self.warm = warm

    def run(self, backend, o):
        argv = [o.fsmeta, self.phase, backend.tree, "-n", o.files, "-d", max(1, o.files // 1000),
                "-t", self.threads, "-r", o.runtime]
        if self.warm:
            run(*argv, timeout=o.runtime + 900)
        r = json.loads(run(*argv, timeout=o.runtime + 900))
        r["rate"] = r["ops"] / r["seconds"]
        r["written"] = r["bytes"] if self.phase in ("create", "append") else 0
        return r

    def clear(self, backend):
        subprocess.run(["find", backend.tree, "-mindepth", "1", "-delete"], check=False,
                       timeout=900, stderr=subprocess.DEVNULL)


ALL = (
    Fio("seq-read-1m", "read", "1m", 4),
    Fio("seq-write-1m", "write", "1m", 4),
    Fio("rand-read-4k-d1", "randread", "4k", 1),
    Fio("rand-read-4k-d32", "randread", "4k", 32),
    Fio("rand-read-4k-d32-all", "randread", "4k", 32, numjobs=os.cpu_count()),
    Cached("cached-read-4k-d1", "randread", "4k", 1),
    Cached("cached-read-4k-d32", "randread", "4k", 32),
    Fio("rand-write-4k-d1", "randwrite", "4k", 1),
    Fio("rand-write-4k-d32", "randwrite", "4k", 32),
    Sustained("long-write-4k-d1", "randwrite", "4k", 1),
    Sustained("long-write-4k-d32", "randwrite", "4k", 32),
    Fio("rand-write-4k-fsync", "randwrite", "4k", 1, fsync=1),
    Meta("create-4k", "create"),
    Meta("stat", "stat"),
    Meta("stat-warm", "stat", warm=True),
    Meta("readdir", "readdir"),
    Meta("readdir-warm", "readdir", warm=True),
    Meta("open-read-4k", "open"),
    Meta("open-read-4k-warm", "open", warm=True),
    Meta("rename", "rename"),
    Meta("unlink", "unlink"),
    Meta("append-4k-fsync", "append"),
    Meta("append-4k-fsync-t8", "append", threads=8),
)
