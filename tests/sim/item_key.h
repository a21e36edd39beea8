/* item_key: the items of a simulated volume: their keys, a query and a change to run as vol_fn. */
#ifndef TARN_TESTS_ITEM_KEY_H
#define TARN_TESTS_ITEM_KEY_H
#include "pool/vol.h"
#include "tests/sim/history.h"

#define ITEM_KEYS_MAX 8u /* in one change */

/* Neighbours of data of the same objects, spread over objects and types. */
static inline struct key item_key(unsigned k)
{
	return (struct key){VOL_OBJECT_FIRST + k % 5, (uint8_t)(1 + k % 3), k * 7};
}

struct item_query {
	const struct history *h;
	uint16_t key;
	uint32_t seq; /* 0: absent */
	bool foreign;
};
int item_query_fn(struct vol *vol, void *arg);

struct item_change {
	const struct history *h;
	const struct hist_key *keys;
	unsigned n;
	uint32_t seq;
	uint64_t new_object; /* taken when want_object */
	bool want_object;
};
int item_change_fn(struct vol *vol, void *arg);

#endif
