/* dev_file: a device that is a file or a block device, through the reactor's io_uring.
 *
 * Happy path: submit() translates a dev_io to a reactor_io, io_done() translates the result back.
 * A short transfer is continued where it stopped; one without progress is -EIO.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include "pool/dev.h"

struct dev_file {
	struct dev_backend base;
	int fd;
};

/* ---- I/O ---- */

static struct dev_io *dev_io_of(struct reactor_io *rio)
{
	return (struct dev_io *)(void *)((char *)rio - offsetof(struct dev_io, rio));
}

static void finish(struct dev_io *io, int res)
{
	if (io->rio.iov != io->iov)
		free((void *)(uintptr_t)io->rio.iov); /* made by continue_transfer() */
	io->rio.iov = NULL;
	io->res = res;
	io->done(io);
}

/* Point rio at what is left of io after `skip` bytes. The submitter's iov stays as it is: it may be
 * in use for another device, too. */
static int rest_of_iov(struct dev_io *io, uint64_t skip)
{
	unsigned i = 0;
	while (skip >= io->iov[i].iov_len)
		skip -= io->iov[i++].iov_len;
	unsigned count = io->iovcnt - i;
	struct iovec *rest = malloc(count * sizeof(*rest));
	if (!rest)
		return -ENOMEM;
	memcpy(rest, io->iov + i, count * sizeof(*rest));
	rest[0].iov_base = (char *)rest[0].iov_base + skip;
	rest[0].iov_len -= skip;
	if (io->rio.iov != io->iov)
		free((void *)(uintptr_t)io->rio.iov);
	io->rio.iov = rest;
	io->rio.iovcnt = count;
	return 0;
}

static void transfer_done(struct dev_io *io)
{
	struct reactor_io *rio = &io->rio;
	if (rio->res < 0) {
		finish(io, rio->res);
		return;
	}
	if (rio->res == 0) { /* end of file: it is shorter than the pool believes */
		finish(io, io->len_bytes ? -EIO : 0);
		return;
	}
	rio->off += (uint64_t)rio->res;
	uint64_t moved = rio->off - io->off_bytes;
	if (moved >= io->len_bytes) {
		finish(io, 0);
		return;
	}
	int ret = rest_of_iov(io, moved);
	if (ret)
		finish(io, ret);
	else
		reactor_io_submit(reactor_current(), rio);
}

static void io_done(struct reactor_io *rio)
{
	struct dev_io *io = dev_io_of(rio);
	switch (io->op) {
	case DEV_READ:
	case DEV_WRITE:
		transfer_done(io);
		break;
	case DEV_FLUSH:
	case DEV_DISCARD:
		finish(io, rio->res < 0 ? rio->res : 0);
		break;
	}
}

/* ---- discards of block devices ---- */

/* The ring has no operation for them that all kernels know, and the ioctl may take long: a thread
 * does it, and an eventfd that the ring reads brings the result to the submitter's thread. */
struct discard {
	int fd, event;
	uint64_t range[2]; /* bytes: offset, length */
	uint64_t result;   /* 1: done; 1 + n: errno n */
	struct iovec iov;
};

static void discard_done(struct reactor_io *rio)
{
	struct dev_io *io = dev_io_of(rio);
	struct discard *t = (struct discard *)(void *)((char *)(uintptr_t)rio->iov -
						       offsetof(struct discard, iov));
	int res = rio->res == (int)sizeof(t->result) ? -(int)(t->result - 1) : -EIO;
	rio->iov = NULL;
	close(t->event);
	free(t);
	io->res = res == -ENOTTY ? -EOPNOTSUPP : res;
	io->done(io);
}

static void *discard_thread(void *arg)
{
	const struct discard *t = arg;
	int event = t->event; /* t may be gone once the event is there */
	uint64_t result = 1 + (uint64_t)(ioctl(t->fd, BLKDISCARD, t->range) ? errno : 0);
	while (write(event, &result, sizeof(result)) < 0 && errno == EINTR)
		;
	return NULL;
}

static int discard_start(struct discard *t)
{
	pthread_attr_t attr;
	pthread_t thread;
	int rc = pthread_attr_init(&attr);
	if (rc)
		return -rc;
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	rc = pthread_create(&thread, &attr, discard_thread, t);
	pthread_attr_destroy(&attr);
	return -rc;
}

