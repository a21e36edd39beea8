/* ilog: the intent log: what makes fsync cost one device round trip.
 *
 * Every change of a volume leaves a record in memory (items, trims) or a mark on a dirty block
 * (data). vol_sync() writes what the log does not have yet as one group, durably, to every member
 * of the log chunk; concurrent syncs share the write (one is under way at a time, it takes all that
 * asked). Too much for the log, or data that already went into the trees: a commit does it.
 *
 * Replay applies groups newer than the commit, in order, through vol_change / vol_write /
 * vol_punch.
 */
#ifndef TARN_POOL_ILOG_H
#define TARN_POOL_ILOG_H
#include "pool/ilog_format.h"
#include "pool/vol_types.h"

/* Lock held; records one change of v. Never fails: without memory the volume needs a commit to be
 * durable. */
void ilog_record(struct vol *v, uint8_t type, struct key k, const void *value, uint16_t len);
/* Lock held, at freeze / durable of a commit. */
void ilog_frozen_locked(struct pool *p);
void ilog_durable_locked(struct pool *p);
/* Create the log chunk and fill it with zeros (so that later writes change no file metadata below).
 * Yields. */
int ilog_format_chunk(struct pool *p);
/* Apply what is newer than the imported commit. Yields. 0, or an error with text. */
int ilog_replay(struct pool *p, uint64_t *ret_groups, struct err *e);
/* Print valid groups from the newest superblock's position on. Yields. */
int ilog_dump(struct pool *p, FILE *f);
#endif
