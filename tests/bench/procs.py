"""Processes and the machine: what a daemon used, what the disk does, what machine this is."""
import os
import platform
import re
import subprocess
import time

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def run(*argv, timeout=300, check=True, **kw):
    """Run a command and return its output; its messages are in the error when it fails."""
    p = subprocess.run([str(a) for a in argv], text=True, stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout, **kw)
    if check and p.returncode != 0:
        text = (p.stderr.strip() or p.stdout.strip()).splitlines()[-1:]
        raise RuntimeError(f"{argv[0]} {argv[1] if len(argv) > 1 else ''}: {' '.join(text)}")
    return p.stdout


def read_text(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read()
    except OSError:
        return ""


def write_text(path, text):
    with open(path, "w", encoding="ascii") as f:
        f.write(text)


def stat_fields(pid):
    """Fields of /proc/PID/stat from the state on; empty when the process is gone."""
    text = read_text(f"/proc/{pid}/stat")
    return text[text.rfind(")") + 2:].split() if text else []


def tree(pids):
    """The processes and all their descendants."""
    parent = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            f = stat_fields(name)
            if f:
                parent[int(name)] = int(f[1])
    found = set(pids)
    grown = True
    while grown:
        more = {p for p, pp in parent.items() if pp in found} - found
        found |= more
        grown = bool(more)
    return found


class Usage:
    """What a set of daemons used so far. Children that ended are counted with their parent."""

    def __init__(self, pids):
        self.cpu_s = 0.0
        self.rss_bytes = 0
        self.write_bytes = 0
        for pid in tree(pids):
            f = stat_fields(pid)
            if not f:
                continue
            self.cpu_s += sum(int(x) for x in f[11:15]) / TICK
            self.rss_bytes += int(f[21]) * PAGE
            m = re.search(r"^write_bytes: (\d+)", read_text(f"/proc/{pid}/io"), re.M)
            self.write_bytes += int(m.group(1)) if m else 0


def by_name(comm, argument):
    """Processes named comm with argument in their command line."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and read_text(f"/proc/{name}/comm").strip() == comm:
            args = read_text(f"/proc/{name}/cmdline").split("\0")
            if any(argument in a for a in args):
                found.append(int(name))
    return found


def disk_written_sectors():
    total = 0
    for line in read_text("/proc/diskstats").splitlines():
        f = line.split()
        if not re.match(r"(loop|ram|zram|dm-)", f[2]):
            total += int(f[9])
    return total


def settle(limit_s=20.0):
    """Write back what is dirty, wait until the disks are quiet (under 1 MiB/s), drop caches."""
    end = time.monotonic() + limit_s
    os.sync()
    while time.monotonic() < end:
        before = disk_written_sectors()
        time.sleep(0.4)
        if disk_written_sectors() - before < 800:
            break
    os.sync()
    write_text("/proc/sys/vm/drop_caches", "3\n")


def wait_for(what, test, limit_s=20.0):
    end = time.monotonic() + limit_s
    while not test():
        if time.monotonic() > end:
            raise RuntimeError(f"{what}: not ready after {limit_s:.0f} s")
        time.sleep(0.02)


def package_version(package):
    p = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], text=True,
                       stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return p.stdout.strip() or "not installed"


def facts(work_dir):
    """The machine the numbers belong to."""
    cpu = re.search(r"model name\s*: (.*)", read_text("/proc/cpuinfo"))
    mem = re.search(r"MemTotal:\s*(\d+)", read_text("/proc/meminfo"))
    osname = re.search(r'PRETTY_NAME="(.*)"', read_text("/etc/os-release"))
    fs = run("findmnt", "-no", "SOURCE,FSTYPE", "-T", work_dir).split()
    uring = read_text("/sys/module/fuse/parameters/enable_uring").strip()
    packages = ("fio", "qemu-system-common", "nbdkit", "libnbd-bin", "zfs-fuse", "btrfs-progs",
                "libfuse3-3", "liburing2")
    return {
        "kernel": platform.release(),
        "system": osname.group(1) if osname else "",
        "cpu": cpu.group(1) if cpu else platform.machine(),
        "cpus": os.cpu_count(),
        "memory_mib": int(mem.group(1)) // 1024 if mem else 0,
        "disk": " ".join(fs),
        "fuse_over_io_uring": uring or "n/a",
        "load_before": read_text("/proc/loadavg").split()[0],
        "packages": {p: package_version(p) for p in packages},
    }
