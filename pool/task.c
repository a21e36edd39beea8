#include "pool/task.h"
#include <string.h>
#include "pool/chunk.h"
#include "pool/class.h"
#include "pool/mover.h"
#include "pool/place.h"
#include "pool/space.h"
#include "pool/txn.h"

#define GAIN_PERMILLE 20u /* less is not worth moving a chunk */
#define PASSES_MAX    64u

/* ---- members that leave ---- */

bool task_must_leave(const struct pool *p, const struct member *m)
{
	const struct dev *d = &p->devs[m->dev];

	return d->flags & (DEV_F_EVACUATE | DEV_F_SPARE) ||
	       (d->slots_limit && m->slot >= d->slots_limit);
}

static bool holds_something(const struct dev *d)
{
	for (uint32_t i = 0; i < d->slots; i++)
		if (bit_get(d->slot_used, i))
			return true;
	return false;
}

bool task_must_empty(const struct pool *p)
{
	for (unsigned i = 0; i < p->ndevs; i++) {
		const struct dev *d = &p->devs[i];

		if (d->state != DEV_NONE && (d->flags & DEV_F_EVACUATE || d->slots_limit ||
					     (d->flags & DEV_F_SPARE && holds_something(d))))
			return true;
	}
	return false;
}

unsigned task_current_without(const struct pool *p, const struct chunk *c, unsigned k)
{
	unsigned n = 0;

	for (unsigned i = 0; i < c->nmembers; i++)
		n += i != k && p->devs[c->m[i].dev].state == DEV_ONLINE &&
		     !chunk_member_since(p, &c->m[i]);
	return n;
}

/* ---- how far ---- */

static uint64_t blocks_left(const struct pool *p)
{
	uint64_t n = 0;

	if (!p->rebalancing && !task_must_empty(p)) /* no look at all chunks for nothing */
		return 0;
	for (size_t h = 0; h < p->chunk_hash_size; h++)
		for (const struct chunk *c = p->chunk_hash[h]; c; c = c->hash_next)
			for (unsigned k = 0; k < c->nmembers; k++)
				if ((c->m[k].goes || task_must_leave(p, &c->m[k])) &&
				    task_current_without(p, c, k) < c->copies)
					n += c->used;
	return n > p->mover_batch_blocks ? n - p->mover_batch_blocks : 0;
}

static void settle(struct pool *p, uint64_t left)
{
	if (left < p->mover_total_blocks && p->mover_total_blocks - left > p->mover_done_blocks)
		p->mover_done_blocks = p->mover_total_blocks - left;
}

void task_update(struct pool *p)
{
	settle(p, blocks_left(p));
}

void task_begin(struct pool *p)
{
	if (p->mover_done_blocks == p->mover_total_blocks) /* all earlier ones are over */
		p->mover_done_blocks = p->mover_moved_chunks = 0;
	p->mover_total_blocks = p->mover_done_blocks + blocks_left(p);
	mover_wake_locked(p);
}

void pool_mover_status_get(struct pool *p, struct pool_mover_status *s)
{
	memset(s, 0, sizeof *s);
	lock_take(&p->lock);
	task_update(p);
	s->rebalancing = p->rebalancing;
	s->active = p->rebalancing || task_must_empty(p);
	s->done_bytes = p->mover_done_blocks * BLOCK_SIZE;
	s->left_bytes = (p->mover_total_blocks - p->mover_done_blocks) * BLOCK_SIZE;
	lock_drop(&p->lock);
}

/* ---- the plan of a rebalance ---- */

static unsigned permille_used(const struct dev *d)
{
	uint64_t used = d->slots - d->slots_free;

	used -= d->slots_leaving < used ? d->slots_leaving : used;
	return d->slots ? (unsigned)(used * 1000 / d->slots) : 1000;
}

static bool levelled(const struct dev *d)
{
	return d->state == DEV_ONLINE && !(d->flags & (DEV_F_EVACUATE | DEV_F_SPARE)) &&
	       !d->slots_limit;
}

static unsigned least_used(const struct pool *p)
{
	unsigned least = 1000;

	for (unsigned i = 0; i < p->ndevs; i++)
		if (dev_placeable(&p->devs[i]) && permille_used(&p->devs[i]) < least)
			least = permille_used(&p->devs[i]);
	return least;
}

