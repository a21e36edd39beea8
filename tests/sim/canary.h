/* canary: bugs planted in the pool by the linker, to prove that the simulator finds such bugs.
 *
 * Only the program sim_canary is linked with the wrappers of canary.c; `sim` has the stub, where
 * no name is known. The product code has no test branches.
 */
#ifndef TARN_TESTS_CANARY_H
#define TARN_TESTS_CANARY_H
#include <stdbool.h>

/* Plant one by name; false: not known in this program. */
bool canary_set(const char *name);
extern const char *const canary_names;

#endif
