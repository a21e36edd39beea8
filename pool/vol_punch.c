/* vol_punch: deallocating, reserving and finding data. */
#include <string.h>
#include "pool/chunk.h"
#include "pool/delta.h"
#include "pool/extent.h"
#include "pool/ilog.h"
#include "pool/space.h"
#include "pool/squeeze.h"
#include "pool/txn.h"
#include "pool/vol_quota.h"
#include "pool/vol_record.h"

/* ---- punch ---- */

struct punch {
	uint64_t object, lblk, end; /* end moves down to lblk */
	vol_fn *fn;
	void *arg;
	bool hole_done;
};

/* fn comes in the last step, when nothing can stop the rest any more: if it fails the step did
 * nothing. */
static int punch_step(struct vol *v, void *arg)
{
	struct punch *pu = arg;
	uint64_t n = pu->end - pu->lblk, left;
	le64 blocks;
	int rc;

	if (pu->hole_done)
		return pu->fn ? pu->fn(v, pu->arg) : 0;
	rc = extent_replace_with(v, pu->object, pu->lblk, n, NULL, &left, pu->fn, pu->arg);
	if (rc)
		return rc;
	delta_drop(v, pu->object, pu->lblk + left, pu->end);
	blocks = le64_of(n - left);
	ilog_record(v, ILOG_TRIM, (struct key){pu->object, 0, pu->lblk + left}, &blocks, 8);
	vol_changed_locked(v);
	pu->end = pu->lblk + left;
	pu->hole_done = !left;
	return 0;
}

static int punch_blocks(struct vol *v, struct punch *pu)
{
	int rc;

	do {
		rc = vol_change(v, true, punch_step, pu);
	} while (!rc && !pu->hole_done);
	return rc;
}

struct mapped_arg {
	uint64_t object, lblk;
	bool mapped;
};

static int is_mapped(struct vol *v, void *arg)
{
	struct mapped_arg *m = arg;
	struct extent x;
	int rc;

	m->mapped = delta_find(v, m->object, m->lblk) != DBUF_NONE;
	if (m->mapped)
		return 0;
	rc = extent_lookup(v, m->object, m->lblk, m->lblk + 1, &x);
	if (rc == -ENOENT)
		return 0;
	if (!rc)
		m->mapped = x.lblk <= m->lblk && x.codec != EXTENT_RESERVED;
	return rc;
}

/* Zero [from, to) within one block, unless it is a hole already. */
static int zero_edge(struct vol *v, uint64_t object, uint64_t from, uint64_t to)
{
	static const uint8_t zero[BLOCK_SIZE];
	struct mapped_arg m = {object, from / BLOCK_SIZE, false};
	int rc;

	if (from >= to)
		return 0;
	rc = vol_query(v, is_mapped, &m);
	if (rc || !m.mapped)
		return rc;
	return vol_write(v, object, from, to - from, zero, NULL, NULL);
}

static int zero_edges(struct vol *v, uint64_t object, uint64_t off, uint64_t end, uint64_t first,
		      uint64_t last)
{
	int rc;

	if (first > last) /* within one block */
		return zero_edge(v, object, off, end);
	rc = zero_edge(v, object, off, first * BLOCK_SIZE);
	if (!rc && last != LBLK_END)
		rc = zero_edge(v, object, last * BLOCK_SIZE, end);
	return rc;
}

int vol_punch(struct vol *v, uint64_t object, uint64_t off, uint64_t len, vol_fn *fn, void *arg)
{
	uint64_t end = len > UINT64_MAX - off ? UINT64_MAX : off + len;
	uint64_t first = off / BLOCK_SIZE + (off % BLOCK_SIZE != 0), last = end / BLOCK_SIZE;
	struct punch pu = {.object = object, .fn = fn, .arg = arg};
	int rc;

	if (off > VOL_OBJECT_BYTES_MAX)
		return fn ? vol_change(v, true, fn, arg) : 0;
	if (last > LBLK_END)
		last = LBLK_END;
	pu.lblk = first;
	pu.end = last > first ? last : first;
	pu.hole_done = pu.end == first;
	rc = len ? zero_edges(v, object, off, end, first, last) : 0;
	if (rc == -ENOSPC && !pu.hole_done) {
		/* Full: free the middle first, that makes room for the edges. */
		struct punch middle = pu;

		middle.fn = NULL;
		rc = punch_blocks(v, &middle);
		if (!rc)
			rc = txn_commit_wait(v->p);
		if (!rc)
			rc = zero_edges(v, object, off, end, first, last);
		pu.hole_done = true;
	}
	if (rc || (pu.hole_done && !fn))
		return rc;
	return punch_blocks(v, &pu);
}

