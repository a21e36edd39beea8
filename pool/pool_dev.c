/* pool_dev: devices out of and into service, into and out of the pool, larger and smaller. */
#include <string.h>
#include <uuid/uuid.h>
#include "pool/chunk.h"
#include "pool/class.h"
#include "pool/event.h"
#include "pool/mover.h"
#include "pool/place.h"
#include "pool/pool_impl.h"
#include "pool/sb.h"
#include "pool/space.h"
#include "pool/spare.h"
#include "pool/squeeze.h"
#include "pool/task.h"
#include "pool/txn.h"
#include "pool/vol_types.h"

/* ---- devices out of and into service ---- */

static unsigned others_online(const struct pool *p, const struct dev *d)
{
	unsigned n = 0;

	for (unsigned i = 0; i < p->ndevs; i++)
		n += i != d->id && p->devs[i].state == DEV_ONLINE &&
		     !(p->devs[i].flags & DEV_F_SPARE);
	return n;
}

/* Would some chunk that has more copies be left without a current one? */
static bool last_current(const struct pool *p, const struct dev *d)
{
	if (d->state != DEV_ONLINE)
		return false;
	for (size_t h = 0; h < p->chunk_hash_size; h++)
		for (const struct chunk *c = p->chunk_hash[h]; c; c = c->hash_next) {
			unsigned here = 0, others = 0;

			for (unsigned i = 0; i < c->nmembers; i++) {
				const struct dev *m = &p->devs[c->m[i].dev];
				bool current =
					m->state == DEV_ONLINE && !chunk_member_since(p, &c->m[i]);

				here += m == d && current;
				others += m != d && current;
			}
			if (here && !others && c->copies > 1 && c->used)
				return true;
		}
	return false;
}

int pool_dev_offline(struct pool *p, uint32_t dev_id, struct err *e)
{
	struct dev_backend *b;
	struct dev *d;
	bool served;
	int rc;

	if (dev_id >= p->ndevs)
		return err_set(e, -ENOENT, "pool %s has no device %u", p->name, dev_id);
	lock_take(&p->lock);
	d = &p->devs[dev_id];
	if (d->state == DEV_NONE || d->changing || !others_online(p, d) || last_current(p, d)) {
		lock_drop(&p->lock);
		if (d->state == DEV_NONE)
			return err_set(e, -ENOENT, "pool %s has no device %u", p->name, dev_id);
		return err_set(e, -EBUSY,
			       "device %u has the only current copy of replicated data (it is the "
			       "last one in "
			       "service, or a resync is under way); wait, or export the pool",
			       dev_id);
	}
	d->changing = true;
	d->generation++;
	served = dev_writable(d);
	if (served) {
		if (!d->stale_since)
			d->stale_since = p->durable_txn + 1;
		event_emit_locked(p, "device-offline",
				  "device %u (%s) taken out of service since transaction %llu",
				  d->id, d->path, (unsigned long long)d->stale_since);
	}
	d->state = DEV_OFFLINE;
	chunk_usable_update(p);
	while (d->inflight) {
		lock_drop(&p->lock);
		co_sleep_ns(1000000);
		lock_take(&p->lock);
	}
	b = d->backend;
	d->backend = NULL;
	lock_drop(&p->lock);
	rc = served ? dev_flush(b) : 0; /* commits do not reach it any more */
	dev_close(b);
	lock_take(&p->lock);
	d->changing = false;
	if (rc)
		p->failed_devs |= 1ull << d->id;
	lock_drop(&p->lock);
	return txn_commit_wait(p);
}

void pool_dev_close_failed(struct pool *p, uint32_t dev_id, bool wait)
{
	struct dev_backend *b = NULL;
	struct dev *d = &p->devs[dev_id];

	lock_take(&p->lock);
	if (dev_id < p->ndevs && d->state == DEV_FAULTED && d->backend && !d->changing &&
	    (wait || !d->inflight)) {
		d->changing = true;
		while (d->inflight) {
			lock_drop(&p->lock);
			co_sleep_ns(1000000);
			lock_take(&p->lock);
		}
		b = d->backend;
		d->backend = NULL;
		d->changing = false;
	}
	lock_drop(&p->lock);
	dev_close(b);
}

