/* vol_read: plan under the lock (delta, extents, holes), read without it, verify, repair when
 * needed. */
#include <lz4.h>
#include <string.h>
#include "pool/chunk.h"
#include "pool/data_cache.h"
#include "pool/delta.h"
#include "pool/event.h"
#include "pool/extent.h"
#include "pool/txn.h"
#include "pool/vol_read.h"

enum seg_kind { SEG_ZERO, SEG_BUF, SEG_EXT, SEG_DONE };
struct seg {
	enum seg_kind kind;
	uint64_t lblk;
	uint32_t blocks;
	uint32_t buf;	 /* SEG_BUF: a reference */
	uint32_t io;	 /* SEG_EXT: which read covers it */
	uint8_t *packed; /* SEG_EXT, LZ4: stored form */
	struct extent x;
};
#define SEGS_INLINE	  2
#define READ_MERGE_BLOCKS 256u
struct rplan {
	struct vol *v;
	uint64_t object, lblk, end;
	uint8_t *dst;
	struct seg *segs;
	unsigned count, cap;
	struct seg inl[SEGS_INLINE];
};

static struct seg *seg_add(struct rplan *pl, enum seg_kind kind, uint64_t lblk, uint64_t blocks)
{
	struct seg *s;

	if (pl->count == pl->cap) {
		unsigned cap = pl->cap * 4;
		struct seg *n = malloc(cap * sizeof *n);

		if (!n)
			return NULL;
		memcpy(n, pl->segs, pl->count * sizeof *n);
		if (pl->segs != pl->inl)
			free(pl->segs);
		pl->segs = n;
		pl->cap = cap;
	}
	s = &pl->segs[pl->count++];
	s->kind = kind;
	s->lblk = lblk;
	s->blocks = (uint32_t)blocks;
	s->packed = NULL;
	return s;
}

static void plan_drop_refs(struct rplan *pl)
{
	for (unsigned i = 0; i < pl->count; i++)
		if (pl->segs[i].kind == SEG_BUF)
			dbuf_unref(pl->v->p, pl->segs[i].buf);
	pl->count = 0;
}

/* What lies at `at`, up to `stop` where the delta takes over. */
static int plan_tree(struct rplan *pl, uint64_t at, uint64_t stop, uint64_t *ret_next)
{
	struct extent x;
	struct seg *s;
	int rc = extent_lookup(pl->v, pl->object, at, stop, &x);
	uint64_t to;

	if (rc && rc != -ENOENT)
		return rc;
	if (rc == -ENOENT || x.lblk > at || x.codec == EXTENT_RESERVED) {
		to = rc == -ENOENT ? stop : x.lblk > at ? x.lblk : x.lblk + x.blocks;
		if (to > stop)
			to = stop;
		*ret_next = to;
		return seg_add(pl, SEG_ZERO, at, to - at) ? 0 : -ENOMEM;
	}
	to = x.lblk + x.blocks < stop ? x.lblk + x.blocks : stop;
	s = seg_add(pl, SEG_EXT, at, to - at);
	if (!s)
		return -ENOMEM;
	s->x = x;
	*ret_next = to;
	return 0;
}

static int plan_make(struct rplan *pl)
{
	struct vol *v = pl->v;
	uint64_t at = pl->lblk;

	pl->count = 0;
	while (at < pl->end) {
		uint32_t b = delta_find(v, pl->object, at);
		uint64_t stop = pl->end;
		int rc;

		if (b != DBUF_NONE) {
			struct seg *s = seg_add(pl, SEG_BUF, at, 1);

			if (!s)
				return -ENOMEM;
			s->buf = b;
			dbuf_ref(v->p, b);
			at++;
			continue;
		}
		if (!delta_next(v, pl->object, at, pl->end, &stop))
			stop = pl->end;
		rc = plan_tree(pl, at, stop, &at);
		if (rc)
			return rc;
	}
	return 0;
}

/* Plan until all nodes on the way are cached. Lock held on entry and exit. */
static int plan_locked(struct rplan *pl)
{
	struct vol *v = pl->v;

	for (;;) {
		int rc = plan_make(pl);
		struct node_ptr need = v->tree.need;
		uint8_t level = v->tree.need_level;

		if (!rc)
			return 0;
		plan_drop_refs(pl);
		if (rc != ERR_NEED_NODE)
			return rc;
		lock_drop(&v->p->lock);
		rc = node_read_ptr(v->p, need, v->tree.tree_id, level);
		lock_take(&v->p->lock);
		if (rc)
			return rc;
	}
}

/* ---- verification ---- */

