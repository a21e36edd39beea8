/* admin: what an administrator does while the pool is used, one command after another. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "pool/chunk.h"
#include "pool/sb_format.h"
#include "pool/vol_types.h"
#include "tests/sim/cover.h"
#include "tests/sim/sim_reactor.h"
#include "tests/sim/spares.h"

#define MEMBERS_FEWEST	  2u /* so that one may fail */
#define SETTLE_TIMEOUT_MS 1200000u
#define POLL_MS		  50u

/* A refusal that leaves everything as it was. */
static bool refused(int rc)
{
	if (rc != -ENOSPC && rc != -EBUSY && rc != -EINVAL && rc != -ENOENT)
		return false;
	cover_hit(COVER_REFUSED);
	return true;
}

/* ---- devices come ---- */

static int add(struct world *w, bool spare)
{
	static const char *const domain[] = {"", "", "", "a", "b"};
	struct pool_add_options o = {.domain = ""};
	struct err e = {0};
	int d = disk_spare(w);
	if (d < 0)
		return -1;
	snprintf(o.domain, sizeof(o.domain), "%s", domain[rng_below(&w->rng, 5)]);
	o.spare = spare;
	snprintf(w->disk_class[d], sizeof(w->disk_class[d]), "%s",
		 w->with_classes ? spares_pick_class(&w->rng) : "");
	w->class_changes[d] = false;
	memcpy(o.class_name, w->disk_class[d], sizeof(o.class_name));
	struct dev_backend *b = sim_disk_open(w->disk[d]);
	w->disk_state[d] = WDISK_JOINING;
	w->disk_used[d] = true;
	spares_joins(w, (unsigned)d);
	int rc = pool_dev_add(w->pool, b, &o, &e);
	world_log(w, "admin: add disk%d%s -> %d", d, o.spare ? " as a spare" : "", rc);
	if (rc && world_excuses(w, NULL, rc))
		return -1;
	if (rc)
		world_fail(w, "pool_dev_add disk%d: %d %s", d, rc, e.text);
	w->disk_state[d] = WDISK_IN;
	cover_hit(o.spare ? COVER_SPARES_ADDED : COVER_ADDS);
	return d;
}

/* ---- and go ---- */

static int pick_to_remove(struct world *w)
{
	unsigned fewest = w->faults == FAULTS_NONE ? 1 : MEMBERS_FEWEST;
	if (disks_in(w) <= fewest)
		return -1;
	if (w->victim >= 0 && w->faults == FAULTS_LOUD && rng_chance(&w->rng, 1, 2))
		return w->disk_state[w->victim] == WDISK_IN ? w->victim : -1;
	return disk_pick(w);
}

static void remove_disk(struct world *w, int d)
{
	struct pool_move_plan plan;
	struct err e = {0};
	if (d < 0)
		return;
	uint32_t id = disk_status(w, (unsigned)d)->id;
	if (rng_chance(&w->rng, 1, 4) && pool_dev_remove(w->pool, id, true, &plan, &e))
		world_fail(w, "plan of a removal of disk%d: %s", d, e.text);
	w->disk_state[d] = WDISK_LEAVING;
	int rc = pool_dev_remove(w->pool, id, false, &plan, &e);
	world_log(w, "admin: remove disk%d (device %u) -> %d", d, id, rc);
	if (refused(rc)) {
		w->disk_state[d] = WDISK_IN;
		return;
	}
	if (rc && world_excuses(w, NULL, rc))
		return;
	if (rc)
		world_fail(w, "pool_dev_remove disk%d: %d %s", d, rc, e.text);
	cover_hit(d == w->victim ? COVER_REMOVALS_OF_DEAD : COVER_REMOVALS);
}

static void do_remove(struct world *w)
{
	remove_disk(w, pick_to_remove(w));
}

static void do_add(struct world *w)
{
	add(w, w->with_spares && rng_chance(&w->rng, 1, 2));
}

static void do_replace(struct world *w)
{
	int d = pick_to_remove(w);
	if (add(w, false) < 0 || d < 0 || w->disk_state[d] != WDISK_IN)
		return;
	remove_disk(w, d);
	cover_hit(COVER_REPLACES);
}

static void cancel(struct world *w, unsigned d)
{
	struct err e = {0};
	const struct pool_dev_status *s = disk_status(w, d);
	if (!s || (!s->evacuating && !s->shrinking))
		return;
	int rc = pool_dev_remove_cancel(w->pool, s->id, &e);
	world_log(w, "admin: cancel disk%u -> %d", d, rc);
	if (refused(rc) || (rc && world_excuses(w, NULL, rc)))
		return;
	if (rc)
		world_fail(w, "pool_dev_remove_cancel disk%u: %d %s", d, rc, e.text);
	if (disk_status(w, d))
		w->disk_state[d] = WDISK_IN;
	cover_hit(COVER_REMOVE_CANCELS);
}

static void do_cancel(struct world *w)
{
	cancel(w, (unsigned)rng_below(&w->rng, w->ndisks));
}

/* ---- grow and shrink ---- */