static struct dev *dev_of_sb(struct pool *p, const struct sb_disk *sb)
{
	uint32_t own = le32_get(sb->own_dev);

	if (memcmp(sb->pool_uuid, p->uuid, 16) || own >= p->ndevs ||
	    p->devs[own].state == DEV_NONE || /* it is leaving this moment */
	    memcmp(sb->devs[own].uuid, p->devs[own].uuid, 16))
		return NULL;
	return &p->devs[own];
}

int pool_dev_online(struct pool *p, struct dev_backend *b, struct err *e)
{
	struct sb_disk *sb = aligned_alloc(BLOCK_SIZE, SB_SIZE);
	struct dev_backend *old = NULL;
	struct dev *d;
	int rc = sb ? sb_read_newest(b, sb, e) : err_set(e, -ENOMEM, "out of memory");

	if (rc)
		goto out;
	lock_take(&p->lock);
	d = dev_of_sb(p, sb);
	if (d && spare_refuses(p, d)) {
		rc = err_set(e, ERR_IN_USE,
			     "%s: a spare has taken its place in pool %s, and it leaves the pool; "
			     "`tarn pool spare add %s %s --force` takes it in anew",
			     b->path, p->name, p->name, b->path);
		lock_drop(&p->lock);
		goto out;
	}
	if (!d || d->changing ||
	    (d->backend && (d->state == DEV_ONLINE || d->state == DEV_RESYNC)) ||
	    b->size_bytes < d->size_bytes) {
		rc = d ? -EBUSY : ERR_POOL_ID;
		lock_drop(&p->lock);
		err_set(e, rc,
			rc == ERR_POOL_ID
				? "%s does not belong to pool %s"
				: "%s: its place in pool %s is taken, or it has become smaller",
			b->path, p->name);
		goto out;
	}
	d->changing = true;
	while (d->inflight) {
		lock_drop(&p->lock);
		co_sleep_ns(1000000);
		lock_take(&p->lock);
	}
	d->changing = false;
	d->generation++;
	old = d->backend;
	d->stale_since = sb_stale_since(sb, d->stale_since);
	d->backend = b;
	d->sb_seq = le64_get(sb->seq);
	b->size_bytes = d->size_bytes; /* what the pool uses: the back ring ends there */
	snprintf(d->path, sizeof d->path, "%.*s", (int)sizeof d->path - 1, b->path);
	d->state = DEV_RESYNC;
	d->discards_off = false;
	spare_note_lost(d);
	p->resync_wanted = true;
	chunk_usable_update(p);
	event_emit_locked(p, "device-online",
			  "device %u (%s) is back; resynchronising from transaction %llu", d->id,
			  d->path, (unsigned long long)d->stale_since);
	txn_mark_dirty_locked(p);
	lock_drop(&p->lock);
	dev_close(old);
out:
	free(sb);
	return rc;
}

/* ---- into and out of the pool ---- */

void pool_meta_copies_update(struct pool *p)
{
	chunk_meta_copies_update(p);
	space_reserve_init(p);
	p->resync_wanted = true;
}

static struct dev *free_entry(struct pool *p)
{
	for (unsigned i = 0; i < POOL_DEVS_MAX; i++)
		if (p->devs[i].state == DEV_NONE && !p->devs[i].slot_used)
			return &p->devs[i];
	return NULL;
}

static void entry_free(struct dev *d)
{
	uint32_t id = d->id;

	free(d->slot_used);
	memset(d, 0, sizeof *d);
	d->id = id;
}

/* Lock held: an entry for the new device, not in service yet. */
static int entry_make(struct pool *p, struct dev_backend *b, const struct pool_add_options *o,
		      struct dev **ret_d, struct err *e)
{
	struct dev *d = free_entry(p);
	int rc;

