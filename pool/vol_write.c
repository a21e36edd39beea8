/* vol_write: into the delta. Punching and reserving: vol_punch.c. */
#include <string.h>
#include "pool/chunk.h"
#include "pool/class.h"
#include "pool/delta.h"
#include "pool/extent.h"
#include "pool/flush.h"
#include "pool/space.h"
#include "pool/squeeze.h"
#include "pool/txn.h"
#include "pool/vol_damage.h"
#include "pool/vol_held.h"
#include "pool/vol_quota.h"
#include "pool/vol_read.h"
#include "pool/vol_record.h"

/* A partly written block at the start or end: old content is needed. */
struct edge {
	bool used, loaded;
	uint64_t lblk;
	unsigned from, to; /* bytes written within the block */
	const uint8_t *src;
	struct addr addr; /* where `old` was read from, with the block's place in it */
	unsigned place;
	uint8_t *old; /* aligned, one block */
};

struct wop {
	struct vol *v;
	uint64_t object, off, len, lblk;
	const uint8_t *data;
	vol_fn *fn;
	void *arg;
	uint32_t *bufs;
	unsigned n;
	uint32_t inl[8];
	struct edge edge[2];
};

enum old_kind { OLD_ZERO, OLD_BUF, OLD_DISK };

static int old_find(struct vol *v, uint64_t object, uint64_t lblk, enum old_kind *ret_k,
		    uint32_t *ret_buf, struct extent *x)
{
	int rc;

	*ret_buf = delta_find(v, object, lblk);
	if (*ret_buf != DBUF_NONE) {
		*ret_k = OLD_BUF;
		return 0;
	}
	rc = extent_lookup(v, object, lblk, lblk + 1, x);
	if (rc && rc != -ENOENT)
		return rc;
	*ret_k = rc || x->lblk > lblk || x->codec == EXTENT_RESERVED ? OLD_ZERO : OLD_DISK;
	return 0;
}

/* Merge old content and new bytes into the edge's buffer. ERR_LAST: e->old must be read first. */
static int edge_merge(struct wop *w, struct edge *e)
{
	struct pool *p = w->v->p;
	uint8_t *dst = dbuf_data(p, w->bufs[e->lblk - w->lblk]);
	enum old_kind kind;
	struct extent x;
	uint32_t b;
	int rc = old_find(w->v, w->object, e->lblk, &kind, &b, &x);

	if (rc)
		return rc;
	if (kind == OLD_DISK) {
		unsigned place = (unsigned)(e->lblk - x.lblk) + x.skip;

		if (!e->loaded || !addr_eq(e->addr, x.addr) || e->place != place) {
			e->addr = x.addr;
			e->place = place;
			e->loaded = false;
			return ERR_LAST;
		}
	}
	if (kind == OLD_BUF)
		memcpy(dst, dbuf_data(p, b), BLOCK_SIZE);
	else if (kind == OLD_DISK)
		memcpy(dst, e->old, BLOCK_SIZE);
	else
		memset(dst, 0, BLOCK_SIZE);
	memcpy(dst + e->from, e->src, e->to - e->from);
	return 0;
}

/* Give up what fallocate reserved for just this range; or say how many blocks that would be. */
static int consume_reserved(struct wop *w, bool do_it, uint64_t *ret_blocks)
{
	struct vol *v = w->v;

	for (uint64_t at = w->lblk; at < w->lblk + w->n;) {
		uint64_t n = w->lblk + w->n - at, mapped, reserved, left;
		int rc;

		if (n > EXTENT_BLOCKS_MAX)
			n = EXTENT_BLOCKS_MAX;
		rc = extent_count(v, w->object, at, n, &mapped, &reserved);
		if (!rc && !mapped && reserved == n) {
			rc = do_it ? extent_replace(v, w->object, at, n, NULL, NULL)
				   : extent_replace_prepare(v, w->object, at, n, &left);
			*ret_blocks += n;
			if (do_it)
				vol_held_unsure(v, w->object, at, n);
		}
		if (rc)
			return rc;
		at += n;
	}
	return 0;
}

