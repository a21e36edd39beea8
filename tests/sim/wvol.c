/* wvol: whole volumes: created, resized, renamed, thrown away, restored, destroyed, converted.
 *
 * closing: somebody has the volume for itself; nobody new goes in. A state that names two
 * possibilities (CREATING, TRASHING, LEAVING) is settled by the next import.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "pool/vol_types.h"
#include "tests/sim/cover.h"
#include "tests/sim/sim_reactor.h"
#include "tests/sim/world.h"

#define TRASH_MAX 16u

void wvol_forget(struct wvol *v)
{
	hist_destroy(v->h);
	memset(v, 0, sizeof(*v));
}

/* ---- create ---- */

static void make_history(struct world *w, struct wvol *v)
{
	struct hist_space s[3];
	unsigned n = 0;
	if (v->opt.type == VOL_TYPE_BLOCK) {
		s[n++] = (struct hist_space){VOL_BLOCK_OBJECT, 0, 2048};
	} else {
		s[n++] = (struct hist_space){VOL_OBJECT_FIRST, 0, 512};
		s[n++] = (struct hist_space){VOL_OBJECT_FIRST + 1, 0, 64};
		s[n++] = (struct hist_space){VOL_OBJECT_FIRST + 2, (1ull << 42) - 65536, 128};
	}
	v->h = hist_create(v->no, &w->clock, s, n, v->opt.type == VOL_TYPE_FS ? 96 : 16,
			   v->opt.size_bytes);
}

static void options_pick(struct world *w, struct wvol *v, struct sim_rng *g)
{
	v->no = w->next_vol++;
	snprintf(v->name, sizeof(v->name), "v%u", v->no);
	v->opt.type = rng_chance(g, 1, 2) ? VOL_TYPE_BLOCK : VOL_TYPE_FS;
	wvol_pick_policy(w, v, g);
	v->opt.compression = rng_chance(g, 2, 3) ? VOL_COMPRESS_LZ4 : VOL_COMPRESS_OFF;
	v->opt.size_bytes = v->opt.type == VOL_TYPE_BLOCK ? 2048 * HIST_BLOCK : 0;
	v->size = v->opt.size_bytes;
}

static void opened(struct wvol *v)
{
	struct vol_info info;
	vol_info_get(v->v, &info);
	v->id = info.id;
	v->object_max = 0;
	v->state = WVOL_LIVE;
}

bool wvol_create(struct world *w, struct sim_rng *g)
{
	struct wvol *v = NULL;
	struct err e = {0};
	for (unsigned i = 0; i < WORLD_VOLS_MAX && !v; i++)
		if (w->vol[i].state == WVOL_NONE)
			v = &w->vol[i];
	if (!v || w->next_vol == 255)
		return false;
	v->state = WVOL_CREATING;
	v->closing = true;
	options_pick(w, v, g);
	make_history(w, v);
	int rc = vol_create(w->pool, v->name, &v->opt, &e);
	world_log(w, "create %s %s copies %u class '%s' -> %d", v->name,
		  v->opt.type == VOL_TYPE_BLOCK ? "block" : "fs", v->opt.copies, v->opt.class_name,
		  rc);
	if (rc == -ENOSPC || (rc == -EINVAL && w->administered)) {
		cover_hit(rc == -ENOSPC ? COVER_ENOSPC : COVER_REFUSED);
		wvol_forget(v);
		return false;
	}
	if (rc && world_excuses(w, NULL, rc))
		return false; /* may be there after the restart */
	if (rc)
		world_fail(w, "vol_create %s: %d %s", v->name, rc, e.text);
	cover_hit(COVER_VOL_CREATED);
	rc = vol_open(w->pool, v->name, &v->v, &e);
	if (rc)
		world_fail(w, "vol_open %s: %d %s", v->name, rc, e.text);
	opened(v);
	v->closing = false;
	return true;
}

/* ---- one user alone ---- */

/* Wait until the caller is the only user, then close. False: somebody else does that already. */
static bool take_alone(struct ctx *c)
{
	struct wvol *v = c->v;
	if (v->closing || v->other_copies || v->class_changes || v->resizing)
		return false;
	v->closing = true;
	while (v->users > 1) {
		c->k->doing = "waiting for the other users of a volume";
		co_sleep_ns(SIM_MS);
	}
	vol_close(v->v);
	v->v = NULL;
	return true;
}

static void give_back(struct ctx *c)
{
	struct err e = {0};
	struct wvol *v = c->v;
	int rc = vol_open(c->w->pool, v->name, &v->v, &e);
	if (rc)
		world_fail(c->w, "vol_open %s: %d %s", v->name, rc, e.text);
	opened(v);
	v->closing = false;
}

