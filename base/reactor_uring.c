/* reactor_uring: the real reactor: one io_uring per thread.
 *
 * One turn: run ready coroutines -> fire due timers -> one io_uring_enter that submits everything
 * queued and waits only when nothing is ready -> call back for every completion.
 *
 * Invariants:
 *  1. `sleeping` is set before the last look at the remote list and the stop flag, so a wake from
 *     another thread is either seen by that look or sees `sleeping` and writes to the eventfd;
 *  2. an sqe's user_data is a pointer with its kind in the low bits; the object behind it lives
 *     until the completion came;
 *  3. what finds no room in the submission queue waits in `backlog` or in its poll's own state,
 *     and is tried again each turn.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include "base/co_impl.h"
#include "base/reactor.h"
#include "base/timerq.h"

#define NS_PER_S 1000000000ull

enum { KIND_IO, KIND_POLL, KIND_NOTIFY, KIND_IGNORE };
#define KIND_MASK 3u

struct reactor_poll {
	struct uring *u;
	struct reactor_poll *prev, *next;
	reactor_poll_fn *cb;
	void *arg;
	int fd;
	uint32_t events;
	bool armed;    /* a POLL_ADD is under way */
	bool dead;     /* reactor_unpoll() was called */
	bool removing; /* a POLL_REMOVE was queued */
	bool broken;   /* fd cannot be polled */
	bool in_cb;
};

struct uring {
	struct reactor base;
	struct io_uring ring;
	struct timerq timers;
	struct reactor_poll *polls;
	struct reactor_io *backlog_head, *backlog_tail;
	unsigned io_count; /* under way, backlog included, commands not */
	bool enabled;	   /* the ring belongs to its thread now */
	bool poll_backlog; /* some poll found no room */
	int notify_fd;	   /* eventfd with a read always under way */
	uint64_t notify_value;
	bool notify_armed;
	bool sleeping; /* atomic: in the kernel or about to be */
};

static const struct reactor_ops uring_ops;

static struct uring *uring_of(struct reactor *r)
{
	assert(r->ops == &uring_ops);
	return (struct uring *)r;
}

static uint64_t tag(const void *p, unsigned kind)
{
	return (uint64_t)(uintptr_t)p | kind;
}

/* ---- clock and timers ---- */

static uint64_t clock_ns(clockid_t id)
{
	struct timespec t;
	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static uint64_t uring_now_ns(struct reactor *r)
{
	(void)r;
	return clock_ns(CLOCK_MONOTONIC);
}

static uint64_t uring_wall_ns(struct reactor *r)
{
	(void)r;
	/* the kernel's clock of file times, whose own stamps ours stand beside: never a tick ahead
	 */
	return clock_ns(CLOCK_REALTIME_COARSE);
}

static void uring_timer(struct reactor *r, struct co *c, uint64_t at_ns)
{
	timerq_add(&uring_of(r)->timers, c, at_ns);
}

static void fire_timers(struct uring *u)
{
	if (timerq_next_ns(&u->timers) == UINT64_MAX)
		return;
	uint64_t now_ns = clock_ns(CLOCK_MONOTONIC);
	for (struct co *c; (c = timerq_pop_due(&u->timers, now_ns));)
		co_wake(c);
}

/* ---- submission queue ---- */

/* A free sqe, or NULL when even submitting makes no room (or the ring is not enabled yet). */
static struct io_uring_sqe *sqe_get(struct uring *u)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
	if (!sqe && u->enabled && io_uring_submit(&u->ring) > 0)
		sqe = io_uring_get_sqe(&u->ring);
	return sqe;
}

static void notify_arm(struct uring *u)
{
	if (u->notify_armed)
		return;
	struct io_uring_sqe *sqe = sqe_get(u);
	if (!sqe)
		return;
	io_uring_prep_read(sqe, u->notify_fd, &u->notify_value, sizeof(u->notify_value), 0);
	sqe->user_data = tag(u, KIND_NOTIFY);
	u->notify_armed = true;
}