struct verify_arg {
	const struct extent *x;
	unsigned first, n;
};

static int verify_blocks(void *arg, const void *buf)
{
	const struct verify_arg *va = arg;

	for (unsigned i = 0; i < va->n; i++)
		if (crc32c(0, (const uint8_t *)buf + i * BLOCK_SIZE, BLOCK_SIZE) !=
		    va->x->crc[va->first + i])
			return ERR_CSUM;
	return 0;
}

static int verify_or_repair(struct rplan *pl, struct seg *s, struct addr a, unsigned first,
			    unsigned n, void *buf, int io_res)
{
	struct verify_arg va = {&s->x, first, n};
	char what[160];

	if (!io_res && !verify_blocks(&va, buf))
		return 0;
	snprintf(what, sizeof what, "volume %s object %llu offset %llu", pl->v->name,
		 (unsigned long long)pl->object, (unsigned long long)s->lblk * BLOCK_SIZE);
	return chunk_read_verified(pl->v->p, a, n, buf, verify_blocks, &va, what);
}

static int unpack(struct rplan *pl, struct seg *s)
{
	unsigned first = (unsigned)(s->lblk - s->x.lblk) + s->x.skip;
	uint8_t *dst = pl->dst + (s->lblk - pl->lblk) * BLOCK_SIZE, *out = dst;
	bool whole = !first && s->blocks == s->x.orig_blocks;
	int want = (int)(s->x.orig_blocks * BLOCK_SIZE), n;

	if (!whole) {
		out = malloc((size_t)want);
		if (!out)
			return -ENOMEM;
	}
	n = LZ4_decompress_safe((const char *)s->packed, (char *)out, (int)s->x.stored_bytes, want);
	if (!whole) {
		if (n == want)
			memcpy(dst, out + first * BLOCK_SIZE, (size_t)s->blocks * BLOCK_SIZE);
		free(out);
	}
	return n == want ? 0 : ERR_FORMAT;
}

static int finish_seg(struct rplan *pl, struct seg *s, int io_res)
{
	uint8_t *dst = pl->dst + (s->lblk - pl->lblk) * BLOCK_SIZE;
	unsigned first = (unsigned)(s->lblk - s->x.lblk);
	int rc;

	if (s->kind == SEG_DONE)
		return 0;
	if (s->kind == SEG_ZERO) {
		memset(dst, 0, (size_t)s->blocks * BLOCK_SIZE);
		return 0;
	}
	if (s->kind == SEG_BUF) {
		memcpy(dst, dbuf_data(pl->v->p, s->buf), BLOCK_SIZE);
		return 0;
	}
	if (s->x.codec == EXTENT_RAW)
		return verify_or_repair(pl, s, addr_add(s->x.addr, first), first, s->blocks, dst,
					io_res);
	rc = verify_or_repair(pl, s, s->x.addr, 0, s->x.stored_blocks, s->packed, io_res);
	return rc ? rc : unpack(pl, s);
}

/* ---- the cache of small data ---- */

static bool plan_is_short(const struct rplan *pl)
{
	return pl->v->p->data_cache && pl->end - pl->lblk <= DATA_CACHE_READ_MAX;
}

static void seg_from_cache(struct rplan *pl, struct seg *s)
{
	uint8_t *dst = pl->dst + (s->lblk - pl->lblk) * BLOCK_SIZE;
	unsigned first = (unsigned)(s->lblk - s->x.lblk);

	for (unsigned i = 0; i < s->blocks; i++)
		if (!data_cache_get(pl->v->p->data_cache, &s->x, first + i, dst + i * BLOCK_SIZE))
			return;
	s->kind = SEG_DONE;
}

static void seg_to_cache(struct rplan *pl, const struct seg *s)
{
	const uint8_t *src = pl->dst + (s->lblk - pl->lblk) * BLOCK_SIZE;
	unsigned first = (unsigned)(s->lblk - s->x.lblk);

	for (unsigned i = 0; i < s->blocks; i++)
		data_cache_put(pl->v->p->data_cache, &s->x, first + i, src + i * BLOCK_SIZE);
}

/* ---- reading ---- */

