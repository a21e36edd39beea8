"""The things compared: each is set up in its own folder, offers a file and/or a tree, and goes.

file: path of a file or image for fio, or None.  tree: directory for small files, or None.
pids(): the daemons that serve it.  Everything lies on the same disk, below one work directory.
"""
import json
import os
import signal
import subprocess
import time

import procs
from procs import run, wait_for

URING = "/sys/module/fuse/parameters/enable_uring"


def copy_bytes(size):
    """Room for one copy of the test file, small files and copy-on-write slack."""
    return size * 3 // 2 + (2 << 30)


def written_file(path, size):
    """A device file that was written once, as a disk is that has been in use: what allocates as it
    goes is not measured while the host's file system allocates, just as an overwritten file."""
    run("dd", "if=/dev/zero", f"of={path}", "bs=1M", f"count={size >> 20}", "oflag=direct",
        "conv=fsync", "status=none", timeout=1800)
    return path


class Backend:
    name = ""
    about = ""
    note = ""           # what a reader must know to compare fairly

    def __init__(self, work, size):
        self.work = os.path.join(work, self.name)
        self.size = size
        self.file = None
        self.tree = None
        self.procs = []

    def path(self, *parts):
        return os.path.join(self.work, *parts)

    def spawn(self, *argv, **kw):
        with open(self.path("daemon.log"), "ab") as log:
            p = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=log,
                                 stderr=log, start_new_session=True, **kw)
        self.procs.append(p)
        return p

    def pids(self):
        return [p.pid for p in self.procs]

    def device_bytes(self):
        """Bytes written to devices so far."""
        return procs.Usage(self.pids()).write_bytes

    def start(self):
        os.makedirs(self.work)
        self.set_up()

    def set_up(self):
        raise NotImplementedError

    def take_down(self):
        pass

    def stop(self):
        """Take it down whatever happened before; never raises."""
        try:
            self.take_down()
        except (RuntimeError, OSError, subprocess.TimeoutExpired) as e:
            print(f"bench: {self.name}: {e}", flush=True)
        for p in self.procs:
            self.end(p)
        for mount in sorted(self.mounts(), reverse=True):
            subprocess.run(["umount", "-l", mount], stderr=subprocess.DEVNULL, check=False)
        run("rm", "-rf", "--one-file-system", self.work, check=False)

    def end(self, p):
        for sig, limit in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
            if p.poll() is not None:
                return
            p.send_signal(sig)
            try:
                p.wait(limit)
            except subprocess.TimeoutExpired:
                pass

    def mounts(self):
        targets = [line.split()[1] for line in procs.read_text("/proc/mounts").splitlines()]
        return [t for t in targets if t.startswith(self.work)]


class Raw(Backend):
    name = "raw"
    about = "file on the host file system, O_DIRECT"
    note = "the kernel serves it: no daemon to account; preallocated by writing it once"

    def set_up(self):
        self.file = self.path("file")
        self.tree = self.path("tree")
        os.makedirs(self.tree)


class Tarn(Backend):
    """Common to both volume kinds: a pool over files, every block on each of them."""
    copies = 2

    def set_up(self):
        self.pool = "b" + self.name.replace("-", "") + str(os.getpid())
        self.started = False
        devices = [written_file(self.path(f"{i}.img"), copy_bytes(self.size))
                   for i in range(self.copies)]
        run("tarn", "pool", "create", self.pool, *devices)
        self.started = True
        self.volume()

    def volume(self):
        raise NotImplementedError

    def pids(self):
        return procs.by_name("tarnd", self.pool)

    def device_bytes(self):
        status = json.loads(run("tarn", "pool", "status", self.pool, "--json"))
        status = status[0] if isinstance(status, list) else status
        total = status.get("dev_write_bytes")
        return super().device_bytes() if total is None else total

    def take_down(self):
        if not self.started:
            return
        pids = self.pids()
        subprocess.run(["tarn", "pool", "export", self.pool, "--force"], check=False, timeout=60,
                       stdout=subprocess.DEVNULL)
        for pid in pids:
            for sig in (signal.SIGTERM, signal.SIGKILL):
                if os.path.exists(f"/proc/{pid}"):
                    os.kill(pid, sig)
                    time.sleep(1)