static void uring_notify(struct reactor *r)
{
	struct uring *u = uring_of(r);
	if (!__atomic_exchange_n(&u->sleeping, false, __ATOMIC_SEQ_CST))
		return;
	uint64_t one = 1;
	/* fails only when the counter is about to overflow, and then it is readable anyway */
	ssize_t n = write(u->notify_fd, &one, sizeof(one));
	(void)n;
}

/* ---- file I/O ---- */

/* liburing knows the entries of double size, but none of its prep functions fills one in. */
static void prep_cmd(struct io_uring_sqe *sqe, const struct reactor_io *io)
{
	memset(sqe, 0, 2 * sizeof(*sqe));
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = io->fd;
	sqe->cmd_op = io->cmd->op;
	sqe->addr = (uint64_t)(uintptr_t)io->iov;
	sqe->len = io->iovcnt;
	memcpy(sqe->cmd, io->cmd->area, sizeof(io->cmd->area));
}

static bool io_push(struct uring *u, struct reactor_io *io)
{
	struct io_uring_sqe *sqe = sqe_get(u);
	if (!sqe)
		return false;
	switch (io->op) {
	case REACTOR_IO_READV:
		io_uring_prep_readv2(sqe, io->fd, io->iov, io->iovcnt, io->off, io->rw_flags);
		break;
	case REACTOR_IO_WRITEV:
		io_uring_prep_writev2(sqe, io->fd, io->iov, io->iovcnt, io->off, io->rw_flags);
		break;
	case REACTOR_IO_FSYNC:
		io_uring_prep_fsync(sqe, io->fd, IORING_FSYNC_DATASYNC);
		break;
	case REACTOR_IO_PUNCH:
		io_uring_prep_fallocate(sqe, io->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					(off_t)io->off, (off_t)io->len);
		break;
	case REACTOR_IO_CMD:
		prep_cmd(sqe, io);
		break;
	default:
		abort(); /* no such op */
	}
	sqe->user_data = tag(io, KIND_IO);
	return true;
}

void reactor_io_submit(struct reactor *r, struct reactor_io *io)
{
	struct uring *u = uring_of(r);
	if (io->op == REACTOR_IO_CMD)
		assert(reactor_has_cmd(r));
	else
		u->io_count++;
	io->next = NULL;
	if (!u->backlog_head && io_push(u, io))
		return;
	if (u->backlog_tail)
		u->backlog_tail->next = io;
	else
		u->backlog_head = io;
	u->backlog_tail = io;
}

static void io_push_backlog(struct uring *u)
{
	while (u->backlog_head) {
		struct reactor_io *io = u->backlog_head;
		if (!io_push(u, io))
			return;
		u->backlog_head = io->next;
		if (!u->backlog_head)
			u->backlog_tail = NULL;
	}
}

bool reactor_is_uring(struct reactor *r)
{
	return r && r->ops == &uring_ops;
}

bool reactor_has_cmd(struct reactor *r)
{
	return reactor_is_uring(r) && uring_of(r)->ring.flags & IORING_SETUP_SQE128;
}

/* ---- polled descriptors ----
 *
 * One-shot polls, armed again after each callback: arming looks at the present state, which makes
 * them level-triggered; a multishot poll is edge-triggered. The sqe rides in the next batch.
 */

static void poll_free(struct reactor_poll *p)
{
	if (p->prev)
		p->prev->next = p->next;
	else
		p->u->polls = p->next;
	if (p->next)
		p->next->prev = p->prev;
	free(p);
}

/* Bring the kernel's side in line with p's state. May free p. */
static void poll_push(struct reactor_poll *p)
{
	struct uring *u = p->u;
	if (p->dead && !p->armed) {
		if (!p->in_cb)
			poll_free(p);
		return;
	}
	if (p->dead ? p->removing : p->armed || p->broken)
		return;
	struct io_uring_sqe *sqe = sqe_get(u);
	if (!sqe) {
		u->poll_backlog = true;
		return;
	}
	if (p->dead) {
		io_uring_prep_poll_remove(sqe, tag(p, KIND_POLL));
		sqe->user_data = tag(u, KIND_IGNORE);
		p->removing = true;
	} else {
		io_uring_prep_poll_add(sqe, p->fd, p->events);
		sqe->user_data = tag(p, KIND_POLL);
		p->armed = true;
	}
}

