/* mover: the one operation behind evacuate, replace, shrink, rebalance and hot spares: a chunk's
 * member goes from one slot to another while the chunk stays in use.
 *
 *   before   members  A:88
 *   adding   members  A:88  B:12 (stale since 1)     writes go to both; recorded by a commit
 *   copying  blocks that were allocated in that commit, read from A, else any current member
 *   after    members  B:12                           slot A:88 is free once the commit that says so
 * is durable
 *
 * Happy path of a batch: pick up to MOVER_BATCH chunks -> add members -> commit -> copy -> flush ->
 * drop the old members. Failure modes: crash: members beyond the policy that are stale since 1 are
 * dropped at import and the task, which is kept in the device table, begins again with the chunks
 * that are left; target device fails: the new member is dropped, another target is picked; source
 * unreadable: another current member is read; members differ: what the chunk holds is verified by
 * its checksums and repaired before the old member goes.
 *
 * Invariants: 1. a chunk always keeps at least as many current members as it had; 2. only blocks
 * allocated in a durable commit are copied (others reach the new member by being written), and
 * freed ones that readers of an older state may still ask for; a reader is held, so they cannot be
 * reused meanwhile;
 * 3. at most one batch is under way.
 *
 * The log chunk is not copied: it is written in place, and a commit makes its older content
 * unnecessary.
 *
 * Throttle: it copies 512 KiB at a time and rests for half as long as that took. While volumes are
 * read or written it copies 128 KiB and rests three times as long, so that a request rarely waits
 * for it, and then not for long.
 */
#ifndef TARN_POOL_MOVER_H
#define TARN_POOL_MOVER_H
#include "pool/pool_types.h"

#define MOVER_BATCH 8u

void mover_main(void *pool); /* background coroutine */
/* Lock held: there may be work. */
void mover_wake_locked(struct pool *p);
/* At import: forget moves that a crash interrupted. Lock held. */
void mover_forget_half_done(struct pool *p);

#endif