/* Would the member go to a device that is emptier even with it than the old one is now? (Else the
 * two would pass it to and fro for ever.) */
bool task_gains(struct pool *p, const struct chunk *c, unsigned k)
{
	const struct dev *old = &p->devs[c->m[k].dev], *d;

	if (!levelled(old) || least_used(p) + GAIN_PERMILLE >= permille_used(old))
		return false;
	d = place_find(p, c, k);
	return d && d != old &&
	       permille_used(d) + 1000 / d->slots + GAIN_PERMILLE < permille_used(old);
}

static bool can_move(struct pool *p, const struct chunk *c)
{
	if (c->moving || c->condemned || c->draining || c->nmembers == MEMBERS_MAX ||
	    !task_current_without(p, c, MEMBERS_MAX))
		return false;
	for (unsigned k = 0; k < c->nmembers; k++)
		if (!c->m[k].goes &&
		    (task_must_leave(p, &c->m[k]) || class_misplaced(p, c, &c->m[k])))
			return false; /* that comes first */
	return true;
}

/* One member of c, on paper. */
static bool move_one(struct pool *p, struct chunk *c)
{
	for (unsigned k = 0; k < c->nmembers; k++) {
		struct member *m = &c->m[k];
		struct dev *to;

		if (m->goes || !task_gains(p, c, k))
			continue;
		to = place_find(p, c, k);
		p->devs[m->dev].slots_free++;
		to->slots_free--;
		m->paper_dev = m->dev;
		m->dev = (uint16_t)to->id;
		m->goes = true;
		return true;
	}
	return false;
}

static bool pass(struct pool *p, bool data)
{
	bool any = false;

	for (size_t h = 0; h < p->chunk_hash_size; h++)
		for (struct chunk *c = p->chunk_hash[h]; c; c = c->hash_next)
			if ((c->kind == CHUNK_DATA) == data && can_move(p, c))
				any |= move_one(p, c);
	return any;
}

static void take_back(struct pool *p, struct member *m)
{
	p->devs[m->dev].slots_free++;
	p->devs[m->paper_dev].slots_free--;
	m->dev = m->paper_dev;
}

void task_plan_rebalance(struct pool *p)
{
	task_end_rebalance(p);
	for (unsigned i = 0; i < PASSES_MAX && (pass(p, false) | pass(p, true)); i++)
		;
	for (size_t h = 0; h < p->chunk_hash_size; h++)
		for (struct chunk *c = p->chunk_hash[h]; c; c = c->hash_next)
			for (unsigned k = 0; k < c->nmembers; k++)
				if (c->m[k].goes)
					take_back(p, &c->m[k]);
}

void task_end_rebalance(struct pool *p)
{
	for (size_t h = 0; h < p->chunk_hash_size; h++)
		for (struct chunk *c = p->chunk_hash[h]; c; c = c->hash_next)
			for (unsigned k = 0; k < c->nmembers; k++)
				c->m[k].goes = false;
}

int pool_rebalance(struct pool *p, bool on)
{
	lock_take(&p->lock);
	if (on && !p->rebalancing) {
		task_plan_rebalance(p);
		p->rebalancing = true;
		task_begin(p);
	} else if (!on) {
		task_end_rebalance(p);
		task_update(p);
	}
	p->rebalancing = on;
	lock_drop(&p->lock);
	return txn_commit_wait(p);
}

void pool_rebalance_plan(struct pool *p, struct pool_move_plan *r)
{
	bool running;

	memset(r, 0, sizeof *r);
	r->fits = true;
	lock_take(&p->lock);
	running = p->rebalancing;
	if (!running)
		task_plan_rebalance(p);
	for (size_t h = 0; h < p->chunk_hash_size; h++)
		for (const struct chunk *c = p->chunk_hash[h]; c; c = c->hash_next)
			for (unsigned k = 0; k < c->nmembers; k++) {
				r->chunks += c->m[k].goes;
				r->bytes += c->m[k].goes ? (uint64_t)c->used * BLOCK_SIZE : 0;
			}
	if (!running)
		task_end_rebalance(p);
	lock_drop(&p->lock);
}