/* Room for so many blocks; on a full pool, with what is reserved for just this range. */
static int admit_room(struct wop *w, uint64_t need)
{
	struct vol *v = w->v;
	uint64_t back = 0, given = 0;
	int rc = space_admit_vol(v, need);

	if (rc != -ENOSPC || !v->reserved_blocks)
		return rc;
	/* First all nodes and the rest of the room, then all at once: nobody else may take what is
	 * given up for this write, and nothing is given up for a write that fails. */
	rc = consume_reserved(w, false, &back);
	if (rc)
		return rc;
	if (back > need)
		back = need;
	rc = back ? space_admit_vol(v, need - back) : -ENOSPC;
	if (rc)
		return rc;
	rc = consume_reserved(w, true, &given);
	if (rc)
		space_unadmit(v->p, vol_policy(v), need - back);
	else
		v->p->reserved[vol_policy(v)] += back;
	return rc;
}

static int admit(struct wop *w)
{
	struct vol *v = w->v;
	struct pool *p = v->p;
	uint64_t need = 0;
	int rc;

	for (unsigned i = 0; i < w->n; i++) {
		struct dseg *s = v->active_blocks ? delta_seg(&v->active, w->object,
							      (w->lblk + i) / SEG_BLOCKS)
						  : NULL;

		need += !(s && s->present & 1u << (w->lblk + i) % SEG_BLOCKS);
	}
	if (v->commit_only) { /* replay: was admitted before the crash */
		p->reserved[vol_policy(v)] += w->n;
		return 0;
	}
	rc = vol_quota_admit(v, w->object, w->lblk, w->n);
	if (rc)
		return rc;
	rc = admit_room(w, need);
	if (!rc)
		p->reserved[vol_policy(v)] += w->n - need; /* given back by delta_put */
	return rc;
}

/* Everything under one hold of the lock; ERR_NEED_NODE / ERR_LAST: nothing changed, come again. */
static int write_locked(struct wop *w)
{
	struct vol *v = w->v;
	int rc = 0;

	if (v->p->faulted)
		return ERR_FAULTED;
	for (unsigned i = 0; i < 2 && !rc; i++)
		if (w->edge[i].used)
			rc = edge_merge(w, &w->edge[i]);
	if (!rc && v->damaged)
		rc = vol_damage_look(v, w->object, w->lblk, w->n);
	if (!rc)
		rc = admit(w);
	if (rc)
		return rc;
	rc = delta_prepare(v, w->object, w->lblk, w->n);
	if (!rc && w->fn)
		rc = w->fn(v, w->arg);
	if (rc) {
		space_unadmit(v->p, vol_policy(v), w->n);
		return rc;
	}
	for (unsigned i = 0; i < w->n; i++)
		delta_put(v, w->object, w->lblk + i, w->bufs[i]);
	if (vol_quota_near(v))
		vol_held_look(v, w->object, w->lblk, w->n);
	vol_changed_locked(v);
	v->p->user_write_bytes += w->len;
	atomic_fetch_add_explicit(&v->p->user_ops, 1, memory_order_relaxed);
	if (v->p->arena.used > v->p->arena.count / 4)
		flush_request_locked(v->p);
	return 0;
}

static int edges_load(struct wop *w)
{
	for (unsigned i = 0; i < 2; i++) {
		struct edge *e = &w->edge[i];
		int rc;

		if (!e->used || e->loaded)
			continue;
		if (!e->old)
			e->old = aligned_alloc(BLOCK_SIZE, BLOCK_SIZE);
		if (!e->old)
			return -ENOMEM;
		rc = vol_read_blocks(w->v, w->object, e->lblk, 1, e->old);
		if (rc)
			return rc;
		e->loaded = true;
	}
	return 0;
}

static int write_in_gate(struct wop *w)
{
	struct vol *v = w->v;
	struct pool *p = v->p;
	struct txn *t = txn_read_begin(p);
	int rc;

	for (;;) {
		struct node_ptr need;
		uint8_t level;

		lock_take(&p->lock);
		rc = write_locked(w);
		need = v->tree.need;
		level = v->tree.need_level;
		if (!rc)
			w->n = 0; /* buffers belong to the delta now */
		lock_drop(&p->lock);
		if (rc == ERR_NEED_NODE)
			rc = node_read_ptr(p, need, v->tree.tree_id, level);
		else if (rc == ERR_LAST)
			rc = edges_load(w);
		else
			break;
		if (rc)
			break;
	}
	txn_read_end(p, t);
	return rc;
}

/* ---- preparing ---- */

