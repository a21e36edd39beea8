/* sim_rng: seeded random numbers; the only source of chance in the tests.
 *
 * Each user (scheduler, every disk, workload, faults) has a stream of its own, derived with
 * rng_fork(), so that a change in one leaves the others alone. Plain data, one thread.
 */
#ifndef TARN_TESTS_SIM_RNG_H
#define TARN_TESTS_SIM_RNG_H
#include <stdbool.h>
#include <stdint.h>

struct sim_rng {
	uint64_t s;
};

static inline uint64_t rng_mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}
static inline uint64_t rng_next(struct sim_rng *g)
{
	g->s += 0x9e3779b97f4a7c15ull;
	return rng_mix(g->s);
}
static inline struct sim_rng rng_of(uint64_t seed, uint64_t stream)
{
	return (struct sim_rng){rng_mix(seed ^ rng_mix(stream + 0x1234567))};
}
/* 0 .. n-1; 0 when n is 0. */
static inline uint64_t rng_below(struct sim_rng *g, uint64_t n)
{
	return n ? (uint64_t)(((unsigned __int128)rng_next(g) * n) >> 64) : 0;
}
/* lo .. hi, both included. */
static inline uint64_t rng_range(struct sim_rng *g, uint64_t lo, uint64_t hi)
{
	return lo + rng_below(g, hi - lo + 1);
}
/* true in num of den cases. */
static inline bool rng_chance(struct sim_rng *g, uint64_t num, uint64_t den)
{
	return rng_below(g, den) < num;
}
static inline struct sim_rng rng_fork(struct sim_rng *g)
{
	return (struct sim_rng){rng_next(g)};
}
/* Roughly log-uniform in 1 .. max: small numbers are likely, large ones happen. */
static inline uint64_t rng_skewed(struct sim_rng *g, uint64_t max)
{
	unsigned bits = 0;
	while (max >> bits)
		bits++;
	uint64_t v = rng_next(g) >> (64 - rng_range(g, 1, bits ? bits : 1));
	return v % max + 1;
}

#endif
