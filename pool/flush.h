/* flush: dirty data from the delta to disk: cut into extents, compressed, checksummed, placed
 * sequentially, entered in the tree.
 *
 * One job (a coroutine) takes up to FLUSH_JOB_BLOCKS of a volume in key order:
 *
 *   collect (lock: active -> flushing)  -> compress, checksum (no lock) -> place and enter in the
 * tree (lock) -> write -> done (lock)
 *
 * The commit waits, after closing the gate, until no job is before "enter"; the writes of what was
 * entered belong to the open transaction, which is not durable before they are done.
 */
#ifndef TARN_POOL_FLUSH_H
#define TARN_POOL_FLUSH_H
#include "pool/vol_types.h"

#define FLUSH_JOB_BLOCKS 256u
#define FLUSH_JOBS_MAX	 4u /* before "enter" */
#define FLUSH_WRITES_MAX 8u /* whose writes are under way */

/* Lock held: wake the flusher. */
void flush_request_locked(struct pool *p);
/* Background coroutine: flushes while more than a quarter of the arena is dirty. */
void flush_flusher(void *pool);
/* Flush what is dirty now, volumes in turn, several jobs at a time; returns when all of it is
 * entered in the trees. For the commit alone: meanwhile the flusher begins nothing, so that it ends
 * however fast others write. tail: the gate is closed, do not spend time on compression. Yields. 0
 * or ERR_FAULTED. */
int flush_all(struct pool *p, bool tail);

#endif