static int take_bufs(struct wop *w)
{
	struct pool *p = w->v->p;
	int rc;

	w->bufs = w->inl;
	if (w->n > sizeof w->inl / sizeof w->inl[0]) {
		w->bufs = malloc(w->n * sizeof *w->bufs);
		if (!w->bufs)
			return -ENOMEM;
	}
	for (;;) {
		bool got;

		rc = delta_throttle(p, w->n);
		if (rc)
			break;
		lock_take(&p->lock);
		got = dbuf_get(p, w->bufs, w->n);
		lock_drop(&p->lock);
		if (got)
			return 0;
	}
	if (w->bufs != w->inl)
		free(w->bufs);
	w->bufs = NULL;
	return rc;
}

static void edge_set(struct wop *w, unsigned i, uint64_t lblk)
{
	uint64_t start = lblk * BLOCK_SIZE, end = start + BLOCK_SIZE;
	uint64_t from = w->off > start ? w->off : start,
		 to = w->off + w->len < end ? w->off + w->len : end;

	w->edge[i].used = from != start || to != end;
	w->edge[i].lblk = lblk;
	w->edge[i].from = (unsigned)(from - start);
	w->edge[i].to = (unsigned)(to - start);
	w->edge[i].src = w->data + (from - w->off);
}

/* Copy whole blocks; note the partial ones. */
static void fill_bufs(struct wop *w)
{
	uint64_t last = w->lblk + w->n - 1;

	edge_set(w, 0, w->lblk);
	if (last != w->lblk)
		edge_set(w, 1, last);
	for (unsigned i = 0; i < w->n; i++) {
		uint64_t at = (w->lblk + i) * BLOCK_SIZE;

		if ((i == 0 && w->edge[0].used) || (i == w->n - 1 && i && w->edge[1].used))
			continue;
		memcpy(dbuf_data(w->v->p, w->bufs[i]), w->data + (at - w->off), BLOCK_SIZE);
	}
}

static void wop_done(struct wop *w)
{
	struct pool *p = w->v->p;

	lock_take(&p->lock);
	for (unsigned i = 0; w->bufs && i < w->n; i++)
		dbuf_unref(p, w->bufs[i]);
	lock_drop(&p->lock);
	if (w->bufs != w->inl)
		free(w->bufs);
	free(w->edge[0].old);
	free(w->edge[1].old);
}

static int write_piece(struct wop *w)
{
	struct pool *p = w->v->p;
	uint64_t until = 0;
	int rc;

	w->lblk = w->off / BLOCK_SIZE;
	w->n = (unsigned)((w->off + w->len + BLOCK_SIZE - 1) / BLOCK_SIZE - w->lblk);
	rc = take_bufs(w);
	if (rc)
		return rc;
	fill_bufs(w);
	for (unsigned tries = 0;; tries++) {
		rc = txn_enter(p, w->v->commit_only);
		if (!rc) {
			rc = write_in_gate(w);
			txn_leave(p);
		}
		if ((rc != -ENOSPC && rc != -EDQUOT) || tries >= 16)
			break;
		if (tries >= 2 && rc == -EDQUOT)
			break;
		if (tries >= 2 && squeeze_wait(p, &until))
			tries = 1;
		else if (tries >= 2 && !vol_trash_pressure(w->v))
			break;
		/* Freed blocks become usable with the next commit; one more for what it freed
		 * itself. */
		rc = txn_commit_wait(p);
		if (rc)
			break;
	}
	if (rc == -ENOSPC) {
		lock_take(&p->lock);
		class_full_event(w->v);
		lock_drop(&p->lock);
	}
	wop_done(w);
	return rc == -EDQUOT ? -ENOSPC : rc;
}

int vol_write(struct vol *v, uint64_t object, uint64_t off, uint64_t len, const void *buf,
	      vol_fn *fn, void *arg)
{
	uint64_t most = (uint64_t)v->p->arena.count / 8 * BLOCK_SIZE;
	int rc = 0;

	if (v->origin)
		return ERR_READONLY;
	if (!len)
		return fn ? vol_change(v, false, fn, arg) : 0;
	if (off > VOL_OBJECT_BYTES_MAX || len > VOL_OBJECT_BYTES_MAX - off)
		return -EFBIG;
	for (uint64_t done = 0; done < len && !rc;) {
		uint64_t n = len - done;
		struct wop w = {.v = v,
				.object = object,
				.off = off + done,
				.data = (const uint8_t *)buf + done};

		if (n > most)
			n = most;
		w.len = n;
		done += n;
		if (done == len) {
			w.fn = fn;
			w.arg = arg;
		}
		rc = write_piece(&w);
	}
	return rc;
}
