#include "pool/trim.h"
#include <string.h>
#include "pool/chunk.h"
#include "pool/chunk_list.h"
#include "pool/discard.h"
#include "pool/event.h"
#include "pool/space.h"
#include "pool/txn.h"

#define MOVER_NS 100000000ull

/* ---- runs of free blocks in a chunk ---- */

struct run {
	uint64_t chunk;
	uint32_t first, blocks;
	struct chunk_slot m[MEMBERS_MAX];
	unsigned n;
};

static bool is_free(const struct chunk *c, uint32_t i)
{
	return !bit_get(c->bits, i) && !bit_get(c->busy, i);
}

static bool run_find(const struct pool *p, const struct chunk *c, struct run *r)
{
	uint32_t i = r->first;

	while (i < p->chunk_blocks) {
		uint32_t n = 0;

		while (n < TRIM_RUN_MAX && i + n < p->chunk_blocks && is_free(c, i + n))
			n++;
		if (n >= TRIM_RUN_MIN) {
			r->first = i;
			r->blocks = n;
			return true;
		}
		i += n + 1;
	}
	return false;
}

static bool can_trim(const struct chunk *c)
{
	return (c->kind == CHUNK_DATA || c->kind == CHUNK_META) && c->used && c->usable &&
	       !c->moving && !c->condemned && !c->draining && !c->is_write_point;
}

/* Lock held: the next run at or after r->first, withheld. */
static bool run_take(struct pool *p, struct run *r)
{
	struct chunk *c = chunk_find(p, r->chunk);

	if (!c || !c->bits || !can_trim(c) || !run_find(p, c, r) ||
	    !space_can_withhold(p, c, r->blocks))
		return false;
	for (uint32_t i = r->first; i < r->first + r->blocks; i++)
		bit_set(c->busy, i);
	c->busy_count += r->blocks;
	chunk_count_free(p, c, -(int64_t)r->blocks);
	p->trim_withholds = true;
	r->n = c->nmembers;
	for (unsigned i = 0; i < r->n; i++)
		r->m[i] = chunk_slot_of(&c->m[i]);
	return true;
}

static void run_give_back(struct pool *p, struct run *r)
{
	struct chunk *c = chunk_find(p, r->chunk);

	for (uint32_t i = r->first; i < r->first + r->blocks; i++)
		bit_clear(c->busy, i);
	c->busy_count -= r->blocks;
	chunk_count_free(p, c, r->blocks);
	p->trim_withholds = false;
	if (!c->used) /* could not vanish meanwhile */
		txn_mark_dirty_locked(p);
}

static void run_discard(struct pool *p, const struct run *r)
{
	for (unsigned i = 0; i < r->n; i++)
		discard_range(p, &p->devs[r->m[i].dev],
			      chunk_slot_offset(p, r->m[i].slot) + (uint64_t)r->first * BLOCK_SIZE,
			      (uint64_t)r->blocks * BLOCK_SIZE);
}

/* ---- chunks ---- */

/* What moves comes first: it must find its chunks, and leaves slots behind that are discarded. */
static bool mover_first(const struct pool *p)
{
	return p->mover_running || p->rebalancing;
}

/* Lock held; dropped meanwhile. False: there is no more. */
static bool next_run(struct pool *p, struct run *r)
{
	if (!run_take(p, r))
		return false;
	lock_drop(&p->lock);
	run_discard(p, r);
	lock_take(&p->lock);
	run_give_back(p, r);
	r->first += r->blocks;
	return true;
}

static void runs_of(struct pool *p, uint64_t id)
{
	struct run r = {.chunk = id};
	bool more = true;

	while (more && discard_go_on(p)) {
		bool wait;

		lock_take(&p->lock);
		wait = mover_first(p);
		more = wait || next_run(p, &r);
		lock_drop(&p->lock);
		if (wait)
			discard_rest(p, MOVER_NS);
	}
}

/* Its bitmap was not in memory before. While a commit runs it may be the newest there is. */
static void unload(struct pool *p, uint64_t id)
{
	struct chunk *c = chunk_find(p, id);

	if (!c || c->kind != CHUNK_DATA || p->commit_running || c->dirty || c->busy_count ||
	    c->is_write_point || c->moving)
		return;
	free(c->bits);
	free(c->busy);
	c->bits = c->busy = NULL;
}

static void trim_chunk(struct pool *p, uint64_t id)
{
	struct chunk *c;
	unsigned members;
	bool load;

	lock_take(&p->lock);
	c = chunk_find(p, id);
	load = c && can_trim(c) && !c->bits;
	members = c ? c->nmembers : 0;
	lock_drop(&p->lock);
	if (!load || !space_load(p, id))
		runs_of(p, id);
	lock_take(&p->lock);
	if (load)
		unload(p, id);
	p->trim.done_bytes += (uint64_t)members * p->chunk_blocks * BLOCK_SIZE;
	lock_drop(&p->lock);
}

