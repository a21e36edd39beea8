/* vol: creating, opening, listing and changing volumes; giving their space back is in vol_reap.c.
 */
#include "pool/vol.h"
#include <ctype.h>
#include <string.h>
#include "pool/chunk.h"
#include "pool/class.h"
#include "pool/delta.h"
#include "pool/event.h"
#include "pool/extent.h"
#include "pool/snap.h"
#include "pool/space.h"
#include "pool/txn.h"
#include "pool/vol_held.h"
#include "pool/vol_record.h"

#define INFO_LOOKS 512u /* whatever is dirty */

static int name_check(const char *name, struct err *e)
{
	size_t n = strlen(name);

	if (!n || n > VOL_NAME_MAX)
		return err_set(e, -EINVAL, "volume name must have 1 to %u characters",
			       VOL_NAME_MAX);
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)name[i]) && !strchr("_-.", name[i]))
			return err_set(
				e, -EINVAL,
				"volume name '%s': only letters, digits and _ - . are allowed",
				name);
	if (name[0] == '.' || name[0] == '-')
		return err_set(e, -EINVAL, "volume name '%s' may not begin with '%c'", name,
			       name[0]);
	return 0;
}

static struct vol *find_name(struct pool *p, const char *name)
{
	struct vol *v = p->vols;

	if (strchr(name, '@'))
		return snap_find(p, name);
	while (v && (v->destroying || v->trashed_ns || strcmp(v->name, name)))
		v = v->next;
	return v;
}

bool vol_name_taken(struct pool *p, const char *name)
{
	return find_name(p, name) != NULL;
}

static int not_found(struct err *e, const char *name)
{
	return err_set(e, -ENOENT,
		       "no volume '%s' in this pool; `tarn volume list` shows what there is", name);
}

static int options_check(struct pool *p, const struct vol_options *o, struct err *e)
{
	if (o->type != VOL_TYPE_BLOCK && o->type != VOL_TYPE_FS)
		return err_set(e, -EINVAL, "volume type must be fs or block");
	if (o->copies < 1 || o->copies > COPIES_MAX)
		return err_set(e, -EINVAL, "copies must be 1 to %u", COPIES_MAX);
	if (class_check_copies(p, o->class_name, o->copies, e))
		return -EINVAL;
	if (o->compression > VOL_COMPRESS_LZ4)
		return err_set(e, -EINVAL, "unknown compression");
	if (o->type == VOL_TYPE_BLOCK && (!o->size_bytes || o->size_bytes % BLOCK_SIZE))
		return err_set(e, -EINVAL,
			       "a block volume needs a size that is a multiple of %u bytes",
			       BLOCK_SIZE);
	if (o->size_bytes > VOL_OBJECT_BYTES_MAX)
		return err_set(e, -EFBIG, "size is larger than 8 EiB");
	return 0;
}

static struct vol *vol_new(struct pool *p, const char *name, const struct vol_options *o)
{
	struct vol *v = calloc(1, sizeof *v);

	if (!v)
		return NULL;
	v->p = p;
	v->id = p->next_volume_id++;
	snprintf(v->name, sizeof v->name, "%s", name);
	v->type = o->type;
	v->copies = o->copies;
	v->compression = o->compression;
	v->size_bytes = o->size_bytes;
	v->owner_uid = o->owner_uid;
	v->created_ns = reactor_wall_ns();
	v->next_object = VOL_OBJECT_FIRST;
	/* Unique within the pool by id, across pools by the pool's own uuid. */
	memcpy(v->uuid, p->uuid, 16);
	for (unsigned i = 0; i < 8; i++)
		v->uuid[8 + i] ^= (uint8_t)(v->id >> (8 * i)) ^ (uint8_t)(v->created_ns >> (8 * i));
	RB_INIT(&v->active);
	RB_INIT(&v->flushing);
	btree_init(&v->tree, &txn_btree_ops, p, p->cache, p->uuid, v->id,
		   (struct node_ptr){ADDR_NONE, 0, 0}, 0);
	v->rec_dirty = true;
	return v;
}

