/* finish: the end of a seed: everything healed, compared, compared without a device, checked. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "pool/pool_types.h"
#include "tests/sim/cover.h"
#include "tests/sim/sim_reactor.h"
#include "tests/sim/snapvol.h"
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
	int n = disk_pick(w);
	return n < 0 ? 0 : (unsigned)n;
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
	w->hungry_until_ns = 0;
	for (unsigned i = 0; i < w->ndisks; i++) {
		struct sim_faults *f = sim_disk_faults(w->disk[i]);
		f->lost_permille = f->misdirect_permille = f->read_error_permille = 0;
	}
}

static void empty_trash(struct world *w)
{
	struct err e = {0};
	unsigned n;
	w->emptying++;
	int rc = vol_trash_empty(w->pool, NULL, 0, &n, &e);
	w->emptying--;
	if (rc)
		world_fail(w, "vol_trash_empty: %d %s", rc, e.text);
}

static void destroy_volume(struct world *w, struct wvol *v)
{
	struct err e = {0};
	if (v->state == WVOL_LIVE) {
		int rc = vol_destroy(w->pool, v->name, &e);
		if (rc)
			world_fail(w, "vol_destroy %s: %d %s", v->name, rc, e.text);
	}
	wvol_forget(v);
}

static void destroy_all(struct world *w)
{
	static struct pool_status st;
	world_close_volumes(w);
	for (unsigned i = 0; i < WORLD_VOLS_MAX; i++)
		if (w->vol[i].state != WVOL_NONE)
			destroy_volume(w, &w->vol[i]);
	if (w->fsvol && vol_destroy(w->pool, "files", NULL))
		world_fail(w, "vol_destroy of the file system");
	w->fsvol = NULL;
	snapvol_destroy(w);
	empty_trash(w);
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

/* Out of the trash, so that it is compared. */
static void restore_all(struct world *w)
{
	for (unsigned i = 0; i < WORLD_VOLS_MAX; i++)
		wvol_restore(w, &w->rng);
}

/* Everything is read and repaired; nothing may be left that is wrong. */
static void scrub_all(struct world *w)
{
	struct pool_scrub_status s;
	struct err e = {0};
	/* What is destroyed is no longer read, but still in the state before. */
	int rc = pool_commit(w->pool);
	if (!rc)
		rc = pool_scrub_start(w->pool, &e);
	if (rc)
		world_fail(w, "pool_scrub_start: %d %s", rc, e.text);
	do {
		co_sleep_ns(100 * SIM_MS);
		pool_scrub_status_get(w->pool, &s);
	} while (s.running);
	if (!s.complete || (s.unrepaired && !w->single_ever))
		world_fail(w, "scrub: complete %d, %llu not repaired", s.complete,
			   (unsigned long long)s.unrepaired);
	cover_hit(COVER_SCRUBS_DONE);
	w->scrubbed = true;
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

static void settle(struct world *w)
{
	restore_all(w);
	admin_settle(w);
	compare(w);
	if (w->faults == FAULTS_SILENT || rng_chance(&w->rng, 1, 4))
		scrub_all(w);
}

static void without_another(struct world *w)
{
	if (w->faults != FAULTS_LOUD || disks_in(w) < 2 || !disks_survive(w))
		return;
	if (rng_chance(&w->rng, 1, 2))
		world_call(w, lose_another, "last comparison without a device");
	else
		import_without(w);
}

void finish_run(struct world *w)
{
	silence(w);
	world_arm(w, 0);
	world_call(w, chaos_heal, "heal");
	world_call(w, settle, "last comparison");
	without_another(w);
	world_call(w, count_repairs, "status");
	world_export(w);
	world_call(w, destroy_all, "destroy all");
	world_export(w);
}
