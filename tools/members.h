/* members: which of the given paths are devices of a pool. For import, check and dump without a
 * daemon. */
#ifndef TARN_TOOLS_MEMBERS_H
#define TARN_TOOLS_MEMBERS_H
#include <stdbool.h>
#include "base/err.h"
#include "pool/pool.h"

struct members {
	unsigned n;
	char *path[POOL_DEVS_MAX]; /* absolute */
	struct pool_label label;   /* the newest one seen */
};

/* Look at files, block devices and (one level of) directories. Files that are no members are left
 * out with a note on stderr (inside directories: silently). Errors: ERR_POOL_ID members of
 * different pools, ERR_IN_USE, -ENOENT nothing found. Blocking; runs a private reactor. */
int members_find(char *const *paths, int n, struct members *ret_m, struct err *e);
void members_fini(struct members *m);

/* Import read-only, run fn with the pool in a coroutine, let go. */
typedef int members_fn(struct pool *p, void *arg);
int members_use(const struct members *m, members_fn *fn, void *arg, struct err *e);

#endif
