/* journal: what the pool remembers about itself, in the root tree below the volumes' ids.
 *
 *   (1, 1, 0)      settings: u8 version, u8 no discards, 2 zero, u32 spare-after in seconds (0: the
 *                  default, UINT32_MAX: never), u64 trash retention in seconds
 *   (2, 1, seq)    history: u64 wall ns, u32 uid, i32 result, text
 *   (3, 1, hour)   use: u64 raw used, u64 raw total, then (u64 volume id, u64 used bytes) of the
 * largest volumes
 *
 * Entries ride in the next commit; that of a takeover in the one that makes it durable. The newest
 * HISTORY_KEPT and SAMPLES_KEPT are kept.
 */
#ifndef TARN_POOL_JOURNAL_H
#define TARN_POOL_JOURNAL_H
#include "pool/pool_types.h"

#define JOURNAL_SETTINGS 1u
#define JOURNAL_HISTORY	 2u
#define JOURNAL_USE	 3u
#define HISTORY_KEPT	 10000u
#define SAMPLES_KEPT	 (24u * 90)
#define HISTORY_TEXT_MAX 1000u

/* At import: settings and the next history number. Yields. */
int journal_load(struct pool *p);
/* About once a minute: thresholds, a sample an hour, trash that is due. Yields. */
void journal_tick(struct pool *p);
/* Enter into the history and run fn(p, arg, true), under the lock: what that changes in the device
 * table becomes durable with the entry, in one commit. It runs if fn(p, arg, false) says that it
 * still applies: else -ECANCELED. Yields; may wait for a commit. */
typedef bool journal_fn(struct pool *p, void *arg, bool do_it);
int journal_history_with(struct pool *p, const char *text, journal_fn *fn, void *arg);
void journal_to_text(FILE *f, const struct btree_item *it);

#endif
