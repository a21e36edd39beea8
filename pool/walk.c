#include "pool/walk.h"
#include <string.h>
#include "pool/btree_page.h"
#include "pool/sb.h"
#include "pool/space.h"
#include "pool/txn.h"
#include "pool/vol_record.h"

struct walk {
	struct pool *p;
	struct btree bt;
	struct btree_cursor cur;
	const struct walk_ops *ops;
	void *arg;
	uint64_t birth_min;
	uint8_t *leaf; /* copy of the leaf of this step */
	struct btree_path path;
};

static int next_path(struct pool *p, void *arg)
{
	struct walk *w = arg;
	struct node *n;
	int rc = btree_walk(&w->bt, &w->cur, w->birth_min, &w->path);

	if (rc)
		return rc;
	n = node_cache_find(p->cache, w->path.ptr[w->path.count - 1].addr);
	if (w->path.level[w->path.count - 1] == 0)
		memcpy(w->leaf, n->buf, NODE_SIZE);
	return 0;
}

/* The subtree below a bad node cannot be seen: move the cursor behind it is not possible without
 * its parent's next key, so the walk of this tree ends there and says so. */
static int walk_bad(struct walk *w, int rc)
{
	int rc2 = w->ops->bad
			  ? w->ops->bad(w->arg, w->bt.tree_id, &w->bt.need, w->bt.need_level, rc)
			  : rc;

	return rc2 ? rc2 : -ENOENT;
}

static int walk_step(struct walk *w)
{
	unsigned last;
	int rc = txn_step(w->p, &w->bt, next_path, w);

	if (rc == -ENOENT || rc == -ENOMEM || rc == ERR_FAULTED)
		return rc;
	if (rc)
		return walk_bad(w, rc);
	last = w->path.count - 1;
	for (unsigned i = 0; i <= last && !rc; i++)
		if (w->path.is_new[i] && w->path.ptr[i].birth >= w->birth_min)
			rc = w->ops->node(w->arg, w->bt.tree_id, &w->path.ptr[i], w->path.level[i]);
	if (rc || w->path.level[last] || !w->ops->item)
		return rc;
	for (unsigned i = 0; i < page_count(w->leaf) && !rc; i++) {
		struct btree_item it;

		page_item(w->leaf, i, &it);
		rc = w->ops->item(w->arg, w->bt.tree_id, &it);
	}
	return rc;
}

static struct walk *walk_new(struct pool *p, uint64_t birth_min, const struct walk_ops *ops,
			     void *arg)
{
	struct walk *w = calloc(1, sizeof *w);

	if (w)
		w->leaf = malloc(NODE_SIZE);
	if (!w || !w->leaf) {
		free(w);
		return NULL;
	}
	w->p = p;
	w->ops = ops;
	w->arg = arg;
	w->birth_min = birth_min;
	return w;
}

static void walk_free(struct walk *w)
{
	free(w->leaf);
	free(w);
}

int walk_tree(struct pool *p, uint64_t tree_id, struct node_ptr root, uint8_t level,
	      uint64_t birth_min, const struct walk_ops *ops, void *arg)
{
	struct walk *w;
	int rc = 0;

	if (!root.addr.v)
		return 0;
	w = walk_new(p, birth_min, ops, arg);
	if (!w)
		return -ENOMEM;
	btree_init(&w->bt, &txn_btree_ops, p, p->cache, p->uuid, tree_id, root, level);
	while (!rc)
		rc = walk_step(w);
	walk_free(w);
	return rc == -ENOENT ? 0 : rc;
}

/* ---- all trees ---- */

struct vol_root {
	uint64_t id; /* of the tree */
	enum walk_kind kind;
	struct node_ptr root;
	uint8_t level;
	uint64_t snap_txn;
};
struct roots {
	struct vol_root *r;
	size_t count, cap;
	struct pool *p;
	const struct walk_ops *ops;
	void *arg;
};

static int roots_node(void *arg, uint64_t tree_id, const struct node_ptr *ptr, uint8_t level)
{
	(void)arg, (void)tree_id, (void)ptr, (void)level;
	return 0;
}

static int roots_add(struct roots *rs, const struct btree *bt, enum walk_kind kind,
		     uint64_t snap_txn)
{
	if (rs->count == rs->cap) {
		size_t cap = rs->cap ? rs->cap * 2 : 64;
		struct vol_root *r = realloc(rs->r, cap * sizeof *r);

		if (!r)
			return -ENOMEM;
		rs->r = r;
		rs->cap = cap;
	}
	rs->r[rs->count++] = (struct vol_root){bt->tree_id, kind, bt->root, bt->level, snap_txn};
	return 0;
}

static int roots_item(void *arg, uint64_t tree_id, const struct btree_item *it)
{
	struct roots *rs = arg;
	struct vol *v;
	int rc = it->key.object < TREE_VOLUME_FIRST ? ERR_FORMAT : vol_record_decode(rs->p, it, &v);

	(void)tree_id;
	if (rc)
		return rc == -ENOMEM ? rc : 0; /* reported by whoever looks at the items */
	rc = roots_add(rs, &v->tree, v->origin ? WALK_SNAPSHOT : WALK_VOLUME, v->snap_txn);
	if (!rc && v->dead_id)
		rc = roots_add(rs, &v->dead, WALK_DEAD, 0);
	vol_free(v);
	return rc;
}

/* What a snapshot shows and the one before does not, was born after that; snapshots of a volume lie
 * in the order in which they were taken. */
