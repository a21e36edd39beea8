/* vol_reap: the space of destroyed volumes comes back in background.
 *
 * Happy path: dirty data is dropped -> items go in bounded bites, from the first key on, with what
 * they stand for -> the nodes left over and the record go in one transaction -> unlinked. A crash
 * in between leaves a smaller volume that is still to be destroyed.
 *
 * A node that no device can give back (vol_damage.h) is cut out of the tree: its blocks come back,
 * what lies below it stays taken, for nobody can know what it is. A device that is away, or no
 * memory, is a reason to come again later.
 */
#include <string.h>
#include "pool/chunk.h"
#include "pool/delta.h"
#include "pool/event.h"
#include "pool/extent.h"
#include "pool/snap.h"
#include "pool/space.h"
#include "pool/txn.h"
#include "pool/vol_damage.h"
#include "pool/vol_record.h"

#define PAUSE_NS      10000000000ull
#define POLL_NS	      200000000ull
#define EIO_TRIES     3u    /* with a pause between, before it counts as damage */
#define EVICTED_TRIES 1000u /* the way to a bad node has left the cache */

struct reap {
	struct vol *v;
	bool empty, any;
	struct key last;     /* removed before */
	struct node_ptr bad; /* cannot be read; addr ADDR_NONE: no such node */
	uint8_t bad_level;
};

/* As txn_step, for the volume's tree; says which node it was. */
static int step(struct reap *r, txn_step_fn *fn, void *arg)
{
	struct vol *v = r->v;
	struct pool *p = v->p;

	r->bad.addr = ADDR_NONE;
	for (;;) {
		struct node_ptr need;
		uint8_t level;
		int rc;

		lock_take(&p->lock);
		rc = p->faulted ? ERR_FAULTED : fn(p, arg);
		need = v->tree.need;
		level = v->tree.need_level;
		lock_drop(&p->lock);
		if (rc != ERR_NEED_NODE)
			return rc;
		rc = node_read_ptr(p, need, v->id, level);
		if (rc) {
			r->bad = need;
			r->bad_level = level;
			return rc;
		}
	}
}

/* ---- items ---- */

static int reap_item(struct vol *v, struct key k)
{
	int rc = ERR_FORMAT;

	if (k.type == VOL_KEY_EXTENT)
		rc = extent_replace(v, k.object, k.offset, EXTENT_BLOCKS_MAX, NULL, NULL);
	if (rc != ERR_FORMAT)
		return rc;
	/* No extent, or one that makes no sense: the item alone. */
	rc = btree_prepare(&v->tree, k);
	return rc ? rc : btree_del(&v->tree, k);
}

/* Take a bounded bite out of it. */
static int step_items(struct pool *p, void *arg)
{
	struct reap *r = arg;
	struct vol *v = r->v;

	for (unsigned i = 0; i < 32; i++) {
		struct btree_item it;
		struct key k;
		int rc = btree_seek_ge(&v->tree, KEY_MIN, &it);

		if (rc == -ENOENT) {
			r->empty = true;
			return 0;
		}
		if (rc)
			return rc;
		k = it.key;
		if (r->any && !key_cmp(k, r->last))
			return ERR_FORMAT; /* not where its key leads: would never end */
		rc = reap_item(v, k);
		if (rc)
			return rc;
		r->last = k;
		r->any = true;
		v->rec_dirty = true;
		txn_mark_dirty_locked(p);
	}
	return 0;
}

static int reap_items(struct reap *r)
{
	struct pool *p = r->v->p;
	int rc = 0;

	while (!rc && !r->empty && !p->stopping) {
		struct txn *t;

		rc = txn_enter(p, true);
		if (rc)
			return rc;
		t = txn_read_begin(p);
		rc = step(r, step_items, r);
		txn_read_end(p, t);
		txn_leave(p);
	}
	return rc;
}

static void drop_dirty(struct vol *v)
{
	struct dseg *s, *next;

	lock_take(&v->p->lock);
	RB_FOREACH_SAFE (s, dtree, &v->active, next)
		delta_drop(v, s->object, s->win * SEG_BLOCKS, (s->win + 1) * SEG_BLOCKS);
	while (v->jobs)
		waitq_wait(&v->p->data_waiters, &v->p->lock);
	lock_drop(&v->p->lock);
}

