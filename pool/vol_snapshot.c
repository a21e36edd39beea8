/* vol_snapshot: taking, listing and destroying snapshots; what they are is in snap.h. */
#include <string.h>
#include "pool/snap.h"
#include "pool/txn.h"
#include "pool/vol_record.h"

static int part_check(const char *part, struct err *e)
{
	size_t n = strlen(part);

	if (!n || n > SNAP_NAME_MAX)
		return err_set(e, -EINVAL, "the name of a snapshot has 1 to %u characters",
			       SNAP_NAME_MAX);
	if (strspn(part, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:") != n)
		return err_set(e, -EINVAL,
			       "snapshot name '%s': only letters, digits and _ - . : are allowed",
			       part);
	return 0;
}

/* Gate held. One more that the freeze is to take. */
static int ask_locked(struct pool *p, const char *name, struct err *e)
{
	const char *at = strchr(name, '@');
	struct vol *v = snap_origin_named(p, name), *s;

	if (!v)
		return err_set(e, -ENOENT, "no volume '%.*s' in this pool", (int)(at - name), name);
	if (strlen(v->name) > SNAP_NAME_MAX)
		return err_set(e, -EINVAL,
			       "volume '%s': names of over %u characters leave no room for "
			       "names of snapshots; rename it",
			       v->name, SNAP_NAME_MAX);
	if (snap_named(p->snaps, v, at + 1) || snap_named(p->snaps_pending, v, at + 1))
		return err_set(e, -EEXIST, "snapshot '%s' exists already", name);
	s = calloc(1, sizeof *s);
	if (!s)
		return err_set(e, -ENOMEM, "out of memory");
	s->p = p;
	s->id = p->next_volume_id++;
	s->origin = v->id;
	snprintf(s->name, sizeof s->name, "%s", at + 1);
	s->type = v->type;
	s->compression = v->compression;
	s->copies = v->copies;
	s->owner_uid = v->owner_uid;
	s->created_ns = reactor_wall_ns();
	memcpy(s->uuid, v->uuid, sizeof s->uuid);
	for (unsigned i = 0; i < 8; i++)
		s->uuid[8 + i] ^= (uint8_t)(s->id >> (8 * i));
	RB_INIT(&s->active);
	RB_INIT(&s->flushing);
	btree_init(&s->tree, &txn_btree_ops, p, p->cache, p->uuid, v->id,
		   (struct node_ptr){ADDR_NONE, 0, 0}, 0);
	s->next = p->snaps_pending;
	p->snaps_pending = s;
	v->rec_dirty = true;
	txn_mark_dirty_locked(p);
	return 0;
}

static void forget_pending(struct pool *p, const struct vol *until)
{
	while (p->snaps_pending != until) {
		struct vol *s = p->snaps_pending;

		p->snaps_pending = s->next;
		vol_free(s);
	}
}

/* Is one of those asked for with the ids [first, end) of a commit that cannot be relied on? */
static bool given_up(const struct pool *p, uint64_t first, uint64_t end)
{
	for (const struct vol *s = p->snaps; s; s = s->next)
		if (s->id >= first && s->id < end && s->given_up)
			return true;
	return false;
}

int vol_snapshot_create(struct pool *p, const char *const *names, unsigned n, struct err *e)
{
	uint64_t first, end;
	struct vol *was;
	int rc = 0;

	for (unsigned i = 0; i < n && !rc; i++)
		rc = strchr(names[i], '@')
			     ? part_check(strchr(names[i], '@') + 1, e)
			     : err_set(e, -EINVAL, "'%s' is not VOLUME@NAME", names[i]);
	if (rc)
		return rc;
	rc = txn_enter(p, false);
	if (rc)
		return err_set(e, rc, "snapshot: %s", err_str(rc));
	lock_take(&p->lock);
	was = p->snaps_pending;
	first = p->next_volume_id;
	for (unsigned i = 0; i < n && !rc; i++)
		rc = ask_locked(p, names[i], e);
	if (rc)
		forget_pending(p, was);
	end = p->next_volume_id;
	lock_drop(&p->lock);
	txn_leave(p);
	if (rc)
		return rc;
	rc = txn_commit_wait(p);
	if (rc)
		return err_set(e, rc, "snapshot: commit: %s", err_str(rc));
	lock_take(&p->lock);
	if (given_up(p, first, end))
		rc = err_set(e, -EIO,
			     "snapshot %s: a device failed while it was taken; take it again",
			     names[0]);
	lock_drop(&p->lock);
	return rc;
}

int vol_snapshot_destroy(struct pool *p, const char *name, struct err *e)
{
	struct vol *s;
	int rc = txn_enter(p, true);

	if (rc)
		return err_set(e, rc, "snapshot %s: %s", name, err_str(rc));
	lock_take(&p->lock);
	s = snap_find(p, name);
	if (!s)
		rc = err_set(e, -ENOENT,
			     "no snapshot '%s' in this pool; `tarn snapshot list` shows what "
			     "there is",
			     name);
	else if (s->refs)
		rc = err_set(e, ERR_IN_USE,
			     "snapshot '%s' is in use; unmount it or close its image first", name);
	else
		snap_destroy_locked(s);
	lock_drop(&p->lock);
	txn_leave(p);
	if (rc)
		return rc;
	rc = txn_commit_wait(p);
	return rc ? err_set(e, rc, "snapshot %s: commit: %s", name, err_str(rc)) : 0;
}

unsigned vol_snapshot_list(struct pool *p, const char *volume, struct vol_snapshot_info *ret_i,
			   unsigned max)
{
	unsigned n = 0;

	lock_take(&p->lock);
	for (const struct vol *s = p->snaps; s; s = s->next) {
		if (!snap_is_there(s) || (volume && strcmp(snap_origin(s)->name, volume)))
			continue;
		if (n < max) {
			struct vol_snapshot_info *i = &ret_i[n];

			*i = (struct vol_snapshot_info){.id = s->id,
							.created_ns = s->created_ns,
							.txn = s->snap_txn,
							.used_bytes = s->used_blocks * BLOCK_SIZE,
							.logical_bytes =
								s->logical_blocks * BLOCK_SIZE,
							.open = s->refs != 0};
			snap_full_name(s, i->name);
		}
		n++;
	}
	lock_drop(&p->lock);
	return n;
}
