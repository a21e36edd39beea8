/* dump_pool: pool_dump, with its argument checked first. For the daemon and for pools at hand. */
#ifndef TARN_TOOLS_DUMP_POOL_H
#define TARN_TOOLS_DUMP_POOL_H
#include "pool/pool.h"

/* -EINVAL with text when arg (NULL: none) is not what `what` takes; else as pool_dump. "sb" with an
 * index prints the superblock of that device only; -ENOENT when there is none. Yields. */
int dump_pool(struct pool *p, const char *what, const char *arg, FILE *f, struct err *e);

#endif
