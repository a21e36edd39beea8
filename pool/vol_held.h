/* vol_held: how many blocks a volume holds, dirty ones included, each counted once.
 *
 *   held = mapped + reserved (both in the tree) + dirty - over
 *
 * A dirty block is "over" when the tree, or an older dirty one that is being flushed, counts it
 * already, and "fresh" when nothing does. A write does not ask: it leaves its blocks unknown, and
 * who needs the number finds out (vol_held_count). Until then the truth lies between least and
 * most. Blocks over a reserved range are counted as reserved until they are placed.
 *
 * Invariants: over and fresh of a segment are parts of present, and have no block in common; the
 * volume's counters are their sums over all segments, active and flushing.
 *
 * Under the pool's lock; memory only.
 */
#ifndef TARN_POOL_VOL_HELD_H
#define TARN_POOL_VOL_HELD_H
#include "pool/vol_types.h"

/* Blocks of a segment are no more, or nothing is known of them any more. O(1). */
void vol_held_forget(struct vol *v, struct dseg *s, uint32_t blocks);
/* The same for blocks [lblk, lblk + n) of an object. */
void vol_held_unsure(struct vol *v, uint64_t object, uint64_t lblk, uint64_t n);
/* Blocks of a segment have entered the tree. O(1). */
void vol_held_entered(struct vol *v, struct dseg *s, uint32_t blocks);
/* Find out about blocks [lblk, lblk + n) that were entered just now / about all. 0 or
 * ERR_NEED_NODE. O(n) / O(dirty segments), and a look-up for each that is unknown. */
int vol_held_look(struct vol *v, uint64_t object, uint64_t lblk, uint64_t n);
int vol_held_count(struct vol *v);
/* The same as far as nodes are in memory, and at most `segments` look-ups. */
void vol_held_try(struct vol *v, unsigned segments);

/* Mapped and reserved blocks together. The same when all is known. */
static inline uint64_t vol_held_most(const struct vol *v)
{
	return v->logical_blocks + v->reserved_blocks + v->active_blocks + v->flushing_blocks -
	       v->over_blocks;
}
static inline uint64_t vol_held_least(const struct vol *v)
{
	return v->logical_blocks + v->reserved_blocks + v->fresh_blocks;
}

#endif