/* Start the reads; adjacent raw extents with adjacent targets become one. Returns how many. */
static int start_reads(struct rplan *pl, struct chunk_batch *b, struct chunk_read_io *ios)
{
	unsigned n = 0;

	for (unsigned i = 0; i < pl->count; i++) {
		struct seg *s = &pl->segs[i];
		struct addr a;
		uint32_t blocks = s->blocks;

		if (s->kind != SEG_EXT)
			continue;
		s->io = n;
		if (s->x.codec == EXTENT_LZ4) {
			s->packed =
				aligned_alloc(BLOCK_SIZE, (size_t)s->x.stored_blocks * BLOCK_SIZE);
			if (!s->packed)
				return -ENOMEM;
			chunk_read_start(b, &ios[n++], s->x.addr, s->x.stored_blocks, s->packed);
			continue;
		}
		a = addr_add(s->x.addr, (uint32_t)(s->lblk - s->x.lblk));
		while (i + 1 < pl->count) {
			struct seg *t = &pl->segs[i + 1];

			if (t->kind != SEG_EXT || t->x.codec != EXTENT_RAW ||
			    t->lblk != t->x.lblk || !addr_eq(t->x.addr, addr_add(a, blocks)) ||
			    addr_chunk(t->x.addr) != addr_chunk(a) ||
			    blocks + t->blocks > READ_MERGE_BLOCKS)
				break;
			t->io = n;
			blocks += t->blocks;
			i++;
		}
		chunk_read_start(b, &ios[n++], a, blocks,
				 pl->dst + (s->lblk - pl->lblk) * BLOCK_SIZE);
	}
	return (int)n;
}

static int plan_run(struct rplan *pl)
{
	struct chunk_read_io inl[SEGS_INLINE], *ios = inl;
	struct chunk_batch b;
	int rc = 0, n;

	if (pl->count > SEGS_INLINE) {
		ios = malloc(pl->count * sizeof *ios);
		if (!ios)
			return -ENOMEM;
	}
	for (unsigned i = 0; i < pl->count && plan_is_short(pl); i++)
		if (pl->segs[i].kind == SEG_EXT)
			seg_from_cache(pl, &pl->segs[i]);
	chunk_batch_init(&b, pl->v->p);
	n = start_reads(pl, &b, ios);
	chunk_batch_wait(&b);
	if (n < 0)
		rc = n;
	for (unsigned i = 0; i < pl->count && !rc; i++) {
		struct seg *s = &pl->segs[i];

		rc = finish_seg(pl, s, s->kind == SEG_EXT ? ios[s->io].res : 0);
		if (!rc && s->kind == SEG_EXT && plan_is_short(pl))
			seg_to_cache(pl, s);
	}
	for (unsigned i = 0; i < pl->count; i++)
		free(pl->segs[i].packed);
	if (ios != inl)
		free(ios);
	return rc;
}

int vol_read_blocks(struct vol *v, uint64_t object, uint64_t lblk, uint64_t n, void *dst)
{
	struct rplan pl = {.v = v,
			   .object = object,
			   .lblk = lblk,
			   .end = lblk + n,
			   .dst = dst,
			   .cap = SEGS_INLINE};
	struct pool *p = v->p;
	struct txn *t;
	int rc;

	pl.segs = pl.inl;
	lock_take(&p->lock);
	if (p->faulted) {
		lock_drop(&p->lock);
		return ERR_FAULTED;
	}
	t = txn_read_begin_locked(p);
	rc = plan_locked(&pl);
	lock_drop(&p->lock);
	if (!rc)
		rc = plan_run(&pl);
	lock_take(&p->lock);
	plan_drop_refs(&pl);
	txn_read_end_locked(p, t);
	lock_drop(&p->lock);
	if (pl.segs != pl.inl)
		free(pl.segs);
	return rc;
}

int vol_read(struct vol *v, uint64_t object, uint64_t off, uint64_t len, void *buf)
{
	uint64_t first = off / BLOCK_SIZE, end;
	uint8_t *bounce;
	int rc;

	if (!len)
		return 0;
	if (off > VOL_OBJECT_BYTES_MAX || len > VOL_OBJECT_BYTES_MAX - off)
		return -EFBIG;
	atomic_fetch_add_explicit(&v->p->user_ops, 1, memory_order_relaxed);
	end = (off + len + BLOCK_SIZE - 1) / BLOCK_SIZE;
	if (!(off % BLOCK_SIZE) && !(len % BLOCK_SIZE) && !((uintptr_t)buf % BLOCK_SIZE))
		return vol_read_blocks(v, object, first, end - first, buf);
	bounce = aligned_alloc(BLOCK_SIZE, (size_t)(end - first) * BLOCK_SIZE);
	if (!bounce)
		return -ENOMEM;
	rc = vol_read_blocks(v, object, first, end - first, bounce);
	if (!rc)
		memcpy(buf, bounce + off % BLOCK_SIZE, len);
	free(bounce);
	return rc;
}