static void poll_push_backlog(struct uring *u)
{
	if (!u->poll_backlog)
		return;
	u->poll_backlog = false;
	for (struct reactor_poll *p = u->polls, *next; p; p = next) {
		next = p->next;
		poll_push(p);
	}
}

static void poll_done(struct reactor_poll *p, int res)
{
	p->armed = false;
	if (!p->dead) {
		p->broken = res < 0;
		p->in_cb = true;
		p->cb(p->fd, res < 0 ? POLLERR | POLLNVAL : (uint32_t)res, p->arg);
		p->in_cb = false;
	}
	poll_push(p);
}

struct reactor_poll *reactor_poll(struct reactor *r, int fd, uint32_t events, reactor_poll_fn *cb,
				  void *arg)
{
	struct uring *u = uring_of(r);
	struct reactor_poll *p = calloc(1, sizeof(*p));
	if (!p)
		return NULL;
	*p = (struct reactor_poll){.u = u, .cb = cb, .arg = arg, .fd = fd, .events = events};
	p->next = u->polls;
	if (p->next)
		p->next->prev = p;
	u->polls = p;
	poll_push(p);
	return p;
}

void reactor_unpoll(struct reactor_poll *p)
{
	if (!p)
		return;
	assert(!p->dead);
	p->dead = true;
	poll_push(p);
}

/* ---- the loop ---- */

static void complete(struct uring *u, uint64_t user_data, int res)
{
	void *p = (void *)(uintptr_t)(user_data & ~(uint64_t)KIND_MASK);
	switch (user_data & KIND_MASK) {
	case KIND_IO: {
		struct reactor_io *io = p;
		if (io->op != REACTOR_IO_CMD)
			u->io_count--;
		io->res = res;
		io->done(io);
		break;
	}
	case KIND_POLL:
		poll_done(p, res);
		break;
	case KIND_NOTIFY:
		u->notify_armed = false;
		break;
	default:
		break;
	}
}

static void reap(struct uring *u)
{
	struct io_uring_cqe *cqe;
	unsigned head;
	io_uring_for_each_cqe(&u->ring, head, cqe)
	{
		uint64_t user_data = cqe->user_data;
		int res = cqe->res;
		/* free the slot first: a callback may submit, and completions come at once */
		io_uring_cq_advance(&u->ring, 1);
		complete(u, user_data, res);
	}
}

/* Failures of io_uring_enter that mean "later" or "look again". Anything else is a bug here. */
static void check_enter(int ret)
{
	if (ret >= 0 || ret == -EINTR || ret == -ETIME || ret == -EAGAIN || ret == -EBUSY ||
	    ret == -ENOMEM)
		return;
	abort();
}

static void submit(struct uring *u)
{
	unsigned flags = IO_URING_READ_ONCE(*u->ring.sq.kflags);
	bool pending = flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
	if (pending || io_uring_sq_ready(&u->ring))
		check_enter(io_uring_submit_and_get_events(&u->ring));
}

static void submit_and_wait(struct uring *u, uint64_t until_ns)
{
	struct __kernel_timespec ts, *pts = NULL;
	struct io_uring_cqe *cqe;
	if (until_ns != UINT64_MAX) {
		uint64_t now_ns = clock_ns(CLOCK_MONOTONIC);
		uint64_t ns = until_ns > now_ns ? until_ns - now_ns : 0;
		ts.tv_sec = (int64_t)(ns / NS_PER_S);
		ts.tv_nsec = (long long)(ns % NS_PER_S);
		pts = &ts;
	}
	check_enter(io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1, pts, NULL));
}

static bool must_not_sleep(struct uring *u)
{
	if (__atomic_load_n(&u->base.stop, __ATOMIC_SEQ_CST))
		return true;
	reactor_take_remote(&u->base);
	return u->base.ready_head || u->backlog_head || u->poll_backlog || !u->notify_armed;
}

