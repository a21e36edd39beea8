/* refs: blocks of data that more than one extent refers to (reflinks).
 *
 * Who frees a block: whoever lets go of the last reference. A reference is an extent in a volume's
 * tree; of a compressed one all its pieces together, as long as one of them is left. A block in use
 * has one reference unless the table says more (refs_format.h), so data that was never cloned costs
 * nothing: no item, and no look-up either, because a chunk knows whether it has any.
 *
 *      clone       space_ref(a, n)    queued in the open transaction, behind what came before
 *      overwrite   space_free(a, n)   the same queue
 *      freeze      refs_apply()       in that order: one more, one less, or really free
 *
 * So the counts are those of the trees of the same commit, and a step that changes a tree only has
 * to queue. The order is that of the changes: a block is never freed before a reference that was
 * taken earlier counts.
 *
 * Invariants: 1. counts above 1 lie only on blocks whose bit is set, in chunks marked `shared`;
 * 2. a block's count is the number of extents (or compressed extents of an object) that name it.
 *
 * Under the pool's lock, pure memory.
 */
#ifndef TARN_POOL_REFS_H
#define TARN_POOL_REFS_H
#include "pool/pool_types.h"
#include "pool/refs_format.h"

/* Do the queued change number `at` of the open transaction, whose chunk c has its bitmap in memory.
 * Blocks that nobody refers to any more are freed and appended to the queue as done. 0,
 * ERR_NEED_NODE (of p->space), -ENOMEM: come again, what was done is not done twice; ERR_FAULTED.
 */
int refs_apply(struct pool *p, struct chunk *c, size_t at);
/* Counts of the blocks of a group: ret_count[REFS_GROUP]. ERR_FORMAT. */
int refs_decode(const struct btree_item *it, uint32_t *ret_count);
void refs_to_text(FILE *f, const struct btree_item *it);

#endif