static uint64_t bytes_of(const struct world *w, uint64_t slot_bytes)
{
	(void)w;
	return slot_bytes + SB_DATA_START + SB_RING_BYTES;
}

static void do_shrink(struct world *w)
{
	struct pool_move_plan plan;
	struct err e = {0};
	int d = disk_pick(w);
	if (d < 0)
		return;
	const struct pool_dev_status *s = disk_status(w, (unsigned)d);
	if (s->size_bytes < 12u << 20 || s->shrinking)
		return;
	uint64_t bytes = rng_range(&w->rng, 8u << 20, s->size_bytes);
	w->cut_off[d] = true;
	int rc = pool_dev_shrink(w->pool, s->id, bytes, false, &plan, &e);
	world_log(w, "admin: shrink disk%d to %llu -> %d", d, (unsigned long long)bytes, rc);
	if (refused(rc) || (rc && world_excuses(w, NULL, rc)))
		return;
	if (rc)
		world_fail(w, "pool_dev_shrink disk%d: %d %s", d, rc, e.text);
	cover_hit(COVER_SHRINKS);
}

static bool shrunk_event(struct world *w, unsigned d, uint64_t bytes)
{
	static struct pool_event ev[256];
	char path[96];
	snprintf(path, sizeof(path), "(/sim/%s) now uses %llu bytes", sim_disk_name(w->disk[d]),
		 (unsigned long long)bytes);
	for (unsigned i = pool_events(w->pool, 0, ev, 256); i-- > 0;)
		if (!strcmp(ev[i].kind, "device-shrunk") && strstr(ev[i].text, path))
			return true;
	return false;
}

/* What the pool said it does not use any more is cut off. */
static void cut_off(struct world *w)
{
	for (unsigned d = 0; d < w->ndisks; d++) {
		const struct pool_dev_status *s;
		if (!w->cut_off[d] || !disk_is_member(w, d) || !(s = disk_status(w, d)) ||
		    s->state != DEV_ONLINE || s->shrinking ||
		    !shrunk_event(w, d, bytes_of(w, s->size_bytes)))
			continue;
		uint64_t bytes = bytes_of(w, s->size_bytes);
		w->cut_off[d] = false;
		if (bytes >= sim_disk_size(w->disk[d]))
			continue;
		world_log(w, "admin: disk%u is cut off at %llu", d, (unsigned long long)bytes);
		sim_disk_resize(w->disk[d], bytes);
		cover_hit(COVER_SHRUNK);
	}
}

static void do_grow(struct world *w)
{
	struct err e = {0};
	int d = disk_pick(w);
	if (d < 0 || d == w->victim)
		return;
	uint64_t bytes = sim_disk_size(w->disk[d]);
	if (bytes < 64u << 20)
		bytes += rng_range(&w->rng, 1, 8u << 8) * DEV_BLOCK;
	sim_disk_resize(w->disk[d], bytes);
	w->cut_off[d] = false;
	int rc = pool_dev_grow(w->pool, disk_status(w, (unsigned)d)->id, bytes, &e);
	world_log(w, "admin: grow disk%d to %llu -> %d", d, (unsigned long long)bytes, rc);
	if (refused(rc) || (rc && world_excuses(w, NULL, rc)))
		return;
	if (rc)
		world_fail(w, "pool_dev_grow disk%d: %d %s", d, rc, e.text);
	cover_hit(COVER_GROWS);
}

/* ---- the rest ---- */

static void do_rebalance(struct world *w)
{
	bool on = rng_chance(&w->rng, 3, 4);
	int rc = pool_rebalance(w->pool, on);
	world_log(w, "admin: rebalance %d -> %d", on, rc);
	if (rc && !world_excuses(w, NULL, rc))
		world_fail(w, "pool_rebalance: %d %s", rc, err_str(rc));
	cover_add(COVER_REBALANCES, on);
}

static void do_scrub(struct world *w)
{
	struct err e = {0};
	if (rng_chance(&w->rng, 1, 4)) {
		pool_scrub_stop(w->pool);
		return;
	}
	int rc = pool_scrub_start(w->pool, &e);
	world_log(w, "admin: scrub -> %d", rc);
	if (rc && !refused(rc) && !world_excuses(w, NULL, rc))
		world_fail(w, "pool_scrub_start: %d %s", rc, e.text);
	cover_add(COVER_SCRUBS, !rc);
}

static void do_trim(struct world *w)
{
	struct err e = {0};
	if (rng_chance(&w->rng, 1, 8)) {
		pool_trim_stop(w->pool);
		return;
	}
	int rc = pool_trim_start(w->pool, &e);
	world_log(w, "admin: trim -> %d", rc);
	if (rc && !refused(rc) && !world_excuses(w, NULL, rc))
		world_fail(w, "pool_trim_start: %d %s", rc, e.text);
	cover_add(COVER_TRIMS, !rc);
}

static void do_jump(struct world *w)
{
	int64_t ns = (int64_t)rng_skewed(&w->rng, 3 * 24 * 3600 * SIM_SEC);
	if (rng_chance(&w->rng, 1, 2))
		ns = -ns;
	world_log(w, "admin: the clock jumps by %lld s", (long long)(ns / (int64_t)SIM_SEC));
	sim_reactor_jump_wall(w->r, ns);
	cover_hit(COVER_CLOCK_JUMPS);
}

