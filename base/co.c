/* glibc's fortified longjmp refuses to jump "up" the stack, which is what a switch between stacks
 * looks like to it. */
#undef _FORTIFY_SOURCE
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>
#include "base/co_impl.h"
#include "base/reactor.h"

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define VALGRIND_STACK_REGISTER(start, end) ((void)(start), (void)(end), 0u)
#define VALGRIND_STACK_DEREGISTER(id)	    ((void)(id))
#endif

#if defined(__has_feature) && !defined(__SANITIZE_ADDRESS__)
#if __has_feature(address_sanitizer) /* clang's way of saying it */
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define CO_MAP_BYTES (256u << 10)
#else
#define CO_MAP_BYTES (64u << 10)
#endif

#define CO_GUARD_BYTES 4096u
#define CO_IDLE_MAX    256u  /* stacks a reactor keeps for itself */
#define CO_POOL_MAX    4096u /* stacks the process keeps for all */

__thread int lock_depth;

/* The scheduler side of a thread: where a yielding coroutine returns to. */
struct sched {
	sigjmp_buf env;
	struct co *running;
	void *asan_fake;
	const void *asan_bottom;
	size_t asan_bytes;
};

static __thread struct sched sched;

/* noinline: the compiler may not keep the address of a thread-local across a switch. */
static __attribute__((noinline)) struct sched *sched_self(void)
{
	struct sched *s = &sched;
	__asm__ volatile("" : "+r"(s));
	return s;
}

/* ---- what the sanitizer wants to know ---- */

#ifdef __SANITIZE_ADDRESS__
static void asan_enter_co(struct sched *s, struct co *c)
{
	__sanitizer_start_switch_fiber(&s->asan_fake, c->stack, c->stack_bytes);
}

static void asan_entered_co(struct sched *s, struct co *c)
{
	__sanitizer_finish_switch_fiber(c->asan_fake, &s->asan_bottom, &s->asan_bytes);
	c->asan_fake = NULL;
}

static void asan_leave_co(struct sched *s, struct co *c)
{
	/* NULL: the fiber ends and its fake stack is freed */
	__sanitizer_start_switch_fiber(c->finished ? NULL : &c->asan_fake, s->asan_bottom,
				       s->asan_bytes);
}

static void asan_left_co(struct sched *s)
{
	__sanitizer_finish_switch_fiber(s->asan_fake, NULL, NULL);
}

static void asan_clean_stack(struct co *c)
{
	__asan_unpoison_memory_region(c->stack, c->stack_bytes);
}
#else
static void asan_enter_co(struct sched *s, struct co *c)
{
	(void)s;
	(void)c;
}
static void asan_entered_co(struct sched *s, struct co *c)
{
	(void)s;
	(void)c;
}
static void asan_leave_co(struct sched *s, struct co *c)
{
	(void)s;
	(void)c;
}
static void asan_left_co(struct sched *s)
{
	(void)s;
}
static void asan_clean_stack(struct co *c)
{
	(void)c;
}
#endif

/* ---- stacks: a list per reactor without locking, then the process's pool, then mmap ---- */

static pthread_mutex_t pool_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct co *pool_head;
static unsigned pool_count;

