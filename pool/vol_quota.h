/* vol_quota: the most data a file system volume may hold, in bytes before compression: reserved
 * ranges count, metadata does not.
 *
 * What is dirty, or being flushed, and mapped as well counts twice until that is done; a writer
 * that is refused waits for a commit and asks again. Overwriting is never refused.
 */
#ifndef TARN_POOL_VOL_QUOTA_H
#define TARN_POOL_VOL_QUOTA_H
#include "pool/vol_types.h"

/* May blocks [lblk, lblk + n) of object become data? 0, -EDQUOT, ERR_NEED_NODE. Lock held. O(1)
 * unless the quota is nearly used up, then O(n). */
int vol_quota_admit(struct vol *v, uint64_t object, uint64_t lblk, uint64_t n);

#endif
