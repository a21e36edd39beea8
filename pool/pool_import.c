/* pool_import: from devices to a running pool.
 *
 * Read the superblocks -> newest wins, a majority of the devices it names must be here -> heartbeat
 * -> device table, chunk map, bitmaps of metadata, volumes -> (read-only stops here) -> background
 * work -> log replay -> commit -> resync of devices that were away.
 */
#include <string.h>
#include "pool/chunk.h"
#include "pool/class.h"
#include "pool/event.h"
#include "pool/ilog.h"
#include "pool/journal.h"
#include "pool/mover.h"
#include "pool/pool_impl.h"
#include "pool/sb.h"
#include "pool/space.h"
#include "pool/spare.h"
#include "pool/task.h"
#include "pool/txn.h"
#include "pool/vol_record.h"

/* Transactions are skipped at every import, so that what two divergent lives of a pool wrote is
 * told apart. */
#define TXN_SKIP 16

struct import {
	struct pool *p;
	struct dev_backend **devs;
	unsigned n;
	struct sb_disk *sbs; /* one per backend */
	struct sb_disk *newest;
	const struct pool_options *o;
};

/* A device that cannot say what it is (dead, or all its superblocks rotten) counts as missing; the
 * quorum decides whether the others may go on without it. The devices that can are moved to the
 * front. One that a newer Tarn has written to says that the pool is not for this one. */
static int read_all(struct import *im, struct err *e)
{
	struct err first = {0};
	unsigned n = 0;

	for (unsigned i = 0; i < im->n; i++) {
		struct sb_disk *sb = &im->sbs[n];
		struct dev_backend *b = im->devs[i];
		int rc = sb_read_newest(b, sb, e);

		if (rc == ERR_VERSION)
			return rc; /* what others say is older */
		if (rc) {
			if (!first.code)
				first = *e;
			event_emit(im->p, "device-unreadable", "%s", e->text);
			continue;
		}
		if (memcmp(sb->pool_uuid, im->sbs[0].pool_uuid, 16))
			return err_set(
				e, ERR_POOL_ID,
				"%s belongs to pool %s, %s to pool %s; import one pool at a time",
				im->devs[0]->path, im->sbs[0].pool_name, b->path, sb->pool_name);
		if (!im->newest || sb_newer(sb, im->newest))
			im->newest = sb;
		im->devs[i] = im->devs[n];
		im->devs[n++] = b;
	}
	im->n = n;
	if (!n && first.code)
		*e = first;
	else
		e->code = 0;
	return n ? 0 : first.code ? first.code : err_set(e, ERR_NO_QUORUM, "no devices given");
}

/* A device that is here must have the size that the superblock claims, before any memory is asked
 * for on its word. */
static int check_size(const struct import *im, unsigned id, struct err *e)
{
	uint64_t size = le64_get(im->newest->devs[id].size_bytes);

	for (unsigned i = 0; i < im->n; i++) {
		const struct dev_backend *b = im->devs[i];

		if (le32_get(im->sbs[i].own_dev) != id || b->size_bytes >= size ||
		    memcmp(im->sbs[i].devs[id].uuid, im->newest->devs[id].uuid, 16))
			continue;
		return err_set(e, ERR_FORMAT,
			       "%s has become smaller than the pool knows it (%llu < %llu bytes)",
			       b->path, (unsigned long long)b->size_bytes,
			       (unsigned long long)size);
	}
	return 0;
}

static int add_devs(struct import *im, struct err *e)
{
	struct pool *p = im->p;
	const struct sb_disk *nw = im->newest;

	p->ndevs = le32_get(nw->devs_count);
	for (unsigned i = 0; i < p->ndevs; i++) {
		struct dev *d = &p->devs[i];
		const struct sb_dev_disk *s = &nw->devs[i];
		int rc;

		d->id = i;
		if (s->state == DEV_NONE)
			continue;
		rc = check_size(im, i, e);
		if (rc)
			return rc;
		memcpy(d->uuid, s->uuid, 16);
		d->size_bytes = le64_get(s->size_bytes);
		d->stale_since = le64_get(s->stale_since);
		snprintf(d->domain, sizeof d->domain, "%s", s->domain);
		snprintf(d->path, sizeof d->path, "%s", s->path);
		snprintf(d->class_name, sizeof d->class_name, "%s", s->class_name);
		d->flags = s->flags;
		d->lost_ns = le64_get(s->lost_ns);
		d->state = s->state == DEV_OFFLINE ? DEV_OFFLINE : DEV_MISSING;
		rc = dev_slots_init(p, d);
		if (rc)
			return err_set(e, rc, "device %u: %s", i, err_str(rc));
	}
	return 0;
}

