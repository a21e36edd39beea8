#include "tools/reactor_threads.h"
#include <errno.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define RING_ENTRIES 1024

struct starter {
	const char *name;
	unsigned index;
	struct reactor **ret_r;
	int rc;
	sem_t ready;
};

static void *thread_main(void *arg)
{
	struct starter *s = arg;
	char name[32];
	snprintf(name, sizeof(name), "%.10s/%u", s->name, s->index);
	pthread_setname_np(pthread_self(), name);

	struct reactor *r = NULL;
	s->rc = reactor_uring_create(RING_ENTRIES, &r);
	*s->ret_r = r;
	int rc = s->rc;
	sem_post(&s->ready); /* s is gone after this */
	if (!rc)
		reactor_run(r);
	return NULL;
}

/* A thread of a daemon handles no signals: the main thread reads them from a signalfd. */
static int thread_start(pthread_t *t, struct starter *s)
{
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int rc = -pthread_create(t, NULL, thread_main, s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return rc;
}

int reactor_threads_start(struct reactor_threads *t, unsigned n, const char *name, struct err *e)
{
	t->n = 0;
	for (unsigned i = 0; i < n; i++) {
		struct starter s = {.name = name, .index = i, .ret_r = &t->r[i]};
		sem_init(&s.ready, 0, 0);
		int rc = thread_start(&t->thread[i], &s);
		if (!rc) {
			while (sem_wait(&s.ready) && errno == EINTR)
				;
			rc = s.rc;
			if (rc)
				pthread_join(t->thread[i], NULL);
		}
		sem_destroy(&s.ready);
		if (rc) {
			reactor_threads_stop(t);
			return err_set(e, rc, "start worker thread: %s%s", err_str(rc),
				       rc == -EPERM || rc == -ENOSYS
					       ? "; io_uring is not allowed "
						 "here, see sysctl kernel.io_uring_disabled"
					       : "");
		}
		t->n = i + 1;
	}
	return 0;
}

void reactor_threads_stop(struct reactor_threads *t)
{
	for (unsigned i = 0; i < t->n; i++)
		reactor_stop(t->r[i]);
	for (unsigned i = 0; i < t->n; i++) {
		pthread_join(t->thread[i], NULL);
		reactor_destroy(t->r[i]);
	}
	t->n = 0;
}

unsigned reactor_threads_cores(void)
{
	cpu_set_t set;
	if (sched_getaffinity(0, sizeof(set), &set))
		return 1;
	unsigned n = (unsigned)CPU_COUNT(&set);
	return n < 1 ? 1 : n > REACTOR_THREADS_MAX ? REACTOR_THREADS_MAX : n;
}
