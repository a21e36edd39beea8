/* btree_change: put, update, del, and sealing at commit. See btree.h.
 *
 * A change works in three steps, of which only the first can fail:
 *   1. descend (ERR_NEED_NODE), count the new nodes wanted, reserve all of them;
 *   2. shadow the path from the root down: afterwards its nodes are writable;
 *   3. change the pages.
 *
 * Shadowing node B of transaction 7 in transaction 8 (its parent A was shadowed just before):
 *
 *        A'(8)                     A'(8)
 *          |            ->           |
 *        B (7)                     B'(8)     B (7) given to free_node: a snapshot, the disk and
 *                                            perhaps the write under way still have it
 *
 * Tempting and wrong: removing every leaf that becomes empty. Its keys then belong to a neighbour,
 * and when that is not cached a later put of the same prepared group would need a read. So a leaf
 * whose heir is not cached stays, empty, and a later del next to it merges it away.
 */
#include "base/crc.h"
#include "pool/btree_impl.h"

/* Merge when both together fill at most this much, and only when the changed node is below half. */
#define MERGE_FILL_MAX (PAGE_SPACE / 4 * 3)
#define MERGE_BELOW    (PAGE_SPACE / 2)

/* New nodes got before anything changes. A split adds one per level and a root, a shadow one. */
struct reserve {
	struct node *node[2 * (NODE_LEVEL_MAX + 1) + 1];
	unsigned count;
};

static bool writable(struct btree *bt, const struct node *n)
{
	if (n->birth != bt->ops->txn(bt->ctx))
		return false;
	assert(n->dirty && !n->sealed);
	return true;
}

/* n is no longer part of the tree. When it is not of the open transaction it stays in the cache: a
 * snapshot may use it, or its write may be under way. */
static void release(struct btree *bt, struct node *n)
{
	bool own = writable(bt, n);

	bt->ops->free_node(bt->ctx, bt, n->addr, n->birth);
	if (own) {
		node_cache_drop(bt->cache, n);
		return;
	}
	n->freed = n->dirty;
	n->referenced = false;
}

static int reserve_get(struct btree *bt, struct reserve *r, unsigned want)
{
	uint64_t txn = bt->ops->txn(bt->ctx);
	int rc = 0;

	assert(want <= sizeof(r->node) / sizeof(r->node[0]));
	for (r->count = 0; r->count < want; r->count++) {
		struct addr a;
		struct node *n;

		rc = bt->ops->alloc_node(bt->ctx, bt, &a);
		if (rc < 0)
			break;
		n = node_cache_new(bt->cache, a, txn);
		if (!n) {
			bt->ops->free_node(bt->ctx, bt, a, txn);
			rc = -ENOMEM;
			break;
		}
		r->node[r->count] = n;
	}
	if (rc == 0)
		return 0;
	while (r->count > 0)
		release(bt, r->node[--r->count]);
	return rc;
}

static struct node *reserve_take(struct btree *bt, struct reserve *r)
{
	struct node *n;

	assert(r->count > 0);
	n = r->node[--r->count];
	page_set_id(n->buf, n->addr, n->birth, bt->tree_id);
	return n;
}

static struct node *reserve_take_empty(struct btree *bt, struct reserve *r, uint8_t level)
{
	struct node *n = reserve_take(bt, r);

	page_init(n->buf, level, bt->pool_id, bt->tree_id);
	return n;
}

static unsigned count_shadows(struct btree *bt, const struct btree_descent *d, uint8_t bottom)
{
	unsigned count = 0;

	for (unsigned level = bottom; level <= bt->level; level++)
		count += !writable(bt, d->node[level]);
	return count;
}

static struct node_ptr ptr_to(const struct node *n)
{
	return (struct node_ptr){n->addr, n->birth, 0};
}

static void set_child(struct node *parent, unsigned slot, struct node_ptr p)
{
	struct node_ptr_disk disk = page_ptr_disk(p);

	page_set_value(parent->buf, slot, &disk, sizeof(disk));
}

/* Make the path writable from the root down to level `bottom`; every change of a leaf comes by
 * here.
 */
static void shadow_path(struct btree *bt, struct btree_descent *d, uint8_t bottom,
			struct reserve *r)
{
	bt->dirty = true;
	for (int level = bt->level; level >= bottom; level--) {
		struct node *old = d->node[level], *n;

		if (writable(bt, old))
			continue;
		assert(r->count > 0);
		n = r->node[r->count - 1];
		memcpy(n->buf, old->buf, NODE_SIZE);
		reserve_take(bt, r);
		d->node[level] = n;
		if (level == bt->level)
			bt->root = ptr_to(n);
		else
			set_child(d->node[level + 1], d->slot[level + 1], ptr_to(n));
		release(bt, old);
	}
	if (!bottom)
		d->node[0]->ready = false;
}

