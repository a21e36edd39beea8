/* vol_trash: volumes thrown away are kept for a while, and come back whole; space pressure takes
 * the oldest first. */
#include <string.h>
#include "pool/chunk.h"
#include "pool/event.h"
#include "pool/snap.h"
#include "pool/txn.h"
#include "pool/vol_record.h"

static struct vol *find_trashed(struct pool *p, const char *name, uint64_t id)
{
	struct vol *best = NULL;

	for (struct vol *v = p->vols; v; v = v->next)
		if (v->trashed_ns && !v->destroying &&
		    (id ? v->id == id : !strcmp(v->name, name)) &&
		    (!best || v->trashed_ns > best->trashed_ns))
			best = v;
	return best;
}

static void changed(struct vol *v)
{
	v->rec_dirty = true;
	v->log_overflow = true;
	v->log_len = 0;
	vol_changed_locked(v);
}

int vol_trash(struct pool *p, const char *name, struct err *e)
{
	struct vol *v;
	int rc = vol_open_to_change(p, name, &v, e);

	if (rc)
		return rc;
	rc = txn_enter(p, true);
	if (rc) {
		vol_close(v);
		return err_set(e, rc, "volume %s: %s", name, err_str(rc));
	}
	lock_take(&p->lock);
	if (v->refs > 1) {
		rc = err_set(e, ERR_IN_USE,
			     "volume '%s' is in use; unmount it or close its image first", name);
	} else if (snap_any_of(v)) {
		rc = snap_refuse_end(v, e);
	} else {
		v->trashed_ns = reactor_wall_ns();
		changed(v);
		event_emit_locked(p, "volume-trashed", "volume %s is in the trash for %llu hours",
				  name, (unsigned long long)p->trash_retention_s / 3600);
	}
	lock_drop(&p->lock);
	txn_leave(p);
	vol_close(v);
	return rc ? rc : txn_commit_wait(p);
}

int vol_trash_restore(struct pool *p, const char *name, uint64_t id, const char *to, struct err *e)
{
	struct vol *v;
	int rc = txn_enter(p, true);

	if (rc)
		return err_set(e, rc, "restore %s: %s", name, err_str(rc));
	lock_take(&p->lock);
	v = find_trashed(p, name, id);
	if (!v)
		rc = err_set(e, -ENOENT,
			     "nothing named '%s' is in the trash; `tarn trash list` shows what is",
			     name);
	else if (vol_name_taken(p, to ? to : v->name))
		rc = err_set(e, -EEXIST, "a volume '%s' exists; restore under another name",
			     to ? to : v->name);
	if (!rc) {
		if (to) {
			memset(v->name, 0, sizeof v->name);
			snprintf(v->name, sizeof v->name, "%s", to);
		}
		v->trashed_ns = 0;
		changed(v);
	}
	lock_drop(&p->lock);
	txn_leave(p);
	return rc ? rc : txn_commit_wait(p);
}

static void destroy_locked(struct vol *v)
{
	v->destroying = true;
	changed(v);
	v->p->reap_wanted = true;
}

int vol_trash_empty(struct pool *p, const char *name, uint64_t id, unsigned *ret_count,
		    struct err *e)
{
	int rc = txn_enter(p, true);

	*ret_count = 0;
	if (rc)
		return err_set(e, rc, "empty the trash: %s", err_str(rc));
	lock_take(&p->lock);
	for (struct vol *v = p->vols; v; v = v->next)
		if (v->trashed_ns && !v->destroying &&
		    (id ? v->id == id : !name || !strcmp(v->name, name))) {
			destroy_locked(v);
			(*ret_count)++;
		}
	lock_drop(&p->lock);
	txn_leave(p);
	if (name && !*ret_count)
		return err_set(e, -ENOENT, "nothing named '%s' is in the trash", name);
	return txn_commit_wait(p);
}

unsigned vol_trash_list(struct pool *p, struct vol_trash_info *ret_i, unsigned max)
{
	unsigned n = 0;

	lock_take(&p->lock);
	for (struct vol *v = p->vols; v; v = v->next) {
		if (!v->trashed_ns || v->destroying)
			continue;
		if (n < max) {
			memcpy(ret_i[n].name, v->name, sizeof ret_i[n].name);
			ret_i[n].id = v->id;
			ret_i[n].trashed_ns = v->trashed_ns;
			ret_i[n].expires_ns = v->trashed_ns + p->trash_retention_s * 1000000000ull;
			ret_i[n].used_bytes = v->used_blocks * BLOCK_SIZE;
			ret_i[n].type = v->type;
		}
		n++;
	}
	lock_drop(&p->lock);
	return n;
}

void vol_trash_expire(struct pool *p)
{
	uint64_t now = reactor_wall_ns();
	bool any = false;

	if (txn_enter(p, true))
		return;
	lock_take(&p->lock);
	for (struct vol *v = p->vols; v; v = v->next)
		if (v->trashed_ns && !v->destroying && !v->refs &&
		    now > v->trashed_ns + p->trash_retention_s * 1000000000ull) {
			event_emit_locked(p, "trash-expired", "volume %s leaves the trash",
					  v->name);
			destroy_locked(v);
			any = true;
		}
	lock_drop(&p->lock);
	txn_leave(p);
	(void)any;
}

/* What lies on devices of another class gives the writer no room. */
static bool may_help(const struct vol *v, const struct vol *writer)
{
	return !v->class || !writer->class || v->class == writer->class;
}

/* Destroyed, but its space does not come back soon. */
static bool is_stuck(const struct vol *v)
{
	return v->lost || reactor_now_ns() < v->reap_after_ns;
}

/* A writer met a full pool: let the oldest in the trash go and wait until its space is back (or a
 * while has passed). */
bool vol_trash_pressure(const struct vol *writer)
{
	struct pool *p = writer->p;
	struct vol *oldest = NULL;
	uint64_t id;

	lock_take(&p->lock);
	for (struct vol *v = p->vols; v; v = v->next)
		if (v->trashed_ns && !v->refs && !is_stuck(v) && may_help(v, writer) &&
		    (!oldest || v->trashed_ns < oldest->trashed_ns))
			oldest = v;
	if (!oldest) {
		lock_drop(&p->lock);
		return false;
	}
	id = oldest->id;
	if (!oldest->destroying) {
		event_emit_locked(p, "trash-pressure",
				  "the pool is full: volume %s leaves the trash early",
				  oldest->name);
		destroy_locked(oldest);
	}
	lock_drop(&p->lock);
	for (unsigned i = 0; i < 100; i++) {
		bool gone = true;

		co_sleep_ns(50000000);
		lock_take(&p->lock);
		for (struct vol *v = p->vols; v; v = v->next)
			gone &= v->id != id;
		gone |= p->faulted;
		lock_drop(&p->lock);
		if (gone)
			break;
	}
	return true;
}
