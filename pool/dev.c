#include "pool/dev.h"

static void wake_submitter(struct dev_io *io)
{
	co_wake(io->arg);
}

static int submit_and_yield(struct dev_backend *b, struct dev_io *io)
{
	io->done = wake_submitter;
	io->arg = co_self();
	b->ops->submit(b, io);
	co_yield (); /* done() may already have been called: the wake is kept */
	return io->res;
}

static int transfer(struct dev_backend *b, enum dev_op op, uint64_t off_bytes, void *buf,
		    uint64_t len_bytes, unsigned flags)
{
	struct iovec iov = {.iov_base = buf, .iov_len = len_bytes};
	struct dev_io io = {
		.op = op,
		.flags = flags,
		.off_bytes = off_bytes,
		.len_bytes = len_bytes,
		.iov = &iov,
		.iovcnt = 1,
	};
	return submit_and_yield(b, &io);
}

int dev_read(struct dev_backend *b, uint64_t off_bytes, void *buf, uint64_t len_bytes)
{
	return transfer(b, DEV_READ, off_bytes, buf, len_bytes, 0);
}

int dev_write(struct dev_backend *b, uint64_t off_bytes, const void *buf, uint64_t len_bytes,
	      unsigned flags)
{
	/* an iovec has no const; a write only reads it */
	return transfer(b, DEV_WRITE, off_bytes, (void *)(uintptr_t)buf, len_bytes, flags);
}

int dev_flush(struct dev_backend *b)
{
	struct dev_io io = {.op = DEV_FLUSH};
	return submit_and_yield(b, &io);
}

int dev_discard(struct dev_backend *b, uint64_t off_bytes, uint64_t len_bytes)
{
	struct dev_io io = {.op = DEV_DISCARD, .off_bytes = off_bytes, .len_bytes = len_bytes};
	return submit_and_yield(b, &io);
}
