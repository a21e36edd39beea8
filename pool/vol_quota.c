#include "pool/vol_quota.h"
#include "pool/delta.h"
#include "pool/extent.h"
#include "pool/txn.h"
#include "pool/vol_held.h"

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

static uint64_t quota_blocks(const struct vol *v)
{
	return v->type == VOL_TYPE_FS ? v->size_bytes / BLOCK_SIZE : 0;
}

bool vol_quota_near(const struct vol *v)
{
	uint64_t most = quota_blocks(v);

	return most && vol_held_most(v) + v->p->arena.count > most;
}

int vol_quota_admit(struct vol *v, uint64_t object, uint64_t lblk, uint64_t n)
{
	uint64_t most = quota_blocks(v), fresh;
	int rc;

	if (!most || (vol_held_most(v) + n <= most && !vol_quota_near(v)))
		return 0;
	if (v->commit_only) /* replay: was admitted before the crash */
		return 0;
	rc = new_blocks(v, object, lblk, n, &fresh);
	if (rc || !fresh || vol_held_most(v) + fresh <= most)
		return rc;
	rc = vol_held_count(v);
	if (rc)
		return rc;
	return vol_held_most(v) + fresh > most ? -EDQUOT : 0;
}