	if (!d)
		return err_set(e, -ENOSPC, "a pool has at most %u devices", POOL_DEVS_MAX);
	memset(d, 0, sizeof *d);
	d->id = (uint32_t)(d - p->devs);
	d->size_bytes = b->size_bytes;
	rc = dev_slots_init(p, d);
	if (!rc && d->slots < 4)
		rc = -ENOSPC;
	if (rc) {
		entry_free(d);
		return err_set(e, rc, "%s: %s", b->path,
			       rc == -ENOSPC ? "too small for this pool's chunks" : err_str(rc));
	}
	uuid_generate(d->uuid);
	d->joined = ++p->joins;
	snprintf(d->domain, sizeof d->domain, "%s", o->domain);
	snprintf(d->class_name, sizeof d->class_name, "%s", o->class_name);
	snprintf(d->path, sizeof d->path, "%.*s", (int)sizeof d->path - 1, b->path);
	d->flags = o->spare ? DEV_F_SPARE : 0;
	p->scrub.dev_bytes[d->id] = p->scrub.dev_errors[d->id] = 0;
	*ret_d = d;
	return 0;
}

/* Lock held: from now on it takes writes. */
static void entry_join(struct pool *p, struct dev *d, struct dev_backend *b)
{
	d->backend = b;
	d->state = DEV_ONLINE;
	if (d->id >= p->ndevs)
		p->ndevs = d->id + 1;
	pool_meta_copies_update(p);
	event_emit_locked(p, "device-added", "device %u (%s) joined the pool%s", d->id, d->path,
			  d->flags & DEV_F_SPARE ? " as a spare" : "");
	txn_mark_dirty_locked(p);
}

int pool_dev_add(struct pool *p, struct dev_backend *b, const struct pool_add_options *o,
		 struct err *e)
{
	struct dev *d = NULL;
	int rc = p->read_only ? err_set(e, ERR_READONLY, "the pool is read-only") : pool_wipe(b, e);

	if (rc)
		return rc;
	lock_take(&p->lock);
	rc = entry_make(p, b, o, &d, e);
	lock_drop(&p->lock);
	if (rc)
		return rc;
	rc = sb_write_first(p, d, b);
	lock_take(&p->lock);
	if (rc)
		entry_free(d);
	else
		entry_join(p, d, b);
	lock_drop(&p->lock);
	if (rc)
		return err_set(e, rc, "add %s: write its superblock: %s", b->path, err_str(rc));
	rc = txn_commit_wait(p);
	if (rc)
		return err_set(e, rc, "add %s: commit: %s", b->path, err_str(rc));
	return 0;
}

/* ---- proof that it fits ---- */

struct plan_arg {
	struct pool *p;
	uint32_t dev, from_slot;
	uint64_t free[POOL_DEVS_MAX];
	struct pool_move_plan *r;
};

static bool leaves(const struct plan_arg *pa, const struct member *m)
{
	return m->dev == pa->dev && m->slot >= pa->from_slot;
}

static bool member_of(const struct chunk *c, unsigned dev)
{
	for (unsigned i = 0; i < c->nmembers; i++)
		if (c->m[i].dev == dev)
			return true;
	return false;
}

/* A target for one member; the one with most room, as placement does. */
static bool plan_place(struct plan_arg *pa, const struct chunk *c)
{
	struct pool *p = pa->p;
	int best = -1;

	for (unsigned i = 0; i < p->ndevs; i++) {
		bool same_ok = i == pa->dev && pa->from_slot;

		if (!dev_placeable(&p->devs[i]) || !pa->free[i] || (i == pa->dev && !same_ok) ||
		    (member_of(c, i) && !same_ok) || !class_holds(p, c->class, &p->devs[i]))
			continue;
		if (best < 0 || pa->free[i] > pa->free[best])
			best = (int)i;
	}
	if (best < 0)
		return false;
	pa->free[best]--;
	return true;
}

