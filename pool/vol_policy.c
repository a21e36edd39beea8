/* vol_policy: how many copies, on devices of which class: set, and how far the data follows.
 * convert.c brings it there. */
#include <string.h>
#include "pool/chunk.h"
#include "pool/class.h"
#include "pool/extent.h"
#include "pool/space.h"
#include "pool/txn.h"
#include "pool/vol_record.h"

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

/* Current copies, where the policy wants them. */
static unsigned current_copies(const struct pool *p, const struct chunk *c)
{
	unsigned n = 0;

	for (unsigned i = 0; i < c->nmembers; i++)
		n += p->devs[c->m[i].dev].state == DEV_ONLINE && !chunk_member_since(p, &c->m[i]) &&
		     !class_misplaced(p, c, &c->m[i]);
	return n;
}

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
		int rc = extent_next(v, &t->object, t->lblk, &x);

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
