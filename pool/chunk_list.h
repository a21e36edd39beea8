/* chunk_list: the chunks of one kind and policy, by how much of them is free.
 *
 * Of struct chunk_list, by_free[0] has the chunks with nothing free, by_free[n] those with 2^(n-1)
 * to 2^n - 1 free blocks. So one that is empty, or nearly so, is found without looking at all of
 * them: a pool has 16,000 chunks per TiB.
 *
 * Invariant: a chunk in the table is in the list that chunk_count_free() was last told of. Whoever
 * changes used or busy_count calls it next. All under the pool's lock; O(1) unless said otherwise.
 */
#ifndef TARN_POOL_CHUNK_LIST_H
#define TARN_POOL_CHUNK_LIST_H
#include "pool/pool_types.h"

static inline uint32_t chunk_free_blocks(const struct pool *p, const struct chunk *c)
{
	return p->chunk_blocks - c->used - c->busy_count;
}

/* Into and out of the list of its kind and policy; free blocks are counted apart. */
void chunk_list_add(struct pool *p, struct chunk *c);
void chunk_list_remove(struct pool *p, struct chunk *c);
/* Count blocks of c that became free (or, negative, taken). */
void chunk_count_free(struct pool *p, struct chunk *c, int64_t blocks);
/* Members of c, which is in the table, have come or gone: count what it takes on devices. */
void chunk_count_raw(struct pool *p, struct chunk *c);
/* Blocks in use in all chunks of a kind. O(policies). */
uint64_t chunk_list_used(const struct pool *p, uint8_t kind);
/* A usable chunk with at least min_free (not 0) blocks free: about the emptiest, and one whose
 * devices are all in service if there is any; or NULL. Looks at 64 of those, and at all that are
 * not usable or complete and as empty. */
struct chunk *chunk_list_emptiest(struct pool *p, uint8_t kind, unsigned policy, uint32_t min_free);
/* A chunk of nodes or data without content that can be removed, or NULL. */
struct chunk *chunk_list_empty(struct pool *p);

#endif
