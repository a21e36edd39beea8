/* reactor_threads: threads that each run one real reactor. Start and stop from the same thread. */
#ifndef TARN_TOOLS_REACTOR_THREADS_H
#define TARN_TOOLS_REACTOR_THREADS_H
#include <pthread.h>
#include "base/err.h"
#include "base/reactor.h"

#define REACTOR_THREADS_MAX 64

struct reactor_threads {
	unsigned n;
	struct reactor *r[REACTOR_THREADS_MAX];
	pthread_t thread[REACTOR_THREADS_MAX];
};

/* n threads named NAME/0, NAME/1, ...; every reactor is made by its own thread. */
int reactor_threads_start(struct reactor_threads *t, unsigned n, const char *name, struct err *e);
/* Stop and join all, destroy the reactors. Nothing may run on them any more. */
void reactor_threads_stop(struct reactor_threads *t);
/* Cores this process may use. */
unsigned reactor_threads_cores(void);

#endif