/* ---- a node that is lost ---- */

/* Does it name a node's place? Nothing else may be freed through it. */
static bool place_sane(struct pool *p, struct addr a)
{
	const struct chunk *c = chunk_find(p, addr_chunk(a));

	return c && (c->kind == CHUNK_META || c->kind == CHUNK_BOOT) &&
	       addr_block(a) + NODE_BLOCKS <= p->chunk_blocks;
}

static int step_cut(struct pool *p, void *arg)
{
	struct reap *r = arg;
	struct vol *v = r->v;
	int rc = place_sane(p, r->bad.addr) ? space_free_reserve(p, SPACE_FREES_SPARE) : ERR_FORMAT;

	if (!rc)
		rc = btree_cut(&v->tree, r->bad, r->bad_level);
	if (rc)
		return rc;
	v->damaged = v->rec_dirty = true;
	txn_mark_dirty_locked(p);
	return 0;
}

/* -ENOENT: the way to it is not in memory. */
static int cut_out(struct reap *r)
{
	struct pool *p = r->v->p;
	int rc = txn_enter(p, true);

	if (rc)
		return rc;
	lock_take(&p->lock);
	rc = step_cut(p, r);
	lock_drop(&p->lock);
	txn_leave(p);
	return rc == ERR_NEED_NODE ? -ENOENT : rc;
}

/* ---- the end ---- */

static int step_del_record(struct pool *p, void *arg)
{
	struct vol *v = arg;
	struct key k = {v->id, 1, 0};
	int rc = btree_prepare(&p->root, k);

	if (!rc)
		rc = btree_del(&p->root, k);
	return rc == -ENOENT ? 0 : rc;
}

/* Leaves that became empty while their neighbours were not in memory are still part of the tree.
 * Gate held, so it stays as it is. */
struct rest {
	struct btree *bt;
	struct btree_cursor cur;
	struct node_ptr *ptrs;
	size_t count, cap;
};

static int step_rest(struct pool *p, void *arg)
{
	struct rest *r = arg;
	struct btree_path path;
	int rc = btree_walk(r->bt, &r->cur, 0, &path);

	(void)p;
	if (rc)
		return rc;
	for (unsigned i = 0; i < path.count; i++) {
		if (!path.is_new[i])
			continue;
		if (r->count == r->cap) {
			size_t cap = r->cap ? r->cap * 2 : 64;
			struct node_ptr *n = realloc(r->ptrs, cap * sizeof *n);

			if (!n)
				return -ENOMEM;
			r->ptrs = n;
			r->cap = cap;
		}
		r->ptrs[r->count++] = path.ptr[i];
	}
	return 0;
}

/* Of the volume's tree, or of its dead list. */
static int rest_of(struct reap *reap, struct rest *r, struct btree *bt)
{
	struct vol *v = reap->v;
	int rc;

	r->bt = bt;
	memset(&r->cur, 0, sizeof r->cur);
	do {
		rc = !bt->root.addr.v ? -ENOENT
		     : bt == &v->tree ? step(reap, step_rest, r)
				      : txn_step(v->p, bt, step_rest, r);
	} while (!rc);
	return rc == -ENOENT ? 0 : rc;
}

static void free_rest_locked(struct pool *p, const struct rest *r)
{
	for (size_t i = 0; i < r->count; i++) {
		struct node *n = node_cache_find(p->cache, r->ptrs[i].addr);
		bool fresh = r->ptrs[i].birth == p->open->nr;

		space_free(p, r->ptrs[i].addr, NODE_BLOCKS, fresh);
		if (n && fresh)
			node_cache_drop(p->cache, n);
		else if (n && n->dirty)
			n->freed = true;
	}
}

