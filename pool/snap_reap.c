/* snap_reap: giving back what a destroyed snapshot was the last to show. */
#include "pool/snap.h"
#include "pool/space.h"
#include "pool/txn.h"

#define STEP	     64u /* entries under the lock at a time */
#define STEPS_COMMIT 8u	 /* when there is little room for nodes */

struct reap {
	struct vol *s, *v;
	uint64_t before, behind; /* commits of the snapshots next to it; 0, UINT64_MAX: none */
	struct key at;
	bool done;
};

static void neighbours(struct reap *r)
{
	r->before = 0;
	r->behind = UINT64_MAX;
	for (const struct vol *s = r->s->p->snaps; s; s = s->next) {
		if (s->origin != r->v->id || s->destroying)
			continue;
		if (s != r->s && s->snap_txn <= r->s->snap_txn && s->snap_txn > r->before)
			r->before = s->snap_txn;
		if (s->snap_txn > r->s->snap_txn && s->snap_txn < r->behind)
			r->behind = s->snap_txn;
	}
}

static int reap_one(struct reap *r, const struct btree_item *it)
{
	struct pool *p = r->s->p;
	struct snap_dead d;
	struct key k = it->key;
	int rc = snap_dead_decode(it, &d);

	if (!rc && d.birth > r->before && d.birth <= r->s->snap_txn) {
		rc = space_free_reserve(p, SPACE_FREES_SPARE);
		if (!rc)
			rc = btree_prepare(&r->v->dead, k);
		if (!rc)
			rc = btree_del(&r->v->dead, k);
		if (rc)
			return rc;
		space_free(p, d.addr, d.blocks, false);
		r->v->rec_dirty = true;
		txn_mark_dirty_locked(p);
	}
	if (!rc)
		r->at = (struct key){k.object, k.type, k.offset + 1};
	return rc;
}

static int reap_step(struct pool *p, void *arg)
{
	struct reap *r = arg;

	if (p->faulted)
		return ERR_FAULTED;
	neighbours(r);
	for (unsigned i = 0; i < STEP; i++) {
		struct btree_item it;
		int rc = btree_seek_ge(&r->v->dead, r->at, &it);

		if (rc == -ENOENT || (!rc && it.key.object > r->behind)) {
			r->done = true;
			return 0;
		}
		if (!rc)
			rc = reap_one(r, &it);
		if (rc)
			return rc;
	}
	return 0;
}

int snap_reap(struct vol *s)
{
	struct pool *p = s->p;
	struct reap r = {.s = s, .at = {s->snap_txn + 1, 0, 0}};
	int rc;

	lock_take(&p->lock);
	r.v = snap_origin(s);
	rc = p->faulted ? ERR_FAULTED : txn_wait_durable_locked(p, p->open->nr);
	lock_drop(&p->lock);
	for (unsigned n = 1; !rc && !r.done && !p->stopping; n++) {
		rc = txn_enter(p, true);
		if (rc)
			break;
		rc = txn_step(p, &r.v->dead, reap_step, &r);
		txn_leave(p);
		if (!rc && n % STEPS_COMMIT == 0 && space_pressed(p))
			rc = txn_commit_wait(p);
	}
	return rc ? rc : r.done ? 0 : ERR_FAULTED;
}
