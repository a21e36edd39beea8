/* run_here: a coroutine on a reactor of the test's own thread. After cmocka.h. */
#ifndef TARN_TESTS_RUN_HERE_H
#define TARN_TESTS_RUN_HERE_H
#include "base/co.h"
#include "base/reactor.h"

#define MS 1000000ull

/* Run fn(arg) as a coroutine on a fresh reactor of this thread; fn ends with reactor_stop(). */
static inline void run_here(co_fn *fn, void *arg)
{
	struct reactor *r;
	assert_int_equal(reactor_uring_create(8, &r), 0);
	assert_int_equal(co_spawn(r, fn, arg), 0);
	reactor_run(r);
	reactor_destroy(r);
}

static inline void stop_here(void)
{
	reactor_stop(reactor_current());
}

#endif
