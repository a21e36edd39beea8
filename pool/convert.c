/* convert: a volume's data follows its policy: what lies in chunks of another number of copies or
 * another class is written anew, in background. So is what lies in a chunk that is being emptied
 * (squeeze.h).
 *
 * Per extent: read it -> if it is still the same, its blocks become dirty (without being unlogged:
 * their content is durable already) -> the flusher places them under the new policy. Resumed after
 * a restart: the volume's record says that it is converting. It ends with a pass that finds
 * nothing, begun and ended under one policy and behind all that an older one had under way.
 *
 * Without room it waits, 1 to 30 seconds, or until there is some; for a squeeze the pass ends.
 */
#include <string.h>
#include "pool/chunk.h"
#include "pool/class.h"
#include "pool/delta.h"
#include "pool/event.h"
#include "pool/extent.h"
#include "pool/space.h"
#include "pool/squeeze.h"
#include "pool/txn.h"
#include "pool/vol_held.h"
#include "pool/vol_read.h"
#include "pool/vol_record.h"

#define UNREADABLE_PAUSE_S 30u /* a device may return */
#define ROOM_PAUSE_MIN_S   1u
#define ROOM_PAUSE_MAX_S   30u

struct conv {
	struct vol *v;
	uint64_t object, lblk; /* where to go on */
	struct extent x;       /* found */
	bool end, for_squeeze;
	unsigned room_pause_s; /* the last one; 0: it found room since */
	uint8_t *data;
	uint32_t bufs[EXTENT_BLOCKS_MAX];
	uint64_t rewritten, unreadable; /* extents of this pass */
};

static int step_find(struct vol *v, void *arg)
{
	struct conv *cv = arg;

	cv->x.blocks = 0;
	for (unsigned i = 0; i < 64; i++) {
		const struct chunk *c;
		int rc = extent_next(v, &cv->object, cv->lblk, &cv->x);

		if (rc == -ENOENT) {
			cv->end = true;
			cv->x.blocks = 0;
			return 0;
		}
		if (rc)
			return rc;
		cv->lblk = cv->x.lblk + cv->x.blocks;
		c = chunk_find(v->p, addr_chunk(cv->x.addr));
		if (cv->x.codec != EXTENT_RESERVED && c &&
		    (chunk_policy(c) != vol_policy(v) || (c->draining && !c->shared)))
			return 0;
		cv->x.blocks = 0;
	}
	return 0;
}

/* Make the extent's blocks dirty if nothing has happened to it since it was read. */
static int step_dirty(struct vol *v, void *arg)
{
	struct conv *cv = arg;
	struct extent now;
	int rc = extent_lookup(v, cv->object, cv->x.lblk, cv->x.lblk + 1, &now);

	if (rc)
		return rc == -ENOENT ? 0 : rc;
	/* A write into its middle leaves a first part that differs in length only. */
	if (now.lblk != cv->x.lblk || now.blocks != cv->x.blocks || now.skip != cv->x.skip ||
	    !addr_eq(now.addr, cv->x.addr) || now.birth != cv->x.birth)
		return 0;
	rc = delta_prepare(v, cv->object, cv->x.lblk, cv->x.blocks);
	if (!rc)
		rc = space_admit(v->p, vol_policy(v), cv->x.blocks);
	if (rc)
		return rc;
	for (unsigned i = 0; i < cv->x.blocks; i++) {
		if (delta_find(v, cv->object, cv->x.lblk + i) != DBUF_NONE) {
			space_unadmit(v->p, vol_policy(v),
				      1); /* newer data, placed by the new policy anyway */
			continue;
		}
		dbuf_ref(v->p, cv->bufs[i]);
		delta_put_logged(v, cv->object, cv->x.lblk + i, cv->bufs[i]);
	}
	vol_held_look(v, cv->object, cv->x.lblk, cv->x.blocks);
	flush_request_if_full(v->p);
	txn_mark_dirty_locked(v->p);
	return 0;
}

static int rewrite(struct conv *cv)
{
	struct vol *v = cv->v;
	struct pool *p = v->p;
	unsigned n = cv->x.blocks;
	bool got;
	int rc = vol_read_blocks(v, cv->object, cv->x.lblk, n, cv->data);

	if (!rc)
		rc = delta_throttle(p, n);
	if (rc)
		return rc;
	lock_take(&p->lock);
	got = dbuf_get(p, cv->bufs, n);
	lock_drop(&p->lock);
	if (!got)
		return -EAGAIN;
	for (unsigned i = 0; i < n; i++)
		memcpy(dbuf_data(p, cv->bufs[i]), cv->data + i * BLOCK_SIZE, BLOCK_SIZE);
	rc = vol_change(v, true, step_dirty, cv);
	lock_take(&p->lock);
	for (unsigned i = 0; i < n; i++)
		dbuf_unref(p, cv->bufs[i]);
	lock_drop(&p->lock);
	return rc;
}

static bool stopped(struct conv *cv)
{
	struct pool *p = cv->v->p;
	bool s;

	lock_take(&p->lock);
	s = p->stopping || p->faulted || cv->v->destroying ||
	    (cv->for_squeeze && squeeze_must_end(p));
	lock_drop(&p->lock);
	return s;
}

/* ---- without room ---- */

/* Lock held: the next volume to convert behind id, so that one that cannot be finished holds up no
 * other. */
static struct vol *next_converting(struct pool *p, uint64_t id)
{
	struct vol *first = NULL;

