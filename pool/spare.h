/* spare: hot spares: devices of the pool that hold nothing until one that is lost is given up.
 *
 *   lost for spare-after    lost: EVACUATE|TAKEN    spare: a member like others now   one commit
 *   rebuild (the mover)     each chunk of the lost one gets a member elsewhere, copied from a good
 * one released                the lost one has no chunks left: out of the device table
 *
 * Lost is missing or faulted; a device that the administrator took offline is not. The time since
 * when is in the device table, so it goes on over restarts. A spare fits when it has room for all
 * chunks of the lost one, and its class if that has one; one of the same domain is preferred.
 *
 * Invariant: a device that comes back is resynchronised if no spare has taken its place, else it
 * stays out and its content is never read. The history says so from the same commit on, so that a
 * device that has left is never a riddle. One exception, for what would be lost for good: as long
 * as the lost one has the only current copy of something, it is let in to give that away; then it
 * leaves, too.
 *
 * Tempting and wrong: to copy what the returned device still has instead of rebuilding: it missed
 * writes, and the chunks it was a member of have others now.
 */
#ifndef TARN_POOL_SPARE_H
#define TARN_POOL_SPARE_H
#include "pool/pool_types.h"

#define SPARE_AFTER_S 600u /* default */

/* About once a second, from the ticker: let spares take over. Yields. */
void spare_tick(struct pool *p);
/* Lock held: has its place been taken for good, so that it must not be let in? */
bool spare_refuses(const struct pool *p, const struct dev *d);
/* Lock held: note when a device is lost, or is no longer. True: the device table has changed. */
bool spare_note_lost(struct dev *d);

#endif
