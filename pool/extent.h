/* extent: mapping an object's blocks to addresses in a volume's tree.
 *
 * All under the pool's lock, pure memory, restartable (ERR_NEED_NODE means nothing changed; the
 * node is in v->tree.need). Replacing splits what it overlaps:
 *
 *      before   |------- A -------|          A.addr = a, 8 blocks
 *      replace        |-- N --|
 *      after    |- A' |-- N --|A''|          raw: A'' starts at a + 6, blocks 2..5 of A are freed
 *
 * The tempting shortcut is to free a compressed extent when its first piece goes: the others still
 * need it.
 */
#ifndef TARN_POOL_EXTENT_H
#define TARN_POOL_EXTENT_H
#include "pool/extent_format.h"
#include "pool/vol_types.h"

#define LBLK_END (1ull << 51) /* first block number behind every object */

struct extent { /* decoded */
	uint64_t lblk;
	struct addr addr;
	uint64_t birth;
	uint16_t blocks, stored_blocks, skip, orig_blocks;
	uint32_t stored_bytes;
	uint8_t codec;
	uint32_t crc[EXTENT_BLOCKS_MAX];
};

/* Decode and validate an item; ERR_FORMAT when out of bounds. */
int extent_decode(const struct btree_item *it, struct extent *ret_x);
void extent_to_text(FILE *f, const struct btree_item *it);
/* The extent that covers lblk, or the first one after: 0 or -ENOENT (none up to end_lblk),
 * ERR_NEED_NODE. */
int extent_lookup(struct vol *v, uint64_t object, uint64_t lblk, uint64_t end_lblk,
		  struct extent *ret_x);
/* The first extent at or after (*object, lblk), of whichever object: 0 and its object, -ENOENT,
 * ERR_NEED_NODE. */
int extent_next(struct vol *v, uint64_t *object, uint64_t lblk, struct extent *ret_x);
/* Make [lblk, lblk+n) consist of new_x (NULL: a hole): removes what overlaps, frees its blocks,
 * keeps the volume's counters. n <= EXTENT_BLOCKS_MAX unless new_x is NULL; a long hole is made
 * from the end downwards in bounded steps: *ret_left is how many blocks from lblk on remain to be
 * done (0: finished). */
int extent_replace(struct vol *v, uint64_t object, uint64_t lblk, uint64_t n,
		   const struct extent *new_x, uint64_t *ret_left);
/* The same with fn run in the last step between finding out and doing: if it fails nothing was
 * done, and nothing is looked up after it, so both come together. */
int extent_replace_with(struct vol *v, uint64_t object, uint64_t lblk, uint64_t n,
			const struct extent *new_x, uint64_t *ret_left, vol_fn *fn, void *arg);
/* The same without doing it: 0 means that extent_replace() with these arguments cannot return
 * ERR_NEED_NODE as long as the lock is held. For changes that must come together with others. */
int extent_replace_prepare(struct vol *v, uint64_t object, uint64_t lblk, uint64_t n,
			   uint64_t *ret_left);
/* Make the blocks of x refer to what another extent refers to as well: like extent_replace() with
 * x, which is that one or a part of it, and the blocks get one reference more (refs.h). Prepare: as
 * above. The frees it queues have to be reserved by the caller when several come together. */
int extent_share(struct vol *v, uint64_t object, const struct extent *x);
int extent_share_prepare(struct vol *v, uint64_t object, const struct extent *x);
/* Most frees and references that one step queues. */
#define EXTENT_STEP_FREES 101u
/* Count mapped (not reserved) and unmapped blocks in a range of at most EXTENT_BLOCKS_MAX blocks.
 */
int extent_count(struct vol *v, uint64_t object, uint64_t lblk, uint64_t n, uint64_t *ret_mapped,
		 uint64_t *ret_reserved);

#endif
