/* fill: a pool filled to the last block, met by workers, emptied and used again (law 8). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/sim/cover.h"
#include "tests/sim/item_key.h"
#include "tests/sim/sim_reactor.h"
#include "tests/sim/world.h"

#define FILL_BLOCKS_MAX	 81920u
#define RESERVED_BLOCKS	 128u
#define SPACE_TIMEOUT_MS 120000u

static struct wvol *fill_vol, *reserved_vol; /* one world per process */
static uint64_t filled_bytes, used_before;
static unsigned hurts_before;

static uint64_t raw_used(struct world *w)
{
	static struct pool_status st;
	pool_status_get(w->pool, &st);
	return st.raw_used_bytes;
}

static struct wvol *newest(struct world *w)
{
	for (unsigned i = 0; i < WORLD_VOLS_MAX; i++)
		if (w->vol[i].no == w->next_vol - 1)
			return &w->vol[i];
	return NULL;
}

static void make_volume(struct world *w)
{
	fill_vol = NULL;
	used_before = raw_used(w);
	if (!wvol_create(w, &w->rng))
		return;
	fill_vol = newest(w);
	if (fill_vol->opt.type == VOL_TYPE_BLOCK || fill_vol->opt.class_name[0]) {
		fill_vol = NULL; /* too small for the pool: try again another time */
		return;
	}
	/* One large space instead of the usual ones. */
	struct hist_space s = {VOL_OBJECT_FIRST, 0, FILL_BLOCKS_MAX};
	hist_destroy(fill_vol->h);
	fill_vol->h = hist_create(fill_vol->no, &w->clock, &s, 1, 96, 0);
	fill_vol->closing = true; /* workers stay out */
	filled_bytes = 0;
	hurts_before = w->hurts;
}

/* A volume with space that nobody else can take; workers stay out. */
static void make_reserved(struct world *w)
{
	struct err e = {0};
	reserved_vol = NULL;
	if (!fill_vol || !rng_chance(&w->rng, 1, 2) || !wvol_create(w, &w->rng))
		return;
	struct wvol *v = newest(w);
	v->closing = true;
	int rc = vol_set_reservation(w->pool, v->name, RESERVED_BLOCKS * HIST_BLOCK, &e);
	if (rc && rc != -ENOSPC && !world_excuses(w, NULL, rc))
		world_fail(w, "vol_set_reservation %s: %d %s", v->name, rc, e.text);
	v->closing = rc == 0;
	if (!rc)
		reserved_vol = v;
}

/* The pool is full for everybody else. */
static void use_reserved(struct world *w)
{
	static uint8_t buf[8 * HIST_BLOCK];
	struct wvol *v = reserved_vol;
	const struct hist_space *s = hist_space(v->h, 0);
	for (uint64_t at = 0; at < RESERVED_BLOCKS * HIST_BLOCK; at += sizeof(buf)) {
		struct hist_op *op = hist_write(v->h, 0, at, sizeof(buf), STAMP_RANDOM);
		hist_fill(v->h, op, buf);
		int rc = vol_write(v->v, s->object, s->base + at, sizeof(buf), buf, NULL, NULL);
		if (!rc)
			hist_ack(v->h, op);
		else if (rc == -ENOSPC)
			hist_drop(v->h, op);
		if (rc == -ENOSPC && w->victim < 0 && w->hurts == hurts_before && !w->administered)
			world_fail(w, "%s has %u KiB reserved, and a full pool refused byte %llu",
				   v->name, RESERVED_BLOCKS * 4, (unsigned long long)at);
		if (rc && rc != -ENOSPC && !world_excuses(w, v, rc))
			world_fail(w, "fill: vol_write on %s: %d %s", v->name, rc, err_str(rc));
	}
	cover_hit(COVER_RESERVED_USED);
}

static int write_at(struct world *w, uint64_t off, uint64_t len)
{
	static uint8_t buf[WORLD_WRITE_MAX];
	struct wvol *v = fill_vol;
	struct hist_op *op = hist_write(v->h, 0, off, len, STAMP_RANDOM);
	hist_fill(v->h, op, buf);
	int rc = vol_write(v->v, VOL_OBJECT_FIRST, off, len, buf, NULL, NULL);
	if (!rc) {
		hist_ack(v->h, op);
	} else if (rc == -ENOSPC) {
		hist_drop(v->h, op);
		cover_hit(COVER_ENOSPC);
	} else if (!world_may_lose(w, v)) {
		world_fail(w, "fill: vol_write at %llu: %d %s", (unsigned long long)off, rc,
			   err_str(rc));
	}
	return rc;
}

