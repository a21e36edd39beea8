/* btree: opening and looking up. Changes are in btree_change.c, walks and checks in btree_walk.c,
 * the inside of one node in btree_page.c. See btree.h. */
#include "pool/btree_impl.h"

void btree_init(struct btree *bt, const struct btree_ops *ops, void *ctx, struct node_cache *cache,
		const uint8_t *pool_id, uint64_t tree_id, struct node_ptr root, uint8_t level)
{
	assert(level <= NODE_LEVEL_MAX);
	*bt = (struct btree){.ops = ops,
			     .ctx = ctx,
			     .cache = cache,
			     .pool_id = pool_id,
			     .tree_id = tree_id,
			     .root = root,
			     .level = level};
}

static int need_node(struct btree *bt, const struct node_ptr *p, uint8_t level)
{
	bt->need = *p;
	bt->need_level = level;
	return ERR_NEED_NODE;
}

int btree_load(struct btree *bt, const struct node_ptr *p, uint8_t level, struct node **ret_n)
{
	struct node *n = node_cache_find(bt->cache, p->addr);

	if (!n || n->birth != p->birth)
		return need_node(bt, p, level);
	if (page_level(n->buf) != level)
		return ERR_FORMAT;
	*ret_n = n;
	return 0;
}

int btree_descend(struct btree *bt, struct key k, struct btree_descent *ret_d)
{
	struct node_ptr p = bt->root;

	if (btree_is_empty(bt))
		return -ENOENT;
	for (uint8_t level = bt->level;; level--) {
		struct node *n;
		int rc = btree_load(bt, &p, level, &n);

		if (rc < 0)
			return rc;
		ret_d->node[level] = n;
		if (level == 0) {
			ret_d->slot[0] = page_search(n->buf, k, &ret_d->exact);
			return 0;
		}
		ret_d->slot[level] = page_search_child(n->buf, k);
		p = page_child(n->buf, ret_d->slot[level]);
	}
}

int btree_get(struct btree *bt, struct key k, struct btree_item *ret_item)
{
	struct node_ptr p = bt->root;
	bool exact;

	if (btree_is_empty(bt))
		return -ENOENT;
	for (uint8_t level = bt->level;; level--) {
		struct node *n;
		unsigned i;
		int rc = btree_load(bt, &p, level, &n);

		if (rc < 0)
			return rc;
		if (level > 0) {
			p = page_child(n->buf, page_search_child(n->buf, k));
			continue;
		}
		i = page_search(n->buf, k, &exact);
		if (!exact)
			return -ENOENT;
		page_item(n->buf, i, ret_item);
		return 0;
	}
}

/* From slot[level] of node[level], which is set, go down to a leaf along the first (or last)
 * children. */
static int descend_edge(struct btree *bt, struct btree_descent *d, uint8_t level, bool last)
{
	for (; level > 0; level--) {
		struct node_ptr p = page_child(d->node[level]->buf, d->slot[level]);
		struct node *n;
		int rc = btree_load(bt, &p, level - 1, &n);

		if (rc < 0)
			return rc;
		d->node[level - 1] = n;
		d->slot[level - 1] = last ? page_count(n->buf) - 1 : 0;
	}
	return 0;
}

int btree_seek_ge(struct btree *bt, struct key k, struct btree_item *ret_item)
{
	struct btree_descent d;
	int rc = btree_descend(bt, k, &d);

	if (rc < 0)
		return rc;
	while (d.slot[0] >= page_count(d.node[0]->buf)) { /* also over empty leaves */
		uint8_t level = 1;

		while (level <= bt->level && d.slot[level] + 1 == page_count(d.node[level]->buf))
			level++;
		if (level > bt->level)
			return -ENOENT;
		d.slot[level]++;
		rc = descend_edge(bt, &d, level, false);
		if (rc < 0)
			return rc;
	}
	page_item(d.node[0]->buf, d.slot[0], ret_item);
	/* Keys outside their parent's bounds must not lead a scan in circles. */
	return key_cmp(ret_item->key, k) < 0 ? ERR_FORMAT : 0;
}

int btree_seek_le(struct btree *bt, struct key k, struct btree_item *ret_item)
{
	struct btree_descent d;
	int rc = btree_descend(bt, k, &d);

	if (rc < 0)
		return rc;
	if (!d.exact)
		d.slot[0]--; /* may wrap: nothing here */
	while (d.slot[0] == UINT32_MAX) {
		uint8_t level = 1;

		while (level <= bt->level && d.slot[level] == 0)
			level++;
		if (level > bt->level)
			return -ENOENT;
		d.slot[level]--;
		rc = descend_edge(bt, &d, level, true);
		if (rc < 0)
			return rc;
	}
	page_item(d.node[0]->buf, d.slot[0], ret_item);
	return key_cmp(ret_item->key, k) > 0 ? ERR_FORMAT : 0;
}

int btree_prepare(struct btree *bt, struct key k)
{
	struct btree_descent d;
	int rc = btree_descend(bt, k, &d);

	return rc && rc != -ENOENT ? rc : node_cache_reserve(bt->cache);
}

int btree_node_item(struct btree *bt, struct node_ptr p, unsigned i, struct btree_item *ret_item)
{
	struct node *n = node_cache_find(bt->cache, p.addr);

	if (!n || n->birth != p.birth)
		return need_node(bt, &p, 0xff);
	if (i >= page_count(n->buf))
		return -ENOENT;
	page_item(n->buf, i, ret_item);
	return 0;
}
