/* convert: a volume's data follows its policy: what lies in chunks of another number of copies or
 * another class is written anew, in background. So is what lies in a chunk that is being emptied
 * (squeeze.h).
 *
 * Per extent: read it -> if it is still the same, its blocks become dirty (without being unlogged:
 * their content is durable already) -> the flusher places them under the new policy. Resumed after
 * a restart: the volume's record says that it is converting. It ends with a pass that finds
 * nothing, begun and ended under one policy and behind all that an older one had under way.
 */
#include <string.h>
#include "pool/chunk.h"
#include "pool/class.h"
#include "pool/delta.h"
#include "pool/event.h"
#include "pool/extent.h"
#include "pool/space.h"
#include "pool/txn.h"
#include "pool/vol_read.h"
#include "pool/vol_record.h"

#define UNREADABLE_PAUSE_S 30u /* a device may return */

struct conv {
	struct vol *v;
	uint64_t object, lblk; /* where to go on */
	struct extent x;       /* found */
	bool end;
	uint8_t *data;
	uint32_t bufs[EXTENT_BLOCKS_MAX];
	uint64_t rewritten, unreadable; /* extents of this pass */
};

/* Current copies, where the policy wants them. */
static unsigned current_copies(const struct pool *p, const struct chunk *c)
{
	unsigned n = 0;

	for (unsigned i = 0; i < c->nmembers; i++)
		n += p->devs[c->m[i].dev].state == DEV_ONLINE && !chunk_member_since(p, &c->m[i]) &&
		     !class_misplaced(p, c, &c->m[i]);
	return n;
}

/* Next extent at or after (object, lblk): 0, -ENOENT, ERR_NEED_NODE. */
static int next_extent(struct vol *v, uint64_t *object, uint64_t lblk, struct extent *x)
{
	struct key k = {*object, VOL_KEY_EXTENT, lblk};

	for (;;) {
		struct btree_item it;
		int rc = btree_seek_ge(&v->tree, k, &it);

		if (rc)
			return rc;
		if (it.key.type == VOL_KEY_EXTENT) {
			*object = it.key.object;
			return extent_decode(&it, x);
		}
		k = it.key.type < VOL_KEY_EXTENT ? (struct key){it.key.object, VOL_KEY_EXTENT, 0}
						 : (struct key){it.key.object + 1, 0, 0};
	}
}