static struct co *co_map(void)
{
	char *map = mmap(NULL, CO_MAP_BYTES, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
	if (map == MAP_FAILED)
		return NULL;
	if (mprotect(map, CO_GUARD_BYTES, PROT_NONE)) {
		munmap(map, CO_MAP_BYTES);
		return NULL;
	}
	size_t co_bytes = (sizeof(struct co) + 63) & ~(size_t)63;
	struct co *c = (struct co *)(void *)(map + CO_MAP_BYTES - co_bytes);
	c->stack = map + CO_GUARD_BYTES;
	c->stack_bytes = CO_MAP_BYTES - CO_GUARD_BYTES - co_bytes;
	c->valgrind_id = VALGRIND_STACK_REGISTER(c->stack, c);
	return c;
}

static void co_unmap(struct co *c)
{
	VALGRIND_STACK_DEREGISTER(c->valgrind_id);
	asan_clean_stack(c);
	munmap((char *)c->stack - CO_GUARD_BYTES, CO_MAP_BYTES);
}

static struct co *pool_take(void)
{
	pthread_mutex_lock(&pool_mutex);
	struct co *c = pool_head;
	if (c) {
		pool_head = c->next;
		pool_count--;
	}
	pthread_mutex_unlock(&pool_mutex);
	return c;
}

static void pool_give(struct co *c)
{
	pthread_mutex_lock(&pool_mutex);
	bool keep = pool_count < CO_POOL_MAX;
	if (keep) {
		c->next = pool_head;
		pool_head = c;
		pool_count++;
	}
	pthread_mutex_unlock(&pool_mutex);
	if (!keep)
		co_unmap(c);
}

static struct co *co_alloc(struct reactor *r, co_fn *fn, void *arg)
{
	struct co *c = NULL;
	if (reactor_current() == r && r->idle_head) {
		c = r->idle_head;
		r->idle_head = c->next;
		r->idle_count--;
	}
	if (!c)
		c = pool_take();
	if (!c)
		c = co_map();
	if (!c)
		return NULL;
	c->next = NULL;
	c->r = r;
	c->fn = fn;
	c->arg = arg;
	c->finished = false;
	c->linked = false;
	__atomic_store_n(&c->queued, true, __ATOMIC_RELEASE); /* to be run */
	return c;
}

/* `queued` stays true in an idle stack, so that a wake of a coroutine that ended is caught. */
static void co_recycle(struct co *c)
{
	struct reactor *r = c->r;
	if (reactor_current() != r || r->idle_count >= CO_IDLE_MAX) {
		pool_give(c);
		return;
	}
	c->next = r->idle_head;
	r->idle_head = c;
	r->idle_count++;
}

void co_flush_idle(struct reactor *r)
{
	for (struct co *c; (c = r->idle_head);) {
		r->idle_head = c->next;
		pool_give(c);
	}
	r->idle_count = 0;
}

static void co_link(struct co *c)
{
	c->linked = true;
	c->all_prev = NULL;
	c->all_next = c->r->all;
	if (c->all_next)
		c->all_next->all_prev = c;
	c->r->all = c;
}

static void co_unlink(struct co *c)
{
	if (c->all_prev)
		c->all_prev->all_next = c->all_next;
	else
		c->r->all = c->all_next;
	if (c->all_next)
		c->all_next->all_prev = c->all_prev;
	c->linked = false;
}

/* ---- switching ---- */

/* Suspend c: back to the scheduler; returns when c is resumed. */
static __attribute__((noinline)) void co_leave(struct co *c)
{
	if (!sigsetjmp(c->env, 0)) {
		struct sched *s = sched_self();
		asan_leave_co(s, c);
		siglongjmp(s->env, 1);
	}
	asan_entered_co(sched_self(), sched_self()->running);
}

/* First frame of every stack. A stack that is reused continues in the loop with its new fn. */
static void co_main(unsigned low, unsigned high)
{
	struct co *c = (struct co *)((uintptr_t)low | (uintptr_t)high << 32);
	asan_entered_co(sched_self(), c);
	for (;;) {
		c->fn(c->arg);
		assert(lock_depth == 0);
		assert(!__atomic_load_n(&c->queued, __ATOMIC_ACQUIRE)); /* a wake without a yield */
		c->finished = true;
		co_leave(c);
	}
}

/* Begin c on its empty stack. Done here and not in co_alloc() because a context carries the signal
 * mask of the thread that made it. Never returns, so no sanitizer: its frame's red zones would stay
 * behind on the scheduler's stack. */
static __attribute__((noinline, no_sanitize("address"))) void co_start(struct co *c)
{
	ucontext_t uc;
	if (getcontext(&uc))
		abort(); /* cannot fail on Linux */
	uc.uc_stack.ss_sp = c->stack;
	uc.uc_stack.ss_size = c->stack_bytes;
	uc.uc_link = NULL;
	uintptr_t p = (uintptr_t)c;
	makecontext(&uc, (void (*)(void))co_main, 2, (unsigned)p, (unsigned)(p >> 32));
	c->started = true;
	c->asan_fake = NULL;
	asan_clean_stack(c);
	asan_enter_co(sched_self(), c);
	setcontext(&uc);
	abort(); /* cannot fail with a context just made */
}

static __attribute__((noinline)) void co_switch_to(struct co *c)
{
	if (!sigsetjmp(sched_self()->env, 0)) {
		if (!c->started)
			co_start(c);
		asan_enter_co(sched_self(), c);
		siglongjmp(c->env, 1);
	}
	asan_left_co(sched_self());
}

void co_resume(struct co *c)
{
	struct sched *s = sched_self();
	assert(!s->running);
	assert(reactor_current() == c->r);
	if (!c->linked)
		co_link(c);
	s->running = c;
	__atomic_store_n(&c->queued, false, __ATOMIC_RELEASE);
	co_switch_to(c);
	s->running = NULL;
	if (!c->finished)
		return;
	co_unlink(c);
	__atomic_store_n(&c->queued, true, __ATOMIC_RELEASE);
	co_recycle(c);
}

/* ---- interface ---- */

struct co *co_self(void)
{
	return sched_self()->running;
}

int co_spawn(struct reactor *r, co_fn *fn, void *arg)
{
	struct co *c = co_alloc(r, fn, arg);
	if (!c)
		return -ENOMEM;
	reactor_make_ready(r, c);
	return 0;
}

int co_run(co_fn *fn, void *arg)
{
	struct co *c = co_alloc(reactor_current(), fn, arg);
	if (!c)
		return -ENOMEM;
	co_resume(c);
	return 0;
}

void co_yield (void)
{
	struct co *c = co_self();
	assert(c);
	assert(lock_depth == 0); /* law 5 */
	co_leave(c);
}

void co_wake(struct co *c)
{
	bool was_queued = __atomic_exchange_n(&c->queued, true, __ATOMIC_ACQ_REL);
	assert(!was_queued); /* woken twice, or woken after its end */
	(void)was_queued;
	reactor_make_ready(c->r, c);
}

void co_sleep_ns(uint64_t ns)
{
	struct co *c = co_self();
	uint64_t at_ns;
	if (__builtin_add_overflow(c->r->ops->now_ns(c->r), ns, &at_ns))
		at_ns = UINT64_MAX;
	c->r->ops->timer(c->r, c, at_ns);
	co_yield ();
}

void waitq_wait(struct waitq *q, struct lock *l)
{
	lock_assert_held(l);
	struct co_waiter w = {.co = co_self()};
	if (q->tail)
		q->tail->next = &w;
	else
		q->head = &w;
	q->tail = &w;
	lock_drop(l);
	co_yield (); /* who wakes us has taken w off the list */
	lock_take(l);
}

void waitq_wake_one(struct waitq *q)
{
	struct co_waiter *w = q->head;
	if (!w)
		return;
	q->head = w->next;
	if (!q->head)
		q->tail = NULL;
	co_wake(w->co); /* w is on that coroutine's stack: not to be touched any more */
}

void waitq_wake_all(struct waitq *q)
{
	while (q->head)
		waitq_wake_one(q);
}

void co_abandon_all(struct reactor *r)
{
	assert(!co_self() || co_self()->r != r);
	reactor_take_remote(r);
	/* those that never ran are on the ready list only */
	for (struct co *c = r->ready_head, *next; c; c = next) {
		next = c->next;
		if (!c->linked)
			co_recycle(c);
	}
	r->ready_head = r->ready_tail = NULL;
	for (struct co *c; (c = r->all);) {
		co_unlink(c);
		c->started = false; /* its stack holds the frames of a dead run */
		__atomic_store_n(&c->queued, true, __ATOMIC_RELEASE);
		co_recycle(c);
	}
}