/* Out of the world of the caller: the volume is shut until the next import. */
static void leave_open(struct ctx *c)
{
	c->v->users--;
	c->v = NULL;
	c->k->doing = NULL;
}

/* ---- resize ---- */

void wvol_resize(struct ctx *c)
{
	if (c->v->opt.type != VOL_TYPE_BLOCK || c->v->resizing || c->v->closing)
		return;
	struct err e = {0};
	uint64_t max = hist_space(c->v->h, 0)->blocks;
	uint64_t size = rng_range(c->g, max / 8, max) * HIST_BLOCK;
	struct hist_op *op = hist_resize(c->v->h, size);
	uint64_t old = c->v->size;
	c->v->resizing = true;
	c->v->resizes++;
	if (size < old)
		c->v->size = size; /* nobody goes there any more */
	world_log(c->w, "w%u %s op %u resize to %llu", c->k->id, c->v->name, hist_seq(op),
		  (unsigned long long)size);
	c->k->doing = "vol_resize";
	int rc = vol_resize(c->w->pool, c->v->name, size, true, &e);
	c->k->doing = NULL;
	cover_hit(COVER_VOL_RESIZED);
	if (rc && world_excuses(c->w, c->v, rc))
		return; /* resizing stays: either size */
	if (rc)
		world_fail(c->w, "vol_resize %s to %llu: %d %s", c->v->name,
			   (unsigned long long)size, rc, e.text);
	hist_ack(c->v->h, op);
	c->v->size = size;
	c->v->resizing = false;
}

/* ---- destroy, trash ---- */

void wvol_destroy(struct ctx *c)
{
	struct wvol *v = c->v;
	struct err e = {0};
	if (rng_chance(c->g, 1, 4) && !v->closing) { /* refused while it is open */
		int busy = vol_destroy(c->w->pool, v->name, &e);
		if (busy != ERR_IN_USE && !world_excuses(c->w, NULL, busy))
			world_fail(c->w, "vol_destroy of open %s: %d %s", v->name, busy, e.text);
	}
	if (!take_alone(c))
		return;
	v->state = WVOL_DESTROYING;
	world_log(c->w, "w%u destroy %s", c->k->id, v->name);
	c->k->doing = "vol_destroy";
	int rc = vol_destroy(c->w->pool, v->name, &e);
	if (!rc) {
		cover_hit(COVER_VOL_DESTROYED);
		c->k->doing = "pool_commit after vol_destroy";
		rc = pool_commit(c->w->pool);
	}
	if (rc && world_excuses(c->w, NULL, rc)) {
		leave_open(c);
		return;
	}
	if (rc)
		world_fail(c->w, "vol_destroy %s: %d %s", v->name, rc, e.text);
	c->k->doing = NULL;
	wvol_forget(v);
	c->v = NULL;
}

void wvol_trash(struct ctx *c)
{
	struct wvol *v = c->v;
	struct err e = {0};
	if (!take_alone(c))
		return;
	uint64_t since = hist_now(v->h);
	v->state = WVOL_TRASHING;
	v->trashed_ns = c->w->r->ops->wall_ns(c->w->r);
	c->k->doing = "vol_trash";
	int rc = vol_trash(c->w->pool, v->name, &e);
	world_log(c->w, "w%u trash %s -> %d", c->k->id, v->name, rc);
	if (!rc) {
		hist_synced(v->h, since);
		v->maybe_live = false;
		cover_hit(COVER_VOL_TRASHED);
		if (v->state == WVOL_TRASHING)
			v->state = WVOL_TRASHED;
		v->closing = false;
	} else if (!world_excuses(c->w, NULL, rc)) {
		world_fail(c->w, "vol_trash %s: %d %s", v->name, rc, e.text);
	}
	leave_open(c);
}

static bool event_seen(struct world *w, const char *kind)
{
	static struct pool_event ev[256];
	for (unsigned i = pool_events(w->pool, 0, ev, 256); i-- > 0;)
		if (!strcmp(ev[i].kind, kind))
			return true;
	return false;
}

static bool in_trash(struct world *w, uint64_t id)
{
	static struct vol_trash_info t[TRASH_MAX];
	unsigned n = vol_trash_list(w->pool, t, TRASH_MAX);
	for (unsigned i = 0; i < n && i < TRASH_MAX; i++)
		if (t[i].id == id)
			return true;
	return false;
}

