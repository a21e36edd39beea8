/* The transport that reads requests from /dev/fuse and writes replies to it. Each worker has a
 * clone of the device; a reply goes to the clone its request came from, as the kernel wants it.
 */
#include <errno.h>
#include <poll.h>
#include <unistd.h>
#include "fs/fuse_serve.h"

#define READS_PER_TURN 64

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

static void dev_ready(int fd, uint32_t events, void *arg)
{
	struct serve_worker *w = arg;

	(void)events;
	for (unsigned i = 0; i < READS_PER_TURN; i++) {
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
			if (dev_read_failed(w, err))
				dev_pause(w);
			if (err == EAGAIN || w->paused)
				return;
			continue;
		}
		rq->len = (size_t)n;
		serve_request(rq);
	}
}

static int dev_start(struct serve_worker *w)
{
	w->paused = false;
	w->poll = reactor_poll(w->reactor, w->fd, POLLIN, dev_ready, w);
	return w->poll ? 0 : -ENOMEM;
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
};
