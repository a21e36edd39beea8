/* trim: tells devices once what is free: all free slots, and free runs of blocks inside chunks.
 *
 * Happy path: every free slot becomes stale; then, chunk after chunk, a free run becomes busy, so
 * that nobody takes it, is discarded on every member, and is free again; meanwhile the mover waits,
 * so that members stay where they are. Then the stale slots are discarded (discard.h).
 * Failure modes: crash: nothing has changed; the device cannot: it is left out, and counted.
 *
 * Not touched: boot chunks and the log, chunks where writing goes on or that are about to vanish,
 * and what promises need.
 */
#ifndef TARN_POOL_TRIM_H
#define TARN_POOL_TRIM_H
#include "pool/pool_types.h"

#define TRIM_RUN_MIN 16u   /* blocks; smaller ones are not worth it */
#define TRIM_RUN_MAX 4096u /* withheld at a time */

/* On the discarder's coroutine: the one that pool_trim_start asked for. Yields. */
void trim_run(struct pool *p);

#endif
