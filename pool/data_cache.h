/* data_cache: verified data blocks kept in memory, so that what is small and read again costs no
 * device I/O.
 *
 * A block is known by where it is stored and by the transaction that wrote it there. Live data is
 * never overwritten (law 2) and an address is handed out again only in a later transaction, so an
 * entry can never be wrong: what was freed or overwritten is not asked for any more and ages out.
 *
 *   hash(address, index) -> set of 8 ways, second chance within the set -> page of 4 KiB
 *
 * What goes in is for the callers to choose: short reads and short extents; a long scan would only
 * push them out. Memory is bounded by the budget and grows with use.
 *
 * Threads: any. Cost: O(1) and a copy of 4 KiB. NULL is a cache that holds nothing.
 */
#ifndef TARN_POOL_DATA_CACHE_H
#define TARN_POOL_DATA_CACHE_H
#include <stdbool.h>
#include <stdint.h>
#include "pool/extent.h"

#define DATA_CACHE_EXTENT_MAX 4u  /* blocks: extents up to this are kept when they are written */
#define DATA_CACHE_READ_MAX   16u /* blocks: reads up to this look here */

struct data_cache;
struct data_cache_stats {
	uint64_t bytes; /* in use */
	uint64_t hits, misses;
};

/* budget_bytes too small for one set: *ret_c is NULL. 0 or -ENOMEM. */
int data_cache_create(uint64_t budget_bytes, struct data_cache **ret_c);
void data_cache_destroy(struct data_cache *c);
/* Copy the block of x at distance `block` from x->lblk to dst; false: not here. */
bool data_cache_get(struct data_cache *c, const struct extent *x, unsigned block, void *dst);
/* Keep a copy of that block, whose content was verified or has just been written. */
void data_cache_put(struct data_cache *c, const struct extent *x, unsigned block, const void *src);
void data_cache_stats_get(struct data_cache *c, struct data_cache_stats *ret_s);

#endif
