/* btree: the copy-on-write B+tree, the only index structure; pure memory code (law 5).
 *
 * Nodes live in a node cache (node.h) in their disk form. A tree function that meets a node that is
 * not cached changes nothing, stores which one in bt->need and returns ERR_NEED_NODE; the caller
 * drops the lock, reads it (node_read in txn.c), takes the lock and starts the operation again.
 * To make a group of changes that cannot stop half-way: btree_prepare() every key first, then
 * change, without dropping the lock or node_cache_trim() between; after prepare, get, put, update
 * and del on those keys never return ERR_NEED_NODE, whatever the group changed before.
 *
 * Every function that meets a node may also return ERR_FORMAT: a child is not of the level its
 * parent says (only a damaged or crafted pool; node_validate() cannot see it).
 *
 * Copy on write: a node whose birth is not the open transaction is copied to a new address before
 * its first change ("shadow"); the old address is given to ops->free_node. Only btree_put/del/...
 * change nodes, so the transaction is the only door to a writable block (law 3).
 *
 * Invariants (btree_check asserts them on a cached tree):
 *  1. keys in a node ascend strictly; a child's keys lie within its parent's slot bounds (an
 *     interior node's slot 0 counts as minus infinity: its bound is the parent's);
 *  2. all leaves are at level 0, level falls by one per step;
 *  3. a node born in the open transaction has only ancestors born in it;
 *  4. no interior node is empty; a tree without items has root ADDR_NONE; a leaf may stay empty
 *     when del could not see (cached) the neighbour that would take its range over.
 *
 * Thread rule: every call under the pool's lock. Cost: O(height) per key, no I/O, no allocation but
 * node copies. The ops below are called in the middle of a change and must not touch this tree.
 */
#ifndef TARN_POOL_BTREE_H
#define TARN_POOL_BTREE_H
#include <stddef.h>
#include <stdbool.h>
#include "pool/addr.h"
#include "pool/node_format.h"

struct key {
	uint64_t object;
	uint8_t type;
	uint64_t offset;
};
static inline int key_cmp(struct key a, struct key b)
{
	if (a.object != b.object)
		return a.object < b.object ? -1 : 1;
	if (a.type != b.type)
		return a.type < b.type ? -1 : 1;
	if (a.offset != b.offset)
		return a.offset < b.offset ? -1 : 1;
	return 0;
}
#define KEY_MIN ((struct key){0, 0, 0})
#define KEY_MAX ((struct key){UINT64_MAX, UINT8_MAX, UINT64_MAX})

struct node_ptr {	  /* what a parent (or root holder) knows of a node */
	struct addr addr; /* ADDR_NONE: empty tree */
	uint64_t birth;
	uint32_t crc;
};

struct node_cache;
struct btree;

/* What a tree needs from the transaction that owns it. */
struct btree_ops {
	/* A new node address, or an error (-ENOSPC only when the metadata reserve is broken). */
	int (*alloc_node)(void *ctx, struct btree *bt, struct addr *ret_addr);
	/* addr, born in `birth`, is no longer part of the tree. */
	void (*free_node)(void *ctx, struct btree *bt, struct addr addr, uint64_t birth);
	/* The open transaction's number; above the birth of every node on disk (whoever loads a
	 * root from disk checks root.birth; node_validate() checks it from there down). */
	uint64_t (*txn)(void *ctx);
};

struct btree {
	const struct btree_ops *ops;
	void *ctx;
	struct node_cache *cache;
	const uint8_t *pool_id; /* 16 bytes */
	uint64_t tree_id;
	struct node_ptr root; /* crc is valid only when root.birth is not the open transaction,
				 or after btree_seal */
	uint8_t level;	      /* of the root; 0 when leaf or empty */
	bool dirty;	      /* changed since the last btree_seal */
	uint64_t pinned;      /* nodes born up to this transaction are shown by a snapshot too */
	struct node_ptr need; /* set with ERR_NEED_NODE */
	uint8_t need_level;
};

struct btree_item { /* points into a cached node: valid until the lock is dropped or the
		       tree changed */
	struct key key;
	const void *value;
	uint16_t len;
};

void btree_init(struct btree *bt, const struct btree_ops *ops, void *ctx, struct node_cache *cache,
		const uint8_t *pool_id, uint64_t tree_id, struct node_ptr root, uint8_t level);

