/* walk_live: the newest commit, again and again: long walks, and views of one volume. */
#include <string.h>
#include "pool/sb.h"
#include "pool/space.h"
#include "pool/txn.h"
#include "pool/vol_damage.h"
#include "pool/vol_record.h"
#include "pool/walk_impl.h"

struct live_root {
	struct btree root_tree;
	uint64_t id; /* of the volume or snapshot */
	bool dead;   /* its dead list is meant */
	uint64_t tree_id;
	struct node_ptr ptr;
	uint8_t level;
};

static int step_vol_root(struct pool *p, void *arg)
{
	struct live_root *lr = arg;
	const struct btree *bt;
	struct btree_item it;
	struct vol *v;
	int rc = btree_get(&lr->root_tree, (struct key){lr->id, 1, 0}, &it);

	if (!rc)
		rc = vol_record_decode(p, &it, &v);
	if (rc)
		return rc;
	bt = lr->dead ? &v->dead : &v->tree;
	lr->tree_id = bt->tree_id;
	lr->ptr = bt->root;
	lr->level = bt->level;
	vol_free(v);
	return 0;
}

/* The newest commit, pinned by a reader. */
static struct txn *newest_pin_locked(struct pool *p, struct btree *ret_root)
{
	struct node_ptr root;

	node_ptr_from_disk(&p->sb->root.ptr, &root);
	btree_init(ret_root, &txn_btree_ops, p, p->cache, p->uuid, TREE_ROOT, root,
		   p->sb->root.level);
	return txn_read_begin_committed_locked(p);
}

/* The root of a tree in the newest commit, pinned. -ENOENT: the volume is gone. */
static int live_pin(struct pool *p, struct live_root *lr, struct txn **ret_t)
{
	const struct sb_root_disk *r[3];

	lock_take(&p->lock);
	*ret_t = newest_pin_locked(p, &lr->root_tree);
	r[0] = &p->sb->map;
	r[1] = &p->sb->space;
	r[2] = &p->sb->root;
	if (lr->id <= TREE_ROOT) {
		node_ptr_from_disk(&r[lr->id - TREE_MAP]->ptr, &lr->ptr);
		lr->level = r[lr->id - TREE_MAP]->level;
		lr->tree_id = lr->id;
	}
	lock_drop(&p->lock);
	return lr->id <= TREE_ROOT ? 0 : txn_step(p, &lr->root_tree, step_vol_root, lr);
}

struct live {
	struct pool *p;
	uint64_t birth_min;
	const struct walk_ops *ops;
	void *arg;
	struct walked { /* the newest snapshot of which all was met */
		uint64_t origin, txn;
	} * walked;
	size_t count, cap;
	/* the last record looked at */
	struct btree root_tree;
	uint64_t id;
	bool snapshots, found;
	struct vol_record rec;
};

#define LIVE_STEPS 128

/* *ret_whole: it was there up to the end, and no node of it was bad. */
static int live_tree(struct live *l, uint64_t id, bool dead, uint64_t birth_min, bool *ret_whole)
{
	struct walk *w = walk_new(l->p, birth_min, l->ops, l->arg);
	struct live_root lr = {.id = id, .dead = dead};
	int rc = w ? 0 : -ENOMEM;

	*ret_whole = false;
	while (!rc) {
		struct txn *t;

		rc = live_pin(l->p, &lr, &t);
		if (vol_damage_is(rc)) { /* of the root tree: where this tree begins is not known */
			w->bad = true;
			rc = walk_report_bad(l->ops, l->arg, &lr.root_tree, rc);
			rc = rc ? rc : -ENOENT;
		}
		if (!rc && !lr.ptr.addr.v)
			rc = -ENOENT;
		*ret_whole = !rc;
		if (!rc)
			btree_init(&w->bt, &txn_btree_ops, l->p, l->p->cache, l->p->uuid,
				   lr.tree_id, lr.ptr, lr.level);
		for (unsigned i = 0; i < LIVE_STEPS && !rc && (!i || !space_pressed(l->p)); i++)
			rc = walk_step(w);
		txn_read_end(l->p, t);
	}
	if (w) {
		*ret_whole &= rc == -ENOENT && !w->bad;
		walk_free(w);
	}
	return rc == -ENOENT ? 0 : rc;
}

void walk_exact(struct pool *p, bool on)
{
	lock_take(&p->lock);
	if (on)
		p->exact_walks++;
	else
		p->exact_walks--;
	lock_drop(&p->lock);
}

static int step_next(struct pool *p, void *arg)
{
	struct live *l = arg;

	(void)p;
	for (unsigned i = 0; i < 64 && !l->found; i++) {
		struct btree_item it;
		int rc = btree_seek_ge(&l->root_tree, (struct key){l->id + 1, 0, 0}, &it);

		if (!rc)
			rc = vol_record_view(&it, &l->rec);
		if (rc)
			return rc;
		l->id = it.key.object;
		l->found = l->snapshots == (l->rec.origin != 0);
	}
	return 0;
}

/* The next volume or snapshot of the newest commit: what memory has given up already is there
 * still. New ones have larger ids. -ENOENT: none. */
