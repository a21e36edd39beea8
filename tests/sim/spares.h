/* spares: hot spares and classes of devices in the history of a pool; in a quarter of the seeds
 * each. Verbs and checks run in a coroutine; spares_watch after every step of the machine. */
#ifndef TARN_TESTS_SPARES_H
#define TARN_TESTS_SPARES_H
#include "tests/sim/world.h"

/* Which seeds, and the classes of the first devices. */
void spares_init(struct world *w);
/* "": none. */
const char *spares_pick_class(struct sim_rng *g);

/* ---- verbs; nothing in a seed without ---- */
void spares_make(struct world *w);	/* a member becomes a spare */
void spares_set_after(struct world *w); /* how long a device is lost before one takes over */
void spares_set_class(struct world *w); /* of a device */

/* ---- checks ---- */
/* Spares get no chunks; who has lost its place comes in only with what nobody else has. */
void spares_watch(struct world *w);
/* An import begins. */
void spares_boot(struct world *w);
/* After an import, before the others: which takeovers the history tells. Yields. */
void spares_read_history(struct world *w);
/* A disk becomes a member: what was before is forgotten. */
void spares_joins(struct world *w, unsigned disk);
/* After an import: the class of a member is the last one set; how long it is lost is known. */
void spares_sync(struct world *w, unsigned disk, const struct pool_dev_status *s);
/* Is data on its way out of a spare or to devices of its class? */
bool spares_busy(const struct world *w);
/* Nothing is on its way: spares are empty, and data of a class is on devices of that class. */
void spares_check_settled(struct world *w);

#endif
