/* node: the cache of B+tree nodes, with a memory budget.
 *
 * Owns node buffers. A node is found by address. Dirty nodes (born in the open transaction or in
 * the one being written) are never evicted; clean ones leave in second-chance order when the budget
 * is exceeded, only in node_cache_trim(), which the pool calls between operations: a struct node *
 * stays valid while the lock is held and trim is not called. A clean node outlives the freeing of
 * its address (a snapshot may still use it); it goes when the address gets another node.
 *
 * Thread rule: every call under the pool's lock. Cost: O(1).
 */
#ifndef TARN_POOL_NODE_H
#define TARN_POOL_NODE_H
#include <stdio.h>
#include "base/err.h"
#include "pool/btree.h"

struct node {
	struct addr addr;
	uint64_t birth;
	uint8_t *buf;	 /* NODE_SIZE, aligned to 4096 */
	bool dirty;	 /* not yet on disk: pinned */
	bool referenced; /* second chance */
	bool sealed;	 /* crc written; content must not change any more */
	bool ready;	 /* dirty leaf, compacted and with its crc: see node_cache_make_ready() */
	bool freed;	 /* address freed while a write may be under way */
	struct node *hash_next;
	struct node *lru_prev, *lru_next;
	struct node *list_next; /* for whoever collects nodes (commit) */
};

struct node_cache_stats {
	uint64_t nodes, dirty_nodes, budget_nodes, hits, misses, evictions;
};

int node_cache_create(uint64_t budget_bytes, struct node_cache **ret_c);
void node_cache_destroy(struct node_cache *c);
struct node *node_cache_find(struct node_cache *c, struct addr a);
/* Take over a validated buffer (allocated with node_buf_alloc) as a clean node. If the same node
 * (address and birth) is cached already the buffer is freed and the cached node returned; a clean
 * one of another birth is replaced. NULL: out of memory (buffer freed). */
struct node *node_cache_insert(struct node_cache *c, struct addr a, uint64_t birth, uint8_t *buf);
/* Keep memory for NODE_SPARES new nodes, so that what follows cannot fail for want of it. -ENOMEM.
 */
#define NODE_SPARES 48u
int node_cache_reserve(struct node_cache *c);
/* New zeroed dirty node; a clean node cached under that address is dropped. NULL: out of memory. */
struct node *node_cache_new(struct node_cache *c, struct addr a, uint64_t birth);
/* Forget a node and free its buffer (its address was freed). */
void node_cache_drop(struct node_cache *c, struct node *n);
/* Compact and checksum dirty leaves ahead of the freeze, while writers go on: sealing takes that
 * over for those that do not change again (whoever changes a leaf clears `ready`). Does a part, in
 * some tens of microseconds; true: there is more, call again with the same *pos (first 0). A leaf
 * that is missed costs time at the freeze, nothing else. */
bool node_cache_make_ready(struct node_cache *c, uint64_t *pos);
/* compacts, writes the crc into the header and returns it. */
uint32_t node_finish(struct node *n, uint8_t *scratch);
/* After its write is durable: may be evicted from now on. */
void node_cache_clean(struct node_cache *c, struct node *n);
/* Evict clean nodes until within budget. */
void node_cache_trim(struct node_cache *c);
void node_cache_stats(const struct node_cache *c, struct node_cache_stats *ret_s);
/* NODE_SIZE bytes that belong to whoever holds the lock, for one call (page compaction). */
uint8_t *node_cache_scratch(struct node_cache *c);

/* NODE_SIZE aligned to 4096; NULL when out of memory. Any thread. */
uint8_t *node_buf_alloc(void);
void node_buf_free(uint8_t *buf);

/* Validate a node read from disk against what its parent knows; in this order: magic (ERR_MAGIC),
 * crc (ERR_CSUM), version (ERR_VERSION), own address (ERR_ADDR), pool (ERR_POOL_ID), the parent's
 * birth and crc (ERR_STALE; skipped with any_parent: dump, rescue), then tree, level, bounds,
 * padding, key order (ERR_FORMAT). tree_id 0: any (clones share nodes); level 0xff: any. e names
 * the first thing wrong. Untrusted input: never reads outside buf. */
int node_validate(const uint8_t *buf, const struct node_ptr *p, const uint8_t *pool_id,
		  uint64_t tree_id, uint8_t level, bool any_parent, struct err *e);
/* Print a validated node: header, and each item of a leaf through item_to_text (NULL: hex). */
typedef void node_item_text_fn(FILE *f, uint64_t tree_id, uint8_t level,
			       const struct btree_item *it);
void node_to_text(FILE *f, const uint8_t *buf, node_item_text_fn *item_to_text);

#endif
