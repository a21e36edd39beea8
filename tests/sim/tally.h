/* tally: what the engine keeps lists and sums of, counted anew.
 *
 * Chunks by how much is free (chunk_list.h), their free blocks by kind and policy, what they take
 * on devices, and the last volume: all against a walk of everything.
 */
#ifndef TARN_TESTS_TALLY_H
#define TARN_TESTS_TALLY_H

struct pool;
/* Between two steps, the lock not held. NULL, or what is wrong. O(chunks + volumes). */
const char *tally_check(const struct pool *p);

#endif
