/* vol_items: keyed items of a volume, and running change functions inside a transaction. */
#include <string.h>
#include "pool/chunk.h"
#include "pool/ilog.h"
#include "pool/space.h"
#include "pool/squeeze.h"
#include "pool/txn.h"
#include "pool/vol_record.h"

int vol_get(struct vol *v, struct key k, struct btree_item *ret_item)
{
	return btree_get(&v->tree, k, ret_item);
}

int vol_seek_ge(struct vol *v, struct key k, struct btree_item *ret_item)
{
	return btree_seek_ge(&v->tree, k, ret_item);
}

int vol_seek_le(struct vol *v, struct key k, struct btree_item *ret_item)
{
	return btree_seek_le(&v->tree, k, ret_item);
}

int vol_prepare(struct vol *v, struct key k)
{
	int rc = btree_prepare(&v->tree, k);

	return rc ? rc : space_free_reserve(v->p, SPACE_FREES_SPARE);
}

/* A change that fails half-way has broken the contract of prepare: nothing sane can follow. */
static int change_failed(struct vol *v, int rc)
{
	if (rc && rc != -ENOENT && rc != ERR_NEED_NODE)
		pool_fault_locked(v->p, rc, "change an item: metadata reserve exhausted");
	return rc;
}

int vol_put(struct vol *v, struct key k, const void *value, uint16_t len)
{
	int rc;

	lock_assert_held(&v->p->lock);
	assert(k.type < VOL_KEY_EXTENT);
	rc = btree_put(&v->tree, k, value, len);
	if (rc)
		return change_failed(v, rc);
	if (k.object >= v->next_object) { /* replay of a record that used a new number */
		v->next_object = k.object + 1;
		v->rec_dirty = true;
	}
	ilog_record(v, ILOG_PUT, k, value, len);
	vol_changed_locked(v);
	return 0;
}

int vol_del(struct vol *v, struct key k)
{
	int rc;

	lock_assert_held(&v->p->lock);
	assert(k.type < VOL_KEY_EXTENT);
	rc = btree_del(&v->tree, k);
	if (rc)
		return change_failed(v, rc);
	ilog_record(v, ILOG_DEL, k, NULL, 0);
	vol_changed_locked(v);
	return 0;
}

uint64_t vol_new_object(struct vol *v)
{
	lock_assert_held(&v->p->lock);
	v->rec_dirty = true;
	return v->next_object++;
}

uint64_t vol_wall_ns(struct vol *v)
{
	(void)v;
	return reactor_wall_ns();
}

int vol_query(struct vol *v, vol_fn *fn, void *arg)
{
	struct pool *p = v->p;
	struct txn *t;
	int rc;

	lock_take(&p->lock);
	if (p->faulted) {
		lock_drop(&p->lock);
		return ERR_FAULTED;
	}
	t = txn_read_begin_locked(p);
	for (;;) {
		struct node_ptr need;
		uint8_t level;

		rc = fn(v, arg);
		if (rc != ERR_NEED_NODE)
			break;
		need = v->tree.need;
		level = v->tree.need_level;
		lock_drop(&p->lock);
		rc = node_read_ptr(p, need, v->tree.tree_id, level);
		lock_take(&p->lock);
		if (rc)
			break;
	}
	txn_read_end_locked(p, t);
	lock_drop(&p->lock);
	return rc;
}

/* Deleting what a snapshot shows gives no room and takes some: for copies of nodes and the dead
 * list. */
static bool no_room_to_delete(struct vol *v)
{
	bool no;

	lock_take(&v->p->lock);
	no = v->tree.pinned && !v->commit_only && !space_meta_least(v->p);
	lock_drop(&v->p->lock);
	return no;
}

int vol_change(struct vol *v, bool never_full, vol_fn *fn, void *arg)
{
	uint64_t until = 0;
	int rc;

	if (v->origin)
		return ERR_READONLY;
	for (unsigned tries = 0;; tries++) {
		rc = never_full && no_room_to_delete(v)
			     ? -ENOSPC
			     : txn_enter(v->p, never_full || v->commit_only);
		/* never_full: it may be the squeeze itself */
		if (rc != -ENOSPC || (tries && (never_full || !squeeze_wait(v->p, &until))))
			break;
		/* What was freed becomes usable with the next commit. */
		rc = txn_commit_wait(v->p);
		if (rc)
			return rc;
	}
	if (rc)
		return rc;
	rc = vol_query(v, fn, arg);
	txn_leave(v->p);
	return rc;
}