static void fill(struct world *w)
{
	uint64_t step = rng_range(&w->rng, 8, w->popt.delta_bytes / 8 / HIST_BLOCK) * HIST_BLOCK;
	if (step > WORLD_WRITE_MAX)
		step = WORLD_WRITE_MAX;
	/* Big pieces until they do not fit, then small ones; frees of commits may make room
	 * again. */
	for (unsigned refused = 0; refused < 4;) {
		if (filled_bytes + step > FILL_BLOCKS_MAX * (uint64_t)HIST_BLOCK)
			break;
		if (!write_at(w, filled_bytes, step)) {
			filled_bytes += step;
			continue;
		}
		refused++;
		step = HIST_BLOCK;
		int rc = pool_commit(w->pool);
		if (rc)
			world_fail(w, "commit of a full pool: %d %s", rc, err_str(rc));
	}
	cover_hit(COVER_FILLED);
	world_log(w, "filled with %llu bytes", (unsigned long long)filled_bytes);
	uint64_t since = hist_now(fill_vol->h);
	int rc = vol_sync(fill_vol->v);
	if (!rc)
		hist_synced(fill_vol->h, since);
	else if (!world_may_lose(w, fill_vol))
		world_fail(w, "sync of a full pool: %d %s", rc, err_str(rc));
}

static void punch(struct world *w, uint64_t off, uint64_t len)
{
	struct hist_op *op = hist_zero(fill_vol->h, 0, off, len);
	int rc = vol_punch(fill_vol->v, VOL_OBJECT_FIRST, off, len, NULL, NULL);
	if (rc)
		world_fail(w, "punch on a full pool: %d %s", rc, err_str(rc));
	hist_ack(fill_vol->h, op);
}

static void commit_twice(struct world *w)
{
	for (unsigned i = 0; i < 2; i++) {
		int rc = pool_commit(w->pool);
		if (rc)
			world_fail(w, "commit of a full pool: %d %s", rc, err_str(rc));
	}
}

/* Half is taken away: a quarter must fit again. */
static void use_again(struct world *w)
{
	uint64_t half = filled_bytes / 2 / HIST_BLOCK * HIST_BLOCK;
	uint64_t step = 8 * HIST_BLOCK;
	if (filled_bytes < 64 * step)
		return;
	if (rng_chance(&w->rng, 1, 2))
		punch(w, half, UINT64_MAX - half);
	else
		for (uint64_t at = 0; at < half; at += 2 * step)
			punch(w, at, 2 * step);
	commit_twice(w);
	co_sleep_ns(SIM_SEC);
	for (uint64_t at = 0; at < half / 2; at += step) {
		int rc = write_at(w, at, step);
		if (rc && (w->victim >= 0 || w->hurts != hurts_before || w->administered))
			return; /* with a device less, or a smaller one, it need not fit */
		if (rc)
			world_fail(w,
				   "after half of %llu bytes was punched on a full pool only "
				   "%llu could be written",
				   (unsigned long long)filled_bytes, (unsigned long long)at);
	}
	cover_hit(COVER_SPACE_BACK);
}

static void empty(struct world *w)
{
	struct err e = {0};
	vol_close(fill_vol->v);
	fill_vol->v = NULL;
	fill_vol->state = WVOL_DESTROYING;
	int rc = vol_destroy(w->pool, fill_vol->name, &e);
	if (rc)
		world_fail(w, "vol_destroy on a full pool: %d %s", rc, e.text);
	commit_twice(w);
	wvol_forget(fill_vol);
	fill_vol = NULL;
	uint64_t start = world_now_ms(w), slack = 12u << 20;
	while (raw_used(w) > used_before + slack) {
		if (world_now_ms(w) - start > SPACE_TIMEOUT_MS)
			world_fail(w,
				   "space of a destroyed volume did not return: %llu raw "
				   "bytes used, %llu before",
				   (unsigned long long)raw_used(w),
				   (unsigned long long)used_before);
		co_sleep_ns(100 * SIM_MS);
		pool_commit(w->pool);
	}
}

/* false: it crashed, and what was found is the new beginning. */
static bool step(struct world *w, world_fn *fn, const char *what)
{
	world_arm(w, rng_chance(&w->rng, 1, 8) ? 5000 : 0);
	bool done = world_call(w, fn, what);
	world_arm(w, 0);
	if (done)
		return true;
	world_crash(w);
	if (fill_vol && fill_vol->state == WVOL_NONE)
		fill_vol = NULL;
	if (fill_vol)
		fill_vol->closing = true;
	if (reserved_vol && reserved_vol->state != WVOL_LIVE)
		reserved_vol = NULL;
	if (reserved_vol)
		reserved_vol->closing = true;
	return false;
}

void fill_run(struct world *w)
{
	if (!world_call(w, make_volume, "fill: create") || !fill_vol)
		return;
	step(w, make_reserved, "fill: reserve");
	if (fill_vol)
		step(w, fill, "fill");
	if (fill_vol && reserved_vol && reserved_vol->v)
		step(w, use_reserved, "fill: use what is reserved");
	if (reserved_vol && reserved_vol->v)
		reserved_vol->closing = false;
	reserved_vol = NULL;
	if (fill_vol && rng_chance(&w->rng, 1, 2)) {
		run_round(w, 60, true);
		fill_vol = fill_vol->state == WVOL_NONE ? NULL : fill_vol;
	}
	if (fill_vol && rng_chance(&w->rng, 2, 3))
		step(w, use_again, "fill: use again");
	if (fill_vol)
		step(w, empty, "fill: empty");
	if (fill_vol)
		fill_vol->closing = false;
}