static void turn(struct uring *u)
{
	reactor_run_ready(&u->base);
	fire_timers(u);
	io_push_backlog(u);
	poll_push_backlog(u);
	notify_arm(u);
	__atomic_store_n(&u->sleeping, true, __ATOMIC_SEQ_CST); /* invariant 1 */
	if (must_not_sleep(u)) {
		__atomic_store_n(&u->sleeping, false, __ATOMIC_SEQ_CST);
		submit(u);
	} else {
		submit_and_wait(u, timerq_next_ns(&u->timers));
		__atomic_store_n(&u->sleeping, false, __ATOMIC_SEQ_CST);
	}
	reap(u);
}

/* Nobody may write into a caller's buffer after the loop has ended. */
static void drain_io(struct uring *u)
{
	while (u->io_count) {
		io_push_backlog(u);
		submit_and_wait(u, UINT64_MAX);
		reap(u);
	}
}

void reactor_run(struct reactor *r)
{
	struct uring *u = uring_of(r);
	reactor_enter(r);
	r->running = true;
	if (!u->enabled) {
		/* The ring's only submitter is the thread that enables it. liburing 2.3 declares
		 * io_uring_enable_rings() but forgot to export it. */
		if (io_uring_register((unsigned)u->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL,
				      0))
			abort();
		u->enabled = true;
	}
	while (!__atomic_load_n(&r->stop, __ATOMIC_SEQ_CST))
		turn(u);
	drain_io(u);
	r->running = false;
	reactor_leave();
	__atomic_store_n(&r->stop, false, __ATOMIC_SEQ_CST);
}

void reactor_stop(struct reactor *r)
{
	__atomic_store_n(&r->stop, true, __ATOMIC_SEQ_CST);
	r->ops->notify(r);
}

/* ---- set-up ---- */

static void uring_destroy(struct reactor *r)
{
	struct uring *u = uring_of(r);
	assert(!r->running && !u->io_count);
	io_uring_queue_exit(&u->ring);
	while (u->polls)
		poll_free(u->polls);
	close(u->notify_fd);
	u->timers.root = NULL;
	reactor_fini(r);
	free(u);
}

static const struct reactor_ops uring_ops = {
	.now_ns = uring_now_ns,
	.wall_ns = uring_wall_ns,
	.timer = uring_timer,
	.notify = uring_notify,
	.destroy = uring_destroy,
};

/* The most the kernel knows: completion work deferred to our own io_uring_enter (6.1), without
 * interrupting the thread and with room for driver commands (5.19), or plain (5.10). */
static int ring_init(struct io_uring *ring, unsigned entries)
{
	const unsigned modern = IORING_SETUP_SUBMIT_ALL | IORING_SETUP_TASKRUN_FLAG |
				IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SQE128;
	const unsigned flags[] = {
		modern | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
		modern,
		0,
	};
	int ret = -EINVAL;
	for (unsigned i = 0; i < sizeof(flags) / sizeof(flags[0]) && ret == -EINVAL; i++) {
		struct io_uring_params p = {
			.flags = flags[i] | IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE,
			.cq_entries = entries * 4, /* more I/O may be under way than fits a batch */
		};
		ret = io_uring_queue_init_params(entries, ring, &p);
	}
	return ret;
}

int reactor_uring_create(unsigned entries, struct reactor **ret_r)
{
	struct uring *u = calloc(1, sizeof(*u));
	if (!u)
		return -ENOMEM;
	int ret;
	u->notify_fd = eventfd(0, EFD_CLOEXEC);
	if (u->notify_fd < 0) {
		ret = -errno;
		goto err_after_alloc;
	}
	ret = ring_init(&u->ring, entries);
	if (ret)
		goto err_after_eventfd;
	reactor_init(&u->base, &uring_ops);
	*ret_r = &u->base;
	return 0;
err_after_eventfd:
	close(u->notify_fd);
err_after_alloc:
	free(u);
	return ret;
}
