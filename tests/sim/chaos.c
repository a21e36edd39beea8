/* chaos: damages one device at a time, heals it, goes on with another. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "pool/pool_types.h"
#include "tests/sim/cover.h"
#include "tests/sim/sim_reactor.h"
#include "tests/sim/world.h"

#define HEAL_TIMEOUT_MS 600000u
#define POLL_MS		20u

/* ---- loud ---- */

static void offline(struct world *w, unsigned disk)
{
	struct err e = {0};
	int rc = pool_dev_offline(w->pool, disk_status(w, disk)->id, &e);
	if (rc == -EBUSY && w->administered) {
		cover_hit(COVER_REFUSED);
		return;
	}
	if (rc && !world_excuses(w, NULL, rc))
		world_fail(w, "pool_dev_offline %u: %d %s", disk, rc, e.text);
	cover_hit(COVER_DEV_OFFLINE);
}

static void hurt(struct world *w, unsigned disk)
{
	struct sim_disk *d = w->disk[disk];
	struct sim_faults *f = sim_disk_faults(d);
	if (!disk_status(w, disk))
		return; /* it has just left */
	uint64_t what = rng_below(&w->rng, 8);
	w->victim = (int)disk;
	w->hurts++;
	w->victim_absent = false;
	w->damaged_ever = true;
	world_log(w, "chaos: hurt disk%u, way %llu", disk, (unsigned long long)what);
	switch (what) {
	case 0:
	case 1:
		cover_hit(COVER_DEV_DEATHS);
		sim_disk_kill(d, rng_chance(&w->rng, 1, 2) ? -EIO : -ENODEV, false);
		break;
	case 2:
		cover_hit(COVER_DEV_DEATHS);
		sim_disk_kill(d, -EIO, true);
		break;
	case 3:
		f->write_errors = (unsigned)rng_range(&w->rng, 1, 3);
		break;
	case 4:
		f->flush_errors = 1;
		break;
	case 5:
		f->read_errors = (unsigned)rng_range(&w->rng, 1, 3);
		break;
	case 6:
		cover_hit(COVER_DEV_HANGS);
		f->hang_until_ns = w->r->ops->now_ns(w->r) + rng_skewed(&w->rng, 30 * SIM_SEC);
		break;
	default:
		offline(w, disk);
		break;
	}
}

static void hand_in(struct world *w, unsigned disk)
{
	struct err e = {0};
	enum dev_state s = disk_status(w, disk)->state;
	if (s == DEV_ONLINE || s == DEV_RESYNC)
		return;
	world_log(w, "chaos: disk%u (%s) returns", disk, dev_state_name(s));
	struct dev_backend *b = sim_disk_open(w->disk[disk]);
	int rc = pool_dev_online(w->pool, b, &e);
	cover_add(COVER_TAKEN_REFUSED, rc == ERR_IN_USE);
	/* It may have left the pool just now, or lost its place. */
	if (rc && (world_excuses(w, NULL, rc) || w->disk_state[disk] != WDISK_IN)) {
		dev_close(b);
		return;
	}
	if (rc)
		world_fail(w, "pool_dev_online disk%u: %d %s", disk, rc, e.text);
	cover_hit(COVER_DEV_RETURNS);
}

/* Is the pool short of places for the copies that are missing? */
static bool no_room(struct world *w)
{
	static struct pool_status st;
	pool_status_get(w->pool, &st);
	uint64_t free_slots = 0;
	for (unsigned i = 0; i < st.ndevs; i++)
		if (!st.devs[i].spare && !st.devs[i].taken)
			free_slots +=
				(st.devs[i].size_bytes - st.devs[i].used_bytes) / st.chunk_bytes;
	return free_slots < 8 * st.ndevs;
}

static void not_healed(struct world *w, unsigned disk)
{
	const struct pool_dev_status *s = disk_status(w, disk);
	world_fail(w, "disk%u came back, but the pool is not redundant after %u s: %s, since %llu",
		   disk, HEAL_TIMEOUT_MS / 1000, s ? dev_state_name(s->state) : "gone",
		   s ? (unsigned long long)s->stale_since_txn : 0);
}

/* It fails again, or is taken out, while it is brought up to date. */
static void relapse(struct world *w, unsigned disk)
{
	const struct pool_dev_status *s = disk_status(w, disk);
	if (!s || s->state != DEV_RESYNC || !rng_chance(&w->rng, 1, 6))
		return;
	world_log(w, "chaos: disk%u fails again", disk);
	cover_hit(COVER_RELAPSES);
	if (rng_chance(&w->rng, 1, 2)) {
		offline(w, disk);
		return;
	}
	sim_disk_kill(w->disk[disk], -EIO, rng_chance(&w->rng, 1, 2));
	pool_commit(w->pool);
	sim_disk_revive(w->disk[disk]);
}

