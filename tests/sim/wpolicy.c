/* wpolicy: how many copies a volume's data has and on which devices, set and changed in use. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "tests/sim/cover.h"
#include "tests/sim/spares.h"

static uint8_t pick_copies(struct world *w, struct sim_rng *g, bool single_ok)
{
	unsigned in = disks_in(w), most = in < 3 ? in : 3;
	uint8_t n = (uint8_t)rng_range(g, 1, most ? most : 1);
	if (n == 1 && most > 1 && (!single_ok || w->opt.no_single))
		n = 2;
	return n;
}

void wvol_pick_policy(struct world *w, struct wvol *v, struct sim_rng *g)
{
	v->opt.copies = pick_copies(w, g, rng_chance(g, 1, 2));
	v->single = v->opt.copies == 1;
	w->single_ever |= v->single;
	if (w->with_classes && rng_chance(g, 1, 2))
		snprintf(v->opt.class_name, sizeof(v->opt.class_name), "%s", spares_pick_class(g));
}

/* Did the command end, with v as it was? */
static bool refused(struct ctx *c, int rc)
{
	if (rc != -ENOSPC && (rc != -EINVAL || !c->w->administered))
		return false;
	cover_hit(COVER_REFUSED);
	return true;
}

void wvol_set_copies(struct ctx *c)
{
	struct wvol *v = c->v;
	struct err e = {0};
	if (v->closing || v->other_copies || v->class_changes)
		return;
	uint8_t n = pick_copies(c->w, c->g, v->single || rng_chance(c->g, 1, 16));
	v->other_copies = n;
	v->single |= n == 1;
	c->w->single_ever |= n == 1;
	c->k->doing = "vol_set_copies";
	int rc = vol_set_copies(c->w->pool, v->name, n, &e);
	c->k->doing = NULL;
	world_log(c->w, "w%u %s copies %u -> %d", c->k->id, v->name, n, rc);
	cover_hit(COVER_VOL_CONVERTED);
	if (refused(c, rc)) {
		v->other_copies = 0;
		return;
	}
	if (rc && world_excuses(c->w, NULL, rc))
		return; /* either */
	if (rc)
		world_fail(c->w, "vol_set_copies %s to %u: %d %s", v->name, n, rc, e.text);
	v->opt.copies = n;
	v->other_copies = 0;
}

void wvol_set_class(struct ctx *c)
{
	struct wvol *v = c->v;
	struct err e = {0};
	if (v->closing || v->other_copies || v->class_changes)
		return;
	snprintf(v->other_class, sizeof(v->other_class), "%s", spares_pick_class(c->g));
	v->class_changes = true;
	c->k->doing = "vol_set_class";
	int rc = vol_set_class(c->w->pool, v->name, v->other_class, &e);
	c->k->doing = NULL;
	world_log(c->w, "w%u %s class '%s' -> %d", c->k->id, v->name, v->other_class, rc);
	if (!refused(c, rc) && rc && world_excuses(c->w, v, rc))
		return; /* either */
	v->class_changes = false;
	if (rc == -ENOSPC || rc == -EINVAL)
		return;
	if (rc)
		world_fail(c->w, "vol_set_class %s to '%s': %d %s", v->name, v->other_class, rc,
			   e.text);
	memcpy(v->opt.class_name, v->other_class, sizeof(v->opt.class_name));
	cover_hit(COVER_VOL_CLASSES);
}

void wvol_check_policy(struct world *w, struct wvol *v, const struct vol_info *info)
{
	if (v->other_copies == info->copies)
		v->opt.copies = info->copies;
	if (v->class_changes && !strcmp(v->other_class, info->class_name))
		memcpy(v->opt.class_name, v->other_class, sizeof(v->opt.class_name));
	v->other_copies = 0;
	v->class_changes = false;
	if (info->copies != v->opt.copies || info->type != v->opt.type ||
	    strcmp(info->class_name, v->opt.class_name))
		world_fail(w, "verify: %s has other properties than it was made with", v->name);
}
