#include "pool/spare.h"
#include <string.h>
#include "pool/chunk.h"
#include "pool/event.h"
#include "pool/journal.h"
#include "pool/pool_impl.h"
#include "pool/space.h"
#include "pool/task.h"
#include "pool/txn.h"

#define TICK_NS 1000000000ull

/* ---- lost devices ---- */

static bool is_lost(const struct dev *d)
{
	return (d->state == DEV_MISSING || d->state == DEV_FAULTED) &&
	       !(d->flags & (DEV_F_EVACUATE | DEV_F_SPARE));
}

bool spare_note_lost(struct dev *d)
{
	uint64_t now = reactor_wall_ns(), was = d->lost_ns;

	if (!is_lost(d)) {
		d->lost_ns = 0;
		d->spare_reported = false;
	} else if (!d->lost_ns || d->lost_ns > now) { /* a clock may have been set back */
		d->lost_ns = now;
	}
	return d->lost_ns != was;
}

/* Does no device but d have a current copy? */
static bool only_here(const struct pool *p, const struct chunk *c, const struct dev *d)
{
	bool here = false;

	for (unsigned i = 0; i < c->nmembers; i++) {
		const struct dev *m = &p->devs[c->m[i].dev];

		if (m == d)
			here = true;
		else if (m->state == DEV_ONLINE && !chunk_member_since(p, &c->m[i]))
			return false;
	}
	return here && c->used && c->kind != CHUNK_LOG;
}

static uint64_t only_copies(const struct pool *p, const struct dev *d)
{
	uint64_t n = 0;

	for (size_t h = 0; h < p->chunk_hash_size; h++)
		for (const struct chunk *c = p->chunk_hash[h]; c; c = c->hash_next)
			n += only_here(p, c, d);
	return n;
}

bool spare_refuses(const struct pool *p, const struct dev *d)
{
	return d->flags & DEV_F_TAKEN && !only_copies(p, d);
}

/* ---- which spare ---- */

static uint32_t slots_used(const struct dev *d)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < d->slots; i++)
		n += bit_get(d->slot_used, i);
	return n;
}

static bool fits(const struct dev *s, const struct dev *lost)
{
	return s->flags & DEV_F_SPARE && !(s->flags & DEV_F_EVACUATE) && !s->slots_limit &&
	       s->state == DEV_ONLINE && !slots_used(s) && s->slots >= slots_used(lost) &&
	       (!lost->class_name[0] || !strcmp(s->class_name, lost->class_name));
}

/* The better one is as large as the lost one was, then of the same domain, then without a class
 * when that had none, then the smaller. */
static unsigned worth(const struct dev *s, const struct dev *lost)
{
	return (s->slots >= lost->slots) * 4u + !strcmp(s->domain, lost->domain) * 2u +
	       !strcmp(s->class_name, lost->class_name);
}

static struct dev *spare_for(struct pool *p, const struct dev *lost)
{
	struct dev *best = NULL;

	for (unsigned i = 0; i < p->ndevs; i++) {
		struct dev *s = &p->devs[i];

		if (!fits(s, lost))
			continue;
		if (!best || worth(s, lost) > worth(best, lost) ||
		    (worth(s, lost) == worth(best, lost) && s->slots < best->slots))
			best = s;
	}
	return best;
}

/* ---- taking over ---- */

struct takeover {
	struct dev *lost, *spare;
};

/* Both flags go into the same superblock: after a crash either nothing has happened or the rebuild
 * goes on. */
static void take_over(struct pool *p, struct dev *lost, struct dev *s)
{
	uint64_t only = only_copies(p, lost);

	s->flags &= (uint8_t)~DEV_F_SPARE;
	lost->flags |= DEV_F_EVACUATE | DEV_F_TAKEN;
	lost->lost_ns = 0;
	pool_meta_copies_update(p);
	task_begin(p);
	txn_mark_dirty_locked(p);
	event_emit_locked(p, "spare-takeover",
			  "spare %u (%s) takes the place of device %u (%s): %u chunks to rebuild",
			  s->id, s->path, lost->id, lost->path, slots_used(lost));
	if (only)
		event_emit_locked(p, "spare-only-copy",
				  "device %u (%s) had the only copy of %llu chunks, which wait for "
				  "it",
				  lost->id, lost->path, (unsigned long long)only);
}