/* New nodes for splits when an item of `need` bytes more enters the leaf. */
static unsigned count_splits(const struct btree *bt, const struct btree_descent *d, unsigned need)
{
	unsigned splits = 0;

	for (unsigned level = 0; level <= bt->level; level++) {
		if (page_room(d->node[level]->buf) >= need)
			return splits;
		splits++;
		need = PAGE_CHILD_SIZE;
	}
	return splits + 1; /* a new root */
}

static void new_root(struct btree *bt, struct key sep, struct node_ptr right, struct reserve *r)
{
	struct node_ptr_disk left_disk = page_ptr_disk(bt->root);
	struct node_ptr_disk right_disk = page_ptr_disk(right);
	struct node *n = reserve_take_empty(bt, r, bt->level + 1);
	uint8_t *scratch = node_cache_scratch(bt->cache);

	page_insert(n->buf, 0, KEY_MIN, &left_disk, sizeof(left_disk), scratch);
	page_insert(n->buf, 1, sep, &right_disk, sizeof(right_disk), scratch);
	bt->root = ptr_to(n);
	bt->level++;
}

/* Insert into the writable leaf, splitting upwards:
 *
 *       [.. p ..]                [.. p | q ..]
 *           |          ->           |    |
 *      [a b c d e]             [a b c] [d e]       q's key is d
 */
static void insert_splitting(struct btree *bt, struct btree_descent *d, struct key k,
			     const void *value, unsigned len, struct reserve *r)
{
	uint8_t *scratch = node_cache_scratch(bt->cache), root_level = bt->level;
	unsigned slot = d->slot[0];
	struct node_ptr_disk disk;

	for (uint8_t level = 0;; level++) {
		struct node *n = d->node[level], *right;

		if (page_room(n->buf) >= PAGE_SLOT_SIZE + len) {
			page_insert(n->buf, slot, k, value, len, scratch);
			return;
		}
		right = reserve_take_empty(bt, r, level);
		page_split_insert(n->buf, right->buf, slot, k, value, len, scratch);
		k = page_key(right->buf, 0);
		if (level == root_level) {
			new_root(bt, k, ptr_to(right), r);
			return;
		}
		disk = page_ptr_disk(ptr_to(right));
		value = &disk;
		len = sizeof(disk);
		slot = d->slot[level + 1] + 1;
	}
}

/* First item of an empty tree: the root is a leaf. */
static int put_first(struct btree *bt, struct key k, const void *value, uint16_t len)
{
	struct reserve r;
	struct node *n;
	int rc = reserve_get(bt, &r, 1);

	if (rc < 0)
		return rc;
	n = reserve_take_empty(bt, &r, 0);
	page_insert(n->buf, 0, k, value, len, node_cache_scratch(bt->cache));
	bt->root = ptr_to(n);
	bt->level = 0;
	bt->dirty = true;
	return 0;
}

int btree_put(struct btree *bt, struct key k, const void *value, uint16_t len)
{
	struct btree_descent d;
	struct reserve r;
	unsigned need = PAGE_SLOT_SIZE + len, old = 0, splits;
	int rc = btree_descend(bt, k, &d);

	assert(len <= NODE_VALUE_MAX);
	if (rc == -ENOENT)
		return put_first(bt, k, value, len);
	if (rc < 0)
		return rc;
	if (d.exact)
		old = PAGE_SLOT_SIZE + page_value_len(d.node[0]->buf, d.slot[0]);
	splits = need > old ? count_splits(bt, &d, need - old) : 0;
	if (splits == bt->level + 2u && bt->level == NODE_LEVEL_MAX)
		return -EFBIG;
	rc = reserve_get(bt, &r, count_shadows(bt, &d, 0) + splits);
	if (rc < 0)
		return rc;
	shadow_path(bt, &d, 0, &r);
	if (need == old) {
		page_set_value(d.node[0]->buf, d.slot[0], value, len);
	} else {
		if (d.exact)
			page_remove(d.node[0]->buf, d.slot[0]);
		insert_splitting(bt, &d, k, value, len, &r);
	}
	assert(r.count == 0);
	return 0;
}

