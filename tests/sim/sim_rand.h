/* sim_rand: randomness of the code under test (uuids), taken from the seed; linked in by --wrap. */
#ifndef TARN_TESTS_SIM_RAND_H
#define TARN_TESTS_SIM_RAND_H
#include <stdint.h>

void sim_rand_seed(uint64_t seed);

#endif
