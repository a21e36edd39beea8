/* delta: dirty data in memory, from one arena with a hard limit.
 *
 * Two maps per volume: active (takes writes) and flushing (being written; buffers stay readable
 * until the I/O is done). Buffers are 4 KiB, immutable once entered, and counted: a write enters a
 * new buffer, so whoever holds a reference (a reader, the log, a flush) may use it without the
 * lock.
 *
 * Writers are slowed smoothly from half of the limit on (delta_throttle), and wait at the limit.
 * Thread rule: under the pool's lock unless it says "yields". Cost: O(log segments).
 */
#ifndef TARN_POOL_DELTA_H
#define TARN_POOL_DELTA_H
#include "pool/vol_types.h"

#define DBUF_NONE UINT32_MAX

int arena_init(struct pool *p, uint64_t bytes);
void arena_fini(struct pool *p);
static inline uint8_t *dbuf_data(struct pool *p, uint32_t b)
{
	return p->arena.mem + (uint64_t)b * BLOCK_SIZE;
}
/* n buffers with one reference each, all or none. */
bool dbuf_get(struct pool *p, uint32_t *ret_bufs, unsigned n);
void dbuf_ref(struct pool *p, uint32_t b);
void dbuf_unref(struct pool *p, uint32_t b);

/* Wait until n buffers are likely to be had, slowing down smoothly. Yields. 0 or ERR_FAULTED. */
int delta_throttle(struct pool *p, unsigned n);

/* Buffer that holds the block now, or DBUF_NONE. */
uint32_t delta_find(struct vol *v, uint64_t object, uint64_t lblk);
/* First block >= lblk and < end that is in the delta; false when none. */
bool delta_next(struct vol *v, uint64_t object, uint64_t lblk, uint64_t end, uint64_t *ret_lblk);
/* Make sure entering blocks [lblk, lblk+n) cannot fail for want of memory. */
int delta_prepare(struct vol *v, uint64_t object, uint64_t lblk, uint64_t n);
/* Enter a buffer (takes the reference) after delta_prepare. Its admission of one block is the
 * caller's; when it replaces an active block that block's admission is given back. */
void delta_put(struct vol *v, uint64_t object, uint64_t lblk, uint32_t buf);
/* The same for content that is durable elsewhere already: a sync need not log it. */
void delta_put_logged(struct vol *v, uint64_t object, uint64_t lblk, uint32_t buf);
/* Lock held: wake the flusher when a quarter of the arena is dirty. */
void flush_request_if_full(struct pool *p);
/* Forget dirty blocks in [lblk, end) and give their admission back. */
void delta_drop(struct vol *v, uint64_t object, uint64_t lblk, uint64_t end);
/* Move a segment from active to the head of its window's chain in flushing / take it out and free
 * it. */
void delta_flush_begin(struct vol *v, struct dseg *s);
void delta_flush_end(struct vol *v, struct dseg *s);
/* An older segment of the window is not in the tree yet: flushing this one now could be overtaken
 * by it. */
bool delta_flush_blocked(struct vol *v, const struct dseg *s);
void delta_free_all(struct vol *v);
struct dseg *delta_seg(struct dtree *t, uint64_t object, uint64_t win);
/* First segment at or after (object, win). */
struct dseg *delta_seg_ge(struct dtree *t, uint64_t object, uint64_t win);

#endif