int btree_update(struct btree *bt, struct key k, const void *value, uint16_t len)
{
	struct btree_descent d;
	struct reserve r;
	int rc = btree_descend(bt, k, &d);

	if (rc < 0)
		return rc;
	if (!d.exact)
		return -ENOENT;
	if (page_value_len(d.node[0]->buf, d.slot[0]) != len)
		return ERR_FORMAT;
	rc = reserve_get(bt, &r, count_shadows(bt, &d, 0));
	if (rc < 0)
		return rc;
	shadow_path(bt, &d, 0, &r);
	page_set_value(d.node[0]->buf, d.slot[0], value, len);
	return 0;
}

/* Is the last (or first) leaf below child `slot` of n cached, with the way to it? */
static bool edge_cached(struct btree *bt, const struct node *n, unsigned slot, bool last)
{
	for (uint8_t level = page_level(n->buf); level > 0; level--) {
		struct node_ptr p = page_child(n->buf, slot);

		n = btree_find(bt, &p, level - 1);
		if (!n)
			return false;
		slot = last ? page_count(n->buf) - 1 : 0;
	}
	return true;
}

/* Can child `slot` be taken out of n, its keys going to the left neighbour or else the right one?
 * Not when neither is cached. */
static bool can_remove_child(struct btree *bt, const struct node *n, unsigned slot, bool *ret_left)
{
	*ret_left = slot > 0 && edge_cached(bt, n, slot - 1, true);
	return *ret_left || (slot + 1 < page_count(n->buf) && edge_cached(bt, n, slot + 1, false));
}

static void remove_child(struct node *n, unsigned slot, bool left)
{
	if (!left)
		page_set_key(n->buf, slot + 1, page_key(n->buf, slot));
	page_remove(n->buf, slot);
}

/* Child `slot` of the writable parent takes over the items of its neighbour when that is cached and
 * both fit; an interior node's slot 0 counts as minus infinity, so it gets the parent's key first:
 *
 *      [.. p | q ..]                 [.. p ..]
 *          |   |          ->             |
 *       [a b] [d e]                 [a b d e]
 *
 * The node on the path (writable) always survives, so no further shadow is needed. */
static bool merge_with(struct btree *bt, struct btree_descent *d, uint8_t level, bool with_left)
{
	struct node *parent = d->node[level + 1], *n = d->node[level], *other;
	uint8_t *scratch = node_cache_scratch(bt->cache);
	unsigned slot = d->slot[level + 1], n_slot = slot;
	struct node_ptr p;

	if (with_left ? slot == 0 : slot + 1 == page_count(parent->buf))
		return false;
	p = page_child(parent->buf, with_left ? slot - 1 : slot + 1);
	other = btree_find(bt, &p, level);
	if (!other || page_used(n->buf) + page_used(other->buf) > MERGE_FILL_MAX)
		return false;
	if (with_left) {
		if (level > 0)
			page_set_key(n->buf, 0, page_key(parent->buf, slot));
		page_merge(n->buf, 0, other->buf, scratch);
		set_child(parent, slot - 1, ptr_to(n));
		page_remove(parent->buf, slot);
		n_slot = slot - 1;
	} else {
		unsigned count = page_count(n->buf);

		page_merge(n->buf, count, other->buf, scratch);
		if (level > 0)
			page_set_key(n->buf, count, page_key(parent->buf, slot + 1));
		page_remove(parent->buf, slot + 1);
	}
	d->slot[level + 1] = n_slot;
	release(bt, other);
	return true;
}

/* While an interior root has one child, that child is the root. */
static void collapse_root(struct btree *bt)
{
	while (bt->level > 0) {
		struct node *root = btree_find(bt, &bt->root, bt->level);
		struct node_ptr child;

		if (!root || page_count(root->buf) > 1)
			return;
		child = page_child(root->buf, 0);
		if (!btree_find(bt, &child, bt->level - 1))
			return;
		release(bt, root);
		bt->root = child;
		bt->level--;
	}
}

/* After the node at `level` lost something: merge there and, as long as that succeeds, above. */
static void merge_up(struct btree *bt, struct btree_descent *d, uint8_t level)
{
	for (; level < bt->level; level++) {
		if (page_used(d->node[level]->buf) > MERGE_BELOW)
			return;
		if (!merge_with(bt, d, level, true) && !merge_with(bt, d, level, false))
			return;
	}
	collapse_root(bt);
}

