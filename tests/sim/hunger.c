/* hunger: allocations of the pool that fail while memory is short. Linked with the pool library
 * that is built with alloc_hook.h. */
#define ALLOC_HOOK_OFF
#include <errno.h>
#include "tests/fault/alloc_hook.h"
#include "tests/sim/cover.h"
#include "tests/sim/hunger.h"

static struct world *hungry;
static struct sim_rng rng;

void hunger_init(struct world *w)
{
	hungry = w;
	rng = rng_of(w->seed, 98);
}

static bool in_request(const struct world *w)
{
	struct co *me = co_self();
	for (unsigned i = 0; me && i < w->nworkers; i++)
		if (w->worker[i]->co == me && !w->worker[i]->done)
			return true;
	return false;
}

static bool fails(void)
{
	struct world *w = hungry;
	if (!w || !w->hungry_until_ns || w->r->ops->now_ns(w->r) >= w->hungry_until_ns)
		return false;
	if (w->hunger != HUNGER_ALL && !in_request(w))
		return false;
	if (!rng_chance(&rng, 1, 4))
		return false;
	cover_hit(COVER_NOMEM);
	return true;
}

void *hook_malloc(size_t size)
{
	return fails() ? NULL : malloc(size);
}

void *hook_calloc(size_t n, size_t size)
{
	return fails() ? NULL : calloc(n, size);
}

void *hook_realloc(void *p, size_t size)
{
	return fails() ? NULL : realloc(p, size);
}

void *hook_aligned_alloc(size_t align, size_t size)
{
	return fails() ? NULL : aligned_alloc(align, size);
}

int hook_co_spawn(struct reactor *r, co_fn *fn, void *arg)
{
	return fails() ? -ENOMEM : co_spawn(r, fn, arg);
}