int vol_create(struct pool *p, const char *name, const struct vol_options *o, struct err *e)
{
	struct vol *v;
	int rc = name_check(name, e), class;

	if (!rc)
		rc = options_check(p, o, e);
	if (rc)
		return rc;
	rc = txn_enter(p, false);
	if (rc)
		return err_set(e, rc, "create volume %s: %s", name, err_str(rc));
	lock_take(&p->lock);
	class = find_name(p, name) ? -EEXIST : class_enter(p, o->class_name);
	v = class < 0 ? NULL : vol_new(p, name, o);
	if (v) {
		v->class = (uint8_t) class;
		vol_link(p, v);
		vol_changed_locked(v);
	} else {
		rc = class < 0 ? class : -ENOMEM;
	}
	lock_drop(&p->lock);
	txn_leave(p);
	if (rc)
		return err_set(e, rc,
			       rc == -EEXIST   ? "volume '%s' exists already"
			       : rc == -ENOSPC ? "volume '%s': the pool's volumes use " CLASSES_TEXT
						 " classes already"
					       : "volume '%s': out of memory",
			       name);
	rc = txn_commit_wait(p);
	return rc ? err_set(e, rc, "create volume %s: commit: %s", name, err_str(rc)) : 0;
}

int vol_open(struct pool *p, const char *name, struct vol **ret_v, struct err *e)
{
	struct vol *v;

	lock_take(&p->lock);
	v = find_name(p, name);
	if (v)
		v->refs++;
	lock_drop(&p->lock);
	if (!v)
		return not_found(e, name);
	*ret_v = v;
	return 0;
}

static int refuse_snapshot(const struct vol *v, struct err *e)
{
	char name[VOL_NAME_MAX + 1];

	if (!v->origin)
		return 0;
	snap_full_name(v, name);
	return err_set(e, ERR_READONLY,
		       "'%s' is a snapshot: it stays as it is, until `tarn snapshot destroy`",
		       name);
}

int vol_open_to_change(struct pool *p, const char *name, struct vol **ret_v, struct err *e)
{
	int rc = vol_open(p, name, ret_v, e);

	if (!rc && (*ret_v)->origin) {
		rc = refuse_snapshot(*ret_v, e);
		vol_close(*ret_v);
	}
	return rc;
}

void vol_close(struct vol *v)
{
	struct pool *p;

	if (!v)
		return;
	p = v->p;
	lock_take(&p->lock);
	assert(v->refs);
	v->refs--;
	lock_drop(&p->lock);
}

static void info_fill(struct vol *v, struct vol_info *i)
{
	memset(i, 0, sizeof *i);
	i->id = v->id;
	memcpy(i->name, v->name, sizeof i->name);
	i->snapshot = v->origin;
	if (v->origin)
		snap_full_name(v, i->name);
	memcpy(i->uuid, v->uuid, 16);
	i->type = v->type;
	i->compression = v->compression;
	i->copies = v->copies;
	snprintf(i->class_name, sizeof i->class_name, "%s", v->p->classes[v->class]);
	i->converting = v->converting;
	i->damaged = v->damaged;
	i->size_bytes = v->size_bytes;
	i->used_bytes = v->used_blocks * BLOCK_SIZE;
	vol_held_try(v, INFO_LOOKS);
	i->logical_bytes = (vol_held_most(v) - v->reserved_blocks) * BLOCK_SIZE;
	i->reserved_bytes = v->reserved_blocks * BLOCK_SIZE;
	i->reservation_bytes = v->reservation_blocks * BLOCK_SIZE;
	i->delta_bytes = (v->active_blocks + v->flushing_blocks) * BLOCK_SIZE;
	i->available_bytes = space_available_vol(v) * BLOCK_SIZE;
	i->created_ns = v->created_ns;
	i->owner_uid = v->origin ? snap_origin(v)->owner_uid : v->owner_uid;
	i->open = v->refs;
	i->destroying = v->destroying;
}

void vol_info_get(struct vol *v, struct vol_info *ret_i)
{
	lock_take(&v->p->lock);
	info_fill(v, ret_i);
	lock_drop(&v->p->lock);
}

static struct vol *find_id(struct pool *p, uint64_t id)
{
	struct vol *v = p->vols;

	while (v && (v->id != id || v->destroying || v->trashed_ns))
		v = v->next;
	if (v)
		return v;
	for (v = p->snaps; v && (v->id != id || !snap_is_there(v));)
		v = v->next;
	return v;
}

