/* co: stackful coroutines, each bound to one reactor (one thread).
 *
 * A request runs as a coroutine: straight-line code that yields while its I/O is under way. It is
 * always resumed on the thread it started on (law 6) and never holds a lock across a yield (law 5,
 * asserted). Stacks come from a per-process pool and are reused; each has a guard page.
 *
 * Invariants:
 *  1. a coroutine is resumed only by its reactor's thread, and only while it is yielded;
 *  2. every co_yield() is matched by exactly one co_wake();
 *  3. a wake that arrives before the yield is kept (the coroutine is queued as ready).
 *
 * Switching: created with makecontext, switched with sigsetjmp/siglongjmp without signal mask, so a
 * switch makes no system call. ASan is told about every switch.
 */
#ifndef TARN_BASE_CO_H
#define TARN_BASE_CO_H
#include <stdbool.h>
#include <stdint.h>
#include "base/lock.h"

struct co;
struct reactor;
typedef void co_fn(void *arg);

/* Start fn(arg) as a coroutine on reactor r: queued, run at its next turn. Any thread.
 * 0 or -ENOMEM. */
int co_spawn(struct reactor *r, co_fn *fn, void *arg);

/* Run fn(arg) as a coroutine of the current reactor at once, until its first yield. Only from a
 * reactor thread outside any coroutine (an event callback). 0 or -ENOMEM. */
int co_run(co_fn *fn, void *arg);

/* The running coroutine, or NULL outside one. */
struct co *co_self(void);

/* Suspend the running coroutine until co_wake(). No lock may be held. */
void co_yield (void);

/* Make a yielded (or about to yield) coroutine ready. Any thread; once per yield. */
void co_wake(struct co *c);

/* Suspend for at least ns nanoseconds of the environment's clock (virtual in the simulator). */
void co_sleep_ns(uint64_t ns);

/* A list of coroutines waiting for a condition. All fields guarded by the lock passed in. */
struct co_waiter {
	struct co *co;
	struct co_waiter *next;
};
struct waitq {
	struct co_waiter *head, *tail;
};

/* Drop l, suspend until woken, take l again. The caller rechecks its condition. */
void waitq_wait(struct waitq *q, struct lock *l);
/* Wake the first / all waiters. The lock that guards q is held. */
void waitq_wake_one(struct waitq *q);
void waitq_wake_all(struct waitq *q);
static inline bool waitq_empty(const struct waitq *q)
{
	return !q->head;
}

/* Forget all coroutines of a reactor without running them, as a crash does; their stacks are
 * returned to the pool. Only for simulators, from outside any coroutine of r. */
void co_abandon_all(struct reactor *r);

#endif