static void do_slow(struct world *w)
{
	int d = disk_pick(w);
	if (d < 0)
		return;
	struct sim_faults *f = sim_disk_faults(w->disk[d]);
	f->slow_until_ns = w->r->ops->now_ns(w->r) + rng_skewed(&w->rng, 10 * SIM_SEC);
	f->slow_factor = (unsigned)rng_skewed(&w->rng, 1000);
	world_log(w, "admin: disk%d is %u times slower for a while", d, f->slow_factor);
	cover_hit(COVER_SLOW);
}

static void do_hunger(struct world *w)
{
	if (w->hunger == HUNGER_NONE)
		return;
	w->hungry_until_ns = w->r->ops->now_ns(w->r) + rng_skewed(&w->rng, SIM_SEC);
	w->hungry_ever = true;
	world_log(w, "admin: memory is short for a while");
}

typedef void verb_fn(struct world *w);
/* There is one from early on. */
static void begin_spares(struct world *w)
{
	spares_set_after(w);
	if (w->with_spares && rng_chance(&w->rng, 1, 2))
		add(w, true);
}

static void do_spare(struct world *w)
{
	switch (rng_below(&w->rng, 4)) {
	case 0:
		spares_set_after(w);
		break;
	case 1:
		spares_make(w);
		break;
	default:
		spares_set_class(w);
	}
}

static const struct verb {
	verb_fn *fn;
	unsigned weight;
} verbs[] = {
	{do_add, 3},	   {do_remove, 4}, {do_replace, 2}, {do_cancel, 2}, {do_shrink, 3},
	{do_grow, 3},	   {do_scrub, 3},  {do_jump, 2},    {do_slow, 2},   {do_hunger, 3},
	{do_rebalance, 2}, {do_trim, 3},   {do_spare, 6}, /* the last: only in some seeds */
};

static const struct verb *pick_verb(struct world *w)
{
	unsigned sum = 0, n = sizeof(verbs) / sizeof(verbs[0]);
	n -= w->with_spares || w->with_classes ? 0 : 1;
	for (unsigned i = 0; i < n; i++)
		sum += verbs[i].weight;
	uint64_t dice = rng_below(&w->rng, sum);
	for (unsigned i = 0; i < n; i++) {
		if (dice < verbs[i].weight)
			return &verbs[i];
		dice -= verbs[i].weight;
	}
	return &verbs[0];
}

void admin_main(void *arg)
{
	struct world *w = arg;
	begin_spares(w);
	while (!w->stop_chaos) {
		co_sleep_ns(rng_skewed(&w->rng, SIM_SEC / 2));
		if (w->stop_chaos)
			break;
		pick_verb(w)->fn(w);
		cut_off(w);
		w->admin_ops++;
		cover_hit(COVER_OPS);
	}
	w->admin_done = true;
}

/* ---- the end ---- */

static bool converting(const struct world *w)
{
	for (const struct vol *v = w->pool->vols; v; v = v->next)
		if (v->converting && !v->destroying)
			return true;
	return false;
}

static bool busy(struct world *w)
{
	struct pool_mover_status m;
	struct pool_scrub_status s;
	struct pool_trim_status t;
	pool_mover_status_get(w->pool, &m);
	pool_scrub_status_get(w->pool, &s);
	pool_trim_status_get(w->pool, &t);
	return m.active || s.running || t.running || w->pool->resync_running ||
	       w->pool->resync_wanted || converting(w) || spares_busy(w);
}

static void should_have_ended(struct world *w, unsigned d)
{
	const struct pool_dev_status *s = disk_status(w, d);
	struct pool_move_plan plan;
	struct err e = {0};
	if (s && s->evacuating && !pool_dev_remove(w->pool, s->id, true, &plan, &e) && plan.fits &&
	    !w->single_ever)
		world_fail(w, "disk%u is not empty after %u s, though all of it fits", d,
			   SETTLE_TIMEOUT_MS / 1000);
}

static void give_up(struct world *w)
{
	for (unsigned d = 0; d < w->ndisks; d++)
		should_have_ended(w, d);
	for (unsigned d = 0; d < w->ndisks; d++)
		cancel(w, d);
	cover_hit(COVER_GIVEN_UP);
}

void admin_settle(struct world *w)
{
	uint64_t start = world_now_ms(w);
	bool settled = true;
	while (busy(w)) {
		if (world_now_ms(w) - start > SETTLE_TIMEOUT_MS) {
			give_up(w);
			settled = false;
			break;
		}
		co_sleep_ns(POLL_MS * SIM_MS);
		cut_off(w);
	}
	for (unsigned d = 0; d < w->ndisks; d++)
		disk_status(w, d); /* notes who has left */
	/* What was rewritten is in its new place with a commit. */
	int rc = settled ? pool_commit(w->pool) : 0;
	if (rc && !world_excuses(w, NULL, rc))
		world_fail(w, "pool_commit: %d %s", rc, err_str(rc));
	if (settled && !rc && !busy(w))
		spares_check_settled(w);
}
