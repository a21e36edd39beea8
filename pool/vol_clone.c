/* vol_clone: let one range refer to what another refers to (reflink).
 *
 *      look    at the source: extents, short holes        nothing changed; nodes may have to be
 * read share   one step in the gate: up to STEP_PIECES extents are entered in the target's tree, fn
 *              runs, references are queued (refs.h)
 *      copy    what cannot be shared: written like other data
 *
 * Not shared is: what is dirty (it has no place yet; much of it makes the call wait for one commit
 * first), blocks under another policy than the target's, in a chunk that is being emptied, or that
 * start in the middle of a block; and everything while a walk needs to meet all that is in use
 * (resync): a block whose only extent moved behind the walk's back would be missed.
 *
 * A clone is no record of the intent log: the log could not say where the data lies. The next sync
 * of the target makes it durable by a commit.
 */
#include <string.h>
#include "pool/chunk.h"
#include "pool/delta.h"
#include "pool/extent.h"
#include "pool/space.h"
#include "pool/squeeze.h"
#include "pool/txn.h"
#include "pool/vol_quota.h"
#include "pool/vol_record.h"

#define STEP_PIECES 32u
#define COPY_BYTES  ((uint64_t)EXTENT_BLOCKS_MAX * BLOCK_SIZE)

struct side {
	struct vol *v;
	uint64_t object, off; /* bytes; off moves on */
};

struct clone {
	struct side src, dst;
	uint64_t left; /* bytes to do */
	vol_fn *fn;
	void *arg;
	uint64_t *ret_done;
	/* one step */
	struct extent piece[STEP_PIECES]; /* as the target will have them; RESERVED: a hole */
	unsigned pieces;
	uint64_t blocks;      /* of all pieces */
	uint64_t odd, hole;   /* blocks at the start to be copied, or of a long hole */
	struct vol *needs_of; /* whose node is missing */
	uint8_t *buf;
};

static bool overlap(const struct side *a, const struct side *b, uint64_t len)
{
	return a->v == b->v && a->object == b->object && a->off < b->off + len &&
	       b->off < a->off + len;
}

/* ---- looking ---- */

static bool may_share(const struct clone *cl, const struct extent *x)
{
	struct pool *p = cl->dst.v->p;
	const struct chunk *c = chunk_find(p, addr_chunk(x->addr));

	return !p->exact_walks && c && c->kind == CHUNK_DATA &&
	       addr_block(x->addr) + x->stored_blocks <= p->chunk_blocks && !c->draining &&
	       chunk_policy(c) == vol_policy(cl->dst.v) &&
	       (x->codec != EXTENT_LZ4 || x->lblk >= x->skip);
}

/* The part [from, from + n) of x, at block `at` of the target. */
static void part_of(const struct extent *x, uint64_t from, uint64_t n, uint64_t at,
		    struct extent *ret_x)
{
	unsigned cut = (unsigned)(from - x->lblk);

	*ret_x = *x;
	ret_x->lblk = at;
	ret_x->blocks = (uint16_t)n;
	if (x->codec == EXTENT_RAW) {
		ret_x->addr = addr_add(x->addr, cut);
		ret_x->stored_blocks = ret_x->orig_blocks = ret_x->blocks;
		memmove(ret_x->crc, x->crc + cut, n * sizeof x->crc[0]);
	} else if (x->codec == EXTENT_LZ4) {
		ret_x->skip = (uint16_t)(x->skip + cut);
	}
}

/* Add what lies at source block `at`, before end. False: the step ends here. */
static int look_once(struct clone *cl, uint64_t at, uint64_t end, bool *ret_more)
{
	struct vol *v = cl->src.v;
	uint64_t to = cl->dst.off / BLOCK_SIZE + cl->blocks, stop = end, n;
	struct extent x;
	int rc;

	*ret_more = false;
	if (delta_find(v, cl->src.object, at) != DBUF_NONE) {
		while (cl->odd < EXTENT_BLOCKS_MAX && at + cl->odd < end &&
		       delta_find(v, cl->src.object, at + cl->odd) != DBUF_NONE)
			cl->odd++;
		return 0;
	}
	if (!delta_next(v, cl->src.object, at, end, &stop) || stop > end)
		stop = end;
	rc = extent_lookup(v, cl->src.object, at, stop, &x);
	if (rc && rc != -ENOENT)
		return rc;
	if (rc || x.lblk > at || x.codec == EXTENT_RESERVED) {
		n = (rc ? stop : x.lblk > at ? x.lblk : x.lblk + x.blocks) - at;
		n = n > stop - at ? stop - at : n;
		cl->hole = n > EXTENT_BLOCKS_MAX ? n : 0;
		if (cl->hole)
			return 0;
		cl->piece[cl->pieces] = (struct extent){
			.lblk = to, .blocks = (uint16_t)n, .codec = EXTENT_RESERVED};
	} else {
		n = (x.lblk + x.blocks < stop ? x.lblk + x.blocks : stop) - at;
		part_of(&x, at, n, to, &cl->piece[cl->pieces]);
		if (!may_share(cl, &cl->piece[cl->pieces])) {
			cl->odd = n;
			return 0;
		}
	}
	cl->pieces++;
	cl->blocks += n;
	*ret_more = true;
	return 0;
}

