/* fake_vol: pool/vol.h in memory, for tests of what lies above it.
 *
 * Sorted arrays instead of trees and devices. On request it returns ERR_NEED_NODE at seeded
 * random moments and checks the rules of a vol_fn: ERR_NEED_NODE is passed on, nothing was
 * changed before it, every key was prepared before its change, no error after a change. It can go
 * back to an earlier state, as a crash does.
 */
#ifndef TARN_TESTS_FAKE_VOL_H
#define TARN_TESTS_FAKE_VOL_H
#include "pool/vol.h"

struct pool *fake_pool_create(void);
void fake_pool_destroy(struct pool *p);

/* 1 in n calls of get/seek/prepare says ERR_NEED_NODE; 0: never. */
void fake_vol_need_node(struct vol *v, unsigned one_in, unsigned seed);
/* Data calls sleep up to ns when run in a coroutine, so that others run between. */
void fake_vol_delay(struct vol *v, uint64_t ns);
/* The n-th next change (vol_change, vol_write, step of vol_punch) and all later ones fail with
 * code. 0: off. */
void fake_vol_fail_after(struct vol *v, unsigned n, int code);

struct fake_state;
struct fake_state *fake_vol_save(struct vol *v);
void fake_vol_restore(struct vol *v, const struct fake_state *s);
void fake_state_free(struct fake_state *s);

/* Walk all items in order. */
typedef void fake_item_fn(void *arg, const struct btree_item *it);
void fake_vol_items(struct vol *v, fake_item_fn *fn, void *arg);
unsigned fake_vol_item_count(struct vol *v);
/* Blocks of data held, all objects. */
unsigned fake_vol_block_count(struct vol *v);
void fake_vol_put_raw(struct vol *v, struct key k, const void *value, uint16_t len);

#endif
