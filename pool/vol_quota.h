/* vol_quota: the most data a file system volume may hold, in bytes before compression: reserved
 * ranges count, metadata does not.
 *
 * Exact: near the quota it is found out what dirty blocks are over others (vol_held.h). Overwriting
 * is never refused.
 */
#ifndef TARN_POOL_VOL_QUOTA_H
#define TARN_POOL_VOL_QUOTA_H
#include "pool/vol_types.h"

/* May blocks [lblk, lblk + n) of object become data? 0, -EDQUOT, ERR_NEED_NODE. Lock held. O(1)
 * unless the quota is near, then O(n); O(dirty) when it seems to be reached. */
int vol_quota_admit(struct vol *v, uint64_t object, uint64_t lblk, uint64_t n);

/* So near that writes find out about their blocks at once: with what may be dirty it could be
 * reached. Lock held. O(1). */
bool vol_quota_near(const struct vol *v);

#endif
