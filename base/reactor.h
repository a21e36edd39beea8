/* reactor: one event loop per thread: ready coroutines, I/O completions, timers, polled fds.
 *
 * The reactor is an interface for the sake of the simulator: the real one (reactor_uring.c) owns an
 * io_uring; the simulated one (tests/sim) owns a virtual clock and a seeded order of events.
 *
 * Happy path of one turn: run all ready coroutines -> submit what they queued -> reap completions
 * (each wakes a coroutine or calls back) -> fire due timers -> sleep when nothing is ready.
 * Threads: everything but reactor_notify/co_wake/co_spawn/reactor_stop is for the own thread only.
 */
#ifndef TARN_BASE_REACTOR_H
#define TARN_BASE_REACTOR_H
#include <stdbool.h>
#include <stdint.h>
#include "base/co.h"

struct reactor;

struct reactor_ops {
	uint64_t (*now_ns)(struct reactor *r);				/* monotonic */
	uint64_t (*wall_ns)(struct reactor *r);				/* since 1970 */
	void (*timer)(struct reactor *r, struct co *c, uint64_t at_ns); /* co_wake(c) at at_ns */
	void (*notify)(struct reactor *r); /* called by other threads, perhaps under
					      remote_lock: stop sleeping */
	void (*destroy)(struct reactor *r);
};

/* Base part, first member of every implementation. */
struct reactor {
	const struct reactor_ops *ops;
	struct co *ready_head, *ready_tail; /* own thread only */
	struct lock remote_lock;
	struct co *remote_head, *remote_tail; /* woken by other threads; guarded by remote_lock */
	struct co *all;			      /* every coroutine that has begun; own thread only */
	struct co *idle_head;		      /* stacks for reuse; own thread only */
	unsigned idle_count;
	pthread_t thread;
	bool running, stop;
};

/* For implementations: set up / tear down the base part. */
void reactor_init(struct reactor *r, const struct reactor_ops *ops);
void reactor_fini(struct reactor *r);
/* For implementations: run ready coroutines until none is ready, or a bounded number when they keep
 * waking each other, so that I/O and timers are not starved; true when any ran. */
bool reactor_run_ready(struct reactor *r);
/* For implementations: run the first ready coroutine until it yields; false when none is ready. */
bool reactor_run_one(struct reactor *r);
/* For implementations: rotate the ready list so that the coroutine at position n runs first (seeded
 * scheduling, together with reactor_run_one). */
void reactor_rotate_ready(struct reactor *r, unsigned n);
unsigned reactor_ready_count(struct reactor *r);

/* The reactor of the calling thread, or NULL. Set by reactor_enter (implementations' run loops). */
struct reactor *reactor_current(void);
void reactor_enter(struct reactor *r);
void reactor_leave(void);

static inline uint64_t reactor_now_ns(void)
{
	struct reactor *r = reactor_current();
	return r->ops->now_ns(r);
}
static inline uint64_t reactor_wall_ns(void)
{
	struct reactor *r = reactor_current();
	return r->ops->wall_ns(r);
}

/* ---- the real one (reactor_uring.c) ---- */

/* entries: size of the submission queue. 0 and *ret_r, or a negative errno (io_uring missing or
 * forbidden: -ENOSYS/-EPERM). */
int reactor_uring_create(unsigned entries, struct reactor **ret_r);
/* Free r and the coroutines left on it (not run any more). Not while it runs. NULL is allowed. */
void reactor_destroy(struct reactor *r);
/* Loop until reactor_stop(); the calling thread becomes the reactor's thread. May be called again,
 * by the same thread. File I/O under way at the stop is waited for and its done() called; the
 * coroutines that this wakes run in the next reactor_run(). */
void reactor_run(struct reactor *r);
/* Ask the loop to end after its current turn; before reactor_run(): at its first. Any thread. */
void reactor_stop(struct reactor *r);

/* Call cb(fd, events, arg) whenever fd is ready for `events` (POLLIN...); level-triggered in
 * effect: the callback reads until EAGAIN or takes a bounded number, it is called again while
 * ready. Returns a handle or NULL. reactor_unpoll ends it (also from its own callback, and before
 * fd is closed); no callback after it returns. If fd cannot be polled, one callback with POLLERR |
 * POLLNVAL and no more. Own thread only (or before reactor_run). */
typedef void reactor_poll_fn(int fd, uint32_t events, void *arg);
struct reactor_poll;
struct reactor_poll *reactor_poll(struct reactor *r, int fd, uint32_t events, reactor_poll_fn *cb,
				  void *arg);
void reactor_unpoll(struct reactor_poll *p);

/* Queue one file I/O on the current real reactor's ring; done(io) is called on this thread, never
 * from within this call. The sqe is sent with the batch at the end of the turn. */
struct iovec;
struct reactor_io {
	int fd;
	int op;			 /* REACTOR_IO_* */
	uint64_t off;		 /* bytes */
	const struct iovec *iov; /* stays valid until done */
	unsigned iovcnt;
	int rw_flags;		       /* RWF_* */
	uint64_t len;		       /* for PUNCH */
	const struct reactor_cmd *cmd; /* for CMD; stays valid until done */
	int res;		       /* bytes or -errno, set before done */
	void (*done)(struct reactor_io *io);
	struct reactor_io *next; /* reactor's: waiting for room in the submission queue */
};
enum { REACTOR_IO_READV, REACTOR_IO_WRITEV, REACTOR_IO_FSYNC, REACTOR_IO_PUNCH, REACTOR_IO_CMD };

/* A command to the driver behind fd (IORING_OP_URING_CMD), with iov and iovcnt as its address and
 * length. It may stay with the driver for ever, so the end of the loop does not wait for it: the
 * submitter sees to it that all are done before reactor_destroy(), which drops the others. */
struct reactor_cmd {
	uint32_t op;
	uint8_t area[24]; /* the begin of the 80 bytes that are the driver's; the rest is 0 */
};
/* Can r take a REACTOR_IO_CMD (128-byte queue entries, Linux 5.19)? */
bool reactor_has_cmd(struct reactor *r);
void reactor_io_submit(struct reactor *r, struct reactor_io *io);
/* true when the current reactor can do reactor_io_submit (is a real one). */
bool reactor_is_uring(struct reactor *r);

#endif
