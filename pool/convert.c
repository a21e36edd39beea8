/* convert: a volume's data follows its policy: what lies in chunks of another number of copies is
 * written anew, in background. So is what lies in a chunk that is being emptied (squeeze.h).
 *
 * Per extent: read it -> if it is still the same, its blocks become dirty (without being unlogged:
 * their content is durable already) -> the flusher places them under the new policy. Resumed after
 * a restart: the volume's record says that it is converting.
 */
#include <string.h>
#include "pool/chunk.h"
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

static unsigned current_copies(const struct pool *p, const struct chunk *c)
{
	unsigned n = 0;

	for (unsigned i = 0; i < c->nmembers; i++)
		n += p->devs[c->m[i].dev].state == DEV_ONLINE && !chunk_member_since(p, &c->m[i]);
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
		if (cv->x.codec != EXTENT_RESERVED && c && (c->copies != v->copies || c->draining))
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
	if (now.lblk != cv->x.lblk || now.blocks != cv->x.blocks ||
	    !addr_eq(now.addr, cv->x.addr) || now.birth != cv->x.birth)
		return 0;
	rc = delta_prepare(v, cv->object, cv->x.lblk, cv->x.blocks);
	if (!rc)
		rc = space_admit(v->p, v->copies, cv->x.blocks);
	if (rc)
		return rc;
	for (unsigned i = 0; i < cv->x.blocks; i++) {
		if (delta_find(v, cv->object, cv->x.lblk + i) != DBUF_NONE) {
			space_unadmit(v->p, v->copies,
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
	/* What older flushes have under way lands under the old policy: let it land first. */
	int rc = txn_commit_wait(p);

	if (!rc)
		rc = pass_run(&cv);
	if (!rc)
		rc = txn_commit_wait(p);
	lock_take(&p->lock);
	if (!rc && !cv.rewritten && !cv.unreadable) {
		v->converting = false;
		v->rec_dirty = true;
		txn_mark_dirty_locked(p);
		event_emit_locked(p, "converted", "volume %s: all data has %u copies", v->name,
				  v->copies);
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
static int move_promises(struct vol *v, uint8_t copies)
{
	uint64_t blocks = v->active_blocks + v->reserved_blocks;
	int rc = space_admit(v->p, copies, blocks);

	if (!rc)
		space_unadmit(v->p, v->copies, blocks);
	return rc;
}

int vol_set_copies(struct pool *p, const char *name, uint8_t copies, struct err *e)
{
	struct vol *v;
	int rc;

	if (copies < 1 || copies > COPIES_MAX || copies > vol_usable_devs(p))
		return err_set(e, -EINVAL,
			       "copies=%u needs as many devices (1 to %u); the pool has %u", copies,
			       COPIES_MAX, vol_usable_devs(p));
	rc = vol_open(p, name, &v, e);
	if (rc)
		return rc;
	rc = txn_enter(p, true);
	if (!rc) {
		lock_take(&p->lock);
		if (v->copies != copies) {
			rc = move_promises(v, copies);
			if (!rc) {
				v->copies = copies;
				v->converting = true;
				v->rec_dirty = true;
				txn_mark_dirty_locked(p);
			}
		}
		lock_drop(&p->lock);
		txn_leave(p);
	}
	vol_close(v);
	if (!rc)
		rc = txn_commit_wait(p);
	return rc ? err_set(e, rc, "set copies=%u of %s: %s", copies, name, err_str(rc)) : 0;
}

/* ---- how far ---- */

struct tally {
	uint64_t object, lblk;
	bool end;
	struct vol_compliance *r;
};

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
		if (c && c->copies == v->copies && current_copies(v->p, c) >= v->copies)
			t->r->compliant_bytes += bytes;
		else if (c && c->copies == v->copies)
			t->r->degraded_bytes += bytes;
		else
			t->r->other_policy_bytes += bytes;
	}
	return 0;
}

int vol_compliance_get(struct vol *v, struct vol_compliance *ret_r)
{
	struct tally t = {.r = ret_r};
	int rc;

	memset(ret_r, 0, sizeof *ret_r);
	do {
		rc = vol_query(v, step_tally, &t);
	} while (!rc && !t.end);
	ret_r->needed_bytes = ret_r->other_policy_bytes * v->copies;
	return rc;
}
