/* seeds: runs a function for many seeds, each in a process of its own, several at a time.
 *
 * A seed fails when its process ends with a status other than 0, by a signal (an assertion, a
 * sanitizer) or not at all within child_seconds of real time.
 */
#ifndef TARN_TESTS_SEEDS_H
#define TARN_TESTS_SEEDS_H
#include <stdbool.h>
#include <stdint.h>

struct seeds {
	uint64_t first, last;
	unsigned jobs;		/* 0: one per processor */
	unsigned limit_seconds; /* begin no new seed afterwards; 0: no limit */
	unsigned child_seconds; /* 0: 120 */
	bool stop_at_first;
};

typedef void seeds_fn(void *arg, uint64_t seed);
/* Returns how many failed. */
unsigned seeds_run(const struct seeds *s, seeds_fn *fn, void *arg, uint64_t *ret_done);
/* "A..B" or "A". */
bool seeds_parse(const char *text, struct seeds *s);
double seeds_clock(void);

#endif
