/* worker: a coroutine that does random operations on random volumes and keeps the histories. */
#include <errno.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include "pool/pool_types.h"
#include "tests/sim/cover.h"
#include "tests/sim/item_key.h"
#include "tests/sim/sim_reactor.h"
#include "tests/sim/world.h"

#define WHY	     512
#define STAGE_OBJECT (1ull << 40) /* + worker: what is cloned from there */

struct range {
	unsigned space;
	uint64_t off, len;
};

/* ---- what came back ---- */

/* A shrink may have taken away what an operation was about. */
static bool raced(const struct ctx *c)
{
	return c->v->resizing || c->v->resizes != c->resizes;
}

/* Does it take several steps, so that an error may leave some of it done? */
static bool in_steps(const char *what)
{
	return !strcmp(what, "vol_punch") || !strcmp(what, "vol_clone_range");
}

/* Settle an operation: acknowledged, refused cleanly, or open when the policy allows for loss. */
static void settle(struct ctx *c, struct hist_op *op, int rc, const char *what)
{
	c->k->doing = NULL;
	if (!rc) {
		hist_ack(c->v->h, op);
		return;
	}
	if (rc == -ENOSPC) {
		cover_hit(COVER_ENOSPC);
		if (!in_steps(what))
			hist_drop(c->v->h, op);
		return;
	}
	if (raced(c)) {
		if (!in_steps(what))
			hist_drop(c->v->h, op);
		return;
	}
	if (rc == -ENOMEM && world_excuses(c->w, NULL, rc)) {
		if (!in_steps(what))
			hist_drop(c->v->h, op);
		return;
	}
	if (!world_excuses(c->w, c->v, rc))
		world_fail(c->w, "%s on %s: %d %s", what, c->v->name, rc, err_str(rc));
}

static struct range pick_range(struct ctx *c, uint64_t max)
{
	struct range r;
	struct history *h = c->v->h;
	r.space = (unsigned)rng_below(c->g, hist_spaces(h));
	uint64_t end = hist_space(h, r.space)->blocks * HIST_BLOCK;
	if (c->v->opt.type == VOL_TYPE_BLOCK && c->v->size < end)
		end = c->v->size;
	uint64_t hot = rng_chance(c->g, 3, 4) ? end / 8 : end;
	r.off = rng_below(c->g, hot);
	r.len = rng_chance(c->g, 1, 2) ? rng_below(c->g, 4 * HIST_BLOCK) + 1
				       : rng_skewed(c->g, max);
	if (rng_below(c->g, 100) < c->w->align_percent) {
		r.off -= r.off % HIST_BLOCK;
		r.len = (r.len + HIST_BLOCK - 1) / HIST_BLOCK * HIST_BLOCK;
	} else if (rng_chance(c->g, 1, 2)) {
		r.off -= r.off % SIM_SECTOR;
		r.len = (r.len + SIM_SECTOR - 1) / SIM_SECTOR * SIM_SECTOR;
	}
	if (r.len > max)
		r.len = max;
	if (r.len > end - r.off)
		r.len = end - r.off;
	return r;
}

static unsigned pick_keys(struct ctx *c, struct hist_key *keys)
{
	unsigned n = 1 + (unsigned)rng_below(c->g, ITEM_KEYS_MAX), all = hist_keys(c->v->h);
	unsigned first = (unsigned)rng_below(c->g, all), step = rng_chance(c->g, 1, 2) ? 1 : 11;
	for (unsigned i = 0; i < n; i++) {
		keys[i].key = (uint16_t)((first + i * step) % all);
		keys[i].put = rng_chance(c->g, 3, 4);
	}
	return n;
}

static uint64_t write_max(struct world *w)
{
	uint64_t m = w->popt.delta_bytes / 8; /* longer ones are not atomic */
	return m < WORLD_WRITE_MAX ? m : WORLD_WRITE_MAX;
}

static void log_op(struct ctx *c, const char *what, struct range r, const struct hist_op *op)
{
	world_log(c->w, "w%u %s op %u %s space %u %llu+%llu", c->k->id, c->v->name, hist_seq(op),
		  what, r.space, (unsigned long long)r.off, (unsigned long long)r.len);
}