int vol_info_find(struct pool *p, const char *name, uint64_t id, struct vol_info *ret_i)
{
	struct vol *v;

	lock_take(&p->lock);
	v = name ? find_name(p, name) : find_id(p, id);
	if (v)
		info_fill(v, ret_i);
	lock_drop(&p->lock);
	return v ? 0 : -ENOENT;
}

static int cmp_info(const void *a, const void *b)
{
	return strcmp(((const struct vol_info *)a)->name, ((const struct vol_info *)b)->name);
}

unsigned vol_list(struct pool *p, struct vol_info *ret_i, unsigned max)
{
	unsigned n = 0;

	lock_take(&p->lock);
	for (struct vol *v = p->vols; v; v = v->next) {
		if (v->destroying || v->trashed_ns)
			continue;
		if (n < max)
			info_fill(v, &ret_i[n]);
		n++;
	}
	lock_drop(&p->lock);
	if (ret_i)
		qsort(ret_i, n < max ? n : max, sizeof *ret_i, cmp_info);
	return n;
}

/* ---- changes of the record ---- */

struct change {
	const char *to;
	uint64_t size;
	uint32_t uid;
	enum vol_compression comp;
};
typedef int change_fn(struct vol *v, const struct change *c, struct err *e);

static int change_record(struct pool *p, const char *name, change_fn *fn, const struct change *c,
			 struct err *e)
{
	struct vol *v;
	int rc = txn_enter(p, true);

	if (rc)
		return err_set(e, rc, "volume %s: %s", name, err_str(rc));
	lock_take(&p->lock);
	v = find_name(p, name);
	rc = v ? refuse_snapshot(v, e) : not_found(e, name);
	if (!rc)
		rc = fn(v, c, e);
	if (!rc) {
		v->rec_dirty = true;
		v->log_overflow = true;
		v->log_len = 0;
		vol_changed_locked(v);
	}
	lock_drop(&p->lock);
	txn_leave(p);
	if (rc)
		return rc;
	rc = txn_commit_wait(p);
	return rc ? err_set(e, rc, "volume %s: commit: %s", name, err_str(rc)) : 0;
}

static int set_compression(struct vol *v, const struct change *c, struct err *e)
{
	(void)e;
	v->compression = c->comp;
	return 0;
}

int vol_set_compression(struct pool *p, const char *name, enum vol_compression comp, struct err *e)
{
	return change_record(p, name, set_compression, &(struct change){.comp = comp}, e);
}

static int set_owner(struct vol *v, const struct change *c, struct err *e)
{
	(void)e;
	v->owner_uid = c->uid;
	return 0;
}

int vol_set_owner(struct pool *p, const char *name, uint32_t uid, struct err *e)
{
	return change_record(p, name, set_owner, &(struct change){.uid = uid}, e);
}

static int set_reservation(struct vol *v, const struct change *c, struct err *e)
{
	uint64_t was = v->reservation_blocks, want = c->size / BLOCK_SIZE;

	v->reservation_blocks = 0;
	vol_held_try(v, UINT32_MAX);
	if (space_available_vol(v) + vol_held_least(v) < want) {
		v->reservation_blocks = was;
		return err_set(e, -ENOSPC,
			       "the pool cannot guarantee that much: %llu bytes are free with this "
			       "policy%s%s",
			       (unsigned long long)space_available_vol(v) * BLOCK_SIZE,
			       v->class ? " on devices of class " : "", v->p->classes[v->class]);
	}
	v->reservation_blocks = want;
	v->p->any_reservation = true;
	return 0;
}

int vol_set_reservation(struct pool *p, const char *name, uint64_t bytes, struct err *e)
{
	return change_record(p, name, set_reservation, &(struct change){.size = bytes}, e);
}

static int set_name(struct vol *v, const struct change *c, struct err *e)
{
	if (find_name(v->p, c->to))
		return err_set(e, -EEXIST, "volume '%s' exists already", c->to);
	if (v->refs)
		return err_set(e, ERR_IN_USE,
			       "volume '%s' is in use; unmount it or close its image first",
			       v->name);
	if (strlen(c->to) > SNAP_NAME_MAX && snap_any_of(v))
		return err_set(e, -EINVAL,
			       "volume '%s' has snapshots: its name may have %u characters",
			       v->name, SNAP_NAME_MAX);
	memset(v->name, 0, sizeof v->name);
	snprintf(v->name, sizeof v->name, "%s", c->to);
	return 0;
}

