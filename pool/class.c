#include "pool/class.h"
#include <string.h>
#include "pool/event.h"
#include "pool/mover.h"
#include "pool/txn.h"
#include "pool/vol_types.h"

#define FULL_EVENT_NS 60000000000ull

/* ---- numbers ---- */

int class_find(const struct pool *p, const char *name)
{
	for (unsigned i = 0; i <= CLASSES_MAX; i++)
		if (!strcmp(p->classes[i], name))
			return (int)i;
	return -ENOENT;
}

static bool in_use(const struct pool *p, unsigned class)
{
	for (const struct vol *v = p->vols; v; v = v->next)
		if (v->class == class)
			return true;
	for (const struct vol *s = p->snaps; s; s = s->next)
		if (s->class == class)
			return true;
	for (unsigned k = 1; k <= COPIES_MAX; k++) {
		unsigned policy = policy_of(k, class);

		if (p->lists[CHUNK_DATA][policy].count || p->reserved[policy])
			return true;
	}
	return false;
}

int class_enter(struct pool *p, const char *name)
{
	int n = class_find(p, name);

	for (unsigned i = 1; n < 0 && i <= CLASSES_MAX; i++)
		if (!p->classes[i][0])
			n = (int)i;
	for (unsigned i = 1; n < 0 && i <= CLASSES_MAX; i++)
		if (!in_use(p, i))
			n = (int)i;
	if (n < 0)
		return -ENOSPC;
	snprintf(p->classes[n], sizeof p->classes[n], "%s", name);
	return n;
}

/* ---- devices ---- */

bool class_holds(const struct pool *p, unsigned class, const struct dev *d)
{
	return !class || !strcmp(p->classes[class], d->class_name);
}

static bool counts(const struct dev *d)
{
	return d->state != DEV_NONE && !(d->flags & (DEV_F_EVACUATE | DEV_F_SPARE));
}

static unsigned usable_named(const struct pool *p, const char *name)
{
	unsigned n = 0;

	for (unsigned i = 0; i < p->ndevs; i++)
		n += counts(&p->devs[i]) && (!name[0] || !strcmp(p->devs[i].class_name, name));
	return n;
}

unsigned class_usable_devs(const struct pool *p, unsigned class)
{
	return usable_named(p, p->classes[class]);
}

static const struct vol *needs_in(const struct pool *p, const struct vol *v, const struct dev *d)
{
	for (; v; v = v->next)
		if (v->class && !v->destroying && counts(d) && class_holds(p, v->class, d) &&
		    class_usable_devs(p, v->class) <= v->copies)
			return v;
	return NULL;
}

const struct vol *class_needs(const struct pool *p, const struct dev *d)
{
	const struct vol *v = needs_in(p, p->vols, d);

	return v ? v : needs_in(p, p->snaps, d);
}

int class_check_copies(const struct pool *p, const char *name, unsigned copies, struct err *e)
{
	unsigned n = usable_named(p, name);

	if (copies <= n)
		return 0;
	if (!name[0])
		return err_set(e, -EINVAL, "copies=%u needs as many devices; the pool has %u",
			       copies, n);
	return err_set(e, -EINVAL,
		       "copies=%u needs as many devices of class %s; the pool has %u (`tarn pool "
		       "add --class %s` takes more in, `tarn pool class` changes a device's)",
		       copies, name, n, name);
}

bool class_misplaced(const struct pool *p, const struct chunk *c, const struct member *m)
{
	return c->class && !class_holds(p, c->class, &p->devs[m->dev]);
}

void class_full_event(struct vol *v)
{
	uint64_t now = reactor_now_ns();

	if (!v->class || (v->full_event_ns && now - v->full_event_ns < FULL_EVENT_NS))
		return;
	v->full_event_ns = now;
	event_emit_locked(v->p, "class-full",
			  "volume %s: no room on devices of class %s; add some, free space there, "
			  "or `tarn volume set` another class",
			  v->name, v->p->classes[v->class]);
}

/* ---- superblock ---- */

int class_validate(const struct sb_disk *sb, struct err *e)
{
	for (unsigned i = 0; i < SB_CLASSES_MAX; i++) {
		const char *name = sb->classes[i];

		if (!memchr(name, 0, sizeof sb->classes[i]))
			return err_set(e, ERR_FORMAT, "superblock: class %u out of bounds", i + 1);
		for (unsigned k = 0; name[0] && k < i; k++)
			if (!strcmp(name, sb->classes[k]))
				return err_set(e, ERR_FORMAT, "superblock: class %s twice", name);
	}
	return 0;
}

void class_from_sb(struct pool *p, const struct sb_disk *sb)
{
	for (unsigned i = 0; i < SB_CLASSES_MAX; i++)
		snprintf(p->classes[i + 1], sizeof p->classes[i + 1], "%s", sb->classes[i]);
	p->misplaced = le64_get(sb->features_incompat) & SB_FEATURE_CLASSES;
}

void class_to_sb(const struct pool *p, struct sb_disk *sb)
{
	bool any = false;

	for (unsigned i = 0; i < SB_CLASSES_MAX; i++) {
		snprintf(sb->classes[i], sizeof sb->classes[i], "%s", p->classes[i + 1]);
		any |= p->classes[i + 1][0];
	}
	if (any)
		sb->features_incompat =
			le64_of(le64_get(sb->features_incompat) | SB_FEATURE_CLASSES);
}

/* ---- the class of a device ---- */

static int set_class_locked(struct pool *p, struct dev *d, const char *name, struct err *e)
{
	const struct vol *v;

	if (!strcmp(d->class_name, name))
		return 0;
	v = class_needs(p, d);
	if (v)
		return err_set(e, -EBUSY,
			       "volume %s needs %u devices of class %s; without device %u there "
			       "would be fewer",
			       v->name, v->copies, d->class_name, d->id);
	snprintf(d->class_name, sizeof d->class_name, "%s", name);
	p->misplaced = true;
	mover_wake_locked(p);
	event_emit_locked(p, "device-class", "device %u (%s) is of %s%s now", d->id, d->path,
			  name[0] ? "class " : "no class", name);
	txn_mark_dirty_locked(p);
	return 0;
}

int pool_dev_set_class(struct pool *p, uint32_t dev_id, const char *name, struct err *e)
{
	int rc;

	if (strlen(name) > POOL_CLASS_MAX)
		return err_set(e, -EINVAL, "a class name has at most %u characters",
			       POOL_CLASS_MAX);
	lock_take(&p->lock);
	if (dev_id >= p->ndevs || p->devs[dev_id].state == DEV_NONE)
		rc = err_set(e, -ENOENT, "pool %s has no device %u", p->name, dev_id);
	else
		rc = set_class_locked(p, &p->devs[dev_id], name, e);
	lock_drop(&p->lock);
	return rc ? rc : txn_commit_wait(p);
}
