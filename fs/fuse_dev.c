/* The transport that reads requests from /dev/fuse and writes replies to it. Each worker has a
 * clone of the device; a reply goes to the clone its request came from, as the kernel wants it.
 *
 * The kernel wakes every worker that polls for each request, and all but one find nothing. So only
 * the leader polls all the time:
 *
 *   parked --wanted: a worker has more than it likes (dev_call_help)--> polls
 *   polls  --unwanted: for long they mostly waited for disks (dev_turn_end)--> parked
 *
 * Where a lone client's requests wait for disks, a second worker is woken in vain (and unseen here:
 * the ring looks again before it reports), and takes the core that the disk's interrupt wants.
 * Where they do not, it is faster: it wakes on an idle core while the client still goes to sleep.
 */
#include <errno.h>
#include <poll.h>
#include <unistd.h>
#include "fs/fuse_serve.h"

#define READS_PER_TURN 64u
#define LONE_PROBE     16u /* turns */
#define HELP_ACTIVE    4u  /* requests of one worker */
#define QUIET_ACTIVE   2u  /* requests of all workers */
#define LEAN_MAX       192 /* turns with one request that waits for a disk count 3, others -1 */
#define LEAN_WAITED    3
#define LEAN_MIN       (-64)

/* read() said r < 0: is it the end? */
static bool dev_read_failed(struct serve_worker *w, int err)
{
	switch (err) {
	case EAGAIN:
	case EINTR:
	case ENOENT: /* the request was interrupted while we took it */
		return false;
	case ENODEV:
		serve_end(w->s, SERVE_END_UNMOUNTED, 0);
		return true;
	case ECONNABORTED:
		serve_end(w->s, SERVE_END_ABORTED, 0);
		return true;
	default:
		serve_end(w->s, SERVE_END_FAILED, -err);
		return true;
	}
}

static void dev_pause(struct serve_worker *w)
{
	if (w->poll)
		reactor_unpoll(w->poll);
	w->poll = NULL;
	w->paused = true;
}

/* Should this turn try another read? A lone client sends its next request only after our reply, so
 * that a second read would find nothing: look again only now and then, to notice company. */
static bool dev_try_more(struct serve_worker *w, unsigned reads)
{
	return reads != 1 || w->active > 1 || w->company || !(++w->lone_turns % LONE_PROBE);
}

static void dev_wake_workers(struct serve *s)
{
	lock_take(&s->lock);
	waitq_wake_all(&s->wait);
	lock_drop(&s->lock);
}

/* More came than one worker likes: have another one poll as well. */
static void dev_call_help(struct serve *s)
{
	for (unsigned i = 0; i < s->worker_count; i++) {
		struct serve_worker *o = &s->worker[i];

		if (!atomic_load_explicit(&o->parked, memory_order_relaxed) ||
		    atomic_exchange(&o->wanted, true))
			continue;
		dev_wake_workers(s);
		return;
	}
}

static void dev_send_home(struct serve *s)
{
	bool any = false;

	for (unsigned i = 0; i < s->worker_count; i++) {
		struct serve_worker *o = &s->worker[i];

		if (i == s->leader || atomic_load_explicit(&o->parked, memory_order_relaxed))
			continue;
		any |= !atomic_exchange(&o->unwanted, true);
	}
	if (any)
		dev_wake_workers(s);
}

static void dev_park(struct serve_worker *w)
{
	dev_pause(w);
	w->paused = false;
	w->lean = 0;
	atomic_store(&w->unwanted, false);
	atomic_store(&w->parked, true);
}

static bool dev_quiet(const struct serve *s)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < s->worker_count; i++)
		n += atomic_load_explicit(&s->worker[i].requests_active, memory_order_relaxed);
	return n <= QUIET_ACTIVE;
}

static bool dev_alone(const struct serve *s)
{
	unsigned n = 0;

	for (unsigned i = 0; i < s->worker_count; i++)
		n += !atomic_load_explicit(&s->worker[i].parked, memory_order_relaxed);
	return n < 2;
}

/* co_run() runs a request until it waits: what did not is done by now. */
static void dev_turn_end(struct serve_worker *w, unsigned reads)
{
	w->company = reads > 1;
	if (reads > 1 || w->active > HELP_ACTIVE) {
		w->lean = 0;
		dev_call_help(w->s);
	} else if (w->lean < LEAN_MIN) {
		w->lean = 0;
		if (dev_alone(w->s)) /* a second one is enough for a lone client */
			dev_call_help(w->s);
	} else if (reads && !w->active) {
		w->lean--;
	} else if (reads && dev_quiet(w->s)) {
		w->lean += LEAN_WAITED;
	}
	if (w->lean <= LEAN_MAX)
		return;
	w->lean = 0;
	if (w->index == w->s->leader)
		dev_send_home(w->s);
	else
		dev_park(w);
}

static void dev_ready(int fd, uint32_t events, void *arg)
{
	struct serve_worker *w = arg;
	unsigned reads = 0;

	(void)events;
	while (reads < READS_PER_TURN && dev_try_more(w, reads)) {
		struct fuse_rq *rq;
		ssize_t n;

		if (atomic_load_explicit(&w->s->ending, memory_order_relaxed) ||
		    w->active >= SERVE_ACTIVE_MAX) {
			dev_pause(w);
			return;
		}
		rq = serve_rq_get(w);
		if (!rq)
			return; /* out of memory: called again */
		n = read(fd, rq->in, SERVE_IN_BYTES + SERVE_WRITE_MAX);
		if (n < 0) {
			int err = errno;

			serve_rq_put(rq);
			if (dev_read_failed(w, err)) {
				dev_pause(w);
				return;
			}
			if (err == EAGAIN)
				break;
			continue;
		}
		reads++;
		rq->len = (size_t)n;
		serve_request(rq);
	}
	dev_turn_end(w, reads);
}

static int dev_poll(struct serve_worker *w)
{
	w->poll = reactor_poll(w->reactor, w->fd, POLLIN, dev_ready, w);
	return w->poll ? 0 : -ENOMEM;
}

static int dev_start(struct serve_worker *w)
{
	w->paused = false;
	if (w->index == w->s->leader)
		return dev_poll(w);
	dev_park(w);
	return 0;
}

static void dev_help(struct serve_worker *w)
{
	if (!atomic_load(&w->parked)) {
		dev_park(w);
		return;
	}
	if (dev_poll(w)) /* no memory: the others go on */
		dev_park(w);
	else
		atomic_store(&w->parked, false);
	atomic_store(&w->wanted, false);
	atomic_store(&w->unwanted, false);
}

static void dev_stop(struct serve_worker *w)
{
	if (w->poll)
		reactor_unpoll(w->poll);
	w->poll = NULL;
	w->paused = true;
}

static void dev_resume(struct serve_worker *w)
{
	if (w->paused && !atomic_load(&w->s->ending) && dev_start(w))
		serve_end(w->s, SERVE_END_FAILED, -ENOMEM);
}

static ssize_t dev_reply(struct serve_worker *w, struct fuse_rq *rq, const struct iovec *iov, int n)
{
	ssize_t r;

	(void)rq;
	do {
		r = writev(w->fd, iov, n);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

const struct serve_transport_ops serve_dev_ops = {
	.name = "dev",
	.start = dev_start,
	.stop = dev_stop,
	.reply = dev_reply,
	.done = serve_rq_put,
	.resume = dev_resume,
	.help = dev_help,
};