/* What a device that is here may be taken for. Its own superblock says what it saw last. Crashes
 * between two devices may leave it some writes behind, though the commits' data had been flushed to
 * all; but never behind what the newest superblock says all had: that is an outage nobody recorded,
 * or an old copy. */
static void dev_place(struct import *im, struct dev *d, const struct sb_disk *own)
{
	const struct sb_disk *nw = im->newest;
	const struct sb_dev_disk *s = &nw->devs[d->id];
	uint64_t seq = le64_get(own->seq);

	d->sb_seq = seq;
	if (s->state == DEV_ONLINE && seq >= le64_get(nw->seq_all)) {
		d->state = DEV_ONLINE;
		return;
	}
	d->stale_since = sb_stale_since(own, s->state == DEV_ONLINE ? 0 : d->stale_since);
	d->state = DEV_RESYNC;
	im->p->resync_wanted = true;
}

static int attach(struct import *im, struct err *e)
{
	struct pool *p = im->p;

	for (unsigned i = 0; i < im->n; i++) {
		const struct sb_disk *own = &im->sbs[i];
		uint32_t id = le32_get(own->own_dev);
		struct dev *d = id < p->ndevs ? &p->devs[id] : NULL;

		if (!d || d->state == DEV_NONE || memcmp(own->devs[id].uuid, d->uuid, 16)) {
			event_emit(p, "device-not-member", "%s was removed from the pool; left out",
				   im->devs[i]->path);
			continue;
		}
		if (d->backend)
			return err_set(
				e, ERR_POOL_ID,
				"%s and %s are copies of one device; give only the current one",
				d->backend->path, im->devs[i]->path);
		if (d->state == DEV_OFFLINE)
			continue; /* stays out until `online` */
		d->backend = im->devs[i];
		d->lost_ns = 0;
		im->devs[i] = NULL;
		d->backend->size_bytes =
			d->size_bytes; /* what the pool uses: the back ring ends there */
		snprintf(d->path, sizeof d->path, "%.*s", (int)sizeof d->path - 1,
			 d->backend->path);
		dev_place(im, d, own);
	}
	return 0;
}

static int check_quorum(struct import *im, struct err *e)
{
	struct pool *p = im->p;
	unsigned active = 0, here = 0, current = 0;

	for (unsigned i = 0; i < p->ndevs; i++) {
		bool was = im->newest->devs[i].state == DEV_ONLINE;

		active += was;
		here += was && p->devs[i].backend;
		current += p->devs[i].state == DEV_ONLINE &&
			   !(p->devs[i].flags & DEV_F_SPARE); /* which holds nothing */
	}
	if (!current)
		return err_set(
			e, ERR_NO_QUORUM,
			"none of the devices given is up to date; look for the missing ones");
	if (here * 2 <= active && !im->o->degraded_ok && !im->o->force && !im->o->read_only)
		return err_set(
			e, ERR_NO_QUORUM,
			"only %u of the %u devices that served last are here, so they cannot "
			"prove that nothing newer exists; look for the missing ones, or use "
			"--degraded if they "
			"are lost",
			here, active);
	for (unsigned i = 0; i < p->ndevs; i++) {
		struct dev *d = &p->devs[i];

		if (d->backend || d->stale_since || d->state == DEV_NONE)
			continue;
		d->stale_since = le64_get(im->newest->txn) + 1;
		if (d->state != DEV_OFFLINE)
			event_emit(p, "device-missing", "device %u (last at %s) is missing", d->id,
				   d->path);
	}
	return 0;
}

/* ---- loading ---- */

static int load_boot(struct pool *p, const struct sb_disk *sb, struct err *e)
{
	for (uint32_t i = 0; i < le32_get(sb->boot_count); i++) {
		const struct chunk_disk *cd = &sb->boot[i];
		int rc = chunk_validate(cd, le64_get(cd->id), p, e);

		if (!rc)
			rc = chunk_load(p, cd);
		if (rc)
			return err_set(e, rc, "boot chunk %u: %s", i, err_str(rc));
	}
	return 0;
}

