#include "pool/extent.h"
#include <string.h>
#include "pool/chunk.h"
#include "pool/snap.h"
#include "pool/space.h"

#define OLD_MAX 100 /* items one replace can meet: 32 + 2 edges + 2 windows of siblings */

static struct key xkey(uint64_t object, uint64_t lblk)
{
	return (struct key){object, VOL_KEY_EXTENT, lblk};
}

int extent_decode(const struct btree_item *it, struct extent *x)
{
	const struct extent_disk *d = it->value;
	unsigned ncrc;

	if (it->len < sizeof *d || d->version != 1)
		return ERR_FORMAT;
	x->lblk = it->key.offset;
	x->addr.v = le64_get(d->addr);
	x->birth = le64_get(d->birth);
	x->blocks = le16_get(d->blocks);
	x->stored_blocks = le16_get(d->stored_blocks);
	x->skip = le16_get(d->skip);
	x->orig_blocks = le16_get(d->orig_blocks);
	x->stored_bytes = le32_get(d->stored_bytes);
	x->codec = d->codec;
	if (x->lblk >> 51)
		return ERR_FORMAT;
	ncrc = x->codec == EXTENT_RESERVED ? 0 : x->stored_blocks;
	if (!x->blocks || x->lblk + x->blocks > LBLK_END || x->blocks > EXTENT_BLOCKS_MAX ||
	    x->stored_blocks > EXTENT_BLOCKS_MAX || it->len != sizeof *d + ncrc * 4)
		return ERR_FORMAT;
	if (x->codec == EXTENT_RAW &&
	    (x->stored_blocks != x->blocks || x->skip || !addr_chunk(x->addr)))
		return ERR_FORMAT;
	if (x->codec == EXTENT_LZ4 && (!x->stored_blocks || x->skip + x->blocks > x->orig_blocks ||
				       x->orig_blocks > EXTENT_LZ4_BLOCKS_MAX ||
				       x->stored_bytes > x->stored_blocks * BLOCK_SIZE ||
				       x->lblk < x->skip || !addr_chunk(x->addr)))
		return ERR_FORMAT;
	if (x->codec > EXTENT_RESERVED)
		return ERR_FORMAT;
	for (unsigned i = 0; i < ncrc; i++)
		x->crc[i] = le32_get(d->crc[i]);
	return 0;
}

static uint16_t encode(const struct extent *x, uint8_t *buf)
{
	struct extent_disk *d = (struct extent_disk *)buf;
	unsigned ncrc = x->codec == EXTENT_RESERVED ? 0 : x->stored_blocks;

	memset(d, 0, sizeof *d);
	d->addr = le64_of(x->addr.v);
	d->birth = le64_of(x->birth);
	d->blocks = le16_of(x->blocks);
	d->stored_blocks = le16_of(x->stored_blocks);
	d->skip = le16_of(x->skip);
	d->orig_blocks = le16_of(x->orig_blocks);
	d->stored_bytes = le32_of(x->stored_bytes);
	d->codec = x->codec;
	d->version = 1;
	for (unsigned i = 0; i < ncrc; i++)
		d->crc[i] = le32_of(x->crc[i]);
	return (uint16_t)(sizeof *d + ncrc * 4);
}

void extent_to_text(FILE *f, const struct btree_item *it)
{
	static const char *const codec[] = {"raw", "lz4", "reserved"};
	struct extent x;

	if (extent_decode(it, &x)) {
		fprintf(f, "extent: invalid (%u bytes)", it->len);
		return;
	}
	fprintf(f, "extent object %llu block %llu +%u %s", (unsigned long long)it->key.object,
		(unsigned long long)x.lblk, x.blocks, codec[x.codec]);
	if (x.codec != EXTENT_RESERVED)
		fprintf(f, " at %llx +%u birth %llu", (unsigned long long)x.addr.v, x.stored_blocks,
			(unsigned long long)x.birth);
	if (x.codec == EXTENT_LZ4)
		fprintf(f, " skip %u of %u, %u bytes", x.skip, x.orig_blocks, x.stored_bytes);
}

/* First extent that ends behind lblk and starts before end. */
int extent_lookup(struct vol *v, uint64_t object, uint64_t lblk, uint64_t end_lblk,
		  struct extent *x)
{
	struct btree_item it;
	int rc = btree_seek_le(&v->tree, xkey(object, lblk), &it);