static struct wvol *pick_volume(struct world *w, struct sim_rng *g)
{
	unsigned first = (unsigned)rng_below(g, WORLD_VOLS_MAX);
	for (unsigned i = 0; i < WORLD_VOLS_MAX; i++) {
		struct wvol *v = &w->vol[(first + i) % WORLD_VOLS_MAX];
		if (v->state == WVOL_LIVE && v->v && !v->closing)
			return v;
	}
	return NULL;
}

/* ---- data ---- */

static void object_number(struct ctx *c, const struct item_change *ch, int rc)
{
	if (rc || !ch->want_object)
		return;
	if (ch->new_object <= c->v->object_max || ch->new_object < VOL_OBJECT_FIRST)
		world_fail(c->w, "%s: object number %llu handed out again", c->v->name,
			   (unsigned long long)ch->new_object);
	c->v->object_max = ch->new_object;
}

static void do_write(struct ctx *c, bool items)
{
	struct hist_key keys[ITEM_KEYS_MAX];
	struct range r = pick_range(c, write_max(c->w));
	const struct hist_space *s = hist_space(c->v->h, r.space);
	struct hist_op *op = hist_write(c->v->h, r.space, r.off, r.len,
					(enum stamp_style)rng_below(c->g, STAMP_STYLES));
	struct item_change ch = {.h = c->v->h, .keys = keys, .seq = hist_seq(op)};
	if (items) {
		ch.n = pick_keys(c, keys);
		hist_add_items(c->v->h, op, keys, ch.n);
	}
	hist_fill(c->v->h, op, c->k->buf);
	log_op(c, "write", r, op);
	c->k->doing = "vol_write";
	int rc = vol_write(c->v->v, s->object, s->base + r.off, r.len, c->k->buf,
			   items ? item_change_fn : NULL, &ch);
	world_log(c->w, "w%u %s op %u -> %d", c->k->id, c->v->name, hist_seq(op), rc);
	settle(c, op, rc, "vol_write");
}

static void do_read(struct ctx *c)
{
	char why[WHY];
	struct range r = pick_range(c, WORLD_WRITE_MAX);
	const struct hist_space *s = hist_space(c->v->h, r.space);
	uint64_t since = hist_now(c->v->h);
	c->k->doing = "vol_read";
	int rc = vol_read(c->v->v, s->object, s->base + r.off, r.len, c->k->buf);
	c->k->doing = NULL;
	if (rc && raced(c))
		return;
	if (rc && world_excuses(c->w, c->v, rc)) {
		cover_hit(COVER_DATA_LOST_OK);
		return;
	}
	if (rc)
		world_fail(c->w, "vol_read %s space %u %llu+%llu: %d %s", c->v->name, r.space,
			   (unsigned long long)r.off, (unsigned long long)r.len, rc, err_str(rc));
	cover_hit(COVER_READS_CHECKED);
	if (!hist_check_read(c->v->h, r.space, r.off, r.len, c->k->buf, since, why, sizeof(why)))
		world_fail(c->w, "read: %s", why);
}

static void do_punch(struct ctx *c)
{
	struct range r = pick_range(c, UINT64_MAX / 2);
	const struct hist_space *s = hist_space(c->v->h, r.space);
	uint64_t len = r.len;
	if (c->v->opt.type == VOL_TYPE_FS && rng_chance(c->g, 1, 6)) {
		len = UINT64_MAX - (s->base + r.off); /* truncate */
		r.len = UINT64_MAX - r.off;
	}
	struct hist_op *op = hist_zero(c->v->h, r.space, r.off, r.len);
	log_op(c, "punch", r, op);
	c->k->doing = "vol_punch";
	int rc = vol_punch(c->v->v, s->object, s->base + r.off, len, NULL, NULL);
	world_log(c->w, "w%u %s op %u -> %d", c->k->id, c->v->name, hist_seq(op), rc);
	cover_hit(COVER_PUNCHES);
	if (rc == -ENOSPC && r.off % HIST_BLOCK == 0 && len % HIST_BLOCK == 0)
		world_fail(c->w, "vol_punch of whole blocks on %s: ENOSPC", c->v->name);
	settle(c, op, rc, "vol_punch");
}

