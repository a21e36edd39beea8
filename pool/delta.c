#include "pool/delta.h"
#include <string.h>
#include <sys/mman.h>
#include "pool/flush.h"
#include "pool/space.h"
#include "pool/txn.h"
#include "pool/vol_held.h"

RB_GENERATE(dtree, dseg, rb, dseg_cmp)

/* ---- arena ---- */

int arena_init(struct pool *p, uint64_t bytes)
{
	struct arena *a = &p->arena;

	a->count = (uint32_t)(bytes / BLOCK_SIZE);
	a->mem = mmap(NULL, (size_t)a->count * BLOCK_SIZE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (a->mem == MAP_FAILED) {
		a->mem = NULL;
		return -ENOMEM;
	}
	madvise(a->mem, (size_t)a->count * BLOCK_SIZE, MADV_HUGEPAGE); /* fewer pages to pin */
	a->bufs = calloc(a->count, sizeof *a->bufs);
	a->free_bits = calloc((a->count + 63) / 64, sizeof *a->free_bits);
	if (!a->bufs || !a->free_bits)
		return -ENOMEM;
	for (uint32_t i = 0; i < a->count; i++)
		a->free_bits[i / 64] |= 1ull << i % 64;
	return 0;
}

void arena_fini(struct pool *p)
{
	if (p->arena.mem)
		munmap(p->arena.mem, (size_t)p->arena.count * BLOCK_SIZE);
	free(p->arena.bufs);
	free(p->arena.free_bits);
	p->arena = (struct arena){0};
}

/* The lowest free ones, in order: what is written together lies together, so that it goes to the
 * devices in few pieces, and no more of the arena is touched than was ever needed at once. */
bool dbuf_get(struct pool *p, uint32_t *ret_bufs, unsigned n)
{
	struct arena *a = &p->arena;

	if (a->count - a->used < n)
		return false;
	for (unsigned i = 0; i < n; i++) {
		uint32_t b;

		while (!a->free_bits[a->first_free / 64])
			a->first_free += 64;
		b = a->first_free / 64 * 64 +
		    (uint32_t)__builtin_ctzll(a->free_bits[a->first_free / 64]);
		a->free_bits[b / 64] &= ~(1ull << b % 64);
		a->bufs[b].ref = 1;
		ret_bufs[i] = b;
	}
	a->used += n;
	return true;
}

void dbuf_ref(struct pool *p, uint32_t b)
{
	p->arena.bufs[b].ref++;
}

void dbuf_unref(struct pool *p, uint32_t b)
{
	struct arena *a = &p->arena;

	assert(a->bufs[b].ref);
	if (--a->bufs[b].ref)
		return;
	a->free_bits[b / 64] |= 1ull << b % 64;
	if (b < a->first_free)
		a->first_free = b;
	a->used--;
	if (!waitq_empty(&a->waiters) && a->used < a->count - a->count / 8)
		waitq_wake_all(&a->waiters);
}

/* Delay grows with the cube of how far the arena is filled beyond one half: none at half, 0.1 ms at
 * three quarters, 2 ms near the end: the flusher's pace is felt before the wall is met. */
static uint64_t delay_ns(const struct arena *a)
{
	uint64_t half = a->count / 2, over, x;

	if (a->used <= half)
		return 0;
	over = (uint64_t)(a->used - half) * 1024 / (half ? half : 1);
	x = over * over / 1024 * over / 1024;
	return x * 800000 / 1024;
}

int delta_throttle(struct pool *p, unsigned n)
{
	struct arena *a = &p->arena;
	uint64_t delay;
	int rc = 0;

	lock_take(&p->lock);
	if (a->used > a->count / 4)
		flush_request_locked(p);
	delay = delay_ns(a);
	while (!p->faulted && a->count - a->used < n + a->count / 16) {
		flush_request_locked(p);
		waitq_wait(&a->waiters, &p->lock);
		delay = 0;
	}
	if (p->faulted)
		rc = ERR_FAULTED;
	lock_drop(&p->lock);
	if (delay > 20000 && !rc)
		co_sleep_ns(delay);
	return rc;
}

/* ---- segments ---- */

struct dseg *delta_seg(struct dtree *t, uint64_t object, uint64_t win)
{
	struct dseg k = {.object = object, .win = win};

	return RB_FIND(dtree, t, &k);
}

struct dseg *delta_seg_ge(struct dtree *t, uint64_t object, uint64_t win)
{
	struct dseg k = {.object = object, .win = win};

	return RB_NFIND(dtree, t, &k);
}

uint32_t delta_find(struct vol *v, uint64_t object, uint64_t lblk)
{
	uint64_t win = lblk / SEG_BLOCKS;
	unsigned i = lblk % SEG_BLOCKS;
	struct dseg *s;

	if (v->active_blocks) {
		s = delta_seg(&v->active, object, win);
		if (s && s->present & 1u << i)
			return s->buf[i];
	}
	if (v->flushing_blocks)
		for (s = delta_seg(&v->flushing, object, win); s; s = s->older)
			if (s->present & 1u << i)
				return s->buf[i];
	return DBUF_NONE;
}

static bool tree_next(struct dtree *t, uint64_t object, uint64_t lblk, uint64_t end, uint64_t *ret)
{
	struct dseg *s = delta_seg_ge(t, object, lblk / SEG_BLOCKS);

	for (; s && s->object == object && s->win * SEG_BLOCKS < end; s = RB_NEXT(dtree, t, s)) {
		uint32_t mask = 0;
		uint64_t at;

		for (struct dseg *c = s; c; c = c->older)
			mask |= c->present;
		if (s->win == lblk / SEG_BLOCKS)
			mask &= ~0u << (lblk % SEG_BLOCKS);
		if (!mask)
			continue;
		at = s->win * SEG_BLOCKS + (unsigned)__builtin_ctz(mask);
		if (at >= end)
			return false;
		*ret = at;
		return true;
	}
	return false;
}

bool delta_next(struct vol *v, uint64_t object, uint64_t lblk, uint64_t end, uint64_t *ret_lblk)
{
	uint64_t a = UINT64_MAX, f = UINT64_MAX;

	if (v->active_blocks)
		tree_next(&v->active, object, lblk, end, &a);
	if (v->flushing_blocks)
		tree_next(&v->flushing, object, lblk, end, &f);
	*ret_lblk = a < f ? a : f;
	return *ret_lblk != UINT64_MAX;
}

int delta_prepare(struct vol *v, uint64_t object, uint64_t lblk, uint64_t n)
{
	for (uint64_t w = lblk / SEG_BLOCKS; w <= (lblk + n - 1) / SEG_BLOCKS; w++) {
		struct dseg *s = delta_seg(&v->active, object, w);

		if (s)
			continue;
		s = malloc(sizeof *s);
		if (!s)
			return -ENOMEM;
		s->object = object;
		s->win = w;
		s->present = s->unlogged = s->over = s->fresh = 0;
		s->older = NULL;
		s->entered = false;
		RB_INSERT(dtree, &v->active, s);
	}
	return 0;
}

void delta_put(struct vol *v, uint64_t object, uint64_t lblk, uint32_t buf)
{
	struct dseg *s = delta_seg(&v->active, object, lblk / SEG_BLOCKS);
	unsigned i = lblk % SEG_BLOCKS;

	if (s->present & 1u << i) {
		dbuf_unref(v->p, s->buf[i]);
		space_unadmit(v->p, vol_policy(v), 1);
	} else {
		s->present |= 1u << i;
		v->active_blocks++;
	}
	if (!(s->unlogged & 1u << i)) {
		s->unlogged |= 1u << i;
		v->unlogged_blocks++;
	}
	s->buf[i] = buf;
}

void delta_put_logged(struct vol *v, uint64_t object, uint64_t lblk, uint32_t buf)
{
	struct dseg *s = delta_seg(&v->active, object, lblk / SEG_BLOCKS);
	uint32_t bit = 1u << lblk % SEG_BLOCKS;
	bool was = s->unlogged & bit;

	delta_put(v, object, lblk, buf);
	if (!was) {
		s->unlogged &= ~bit;
		v->unlogged_blocks--;
	}
}

void flush_request_if_full(struct pool *p)
{
	if (p->arena.used > p->arena.count / 4)
		flush_request_locked(p);
}

static void drop_in_seg(struct vol *v, struct dseg *s, bool active, uint64_t lblk, uint64_t end)
{
	for (unsigned i = 0; i < SEG_BLOCKS; i++) {
		uint64_t at = s->win * SEG_BLOCKS + i;

		if (!(s->present & 1u << i) || at < lblk || at >= end)
			continue;
		s->present &= ~(1u << i);
		vol_held_forget(v, s, 1u << i);
		dbuf_unref(v->p, s->buf[i]);
		if (!active) { /* the flush job holds the admission */
			v->flushing_blocks--;
			continue;
		}
		v->active_blocks--;
		space_unadmit(v->p, vol_policy(v), 1);
		if (s->unlogged & 1u << i) {
			s->unlogged &= ~(1u << i);
			v->unlogged_blocks--;
		}
	}
}

static void drop_in_tree(struct vol *v, struct dtree *t, bool active, uint64_t object,
			 uint64_t lblk, uint64_t end)
{
	struct dseg *s = delta_seg_ge(t, object, lblk / SEG_BLOCKS), *next;

	for (; s && s->object == object && s->win * SEG_BLOCKS < end; s = next) {
		next = RB_NEXT(dtree, t, s);
		for (struct dseg *c = s; c; c = c->older)
			drop_in_seg(v, c, active, lblk, end);
		if (active && !s->present) {
			RB_REMOVE(dtree, t, s);
			free(s);
		}
	}
}

void delta_drop(struct vol *v, uint64_t object, uint64_t lblk, uint64_t end)
{
	drop_in_tree(v, &v->active, true, object, lblk, end);
	drop_in_tree(v, &v->flushing, false, object, lblk, end);
}

void delta_flush_begin(struct vol *v, struct dseg *s)
{
	struct dseg *head;

	RB_REMOVE(dtree, &v->active, s);
	head = delta_seg(&v->flushing, s->object, s->win);
	if (head)
		RB_REMOVE(dtree, &v->flushing, head);
	/* What is superseded must not come up again should the newer write be done first. */
	for (struct dseg *c = head; c; c = c->older)
		for (unsigned i = 0; i < SEG_BLOCKS; i++)
			if (c->present & s->present & 1u << i) {
				c->present &= ~(1u << i);
				vol_held_forget(v, c, 1u << i);
				dbuf_unref(v->p, c->buf[i]);
				v->flushing_blocks--;
			}
	s->older = head;
	RB_INSERT(dtree, &v->flushing, s);
}

void delta_flush_end(struct vol *v, struct dseg *s)
{
	struct dseg *head = delta_seg(&v->flushing, s->object, s->win), **pp = &head->older;

	if (head == s) {
		RB_REMOVE(dtree, &v->flushing, s);
		if (s->older)
			RB_INSERT(dtree, &v->flushing, s->older);
	} else {
		while (*pp != s)
			pp = &(*pp)->older;
		*pp = s->older;
	}
	free(s);
}

bool delta_flush_blocked(struct vol *v, const struct dseg *s)
{
	struct dseg *head = delta_seg(&v->flushing, s->object, s->win);

	return head && !head->entered;
}

void delta_free_all(struct vol *v)
{
	struct dseg *s, *next;

	RB_FOREACH_SAFE (s, dtree, &v->active, next) {
		RB_REMOVE(dtree, &v->active, s);
		free(s);
	}
	RB_FOREACH_SAFE (s, dtree, &v->flushing, next) {
		RB_REMOVE(dtree, &v->flushing, s);
		for (struct dseg *older; s; s = older) {
			older = s->older;
			free(s);
		}
	}
}
