/* hunger: memory that is short for a while, in one world of the process. The world says when
 * (hungry_until_ns) and for whom (hunger). */
#ifndef TARN_TESTS_HUNGER_H
#define TARN_TESTS_HUNGER_H
#include "tests/sim/world.h"

void hunger_init(struct world *w);

#endif
