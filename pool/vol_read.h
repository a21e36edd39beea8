/* vol_read: whole blocks of an object into an aligned buffer. Yields. For files of pool/. */
#ifndef TARN_POOL_VOL_READ_H
#define TARN_POOL_VOL_READ_H
#include "pool/vol_types.h"
int vol_read_blocks(struct vol *v, uint64_t object, uint64_t lblk, uint64_t n, void *dst);
#endif
