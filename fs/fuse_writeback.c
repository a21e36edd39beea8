/* Ask the kernel to write an inode's dirty pages back. The only request that does so is to
 * invalidate them, and it waits inside write(2) for our own answers: so a thread of its own makes
 * it, never a worker. Rare (lseek for holes in a file that is open for writing), so the thread
 * lives for one call.
 */
#include <errno.h>
#include <pthread.h>
#include "base/co.h"
#include "fs/fuse_serve.h"

#define TURN_NS 200000u /* until one that waits for its turn looks again */

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

int serve_write_back(struct serve *s, uint64_t ino)
{
	struct call c = {s, ino, co_self()};
	pthread_attr_t attr;
	pthread_t t;
	int r;

	if (atomic_fetch_add(&s->write_backs_asked, 1) >= s->write_backs_most) {
		atomic_fetch_sub(&s->write_backs_asked, 1);
		return -EBUSY;
	}
	while (atomic_fetch_add(&s->write_backs, 1) >= SERVE_WRITE_BACKS_MAX) {
		atomic_fetch_sub(&s->write_backs, 1);
		co_sleep_ns(TURN_NS);
	}
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	r = pthread_create(&t, &attr, call_main, &c);
	pthread_attr_destroy(&attr);
	if (!r) /* without a thread the answer may miss what is dirty, no more */
		co_yield ();
	atomic_fetch_sub(&s->write_backs, 1);
	atomic_fetch_sub(&s->write_backs_asked, 1);
	return 0;
}