int vol_rename(struct pool *p, const char *name, const char *to, struct err *e)
{
	int rc = name_check(to, e);

	return rc ? rc : change_record(p, name, set_name, &(struct change){.to = to}, e);
}

static int set_size(struct vol *v, const struct change *c, struct err *e)
{
	(void)e;
	v->size_bytes = c->size;
	return 0;
}

/* A file system's size is the most data it may hold; 0: no limit. One below what it holds only
 * stops it from growing. */
static int quota_set(struct pool *p, const char *name, uint64_t size_bytes, struct err *e)
{
	if (size_bytes % BLOCK_SIZE || size_bytes > VOL_OBJECT_BYTES_MAX)
		return err_set(e, -EINVAL, "a quota must be a multiple of %u bytes, up to 8 EiB",
			       BLOCK_SIZE);
	return change_record(p, name, set_size, &(struct change){.size = size_bytes}, e);
}

int vol_resize(struct pool *p, const char *name, uint64_t size_bytes, bool allow_shrink,
	       struct err *e)
{
	void (*cb)(void *, uint64_t) = NULL;
	void *cb_arg = NULL;
	struct vol *v;
	uint64_t was;
	int rc = vol_open_to_change(p, name, &v, e);

	if (rc)
		return rc;
	was = v->size_bytes;
	if (v->type == VOL_TYPE_FS) {
		vol_close(v);
		return quota_set(p, name, size_bytes, e);
	}
	if (!size_bytes || size_bytes % BLOCK_SIZE || size_bytes > VOL_OBJECT_BYTES_MAX)
		rc = err_set(e, -EINVAL, "size must be a multiple of %u bytes, up to 8 EiB",
			     BLOCK_SIZE);
	else if (size_bytes < was && !allow_shrink)
		rc = err_set(e, -EBUSY,
			     "shrinking '%s' destroys what lies behind the new end; use --force to "
			     "do it",
			     name);
	/* A shrink cut short by a crash, or a write that raced with it, may have left something
	 * there. */
	if (!rc && size_bytes > was) {
		rc = vol_punch(v, VOL_BLOCK_OBJECT, was, UINT64_MAX - was, NULL, NULL);
		if (rc)
			err_set(e, rc, "clear what lies behind the end of %s: %s", name,
				err_str(rc));
	}
	if (!rc)
		rc = change_record(p, name, set_size, &(struct change){.size = size_bytes}, e);
	if (!rc && size_bytes < was) {
		rc = vol_punch(v, VOL_BLOCK_OBJECT, size_bytes, UINT64_MAX - size_bytes, NULL,
			       NULL);
		if (rc)
			err_set(e, rc, "free what lies behind the end of %s: %s", name,
				err_str(rc));
	}
	lock_take(&p->lock);
	cb = v->resize_cb;
	cb_arg = v->resize_arg;
	lock_drop(&p->lock);
	vol_close(v);
	if (!rc && cb)
		cb(cb_arg, size_bytes);
	return rc;
}

void vol_on_resize(struct vol *v, void (*cb)(void *arg, uint64_t size_bytes), void *arg)
{
	lock_take(&v->p->lock);
	v->resize_cb = cb;
	v->resize_arg = arg;
	lock_drop(&v->p->lock);
}

/* ---- destroy ---- */

static int set_destroying(struct vol *v, const struct change *c, struct err *e)
{
	(void)c;
	if (v->refs)
		return err_set(e, ERR_IN_USE,
			       "volume '%s' is in use; unmount it or close its image first",
			       v->name);
	if (snap_any_of(v))
		return snap_refuse_end(v, e);
	v->destroying = true;
	return 0;
}

int vol_destroy(struct pool *p, const char *name, struct err *e)
{
	int rc = change_record(p, name, set_destroying, &(struct change){0}, e);

	if (!rc) {
		lock_take(&p->lock);
		p->reap_wanted = true;
		lock_drop(&p->lock);
	}
	return rc;
}