static void plan_chunk(struct plan_arg *pa, const struct chunk *c, unsigned meta_after)
{
	struct pool_move_plan *r = pa->r;
	unsigned want = c->kind == CHUNK_DATA ? c->copies : meta_after;

	for (unsigned i = 0; i < c->nmembers; i++) {
		if (!leaves(pa, &c->m[i]))
			continue;
		if (task_current_without(pa->p, c, i) >= want)
			continue; /* one copy fewer is wanted: nothing to move */
		r->chunks++;
		r->bytes += (uint64_t)c->used * BLOCK_SIZE;
		if (c->planned || plan_place(pa, c) || !r->fits)
			continue;
		r->fits = false;
		snprintf(r->reason, sizeof r->reason,
			 "no other device%s%s has room for a copy of chunk %llx (%u copies)",
			 c->class ? " of class " : "", pa->p->classes[c->class],
			 (unsigned long long)c->id, c->copies);
	}
}

/* A chunk that holds little would be emptied to make room. */
static void plan_squeeze(struct pool *p, struct chunk *c, void *arg)
{
	struct plan_arg *pa = arg;

	c->planned = true;
	for (unsigned i = 0; i < c->nmembers; i++)
		if (!leaves(pa, &c->m[i]) && dev_placeable(&p->devs[c->m[i].dev]))
			pa->free[c->m[i].dev]++;
}

/* Those being emptied already, too. */
static void plan_squeeze_all(struct plan_arg *pa)
{
	struct pool *p = pa->p;

	for (size_t h = 0; h < p->chunk_hash_size; h++)
		for (struct chunk *c = p->chunk_hash[h]; c; c = c->hash_next)
			if (c->draining)
				plan_squeeze(p, c, pa);
	squeeze_choose(p, SQUEEZE_EIGHTHS_WANTED, 1, plan_squeeze, pa);
}

static void plan_forget_squeeze(struct pool *p)
{
	for (size_t h = 0; h < p->chunk_hash_size; h++)
		for (struct chunk *c = p->chunk_hash[h]; c; c = c->hash_next)
			c->planned = false;
}

/* A volume must not lose the devices its class needs, nor the room that its writers were promised
 * there. */
static void plan_classes(struct plan_arg *pa)
{
	struct pool *p = pa->p;
	const struct dev *d = &p->devs[pa->dev];
	const struct vol *v = pa->from_slot ? NULL : class_needs(p, d);
	struct slots_wanted w;

	if (v && pa->r->fits) {
		pa->r->fits = false;
		snprintf(pa->r->reason, sizeof pa->r->reason,
			 "volume %s needs %u devices of class %s, and there would be fewer",
			 v->name, v->copies, d->class_name);
	}
	space_slots_wanted(p, 0, &w);
	for (unsigned k = 1; k <= CLASSES_MAX && pa->r->fits; k++) {
		uint64_t there = 0;

		for (unsigned i = 0; i < p->ndevs; i++)
			if (dev_placeable(&p->devs[i]) && class_holds(p, k, &p->devs[i]) &&
			    (i != pa->dev || pa->from_slot))
				there += pa->free[i];
		pa->r->fits = there >= w.n[k];
		snprintf(pa->r->reason, sizeof pa->r->reason,
			 "writes under way need the room on devices of class %s", p->classes[k]);
	}
}

static void plan_try(struct pool *p, uint32_t dev, uint32_t from_slot, bool squeeze,
		     struct pool_move_plan *r)
{
	struct plan_arg pa = {.p = p, .dev = dev, .from_slot = from_slot, .r = r};
	unsigned meta_after = 0;
	uint64_t total = 0, keep;