/* A write whose bytes come by way of an object of the worker's own, in this volume or another. What
 * lay there before may be shared still. */
static int stage_and_clone(struct ctx *c, struct wvol *from, struct range r)
{
	const struct hist_space *s = hist_space(c->v->h, r.space);
	uint64_t stage = STAGE_OBJECT + c->k->id, at = s->base + r.off, done = 0;
	c->k->doing = "vol_write of what is cloned";
	int rc = vol_write(from->v, stage, at, r.len, c->k->buf, NULL, NULL);
	if (!rc && rng_chance(c->g, 2, 3))
		rc = pool_commit(c->w->pool);
	c->k->doing = "vol_clone_range";
	if (!rc)
		rc = vol_clone_range(from->v, stage, at, c->v->v, s->object, at, r.len, NULL, NULL,
				     &done);
	if (!rc && done != r.len)
		world_fail(c->w, "vol_clone_range: %llu bytes of %llu", (unsigned long long)done,
			   (unsigned long long)r.len);
	if (!rc && rng_chance(c->g, 1, 4))
		vol_punch(from->v, stage, at, r.len, NULL, NULL);
	return rc;
}

static void do_clone(struct ctx *c)
{
	struct range r = pick_range(c, write_max(c->w));
	struct hist_op *op = hist_write(c->v->h, r.space, r.off, r.len,
					(enum stamp_style)rng_below(c->g, STAMP_STYLES));
	struct wvol *from = rng_chance(c->g, 1, 2) ? pick_volume(c->w, c->g) : c->v;
	if (!from)
		from = c->v;
	hist_fill(c->v->h, op, c->k->buf);
	log_op(c, "clone", r, op);
	from->users++;
	int rc = stage_and_clone(c, from, r);
	from->users--;
	world_log(c->w, "w%u %s op %u from %s -> %d", c->k->id, c->v->name, hist_seq(op),
		  from->name, rc);
	cover_hit(COVER_CLONES);
	if (rc && rc != -ENOSPC && world_excuses(c->w, from, rc))
		c->k->doing = NULL; /* may have been done in part */
	else
		settle(c, op, rc, "vol_clone_range");
}

static void do_sync(struct ctx *c)
{
	uint64_t since = hist_now(c->v->h);
	c->k->doing = "vol_sync";
	int rc = vol_sync(c->v->v);
	c->k->doing = NULL;
	world_log(c->w, "w%u %s sync of %llu -> %d", c->k->id, c->v->name,
		  (unsigned long long)since, rc);
	cover_hit(COVER_SYNCS);
	if (!rc)
		hist_synced(c->v->h, since);
	else if (!world_excuses(c->w, c->v, rc))
		world_fail(c->w, "vol_sync %s: %d %s", c->v->name, rc, err_str(rc));
}

static void do_commit(struct ctx *c)
{
	struct history *h[WORLD_VOLS_MAX];
	uint64_t since = hist_now(c->v->h);
	for (unsigned i = 0; i < WORLD_VOLS_MAX; i++)
		h[i] = c->w->vol[i].v ? c->w->vol[i].h : NULL;
	c->k->doing = "pool_commit";
	int rc = pool_commit(c->w->pool);
	c->k->doing = NULL;
	world_log(c->w, "w%u commit of %llu -> %d", c->k->id, (unsigned long long)since, rc);
	cover_hit(COVER_COMMITS);
	if (rc && !world_excuses(c->w, NULL, rc))
		world_fail(c->w, "pool_commit: %d %s", rc, err_str(rc));
	for (unsigned i = 0; i < WORLD_VOLS_MAX && !rc; i++)
		if (h[i] && c->w->vol[i].h == h[i])
			hist_synced(h[i], since);
}