/* The pool let it go: durable with a commit, then it is out of the world. */
static void let_go(struct world *w, struct wvol *v)
{
	v->closing = true;
	int rc = pool_commit(w->pool);
	if (rc && world_excuses(w, NULL, rc))
		return;
	if (rc)
		world_fail(w, "pool_commit: %d %s", rc, err_str(rc));
	if (in_trash(w, v->id))
		world_fail(w, "%s left the trash and is back there", v->name);
	wvol_forget(v);
}

static struct wvol *pick_trashed(struct world *w, struct sim_rng *g)
{
	unsigned first = (unsigned)rng_below(g, WORLD_VOLS_MAX);
	for (unsigned i = 0; i < WORLD_VOLS_MAX; i++) {
		struct wvol *v = &w->vol[(first + i) % WORLD_VOLS_MAX];
		if ((v->state == WVOL_TRASHED || v->state == WVOL_LEAVING) && !v->closing)
			return v;
	}
	return NULL;
}

void wvol_restore(struct world *w, struct sim_rng *g)
{
	struct wvol *v = pick_trashed(w, g);
	struct err e = {0};
	if (!v)
		return;
	if (v->state == WVOL_LEAVING) {
		let_go(w, v);
		return;
	}
	v->closing = true;
	v->state = WVOL_TRASHING;
	bool renamed = rng_chance(g, 1, 4);
	if (renamed)
		snprintf(v->other_name, sizeof(v->other_name), "r%u", w->next_name++);
	int rc = vol_trash_restore(w->pool, v->name, rng_chance(g, 1, 2) ? v->id : 0,
				   renamed ? v->other_name : NULL, &e);
	world_log(w, "restore %s -> %d", v->name, rc);
	if (rc == -ENOENT && v->state == WVOL_LEAVING) { /* the pool was faster */
		v->closing = false;
		return;
	}
	if (rc && world_excuses(w, NULL, rc))
		return;
	if (rc)
		world_fail(w, "vol_trash_restore %s: %d %s", v->name, rc, e.text);
	cover_hit(COVER_VOL_RESTORED);
	if (renamed)
		memcpy(v->name, v->other_name, sizeof(v->name));
	v->other_name[0] = 0;
	rc = vol_open(w->pool, v->name, &v->v, &e);
	if (rc)
		world_fail(w, "vol_open %s after its restore: %d %s", v->name, rc, e.text);
	opened(v);
	v->closing = false;
}

void wvol_empty_trash(struct world *w, struct sim_rng *g)
{
	struct wvol *v = pick_trashed(w, g);
	struct err e = {0};
	unsigned n = 0;
	if (!v)
		return;
	if (v->state == WVOL_LEAVING) {
		let_go(w, v);
		return;
	}
	v->closing = true;
	v->state = WVOL_LEAVING;
	bool by_id = rng_chance(g, 1, 2);
	w->emptying++;
	int rc = vol_trash_empty(w->pool, by_id ? NULL : v->name, by_id ? v->id : 0, &n, &e);
	w->emptying--;
	world_log(w, "empty trash of %s -> %d, %u", v->name, rc, n);
	if (rc && rc != -ENOENT && world_excuses(w, NULL, rc))
		return;
	if ((rc && rc != -ENOENT) || n > 1)
		world_fail(w, "vol_trash_empty %s: %d %s, %u gone", v->name, rc, e.text, n);
	cover_hit(COVER_TRASH_EMPTIED);
	let_go(w, v);
}

static void leaves_trash(struct world *w, const struct vol *v)
{
	for (unsigned i = 0; i < WORLD_VOLS_MAX; i++) {
		struct wvol *x = &w->vol[i];
		if (x->id != v->id || (x->state != WVOL_TRASHED && x->state != WVOL_TRASHING))
			continue;
		x->maybe_live = x->state == WVOL_TRASHING;
		x->state = WVOL_LEAVING;
		if (event_seen(w, "trash-pressure"))
			cover_hit(COVER_TRASH_PRESSURE);
		else if (event_seen(w, "trash-expired"))
			cover_hit(COVER_TRASH_EXPIRED);
		else
			world_fail(w, "%s leaves the trash, and nobody said why", x->name);
	}
}

void wvol_watch(struct world *w)
{
	for (const struct vol *v = w->pool ? w->pool->vols : NULL; v; v = v->next)
		if (v->trashed_ns && v->destroying)
			leaves_trash(w, v);
}

/* ---- properties ---- */

