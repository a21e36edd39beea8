/* discard: tells devices which slots hold nothing any more, so that files shrink, thin storage gets
 * space back and flash has an easier life.
 *
 *   slot in use -- its chunk is gone or moved, that is durable, no reader is left --> free, stale
 *   free, stale -- taken again ------------------------------------------------> in use
 *               -- the discarder comes by --> discarding (free, not to be taken) --> free
 *
 * A slot becomes stale where it becomes free (space_release), so a discard follows the rules of
 * reuse: the superblock that makes the slot free is durable, and whoever read an older state is
 * done. Stale slots are kept in memory only: those of a crash or export are left to trim.h.
 *
 * One coroutine, some seconds behind, one range at a time, resting in between like the mover. It
 * withholds a slot only when what is promised finds its place without. An error is not one of the
 * device: after some in a row, or -EOPNOTSUPP, the device is left alone until it comes back or a
 * trim begins.
 */
#ifndef TARN_POOL_DISCARD_H
#define TARN_POOL_DISCARD_H
#include "pool/pool_types.h"

/* Lock held: the slot has just become free. */
void discard_slot(struct pool *p, struct dev *d, uint32_t slot);
void discard_main(void *pool); /* background coroutine */

/* ---- for trim.c, on that coroutine; each yields, no lock held ---- */
/* May discards go on? */
bool discard_go_on(struct pool *p);
/* Lock held: would d be asked at all? */
bool discard_takes(const struct dev *d);
/* Discard a range, in pieces, resting after each. 0; -ECANCELED: the device is not in service any
 * more, or an end was asked for; else the device's error. */
int discard_range(struct pool *p, struct dev *d, uint64_t off_bytes, uint64_t len_bytes);
/* Discard the stale slots. True: some could not be withheld now. */
bool discard_slots(struct pool *p);
/* Sleep, shorter when the pool stops. */
void discard_rest(struct pool *p, uint64_t ns);

#endif