class TarnImage(Tarn):
    name = "tarn-image"
    about = "raw image of a block volume, 2 copies on 2 files"

    def volume(self):
        run("tarn", "volume", "create", f"{self.pool}/vm", "--type", "block", "--size", self.size,
            "--copies", self.copies)
        self.file = os.path.join(os.environ["TARN_RUN_DIR"], self.pool, "images/vm")
        wait_for(self.file, lambda: os.path.exists(self.file))


class TarnImageOne(TarnImage):
    name = "tarn-image-1"
    about = "raw image of a block volume, 1 copy on 1 file"
    note = "the same number of copies, and of flushes, as qemu-storage-daemon"
    copies = 1


class TarnTree(Tarn):
    name = "tarn-tree"
    about = "file in a mounted fs volume, 2 copies on 2 files"

    def volume(self):
        run("tarn", "volume", "create", f"{self.pool}/fs", "--type", "fs", "--copies", 2)
        mount = self.path("mnt")
        os.makedirs(mount)
        run("tarn", "mount", f"{self.pool}/fs", mount)
        self.file = os.path.join(mount, "file")
        self.tree = os.path.join(mount, "tree")
        os.makedirs(self.tree)

    def take_down(self):
        subprocess.run(["tarn", "umount", self.path("mnt"), "--force"], check=False, timeout=60,
                       stdout=subprocess.DEVNULL)
        super().take_down()


class Qsd(Backend):
    name = "qsd-qcow2"
    about = "qemu-storage-daemon, FUSE export of a qcow2, 1 copy"
    note = "cache.direct=on, aio=io_uring; one copy, no checksums"

    def set_up(self):
        image = self.path("disk.qcow2")
        self.file = self.path("export")
        run("qemu-img", "create", "-q", "-f", "qcow2", image, self.size)
        with open(self.file, "wb"):
            pass
        self.spawn(
            "qemu-storage-daemon",
            "--blockdev", f"driver=file,node-name=file,filename={image},cache.direct=on,"
            "aio=io_uring,discard=unmap",
            "--blockdev", "driver=qcow2,node-name=disk,file=file,cache.direct=on,discard=unmap",
            "--export", f"type=fuse,id=exp,node-name=disk,mountpoint={self.file},writable=on")
        wait_for(self.name, lambda: self.file in self.mounts())


class Nbdfuse(Backend):
    name = "nbdfuse"
    about = "nbdkit file plugin through nbdfuse, 1 copy"
    note = ("nbdkit has no O_DIRECT: the host's page cache helps it, above all sequential and hot "
            "reads")

    def set_up(self):
        image = self.path("disk.img")
        mount = self.path("mnt")
        os.makedirs(mount)
        run("truncate", "-s", self.size, image)
        self.file = os.path.join(mount, "disk")
        self.spawn("nbdfuse", self.file, "--command", "nbdkit", "-s", "--exit-with-parent", "file",
                   image)
        wait_for(self.name, lambda: mount in self.mounts())

    def take_down(self):
        run("fusermount3", "-u", self.path("mnt"))


