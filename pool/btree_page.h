/* btree_page: operations on one slotted B+tree node in its disk form (node_format.h).
 *
 * Pure functions on a NODE_SIZE buffer that is trusted: made here, or passed by node_validate().
 *
 *   | header | slot 0 .. slot n-1 |   gap (zero)   | values and garbage of removed values |
 *   0       128                              value_start                            NODE_SIZE
 *
 * Invariants:
 *  1. slots ascend strictly by key; every value lies in [value_start, NODE_SIZE);
 *  2. the gap is zero at all times, the garbage goes at page_compact();
 *  3. page_room() counts the garbage as free: an insert compacts when only the gap is too small.
 *
 * Tempting and wrong: decoding a node into an array of structs when it is read. A lookup touches
 * about eight slots of it; the disk form is as fast to search and is what gets written.
 *
 * scratch: NODE_SIZE bytes for compaction (coroutine stacks are small). Threads: the caller's lock.
 */
#ifndef TARN_POOL_BTREE_PAGE_H
#define TARN_POOL_BTREE_PAGE_H
#include <assert.h>
#include <stddef.h>
#include "pool/btree.h"

#define PAGE_HEADER_SIZE ((unsigned)sizeof(struct node_header_disk))
#define PAGE_SLOT_SIZE	 ((unsigned)sizeof(struct node_slot_disk))
#define PAGE_SPACE	 (NODE_SIZE - PAGE_HEADER_SIZE)
#define PAGE_CHILD_SIZE	 (PAGE_SLOT_SIZE + (unsigned)sizeof(struct node_ptr_disk))

static inline struct node_header_disk *page_header(uint8_t *buf)
{
	return (struct node_header_disk *)buf;
}
static inline const struct node_header_disk *page_header_const(const uint8_t *buf)
{
	return (const struct node_header_disk *)buf;
}
static inline unsigned page_count(const uint8_t *buf)
{
	return le16_get(page_header_const(buf)->count);
}
static inline uint8_t page_level(const uint8_t *buf)
{
	return page_header_const(buf)->level;
}
static inline const struct node_slot_disk *page_slots(const uint8_t *buf)
{
	return (const struct node_slot_disk *)(buf + PAGE_HEADER_SIZE);
}
static inline struct node_slot_disk *page_slot(uint8_t *buf, unsigned i)
{
	return (struct node_slot_disk *)(buf + PAGE_HEADER_SIZE) + i;
}

static inline struct key page_key(const uint8_t *buf, unsigned i)
{
	const struct key_disk *k = &page_slots(buf)[i].key;

	return (struct key){le64_get(k->object), k->type, le64_get(k->offset)};
}
static inline unsigned page_value_len(const uint8_t *buf, unsigned i)
{
	return le16_get(page_slots(buf)[i].value_len);
}
static inline const uint8_t *page_value(const uint8_t *buf, unsigned i)
{
	return buf + le16_get(page_slots(buf)[i].value_off);
}
static inline void page_item(const uint8_t *buf, unsigned i, struct btree_item *ret_item)
{
	*ret_item = (struct btree_item){page_key(buf, i), page_value(buf, i),
					(uint16_t)page_value_len(buf, i)};
}

/* Child pointer i of an interior node. */
static inline struct node_ptr page_child(const uint8_t *buf, unsigned i)
{
	const struct node_ptr_disk *p = (const struct node_ptr_disk *)page_value(buf, i);

	return (struct node_ptr){{le64_get(p->addr)}, le64_get(p->birth), le32_get(p->crc)};
}
struct node_ptr_disk page_ptr_disk(struct node_ptr p);

/* Bytes of items, slots included; bytes free for more, garbage included. */
static inline unsigned page_used(const uint8_t *buf)
{
	return page_count(buf) * PAGE_SLOT_SIZE + le16_get(page_header_const(buf)->value_bytes);
}
static inline unsigned page_room(const uint8_t *buf)
{
	return PAGE_SPACE - page_used(buf);
}

/* First slot with key >= k (count when none). */
unsigned page_search(const uint8_t *buf, struct key k, bool *ret_exact);
/* The slot of an interior node to descend into for k; slot 0 counts as minus infinity. */
unsigned page_search_child(const uint8_t *buf, struct key k);

/* A zeroed buffer becomes an empty node; addr and birth are set by page_set_id(). */
void page_init(uint8_t *buf, uint8_t level, const uint8_t *pool_id, uint64_t tree_id);
void page_set_id(uint8_t *buf, struct addr addr, uint64_t birth, uint64_t tree_id);

/* Insert as slot i. page_room() must allow it. */
void page_insert(uint8_t *buf, unsigned i, struct key k, const void *value, unsigned len,
		 uint8_t *scratch);
void page_remove(uint8_t *buf, unsigned i);
void page_set_value(uint8_t *buf, unsigned i, const void *value, unsigned len);
void page_set_key(uint8_t *buf, unsigned i, struct key k);

/* Remove all garbage: afterwards value_start + value_bytes == NODE_SIZE and the gap is zero. */
void page_compact(uint8_t *buf, uint8_t *scratch);

/* Insert (k, value) as slot i of a full node, moving the upper part to `right`, an empty node:
 *
 *   | a b c [x] d e |   ->   | a b c |   | x d e |      by bytes in the middle
 *   | a b c d e [x] |   ->   | a b c d e |   | x |      append: ascending inserts fill nodes
 *
 * An interior node gives its last child along, so that no side has a single child. */
void page_split_insert(uint8_t *left, uint8_t *right, unsigned i, struct key k, const void *value,
		       unsigned len, uint8_t *scratch);

/* Insert all items of src before slot i of dst. page_room(dst) must allow it. */
void page_merge(uint8_t *dst, unsigned i, const uint8_t *src, uint8_t *scratch);

#endif