static int step_find(struct vol *v, void *arg)
{
	struct conv *cv = arg;

	cv->x.blocks = 0;
	for (unsigned i = 0; i < 64; i++) {
		const struct chunk *c;
		int rc = next_extent(v, &cv->object, cv->lblk, &cv->x);

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

static bool stopped(struct pool *p, struct vol *v)
{
	bool s;

	lock_take(&p->lock);
	s = p->stopping || p->faulted || v->destroying;
	lock_drop(&p->lock);
	return s;
}

/* One pass over the volume. An error: try again later. */
static int pass_run(struct conv *cv)
{
	struct vol *v = cv->v;
	int rc = 0;

	cv->data = aligned_alloc(BLOCK_SIZE, EXTENT_BLOCKS_MAX * BLOCK_SIZE);
	if (!cv->data)
		return -ENOMEM;
	while (!rc && !cv->end && !stopped(v->p, v)) {
		uint64_t start = reactor_now_ns();

		rc = vol_query(v, step_find, cv);
		if (rc || !cv->x.blocks)
			continue;
		rc = rewrite(cv);
		if (rc == -EAGAIN || rc == -ENOSPC) {
			cv->lblk = cv->x.lblk;
			if (rc == -ENOSPC) {
				lock_take(&v->p->lock);
				class_full_event(v);
				lock_drop(&v->p->lock);
			}
			rc = rc == -ENOSPC ? txn_commit_wait(v->p) : 0;
			co_sleep_ns(100000000);
			continue;
		}
		if (rc == ERR_CSUM || rc == -EIO || rc == ERR_DEV_GONE) {
			rc = 0; /* reported; stays where it is until it can be read */
			cv->unreadable++;
		} else {
			cv->rewritten++;
		}
		start = reactor_now_ns() - start;
		if (start > 20000)
			co_sleep_ns(start);
	}
	free(cv->data);
	return rc ? rc : cv->end ? 0 : ERR_FAULTED;
}

int convert_pass(struct vol *v, uint64_t *ret_rewritten)
{
	struct conv cv = {.v = v};
	int rc = pass_run(&cv);

	*ret_rewritten = cv.rewritten;
	return rc;
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

/* ---- setting the policy ---- */

/* What is promised to dirty data and reservations moves to the new policy. Flush jobs at work keep
 * their own. */
static int move_promises(struct vol *v, unsigned policy)
{
	uint64_t blocks = v->active_blocks + v->reserved_blocks;
	int rc = space_admit(v->p, policy, blocks);

	if (!rc)
		space_unadmit(v->p, vol_policy(v), blocks);
	return rc;
}

static int policy_change_locked(struct vol *v, uint8_t copies, const char *class_name)
{
	int class = class_enter(v->p, class_name), rc;

	if (class < 0)
		return -EMFILE;
	if (policy_of(copies, (unsigned)class) == vol_policy(v))
		return 0;
	rc = move_promises(v, policy_of(copies, (unsigned)class));
	if (rc)
		return rc;
	v->copies = copies;
	v->class = (uint8_t) class;
	v->converting = true;
	v->policy_changes++;
	v->rec_dirty = true;
	txn_mark_dirty_locked(v->p);
	return 0;
}

/* One part of the policy; copies 0 or class_name NULL: as it is. */
static int policy_change(struct vol *v, uint8_t copies, const char *class_name, struct err *e)
{
	struct pool *p = v->p;
	char now[VOL_CLASS_MAX + 1];
	int rc;

	lock_take(&p->lock);
	snprintf(now, sizeof now, "%s", p->classes[v->class]);
	class_name = class_name ? class_name : now;
	copies = copies ? copies : v->copies;
	rc = class_check_copies(p, class_name, copies, e);
	lock_drop(&p->lock);
	if (rc)
		return rc;
	rc = txn_enter(p, true);
	if (!rc) {
		lock_take(&p->lock);
		rc = policy_change_locked(v, copies, class_name);
		lock_drop(&p->lock);
		txn_leave(p);
	}
	if (!rc)
		rc = txn_commit_wait(p);
	if (rc == -EMFILE)
		return err_set(e, -ENOSPC,
			       "the pool's volumes use " CLASSES_TEXT " classes already");
	if (rc == -ENOSPC && class_name[0])
		return err_set(e, rc, "no room on devices of class %s", class_name);
	return rc ? err_set(e, rc, "%s", err_str(rc)) : 0;
}

int vol_set_copies(struct pool *p, const char *name, uint8_t copies, struct err *e)
{
	struct vol *v;
	int rc;

	if (copies < 1 || copies > COPIES_MAX)
		return err_set(e, -EINVAL, "copies=%u: 1 to %u", copies, COPIES_MAX);
	rc = vol_open_to_change(p, name, &v, e);
	if (rc)
		return rc;
	rc = policy_change(v, copies, NULL, e);
	vol_close(v);
	return rc ? err_wrap(e, "set copies=%u of %s", copies, name) : 0;
}

/* ---- how far ---- */

struct tally {
	uint64_t object, lblk;
	bool end;
	unsigned policy;
	bool pinned;	       /* the volume has snapshots */
	uint64_t other_blocks; /* stored under another policy */
	uint64_t raw_there;    /* copies of those that give room in the policy's class when freed */
	struct vol_compliance *r;
};

static void tally_other(struct tally *t, const struct pool *p, const struct chunk *c,
			const struct extent *x)
{
	t->other_blocks += x->stored_blocks;
	if (t->pinned || (c && c->shared)) /* others may hold on to it */
		return;
	for (unsigned i = 0; c && i < c->nmembers; i++)
		if (class_holds(p, policy_class(t->policy), &p->devs[c->m[i].dev]))
			t->raw_there += x->stored_blocks;
}

static int step_tally(struct vol *v, void *arg)
{
	struct tally *t = arg;

	for (unsigned i = 0; i < 256; i++) {
		const struct chunk *c;
		struct extent x;
		uint64_t bytes;
		int rc = next_extent(v, &t->object, t->lblk, &x);

		if (rc == -ENOENT) {
			t->end = true;
			return 0;
		}
		if (rc)
			return rc;
		t->lblk = x.lblk + x.blocks;
		if (x.codec == EXTENT_RESERVED)
			continue;
		c = chunk_find(v->p, addr_chunk(x.addr));
		bytes = (uint64_t)x.blocks * BLOCK_SIZE;
		if (c && chunk_policy(c) == t->policy && current_copies(v->p, c) >= c->copies) {
			t->r->compliant_bytes += bytes;
		} else if (c && chunk_policy(c) == t->policy) {
			t->r->degraded_bytes += bytes;
		} else {
			t->r->other_policy_bytes += bytes;
			tally_other(t, v->p, c, &x);
		}
	}
	return 0;
}

static int tally(struct vol *v, struct tally *t)
{
	int rc;

	memset(t->r, 0, sizeof *t->r);
	t->pinned = v->tree.pinned;
	do {
		rc = vol_query(v, step_tally, t);
	} while (!rc && !t->end);
	t->r->needed_bytes = t->r->other_policy_bytes * policy_copies(t->policy);
	return rc;
}

int vol_compliance_get(struct vol *v, struct vol_compliance *ret_r)
{
	struct tally t = {.r = ret_r};

	lock_take(&v->p->lock);
	t.policy = vol_policy(v);
	lock_drop(&v->p->lock);
	return tally(v, &t);
}

/* ---- another class ---- */

/* Is there room for what would have to move? */
static int room_in_class(struct vol *v, const char *class_name, struct err *e)
{
	struct vol_compliance c;
	struct tally t = {.r = &c};
	struct pool *p = v->p;
	uint64_t have;
	int rc, class;

	lock_take(&p->lock);
	class = class_enter(p, class_name);
	t.policy = policy_of(v->copies, class < 0 ? 0 : (unsigned)class);
	lock_drop(&p->lock);
	rc = class < 0 ? 0 : tally(v, &t);
	if (rc)
		return err_set(e, rc, "%s", err_str(rc));
	lock_take(&p->lock);
	have = space_available(p, t.policy) + t.raw_there / v->copies;
	lock_drop(&p->lock);
	if (class < 0 || t.other_blocks <= have)
		return 0;
	return err_set(e, -ENOSPC,
		       "no room on devices of class %s: %llu bytes would move there in %u "
		       "copies, %llu are free with that policy",
		       class_name, (unsigned long long)t.other_blocks * BLOCK_SIZE, v->copies,
		       (unsigned long long)have * BLOCK_SIZE);
}

int vol_set_class(struct pool *p, const char *name, const char *class_name, struct err *e)
{
	struct vol *v;
	int rc;

	if (strlen(class_name) > VOL_CLASS_MAX)
		return err_set(e, -EINVAL, "a class name has at most %u characters", VOL_CLASS_MAX);
	rc = vol_open_to_change(p, name, &v, e);
	if (rc)
		return rc;
	lock_take(&p->lock);
	rc = class_check_copies(p, class_name, v->copies, e);
	lock_drop(&p->lock);
	if (!rc && class_name[0])
		rc = room_in_class(v, class_name, e);
	if (!rc)
		rc = policy_change(v, 0, class_name, e);
	vol_close(v);
	return rc ? err_wrap(e, "set class=%s of %s", class_name, name) : 0;
}
