/* scrub: reads, verifies and repairs copies; see pool.h for the whole pool. */
#ifndef TARN_POOL_SCRUB_H
#define TARN_POOL_SCRUB_H
#include "pool/pool_types.h"

/* Verify every copy of what the newest commit keeps in these chunks, members that are just being
 * copied included, and repair what is wrong from a right copy. For the mover, which sees no
 * checksums. Walks all trees: O(metadata). Yields. 0 (also when there was no right copy: reported),
 * -EIO (a node is lost, so what lies below it was not verified), or why it could not be done. */
int scrub_chunks(struct pool *p, const uint64_t *ids, unsigned n);

#endif