static int check_roots(const struct sb_disk *sb, struct err *e)
{
	uint64_t txn = le64_get(sb->txn);

	if (le64_get(sb->map.ptr.birth) > txn || le64_get(sb->space.ptr.birth) > txn ||
	    le64_get(sb->root.ptr.birth) > txn)
		return err_set(e, ERR_FORMAT, "superblock: a root is younger than its transaction");
	return 0;
}

static int load(struct import *im, struct err *e)
{
	struct pool *p = im->p;
	const struct sb_disk *sb = im->newest;
	int rc = check_roots(sb, e);

	if (!rc)
		rc = load_boot(p, sb, e);
	if (rc)
		return rc;
	rc = txn_init(p, le64_get(sb->txn) + 1 + TXN_SKIP, le64_get(sb->txn));
	if (rc)
		return err_set(e, rc, "out of memory");
	pool_trees_init(p, sb);
	rc = pool_load(p, e);
	if (rc)
		return rc;
	rc = journal_load(p);
	if (rc)
		return err_set(e, rc, "read the pool's settings: %s", err_str(rc));
	lock_take(&p->lock);
	for (unsigned i = 0; i < p->ndevs; i++) {
		struct dev *d = &p->devs[i];

		if (d->state == DEV_NONE)
			continue;
		d->slots_limit = le32_get(sb->devs[i].slots_limit);
		if (d->slots_limit > d->slots)
			d->slots_limit = 0;
		dev_slots_recount(d);
	}
	for (size_t h = 0; h < p->chunk_hash_size; h++)
		for (struct chunk *c = p->chunk_hash[h]; c; c = c->hash_next) {
			p->resync_wanted |= c->nmembers < c->copies;
			for (unsigned i = 0; i < c->nmembers; i++)
				p->resync_wanted |= c->m[i].stale_since != 0;
		}
	space_reserve_init(p);
	p->log_chunk = chunk_find(p, le64_get(sb->log_chunk_id));
	lock_drop(&p->lock);
	if (!p->log_chunk || p->log_chunk->kind != CHUNK_LOG)
		return err_set(e, ERR_FORMAT, "the superblock names no log chunk");
	return 0;
}

/* Devices whose place a spare has taken are not let in (spare.h). Nothing of them was read: they
 * are stale. */
static void release_taken(struct pool *p)
{
	for (unsigned i = 0; i < p->ndevs; i++) {
		struct dev *d = &p->devs[i];

		lock_take(&p->lock);
		if (d->backend && d->state == DEV_RESYNC && spare_refuses(p, d)) {
			event_emit_locked(p, "device-released",
					  "device %u (%s) is back, but a spare has taken its "
					  "place: left out",
					  d->id, d->path);
			dev_close(d->backend);
			d->backend = NULL;
			d->state = DEV_MISSING;
			chunk_usable_update(p);
		}
		lock_drop(&p->lock);
	}
}

/* A power cut may have let one device alone have the newest superblock. What its commit freed is
 * used again from now on, and the others need that should this device die: first all have it. */
static int share_newest(struct pool *p)
{
	uint64_t newest = le64_get(p->sb->seq);

	for (unsigned i = 0; i < p->ndevs; i++)
		if (p->devs[i].state == DEV_ONLINE && p->devs[i].sb_seq < newest)
			return sb_write_all(p, p->sb);
	return 0;
}

static int start(struct import *im, struct err *e)
{
	struct pool *p = im->p;
	uint64_t groups = 0;
	int rc = share_newest(p);

	if (!rc)
		rc = pool_bg_start(p);
	if (!rc)
		rc = ilog_replay(p, &groups, e);
	if (rc)
		return e->code ? rc : err_set(e, rc, "replay the intent log: %s", err_str(rc));
	lock_take(&p->lock);
	mover_forget_half_done(
		p); /* not earlier: the log may have been written to a new member alone */
	/* The device table may be newer than the records of the chunks. */
	p->resync_wanted |= chunk_meta_copies_update(p);
	p->rebalancing = le32_get(p->sb->flags) & SB_FLAG_REBALANCE;
	if (p->rebalancing)
		task_plan_rebalance(p);
	task_begin(p); /* what was under way goes on */
	p->log_epoch = p->open->nr;
	lock_drop(&p->lock);
	if (groups)
		event_emit(p, "replayed", "%llu groups of the intent log applied",
			   (unsigned long long)groups);
	rc = txn_commit_wait(p);
	if (rc)
		return err_set(e, rc, "first commit: %s", err_str(rc));
	return 0;
}

