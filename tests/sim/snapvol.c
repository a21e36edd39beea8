/* snapvol: a block volume that is written, cloned within itself, and of which snapshots are taken,
 * read, cloned from and destroyed in any order; used by one coroutine.
 *
 * As in fsvol.c the history is a list of states from the last sync on: which version each block
 * has. After a crash the volume must be one of them. A snapshot must be the state when it was
 * taken, whatever happened since; one whose making or destroying was cut short may be there or not.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "pool/pool_types.h"
#include "tests/sim/cover.h"
#include "tests/sim/sim_reactor.h"
#include "tests/sim/snapvol.h"

#define VOLUME	   "snapped"
#define BLOCKS	   128u
#define RUN	   16u /* blocks of one operation: atomic, or a state for each block */
#define SNAPS	   6u
#define SLEEP_MAX  (50 * SIM_MS)
#define REAP_TRIES 2000u

struct state {
	uint32_t version[BLOCKS]; /* 0: zeros */
};
enum snap_state { ABSENT, CREATING, LIVE, DESTROYING };
struct snap {
	enum snap_state state;
	bool found;
	char name[32];
	struct state of;
};
struct snapvol {
	struct vol *v;
	bool made, stuck; /* as in fsvol.c */
	struct state now;
	struct state *list; /* from the last sync on */
	size_t count, cap;
	uint32_t next_version, next_name;
	struct snap snap[SNAPS];
	uint8_t buf[BLOCKS * HIST_BLOCK];
};

/* ---- states ---- */

static void list_begin(struct snapvol *s)
{
	s->count = 0;
}

static void list_add(struct snapvol *s)
{
	if (s->count == s->cap) {
		s->cap = s->cap ? s->cap * 2 : 64;
		s->list = realloc(s->list, s->cap * sizeof(*s->list));
		if (!s->list)
			abort();
	}
	s->list[s->count++] = s->now;
}

/* Some shrink, some do not. */
static void fill(uint32_t version, uint8_t *out)
{
	struct sim_rng g = rng_of(version, 31);
	uint64_t r = rng_next(&g);
	for (unsigned i = 0; i < HIST_BLOCK; i += 8) {
		if (version % 2)
			r = rng_next(&g);
		memcpy(out + i, &r, 8);
	}
	memcpy(out, &version, 4);
}

/* Which version is this? False: none. */
static bool parse(const uint8_t *block, uint32_t *ret_version)
{
	static uint8_t want[HIST_BLOCK];
	memcpy(ret_version, block, 4);
	if (*ret_version)
		fill(*ret_version, want);
	else
		memset(want, 0, sizeof(want));
	return !memcmp(want, block, HIST_BLOCK);
}

static int look(struct world *w, struct snapvol *s, struct vol *v, const char *name,
		struct state *ret_st)
{
	int rc = vol_read(v, VOL_BLOCK_OBJECT, 0, sizeof(s->buf), s->buf);
	for (unsigned b = 0; !rc && b < BLOCKS; b++)
		if (!parse(s->buf + b * HIST_BLOCK, &ret_st->version[b]))
			world_fail(w, "%s: block %u is no version", name, b);
	return rc;
}

static bool same(const struct state *a, const struct state *b)
{
	return !memcmp(a, b, sizeof(*a));
}

/* ---- snapshots as they are ---- */

static void snap_compare(struct world *w, struct snapvol *s, struct snap *n)
{
	struct state st;
	struct err e = {0};
	struct vol *v;
	int rc = vol_open(w->pool, n->name, &v, &e);
	if (rc)
		world_fail(w, "open %s: %d %s", n->name, rc, e.text);
	rc = look(w, s, v, n->name, &st);
	vol_close(v);
	if (rc && world_excuses(w, NULL, rc))
		return;
	if (rc)
		world_fail(w, "read %s: %d %s", n->name, rc, err_str(rc));
	if (!same(&st, &n->of))
		world_fail(w, "%s is not what the volume was when it was taken", n->name);
	cover_hit(COVER_SNAPS_COMPARED);
}

static void snaps_verify(struct world *w, struct snapvol *s)
{
	static struct vol_snapshot_info info[SNAPS + 1];
	unsigned n = vol_snapshot_list(w->pool, VOLUME, info, SNAPS + 1), known = 0;
	for (unsigned i = 0; i < SNAPS; i++) {
		struct snap *sn = &s->snap[i];
		sn->found = false;
		for (unsigned k = 0; k < n && k <= SNAPS; k++)
			sn->found |= sn->state != ABSENT && !strcmp(info[k].name, sn->name);
		if (sn->state == LIVE && !sn->found)
			world_fail(w, "%s is gone", sn->name);
		known += sn->found;
		if (sn->found)
			snap_compare(w, s, sn);
	}
	if (known != n)
		world_fail(w, "%u snapshots where %u are known", n, known);
}

/* ---- open and close ---- */