static void do_reserve(struct ctx *c)
{
	struct range r = pick_range(c, WORLD_WRITE_MAX);
	const struct hist_space *s = hist_space(c->v->h, r.space);
	c->k->doing = "vol_reserve";
	int rc = vol_reserve(c->v->v, s->object, s->base + r.off, r.len, NULL, NULL);
	c->k->doing = NULL;
	if (rc == -ENOSPC)
		cover_hit(COVER_ENOSPC);
	else if (rc && !world_excuses(c->w, c->v, rc) && !raced(c))
		world_fail(c->w, "vol_reserve %s: %d %s", c->v->name, rc, err_str(rc));
}

static void do_seek(struct ctx *c)
{
	struct range r = pick_range(c, WORLD_WRITE_MAX);
	const struct hist_space *s = hist_space(c->v->h, r.space);
	uint64_t at = s->base + r.off, data = 0, hole = 0, bytes = 0, extents;
	c->k->doing = "vol_seek";
	int rc = vol_seek_data(c->v->v, s->object, at, &data);
	if (!rc && data < at)
		world_fail(c->w, "vol_seek_data went back");
	if (rc && rc != -ENXIO && !world_excuses(c->w, NULL, rc))
		world_fail(c->w, "vol_seek_data %s: %d %s", c->v->name, rc, err_str(rc));
	rc = vol_seek_hole(c->v->v, s->object, at, &hole);
	if (!rc && hole < at)
		world_fail(c->w, "vol_seek_hole went back");
	if (rc && rc != -ENXIO && !world_excuses(c->w, NULL, rc))
		world_fail(c->w, "vol_seek_hole %s: %d %s", c->v->name, rc, err_str(rc));
	rc = vol_object_bytes(c->v->v, s->object, &bytes, &extents);
	c->k->doing = NULL;
	if (rc && !world_excuses(c->w, NULL, rc))
		world_fail(c->w, "vol_object_bytes %s: %d %s", c->v->name, rc, err_str(rc));
}

/* ---- items ---- */

static void do_change(struct ctx *c)
{
	struct hist_key keys[ITEM_KEYS_MAX];
	unsigned n = pick_keys(c, keys);
	struct hist_op *op = hist_items(c->v->h, keys, n);
	struct item_change ch = {.h = c->v->h,
				 .keys = keys,
				 .n = n,
				 .seq = hist_seq(op),
				 .want_object = rng_chance(c->g, 1, 4)};
	cover_hit(COVER_ITEM_CHANGES);
	c->k->doing = "vol_change";
	int rc = vol_change(c->v->v, false, item_change_fn, &ch);
	world_log(c->w, "w%u %s op %u change of %u items from %u -> %d", c->k->id, c->v->name,
		  hist_seq(op), n, keys[0].key, rc);
	settle(c, op, rc, "vol_change");
	object_number(c, &ch, rc);
}

static void do_query(struct ctx *c)
{
	char why[WHY];
	struct item_query q = {.h = c->v->h};
	q.key = (uint16_t)rng_below(c->g, hist_keys(c->v->h));
	uint64_t since = hist_now(c->v->h);
	c->k->doing = "vol_query";
	int rc = vol_query(c->v->v, item_query_fn, &q);
	c->k->doing = NULL;
	if (rc && world_excuses(c->w, NULL, rc))
		return;
	if (rc)
		world_fail(c->w, "vol_query %s: %d %s", c->v->name, rc, err_str(rc));
	if (q.foreign)
		world_fail(c->w, "%s item %u has a foreign value", c->v->name, q.key);
	cover_hit(COVER_READS_CHECKED);
	if (!hist_check_item(c->v->h, q.key, q.seq, since, why, sizeof(why)))
		world_fail(c->w, "query: %s", why);
}

/* ---- the rest ---- */

