/* timerq: sleeping coroutines ordered by wake-up time, for implementations of a reactor.
 *
 * A pairing heap whose nodes are inside the coroutines: nothing is allocated, so a sleep cannot
 * fail. A coroutine is in at most one queue (it sleeps in it). Own thread only.
 * Cost: add O(1), pop O(log n) amortised. Equal times come out in no particular order.
 */
#ifndef TARN_BASE_TIMERQ_H
#define TARN_BASE_TIMERQ_H
#include <stdint.h>
#include "base/co.h"

struct timerq {
	struct co *root;
};

void timerq_add(struct timerq *q, struct co *c, uint64_t at_ns);
/* Time of the first one, UINT64_MAX when there is none. */
uint64_t timerq_next_ns(const struct timerq *q);
/* Take out the first one if its time is <= now_ns; else NULL. The caller wakes it. */
struct co *timerq_pop_due(struct timerq *q, uint64_t now_ns);

#endif
