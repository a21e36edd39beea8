/* co_impl: the inside of a coroutine, for base/ only (co.c, reactor*.c). */
#ifndef TARN_BASE_CO_IMPL_H
#define TARN_BASE_CO_IMPL_H
#include <setjmp.h>
#include <stddef.h>
#include "base/co.h"

/* Lives at the top of its own stack mapping:
 *
 *   map                                                       map + CO_MAP_BYTES
 *   | guard page | stack (grows down) .................. | struct co |
 */
struct co {
	struct co *next;		/* in one of: ready, remote, idle, process pool */
	struct co *all_prev, *all_next; /* in reactor->all while `linked` */
	struct reactor *r;
	co_fn *fn;
	void *arg;
	sigjmp_buf env; /* where to continue; valid when `started` */
	bool started;	/* false: needs a fresh context on its stack */
	bool finished;	/* fn returned */
	bool linked;
	bool queued; /* atomic: a wake is pending */
	void *stack; /* lowest usable byte, above the guard page */
	size_t stack_bytes;
	void *asan_fake; /* ASan's fake stack while suspended */
	unsigned valgrind_id;
	uint64_t timer_at_ns; /* owned by the reactor's timer queue while it sleeps */
	struct co *timer_child, *timer_sibling;
};

/* Run c until its next yield or its end. Own thread, outside any coroutine. */
void co_resume(struct co *c);
/* Give idle stacks a reactor has kept back to the process's pool. */
void co_flush_idle(struct reactor *r);

/* Queue c on its reactor; any thread. c->queued was set by the caller. */
void reactor_make_ready(struct reactor *r, struct co *c);
/* Move what other threads woke to the ready list. Own thread (or nobody running). */
void reactor_take_remote(struct reactor *r);

#endif
