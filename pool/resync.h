/* resync: bring devices that were away up to date, copying only what was born since they left.
 *
 * Walks the trees of the newest commit, skipping every subtree older than the oldest gap, and
 * copies what has a stale member. New writes go to the returned device from the start, so one pass
 * is enough. Chunks that got fewer members than their policy wants while devices were missing are
 * completed first. Yields to foreground work between blocks.
 */
#ifndef TARN_POOL_RESYNC_H
#define TARN_POOL_RESYNC_H
#include "pool/pool_types.h"
/* Start a resync in background when one is wanted and none runs. */
void resync_start_wanted(struct pool *p);
#endif