static void unlink_and_free_locked(struct pool *p, struct vol *v)
{
	struct vol **pp = v->origin ? &p->snaps : &p->vols, **last;

	while (v->pins || v->jobs)
		waitq_wait(&p->data_waiters, &p->lock);
	while (*pp != v)
		pp = &(*pp)->next;
	*pp = v->next;
	last = v->origin ? &p->snaps_last : &p->vols_last;
	if (*last == v) {
		*last = v->origin ? p->snaps : p->vols;
		while (*last && (*last)->next)
			*last = (*last)->next;
	}
	if (!v->origin)
		event_emit_locked(p, "volume-freed", "space of destroyed volume %s returned",
				  v->name);
	if (!v->origin && v->damaged && v->used_blocks) /* below nodes that were cut out */
		event_emit_locked(p, "space-lost",
				  "volume %s was damaged: %llu bytes of it cannot be found and "
				  "stay taken",
				  v->name, (unsigned long long)v->used_blocks * BLOCK_SIZE);
	if (!v->origin)
		space_unadmit(p, vol_policy(v), v->reserved_blocks);
	vol_free(v);
}

static int reap_finish(struct reap *reap)
{
	struct vol *v = reap->v;
	struct pool *p = v->p;
	struct rest r = {0};
	int rc = txn_enter(p, true);

	if (rc)
		return rc;
	rc = rest_of(reap, &r, &v->tree);
	if (!rc && v->dead_id)
		rc = rest_of(reap, &r, &v->dead);
	if (!rc)
		rc = txn_step(p, &p->root, step_del_record, v);
	if (!rc) {
		lock_take(&p->lock);
		free_rest_locked(p, &r);
		v->tree.root = v->dead.root = (struct node_ptr){ADDR_NONE, 0, 0};
		v->tree.dirty = v->dead.dirty = v->rec_dirty = false;
		v->reaped = true;
		txn_mark_dirty_locked(p);
		lock_drop(&p->lock);
	}
	free(r.ptrs);
	txn_leave(p);
	if (rc)
		return rc;
	lock_take(&p->lock);
	unlink_and_free_locked(p, v);
	lock_drop(&p->lock);
	return 0;
}

/* ---- the whole ---- */

static int reap_volume(struct vol *v)
{
	struct reap r = {.v = v};
	unsigned evicted = 0;

	if (v->origin) {
		int rc = snap_reap(v);

		return rc ? rc : reap_finish(&r);
	}
	drop_dirty(v);
	for (;;) {
		int rc = reap_items(&r);

		if (!rc && !r.empty) /* stopping */
			return 0;
		if (!rc)
			rc = reap_finish(&r);
		if (!rc || !r.bad.addr.v || !vol_damage_is(rc) ||
		    (rc == -EIO && v->reap_tries < EIO_TRIES))
			return rc;
		rc = cut_out(&r);
		if (rc && (rc != -ENOENT || ++evicted > EVICTED_TRIES))
			return rc;
		r.any = r.empty = false;
	}
}

/* Lock held. later becomes true when there is one that waits. */
static struct vol *next_to_reap(struct vol *v, bool *later)
{
	for (; v; v = v->next) {
		if (!v->destroying || v->lost)
			continue;
		if (reactor_now_ns() >= v->reap_after_ns)
			return v;
		*later = true;
	}
	return NULL;
}

/* Lock held: it stays as it is for now, or, if its tree makes no sense, until the next import. */
static void put_off(struct vol *v, int rc)
{
	v->reap_tries++;
	v->reap_after_ns = reactor_now_ns() + PAUSE_NS;
	v->lost = (vol_damage_is(rc) && rc != -EIO) || rc == -ENOENT;
	if (v->lost)
		event_emit_locked(v->p, "volume-stuck",
				  "space of destroyed volume %s cannot be returned: %s; it is "
				  "tried again at the next import",
				  v->name, err_str(rc));
}

void vol_reaper(void *arg)
{
	struct pool *p = arg;

	lock_take(&p->lock);
	while (!p->stopping) {
		struct vol *v = NULL;
		bool later = false;
		int rc;

		if (p->reap_wanted && !p->faulted)
			v = next_to_reap(p->vols, &later);
		if (!v && p->reap_wanted && !p->faulted)
			v = next_to_reap(p->snaps, &later);
		if (!v) {
			p->reap_wanted = later;
			lock_drop(&p->lock);
			co_sleep_ns(POLL_NS);
			lock_take(&p->lock);
			continue;
		}
		lock_drop(&p->lock);
		rc = reap_volume(v);
		lock_take(&p->lock);
		if (rc)
			put_off(v, rc);
	}
	p->bg_count--;
	waitq_wake_all(&p->bg_waiters);
	lock_drop(&p->lock);
}