void snapvol_create(struct world *w)
{
	struct vol_options o = {.type = VOL_TYPE_BLOCK,
				.copies = disks_in(w) > 1 ? 2 : 1,
				.compression = VOL_COMPRESS_LZ4,
				.size_bytes = BLOCKS * HIST_BLOCK};
	struct err e = {0};
	if (!w->with_snaps)
		return;
	struct snapvol *s = w->snapvol = w->snapvol ? w->snapvol : calloc(1, sizeof(*s));
	if (!s)
		abort();
	struct state *list = s->list;
	size_t cap = s->cap;
	memset(s, 0, sizeof(*s));
	s->list = list;
	s->cap = cap;
	s->next_version = 1;
	int rc = vol_create(w->pool, VOLUME, &o, &e);
	if (!rc)
		rc = vol_open(w->pool, VOLUME, &s->v, &e);
	if (rc)
		world_fail(w, "vol_create %s: %d %s", VOLUME, rc, e.text);
	s->made = true;
	list_add(s);
}

void snapvol_crashed(struct world *w)
{
	if (w->snapvol)
		w->snapvol->v = NULL;
}

void snapvol_close(struct world *w)
{
	struct snapvol *s = w->snapvol;
	if (!s)
		return;
	vol_close(s->v);
	s->v = NULL;
}

bool snapvol_is(const struct world *w, const char *name)
{
	return w->snapvol && !strcmp(name, VOLUME);
}

void snapvol_verify(struct world *w, bool complete)
{
	struct snapvol *s = w->snapvol;
	if (!s)
		return;
	int rc = s->v ? 0 : vol_open(w->pool, VOLUME, &s->v, NULL);
	if (rc == -ENOENT && !s->made) { /* it never came to be */
		free(s->list);
		free(s);
		w->snapvol = NULL;
		return;
	}
	if (!rc)
		rc = look(w, s, s->v, VOLUME, &s->now);
	if (rc)
		world_fail(w, "%s: %d %s", VOLUME, rc, err_str(rc));
	size_t first = complete && !s->stuck && s->count ? s->count - 1 : 0;
	bool found = !s->made;
	for (size_t i = first; i < s->count && !found; i++)
		found = same(&s->list[i], &s->now);
	if (!found)
		world_fail(w, "%s: its state is none of the %zu since the last sync", VOLUME,
			   s->count - first);
	snaps_verify(w, s);
}

void snapvol_rebase(struct world *w)
{
	struct snapvol *s = w->snapvol;
	if (!s)
		return;
	s->made = true;
	s->stuck = false;
	for (unsigned i = 0; i < SNAPS; i++)
		s->snap[i].state = s->snap[i].found ? LIVE : ABSENT;
	list_begin(s);
	list_add(s);
}

/* ---- operations ---- */

/* The operation's states are in the list. Refused for want of space: what of it was done is read.
 */
static void settle(struct world *w, struct snapvol *s, int rc, const char *what)
{
	world_log(w, "snapvol: %s -> %d, state %zu", what, rc, s->count - 1);
	if (!rc)
		return;
	if (rc == -ENOSPC) {
		cover_hit(COVER_ENOSPC);
		rc = look(w, s, s->v, VOLUME, &s->now);
		list_add(s);
		if (!rc)
			return;
	}
	if (!world_excuses(w, NULL, rc))
		world_fail(w, "snapvol: %s: %d %s", what, rc, err_str(rc));
	s->stuck = true;
}

static void do_write(struct world *w, struct snapvol *s, uint32_t at, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		fill(s->next_version, s->buf + i * HIST_BLOCK);
		s->now.version[at + i] = s->next_version++;
	}
	list_add(s);
	settle(w, s,
	       vol_write(s->v, VOL_BLOCK_OBJECT, (uint64_t)at * HIST_BLOCK,
			 (uint64_t)n * HIST_BLOCK, s->buf, NULL, NULL),
	       "write");
}

static void do_punch(struct world *w, struct snapvol *s, uint32_t at, uint32_t n)
{
	memset(&s->now.version[at], 0, n * sizeof(uint32_t));
	list_add(s);
	settle(w, s,
	       vol_punch(s->v, VOL_BLOCK_OBJECT, (uint64_t)at * HIST_BLOCK,
			 (uint64_t)n * HIST_BLOCK, NULL, NULL),
	       "punch");
}

/* From the volume itself, or from a snapshot. */
static void clone_from(struct world *w, struct snapvol *s, struct vol *v, const struct state *of,
		       uint32_t from, uint32_t at, uint32_t n)
{
	uint32_t src[RUN];
	uint64_t done;
	memcpy(src, &of->version[from], n * sizeof(uint32_t));
	for (uint32_t i = 0; i < n; i++) {
		s->now.version[at + i] = src[i];
		list_add(s);
	}
	settle(w, s,
	       vol_clone_range(v, VOL_BLOCK_OBJECT, (uint64_t)from * HIST_BLOCK, s->v,
			       VOL_BLOCK_OBJECT, (uint64_t)at * HIST_BLOCK,
			       (uint64_t)n * HIST_BLOCK, NULL, NULL, &done),
	       "clone");
}

