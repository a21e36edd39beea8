/* pool: the structure itself, its background work, status, devices. */
#include "pool/pool.h"
#include <string.h>
#include "pool/chunk.h"
#include "pool/chunk_list.h"
#include "pool/data_cache.h"
#include "pool/delta.h"
#include "pool/discard.h"
#include "pool/event.h"
#include "pool/flush.h"
#include "pool/journal.h"
#include "pool/mover.h"
#include "pool/pool_impl.h"
#include "pool/resync.h"
#include "pool/sb.h"
#include "pool/space.h"
#include "pool/spare.h"
#include "pool/squeeze.h"
#include "pool/txn.h"
#include "pool/vol_record.h"

const char *dev_state_name(enum dev_state s)
{
	static const char *const names[] = {"none",    "online",  "faulted",
					    "missing", "offline", "resync"};

	return s <= DEV_RESYNC ? names[s] : "unknown";
}

struct pool *pool_alloc(const struct pool_options *o)
{
	struct pool *p = calloc(1, sizeof *p);

	if (!p)
		return NULL;
	if (o)
		p->opt = *o;
	if (!p->opt.cache_bytes)
		p->opt.cache_bytes = 256u << 20;
	if (!p->opt.delta_bytes)
		p->opt.delta_bytes = 128u << 20;
	if (!p->opt.commit_ns)
		p->opt.commit_ns = 5000000000ull;
	p->trash_retention_s = 24 * 3600;
	p->spare_after_s = SPARE_AFTER_S;
	lock_init(&p->lock);
	p->sb = aligned_alloc(BLOCK_SIZE, SB_SIZE);
	p->sb_next = aligned_alloc(BLOCK_SIZE, SB_SIZE);
	if (!p->sb || !p->sb_next || arena_init(p, p->opt.delta_bytes) ||
	    node_cache_create(p->opt.cache_bytes, &p->cache) ||
	    data_cache_create(p->opt.data_cache_bytes, &p->data_cache)) {
		pool_free(p);
		return NULL;
	}
	memset(p->sb, 0, SB_SIZE);
	return p;
}

static void vols_free(struct vol *v)
{
	for (struct vol *next; v; v = next) {
		next = v->next;
		vol_free(v);
	}
}

void pool_free(struct pool *p)
{
	vols_free(p->vols);
	vols_free(p->snaps);
	vols_free(p->snaps_pending);
	chunk_table_free(p);
	txn_fini(p);
	node_cache_destroy(p->cache);
	data_cache_destroy(p->data_cache);
	arena_fini(p);
	for (unsigned i = 0; i < p->ndevs; i++) {
		dev_close(p->devs[i].backend);
		free(p->devs[i].slot_used);
	}
	free(p->sb);
	free(p->sb_next);
	lock_fini(&p->lock);
	free(p);
}

void pool_abandon(struct pool *p)
{
	pool_free(p);
}

void pool_trees_init(struct pool *p, const struct sb_disk *sb)
{
	static const struct sb_root_disk none;
	const struct sb_root_disk *r[3] = {&none, &none, &none};
	struct btree *bt[3] = {&p->map, &p->space, &p->root};

	if (sb) {
		r[0] = &sb->map;
		r[1] = &sb->space;
		r[2] = &sb->root;
	}
	for (unsigned i = 0; i < 3; i++) {
		struct node_ptr ptr;

		node_ptr_from_disk(&r[i]->ptr, &ptr);
		btree_init(bt[i], &txn_btree_ops, p, p->cache, p->uuid, TREE_MAP + i, ptr,
			   r[i]->level);
	}
}

/* ---- background ---- */

#define SLOW_TICK_NS 2000000000ull

static void tick(struct pool *p)
{
	uint64_t now = reactor_now_ns();
	bool slow;

	lock_take(&p->lock);
	if (p->dirty_since_ns && now - p->dirty_since_ns >= p->opt.commit_ns && !p->faulted)
		txn_commit_request_locked(p);
	slow = now - p->slow_tick_ns >= SLOW_TICK_NS && !p->faulted;
	if (slow)
		p->slow_tick_ns = now;
	if (slow && squeeze_due(p))
		mover_wake_locked(p);
	lock_drop(&p->lock);
	for (uint32_t i = 0; slow && i < p->ndevs; i++)
		pool_dev_close_failed(p, i, false);
	resync_start_wanted(p);
	spare_tick(p);
	if (now - p->journal_last_ns >= 60000000000ull && !p->faulted && p->durable_txn) {
		p->journal_last_ns = now;
		journal_tick(p);
	}
}