class ZfsFuse(Backend):
    name = "zfs-fuse"
    about = "file in a zfs-fuse mirror of 2 files"
    note = ("accepts O_DIRECT but caches all the same (its ARC and the host's page cache); "
            "recordsize is the default 128 KiB, compression off")

    def set_up(self):
        if procs.by_name("zfs-fuse", ""):
            raise RuntimeError("a zfs-fuse daemon is running already; stop it first")
        self.pool = f"bench{os.getpid()}"
        self.spawn("zfs-fuse", "--no-daemon", "--no-kstat-mount")
        devices = [self.path("a.img"), self.path("b.img")]
        for d in devices:
            written_file(d, copy_bytes(self.size))
        mount = self.path("mnt")
        os.makedirs(mount)
        wait_for(self.name, lambda: subprocess.run(
            ["zpool", "list"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            check=False).returncode == 0)
        run("zpool", "create", "-f", "-m", mount, self.pool, "mirror", *devices)
        wait_for(self.name, lambda: mount in self.mounts())
        self.file = os.path.join(mount, "file")
        self.tree = os.path.join(mount, "tree")
        os.makedirs(self.tree)

    def take_down(self):
        for _ in range(20):
            p = subprocess.run(["zpool", "destroy", "-f", self.pool], stderr=subprocess.PIPE,
                               text=True, check=False, timeout=60)
            if p.returncode == 0:
                return
            time.sleep(0.5)
        raise RuntimeError(p.stderr.strip())


class Uring:
    """Mixed in: serves over FUSE's io_uring, which new mounts use while root allows it."""

    def start(self):
        allowed = procs.read_text(URING).strip()
        if not allowed:
            raise RuntimeError("this kernel has no FUSE over io_uring (Linux 6.14)")
        procs.write_text(URING, "Y")
        try:
            super().start()
        finally:
            procs.write_text(URING, allowed)


class TarnImageUring(Uring, TarnImage):
    name = "tarn-image-u"
    about = TarnImage.about + ", FUSE over io_uring"


class TarnTreeUring(Uring, TarnTree):
    name = "tarn-tree-u"
    about = TarnTree.about + ", FUSE over io_uring"


class Memory(Backend):
    """Tarn's transport with nothing behind it but memory."""
    name = "memory"
    about = "file in memory behind Tarn's /dev/fuse transport"
    note = "what the transport alone carries"
    transport = "dev"

    def set_up(self):
        mount = self.path("mnt")
        os.makedirs(mount)
        self.file = os.path.join(mount, "mem")
        self.spawn("memfile", self.transport, self.size, mount)
        wait_for(self.name, lambda: os.path.exists(self.file))

    def device_bytes(self):
        return 0


class MemoryUring(Uring, Memory):
    name = "memory-u"
    about = "file in memory behind Tarn's io_uring transport"
    transport = "uring"


class Loop(Backend):
    """A file system of the kernel on loop devices with direct I/O."""
    devices = 1
    note = "the kernel serves it: no daemon to account"

    def set_up(self):
        self.loops = []
        for i in range(self.devices):
            image = written_file(self.path(f"{i}.img"), copy_bytes(self.size))
            self.loops.append(
                run("losetup", "--find", "--show", "--direct-io=on", image).strip())
        mount = self.path("mnt")
        os.makedirs(mount)
        self.make()
        run("mount", *self.options, self.loops[0], mount)
        self.file = os.path.join(mount, "file")
        self.tree = os.path.join(mount, "tree")
        os.makedirs(self.tree)

    options = ()

    def make(self):
        raise NotImplementedError

    def take_down(self):
        mount = self.path("mnt")
        if mount in self.mounts():
            run("umount", mount)
        for loop in self.loops:
            run("losetup", "-d", loop, check=False)


class Ext4(Loop):
    name = "ext4"
    about = "file in ext4 of the kernel on a loop device, 1 copy"

    def make(self):
        run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard",
            self.loops[0])


class Btrfs(Loop):
    name = "btrfs"
    about = "file in btrfs raid1 of the kernel on 2 loop devices"
    devices = 2

    def make(self):
        run("mkfs.btrfs", "-q", "-K", "-d", "raid1", "-m", "raid1", *self.loops)
        run("btrfs", "device", "scan", *self.loops)


ALL = (TarnImage, TarnTree, TarnImageUring, TarnTreeUring, TarnImageOne, Memory, MemoryUring, Qsd,
       Nbdfuse, ZfsFuse, Btrfs, Ext4, Raw)
