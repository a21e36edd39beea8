#include "tools/rate.h"
#include <string.h>

void rate_reset(struct rate *r)
{
	r->n = 0;
}

void rate_add(struct rate *r, int64_t now_ms, uint64_t done)
{
	if (r->n && done < r->done[r->n - 1])
		r->n = 0;
	if (r->n && now_ms < r->ms[r->n - 1] + RATE_STEP_MS)
		return;
	if (r->n == RATE_SAMPLES) {
		memmove(r->ms, r->ms + 1, sizeof(r->ms) - sizeof(r->ms[0]));
		memmove(r->done, r->done + 1, sizeof(r->done) - sizeof(r->done[0]));
		r->n--;
	}
	r->ms[r->n] = now_ms;
	r->done[r->n++] = done;
}

uint64_t rate_get(const struct rate *r)
{
	if (r->n < 2)
		return 0;
	double bytes = (double)(r->done[r->n - 1] - r->done[0]);
	return (uint64_t)(bytes * 1000 / (double)(r->ms[r->n - 1] - r->ms[0]));
}

uint64_t rate_seconds(const struct rate *r, uint64_t left)
{
	uint64_t per_second = rate_get(r);
	return per_second ? left / per_second + 1 : 0;
}