/* ---- the whole ---- */

static uint64_t discarded(const struct pool *p)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < p->ndevs; i++)
		n += p->devs[i].discarded_bytes;
	return n;
}

/* Lock held: all that is free is stale now. Bytes of slots. */
static uint64_t slots_begin(struct pool *p)
{
	uint64_t slots = 0;

	for (unsigned i = 0; i < p->ndevs; i++) {
		struct dev *d = &p->devs[i];

		if (d->state == DEV_NONE)
			continue;
		d->discards_off = false;
		d->discard_errors = 0;
		for (uint32_t s = 0; discard_takes(d) && s < d->slots; s++)
			if (!bit_get(d->slot_used, s)) {
				bit_set(d->slot_stale, s);
				slots++;
			}
	}
	return slots * p->chunk_blocks * BLOCK_SIZE;
}

/* Lock held: the chunks there are. NULL: no memory. */
static uint64_t *list_chunks(const struct pool *p, size_t *ret_n, uint64_t *ret_members)
{
	uint64_t *ids = malloc((p->chunk_count + 1) * sizeof *ids);
	size_t n = 0;

	*ret_members = 0;
	for (size_t h = 0; ids && h < p->chunk_hash_size; h++)
		for (const struct chunk *c = p->chunk_hash[h]; c; c = c->hash_next) {
			ids[n++] = c->id;
			*ret_members += c->nmembers;
		}
	*ret_n = n;
	return ids;
}

static void end(struct pool *p, bool complete, uint64_t before)
{
	lock_take(&p->lock);
	for (unsigned i = 0; i < p->ndevs; i++) {
		struct dev *d = &p->devs[i];

		if (d->state == DEV_NONE)
			continue;
		p->trim.devs_left_out += !discard_takes(d);
		if (!complete) /* not more than was asked for */
			memset(d->slot_stale, 0, (d->slots + 63) / 64 * 8);
	}
	p->trim.discarded_bytes = discarded(p) - before;
	p->trim.complete = complete;
	p->trim.running = p->trim.stop = false;
	p->trim.ended_ns = reactor_wall_ns();
	if (complete)
		p->trim.done_bytes = p->trim.total_bytes;
	event_emit_locked(p, complete ? "trim-done" : "trim-stopped",
			  "trim %s: devices were told of %llu free bytes",
			  complete ? "complete" : "stopped",
			  (unsigned long long)p->trim.discarded_bytes);
	lock_drop(&p->lock);
}

void trim_run(struct pool *p)
{
	uint64_t *ids, members, before;
	size_t n;

	lock_take(&p->lock);
	before = discarded(p);
	ids = list_chunks(p, &n, &members);
	p->trim.total_bytes = slots_begin(p) + members * p->chunk_blocks * BLOCK_SIZE;
	lock_drop(&p->lock);
	for (size_t i = 0; ids && i < n && discard_go_on(p); i++)
		trim_chunk(p, ids[i]);
	discard_slots(p);
	end(p, ids && discard_go_on(p), before);
	free(ids);
}

int pool_trim_start(struct pool *p, struct err *e)
{
	int rc = 0;

	lock_take(&p->lock);
	if (p->trim.running)
		rc = -EBUSY;
	else if (p->faulted)
		rc = ERR_FAULTED;
	else if (p->read_only || p->stopping)
		rc = ERR_READONLY;
	if (!rc) {
		memset(&p->trim, 0, sizeof p->trim);
		p->trim.running = true;
		p->trim.started_ns = reactor_wall_ns();
		waitq_wake_all(&p->discard_waiters);
	}
	lock_drop(&p->lock);
	if (!rc)
		return 0;
	return err_set(e, rc,
		       rc == -EBUSY ? "a trim is running; `tarn pool status` shows how far it is"
				    : "the pool cannot be trimmed now: %s",
		       err_str(rc));
}

void pool_trim_stop(struct pool *p)
{
	lock_take(&p->lock);
	p->trim.stop = p->trim.running;
	lock_drop(&p->lock);
}

void pool_trim_status_get(struct pool *p, struct pool_trim_status *ret_s)
{
	lock_take(&p->lock);
	*ret_s = p->trim;
	if (ret_s->done_bytes > ret_s->total_bytes) /* some became free meanwhile */
		ret_s->done_bytes = ret_s->total_bytes;
	lock_drop(&p->lock);
}
