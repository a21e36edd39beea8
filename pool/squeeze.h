/* squeeze: empty chunks that hold little into the others.
 *
 * A chunk's slots are free only when all of it is. A pool that was full once, or saw many small
 * overwrites, can have a little in every chunk: much free space for data of the same policy, but no
 * slot for a copy that must move, for metadata, or for data of another policy.
 *
 *   choose    the emptiest data chunks, as long as the others have room for what they hold
 *   drain     nothing new is placed in them; what lies there is written anew, like converted data
 *   after     an empty chunk vanishes in the next commit, and its slots are free when that is
 * durable
 *
 * It runs in the mover's coroutine: when a removal or shrink finds no slot, and by itself when
 * under an eighth of the slots is free and several chunks are at most a quarter full. Nothing of it
 * is on disk: after a crash it begins again. Failure modes: what cannot be read, or is only
 * reserved, stays, and its chunk takes data again; a pass that empties nothing is not repeated for
 * a minute.
 *
 * It gives way: it ends when a device waits for its resync, when the mover gets another task, when
 * it finds no room itself, or a writer finds none: then what it withheld is free again at once. One
 * that nobody needs ends for a trim, too. On the other hand a writer who finds no room, or no slots
 * for metadata, asks for one and waits for what it gives.
 */
#ifndef TARN_POOL_SQUEEZE_H
#define TARN_POOL_SQUEEZE_H
#include "pool/pool_types.h"

/* A device is being emptied: chunks up to 6/8 full are worth it. */
#define SQUEEZE_EIGHTHS_WANTED 6u

typedef void squeeze_fn(struct pool *p, struct chunk *c, void *arg);

/* Call fn for each data chunk to empty: the emptiest first, those that are less than eighths/8
 * full, while the others keep room for it. share: use one share-th of that room. Returns how many.
 * Lock held. */
unsigned squeeze_choose(struct pool *p, unsigned eighths, unsigned share, squeeze_fn *fn,
			void *arg);
/* Must the pass under way end? Lock held. */
bool squeeze_must_end(const struct pool *p);
/* Somebody finds no room: what a pass withholds takes data again, and the pass ends. False: there
 * is nothing. Lock held. */
bool squeeze_give_back(struct pool *p);
/* After -ENOSPC: is it worth trying again? Waits a second at most, or for the end of a pass that
 * may help; up to a minute in all. *until_ns: 0 at first. Yields. */
bool squeeze_wait(struct pool *p, uint64_t *until_ns);
/* Are slots short, and is it time? Lock held. */
bool squeeze_due(const struct pool *p);
/* One pass, if there is reason for one. wanted: a device is being emptied. True when chunks were
 * emptied. Yields. */
bool squeeze_turn(struct pool *p, bool wanted);

#endif