	for (struct vol *v = p->vols; v; v = v->next) {
		if (!v->converting || v->destroying)
			continue;
		if (v->id > id)
			return v;
		if (!first)
			first = v;
	}
	return first;
}

static bool others_convert(struct vol *v)
{
	bool others;

	lock_take(&v->p->lock);
	others = next_converting(v->p, v->id) != v;
	lock_drop(&v->p->lock);
	return others;
}

/* Is there something that the next commit can set free? */
static bool commit_helps(const struct pool *p, const struct vol *v)
{
	return p->open->frees_count || v->active_blocks || v->flushing_blocks;
}

/* No room for what was found. 0: try again. A squeeze is given up; so is this pass, for a while,
 * when there are other volumes to convert. */
static int wait_for_room(struct conv *cv)
{
	struct pool *p = cv->v->p;
	bool commit, room = false;
	int rc = 0;

	if (cv->for_squeeze)
		return -ENOSPC;
	lock_take(&p->lock);
	class_full_event(cv->v);
	commit = commit_helps(p, cv->v);
	lock_drop(&p->lock);
	if (commit)
		rc = txn_commit_wait(p);
	cv->room_pause_s = cv->room_pause_s ? cv->room_pause_s * 2 : ROOM_PAUSE_MIN_S;
	if (cv->room_pause_s > ROOM_PAUSE_MAX_S)
		cv->room_pause_s = ROOM_PAUSE_MAX_S;
	for (unsigned i = 0; !rc && !room && i < cv->room_pause_s * 10 && !stopped(cv); i++) {
		lock_take(&p->lock);
		room = space_available(p, vol_policy(cv->v)) >= cv->x.blocks;
		lock_drop(&p->lock);
		if (!room || !commit)
			co_sleep_ns(100000000);
	}
	return rc ? rc : room || !others_convert(cv->v) ? 0 : -ENOSPC;
}

/* One extent was found: 0, also when it has to be tried again or cannot be read. */
static int pass_step(struct conv *cv)
{
	int rc = rewrite(cv);

	if (rc == -EAGAIN || rc == -ENOSPC) {
		cv->lblk = cv->x.lblk;
		if (rc == -ENOSPC)
			return wait_for_room(cv);
		co_sleep_ns(100000000);
		return 0;
	}
	if (rc == ERR_CSUM || rc == -EIO || rc == ERR_DEV_GONE) {
		cv->unreadable++; /* reported; stays where it is until it can be read */
		return 0;
	}
	cv->room_pause_s = 0;
	cv->rewritten++;
	return rc;
}

/* One pass over the volume. An error: try again later. */
static int pass_run(struct conv *cv)
{
	int rc = 0;

	cv->data = aligned_alloc(BLOCK_SIZE, EXTENT_BLOCKS_MAX * BLOCK_SIZE);
	if (!cv->data)
		return -ENOMEM;
	while (!rc && !cv->end && !stopped(cv)) {
		uint64_t start = reactor_now_ns();

		rc = vol_query(cv->v, step_find, cv);
		if (rc || !cv->x.blocks)
			continue;
		rc = pass_step(cv);
		start = reactor_now_ns() - start;
		if (start > 20000 && !cv->room_pause_s)
			co_sleep_ns(start < 1000000000 ? start : 1000000000);
	}
	free(cv->data);
	return rc ? rc : cv->end ? 0 : ERR_FAULTED;
}

int convert_for_squeeze(struct vol *v)
{
	struct conv cv = {.v = v, .for_squeeze = true};

	return pass_run(&cv);
}

static void convert_pause(struct pool *p, unsigned seconds)
{
	for (unsigned i = 0; i < seconds * 10 && !p->stopping; i++)
		co_sleep_ns(100000000);
}

static void convert_volume(struct vol *v)
{
	struct pool *p = v->p;
	struct conv cv = {.v = v};
	uint32_t changes;
	int rc;

	lock_take(&p->lock);
	changes = v->policy_changes;
	lock_drop(&p->lock);
	/* What older flushes have under way lands under the old policy: let it land first. */
	rc = txn_commit_wait(p);
	if (!rc)
		rc = pass_run(&cv);
	if (!rc)
		rc = txn_commit_wait(p);
	lock_take(&p->lock);
	/* What a pass saw counts for the policy that was there all the time. */
	if (!rc && !cv.rewritten && !cv.unreadable && changes == v->policy_changes) {
		v->converting = false;
		v->rec_dirty = true;
		txn_mark_dirty_locked(p);
		event_emit_locked(p, "converted", "volume %s: all data has %u copies%s%s", v->name,
				  v->copies, v->class ? " on devices of class " : "",
				  p->classes[v->class]);
	}
	lock_drop(&p->lock);
	if (rc || cv.unreadable)
		convert_pause(p, rc ? 1 : UNREADABLE_PAUSE_S);
}

void convert_main(void *arg)
{
	struct pool *p = arg;
	uint64_t last = 0;

	lock_take(&p->lock);
	while (!p->stopping) {
		struct vol *v = next_converting(p, last);

		if (!v || p->faulted) {
			lock_drop(&p->lock);
			co_sleep_ns(200000000);
			lock_take(&p->lock);
			continue;
		}
		last = v->id;
		v->pins++;
		lock_drop(&p->lock);
		convert_volume(v);
		lock_take(&p->lock);
		v->pins--;
		waitq_wake_all(&p->data_waiters);
	}
	p->bg_count--;
	waitq_wake_all(&p->bg_waiters);
	lock_drop(&p->lock);
}
