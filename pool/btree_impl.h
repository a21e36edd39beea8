/* btree_impl: what the files of the B+tree share. Not for others. */
#ifndef TARN_POOL_BTREE_IMPL_H
#define TARN_POOL_BTREE_IMPL_H
#include <errno.h>
#include "base/err.h"
#include "pool/btree_page.h"
#include "pool/node.h"

/* The way from the root to a leaf, by level (0 is the leaf). */
struct btree_descent {
	struct node *node[NODE_LEVEL_MAX + 1];
	unsigned slot[NODE_LEVEL_MAX + 1]; /* of the child taken; in the leaf: of the key */
	bool exact;			   /* the leaf has the key */
};

static inline bool btree_is_empty(const struct btree *bt)
{
	return addr_eq(bt->root.addr, ADDR_NONE);
}

/* The cached node p points to, or NULL. A node of the same address but another life, or found at
 * another level than its parent says (a crafted pool could do that), is not it. */
static inline struct node *btree_find(struct btree *bt, const struct node_ptr *p, uint8_t level)
{
	struct node *n = node_cache_find(bt->cache, p->addr);

	return n && n->birth == p->birth && page_level(n->buf) == level ? n : NULL;
}

/* Same, but missing is ERR_NEED_NODE with bt->need set, a wrong level ERR_FORMAT. */
int btree_load(struct btree *bt, const struct node_ptr *p, uint8_t level, struct node **ret_n);

/* From the root to the leaf that covers k. -ENOENT: the tree is empty. */
int btree_descend(struct btree *bt, struct key k, struct btree_descent *ret_d);

#endif