/* Exact key: 0, -ENOENT or ERR_NEED_NODE. */
int btree_get(struct btree *bt, struct key k, struct btree_item *ret_item);
/* Smallest item with key >= k / largest with key <= k: 0, -ENOENT, ERR_NEED_NODE. */
int btree_seek_ge(struct btree *bt, struct key k, struct btree_item *ret_item);
int btree_seek_le(struct btree *bt, struct key k, struct btree_item *ret_item);
/* Make sure the path to k is cached and that a put or del of k can work without reading. */
int btree_prepare(struct btree *bt, struct key k);
/* Insert or replace; len <= NODE_VALUE_MAX. 0, ERR_NEED_NODE, -ENOMEM, -EFBIG (tree too high) or
 * alloc_node's error; on any error nothing changed. value may not point into the tree. */
int btree_put(struct btree *bt, struct key k, const void *value, uint16_t len);
/* Remove: 0, -ENOENT, ERR_NEED_NODE, or the errors of a shadow as in btree_put; on any error
 * nothing changed. Underfull nodes merge with a cached neighbour, never read one. */
int btree_del(struct btree *bt, struct key k);
/* Take the node p of that level, which cannot be read, out of the tree with all that lies below it:
 * its range is empty then. p is given to free_node; nobody can know what else to free. 0, -ENOENT
 * (not in this tree, or the way to it is not cached), ERR_NEED_NODE for the root, or the errors of
 * a shadow; on any error nothing changed. Cost: O(cached interior nodes). */
int btree_cut(struct btree *bt, struct node_ptr p, uint8_t level);
/* Overwrite the value of an existing item by one of the same length (another: ERR_FORMAT).
 * Errors as btree_put, or -ENOENT. */
int btree_update(struct btree *bt, struct key k, const void *value, uint16_t len);

/* At commit, under the lock: walk the nodes born in the open transaction bottom-up, write crcs into
 * headers, parents and bt->root. Calls each(node) for every such node, children first, so that the
 * caller collects them for writing. Does nothing when !bt->dirty. ops->txn() must still be the
 * sealed transaction, and must have advanced before the next change of the tree. */
struct node;
typedef void btree_seal_fn(void *arg, struct node *n);
void btree_seal(struct btree *bt, btree_seal_fn *each, void *arg);

/* Walk all nodes whose birth >= birth_min (0: all), parents before children, from the state seen
 * now; needs I/O, so it is restartable: start with a zeroed cursor, call until -ENOENT. Each call
 * finds the next terminal: a leaf, or an interior node that has no child to visit (all pruned);
 * level[count - 1] tells which. It fills ret_path with the pointers from the root to the terminal
 * and moves the cursor behind it. All nodes of the path are cached on return. ERR_NEED_NODE: call
 * again after reading. `is_new[i]` is true when path[i] was not reported by an earlier call with
 * the same cursor, so that a walker sees each node once; a node that a change replaced between two
 * calls is reported again under its new pointer.
 * When need cannot be had (or is ERR_FORMAT): ret_path has the way to it, and btree_walk_skip moves
 * the cursor behind it, to its parent's next key; what lies below it is not met. */
struct btree_cursor {
	struct key key;
	bool done;
	struct key behind; /* the node that the last call missed */
	bool behind_done;
	struct node_ptr last[NODE_LEVEL_MAX + 1];
	unsigned last_count;
};
struct btree_path {
	struct node_ptr ptr[NODE_LEVEL_MAX + 1];
	uint8_t level[NODE_LEVEL_MAX + 1];
	bool is_new[NODE_LEVEL_MAX + 1];
	unsigned count;
};
int btree_walk(struct btree *bt, struct btree_cursor *c, uint64_t birth_min,
	       struct btree_path *ret_path);
void btree_walk_skip(struct btree_cursor *c, const struct btree_path *path);

/* Items of one leaf or interior node, by pointer: for walkers. -ENOENT past the end, ERR_NEED_NODE
 * (need_level 0xff: unknown). */
int btree_node_item(struct btree *bt, struct node_ptr p, unsigned i, struct btree_item *ret_item);

/* Assert the invariants on what is cached. Cost: everything. For tests and debug builds. */
void btree_check(struct btree *bt);

#endif
