/* snap: snapshots: a volume as it was at a commit.
 *
 * A snapshot is a volume record of its own with the root that its origin had at that commit: O(1).
 * From then on a node or extent of the origin that was born before lives on when the origin lets go
 * of it: it goes to the origin's dead list, not to the frees. An entry (birth b, let go in d) is
 * shown by the snapshots of b <= s < d and by nobody else:
 *
 *      txn ----- b ----- s1 ---------- s2 ----- d ------> head
 *                        |<- shown by both ->|
 *
 * Destroying s frees the entries that only s shows: b after the snapshot before s, d not after the
 * one behind it. So any order of destroying frees each entry once. Snapshots of one commit show the
 * same: only the last of them frees anything.
 *
 * An entry holds the reference that the origin had (refs.h): what a clone shares is freed when the
 * last of all is gone. Blocks cloned into a volume after a snapshot are older than it; let go of,
 * they wait for the snapshot's end as well.
 *
 * Life: asked for (pending) -> taken at the freeze, when everything acknowledged before the gate
 * closed is in the tree -> durable with that commit -> destroying: its root is forgotten in one
 * commit, so that no walk enters it, then the reaper works through the dead list, some entries at a
 * time, resumed after a crash -> gone.
 *
 * All under the pool's lock unless it says "yields".
 */
#ifndef TARN_POOL_SNAP_H
#define TARN_POOL_SNAP_H
#include "pool/snap_format.h"
#include "pool/vol_types.h"

#define SNAP_NAME_MAX (VOL_NAME_MAX / 2) /* of the volume, and behind the @ */

/* Decoded entry of a dead list. ERR_FORMAT. */
struct snap_dead {
	uint64_t died, birth;
	struct addr addr;
	uint32_t blocks;
	bool is_node;
};
int snap_dead_decode(const struct btree_item *it, struct snap_dead *ret_d);
void snap_dead_to_text(FILE *f, const struct btree_item *it);

/* Is what was born in `birth` shown by a snapshot of the volume with this tree? */
static inline bool snap_shows(const struct btree *tree, uint64_t birth)
{
	return birth <= tree->pinned;
}
/* Queue an entry for the dead list of the volume with this tree. Memory: space_free_reserve(). */
void snap_let_go(struct pool *p, uint64_t tree_id, struct addr a, uint32_t blocks, uint64_t birth,
		 bool is_node);
int snap_reserve(struct pool *p, size_t more);
/* About so many nodes will take what is queued. */
uint64_t snap_queued_nodes(const struct pool *p);

/* At the freeze: the volume whose dead list gets the next queued entries, or NULL; enter them
 * (ERR_NEED_NODE: of v->dead). */
struct vol *snap_next_dead(struct pool *p);
int snap_apply_dead(struct pool *p, struct vol *v);
/* At the freeze, v sealed: take the snapshots that were asked for. */
void snap_take(struct vol *v, uint64_t txn);
/* The transaction's data cannot be relied on: snapshots of it are given up. */
void snap_give_up(struct pool *p, uint64_t txn);

/* At import, all volumes there: which births are pinned. ERR_FORMAT. */
int snap_load(struct pool *p);
/* Reaper: give back what only the snapshot s shows. Yields. */
int snap_reap(struct vol *s);
/* "volume@name": the snapshot, or NULL. */
struct vol *snap_find(struct pool *p, const char *name);
/* Durable, and not destroyed. */
bool snap_is_there(const struct vol *s);
/* Of v, in one of the pool's lists, not destroyed; or NULL. */
struct vol *snap_named(struct vol *list, const struct vol *v, const char *part);
/* The volume of "volume@name", or NULL. */
struct vol *snap_origin_named(struct pool *p, const char *name);
/* Its tree is forgotten with the next commit, then comes the reaper. */
void snap_destroy_locked(struct vol *s);
struct vol *snap_origin(const struct vol *s);
bool snap_any_of(const struct vol *v);
/* The error for who wants v to go nevertheless. */
int snap_refuse_end(const struct vol *v, struct err *e);
/* The name it is opened by. */
void snap_full_name(const struct vol *s, char ret_name[VOL_NAME_MAX + 1]);

#endif