void wvol_rename(struct ctx *c)
{
	struct wvol *v = c->v;
	struct err e = {0};
	if (!take_alone(c))
		return;
	snprintf(v->other_name, sizeof(v->other_name), "r%u", c->w->next_name++);
	c->k->doing = "vol_rename";
	int rc = vol_rename(c->w->pool, v->name, v->other_name, &e);
	c->k->doing = NULL;
	world_log(c->w, "w%u rename %s to %s -> %d", c->k->id, v->name, v->other_name, rc);
	if (rc && world_excuses(c->w, NULL, rc)) {
		leave_open(c);
		return;
	}
	if (rc)
		world_fail(c->w, "vol_rename %s: %d %s", v->name, rc, e.text);
	cover_hit(COVER_VOL_RENAMED);
	memcpy(v->name, v->other_name, sizeof(v->name));
	v->other_name[0] = 0;
	give_back(c);
}

static int set_retention(struct ctx *c)
{
	uint64_t s = rng_skewed(c->g, 30 * 24 * 3600);
	if (s < c->w->retention_s)
		c->w->retention_s = s;
	return pool_set_trash_retention(c->w->pool, s);
}

void wvol_set_property(struct ctx *c)
{
	struct err e = {0};
	int rc = 0;
	if (c->v->closing)
		return;
	uint64_t what = rng_below(c->g, 4);
	c->k->doing = "vol_set_*";
	if (what == 0)
		rc = vol_set_compression(
			c->w->pool, c->v->name,
			rng_chance(c->g, 1, 2) ? VOL_COMPRESS_LZ4 : VOL_COMPRESS_OFF, &e);
	else if (what == 1)
		rc = vol_set_owner(c->w->pool, c->v->name, (uint32_t)rng_below(c->g, 100), &e);
	else if (what == 2)
		rc = set_retention(c);
	else
		rc = vol_set_reservation(c->w->pool, c->v->name,
					 rng_chance(c->g, 1, 3) ? 0 : rng_below(c->g, 4u << 20),
					 &e);
	c->k->doing = NULL;
	world_log(c->w, "w%u %s property %llu -> %d", c->k->id, c->v->name,
		  (unsigned long long)what, rc);
	cover_hit(what == 3 ? COVER_RESERVATIONS : COVER_PROPERTIES);
	if (rc == -ENOSPC && what >= 2)
		cover_hit(COVER_ENOSPC);
	else if (rc && !world_excuses(c->w, NULL, rc))
		world_fail(c->w, "set property %llu of %s: %d %s", (unsigned long long)what,
			   c->v->name, rc, e.text);
}

/* ---- after an import ---- */

/* An import lets go what is due, and may have been cut short since. */
static bool may_have_expired(struct world *w, const struct wvol *v)
{
	uint64_t now = w->r->ops->wall_ns(w->r);
	now = now > w->boot_last_ns ? now : w->boot_last_ns; /* the clock may have been set back */
	return now > v->trashed_ns + w->retention_s * SIM_SEC || event_seen(w, "trash-expired");
}

static void open_live(struct world *w, struct wvol *v)
{
	struct err e = {0};
	int rc = vol_open(w->pool, v->name, &v->v, &e);
	if (rc == -ENOENT && v->other_name[0]) {
		rc = vol_open(w->pool, v->other_name, &v->v, &e);
		if (!rc)
			memcpy(v->name, v->other_name, sizeof(v->name));
	}
	if (rc == -ENOENT &&
	    (v->state == WVOL_CREATING || v->state == WVOL_DESTROYING || v->state == WVOL_LEAVING ||
	     (v->state == WVOL_TRASHING && may_have_expired(w, v)))) {
		wvol_forget(v);
		return;
	}
	if (rc)
		world_fail(w, "vol_open %s: %d %s", v->name, rc, e.text);
	v->other_name[0] = 0;
	opened(v);
}

void wvol_open_all(struct world *w)
{
	for (unsigned i = 0; i < WORLD_VOLS_MAX; i++) {
		struct wvol *v = &w->vol[i];
		bool trash = v->state == WVOL_TRASHING || v->state == WVOL_TRASHED ||
			     v->state == WVOL_LEAVING;
		if (v->state == WVOL_NONE || v->v)
			continue;
		v->closing = false;
		if (!trash ||
		    ((v->state == WVOL_TRASHING || v->maybe_live) && !in_trash(w, v->id))) {
			v->maybe_live = false;
			open_live(w, v);
			continue;
		}
		if (in_trash(w, v->id)) {
			v->state = WVOL_TRASHED;
			v->other_name[0] = 0;
		} else if (v->state == WVOL_TRASHED && !may_have_expired(w, v) &&
			   !event_seen(w, "trash-pressure")) {
			world_fail(w, "%s is not in the trash any more", v->name);
		} else {
			wvol_forget(v);
		}
	}
}
