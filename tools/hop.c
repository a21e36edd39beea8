#include "tools/hop.h"
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <time.h>

#define TICK_NS		     200000000L
#define PRIVATE_RING_ENTRIES 256

struct hop {
	hop_fn *fn;
	void *arg;
	int rc;
	bool done;
	pthread_mutex_t mutex;
	pthread_cond_t cond;
};

static void hop_co(void *arg)
{
	struct hop *h = arg;
	int rc = h->fn(h->arg);
	pthread_mutex_lock(&h->mutex);
	h->rc = rc;
	h->done = true;
	pthread_cond_signal(&h->cond);
	pthread_mutex_unlock(&h->mutex);
}

int hop_run(struct reactor *r, hop_fn *fn, void *arg, hop_tick_fn *tick, void *tick_arg)
{
	struct hop h = {.fn = fn, .arg = arg};
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&h.mutex, NULL);
	pthread_cond_init(&h.cond, &attr);
	pthread_condattr_destroy(&attr);

	int rc = co_spawn(r, hop_co, &h);
	if (rc)
		goto out;
	pthread_mutex_lock(&h.mutex);
	while (!h.done) {
		if (!tick) {
			pthread_cond_wait(&h.cond, &h.mutex);
			continue;
		}
		struct timespec ts;
		clock_gettime(CLOCK_MONOTONIC, &ts);
		ts.tv_nsec += TICK_NS;
		if (ts.tv_nsec >= 1000000000L) {
			ts.tv_nsec -= 1000000000L;
			ts.tv_sec++;
		}
		if (pthread_cond_timedwait(&h.cond, &h.mutex, &ts) == ETIMEDOUT && !h.done) {
			pthread_mutex_unlock(&h.mutex);
			tick(tick_arg);
			pthread_mutex_lock(&h.mutex);
		}
	}
	pthread_mutex_unlock(&h.mutex);
	rc = h.rc;
out:
	pthread_cond_destroy(&h.cond);
	pthread_mutex_destroy(&h.mutex);
	return rc;
}

struct private_run {
	hop_fn *fn;
	void *arg;
	int rc;
};

static void private_co(void *arg)
{
	struct private_run *p = arg;
	p->rc = p->fn(p->arg);
	reactor_stop(reactor_current());
}

int hop_private(hop_fn *fn, void *arg)
{
	struct private_run p = {.fn = fn, .arg = arg};
	struct reactor *r;
	int rc = reactor_uring_create(PRIVATE_RING_ENTRIES, &r);
	if (rc)
		return rc;
	rc = co_spawn(r, private_co, &p);
	if (!rc) {
		reactor_run(r);
		rc = p.rc;
	}
	reactor_destroy(r);
	return rc;
}