static uint64_t snapshot_min(const struct roots *rs, size_t i, uint64_t birth_min)
{
	for (size_t k = i; k-- > 0;) {
		const struct vol_root *r = &rs->r[k];

		if (r->kind != WALK_SNAPSHOT || r->id != rs->r[i].id || !r->root.addr.v ||
		    r->snap_txn > rs->r[i].snap_txn)
			continue;
		return r->snap_txn + 1 > birth_min ? r->snap_txn + 1 : birth_min;
	}
	return birth_min;
}

static int roots_bad(void *arg, uint64_t tree_id, const struct node_ptr *ptr, uint8_t level, int rc)
{
	(void)arg, (void)tree_id, (void)ptr, (void)level, (void)rc;
	return 0;
}

static void walk_begin(const struct walk_ops *ops, void *arg, uint64_t id, enum walk_kind kind)
{
	if (ops->tree)
		ops->tree(arg, id, kind);
}

int walk_all(struct pool *p, const struct sb_disk *sb, uint64_t birth_min,
	     const struct walk_ops *ops, void *arg)
{
	const struct sb_root_disk *r[3] = {&sb->map, &sb->space, &sb->root};
	const struct walk_ops root_ops = {NULL, roots_node, roots_item, roots_bad};
	struct roots rs = {.p = p};
	struct node_ptr ptr;
	int rc = 0;

	for (unsigned i = 0; i < 3 && !rc; i++) {
		node_ptr_from_disk(&r[i]->ptr, &ptr);
		walk_begin(ops, arg, TREE_MAP + i, WALK_POOL);
		rc = walk_tree(p, TREE_MAP + i, ptr, r[i]->level, birth_min, ops, arg);
	}
	if (!rc) {
		node_ptr_from_disk(&sb->root.ptr, &ptr);
		rc = walk_tree(p, TREE_ROOT, ptr, sb->root.level, 0, &root_ops, &rs);
	}
	for (size_t i = 0; i < rs.count && !rc; i++) {
		uint64_t min = birth_min;

		if (rs.r[i].kind == WALK_SNAPSHOT)
			min = snapshot_min(&rs, i, birth_min);
		walk_begin(ops, arg, rs.r[i].id, rs.r[i].kind);
		if (rs.r[i].root.birth >= min)
			rc = walk_tree(p, rs.r[i].id, rs.r[i].root, rs.r[i].level, min, ops, arg);
	}
	free(rs.r);
	return rc;
}

/* ---- live: the newest commit, again and again ---- */

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

/* The root of a tree in the newest commit, pinned by a reader. -ENOENT: the volume is gone. */
static int live_pin(struct pool *p, struct live_root *lr, struct txn **ret_t)
{
	const struct sb_root_disk *r[3];
	struct node_ptr root;

	lock_take(&p->lock);
	*ret_t = txn_read_begin_committed_locked(p);
	r[0] = &p->sb->map;
	r[1] = &p->sb->space;
	r[2] = &p->sb->root;
	if (lr->id <= TREE_ROOT) {
		node_ptr_from_disk(&r[lr->id - TREE_MAP]->ptr, &lr->ptr);
		lr->level = r[lr->id - TREE_MAP]->level;
		lr->tree_id = lr->id;
	}
	node_ptr_from_disk(&p->sb->root.ptr, &root);
	btree_init(&lr->root_tree, &txn_btree_ops, p, p->cache, p->uuid, TREE_ROOT, root,
		   p->sb->root.level);
	lock_drop(&p->lock);
	return lr->id <= TREE_ROOT ? 0 : txn_step(p, &lr->root_tree, step_vol_root, lr);
}

#define LIVE_STEPS 128

static int live_tree(struct pool *p, uint64_t id, bool dead, uint64_t birth_min,
		     const struct walk_ops *ops, void *arg)
{
	struct walk *w = walk_new(p, birth_min, ops, arg);
	struct live_root lr = {.id = id, .dead = dead};
	int rc = w ? 0 : -ENOMEM;

	while (!rc) {
		struct txn *t;

		rc = live_pin(p, &lr, &t);
		if (!rc && !lr.ptr.addr.v)
			rc = -ENOENT;
		if (!rc)
			btree_init(&w->bt, &txn_btree_ops, p, p->cache, p->uuid, lr.tree_id, lr.ptr,
				   lr.level);
		for (unsigned i = 0; i < LIVE_STEPS && !rc && (!i || !space_pressed(p)); i++)
			rc = walk_step(w);
		txn_read_end(p, t);
	}
	if (w)
		walk_free(w);
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

/* By id; new ones have larger ids. */
static int live_list(struct pool *p, struct vol **list, uint64_t birth_min,
		     const struct walk_ops *ops, void *arg)
{
	uint64_t id = 0;
	int rc = 0;

	while (!rc) {
		struct vol *v;
		bool dead;

		lock_take(&p->lock);
		for (v = *list; v && v->id <= id; v = v->next)
			;
		id = v ? v->id : 0;
		dead = v && v->dead_id;
		lock_drop(&p->lock);
		if (!id)
			break;
		rc = live_tree(p, id, false, birth_min, ops, arg);
		if (!rc && dead)
			rc = live_tree(p, id, true, birth_min, ops, arg);
	}
	return rc;
}

int walk_live(struct pool *p, uint64_t birth_min, const struct walk_ops *ops, void *arg)
{
	int rc = 0;

	for (uint64_t t = TREE_MAP; t <= TREE_ROOT && !rc; t++)
		rc = live_tree(p, t, false, birth_min, ops, arg);
	if (!rc)
		rc = live_list(p, &p->vols, birth_min, ops, arg);
	/* Behind the volumes: what they let go of meanwhile is met here. */
	return rc ? rc : live_list(p, &p->snaps, birth_min, ops, arg);
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
	const struct walk_ops walk = {NULL, roots_node, view_item, view_bad};

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
