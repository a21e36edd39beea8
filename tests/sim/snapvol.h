/* snapvol: a volume with snapshots in the histories: see snapvol.c. Everything but _crashed and _is
 * in a coroutine. */
#ifndef TARN_TESTS_SNAPVOL_H
#define TARN_TESTS_SNAPVOL_H
#include "tests/sim/world.h"

/* Make the volume when the seed has one. */
void snapvol_create(struct world *w);
void snapvol_close(struct world *w);
/* The process is gone. */
void snapvol_crashed(struct world *w);
bool snapvol_is(const struct world *w, const char *name);
/* Is it, and is each snapshot, what it may be? complete: nothing acknowledged may be missing. */
void snapvol_verify(struct world *w, bool complete);
/* Take what was found as the new beginning. */
void snapvol_rebase(struct world *w);
/* Coroutine: operations until the round ends. */
void snapvol_main(void *world);
/* The end of the seed: snapshots in any order, then the volume. */
void snapvol_destroy(struct world *w);

#endif