	if (!rc && it.key.object == object && it.key.type == VOL_KEY_EXTENT) {
		rc = extent_decode(&it, x);
		if (rc)
			return rc;
		if (x->lblk + x->blocks > lblk)
			return 0;
	} else if (rc && rc != -ENOENT) {
		return rc;
	}
	if (lblk == UINT64_MAX)
		return -ENOENT;
	rc = btree_seek_ge(&v->tree, xkey(object, lblk + 1), &it);
	if (rc)
		return rc;
	if (it.key.object != object || it.key.type != VOL_KEY_EXTENT || it.key.offset >= end_lblk)
		return -ENOENT;
	return extent_decode(&it, x);
}

/* What a replace has found and will do. */
struct old {
	uint64_t lblk;
	struct addr addr;
	uint64_t birth;
	uint16_t blocks, stored, skip;
	uint8_t codec;
	bool lz4_shared;
};
struct plan {
	struct old old[OLD_MAX];
	unsigned count;
	struct extent left, right; /* what remains at the edges; blocks 0: nothing */
	/* The new extent's blocks belong to another one too / to further pieces of this one. */
	bool share, joins;
};

static void keep_left(struct plan *pl, const struct extent *x, uint64_t lblk)
{
	pl->left = *x;
	pl->left.blocks = (uint16_t)(lblk - x->lblk);
	if (x->codec == EXTENT_RAW)
		pl->left.stored_blocks = pl->left.orig_blocks = pl->left.blocks;
}

static void keep_right(struct plan *pl, const struct extent *x, uint64_t end)
{
	uint16_t cut = (uint16_t)(end - x->lblk);

	pl->right = *x;
	pl->right.lblk = end;
	pl->right.blocks = (uint16_t)(x->blocks - cut);
	if (x->codec == EXTENT_RAW) {
		pl->right.addr = addr_add(x->addr, cut);
		pl->right.stored_blocks = pl->right.orig_blocks = pl->right.blocks;
		memmove(pl->right.crc, x->crc + cut, pl->right.blocks * 4u);
	} else if (x->codec == EXTENT_LZ4) {
		pl->right.skip = (uint16_t)(x->skip + cut);
	}
}

/* Is a piece of the compressed extent at addr left outside [lblk, end)? Of the same one: a clone
 * may lie beside it. */
static int lz4_still_used(struct vol *v, uint64_t object, const struct old *o, uint64_t lblk,
			  uint64_t end, bool *ret_used)
{
	uint64_t start = o->lblk - o->skip, from = start, to = from + EXTENT_LZ4_BLOCKS_MAX;
	struct extent x;

	*ret_used = false;
	while (from < to) {
		int rc = extent_lookup(v, object, from, to, &x);

		if (rc == -ENOENT)
			return 0;
		if (rc)
			return rc;
		if (x.codec == EXTENT_LZ4 && addr_eq(x.addr, o->addr) && x.lblk - x.skip == start &&
		    (x.lblk < lblk || x.lblk + x.blocks > end)) {
			*ret_used = true;
			return 0;
		}
		from = x.lblk + x.blocks;
	}
	return 0;
}

static int plan_add(struct plan *pl, const struct extent *x, uint64_t lblk, uint64_t end)
{
	struct old *o = &pl->old[pl->count++];

	*o = (struct old){x->lblk,	    x->addr, x->birth, x->blocks,
			  x->stored_blocks, x->skip, x->codec, false};
	if (x->lblk < lblk)
		keep_left(pl, x, lblk);
	if (x->lblk + x->blocks > end)
		keep_right(pl, x, end);
	return 0;
}

/* Does it name blocks of a data chunk? Nothing else may be freed through it. */
static bool addr_sane(struct pool *p, const struct extent *x)
{
	const struct chunk *c;

	if (x->codec == EXTENT_RESERVED)
		return true;
	c = chunk_find(p, addr_chunk(x->addr));
	return c && c->kind == CHUNK_DATA &&
	       addr_block(x->addr) + x->stored_blocks <= p->chunk_blocks;
}

static int plan_make(struct vol *v, uint64_t object, uint64_t lblk, uint64_t end, struct plan *pl)
{
	uint64_t at = lblk;
	struct extent x;
	int rc;

	pl->count = 0;
	pl->share = pl->joins = false;
	pl->left.blocks = pl->right.blocks = 0;
	while (at < end) {
		rc = extent_lookup(v, object, at, end, &x);
		if (rc == -ENOENT)
			break;
		if (rc)
			return rc;
		if (pl->count == OLD_MAX || !addr_sane(v->p, &x))
			return ERR_FORMAT;
		plan_add(pl, &x, lblk, end);
		at = x.lblk + x.blocks;
	}
	for (unsigned i = 0; i < pl->count; i++) {
		bool used;

		if (pl->old[i].codec != EXTENT_LZ4)
			continue;
		rc = lz4_still_used(v, object, &pl->old[i], lblk, end, &used);
		if (rc)
			return rc;
		pl->old[i].lz4_shared = used;
	}
	return 0;
}

