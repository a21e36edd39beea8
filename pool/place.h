/* place: which device gets the next member of a chunk, and how many chunks there is room for.
 *
 * Only devices of the chunk's class; one that is up to date first, then another failure domain,
 * then the largest free share.
 * Slots that are promised to another class (slots_wanted) are left alone as long as there are
 * others. Everything under the pool's lock; pure memory.
 */
#ifndef TARN_POOL_PLACE_H
#define TARN_POOL_PLACE_H
#include "pool/pool_types.h"

/* Slots wanted beside what is asked for, by the class of devices they must be on; [0]: any. */
struct slots_wanted {
	uint64_t n[CLASSES_MAX + 1];
};

enum place_how {
	PLACE_SPARING, /* do not touch what is promised to other classes */
	PLACE_ANYHOW,  /* in the class, promised or not */
	PLACE_OUTSIDE, /* on any device */
};

/* Take a slot for one more member of c (except: the index of one that will go, whose device's
 * domain may be used again; MEMBERS_MAX: none) and enter it, stale since stale_since. Its index, or
 * -1. */
int place_member(struct pool *p, struct chunk *c, unsigned except, enum place_how how,
		 uint64_t stale_since);
/* Where place_member would go, PLACE_ANYHOW, or NULL. */
struct dev *place_find(struct pool *p, const struct chunk *c, unsigned except);
/* Devices in service that take new members of a class. */
unsigned place_devs(const struct pool *p, unsigned class);
/* How many chunks of this policy could be created while `keep` stays free. */
uint64_t place_creatable(struct pool *p, unsigned policy, const struct slots_wanted *keep);

#endif