/* ---- reserve (fallocate) ---- */

struct reserve {
	uint64_t object, lblk, end;
	vol_fn *fn;
	void *arg;
	bool done;
};

/* First run of unmapped, undirty blocks in [lblk, end): 0 and its bounds, or -ENOENT. */
static int next_hole(struct vol *v, struct reserve *r, uint64_t *ret_from, uint64_t *ret_to)
{
	uint64_t at = r->lblk;

	while (at < r->end) {
		struct extent x;
		uint64_t stop = r->end;
		int rc;

		if (delta_find(v, r->object, at) != DBUF_NONE) {
			at++;
			continue;
		}
		if (!delta_next(v, r->object, at, r->end, &stop))
			stop = r->end;
		rc = extent_lookup(v, r->object, at, stop, &x);
		if (rc && rc != -ENOENT)
			return rc;
		if (!rc && x.lblk <= at) {
			at = x.lblk + x.blocks;
			continue;
		}
		*ret_from = at;
		*ret_to = !rc && x.lblk < stop ? x.lblk : stop;
		return 0;
	}
	return -ENOENT;
}

static int reserve_step(struct vol *v, void *arg)
{
	struct reserve *r = arg;
	struct extent x = {.codec = EXTENT_RESERVED};
	uint64_t from, to;
	int rc = next_hole(v, r, &from, &to);

	if (rc == -ENOENT) {
		r->lblk = r->end;
		r->done = true;
		return r->fn ? r->fn(v, r->arg) : 0;
	}
	if (rc)
		return rc;
	if (to - from > EXTENT_BLOCKS_MAX)
		to = from + EXTENT_BLOCKS_MAX;
	rc = vol_quota_admit(v, r->object, from, to - from);
	if (!rc)
		rc = space_admit_vol(v, to - from);
	if (rc)
		return rc;
	x.lblk = from;
	x.blocks = (uint16_t)(to - from);
	x.birth = v->p->open->nr;
	rc = extent_replace(v, r->object, from, x.blocks, &x, NULL);
	if (rc) {
		space_unadmit(v->p, vol_policy(v), to - from);
		return rc;
	}
	v->log_overflow = true; /* reservations are durable with a commit */
	v->log_len = 0;
	vol_changed_locked(v);
	r->lblk = to;
	return 0;
}

int vol_reserve(struct vol *v, uint64_t object, uint64_t off, uint64_t len, vol_fn *fn, void *arg)
{
	struct reserve r = {.object = object, .lblk = off / BLOCK_SIZE, .fn = fn, .arg = arg};
	bool retried = false;
	uint64_t until = 0;
	int rc;

	if (off > VOL_OBJECT_BYTES_MAX || len > VOL_OBJECT_BYTES_MAX - off)
		return -EFBIG;
	r.end = (off + len + BLOCK_SIZE - 1) / BLOCK_SIZE;
	do {
		rc = vol_change(v, false, reserve_step, &r);
		if (((rc == -ENOSPC || rc == -EDQUOT) && !retried) ||
		    (rc == -ENOSPC && squeeze_wait(v->p, &until))) {
			retried = true;
			rc = txn_commit_wait(v->p);
		}
	} while (!rc && !r.done);
	return rc == -EDQUOT ? -ENOSPC : rc;
}

/* ---- seek ---- */

struct seek {
	uint64_t object, at;
	unsigned steps;
	bool found;
};

