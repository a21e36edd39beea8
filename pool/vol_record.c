#include "pool/vol_record.h"
#include <string.h>
#include "pool/delta.h"
#include "pool/event.h"
#include "pool/sb.h"
#include "pool/txn.h"

struct record {
	uint8_t version, type, compression, copies, flags, level, class, pad;
	uint8_t uuid[16];
	char name[64];
	struct node_ptr_disk root;
	le64 size_bytes, created_ns, next_object, used_blocks, logical_blocks, reserved_blocks;
	le32 owner_uid;
	uint8_t pad2[4];
	le64 trashed_ns, reservation_blocks;
	le64 origin, snap_txn, dead_id;
	struct node_ptr_disk dead;
	uint8_t dead_level, pad3[23];
};
_Static_assert(sizeof(struct record) == VOL_RECORD_BYTES, "volume record");

void vol_record_encode(const struct vol *v, uint8_t *ret_rec)
{
	struct record r = {.version = 1};

	r.type = (uint8_t)v->type;
	r.compression = (uint8_t)v->compression;
	r.copies = v->copies;
	r.class = v->class;
	r.flags = (uint8_t)(v->destroying | v->converting << 1 | v->damaged << 2);
	r.level = v->tree.level;
	memcpy(r.uuid, v->uuid, 16);
	snprintf(r.name, sizeof r.name, "%s", v->name);
	node_ptr_to_disk(&v->tree.root, &r.root);
	r.size_bytes = le64_of(v->size_bytes);
	r.created_ns = le64_of(v->created_ns);
	r.next_object = le64_of(v->next_object);
	r.used_blocks = le64_of(v->used_blocks);
	r.logical_blocks = le64_of(v->logical_blocks);
	r.reserved_blocks = le64_of(v->reserved_blocks);
	r.owner_uid = le32_of(v->owner_uid);
	r.trashed_ns = le64_of(v->trashed_ns);
	r.reservation_blocks = le64_of(v->reservation_blocks);
	r.origin = le64_of(v->origin);
	r.snap_txn = le64_of(v->snap_txn);
	r.dead_id = le64_of(v->dead_id);
	if (v->dead_id)
		node_ptr_to_disk(&v->dead.root, &r.dead);
	r.dead_level = v->dead.level;
	memcpy(ret_rec, &r, sizeof r);
}

static int record_validate(const struct record *r, uint16_t len)
{
	if (len != sizeof *r)
		return ERR_FORMAT;
	if (r->version != 1)
		return ERR_VERSION;
	if ((r->type != VOL_TYPE_BLOCK && r->type != VOL_TYPE_FS) || r->copies < 1 ||
	    r->copies > COPIES_MAX || r->class > CLASSES_MAX || r->compression > VOL_COMPRESS_LZ4 ||
	    r->level > NODE_LEVEL_MAX || r->dead_level > NODE_LEVEL_MAX || !r->name[0] ||
	    !memchr(r->name, 0, sizeof r->name))
		return ERR_FORMAT;
	return 0;
}

int vol_record_decode(struct pool *p, const struct btree_item *it, struct vol **ret_v)
{
	const struct record *r = it->value;
	struct node_ptr root;
	int rc = record_validate(r, it->len);
	struct vol *v;

	if (!rc && r->class && !p->classes[r->class][0])
		rc = ERR_FORMAT;
	if (rc)
		return rc;
	v = calloc(1, sizeof *v);
	if (!v)
		return -ENOMEM;
	v->p = p;
	v->id = it->key.object;
	v->type = r->type;
	v->compression = r->compression;
	v->copies = r->copies;
	v->class = r->class;
	v->destroying = r->flags & 1;
	v->converting = r->flags & 2;
	v->damaged = r->flags & 4;
	memcpy(v->uuid, r->uuid, 16);
	memcpy(v->name, r->name, sizeof v->name);
	v->size_bytes = le64_get(r->size_bytes);
	v->created_ns = le64_get(r->created_ns);
	v->next_object = le64_get(r->next_object);
	v->used_blocks = le64_get(r->used_blocks);
	v->logical_blocks = le64_get(r->logical_blocks);
	v->reserved_blocks = le64_get(r->reserved_blocks);
	v->owner_uid = le32_get(r->owner_uid);
	v->trashed_ns = le64_get(r->trashed_ns);
	v->reservation_blocks = le64_get(r->reservation_blocks);
	node_ptr_from_disk(&r->root, &root);
	RB_INIT(&v->active);
	RB_INIT(&v->flushing);
	v->origin = le64_get(r->origin);
	v->snap_txn = le64_get(r->snap_txn);
	v->dead_id = le64_get(r->dead_id);
	btree_init(&v->tree, &txn_btree_ops, p, p->cache, p->uuid, v->origin ? v->origin : v->id,
		   root, r->level);
	node_ptr_from_disk(&r->dead, &root);
	btree_init(&v->dead, &txn_btree_ops, p, p->cache, p->uuid, v->dead_id, root, r->dead_level);
	*ret_v = v;
	return 0;
}

