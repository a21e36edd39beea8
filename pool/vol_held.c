#include "pool/vol_held.h"
#include "pool/delta.h"
#include "pool/extent.h"

static unsigned count(uint32_t blocks)
{
	return (unsigned)__builtin_popcount(blocks);
}

/* Blocks [from, to) of a window. */
static uint32_t mask_of(unsigned from, unsigned to)
{
	return (uint32_t)((1ull << to) - (1ull << from));
}

/* Those of window `win` that lie in [lblk, end). */
static uint32_t mask_in(uint64_t win, uint64_t lblk, uint64_t end)
{
	uint64_t first = win * SEG_BLOCKS, last = first + SEG_BLOCKS;

	if (end <= first || lblk >= last)
		return 0;
	return mask_of(lblk > first ? (unsigned)(lblk - first) : 0,
		       end < last ? (unsigned)(end - first) : SEG_BLOCKS);
}

void vol_held_forget(struct vol *v, struct dseg *s, uint32_t blocks)
{
	v->over_blocks -= count(s->over & blocks);
	v->fresh_blocks -= count(s->fresh & blocks);
	s->over &= ~blocks;
	s->fresh &= ~blocks;
}

void vol_held_entered(struct vol *v, struct dseg *s, uint32_t blocks)
{
	vol_held_forget(v, s, blocks);
	s->over |= blocks & s->present;
	v->over_blocks += count(blocks & s->present);
}

void vol_held_unsure(struct vol *v, uint64_t object, uint64_t lblk, uint64_t n)
{
	for (uint64_t w = lblk / SEG_BLOCKS; w <= (lblk + n - 1) / SEG_BLOCKS; w++) {
		uint32_t blocks = mask_in(w, lblk, lblk + n);
		struct dseg *s = delta_seg(&v->active, object, w);

		if (s)
			vol_held_forget(v, s, blocks);
		for (s = delta_seg(&v->flushing, object, w); s; s = s->older)
			vol_held_forget(v, s, blocks);
	}
}

/* Blocks of the window that the tree counts. */
static int in_tree(struct vol *v, const struct dseg *s, uint32_t *ret_blocks)
{
	uint64_t at = s->win * SEG_BLOCKS, end = at + SEG_BLOCKS;

	*ret_blocks = 0;
	while (at < end) {
		struct extent x;
		int rc = extent_lookup(v, s->object, at, end, &x);

		if (rc)
			return rc == -ENOENT ? 0 : rc;
		at = x.lblk + x.blocks;
		*ret_blocks |= mask_in(s->win, x.lblk, at);
	}
	return 0;
}

/* older: the segments of its window that came before it. */
static int look(struct vol *v, struct dseg *s, const struct dseg *older)
{
	uint32_t unknown = s->present & ~(s->over | s->fresh), over;
	int rc = unknown ? in_tree(v, s, &over) : 0;

	if (rc || !unknown)
		return rc;
	for (; older; older = older->older)
		over |= older->present;
	over &= unknown;
	s->over |= over;
	s->fresh |= unknown & ~over;
	v->over_blocks += count(over);
	v->fresh_blocks += count(unknown & ~over);
	return 0;
}

int vol_held_look(struct vol *v, uint64_t object, uint64_t lblk, uint64_t n)
{
	int rc = 0;

	for (uint64_t w = lblk / SEG_BLOCKS; !rc && w <= (lblk + n - 1) / SEG_BLOCKS; w++) {
		struct dseg *s = delta_seg(&v->active, object, w);

		if (s)
			rc = look(v, s, delta_seg(&v->flushing, object, w));
	}
	return rc;
}

static bool unknown(const struct vol *v)
{
	return v->active_blocks + v->flushing_blocks != v->over_blocks + v->fresh_blocks;
}

/* Stops at the first node that is missing, or skips what needs one. */
static int look_all(struct vol *v, bool skip, unsigned most)
{
	struct dseg *s;
	int rc;

	RB_FOREACH (s, dtree, &v->flushing)
		for (struct dseg *c = s; c; c = c->older) {
			most -= (c->present & ~(c->over | c->fresh)) != 0;
			rc = look(v, c, c->older);
			if ((rc && !skip) || !most)
				return rc;
		}
	RB_FOREACH (s, dtree, &v->active) {
		most -= (s->present & ~(s->over | s->fresh)) != 0;
		rc = look(v, s, delta_seg(&v->flushing, s->object, s->win));
		if ((rc && !skip) || !most)
			return rc;
	}
	return 0;
}

int vol_held_count(struct vol *v)
{
	return unknown(v) ? look_all(v, false, UINT32_MAX) : 0;
}

void vol_held_try(struct vol *v, unsigned segments)
{
	if (unknown(v))
		look_all(v, true, segments);
}