static int live_next(struct live *l)
{
	int rc = 0;

	for (l->found = false; !rc && !l->found;) {
		struct txn *t;

		lock_take(&l->p->lock);
		t = newest_pin_locked(l->p, &l->root_tree);
		lock_drop(&l->p->lock);
		rc = txn_step(l->p, &l->root_tree, step_next, l);
		txn_read_end(l->p, t);
	}
	return rc;
}

static struct walked *walked_of(const struct live *l, uint64_t origin)
{
	for (size_t i = 0; i < l->count; i++)
		if (l->walked[i].origin == origin)
			return &l->walked[i];
	return NULL;
}

/* Nodes of the volume up to that snapshot need not be met again. Without memory they are. */
static void walked_add(struct live *l, uint64_t origin, uint64_t txn)
{
	struct walked *w = walked_of(l, origin);

	if (w) {
		w->txn = txn;
		return;
	}
	if (l->count == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 16;

		w = realloc(l->walked, cap * sizeof *w);
		if (!w)
			return;
		l->walked = w;
		l->cap = cap;
	}
	l->walked[l->count++] = (struct walked){origin, txn};
}

static int live_one(struct live *l)
{
	uint64_t origin = l->snapshots ? l->rec.origin : l->id, min = l->birth_min;
	const struct walked *w = walked_of(l, origin);
	bool whole;
	int rc;

	if (w && w->txn + 1 > min)
		min = w->txn + 1;
	rc = live_tree(l, l->id, false, min, &whole);
	if (!rc && whole && l->snapshots)
		walked_add(l, origin, l->rec.snap_txn);
	if (!rc && !l->snapshots)
		rc = live_tree(l, l->id, true, l->birth_min, &whole);
	return rc;
}

/* From behind *id on. */
static int live_list(struct live *l, bool snapshots, uint64_t *id)
{
	int rc;

	l->snapshots = snapshots;
	l->id = *id;
	for (;;) {
		rc = live_next(l);
		if (rc)
			return rc == -ENOENT ? 0 : rc;
		*id = l->id;
		rc = live_one(l);
		if (rc)
			return rc;
	}
}

int walk_live(struct pool *p, uint64_t birth_min, const struct walk_ops *ops, void *arg)
{
	struct live l = {.p = p, .birth_min = birth_min, .ops = ops, .arg = arg};
	uint64_t snap = TREE_VOLUME_FIRST - 1, vol = TREE_VOLUME_FIRST - 1;
	bool whole;
	int rc = 0;

	for (uint64_t t = TREE_MAP; t <= TREE_ROOT && !rc; t++)
		rc = live_tree(&l, t, false, birth_min, &whole);
	if (!rc)
		rc = live_list(&l, true, &snap);
	if (!rc)
		rc = live_list(&l, false, &vol);
	/* What volumes let go of meanwhile is shown by snapshots taken meanwhile. */
	if (!rc)
		rc = live_list(&l, true, &snap);
	free(l.walked);
	return rc;
}

/* ---- one volume, for front ends ---- */

struct vol_view {
	struct pool *p;
	struct live_root lr;
	struct txn *t;
	const struct vol_view_ops *ops;
	void *arg;
};

int vol_view_open(struct vol *v, struct vol_view **ret_w)
{
	struct vol_view *w = calloc(1, sizeof *w);
	int rc;

	if (!w)
		return -ENOMEM;
	w->p = v->p;
	w->lr.id = v->id;
	rc = live_pin(w->p, &w->lr, &w->t);
	if (rc) {
		vol_view_close(w);
		return rc;
	}
	*ret_w = w;
	return 0;
}

void vol_view_close(struct vol_view *w)
{
	if (!w)
		return;
	txn_read_end(w->p, w->t);
	free(w);
}

static int view_node(void *arg, uint64_t tree_id, const struct node_ptr *ptr, uint8_t level)
{
	(void)arg, (void)tree_id, (void)ptr, (void)level;
	return 0;
}

static int view_item(void *arg, uint64_t tree_id, const struct btree_item *it)
{
	struct vol_view *w = arg;

	(void)tree_id;
	return w->ops->item(w->arg, it);
}

static int view_bad(void *arg, uint64_t tree_id, const struct node_ptr *ptr, uint8_t level, int rc)
{
	struct vol_view *w = arg;

	(void)tree_id, (void)ptr, (void)level;
	return w->ops->bad(w->arg, rc);
}

int vol_view_walk(struct vol_view *w, const struct vol_view_ops *ops, void *arg)
{
	const struct walk_ops walk = {NULL, view_node, view_item, view_bad};

	w->ops = ops;
	w->arg = arg;
	return walk_tree(w->p, w->lr.tree_id, w->lr.ptr, w->lr.level, 0, &walk, w);
}

int vol_item_extent(const struct btree_item *it, uint64_t *ret_off, uint64_t *ret_len,
		    bool *ret_reserved)
{
	struct extent x;
	int rc = it->key.type == VOL_KEY_EXTENT ? extent_decode(it, &x) : ERR_FORMAT;

	if (rc)
		return ERR_FORMAT;
	*ret_off = x.lblk * BLOCK_SIZE;
	*ret_len = (uint64_t)x.blocks * BLOCK_SIZE;
	*ret_reserved = x.codec == EXTENT_RESERVED;
	return 0;
}