static void ticker(void *arg)
{
	struct pool *p = arg;

	lock_take(&p->lock);
	while (!p->stopping) {
		lock_drop(&p->lock);
		tick(p);
		co_sleep_ns(100000000);
		lock_take(&p->lock);
	}
	p->bg_count--;
	waitq_wake_all(&p->bg_waiters);
	lock_drop(&p->lock);
}

int pool_bg_start(struct pool *p)
{
	co_fn *const fns[] = {txn_committer, flush_flusher, vol_reaper,	    mover_main,
			      convert_main,  discard_main,  heartbeat_main, ticker};

	p->running = true;
	p->reap_wanted = true;
	for (unsigned i = 0; i < sizeof fns / sizeof fns[0]; i++) {
		lock_take(&p->lock);
		p->bg_count++;
		lock_drop(&p->lock);
		if (co_spawn(p->bg, fns[i], p)) {
			lock_take(&p->lock);
			p->bg_count--;
			lock_drop(&p->lock);
			return -ENOMEM;
		}
	}
	return 0;
}

static bool work_left(struct pool *p)
{
	unsigned io = 0;

	for (struct txn *t = p->oldest; t; t = t->next)
		io += t->data_io;
	for (unsigned i = 0; i < p->ndevs; i++)
		io += p->devs[i].inflight;
	for (struct vol *v = p->vols; v; v = v->next)
		io += v->jobs;
	return io || p->flush_jobs || p->commit_running || p->log_writing;
}

void pool_bg_stop(struct pool *p)
{
	lock_take(&p->lock);
	p->stopping = true;
	waitq_wake_all(&p->committer_waiters);
	waitq_wake_all(&p->flusher_waiters);
	waitq_wake_all(&p->data_waiters);
	waitq_wake_all(&p->commit_waiters);
	waitq_wake_all(&p->gate_waiters);
	waitq_wake_all(&p->arena.waiters);
	waitq_wake_all(&p->mover_waiters);
	waitq_wake_all(&p->discard_waiters);
	while (p->bg_count)
		waitq_wait(&p->bg_waiters, &p->lock);
	while (work_left(p)) {
		lock_drop(&p->lock);
		co_sleep_ns(1000000);
		lock_take(&p->lock);
	}
	lock_drop(&p->lock);
}

/* ---- export ---- */

static unsigned vol_refs(struct pool *p)
{
	unsigned n = 0;

	for (struct vol *v = p->vols; v; v = v->next)
		n += v->refs;
	for (struct vol *v = p->snaps; v; v = v->next)
		n += v->refs;
	return n;
}

static int export_refuse(struct pool *p, bool force, struct err *e)
{
	unsigned refs;

	lock_take(&p->lock);
	refs = vol_refs(p);
	if (refs && force && !p->faulted)
		pool_fault_locked(p, ERR_FAULTED, "export --force");
	lock_drop(&p->lock);
	/* Whoever holds a volume sees errors now and lets go. */
	for (unsigned i = 0; refs && force && i < 100; i++) {
		co_sleep_ns(50000000);
		lock_take(&p->lock);
		refs = vol_refs(p);
		lock_drop(&p->lock);
	}
	if (!refs)
		return 0;
	return err_set(e, ERR_IN_USE,
		       "pool %s: %u uses of its volumes are open; unmount and close them first%s",
		       p->name, refs, force ? "" : ", or use --force");
}

int pool_export(struct pool *p, bool force, struct err *e)
{
	bool faulted;
	int rc = 0;

	lock_take(&p->lock);
	faulted = p->faulted;
	rc = vol_refs(p) && !force ? ERR_IN_USE : 0;
	lock_drop(&p->lock);
	if (!rc && !p->read_only && !faulted)
		rc = txn_commit_wait(p);
	if (faulted && !force)
		return err_set(e, ERR_FAULTED,
			       "export %s: the pool is suspended: what was not synced before is "
			       "lost with it; use --force to let it go",
			       p->name);
	if (rc && rc != ERR_IN_USE && !force)
		return err_set(e, rc, "export %s: commit: %s", p->name, err_str(rc));
	rc = export_refuse(p, force, e);
	if (rc)
		return rc;
	if (p->running) {
		/* The last commit, marked clean, comes after all background work: nothing may
		 * follow it. */
		pool_bg_stop(p);
		if (!p->faulted)
			rc = txn_commit_run(p, true);
		if (rc && !force)
			event_emit(p, "export", "the last commit failed: %s", err_str(rc));
	}
	pool_free(p);
	return 0;
}