	memset(r, 0, sizeof *r);
	r->fits = true;
	for (unsigned i = 0; i < p->ndevs; i++) {
		/* A device that is missing still counts: it may come back. */
		meta_after += (i != dev || from_slot) && p->devs[i].state != DEV_NONE &&
			      !(p->devs[i].flags & (DEV_F_EVACUATE | DEV_F_SPARE));
		pa.free[i] = p->devs[i].slots_free;
	}
	if (from_slot) {
		const struct dev *d = &p->devs[dev];

		pa.free[dev] = 0;
		for (uint32_t s = 0; s < from_slot; s++)
			pa.free[dev] += !bit_get(d->slot_used, s);
	}
	if (squeeze)
		plan_squeeze_all(&pa);
	if (meta_after > 3)
		meta_after = 3;
	for (unsigned data = 0; data < 2; data++) /* in the mover's order */
		for (size_t h = 0; h < p->chunk_hash_size; h++)
			for (struct chunk *c = p->chunk_hash[h]; c; c = c->hash_next)
				if ((c->kind == CHUNK_DATA) == data)
					plan_chunk(&pa, c, meta_after);
	plan_classes(&pa);
	for (unsigned i = 0; i < p->ndevs; i++)
		if (dev_placeable(&p->devs[i]) && (i != dev || from_slot))
			total += pa.free[i];
	keep = space_kept_slots(p);
	if (keep < 2u * meta_after)
		keep = 2u * meta_after;
	if (r->fits && total < keep) {
		r->fits = false;
		snprintf(r->reason, sizeof r->reason,
			 "nothing would be left for the pool to work with");
	}
	plan_forget_squeeze(p);
}

/* Lock held. from_slot 0: all of the device. */
static void plan_make(struct pool *p, uint32_t dev, uint32_t from_slot, struct pool_move_plan *r)
{
	struct pool_move_plan more;

	plan_try(p, dev, from_slot, false, r);
	if (r->fits)
		return;
	plan_try(p, dev, from_slot, true, &more);
	if (more.fits)
		*r = more;
}

static int dev_find(struct pool *p, uint32_t id, struct err *e)
{
	if (id >= p->ndevs || p->devs[id].state == DEV_NONE)
		return err_set(e, -ENOENT, "pool %s has no device %u", p->name, id);
	return 0;
}

static int refuse_plan(const struct pool_move_plan *r, const char *doing, struct err *e)
{
	return r->fits ? 0
		       : err_set(e, -ENOSPC,
				 "%s: it does not fit: %s; add a device or free space first", doing,
				 r->reason);
}

int pool_leave_check(struct pool *p, const struct dev *d, const char *doing,
		     struct pool_move_plan *ret_plan, struct err *e)
{
	plan_make(p, d->id, 0, ret_plan);
	if (ret_plan->fits && !others_online(p, d))
		return err_set(e, -EBUSY, "device %u is the last one in service", d->id);
	return refuse_plan(ret_plan, doing, e);
}

int pool_dev_remove(struct pool *p, uint32_t dev_id, bool dry_run, struct pool_move_plan *ret_plan,
		    struct err *e)
{
	int rc = dev_find(p, dev_id, e);

	if (rc)
		return rc;
	lock_take(&p->lock);
	plan_make(p, dev_id, 0, ret_plan);
	if (!dry_run)
		rc = refuse_plan(ret_plan, "remove device", e);
	if (!rc && !dry_run && !others_online(p, &p->devs[dev_id]))
		rc = err_set(e, -EBUSY, "device %u is the last one in service", dev_id);
	if (!rc && !dry_run) {
		p->devs[dev_id].flags |= DEV_F_EVACUATE;
		pool_meta_copies_update(p);
		task_begin(p);
		event_emit_locked(p, "device-removing",
				  "device %u (%s) is being emptied: %llu bytes to move", dev_id,
				  p->devs[dev_id].path, (unsigned long long)ret_plan->bytes);
		txn_mark_dirty_locked(p);
	}
	lock_drop(&p->lock);
	return rc || dry_run ? rc : txn_commit_wait(p);
}

