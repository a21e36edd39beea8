#include "pool/walk_impl.h"
#include <string.h>
#include "pool/btree_page.h"
#include "pool/sb.h"
#include "pool/space.h"
#include "pool/txn.h"
#include "pool/vol_record.h"

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

static int report_path(struct walk *w)
{
	int rc = 0;

	for (unsigned i = 0; i < w->path.count && !rc; i++)
		if (w->path.is_new[i] && w->path.ptr[i].birth >= w->birth_min)
			rc = w->ops->node(w->arg, w->bt.tree_id, &w->path.ptr[i], w->path.level[i]);
	return rc;
}

int walk_report_bad(const struct walk_ops *ops, void *arg, const struct btree *bt, int rc)
{
	return ops->bad ? ops->bad(arg, bt->tree_id, &bt->need, bt->need_level, rc) : rc;
}

/* The subtree below a bad node cannot be seen; the walk goes on behind it. */
static int walk_bad(struct walk *w, int rc)
{
	w->bad = true;
	rc = walk_report_bad(w->ops, w->arg, &w->bt, rc);
	if (!rc)
		rc = report_path(w);
	if (!rc)
		btree_walk_skip(&w->cur, &w->path);
	return rc;
}

int walk_step(struct walk *w)
{
	int rc = txn_step(w->p, &w->bt, next_path, w);

	if (rc == -ENOENT || rc == -ENOMEM || rc == ERR_FAULTED)
		return rc;
	if (rc)
		return walk_bad(w, rc);
	rc = report_path(w);
	if (rc || w->path.level[w->path.count - 1] || !w->ops->item)
		return rc;
	for (unsigned i = 0; i < page_count(w->leaf) && !rc; i++) {
		struct btree_item it;

		page_item(w->leaf, i, &it);
		rc = w->ops->item(w->arg, w->bt.tree_id, &it);
	}
	return rc;
}

struct walk *walk_new(struct pool *p, uint64_t birth_min, const struct walk_ops *ops, void *arg)
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

void walk_free(struct walk *w)
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