static void do_clone(struct world *w, struct snapvol *s, struct sim_rng *g, uint32_t at, uint32_t n)
{
	struct snap *sn = &s->snap[rng_below(g, SNAPS)];
	uint32_t from = (uint32_t)rng_below(g, BLOCKS - n + 1);
	struct vol *v = NULL;
	if (sn->state == LIVE && !vol_open(w->pool, sn->name, &v, NULL)) {
		clone_from(w, s, v, &sn->of, from, at, n);
		vol_close(v);
	} else if (from + n <= at || at + n <= from) {
		clone_from(w, s, s->v, &s->now, from, at, n);
	}
}

static void do_take(struct world *w, struct snapvol *s, struct snap *sn)
{
	const char *name = sn->name;
	struct err e = {0};
	snprintf(sn->name, sizeof(sn->name), VOLUME "@%u", s->next_name++);
	sn->of = s->now;
	sn->state = CREATING;
	int rc = vol_snapshot_create(w->pool, &name, 1, &e);
	world_log(w, "snapvol: take %s -> %d", sn->name, rc);
	if (!rc) {
		cover_hit(COVER_SNAPS_TAKEN);
		sn->state = LIVE;
		list_begin(s);
		list_add(s);
	} else if (rc == -ENOSPC || rc == -EIO) {
		sn->state = ABSENT;
	} else if (world_excuses(w, NULL, rc)) {
		s->stuck = true;
	} else {
		world_fail(w, "take %s: %d %s", sn->name, rc, e.text);
	}
}

static void do_destroy(struct world *w, struct snapvol *s, struct snap *sn)
{
	struct err e = {0};
	sn->state = DESTROYING;
	int rc = vol_snapshot_destroy(w->pool, sn->name, &e);
	world_log(w, "snapvol: destroy %s -> %d", sn->name, rc);
	if (!rc)
		sn->state = ABSENT;
	else if (world_excuses(w, NULL, rc))
		s->stuck = true;
	else
		world_fail(w, "destroy %s: %d %s", sn->name, rc, e.text);
}

static void do_snap(struct world *w, struct snapvol *s, struct sim_rng *g)
{
	struct snap *sn = &s->snap[rng_below(g, SNAPS)];
	if (sn->state == ABSENT)
		do_take(w, s, sn);
	else if (sn->state == LIVE && rng_chance(g, 1, 2))
		do_destroy(w, s, sn);
	else if (sn->state == LIVE)
		snap_compare(w, s, sn);
}

static void do_sync(struct world *w, struct snapvol *s)
{
	int rc = vol_sync(s->v);
	world_log(w, "snapvol: sync -> %d", rc);
	if (!rc) {
		list_begin(s);
		list_add(s);
	} else if (!world_excuses(w, NULL, rc)) {
		world_fail(w, "snapvol: sync: %d %s", rc, err_str(rc));
	}
}

static void one(struct world *w, struct snapvol *s, struct sim_rng *g)
{
	uint32_t n = 1 + (uint32_t)rng_below(g, RUN), at = (uint32_t)rng_below(g, BLOCKS - n + 1);
	uint64_t dice = rng_below(g, 20);
	cover_hit(COVER_OPS);
	if (dice < 8)
		do_write(w, s, at, n);
	else if (dice < 10)
		do_punch(w, s, at, n);
	else if (dice < 13)
		do_clone(w, s, g, at, n);
	else if (dice < 17)
		do_snap(w, s, g);
	else
		do_sync(w, s);
}

void snapvol_main(void *arg)
{
	struct world *w = arg;
	struct snapvol *s = w->snapvol;
	while (!w->stop_chaos && !s->stuck && !w->pool->faulted) {
		one(w, s, &w->snap_rng);
		co_sleep_ns(rng_skewed(&w->snap_rng, SLEEP_MAX));
	}
	w->snap_done = true;
}

void snapvol_destroy(struct world *w)
{
	struct snapvol *s = w->snapvol;
	struct err e = {0};
	int rc = -EBUSY;
	if (!s)
		return;
	for (unsigned i = 0; i < SNAPS; i++)
		if (s->snap[i].state != ABSENT &&
		    vol_snapshot_destroy(w->pool, s->snap[i].name, &e))
			world_fail(w, "destroy %s: %s", s->snap[i].name, e.text);
	for (unsigned i = 0; i < REAP_TRIES && rc == -EBUSY; i++) {
		rc = vol_destroy(w->pool, VOLUME, &e);
		if (rc == -EBUSY)
			co_sleep_ns(100 * SIM_MS);
	}
	if (rc)
		world_fail(w, "vol_destroy %s: %d %s", VOLUME, rc, e.text);
	free(s->list);
	free(s);
	w->snapvol = NULL;
}
