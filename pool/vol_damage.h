/* vol_damage: damage stays within the volume whose tree it is in.
 *
 * A node of a volume's tree that no device can give back right takes a range of the volume with it,
 * not the pool. Whoever meets it condemns the volume:
 *  - reads of the range fail, all others go on;
 *  - writes look before they are taken (vol_damage_look), and fail where nothing can be entered;
 *  - dirty data that had been taken before is dropped when it is flushed, which is an event and a
 *    loss that the next sync tells; so is what the intent log has for the range;
 *  - the volume's record says so until a scrub finds all its nodes again.
 * What cannot be read of the pool's own trees (map, space, root) suspends the pool.
 */
#ifndef TARN_POOL_VOL_DAMAGE_H
#define TARN_POOL_VOL_DAMAGE_H
#include "pool/vol_types.h"

/* Does the code say that a block is wrong on every device that has it? Not when one is away. */
bool vol_damage_is(int rc);
/* Lock held: a node of that tree cannot be had. Nothing but for the tree of a volume. */
void vol_damage_note(struct pool *p, uint64_t tree_id, int rc);
/* Lock held: could data of [lblk, lblk+n) be entered in the tree now? 0, ERR_NEED_NODE, or what is
 * wrong. O(extents). */
int vol_damage_look(struct vol *v, uint64_t object, uint64_t lblk, uint64_t n);
/* Lock held: so many blocks that had been acknowledged are gone. */
void vol_damage_lost(struct vol *v, unsigned blocks);
/* Lock held: before a walk that reads all nodes, and when it has come to its end: a volume none of
 * whose nodes was missed is whole. */
void vol_damage_scrub_begin(struct pool *p);
void vol_damage_scrub_end(struct pool *p);

#endif