static int seek_data_step(struct vol *v, void *arg)
{
	struct seek *s = arg;

	for (s->steps = 0; s->steps < 64; s->steps++) {
		struct extent x;
		uint64_t d = LBLK_END;
		int rc;

		if (!delta_next(v, s->object, s->at, LBLK_END, &d))
			d = LBLK_END;
		if (d == s->at) {
			s->found = true;
			return 0;
		}
		rc = extent_lookup(v, s->object, s->at, d, &x);
		if (rc && rc != -ENOENT)
			return rc;
		if (rc == -ENOENT) {
			s->at = d;
			s->found = d != LBLK_END;
			return s->found ? 0 : -ENXIO;
		}
		if (x.codec != EXTENT_RESERVED) {
			s->at = x.lblk > s->at ? x.lblk : s->at;
			s->found = true;
			return 0;
		}
		/* Dirty blocks on top of a reservation are data. */
		s->at = x.lblk + x.blocks < d ? x.lblk + x.blocks : d;
	}
	return 0;
}

static int seek_hole_step(struct vol *v, void *arg)
{
	struct seek *s = arg;

	for (s->steps = 0; s->steps < 64; s->steps++) {
		struct extent x;
		int rc;

		if (delta_find(v, s->object, s->at) != DBUF_NONE) {
			s->at++;
			continue;
		}
		rc = extent_lookup(v, s->object, s->at, s->at + 1, &x);
		if (rc && rc != -ENOENT)
			return rc;
		if (rc == -ENOENT || x.lblk > s->at || x.codec == EXTENT_RESERVED) {
			s->found = true;
			return 0;
		}
		s->at = x.lblk + x.blocks;
		/* What the delta overlays is data too: no need to look inside. */
	}
	return 0;
}

static int seek(struct vol *v, uint64_t object, uint64_t off, vol_fn *fn, uint64_t *ret_off)
{
	struct seek s = {.object = object, .at = off / BLOCK_SIZE};

	if (off > VOL_OBJECT_BYTES_MAX)
		return -ENXIO;
	do {
		int rc = vol_query(v, fn, &s);

		if (rc)
			return rc;
	} while (!s.found);
	*ret_off = s.at * BLOCK_SIZE > off ? s.at * BLOCK_SIZE : off;
	return 0;
}

int vol_seek_data(struct vol *v, uint64_t object, uint64_t off, uint64_t *ret_off)
{
	return seek(v, object, off, seek_data_step, ret_off);
}

int vol_seek_hole(struct vol *v, uint64_t object, uint64_t off, uint64_t *ret_off)
{
	return seek(v, object, off, seek_hole_step, ret_off);
}

/* ---- allocated bytes ---- */

struct count {
	uint64_t object, at, blocks, extents;
	bool done;
};

static uint64_t dirty_blocks(struct vol *v, uint64_t object, uint64_t from, uint64_t to)
{
	uint64_t n = 0, at = from;

	while (at < to && delta_next(v, object, at, to, &at)) {
		n++;
		at++;
	}
	return n;
}

static int count_step(struct vol *v, void *arg)
{
	struct count *c = arg;

	for (unsigned i = 0; i < 128; i++) {
		struct extent x;
		uint64_t from;
		int rc = extent_lookup(v, c->object, c->at, LBLK_END, &x);

		if (rc == -ENOENT) {
			c->blocks += dirty_blocks(v, c->object, c->at, LBLK_END);
			c->done = true;
			return 0;
		}
		if (rc)
			return rc;
		from = x.lblk > c->at ? x.lblk : c->at;
		c->blocks += dirty_blocks(v, c->object, c->at, from) + (x.lblk + x.blocks - from);
		c->at = x.lblk + x.blocks;
		c->extents++;
	}
	return 0;
}

int vol_object_bytes(struct vol *v, uint64_t object, uint64_t *ret_bytes, uint64_t *ret_extents)
{
	struct count c = {.object = object};
	int rc;

	do {
		rc = vol_query(v, count_step, &c);
	} while (!rc && !c.done);
	*ret_bytes = c.blocks * BLOCK_SIZE;
	*ret_extents = c.extents;
	return rc;
}
