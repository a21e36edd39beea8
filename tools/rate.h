/* rate: how fast something goes, from samples of how far it is. Plain data, the owner's lock. */
#ifndef TARN_TOOLS_RATE_H
#define TARN_TOOLS_RATE_H
#include <stdint.h>

#define RATE_SAMPLES 16
#define RATE_STEP_MS 900 /* samples that come sooner after the last one are left out */

struct rate {
	unsigned n;
	int64_t ms[RATE_SAMPLES];
	uint64_t done[RATE_SAMPLES];
};

/* done that shrinks is something new: what was known is forgotten. */
void rate_add(struct rate *r, int64_t now_ms, uint64_t done);
void rate_reset(struct rate *r);
/* Per second over the samples kept; 0: not known yet, or nothing moves. */
uint64_t rate_get(const struct rate *r);
/* Seconds for the rest, at least 1; 0: not known. */
uint64_t rate_seconds(const struct rate *r, uint64_t left);

#endif