static void report_none(struct pool *p, struct dev *lost)
{
	if (lost->spare_reported)
		return;
	lost->spare_reported = true;
	event_emit_locked(p, "spare-none",
			  "device %u (%s) is lost and no spare fits%s%s: `tarn pool spare add` one "
			  "of %llu bytes, or `tarn pool replace` it",
			  lost->id, lost->path, lost->class_name[0] ? "; class " : "",
			  lost->class_name, (unsigned long long)lost->size_bytes);
}

static bool overdue(const struct pool *p, const struct dev *d)
{
	uint64_t now = reactor_wall_ns();

	return d->lost_ns && now > d->lost_ns && p->spare_after_s != SPARE_NEVER &&
	       (now - d->lost_ns) / 1000000000u >= p->spare_after_s;
}

static bool due(const struct pool *p, const struct dev *d)
{
	return is_lost(d) && !d->changing && overdue(p, d);
}

/* One lost device a turn. */
static struct takeover turn_locked(struct pool *p)
{
	struct takeover t = {NULL, NULL};

	for (unsigned i = 0; i < p->ndevs && !t.spare; i++) {
		struct dev *d = &p->devs[i];

		if (spare_note_lost(d))
			txn_mark_dirty_locked(p); /* or a restart would begin to count anew */
		if (!due(p, d))
			continue;
		t = (struct takeover){d, spare_for(p, d)};
		if (!t.spare)
			report_none(p, d);
	}
	return t;
}

/* With the entry of the history: it says why a device is gone for good. */
static bool enter(struct pool *p, void *arg, bool do_it)
{
	struct takeover *t = arg;

	if (!do_it)
		return due(p, t->lost) && spare_for(p, t->lost) == t->spare;
	take_over(p, t->lost, t->spare);
	txn_commit_request_locked(p);
	return true;
}

void spare_tick(struct pool *p)
{
	struct takeover t = {NULL, NULL};
	char text[512];

	lock_take(&p->lock);
	if (!p->faulted && !p->stopping && p->durable_txn &&
	    reactor_now_ns() - p->spare_last_ns >= TICK_NS) {
		p->spare_last_ns = reactor_now_ns();
		t = turn_locked(p);
	}
	if (t.spare)
		snprintf(text, sizeof text,
			 "hot spare %u (%.200s) takes the place of device %u (%.200s)", t.spare->id,
			 t.spare->path, t.lost->id, t.lost->path);
	lock_drop(&p->lock);
	if (t.spare)
		journal_history_with(p, text, enter, &t);
}

/* ---- a member becomes a spare ---- */

static int make_spare_locked(struct pool *p, struct dev *d, struct err *e)
{
	struct pool_move_plan plan;
	int rc = 0;

	if (d->flags & DEV_F_SPARE)
		return err_set(e, -EEXIST, "device %u is a spare already", d->id);
	if (d->flags & DEV_F_EVACUATE || d->slots_limit || d->state != DEV_ONLINE)
		return err_set(e, -EBUSY, "device %u is %s; it must be online, and stay", d->id,
			       d->flags & DEV_F_EVACUATE ? "being removed"
			       : d->slots_limit		 ? "being shrunk"
							 : dev_state_name(d->state));
	rc = pool_leave_check(p, d, "make it a spare", &plan, e);
	if (rc)
		return rc;
	d->flags |= DEV_F_SPARE;
	pool_meta_copies_update(p);
	task_begin(p);
	event_emit_locked(p, "device-spare", "device %u (%s) is a spare now: %llu bytes to move",
			  d->id, d->path, (unsigned long long)plan.bytes);
	txn_mark_dirty_locked(p);
	return 0;
}

int pool_dev_make_spare(struct pool *p, uint32_t dev_id, struct err *e)
{
	int rc;

	lock_take(&p->lock);
	if (dev_id >= p->ndevs || p->devs[dev_id].state == DEV_NONE)
		rc = err_set(e, -ENOENT, "pool %s has no device %u", p->name, dev_id);
	else
		rc = make_spare_locked(p, &p->devs[dev_id], e);
	lock_drop(&p->lock);
	return rc ? rc : txn_commit_wait(p);
}
