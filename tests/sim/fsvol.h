/* fsvol: a file system in the histories: see fsvol.c. Everything but _crashed and _is in a
 * coroutine. */
#ifndef TARN_TESTS_FSVOL_H
#define TARN_TESTS_FSVOL_H
#include "tests/sim/world.h"

/* Make and open it, when this seed has one. */
void fsvol_create(struct world *w);
void fsvol_close(struct world *w);
/* The machine has stopped. */
void fsvol_crashed(struct world *w);
bool fsvol_is(const struct world *w, const char *name);
/* Open it if need be, and compare. complete: no crash happened before. */
void fsvol_verify(struct world *w, bool complete);
/* What was found is the new beginning. */
void fsvol_rebase(struct world *w);
/* Operations until stop_chaos. */
void fsvol_main(void *world);

#endif