static void discard_submit(struct dev_file *f, struct dev_io *io)
{
	struct discard *t = calloc(1, sizeof(*t));
	int rc = t ? 0 : -ENOMEM;
	if (t) {
		*t = (struct discard){.fd = f->fd,
				      .event = eventfd(0, EFD_CLOEXEC),
				      .range = {io->off_bytes, io->len_bytes},
				      .iov = {&t->result, sizeof(t->result)}};
		rc = t->event < 0 ? -errno : discard_start(t);
	}
	if (!rc) {
		io->rio = (struct reactor_io){
			.fd = t->event,
			.op = REACTOR_IO_READV,
			.iov = &t->iov,
			.iovcnt = 1,
			.done = discard_done,
		};
		reactor_io_submit(reactor_current(), &io->rio);
		return;
	}
	if (t && t->event >= 0)
		close(t->event);
	free(t);
	io->res = rc;
	io->done(io);
}

static void dev_file_submit(struct dev_backend *b, struct dev_io *io)
{
	static const int rio_op[] = {
		[DEV_READ] = REACTOR_IO_READV,
		[DEV_WRITE] = REACTOR_IO_WRITEV,
		[DEV_FLUSH] = REACTOR_IO_FSYNC,
		[DEV_DISCARD] = REACTOR_IO_PUNCH,
	};
	assert(io->off_bytes % DEV_BLOCK == 0 && io->len_bytes % DEV_BLOCK == 0);
	if (io->op == DEV_DISCARD && b->is_block) {
		discard_submit((struct dev_file *)b, io);
		return;
	}
	io->rio = (struct reactor_io){
		.fd = ((struct dev_file *)b)->fd,
		.op = rio_op[io->op],
		.off = io->off_bytes,
		.iov = io->iov,
		.iovcnt = io->iovcnt,
		.rw_flags = io->op == DEV_WRITE && (io->flags & DEV_IO_FUA) ? RWF_DSYNC : 0,
		.len = io->len_bytes,
		.done = io_done,
	};
	reactor_io_submit(reactor_current(), &io->rio);
}

static void dev_file_close(struct dev_backend *b)
{
	struct dev_file *f = (struct dev_file *)b;
	close(f->fd); /* drops flock or the exclusive claim */
	free(f);
}

static const struct dev_backend_ops dev_file_ops = {
	.submit = dev_file_submit,
	.close = dev_file_close,
};

/* ---- open ---- */

/* open() with O_DIRECT where the file system takes it. fd or -errno. */
static int open_direct(const char *path, int oflags, bool *ret_direct)
{
	int fd = open(path, oflags | O_DIRECT);
	*ret_direct = fd >= 0;
	if (fd < 0 && errno == EINVAL)
		fd = open(path, oflags);
	return fd < 0 ? -errno : fd;
}

/* Some file systems accept O_DIRECT at open and refuse the I/O; so does a device whose sectors are
 * larger than DEV_BLOCK. Then continue buffered. */
static int settle_direct(int fd, bool *direct)
{
	if (!*direct)
		return 0;
	void *buf;
	if (posix_memalign(&buf, DEV_BLOCK, DEV_BLOCK))
		return -ENOMEM;
	ssize_t n = pread(fd, buf, DEV_BLOCK, 0);
	int err = n < 0 ? errno : 0;
	free(buf);
	if (err != EINVAL)
		return 0; /* a device that cannot read its first block may still be worth opening */
	int fl = fcntl(fd, F_GETFL);
	if (fl < 0 || fcntl(fd, F_SETFL, fl & ~O_DIRECT))
		return -errno;
	*direct = false;
	return 0;
}

static int device_size(int fd, const struct stat *st, uint64_t *ret_bytes)
{
	uint64_t bytes = (uint64_t)st->st_size;
	if (S_ISBLK(st->st_mode) && ioctl(fd, BLKGETSIZE64, &bytes))
		return -errno;
	*ret_bytes = bytes - bytes % DEV_BLOCK;
	return 0;
}

static bool read_flag_file(const char *path)
{
	char c = '0';
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (read(fd, &c, 1) != 1)
		c = '0';
	close(fd);
	return c == '1';
}

/* A partition has no queue of its own: ask its disk. */
static bool is_rotational(dev_t dev)
{
	char disk[96], parent[96];
	snprintf(disk, sizeof(disk), "/sys/dev/block/%u:%u/queue/rotational", major(dev),
		 minor(dev));
	snprintf(parent, sizeof(parent), "/sys/dev/block/%u:%u/../queue/rotational", major(dev),
		 minor(dev));
	return read_flag_file(disk) || read_flag_file(parent);
}

/* Is it, or is it on, an NVMe namespace? The kernel's name for it says so. */
static bool is_nvme(dev_t dev)
{
	char path[64], to[512];
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u", major(dev), minor(dev));
	ssize_t n = readlink(path, to, sizeof(to) - 1);
	to[n > 0 ? n : 0] = 0;
	const char *name = strrchr(to, '/');
	return name && !strncmp(name + 1, "nvme", 4);
}