/* Fill in a step. odd and hole count only when there is no piece before them. */
static int look(struct clone *cl)
{
	uint64_t first = cl->src.off / BLOCK_SIZE, end = first + cl->left / BLOCK_SIZE;
	bool more = true;

	cl->pieces = 0;
	cl->blocks = cl->odd = cl->hole = 0;
	cl->needs_of = cl->src.v;
	while (more && cl->pieces < STEP_PIECES && first + cl->blocks < end) {
		int rc = look_once(cl, first + cl->blocks, end, &more);

		if (rc == ERR_NEED_NODE && cl->pieces)
			return 0;
		if (rc)
			return rc;
	}
	return 0;
}

/* ---- sharing ---- */

static int prepare(struct clone *cl)
{
	struct vol *v = cl->dst.v;
	int rc = 0;

	cl->needs_of = v;
	for (unsigned i = 0; i < cl->pieces && !rc; i++) {
		const struct extent *x = &cl->piece[i];
		uint64_t left;

		rc = btree_prepare(&v->tree, (struct key){cl->dst.object, VOL_KEY_EXTENT, x->lblk});
		if (!rc)
			rc = x->codec == EXTENT_RESERVED
				     ? extent_replace_prepare(v, cl->dst.object, x->lblk, x->blocks,
							      &left)
				     : extent_share_prepare(v, cl->dst.object, x);
	}
	return rc ? rc : space_free_reserve(v->p, STEP_PIECES * EXTENT_STEP_FREES);
}

/* Near the quota: as little as possible at a time, so that it is exact. */
static int quota(struct clone *cl)
{
	const struct extent *x = cl->piece;
	int rc;

	cl->needs_of = cl->dst.v;
	rc = vol_quota_admit(cl->dst.v, cl->dst.object, x->lblk, cl->blocks);
	if (rc != -EDQUOT)
		return rc;
	cl->pieces = 1;
	cl->blocks = x->blocks;
	return x->codec == EXTENT_RESERVED
		       ? 0
		       : vol_quota_admit(cl->dst.v, cl->dst.object, x->lblk, x->blocks);
}

static int enter(struct clone *cl, const struct extent *x)
{
	struct vol *v = cl->dst.v;
	int rc = x->codec == EXTENT_RESERVED
			 ? extent_replace(v, cl->dst.object, x->lblk, x->blocks, NULL, NULL)
			 : extent_share(v, cl->dst.object, x);

	if (!rc)
		delta_drop(v, cl->dst.object, x->lblk, x->lblk + x->blocks);
	return rc;
}

static int share_locked(struct clone *cl)
{
	struct vol *v = cl->dst.v;
	uint64_t was = *cl->ret_done;
	int rc = v->p->faulted ? ERR_FAULTED : look(cl);

	if (rc || !cl->pieces)
		return rc;
	rc = quota(cl);
	if (!rc)
		rc = prepare(cl);
	if (rc)
		return rc;
	*cl->ret_done = was + cl->blocks * BLOCK_SIZE;
	rc = cl->fn ? cl->fn(v, cl->arg) : 0;
	if (rc) {
		*cl->ret_done = was;
		return rc;
	}
	for (unsigned i = 0; i < cl->pieces && !rc; i++)
		rc = enter(cl, &cl->piece[i]);
	if (rc) /* half of it is done */
		pool_fault_locked(v->p, rc, "clone extents: metadata reserve exhausted");
	v->p->refs_used = true;
	v->log_overflow = true; /* durable with a commit */
	v->log_len = 0;
	vol_changed_locked(v);
	atomic_fetch_add_explicit(&v->p->user_ops, 1, memory_order_relaxed);
	return rc ? ERR_FAULTED : 0;
}

static int share_in_gate(struct clone *cl)
{
	struct pool *p = cl->dst.v->p;
	struct txn *t = txn_read_begin(p);
	int rc;

	for (;;) {
		struct node_ptr need;
		uint64_t id;
		uint8_t level;

		lock_take(&p->lock);
		rc = share_locked(cl);
		need = cl->needs_of->tree.need;
		level = cl->needs_of->tree.need_level;
		id = cl->needs_of->tree.tree_id;
		lock_drop(&p->lock);
		if (rc != ERR_NEED_NODE)
			break;
		rc = node_read_ptr(p, need, id, level);
		if (rc)
			break;
	}
	txn_read_end(p, t);
	return rc;
}