int pool_dev_remove_cancel(struct pool *p, uint32_t dev_id, struct err *e)
{
	int rc = dev_find(p, dev_id, e);

	if (rc)
		return rc;
	lock_take(&p->lock);
	if (!(p->devs[dev_id].flags & DEV_F_EVACUATE) && !p->devs[dev_id].slots_limit) {
		rc = err_set(e, -EINVAL, "device %u is not being removed or shrunk", dev_id);
	} else if (p->devs[dev_id].flags & DEV_F_TAKEN) {
		rc = err_set(e, -EBUSY, "a spare has taken the place of device %u", dev_id);
	} else {
		p->devs[dev_id].flags &= (uint8_t)~DEV_F_EVACUATE;
		p->devs[dev_id].slots_limit = 0;
		dev_slots_recount(&p->devs[dev_id]);
		pool_meta_copies_update(p);
		txn_mark_dirty_locked(p);
	}
	lock_drop(&p->lock);
	return rc ? rc : txn_commit_wait(p);
}

int pool_dev_shrink(struct pool *p, uint32_t dev_id, uint64_t size_bytes, bool dry_run,
		    struct pool_move_plan *ret_plan, struct err *e)
{
	uint64_t chunk_bytes = (uint64_t)p->chunk_blocks * BLOCK_SIZE, slots;
	int rc = dev_find(p, dev_id, e);
	struct dev *d;

	if (rc)
		return rc;
	d = &p->devs[dev_id];
	if (size_bytes < SB_DATA_START + SB_RING_BYTES + 4 * chunk_bytes)
		return err_set(
			e, -EINVAL, "a device of this pool needs at least %llu bytes",
			(unsigned long long)(SB_DATA_START + SB_RING_BYTES + 4 * chunk_bytes));
	slots = (size_bytes - SB_DATA_START - SB_RING_BYTES) / chunk_bytes;
	if (slots >= d->slots)
		return err_set(e, -EINVAL, "device %u has %llu bytes; give a smaller size", dev_id,
			       (unsigned long long)d->size_bytes);
	lock_take(&p->lock);
	plan_make(p, dev_id, (uint32_t)slots, ret_plan);
	if (!dry_run)
		rc = refuse_plan(ret_plan, "shrink device", e);
	if (!rc && !dry_run) {
		d->slots_limit = (uint32_t)slots;
		dev_slots_recount(d);
		task_begin(p);
		txn_mark_dirty_locked(p);
	}
	lock_drop(&p->lock);
	return rc || dry_run ? rc : txn_commit_wait(p);
}

int pool_dev_grow(struct pool *p, uint32_t dev_id, uint64_t size_bytes, struct err *e)
{
	struct dev *d, was;
	int rc = dev_find(p, dev_id, e);

	if (rc)
		return rc;
	d = &p->devs[dev_id];
	size_bytes = size_bytes / BLOCK_SIZE * BLOCK_SIZE;
	if (size_bytes <= d->size_bytes)
		return err_set(
			e, -EINVAL,
			"device %u has not grown (%llu bytes); enlarge the file or partition first",
			dev_id, (unsigned long long)d->size_bytes);
	lock_take(&p->lock);
	was = *d;
	d->slot_used = NULL;
	d->size_bytes = size_bytes;
	rc = d->slots_limit ? -EBUSY : dev_slots_init(p, d);
	if (rc) {
		*d = was;
	} else {
		memcpy(d->slot_used, was.slot_used, (was.slots + 63) / 64 * 8);
		memcpy(d->slot_stale, was.slot_stale, (was.slots + 63) / 64 * 8);
		free(was.slot_used);
		dev_slots_recount(d);
		if (d->backend)
			d->backend->size_bytes = size_bytes;
		space_reserve_init(p);
		event_emit_locked(p, "device-grown", "device %u (%s) now has %llu bytes", d->id,
				  d->path, (unsigned long long)size_bytes);
		txn_mark_dirty_locked(p);
	}
	lock_drop(&p->lock);
	return rc ? err_set(e, rc, "grow device %u: %s", dev_id, err_str(rc)) : txn_commit_wait(p);
}
