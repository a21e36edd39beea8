#include <assert.h>
#include <stdlib.h>
#include "tests/sim/sim_reactor.h"
#include "tests/sim/sim_rng.h"

#define WALL_EPOCH_NS (1700000000ull * SIM_SEC)

struct sim_event {
	uint64_t at_ns, tie;
	sim_event_fn *fn;
	void *arg;
};

struct sim_reactor {
	struct reactor base;
	struct sim_rng rng;
	uint64_t now_ns, wall_base_ns, steps;
	struct sim_event *heap;
	size_t count, cap;
	bool halted, in_order;
	sim_event_fn *watch;
	void *watch_arg;
};

static struct sim_reactor *of(struct reactor *r)
{
	return (struct sim_reactor *)(void *)r;
}

/* ---- the heap of events ---- */

static bool before(const struct sim_event *a, const struct sim_event *b)
{
	return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->tie < b->tie;
}

static void heap_swap(struct sim_event *a, struct sim_event *b)
{
	struct sim_event t = *a;
	*a = *b;
	*b = t;
}

static void heap_push(struct sim_reactor *s, struct sim_event ev)
{
	if (s->count == s->cap) {
		s->cap = s->cap ? s->cap * 2 : 64;
		s->heap = realloc(s->heap, s->cap * sizeof(*s->heap));
		if (!s->heap)
			abort();
	}
	size_t i = s->count++;
	s->heap[i] = ev;
	while (i && before(&s->heap[i], &s->heap[(i - 1) / 2])) {
		heap_swap(&s->heap[i], &s->heap[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
}

static struct sim_event heap_pop(struct sim_reactor *s)
{
	struct sim_event ev = s->heap[0];
	s->heap[0] = s->heap[--s->count];
	for (size_t i = 0;;) {
		size_t c = 2 * i + 1;
		if (c >= s->count)
			break;
		if (c + 1 < s->count && before(&s->heap[c + 1], &s->heap[c]))
			c++;
		if (!before(&s->heap[c], &s->heap[i]))
			break;
		heap_swap(&s->heap[c], &s->heap[i]);
		i = c;
	}
	return ev;
}

/* ---- what a reactor does ---- */

static uint64_t sim_now_ns(struct reactor *r)
{
	return of(r)->now_ns;
}

static uint64_t sim_wall_ns(struct reactor *r)
{
	return of(r)->wall_base_ns + of(r)->now_ns;
}

static void wake_event(void *co)
{
	co_wake(co);
}

static void sim_timer(struct reactor *r, struct co *c, uint64_t at_ns)
{
	sim_reactor_at(r, at_ns, wake_event, c);
}

static void sim_notify(struct reactor *r)
{
	(void)r; /* one thread: nobody sleeps */
}

static void sim_destroy(struct reactor *r)
{
	free(of(r)->heap);
	reactor_fini(r);
	free(of(r));
}

static const struct reactor_ops sim_ops = {
	.now_ns = sim_now_ns,
	.wall_ns = sim_wall_ns,
	.timer = sim_timer,
	.notify = sim_notify,
	.destroy = sim_destroy,
};

struct reactor *sim_reactor_create(uint64_t seed)
{
	struct sim_reactor *s = calloc(1, sizeof(*s));
	if (!s)
		abort();
	reactor_init(&s->base, &sim_ops);
	s->rng = rng_of(seed, 1);
	s->now_ns = 1000 * SIM_SEC;
	s->wall_base_ns = WALL_EPOCH_NS;
	return &s->base;
}

void sim_reactor_at(struct reactor *r, uint64_t at_ns, sim_event_fn *fn, void *arg)
{
	struct sim_reactor *s = of(r);
	heap_push(s, (struct sim_event){at_ns, rng_next(&s->rng), fn, arg});
}

/* One coroutine, any of the ready ones, up to its next yield. */
static bool run_ready_one(struct sim_reactor *s)
{
	unsigned n = reactor_ready_count(&s->base);
	if (!n)
		return false;
	if (n > 1 && !s->in_order)
		reactor_rotate_ready(&s->base, (unsigned)rng_below(&s->rng, n));
	return reactor_run_one(&s->base);
}

static enum sim_end run_loop(struct sim_reactor *s, sim_cond_fn *cond, void *arg,
			     uint64_t deadline_ns)
{
	for (;;) {
		if (s->watch)
			s->watch(s->watch_arg);
		if (s->halted)
			return SIM_HALTED;
		if (cond && cond(arg))
			return SIM_DONE;
		s->steps++;
		/* Now and then time passes although somebody could run. */
		bool late = s->count && !s->in_order && rng_chance(&s->rng, 1, 16);
		if (!late && run_ready_one(s))
			continue;
		if (!s->count)
			return SIM_IDLE;
		if (s->heap[0].at_ns > deadline_ns) {
			if (late && run_ready_one(s))
				continue;
			return SIM_LATE;
		}
		struct sim_event ev = heap_pop(s);
		if (ev.at_ns > s->now_ns)
			s->now_ns = ev.at_ns;
		ev.fn(ev.arg);
	}
}

enum sim_end sim_reactor_run(struct reactor *r, sim_cond_fn *cond, void *arg, uint64_t deadline_ns)
{
	struct sim_reactor *s = of(r);
	s->halted = false;
	reactor_enter(r);
	enum sim_end end = run_loop(s, cond, arg, deadline_ns);
	reactor_leave();
	return end;
}

struct call {
	co_fn *fn;
	void *arg;
	bool done;
};

static void call_main(void *arg)
{
	struct call *c = arg;
	c->fn(c->arg);
	c->done = true;
}

static bool call_done(void *arg)
{
	return ((struct call *)arg)->done;
}

enum sim_end sim_reactor_call(struct reactor *r, co_fn *fn, void *arg, uint64_t timeout_ns)
{
	struct call c = {fn, arg, false};
	if (co_spawn(r, call_main, &c))
		abort();
	return sim_reactor_run(r, call_done, &c, of(r)->now_ns + timeout_ns);
}

void sim_reactor_watch(struct reactor *r, sim_event_fn *fn, void *arg)
{
	of(r)->watch = fn;
	of(r)->watch_arg = arg;
}

void sim_reactor_in_order(struct reactor *r)
{
	of(r)->in_order = true;
}

void sim_reactor_halt(struct reactor *r)
{
	of(r)->halted = true;
}

void sim_reactor_crash(struct reactor *r)
{
	co_abandon_all(r);
	of(r)->count = 0;
}

void sim_reactor_skip(struct reactor *r, uint64_t ns)
{
	of(r)->now_ns += ns;
}

void sim_reactor_jump_wall(struct reactor *r, int64_t ns)
{
	of(r)->wall_base_ns += (uint64_t)ns;
}

uint64_t sim_reactor_steps(struct reactor *r)
{
	return of(r)->steps;
}