static int plan_prepare(struct vol *v, uint64_t object, const struct plan *pl,
			const struct extent *new_x)
{
	int rc = 0;

	for (unsigned i = 0; !rc && i < pl->count; i++)
		rc = btree_prepare(&v->tree, xkey(object, pl->old[i].lblk));
	if (!rc && pl->right.blocks)
		rc = btree_prepare(&v->tree, xkey(object, pl->right.lblk));
	if (!rc && new_x)
		rc = btree_prepare(&v->tree, xkey(object, new_x->lblk));
	return rc;
}

/* The volume's own reference to these blocks ends; a snapshot may show them still. */
static void let_go(struct vol *v, const struct old *o, struct addr a, uint32_t blocks)
{
	if (snap_shows(&v->tree, o->birth))
		snap_let_go(v->p, v->tree.tree_id, a, blocks, o->birth, false);
	else
		space_free(v->p, a, blocks, false);
	v->used_blocks -= blocks;
}

static void free_old(struct vol *v, struct plan *pl, unsigned i, uint64_t lblk, uint64_t end)
{
	struct old *o = &pl->old[i];
	uint64_t from = o->lblk > lblk ? o->lblk : lblk;
	uint64_t to = o->lblk + o->blocks < end ? o->lblk + o->blocks : end;

	if (o->codec == EXTENT_RESERVED) {
		if (v->reserved_blocks < to - from) {
			pool_fault_locked(v->p, ERR_FORMAT,
					  "a volume reserves less than its extents say");
			return;
		}
		v->reserved_blocks -= to - from;
		space_unadmit(v->p, vol_policy(v), to - from);
		return;
	}
	v->logical_blocks -= to - from;
	if (o->codec == EXTENT_RAW) {
		let_go(v, o, addr_add(o->addr, (uint32_t)(from - o->lblk)), (uint32_t)(to - from));
		return;
	}
	if (o->lz4_shared)
		return;
	/* Pieces of one compressed extent within the range: free with the first. */
	for (unsigned k = 0; k < i; k++)
		if (pl->old[k].codec == EXTENT_LZ4 && addr_eq(pl->old[k].addr, o->addr) &&
		    pl->old[k].lblk - pl->old[k].skip == o->lblk - o->skip)
			return;
	let_go(v, o, o->addr, o->stored);
}

static int put_extent(struct vol *v, uint64_t object, const struct extent *x)
{
	uint8_t buf[sizeof(struct extent_disk) + EXTENT_BLOCKS_MAX * 4];
	uint16_t len = encode(x, buf);

	return btree_put(&v->tree, xkey(object, x->lblk), buf, len);
}

static int plan_apply(struct vol *v, uint64_t object, struct plan *pl, uint64_t lblk, uint64_t end,
		      const struct extent *new_x)
{
	int rc = 0;

	for (unsigned i = 0; i < pl->count; i++)
		free_old(v, pl, i, lblk, end);
	for (unsigned i = 0; !rc && i < pl->count; i++) {
		uint64_t at = pl->old[i].lblk;

		/* What is put again under the same key below need not be removed first. */
		if ((pl->left.blocks && at == pl->left.lblk) || (new_x && at == new_x->lblk))
			continue;
		rc = btree_del(&v->tree, xkey(object, at));
	}
	if (!rc && pl->left.blocks)
		rc = put_extent(v, object, &pl->left);
	if (!rc && pl->right.blocks)
		rc = put_extent(v, object, &pl->right);
	if (!rc && new_x) {
		rc = put_extent(v, object, new_x);
		if (new_x->codec == EXTENT_RESERVED) {
			v->reserved_blocks += new_x->blocks;
		} else {
			v->logical_blocks += new_x->blocks;
			v->used_blocks += pl->joins ? 0 : new_x->stored_blocks;
			if (pl->share && !pl->joins)
				space_ref(v->p, new_x->addr, new_x->stored_blocks);
		}
	}
	v->rec_dirty = true;
	return rc;
}