int vol_record_view(const struct btree_item *it, struct vol_record *ret_r)
{
	const struct record *r = it->value;
	int rc = record_validate(r, it->len);

	if (rc)
		return rc;
	*ret_r = (struct vol_record){
		.id = it->key.object,
		.type = r->type,
		.destroying = r->flags & 1,
		.size_bytes = le64_get(r->size_bytes),
		.logical_blocks = le64_get(r->logical_blocks),
		.created_ns = le64_get(r->created_ns),
		.trashed_ns = le64_get(r->trashed_ns),
		.level = r->level,
		.origin = le64_get(r->origin),
		.snap_txn = le64_get(r->snap_txn),
	};
	memcpy(ret_r->name, r->name, sizeof ret_r->name);
	node_ptr_from_disk(&r->root, &ret_r->root);
	return 0;
}

void vol_record_to_text(FILE *f, const struct btree_item *it)
{
	const struct record *r = it->value;

	if (record_validate(r, it->len)) {
		fprintf(f, "volume: invalid (%u bytes)", it->len);
		return;
	}
	fprintf(f,
		"volume %llu %s %s copies %u class %u%s size %llu used %llu logical %llu reserved "
		"%llu root "
		"%llx level %u%s%s%s",
		(unsigned long long)it->key.object, r->name,
		r->type == VOL_TYPE_FS ? "fs" : "block", r->copies, r->class,
		r->compression ? " lz4" : "", (unsigned long long)le64_get(r->size_bytes),
		(unsigned long long)le64_get(r->used_blocks),
		(unsigned long long)le64_get(r->logical_blocks),
		(unsigned long long)le64_get(r->reserved_blocks),
		(unsigned long long)le64_get(r->root.addr), r->level,
		r->flags & 1		  ? " destroying"
		: le64_get(r->trashed_ns) ? " in trash"
					  : "",
		le64_get(r->origin) ? " snapshot" : "", r->flags & 4 ? " damaged" : "");
}

void vol_freeze_marks(struct pool *p, uint64_t nr)
{
	for (struct vol *v = p->vols; v; v = v->next) {
		if (v->log_len || v->log_overflow || v->flushed_unlogged)
			v->unlogged_txn = nr;
		v->log_len = 0;
		v->log_overflow = v->flushed_unlogged = false;
		v->frozen_seq = v->change_seq;
		v->sole_frozen |= v->sole_open;
		v->sole_open = 0;
	}
}

/* What lies on a failed device alone is not durable, whatever the superblocks say. */
static void note_loss(struct vol *v)
{
	struct pool *p = v->p;

	if ((v->sole_open | v->sole_frozen) & p->failed_devs) {
		v->losses++;
		event_emit_locked(p, "sync-lost",
				  "volume %s: a device failed before it had made data durable of "
				  "which there is no other copy; what was written last may be lost",
				  v->name);
	}
	v->sole_open &= ~p->failed_devs;
	v->sole_frozen = 0;
}

void vol_durable_marks(struct pool *p)
{
	for (struct vol *v = p->vols; v; v = v->next) {
		if (v->synced_seq < v->frozen_seq && v->redo_txn < p->durable_txn)
			v->synced_seq = v->frozen_seq;
		note_loss(v);
	}
	p->failed_devs = 0;
}

void vol_free(struct vol *v)
{
	delta_free_all(v);
	free(v->log);
	free(v);
}

void vol_link(struct pool *p, struct vol *v)
{
	struct vol **pp = v->origin ? &p->snaps : &p->vols;
	struct vol **last = v->origin ? &p->snaps_last : &p->vols_last;

	if (*last && (*last)->id < v->id) /* ids ascend: nearly always */
		pp = &(*last)->next;
	while (*pp && (*pp)->id < v->id)
		pp = &(*pp)->next;
	v->next = *pp;
	*pp = v;
	if (!v->next)
		*last = v;
}

void vol_changed_locked(struct vol *v)
{
	v->change_seq++;
	txn_mark_dirty_locked(v->p);
}
