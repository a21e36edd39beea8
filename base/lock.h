/* lock: a mutex that knows it must never be held across I/O (law 5).
 *
 * A thread-local depth counts held locks; co_yield() asserts that it is zero.
 * Threads: any. Cost: one uncontended pthread mutex operation.
 */
#ifndef TARN_BASE_LOCK_H
#define TARN_BASE_LOCK_H
#include <assert.h>
#include <pthread.h>
#include <stdbool.h>

struct lock {
	pthread_mutex_t m;
	pthread_t owner;
	bool held;
};

extern __thread int lock_depth;

static inline void lock_init(struct lock *l)
{
	pthread_mutex_init(&l->m, NULL);
	l->held = false;
}

static inline void lock_fini(struct lock *l)
{
	pthread_mutex_destroy(&l->m);
}

static inline void lock_take(struct lock *l)
{
	pthread_mutex_lock(&l->m);
	l->owner = pthread_self();
	l->held = true;
	lock_depth++;
}

static inline void lock_drop(struct lock *l)
{
	l->held = false;
	lock_depth--;
	pthread_mutex_unlock(&l->m);
}

static inline void lock_assert_held(struct lock *l)
{
	assert(l->held && pthread_equal(l->owner, pthread_self()));
}

#endif
