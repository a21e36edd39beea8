/* Ask the kernel to write an inode's dirty pages back. The only request that does so is to
 * invalidate them, and it waits inside write(2) for our own answers: so a thread of its own makes
 * it, never a worker. Rare (lseek for holes in a file that is open for writing), so the thread
 * lives for one call.
 */
#include <errno.h>
#include <pthread.h>
#include "base/co.h"
#include "fs/fuse_serve.h"

struct call {
	struct serve *s;
	uint64_t ino;
	struct co *co;
};

static void *call_main(void *arg)
{
	struct call *c = arg;

	struct fuse_notify_inval_inode_out out = {.ino = c->ino}; /* off 0, len 0: all of it */
	struct fuse_out_header head = {.error = FUSE_NOTIFY_INVAL_INODE,
				       .len = sizeof head + sizeof out};
	struct iovec iov[2] = {{&head, sizeof head}, {&out, sizeof out}};

	/* Not under the session's lock: this waits for requests that our workers serve. The
	 * descriptor stays, since the request that asked is not answered yet. */
	while (writev(c->s->worker[0].fd, iov, 2) < 0 && errno == EINTR)
		; /* other failures: nothing is cached there, or the session ends */
	co_wake(c->co);
	return NULL;
}

static void turn_take(struct serve *s)
{
	lock_take(&s->lock);
	while (s->write_backs >= SERVE_WRITE_BACKS_MAX)
		waitq_wait(&s->write_back_wait, &s->lock);
	s->write_backs++;
	lock_drop(&s->lock);
}

static void turn_end(struct serve *s)
{
	lock_take(&s->lock);
	s->write_backs--;
	waitq_wake_one(&s->write_back_wait);
	lock_drop(&s->lock);
}

int serve_write_back(struct fuse_rq *rq, uint64_t ino)
{
	struct serve *s = rq->w->s;
	struct serve_places *places = rq->places ? rq->places : &s->places;
	struct call c = {s, ino, co_self()};
	pthread_attr_t attr;
	pthread_t t;

	if (atomic_fetch_add(&places->held, 1) >= places->most) {
		atomic_fetch_sub(&places->held, 1);
		return -EBUSY;
	}
	turn_take(s);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	if (!pthread_create(&t, &attr, call_main, &c))
		co_yield (); /* without a thread the answer may miss what is dirty, no more */
	pthread_attr_destroy(&attr);
	turn_end(s);
	atomic_fetch_sub(&places->held, 1);
	return 0;
}