static void sb_take(struct pool *p, const struct sb_disk *sb)
{
	memcpy(p->sb, sb, SB_SIZE);
	snprintf(p->name, sizeof p->name, "%.*s", POOL_NAME_MAX, sb->pool_name);
	memcpy(p->uuid, sb->pool_uuid, 16);
	p->chunk_blocks = le32_get(sb->chunk_blocks);
	p->next_chunk_id = le64_get(sb->next_chunk_id);
	p->next_volume_id = le64_get(sb->next_volume_id);
	p->sb_seq = le64_get(sb->seq);
	p->log_epoch = le64_get(sb->log_epoch);
	class_from_sb(p, sb);
	p->snaps_used = le64_get(sb->features_incompat) & SB_FEATURE_SNAPS;
	p->refs_used = le64_get(sb->features_incompat) & SB_FEATURE_REFS;
}

/* Does this Tarn know all that who writes has to keep up? */
static int check_writable(const struct import *im, struct err *e)
{
	uint64_t more = le64_get(im->newest->features_ro_compat) & ~SB_FEATURES_RO_COMPAT;

	if (!more || im->o->read_only)
		return 0;
	return err_set(e, ERR_VERSION,
		       "the pool uses features %llx that this Tarn does not know, so it may read "
		       "the pool, but not write: `tarn pool import --read-only`; a newer Tarn can",
		       (unsigned long long)more);
}

static int import_steps(struct import *im, struct err *e)
{
	struct pool *p = im->p;
	bool clean;
	int rc = read_all(im, e);

	if (rc)
		return rc;
	rc = check_writable(im, e);
	if (rc)
		return rc;
	clean = le32_get(im->newest->flags) & SB_FLAG_CLEAN;
	if (!clean && !im->o->force && !im->o->read_only) {
		rc = heartbeat_check(im->devs, im->n, im->newest->pool_uuid, e);
		if (rc)
			return rc;
	}
	sb_take(p, im->newest);
	p->read_only = im->o->read_only;
	rc = add_devs(im, e);
	if (!rc)
		rc = attach(im, e);
	if (!rc)
		rc = check_quorum(im, e);
	if (!rc)
		rc = load(im, e);
	if (!rc)
		release_taken(p);
	if (!rc && !p->read_only)
		rc = start(im, e);
	return rc;
}

int pool_import(struct dev_backend **devs, unsigned n, const struct pool_options *o,
		struct reactor *bg, struct pool **ret_p, struct err *e)
{
	static const struct pool_options defaults;
	struct import im = {.devs = devs, .n = n, .o = o ? o : &defaults};
	struct err own = {0};
	int rc = -ENOMEM;

	if (!e)
		e = &own;
	e->code = 0;
	im.sbs = n ? aligned_alloc(BLOCK_SIZE, (size_t)n * SB_SIZE) : NULL;
	im.p = pool_alloc(im.o);
	if (im.p && (im.sbs || !n)) {
		im.p->bg = bg;
		rc = import_steps(&im, e);
	} else {
		err_set(e, rc, "out of memory");
	}
	free(im.sbs);
	for (unsigned i = 0; i < n; i++)
		dev_close(devs[i]);
	if (!rc) {
		*ret_p = im.p;
		return 0;
	}
	err_wrap(e, "import pool %s", im.p && im.p->name[0] ? im.p->name : "?");
	if (im.p) {
		if (im.p->running)
			pool_bg_stop(im.p);
		pool_free(im.p);
	}
	return rc;
}

int pool_label_read(struct dev_backend *b, struct pool_label *l, struct err *e)
{
	struct sb_disk *sb = aligned_alloc(BLOCK_SIZE, SB_SIZE);
	int rc = sb ? sb_read_newest(b, sb, e) : err_set(e, -ENOMEM, "out of memory");

	if (!rc || rc == ERR_VERSION) {
		memset(l, 0, sizeof *l);
		snprintf(l->name, sizeof l->name, "%.*s", POOL_NAME_MAX, sb->pool_name);
		memcpy(l->uuid, sb->pool_uuid, 16);
		l->dev_id = le32_get(sb->own_dev);
		for (uint32_t i = 0; i < le32_get(sb->devs_count) && i < SB_DEVS_MAX; i++)
			l->ndevs += sb->devs[i].state != DEV_NONE;
		l->txn = le64_get(sb->txn);
		l->clean = le32_get(sb->flags) & SB_FLAG_CLEAN;
	}
	free(sb);
	return rc;
}