void chaos_heal(struct world *w)
{
	if (w->victim < 0 || w->faults != FAULTS_LOUD)
		return;
	unsigned disk = (unsigned)w->victim;
	/* A cache that was lost has to be noticed before the device answers again. */
	pool_commit(w->pool);
	sim_disk_revive(w->disk[disk]);
	uint64_t start = world_now_ms(w);
	unsigned relapses = 0;
	do {
		/* What it was asked before may still fail and take it out again. */
		if (disk_status(w, disk))
			hand_in(w, disk);
		if (w->pool->faulted)
			return;
		if (relapses++ < 2)
			relapse(w, disk);
		if (world_now_ms(w) - start > HEAL_TIMEOUT_MS) {
			if (!no_room(w) && !disks_too_few(w))
				not_healed(w, disk);
			cover_hit(COVER_NOT_REDUNDANT);
			break;
		}
		co_sleep_ns(POLL_MS * SIM_MS);
	} while (!disks_redundant(w));
	/* What the status says becomes durable with a commit. */
	pool_commit(w->pool);
	world_log(w, "chaos: disk%u is whole again", disk);
	cover_hit(COVER_RESYNCS);
	w->victim = -1;
	w->victim_absent = false;
}

static void nap(struct world *w, uint64_t ns)
{
	if (!w->stop_chaos)
		co_sleep_ns(rng_skewed(&w->rng, ns));
}

static void loud(struct world *w)
{
	while (!w->stop_chaos) {
		if (w->victim < 0) {
			nap(w, 2 * SIM_SEC);
			if (w->stop_chaos || w->pool->faulted)
				return;
			unsigned d = (unsigned)rng_below(&w->rng, w->ndisks);
			if (!disk_is_member(w, d) || !disks_survive(w))
				continue;
			hurt(w, d);
		}
		nap(w, 5 * SIM_SEC);
		if (w->victim >= 0 && rng_chance(&w->rng, 1, 6) &&
		    disk_status(w, (unsigned)w->victim))
			offline(w, (unsigned)w->victim); /* whatever it is by now */
		if (rng_chance(&w->rng, 1, 4))
			nap(w, 60 * SIM_SEC);
		if (w->with_spares && rng_chance(&w->rng, 1, 3)) /* long enough for a spare */
			co_sleep_ns(rng_range(&w->rng, 1, 60) * SIM_SEC);
		if (w->stop_chaos)
			return;
		chaos_heal(w);
	}
}

/* ---- silent ---- */

static void silent(struct world *w)
{
	if (w->victim < 0 && !w->damaged_ever)
		w->victim = disk_pick(w);
	if (w->victim < 0 || !disk_is_member(w, (unsigned)w->victim))
		return; /* it has left; what it held may have gone with its copies: no other now */
	struct sim_disk *d = w->disk[w->victim];
	struct sim_faults *f = sim_disk_faults(d);
	w->damaged_ever = true;
	while (!w->stop_chaos) {
		nap(w, SIM_SEC);
		uint64_t what = rng_below(&w->rng, 7);
		world_log(w, "chaos: silent damage %llu to disk%d", (unsigned long long)what,
			  w->victim);
		f->lost_permille = f->misdirect_permille = f->read_error_permille = 0;
		switch (what) {
		case 0:
			sim_disk_rot(d, (unsigned)rng_range(&w->rng, 1, 8));
			break;
		case 1:
			sim_disk_rot(d, (unsigned)rng_range(&w->rng, 8, 200));
			break;
		case 2:
			sim_disk_latent(d, (unsigned)rng_range(&w->rng, 1, 8));
			break;
		case 3:
			f->lost_permille = (unsigned)rng_range(&w->rng, 1, 200);
			break;
		case 5:
			sim_disk_blip(d);
			cover_hit(COVER_BLIPS);
			break;
		case 4:
			f->misdirect_permille = (unsigned)rng_range(&w->rng, 1, 50);
			break;
		default:
			f->read_error_permille = (unsigned)rng_range(&w->rng, 1, 50);
			break;
		}
	}
}

void chaos_main(void *arg)
{
	struct world *w = arg;
	if (w->faults == FAULTS_LOUD)
		loud(w);
	else if (w->faults == FAULTS_SILENT)
		silent(w);
	w->chaos_done = true;
}