static void empty(struct btree *bt)
{
	bt->root = (struct node_ptr){0};
	bt->level = 0;
	bt->dirty = true;
}

int btree_del(struct btree *bt, struct key k)
{
	struct btree_descent d;
	struct reserve r;
	uint8_t cut = 0; /* nodes below this level go away with the item */
	bool left = false;
	int rc = btree_descend(bt, k, &d);

	if (rc < 0)
		return rc;
	if (!d.exact)
		return -ENOENT;
	while (cut <= bt->level && page_count(d.node[cut]->buf) == 1)
		cut++;
	if (cut > 0 && cut <= bt->level && !can_remove_child(bt, d.node[cut], d.slot[cut], &left))
		cut = 0;
	if (cut <= bt->level) {
		rc = reserve_get(bt, &r, count_shadows(bt, &d, cut));
		if (rc < 0)
			return rc;
		shadow_path(bt, &d, cut, &r);
	}
	bt->dirty = true;
	for (unsigned level = 0; level < cut; level++)
		release(bt, d.node[level]);
	if (cut > bt->level) {
		empty(bt);
		return 0;
	}
	if (cut > 0)
		remove_child(d.node[cut], d.slot[cut], left);
	else
		page_remove(d.node[0]->buf, d.slot[0]);
	merge_up(bt, &d, cut);
	return 0;
}

/* Find the slot below n that leads to p, and the way to it, in what is cached. */
static bool find_child(struct btree *bt, struct node *n, struct node_ptr p, uint8_t level,
		       struct btree_descent *d)
{
	uint8_t at = page_level(n->buf);

	d->node[at] = n;
	for (unsigned i = 0; i < page_count(n->buf); i++) {
		struct node_ptr c = page_child(n->buf, i);
		struct node *child;

		d->slot[at] = i;
		if (at == level + 1) {
			if (addr_eq(c.addr, p.addr) && c.birth == p.birth)
				return true;
			continue;
		}
		child = btree_find(bt, &c, at - 1);
		if (child && find_child(bt, child, p, level, d))
			return true;
	}
	return false;
}

int btree_cut(struct btree *bt, struct node_ptr p, uint8_t level)
{
	uint8_t cut = level + 1; /* nodes below this level go away */
	struct btree_descent d;
	struct reserve r;
	struct node *root;
	int rc;

	if (addr_eq(bt->root.addr, p.addr)) {
		bt->ops->free_node(bt->ctx, bt, p.addr, p.birth);
		empty(bt);
		return 0;
	}
	if (btree_is_empty(bt) || bt->level <= level)
		return -ENOENT;
	rc = btree_load(bt, &bt->root, bt->level, &root);
	if (rc < 0)
		return rc;
	if (!find_child(bt, root, p, level, &d))
		return -ENOENT;
	while (cut <= bt->level && page_count(d.node[cut]->buf) == 1)
		cut++;
	if (cut <= bt->level) {
		rc = reserve_get(bt, &r, count_shadows(bt, &d, cut));
		if (rc < 0)
			return rc;
		shadow_path(bt, &d, cut, &r);
	}
	bt->ops->free_node(bt->ctx, bt, p.addr, p.birth);
	for (uint8_t l = level + 1; l < cut; l++)
		release(bt, d.node[l]);
	if (cut > bt->level)
		empty(bt);
	else
		remove_child(d.node[cut], d.slot[cut], d.slot[cut] > 0);
	return 0;
}

static uint32_t seal_node(struct btree *bt, struct node_ptr p, uint8_t level, btree_seal_fn *each,
			  void *arg)
{
	struct node *n = btree_find(bt, &p, level);

	assert(n && writable(bt, n));
	for (unsigned i = 0; level > 0 && i < page_count(n->buf); i++) {
		struct node_ptr child = page_child(n->buf, i);

		if (child.birth != n->birth)
			continue;
		child.crc = seal_node(bt, child, level - 1, each, arg);
		set_child(n, i, child);
	}
	if (n->ready)
		p.crc = le32_get(page_header(n->buf)->crc);
	else
		p.crc = node_finish(n, node_cache_scratch(bt->cache));
	n->sealed = true;
	each(arg, n);
	return p.crc;
}

void btree_seal(struct btree *bt, btree_seal_fn *each, void *arg)
{
	if (!bt->dirty)
		return;
	bt->dirty = false;
	if (!btree_is_empty(bt) && bt->root.birth == bt->ops->txn(bt->ctx))
		bt->root.crc = seal_node(bt, bt->root, bt->level, each, arg);
}