/* The last `max` extents of a long range: the block from which on they cover it. */
static int step_start(struct vol *v, uint64_t object, uint64_t lblk, uint64_t end,
		      uint64_t *ret_from)
{
	struct btree_item it;
	uint64_t from = end;

	for (unsigned i = 0; i < 32; i++) {
		int rc;

		if (from <= lblk)
			break;
		rc = btree_seek_le(&v->tree, xkey(object, from - 1), &it);
		if (rc == -ENOENT ||
		    (!rc && (it.key.object != object || it.key.type != VOL_KEY_EXTENT))) {
			from = lblk;
			break;
		}
		if (rc)
			return rc;
		from = it.key.offset;
	}
	*ret_from = from > lblk ? from : lblk;
	return 0;
}

/* Which part of the range this step does, and what it meets there; all nodes for it cached. */
static int plan_step(struct vol *v, uint64_t object, uint64_t lblk, uint64_t n,
		     const struct extent *new_x, struct plan *pl, uint64_t *ret_from)
{
	int rc = 0;

	*ret_from = lblk;
	if (!new_x && n > EXTENT_BLOCKS_MAX)
		rc = step_start(v, object, lblk, lblk + n, ret_from);
	if (!rc)
		rc = plan_make(v, object, *ret_from, lblk + n, pl);
	if (!rc)
		rc = plan_prepare(v, object, pl, new_x);
	return rc ? rc : space_free_reserve(v->p, SPACE_FREES_SPARE);
}

int extent_replace_prepare(struct vol *v, uint64_t object, uint64_t lblk, uint64_t n,
			   uint64_t *ret_left)
{
	struct plan pl;
	uint64_t from;
	int rc = plan_step(v, object, lblk, n, NULL, &pl, &from);

	*ret_left = from - lblk;
	return rc;
}

/* As plan_step, for an extent whose blocks are in use already. */
static int plan_share(struct vol *v, uint64_t object, const struct extent *x, struct plan *pl)
{
	struct old o = {.lblk = x->lblk, .addr = x->addr, .skip = x->skip};
	uint64_t from;
	int rc = plan_step(v, object, x->lblk, x->blocks, x, pl, &from);

	pl->share = true;
	if (!rc && x->codec == EXTENT_LZ4)
		rc = lz4_still_used(v, object, &o, x->lblk, x->lblk + x->blocks, &pl->joins);
	return rc;
}

int extent_share_prepare(struct vol *v, uint64_t object, const struct extent *x)
{
	struct plan pl;

	return plan_share(v, object, x, &pl);
}

int extent_share(struct vol *v, uint64_t object, const struct extent *x)
{
	struct plan pl;
	int rc = plan_share(v, object, x, &pl);

	return rc ? rc : plan_apply(v, object, &pl, x->lblk, x->lblk + x->blocks, x);
}

int extent_replace_with(struct vol *v, uint64_t object, uint64_t lblk, uint64_t n,
			const struct extent *new_x, uint64_t *ret_left, vol_fn *fn, void *arg)
{
	struct plan pl;
	uint64_t from;
	int rc = plan_step(v, object, lblk, n, new_x, &pl, &from);

	if (!rc && fn && from == lblk)
		rc = fn(v, arg);
	if (rc)
		return rc;
	rc = plan_apply(v, object, &pl, from, lblk + n, new_x);
	if (rc) {
		pool_fault_locked(v->p, rc, "change an extent: metadata reserve exhausted");
		return ERR_FAULTED;
	}
	if (ret_left)
		*ret_left = from - lblk;
	return 0;
}

int extent_replace(struct vol *v, uint64_t object, uint64_t lblk, uint64_t n,
		   const struct extent *new_x, uint64_t *ret_left)
{
	return extent_replace_with(v, object, lblk, n, new_x, ret_left, NULL, NULL);
}

int extent_count(struct vol *v, uint64_t object, uint64_t lblk, uint64_t n, uint64_t *ret_mapped,
		 uint64_t *ret_reserved)
{
	uint64_t at = lblk, end = lblk + n, mapped = 0, reserved = 0;
	struct extent x;

	while (at < end) {
		int rc = extent_lookup(v, object, at, end, &x);
		uint64_t from, to;

		if (rc == -ENOENT)
			break;
		if (rc)
			return rc;
		from = x.lblk > at ? x.lblk : at;
		to = x.lblk + x.blocks < end ? x.lblk + x.blocks : end;
		if (x.codec == EXTENT_RESERVED)
			reserved += to - from;
		else
			mapped += to - from;
		at = to;
	}
	*ret_mapped = mapped;
	*ret_reserved = reserved;
	return 0;
}

int extent_next(struct vol *v, uint64_t *object, uint64_t lblk, struct extent *x)
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
