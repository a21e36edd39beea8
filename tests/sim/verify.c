#include <errno.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include "pool/pool_types.h"
#include "tests/sim/cover.h"
#include "tests/sim/fsvol.h"
#include "tests/sim/item_key.h"
#include "tests/sim/snapvol.h"
#include "tests/sim/world.h"

#define RUN_BLOCKS 32u

/* Pages for reading back; one verification at a time. */
static uint8_t run_buf[RUN_BLOCKS * HIST_BLOCK];

static void read_blocks(struct world *w, struct wvol *v, unsigned space, uint64_t block, unsigned n)
{
	const struct hist_space *s = hist_space(v->h, space);
	uint64_t off = s->base + block * HIST_BLOCK;
	int rc = vol_read(v->v, s->object, off, (uint64_t)n * HIST_BLOCK, run_buf);
	if (!rc) {
		for (unsigned i = 0; i < n; i++)
			hist_found_block(v->h, space, block + i, run_buf + i * HIST_BLOCK);
		return;
	}
	if (!world_excuses(w, v, rc))
		world_fail(w, "verify: vol_read %s object %llu %llu+%u blocks: %d %s", v->name,
			   (unsigned long long)s->object, (unsigned long long)off, n, rc,
			   err_str(rc));
	for (unsigned i = 0; n > 1 && i < n; i++)
		read_blocks(w, v, space, block + i, 1);
	if (n == 1) {
		cover_hit(COVER_DATA_LOST_OK);
		hist_found_unreadable(v->h, space, block);
	}
}

static void found_zero(struct wvol *v, unsigned space, uint64_t block)
{
	static const uint8_t zeros[HIST_BLOCK];
	hist_found_block(v->h, space, block, zeros);
}

static void verify_space(struct world *w, struct wvol *v, unsigned space)
{
	const struct hist_space *s = hist_space(v->h, space);
	bool whole = rng_chance(&w->rng, 1, 8);
	uint64_t end = s->blocks;
	if (v->opt.type == VOL_TYPE_BLOCK && v->size / HIST_BLOCK < end)
		end = v->size / HIST_BLOCK;
	for (uint64_t b = 0; b < end;) {
		unsigned n = 0;
		while (n < RUN_BLOCKS && b + n < end && (whole || hist_touched(v->h, space, b + n)))
			n++;
		if (n)
			read_blocks(w, v, space, b, n);
		b += n ? n : 1;
	}
	for (uint64_t b = end; b < s->blocks; b++)
		if (hist_touched(v->h, space, b))
			found_zero(v, space, b);
}

static void verify_items(struct world *w, struct wvol *v)
{
	struct item_query q = {.h = v->h};
	for (unsigned k = 0; k < hist_keys(v->h); k++) {
		q.key = (uint16_t)k;
		int rc = vol_query(v->v, item_query_fn, &q);
		if (rc)
			world_fail(w, "verify: vol_query %s item %u: %d %s", v->name, k, rc,
				   err_str(rc));
		if (q.foreign)
			world_fail(w, "verify: %s item %u has a foreign value", v->name, k);
		hist_found_item(v->h, k, q.seq);
	}
}

static void verify_volume(struct world *w, struct wvol *v, bool complete)
{
	char why[512];
	struct vol_info info;
	hist_found_begin(v->h);
	vol_info_get(v->v, &info);
	if (v->opt.type == VOL_TYPE_BLOCK) {
		v->size = info.size_bytes;
		hist_found_size(v->h, info.size_bytes);
	}
	wvol_check_policy(w, v, &info);
	for (unsigned s = 0; s < hist_spaces(v->h); s++)
		verify_space(w, v, s);
	verify_items(w, v);
	if (!hist_judge(v->h, complete, why, sizeof(why)))
		world_fail(w, "verify %s: %s", complete ? "complete" : "after crash", why);
}

static void verify_list(struct world *w)
{
	static struct vol_info info[64];
	unsigned n = vol_list(w->pool, info, 64);
	for (unsigned i = 0; i < n && i < 64; i++) {
		bool known = info[i].destroying || fsvol_is(w, info[i].name) ||
			     snapvol_is(w, info[i].name);
		for (unsigned j = 0; j < WORLD_VOLS_MAX; j++)
			known |= w->vol[j].state != WVOL_NONE &&
				 (!strcmp(w->vol[j].name, info[i].name) ||
				  !strcmp(w->vol[j].other_name, info[i].name));
		if (!known)
			world_fail(w, "verify: volume %s should not exist", info[i].name);
	}
}

/* A rotten copy is a problem that a check reports; so is what was lost with its only copy. */
static bool may_have_problems(const struct world *w)
{
	return w->damaged_ever && ((w->faults == FAULTS_SILENT && !w->scrubbed) ||
				   (w->faults == FAULTS_LOUD && w->victim >= 0) || w->single_ever);
}

void verify_check(struct world *w, bool deep)
{
	struct pool_check_result r;
	struct err e = {0};
	char *text = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&text, &size);
	if (!f)
		abort();
	memset(&r, 0, sizeof(r));
	bool excused = may_have_problems(w); /* hurt or healed meanwhile is no contradiction */
	unsigned hurts = w->hurts;
	int rc = pool_check(w->pool, deep, f, NULL, NULL, &r, &e);
	fclose(f);
	cover_hit(COVER_CHECKS);
	if (rc == -ENOSPC)
		cover_hit(COVER_CHECK_GIVEN_UP);
	else if (rc && !(w->damaged_ever && w->faults == FAULTS_SILENT) &&
		 !world_excuses(w, NULL, rc))
		world_fail(w, "pool_check: %d %s", rc, e.text);
	if (!rc && r.problems && !excused && hurts == w->hurts && !may_have_problems(w)) {
		char *nl = strchr(text, '\n');
		if (nl && !w->opt.verbose)
			*nl = 0;
		world_fail(w, "pool_check: %llu problems: %s", (unsigned long long)r.problems,
			   text);
	}
	free(text);
}

void verify_all(struct world *w, bool complete)
{
	verify_list(w);
	for (unsigned i = 0; i < WORLD_VOLS_MAX; i++)
		if (w->vol[i].v)
			verify_volume(w, &w->vol[i], complete);
	fsvol_verify(w, complete);
	snapvol_verify(w, complete);
	if (complete || rng_chance(&w->rng, 3, 4))
		verify_check(w, true);
}

void verify_rebase(struct world *w)
{
	fsvol_rebase(w);
	snapvol_rebase(w);
	for (unsigned i = 0; i < WORLD_VOLS_MAX; i++) {
		struct hist_tally t = {0, 0};
		if (!w->vol[i].v)
			continue;
		hist_rebase(w->vol[i].h, &t);
		cover_add(COVER_OPS_KEPT, t.kept);
		cover_add(COVER_OPS_LOST, t.lost);
		world_log(w, "%s: %llu unsynced operations kept, %llu lost", w->vol[i].name,
			  (unsigned long long)t.kept, (unsigned long long)t.lost);
	}
}
