/* dev: one device: asynchronous reads, writes, flushes and discards on a file or block device.
 *
 * An interface: dev_file.c implements it with io_uring and O_DIRECT (buffered where the file system
 * refuses it); the simulator implements it with a volatile cache and faults; an NBD export or a
 * set of objects can implement it later. Only chunk and sb use devices (law 1).
 *
 * Offsets and lengths are bytes, multiples of DEV_BLOCK; buffers are aligned to DEV_BLOCK.
 * Completion: done(io) on the thread (reactor) that submitted. io->res: 0 or a negative errno; a
 * short transfer is -EIO.
 */
#ifndef TARN_POOL_DEV_H
#define TARN_POOL_DEV_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>
#include "base/co.h"
#include "base/err.h"
#include "base/reactor.h"

#define DEV_BLOCK 4096u

enum dev_op { DEV_READ, DEV_WRITE, DEV_FLUSH, DEV_DISCARD };
enum { DEV_IO_FUA = 1 }; /* write is durable at completion */

struct dev_io {
	enum dev_op op;
	unsigned flags;
	uint64_t off_bytes;
	uint64_t len_bytes; /* sum of iov for reads and writes */
	struct iovec *iov;  /* unchanged and valid until done */
	unsigned iovcnt;
	int res;
	void (*done)(struct dev_io *io);
	void *arg;	       /* submitter's */
	struct reactor_io rio; /* backend's */
};

struct dev_backend;
struct dev_backend_ops {
	void (*submit)(struct dev_backend *b, struct dev_io *io); /* on a reactor thread */
	void (*close)(struct dev_backend *b);
};
struct dev_backend {
	const struct dev_backend_ops *ops;
	uint64_t size_bytes;
	bool is_block; /* block device */
	bool rotational;
	bool nvme;
	bool direct; /* O_DIRECT in use */
	char path[4096];
};

/* FORCE: open without locking out other users (dump of a pool in use). */
enum { DEV_OPEN_RDONLY = 1, DEV_OPEN_FORCE = 2 };

/* Open a file or block device, locked against other users: flock on files, O_EXCL on block devices
 * (ERR_IN_USE). size_bytes is rounded down to DEV_BLOCK and may be 0. Not yet looked at for
 * signatures. Blocking system calls; not for the request path. dev_close() when no I/O is under
 * way, any thread. */
int dev_file_open(const char *path, unsigned flags, struct dev_backend **ret_b, struct err *e);

/* What is on path: 0 and an empty string when nothing, ERR_FOREIGN and text like
 * "ext4 file system (label home)" in ret_what when somebody's data ("member of a Tarn pool" when
 * ours). Also ERR_IN_USE when mounted or claimed by the kernel, -errno when it cannot be read. */
int dev_probe_foreign(const char *path, char *ret_what, unsigned size, struct err *e);

/* Create path as a sparse file of size_bytes, or check that it exists as a file of any size.
 * Durable when it returns. -EEXIST when path is something else. */
int dev_file_make_sparse(const char *path, uint64_t size_bytes, struct err *e);

/* Coroutine helpers: submit and yield until done. Return 0 or negative errno. */
int dev_read(struct dev_backend *b, uint64_t off_bytes, void *buf, uint64_t len_bytes);
int dev_write(struct dev_backend *b, uint64_t off_bytes, const void *buf, uint64_t len_bytes,
	      unsigned flags);
int dev_flush(struct dev_backend *b);
/* The range's contents are undefined afterwards. -EOPNOTSUPP: the device takes no discards. */
int dev_discard(struct dev_backend *b, uint64_t off_bytes, uint64_t len_bytes);
static inline void dev_close(struct dev_backend *b)
{
	if (b)
		b->ops->close(b);
}

#endif