/* ---- status ---- */

static void status_dev(const struct pool *p, const struct dev *d, struct pool_dev_status *s)
{
	s->id = d->id;
	snprintf(s->path, sizeof s->path, "%s", d->path);
	snprintf(s->domain, sizeof s->domain, "%s", d->domain);
	s->state = d->state;
	s->size_bytes = (uint64_t)d->slots * p->chunk_blocks * BLOCK_SIZE;
	s->used_bytes = (uint64_t)(d->slots - d->slots_free) * p->chunk_blocks * BLOCK_SIZE;
	s->read_bytes = d->read_bytes;
	s->write_bytes = d->write_bytes;
	s->read_errors = d->read_errors;
	s->write_errors = d->write_errors;
	s->checksum_errors = d->checksum_errors;
	s->repaired = d->repaired;
	s->stale_since_txn = d->stale_since;
	s->resync_done_bytes = d->resync_done;
	s->resync_total_bytes = d->resync_total;
	snprintf(s->class_name, sizeof s->class_name, "%s", d->class_name);
	s->lost_ns = d->lost_ns;
	s->evacuating = d->flags & DEV_F_EVACUATE;
	s->taken = spare_refuses(p, d);
	s->spare = d->flags & DEV_F_SPARE;
	s->shrinking = d->slots_limit;
	s->discards = !p->no_discard && !d->discards_off;
	s->discarded_bytes = d->discarded_bytes;
}

static const char *health(const struct pool *p)
{
	if (p->faulted)
		return "faulted";
	for (unsigned i = 0; i < p->ndevs; i++)
		if (p->devs[i].state != DEV_ONLINE && p->devs[i].state != DEV_NONE)
			return "degraded";
	return "online";
}

/* Raw use: what the allocated blocks take on the members there are (fewer than copies where a
 * device is missing), not whole slots. */
static void status_space(struct pool *p, struct pool_status *s)
{
	s->raw_used_bytes = p->raw_used_blocks * BLOCK_SIZE;
	s->meta_bytes =
		(chunk_list_used(p, CHUNK_META) + chunk_list_used(p, CHUNK_BOOT)) * BLOCK_SIZE;
	s->raw_free_bytes = s->raw_bytes > s->raw_used_bytes ? s->raw_bytes - s->raw_used_bytes : 0;
}

void pool_status_get(struct pool *p, struct pool_status *s)
{
	struct node_cache_stats nc;
	struct data_cache_stats dc;

	memset(s, 0, sizeof *s);
	lock_take(&p->lock);
	snprintf(s->name, sizeof s->name, "%s", p->name);
	memcpy(s->uuid, p->uuid, 16);
	s->health = health(p);
	s->txn = p->durable_txn;
	s->chunk_bytes = (uint64_t)p->chunk_blocks * BLOCK_SIZE;
	s->chunks = p->chunk_count;
	for (unsigned i = 0; i < p->ndevs; i++) {
		struct pool_dev_status *ds = &s->devs[s->ndevs];

		if (p->devs[i].state == DEV_NONE)
			continue;
		status_dev(p, &p->devs[i], ds);
		s->ndevs++;
		if (!ds->spare) /* which holds nothing */
			s->raw_bytes += ds->size_bytes;
		s->dev_write_bytes += p->devs[i].write_bytes;
	}
	status_space(p, s);
	s->delta_bytes = (uint64_t)p->arena.used * BLOCK_SIZE;
	s->delta_limit_bytes = (uint64_t)p->arena.count * BLOCK_SIZE;
	node_cache_stats(p->cache, &nc);
	s->cache_bytes = nc.nodes * NODE_SIZE;
	data_cache_stats_get(p->data_cache, &dc);
	s->data_cache_bytes = dc.bytes;
	s->data_cache_hits = dc.hits;
	s->data_cache_misses = dc.misses;
	s->commits = p->commits;
	s->commit_begun_ns = p->commit_begun_ns;
	s->commit_ended_ns = p->commit_ended_ns;
	s->commit_gate_ns = p->commit_gate_ns;
	s->log_writes = p->log_writes;
	s->log_bytes = p->log_bytes;
	s->user_write_bytes = p->user_write_bytes;
	for (struct vol *v = p->vols; v; v = v->next)
		s->volumes += !v->destroying;
	lock_drop(&p->lock);
}