static void do_status(struct ctx *c)
{
	static struct pool_status st;
	static struct pool_event ev[64];
	struct vol_info info;
	pool_status_get(c->w->pool, &st);
	if (st.delta_bytes > st.delta_limit_bytes)
		world_fail(c->w, "delta of %llu bytes is over its limit of %llu",
			   (unsigned long long)st.delta_bytes,
			   (unsigned long long)st.delta_limit_bytes);
	if (st.raw_used_bytes + st.raw_free_bytes > st.raw_bytes)
		world_fail(c->w, "used %llu + free %llu is more than %llu",
			   (unsigned long long)st.raw_used_bytes,
			   (unsigned long long)st.raw_free_bytes, (unsigned long long)st.raw_bytes);
	pool_events(c->w->pool, 0, ev, 64);
	vol_info_get(c->v->v, &info);
	if (strcmp(info.name, c->v->name))
		world_fail(c->w, "vol_info_get: name %s of %s", info.name, c->v->name);
}

static enum wop pick_op(struct world *w, struct sim_rng *g)
{
	unsigned sum = 0;
	for (unsigned i = 0; i < WOP_COUNT; i++)
		sum += w->weight[i];
	uint64_t dice = rng_below(g, sum);
	for (unsigned i = 0; i < WOP_COUNT; i++) {
		if (dice < w->weight[i])
			return (enum wop)i;
		dice -= w->weight[i];
	}
	return WOP_SLEEP;
}

static void do_op(struct ctx *c, enum wop op)
{
	switch (op) {
	case WOP_WRITE:
		do_write(c, false);
		break;
	case WOP_WRITE_ITEMS:
		do_write(c, c->v->opt.type == VOL_TYPE_FS);
		break;
	case WOP_READ:
		do_read(c);
		break;
	case WOP_PUNCH:
		do_punch(c);
		break;
	case WOP_CLONE:
		do_clone(c);
		break;
	case WOP_SYNC:
		do_sync(c);
		break;
	case WOP_CHANGE:
		do_change(c);
		break;
	case WOP_QUERY:
		do_query(c);
		break;
	case WOP_RESERVE:
		do_reserve(c);
		break;
	case WOP_SEEK:
		do_seek(c);
		break;
	case WOP_COMMIT:
		do_commit(c);
		break;
	case WOP_RESIZE:
		wvol_resize(c);
		break;
	case WOP_CREATE:
		wvol_create(c->w, c->g);
		break;
	case WOP_DESTROY:
		wvol_destroy(c);
		break;
	case WOP_TRASH:
		wvol_trash(c);
		break;
	case WOP_RESTORE:
		wvol_restore(c->w, c->g);
		break;
	case WOP_EMPTY_TRASH:
		wvol_empty_trash(c->w, c->g);
		break;
	case WOP_COPIES:
		wvol_set_copies(c);
		break;
	case WOP_CLASS:
		wvol_set_class(c);
		break;
	case WOP_RENAME:
		wvol_rename(c);
		break;
	case WOP_PROPERTY:
		wvol_set_property(c);
		break;
	case WOP_CHECK:
		c->k->doing = "pool_check";
		verify_check(c->w, rng_chance(c->g, 1, 2));
		c->k->doing = NULL;
		break;
	case WOP_STATUS:
		do_status(c);
		break;
	case WOP_SLEEP:
	case WOP_COUNT:
		c->k->doing = "sleep";
		co_sleep_ns(rng_skewed(c->g, 200 * SIM_MS));
		break;
	}
}

void worker_main(void *arg)
{
	struct worker *k = arg;
	struct world *w = k->w;
	k->co = co_self();
	while (w->ops_left && !w->pool->faulted) {
		w->ops_left--;
		struct ctx c = {.k = k, .w = w, .g = &k->rng, .v = pick_volume(w, &k->rng)};
		cover_hit(COVER_OPS);
		if (!c.v) {
			if (!wvol_create(w, c.g))
				co_sleep_ns(SIM_MS);
			continue;
		}
		c.v->users++;
		c.resizes = c.v->resizes;
		do_op(&c, pick_op(w, c.g));
		if (c.v)
			c.v->users--;
		if (rng_chance(c.g, 1, 4))
			co_sleep_ns(rng_skewed(c.g, 2 * SIM_MS));
	}
	k->done = true;
}
