/* space: blocks inside chunks: admission, allocation, free after commit.
 *
 * A chunk's bits say what is allocated as of the open transaction; its busy bits say what was freed
 * but may still be needed: by the last durable state, or by a reader that started before the free.
 * A block can be handed out when both are clear.
 *
 * Life of a freed block: space_free() queues it in the open transaction -> at the freeze its bit is
 * cleared and busy set -> when that transaction is durable and no reader as old as it remains, busy
 * is cleared.
 *
 * Invariants: 1. a block's bit and busy are never both set; 2. used = bits set; 3. what
 * space_admit() granted can be allocated until it is given back or used.
 *
 * Everything under the pool's lock; pure memory.
 */
#ifndef TARN_POOL_SPACE_H
#define TARN_POOL_SPACE_H
#include "pool/pool_types.h"

/* Promise `blocks` blocks of a policy (policy_of). -ENOSPC when they do not fit; nothing is changed
 * then. */
int space_admit(struct pool *p, unsigned policy, uint64_t blocks);
/* The same for a volume: what others have reserved (reservation=) is not for it. */
struct vol;
int space_admit_vol(struct vol *v, uint64_t blocks);
uint64_t space_available_vol(struct vol *v);
void space_unadmit(struct pool *p, unsigned policy, uint64_t blocks);
/* Blocks that could still be admitted. */
uint64_t space_available(struct pool *p, unsigned policy);
/* Slots that the promises made to all policies but `except` (0: none) will take beyond the chunks
 * there are, by class. */
struct slots_wanted;
void space_slots_wanted(const struct pool *p, unsigned except, struct slots_wanted *ret_w);
/* Chunks that may still be made for what is promised and for nodes; each takes at most one slot of
 * a device. / Could free blocks of c be kept from use without breaking a promise? Lock held. */
uint64_t space_promised_chunks(const struct pool *p);
bool space_can_withhold(const struct pool *p, const struct chunk *c, uint32_t blocks);
/* Slots that must stay free for nodes and for what is promised to dirty data. Lock held. */
uint64_t space_kept_slots(struct pool *p);
/* So little is left for nodes that whoever holds an old state must let it go. Lock not held. */
bool space_pressed(struct pool *p);
/* Is there room for changes to metadata outside the reserve? */
bool space_meta_ok(struct pool *p);
/* ... for one that frees nothing because a snapshot shows it? What is below gives snapshots back.
 */
bool space_meta_least(struct pool *p);

/* Allocate up to want contiguous data blocks (at least 1); ERR_NEED_NODE: load *ret_need's bitmap
 * first (space_load). */
int space_alloc_data(struct pool *p, unsigned policy, uint32_t want, struct addr *ret_addr,
		     uint32_t *ret_blocks, struct chunk **ret_need);
/* Allocate one node in metadata (boot: in boot chunks). */
int space_alloc_node(struct pool *p, bool boot, struct addr *ret_addr);
/* Make sure that `more` frees can be queued without memory. -ENOMEM. Lock held. */
#define SPACE_FREES_SPARE 128u /* more than one step of an operation frees */
int space_free_reserve(struct pool *p, size_t more);
/* Let go of one reference; blocks that had no other are free after the open transaction is durable.
 * unwritten: no I/O to them was ever started: reusable at once. */
void space_free(struct pool *p, struct addr a, uint32_t blocks, bool unwritten);
/* One reference more to blocks of data that have one (refs.h). */
void space_ref(struct pool *p, struct addr a, uint32_t blocks);
/* Applying a free: these blocks of c have no reference left. After space_free_reserve(). */
void space_freed(struct pool *p, struct chunk *c, uint32_t first, uint32_t blocks);

/* Load a chunk's bitmap. Yields; no lock held. */
int space_load(struct pool *p, uint64_t chunk_id);
/* At the freeze: apply the open transaction's queued frees. ERR_NEED_NODE + *ret_need as above, or
 * with *ret_need NULL: a node of p->space. */
int space_apply_frees(struct pool *p, struct chunk **ret_need);
/* Transactions that are durable and unread: make their freed blocks and slots available. */
void space_release(struct pool *p);
/* Is there room to give c another member without breaking a promise? */
bool space_can_complete(struct pool *p, const struct chunk *c);
/* Recompute the reserve after the geometry changed. */
void space_reserve_init(struct pool *p);
int space_bits_alloc(struct pool *p, struct chunk *c);
static inline bool bit_get(const uint64_t *b, uint32_t i)
{
	return b[i / 64] >> (i % 64) & 1;
}
static inline void bit_set(uint64_t *b, uint32_t i)
{
	b[i / 64] |= 1ull << (i % 64);
}
static inline void bit_clear(uint64_t *b, uint32_t i)
{
	b[i / 64] &= ~(1ull << (i % 64));
}

#endif