static int open_locked(const char *path, unsigned flags, bool is_block, bool *ret_direct,
		       struct err *e)
{
	bool lock = !(flags & DEV_OPEN_FORCE);
	int oflags = O_CLOEXEC | O_NONBLOCK | (flags & DEV_OPEN_RDONLY ? O_RDONLY : O_RDWR);
	int fd = open_direct(path, oflags | (is_block && lock ? O_EXCL : 0), ret_direct);
	if (fd == -EBUSY && is_block)
		return err_set(e, ERR_IN_USE, "mounted or in use by another program");
	if (fd < 0)
		return err_set(e, fd, "%s", err_str(fd));
	if (is_block || !lock || !flock(fd, LOCK_EX | LOCK_NB))
		return fd;
	int ret = -errno;
	close(fd);
	if (ret == -EWOULDBLOCK)
		return err_set(e, ERR_IN_USE, "in use by another program");
	return err_set(e, ret, "lock: %s", err_str(ret));
}

/* O_NONBLOCK kept open() from hanging on a FIFO or a drive without medium; I/O must not have it. */
static int clear_nonblock(int fd)
{
	int fl = fcntl(fd, F_GETFL);
	if (fl < 0 || fcntl(fd, F_SETFL, fl & ~O_NONBLOCK))
		return -errno;
	return 0;
}

static int fill_backend(struct dev_file *f, const struct stat *st)
{
	struct dev_backend *b = &f->base;
	int ret = clear_nonblock(f->fd);
	if (!ret)
		ret = settle_direct(f->fd, &b->direct);
	if (!ret)
		ret = device_size(f->fd, st, &b->size_bytes);
	b->is_block = S_ISBLK(st->st_mode);
	b->rotational = is_rotational(b->is_block ? st->st_rdev : st->st_dev);
	b->nvme = b->is_block && is_nvme(st->st_rdev);
	b->ops = &dev_file_ops;
	return ret;
}

static int dev_file_open_at(struct dev_file *f, unsigned flags, struct err *e)
{
	const char *path = f->base.path;
	struct stat st;
	if (stat(path, &st))
		return err_set(e, -errno, "%s", err_str(-errno));
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_set(e, -ENOTBLK, "neither a file nor a block device");
	bool is_block = S_ISBLK(st.st_mode);
	int fd = open_locked(path, flags, is_block, &f->base.direct, e);
	if (fd < 0)
		return fd;
	f->fd = fd;
	int ret;
	if (fstat(fd, &st) || is_block != S_ISBLK(st.st_mode))
		ret = -ESTALE; /* path was replaced meanwhile */
	else
		ret = fill_backend(f, &st);
	if (!ret)
		return 0;
	close(fd);
	return err_set(e, ret, "%s", err_str(ret));
}

int dev_file_open(const char *path, unsigned flags, struct dev_backend **ret_b, struct err *e)
{
	if (strlen(path) >= sizeof(((struct dev_backend *)0)->path))
		return err_set(e, -ENAMETOOLONG, "open device: path too long");
	struct dev_file *f = calloc(1, sizeof(*f));
	if (!f)
		return err_set(e, -ENOMEM, "open %s: out of memory", path);
	snprintf(f->base.path, sizeof(f->base.path), "%s", path);
	int ret = dev_file_open_at(f, flags, e);
	if (ret) {
		free(f);
		err_wrap(e, "open %s", path);
		return ret;
	}
	*ret_b = &f->base;
	return 0;
}

/* ---- make ---- */

static int sync_parent(const char *path)
{
	char dir[4096];
	const char *slash = strrchr(path, '/');
	int n = slash ? snprintf(dir, sizeof(dir), "%.*s", (int)(slash - path + 1), path)
		      : snprintf(dir, sizeof(dir), ".");
	if (n < 0 || (size_t)n >= sizeof(dir))
		return -ENAMETOOLONG;
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int ret = fsync(fd) ? -errno : 0;
	close(fd);
	return ret;
}

static int check_existing_file(const char *path, struct err *e)
{
	struct stat st;
	if (stat(path, &st))
		return err_set(e, -errno, "create file %s: %s", path, err_str(-errno));
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EEXIST, "create file %s: exists and is not a file", path);
	return 0;
}

int dev_file_make_sparse(const char *path, uint64_t size_bytes, struct err *e)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 && errno == EEXIST)
		return check_existing_file(path, e);
	if (fd < 0)
		return err_set(e, -errno, "create file %s: %s", path, err_str(-errno));
	int ret = 0;
	if (size_bytes > INT64_MAX)
		ret = -EFBIG;
	else if (ftruncate(fd, (off_t)size_bytes) || fsync(fd))
		ret = -errno;
	close(fd);
	if (!ret)
		ret = sync_parent(path);
	if (!ret)
		return 0;
	unlink(path);
	return err_set(e, ret, "create file %s: %s", path, err_str(ret));
}
