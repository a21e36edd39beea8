#include "pool/vol_damage.h"
#include "pool/event.h"
#include "pool/extent.h"
#include "pool/txn.h"

bool vol_damage_is(int rc)
{
	switch (rc) {
	case ERR_CSUM:
	case ERR_MAGIC:
	case ERR_ADDR:
	case ERR_STALE:
	case ERR_POOL_ID:
	case ERR_VERSION:
	case ERR_FORMAT:
	case -EIO:
		return true;
	default:
		return false;
	}
}

void vol_damage_note(struct pool *p, uint64_t tree_id, int rc)
{
	struct vol *v = p->vols;

	if (tree_id < TREE_VOLUME_FIRST)
		return;
	while (v && v->id != tree_id)
		v = v->next;
	if (!v || v->destroying)
		return;
	v->damage_seen = true;
	if (v->damaged)
		return;
	v->damaged = v->rec_dirty = true;
	if (!p->read_only)
		txn_mark_dirty_locked(p);
	event_emit_locked(p, "volume-damaged",
			  "volume %s is damaged: %s: I/O to a part of it fails; save the rest, see "
			  "`tarn pool check`, `tarn rescue`, clones, trash, then destroy it",
			  v->name, err_str(rc));
}

int vol_damage_look(struct vol *v, uint64_t object, uint64_t lblk, uint64_t n)
{
	int rc = 0;

	for (uint64_t at = lblk; !rc && at < lblk + n;) {
		uint64_t end = at / SEG_BLOCKS * SEG_BLOCKS + SEG_BLOCKS, left;

		if (end > lblk + n)
			end = lblk + n;
		rc = extent_replace_prepare(v, object, at, end - at, &left);
		if (!rc)
			rc = btree_prepare(&v->tree, (struct key){object, VOL_KEY_EXTENT, at});
		at = end;
	}
	return rc;
}

void vol_damage_lost(struct vol *v, unsigned blocks)
{
	v->losses++;
	event_emit_locked(v->p, "write-lost",
			  "volume %s: %llu bytes that had been written into the damaged part of "
			  "it are lost",
			  v->name, (unsigned long long)blocks * BLOCK_SIZE);
}

void vol_damage_scrub_begin(struct pool *p)
{
	for (struct vol *v = p->vols; v; v = v->next)
		v->damage_seen = false;
}

void vol_damage_scrub_end(struct pool *p)
{
	for (struct vol *v = p->vols; v; v = v->next) {
		if (!v->damaged || v->damage_seen || v->destroying)
			continue;
		v->damaged = false;
		v->rec_dirty = true;
		txn_mark_dirty_locked(p);
		event_emit_locked(p, "volume-whole", "volume %s: all of its tree can be read again",
				  v->name);
	}
}