/* One step; blocks 0: there is something else than extents to share. */
static int share(struct clone *cl)
{
	struct pool *p = cl->dst.v->p;
	uint64_t until = 0;
	int rc;

	for (unsigned tries = 0;; tries++) {
		rc = txn_enter(p, false);
		if (rc != -ENOSPC || (tries && !squeeze_wait(p, &until)))
			break;
		/* what was freed becomes usable with the next commit */
		rc = txn_commit_wait(p);
		if (rc)
			break;
	}
	if (rc)
		return rc;
	cl->needs_of = cl->src.v;
	rc = share_in_gate(cl);
	txn_leave(p);
	return rc;
}

/* ---- copying ---- */

static int punch(struct clone *cl, uint64_t len)
{
	int rc;

	*cl->ret_done += len;
	rc = vol_punch(cl->dst.v, cl->dst.object, cl->dst.off, len, cl->fn, cl->arg);
	if (rc)
		*cl->ret_done -= len;
	return rc;
}

static int copy(struct clone *cl, uint64_t len)
{
	int rc;

	if (!cl->buf)
		cl->buf = aligned_alloc(BLOCK_SIZE, COPY_BYTES);
	if (!cl->buf)
		return -ENOMEM;
	rc = vol_read(cl->src.v, cl->src.object, cl->src.off, len, cl->buf);
	if (rc)
		return rc;
	*cl->ret_done += len;
	rc = vol_write(cl->dst.v, cl->dst.object, cl->dst.off, len, cl->buf, cl->fn, cl->arg);
	if (rc)
		*cl->ret_done -= len;
	return rc;
}

/* Blocks do not match: copy up to len bytes, and leave long holes what they are. */
static int copy_bytes(struct clone *cl, uint64_t len)
{
	uint64_t at, hole = 0;
	int rc = vol_seek_data(cl->src.v, cl->src.object, cl->src.off, &at);

	if (rc && rc != -ENXIO)
		return rc;
	if (rc || at > cl->src.off)
		hole = rc || at - cl->src.off > len ? len : at - cl->src.off;
	if (hole >= BLOCK_SIZE)
		return punch(cl, hole);
	return copy(cl, len < COPY_BYTES ? len : COPY_BYTES);
}

/* ---- the whole ---- */

/* One step at the present offsets. */
static int clone_step(struct clone *cl)
{
	uint64_t skew = cl->src.off % BLOCK_SIZE;
	int rc;

	if (skew != cl->dst.off % BLOCK_SIZE)
		return copy_bytes(cl, cl->left);
	if (skew) {
		uint64_t head = BLOCK_SIZE - skew;

		return copy(cl, head < cl->left ? head : cl->left);
	}
	if (cl->left < BLOCK_SIZE)
		return copy(cl, cl->left);
	rc = share(cl);
	if (rc == -EDQUOT) { /* what is dirty on top of data counted twice */
		rc = txn_commit_wait(cl->dst.v->p);
		if (!rc)
			rc = share(cl);
	}
	if (rc || cl->pieces)
		return rc;
	return cl->hole ? punch(cl, cl->hole * BLOCK_SIZE) : copy(cl, cl->odd * BLOCK_SIZE);
}

static bool is_dirty(const struct side *s, uint64_t len)
{
	struct vol *v = s->v;
	uint64_t at;
	bool dirty;

	lock_take(&v->p->lock);
	dirty = delta_next(v, s->object, s->off / BLOCK_SIZE,
			   (s->off + len + BLOCK_SIZE - 1) / BLOCK_SIZE, &at);
	lock_drop(&v->p->lock);
	return dirty;
}

int vol_clone_range(struct vol *src, uint64_t src_object, uint64_t src_off, struct vol *dst,
		    uint64_t dst_object, uint64_t dst_off, uint64_t len, vol_fn *fn, void *arg,
		    uint64_t *ret_done)
{
	struct clone *cl;
	int rc = 0;

	*ret_done = 0;
	if (src_off > VOL_OBJECT_BYTES_MAX || len > VOL_OBJECT_BYTES_MAX - src_off ||
	    dst_off > VOL_OBJECT_BYTES_MAX || len > VOL_OBJECT_BYTES_MAX - dst_off)
		return -EFBIG;
	cl = calloc(1, sizeof *cl);
	if (!cl)
		return -ENOMEM;
	*cl = (struct clone){.src = {src, src_object, src_off},
			     .dst = {dst, dst_object, dst_off},
			     .left = len,
			     .fn = fn,
			     .arg = arg,
			     .ret_done = ret_done};
	if (dst->origin)
		rc = ERR_READONLY;
	else if (src->p != dst->p || overlap(&cl->src, &cl->dst, len))
		rc = -EINVAL;
	else if (len >= COPY_BYTES && is_dirty(&cl->src, len))
		rc = txn_commit_wait(src->p);
	while (!rc && cl->left) {
		uint64_t before = *ret_done;

		rc = clone_step(cl);
		before = *ret_done - before;
		cl->src.off += before;
		cl->dst.off += before;
		cl->left -= before;
	}
	free(cl->buf);
	free(cl);
	return rc == -EDQUOT ? -ENOSPC : rc;
}
