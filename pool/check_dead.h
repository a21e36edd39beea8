/* check_dead: does a snapshot show each entry of a dead list? One that none shows would never be
 * given back. Caller's memory, zeroed before; any thread. */
#ifndef TARN_POOL_CHECK_DEAD_H
#define TARN_POOL_CHECK_DEAD_H
#include "pool/snap.h"

struct check_dead {
	struct check_dead_span {
		uint64_t list, txn; /* id of the list; commit that is shown */
	} * spans;
	struct check_dead_list {
		uint64_t id, volume;
	} * lists;
	size_t nspans, nlists;
};
void check_dead_fini(struct check_dead *c);
/* A record of the root tree; those of volumes come before their snapshots'. -ENOMEM. */
int check_dead_record(struct check_dead *c, const struct vol *v);
/* When all records are in. Cost: a binary search. */
bool check_dead_shown(const struct check_dead *c, uint64_t list, const struct snap_dead *d);

#endif
