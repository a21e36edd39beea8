#include "pool/vol_quota.h"
#include "pool/delta.h"
#include "pool/extent.h"
#include "pool/txn.h"

/* Blocks of [from, to), a hole in the tree, that are not dirty. */
static uint64_t clean_blocks(struct vol *v, uint64_t object, uint64_t from, uint64_t to)
{
	uint64_t n = 0;

	for (; from < to; from++)
		n += delta_find(v, object, from) == DBUF_NONE;
	return n;
}

/* Blocks of [lblk, lblk + n) that hold nothing yet. */
static int new_blocks(struct vol *v, uint64_t object, uint64_t lblk, uint64_t n, uint64_t *ret_n)
{
	uint64_t at = lblk, end = lblk + n, fresh = 0;

	while (at < end) {
		struct extent x;
		int rc = extent_lookup(v, object, at, end, &x);

		if (rc && rc != -ENOENT)
			return rc;
		if (rc)
			x.lblk = end;
		if (x.lblk > at)
			fresh += clean_blocks(v, object, at, x.lblk);
		at = rc ? end : x.lblk + x.blocks;
	}
	*ret_n = fresh;
	return 0;
}

int vol_quota_admit(struct vol *v, uint64_t object, uint64_t lblk, uint64_t n)
{
	uint64_t most = v->size_bytes / BLOCK_SIZE, fresh;
	uint64_t has = v->logical_blocks + v->active_blocks + v->flushing_blocks +
		       v->reserved_blocks;
	int rc;

	if (v->type != VOL_TYPE_FS || !v->size_bytes || has + n <= most)
		return 0;
	if (v->commit_only) /* replay: was admitted before the crash */
		return 0;
	rc = new_blocks(v, object, lblk, n, &fresh);
	if (rc)
		return rc;
	return fresh && has + fresh > most ? -EDQUOT : 0;
}
