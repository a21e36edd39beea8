/* run: the life of one seed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "pool/pool_types.h"
#include "tests/sim/cover.h"
#include "tests/sim/fsvol.h"
#include "tests/sim/sim_reactor.h"
#include "tests/sim/snapvol.h"
#include "tests/sim/world.h"

#define ROUNDS_MAX	 1000u
#define ROUND_TIMEOUT_NS (6 * 3600 * SIM_SEC)

static bool all_done(void *arg)
{
	struct world *w = arg;
	bool done = true;
	for (unsigned i = 0; i < w->nworkers; i++)
		done &= w->worker[i]->done;
	if (done)
		w->stop_chaos = true;
	return done && w->chaos_done && w->admin_done && w->fs_done && w->snap_done;
}

static void spawn(struct world *w)
{
	for (unsigned i = 0; i < w->nworkers; i++) {
		w->worker[i]->done = false;
		w->worker[i]->doing = NULL;
		if (co_spawn(w->r, worker_main, w->worker[i]))
			abort();
	}
	w->stop_chaos = false;
	if (w->fsvol) {
		w->fs_done = false;
		if (co_spawn(w->r, fsvol_main, w))
			abort();
	}
	if (w->snapvol) {
		w->snap_done = false;
		if (co_spawn(w->r, snapvol_main, w))
			abort();
	}
	if (w->administered) {
		w->admin_done = false;
		if (co_spawn(w->r, admin_main, w))
			abort();
	}
	if (w->faults == FAULTS_NONE || w->ndisks < 2)
		return;
	w->chaos_done = false;
	if (co_spawn(w->r, chaos_main, w))
		abort();
}

static void idle(struct world *w)
{
	(void)w;
}

static void export_refused(struct world *w)
{
	struct err e = {0};
	world_close_volumes(w);
	bool ended = !pool_export(w->pool, false, &e);
	if (ended)
		w->pool = NULL;
	if (ended)
		world_fail(w, "the export of a suspended pool says that all is well");
}

/* Memory was short, and the pool has stopped: what was synced is there after a restart. */
static void suspended(struct world *w)
{
	if (!w->hungry_ever)
		world_fail(w, "the pool is suspended");
	cover_hit(COVER_SUSPENDED);
	for (uint64_t i = 1; i <= w->pool->event_seq && i <= EVENTS_KEPT; i++)
		if (!strcmp(w->pool->events[i - 1].kind, "pool-faulted"))
			world_log(w, "%s", w->pool->events[i - 1].text);
	world_call(w, export_refused, "export of a suspended pool");
	world_crash(w);
}

void run_round(struct world *w, uint64_t ops, bool may_crash)
{
	w->ops_left = ops;
	world_arm(w, may_crash ? 4000 : 0);
	spawn(w);
	enum sim_end end =
		sim_reactor_run(w->r, all_done, w, w->r->ops->now_ns(w->r) + ROUND_TIMEOUT_NS);
	if (end == SIM_IDLE || end == SIM_LATE) {
		char text[512];
		world_fail(w, "hang in a round (%s):%s", end == SIM_IDLE ? "idle" : "late",
			   world_doing(w, text, sizeof(text)));
	}
	if (end == SIM_HALTED) {
		world_crash(w);
		return;
	}
	world_arm(w, 0);
	if (w->pool->faulted) {
		suspended(w);
		return;
	}
	/* The round ended well: pull the plug anyway, export cleanly, or go on. */
	uint64_t dice = rng_below(&w->rng, 4);
	if (dice < 2 && may_crash)
		world_crash(w);
	else if (dice == 2 && w->victim < 0)
		world_export(w);
	else
		world_call(w, idle, "idle");
}

void run_seed(uint64_t seed, const struct sim_opts *opt)
{
	struct world *w = world_create(seed, opt);
	cover_hit(COVER_SEEDS);
	world_log(w, "seed %llu: %u disks, faults %d, %u workers, delta %llu, cache %llu",
		  (unsigned long long)seed, w->ndisks, w->faults, w->nworkers,
		  (unsigned long long)w->popt.delta_bytes, (unsigned long long)w->popt.cache_bytes);
	world_start(w);
	uint64_t rounds = rng_range(&w->rng, 2, 4);
	uint64_t fill_round = rng_chance(&w->rng, 1, 8) ? rng_below(&w->rng, 3) : UINT64_MAX;
	/* Many short histories, some long ones. */
	uint64_t all = rng_chance(&w->rng, 1, 16)  ? opt->ops * 6
		       : rng_chance(&w->rng, 1, 2) ? opt->ops / 2
						   : opt->ops;
	uint64_t left = all;
	for (uint64_t i = 0; left && i < ROUNDS_MAX; i++) {
		uint64_t ops = all / rounds + 1;
		ops = ops < left ? ops : left;
		run_round(w, ops, true);
		left -= ops - w->ops_left;
		if (i == fill_round || (opt->fill && i < 2))
			fill_run(w);
	}
	finish_run(w);
	world_log(w, "seed %llu: done, %llu I/O events", (unsigned long long)seed,
		  (unsigned long long)w->bus.ticks);
}
