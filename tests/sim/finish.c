/* finish: the end of a seed: everything healed, compared, compared without a device, checked. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/sim/cover.h"
#include "tests/sim/sim_reactor.h"
#include "tests/sim/world.h"

#define REAP_TIMEOUT_MS 120000u

static void compare(struct world *w)
{
	verify_all(w, true);
	for (unsigned i = 0; i < WORLD_VOLS_MAX; i++)
		if (w->vol[i].h)
			hist_judge_end(w->vol[i].h);
}

static unsigned other_disk(struct world *w)
{
	unsigned n = (unsigned)rng_below(&w->rng, w->ndisks);
	return (int)n == w->victim ? (n + 1) % w->ndisks : n;
}

/* Everything is redundant: any device may go. */
static void lose_another(struct world *w)
{
	unsigned d = other_disk(w);
	w->victim = (int)d;
	w->damaged_ever = true;
	world_log(w, "finish: disk%u dies", d);
	sim_disk_kill(w->disk[d], -EIO, rng_chance(&w->rng, 1, 2));
	cover_hit(COVER_SECOND_DEATH);
	compare(w);
	chaos_heal(w);
}

static void import_without(struct world *w)
{
	unsigned d = other_disk(w);
	w->victim = (int)d;
	w->victim_absent = true;
	w->damaged_ever = true;
	world_log(w, "finish: import without disk%u", d);
	cover_hit(COVER_SECOND_DEATH);
	world_export(w);
	world_call(w, chaos_heal, "heal after a degraded import");
}

static void silence(struct world *w)
{
	for (unsigned i = 0; i < w->ndisks; i++) {
		struct sim_faults *f = sim_disk_faults(w->disk[i]);
		f->lost_permille = f->misdirect_permille = f->read_error_permille = 0;
	}
}

static void destroy_all(struct world *w)
{
	static struct pool_status st;
	struct err e = {0};
	world_close_volumes(w);
	for (unsigned i = 0; i < WORLD_VOLS_MAX; i++) {
		if (w->vol[i].state == WVOL_NONE)
			continue;
		int rc = vol_destroy(w->pool, w->vol[i].name, &e);
		if (rc)
			world_fail(w, "vol_destroy %s: %d %s", w->vol[i].name, rc, e.text);
		wvol_forget(&w->vol[i]);
	}
	uint64_t start = world_now_ms(w);
	for (;;) {
		int rc = pool_commit(w->pool);
		if (rc)
			world_fail(w, "pool_commit: %d %s", rc, err_str(rc));
		pool_status_get(w->pool, &st);
		if (st.raw_used_bytes < st.raw_bytes / 2 && !st.volumes)
			break;
		if (world_now_ms(w) - start > REAP_TIMEOUT_MS)
			world_fail(w,
				   "all volumes destroyed, but %llu of %llu bytes are used "
				   "and %u volumes left",
				   (unsigned long long)st.raw_used_bytes,
				   (unsigned long long)st.raw_bytes, st.volumes);
		co_sleep_ns(100 * SIM_MS);
	}
	verify_check(w, true);
}

static void count_repairs(struct world *w)
{
	static struct pool_status st;
	pool_status_get(w->pool, &st);
	for (unsigned i = 0; i < st.ndevs; i++) {
		cover_add(COVER_REPAIRS, st.devs[i].repaired);
		/* Nothing was damaged silently: a bad checksum means that a stale or unwritten
		 * copy was read. (With one copy that may be all there is.) */
		if (st.devs[i].checksum_errors && w->faults != FAULTS_SILENT && !w->single_ever)
			world_fail(w, "%llu bad checksums on device %u, which was not damaged",
				   (unsigned long long)st.devs[i].checksum_errors, i);
	}
}

void finish_run(struct world *w)
{
	silence(w);
	world_arm(w, 0);
	world_call(w, chaos_heal, "heal");
	world_call(w, compare, "last comparison");
	if (w->faults == FAULTS_LOUD && w->ndisks > 1) {
		if (rng_chance(&w->rng, 1, 2))
			world_call(w, lose_another, "last comparison without a device");
		else
			import_without(w);
	}
	world_call(w, count_repairs, "status");
	world_export(w);
	world_call(w, destroy_all, "destroy all");
	world_export(w);
}
