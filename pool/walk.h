/* walk: visit every node and extent of the newest committed state, optionally only what was born
 * since a transaction.
 *
 * Used by check and resync. Reads through the node cache (verified, repaired). While walking it
 * holds a reader, so what it meets stays readable. Yields; callbacks run without the lock.
 */
#ifndef TARN_POOL_WALK_H
#define TARN_POOL_WALK_H
#include "pool/extent.h"
#include "pool/pool_types.h"

enum walk_kind {
	WALK_POOL, /* map, space, root */
	WALK_VOLUME,
	WALK_DEAD,     /* what a volume let go of and snapshots show */
	WALK_SNAPSHOT, /* nothing that was not met in one of the above */
};
struct walk_ops {
	/* A tree begins. May be NULL. */
	void (*tree)(void *arg, uint64_t tree_id, enum walk_kind kind);
	/* A node (level 0 = leaf). */
	int (*node)(void *arg, uint64_t tree_id, const struct node_ptr *ptr, uint8_t level);
	/* A leaf item of a tree. May be NULL. */
	int (*item)(void *arg, uint64_t tree_id, const struct btree_item *it);
	/* A node that cannot be read: return 0 to go on behind it. What lies below it is not met.
	 */
	int (*bad)(void *arg, uint64_t tree_id, const struct node_ptr *ptr, uint8_t level, int rc);
};
/* All trees of superblock sb (kept alive by the caller holding a reader): map, space, root,
 * volumes with their dead lists; of snapshots only what the snapshot before does not show. */
int walk_all(struct pool *p, const struct sb_disk *sb, uint64_t birth_min,
	     const struct walk_ops *ops, void *arg);
/* The same over the live pool for long walks: it moves on to newer commits as it goes, so that
 * freed space is held for moments only. What several snapshots and their volume show is met once:
 * snapshots come first, then of volumes what is younger, at last the snapshots taken meanwhile.
 * Every block of the commit at the start that is still in use at the end is met, unless it was
 * cloned meanwhile to where the walk had been and its original vanished. walk_exact() before a
 * commit that comes before the walk rules that out: until it is taken back clones copy. */
void walk_exact(struct pool *p, bool on);
int walk_live(struct pool *p, uint64_t birth_min, const struct walk_ops *ops, void *arg);
int walk_tree(struct pool *p, uint64_t tree_id, struct node_ptr root, uint8_t level,
	      uint64_t birth_min, const struct walk_ops *ops, void *arg);
#endif
