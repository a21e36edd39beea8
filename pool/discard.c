#include "pool/discard.h"
#include "pool/chunk.h"
#include "pool/event.h"
#include "pool/space.h"
#include "pool/trim.h"

#define DELAY_NS	 2000000000ull /* what is used again by then need not be discarded */
#define RETRY_NS	 5000000000ull
#define DENIED_NS	 1000000000ull
#define STEP_NS		 100000000ull
#define PIECE_BYTES	 (64ull << 20)
#define PIECE_FILE_BYTES (8ull << 20) /* a file system may hold up writes to the file meanwhile */
#define SLOTS_KEPT	 2u
#define ERRORS_MAX	 8u

void discard_slot(struct pool *p, struct dev *d, uint32_t slot)
{
	if (p->no_discard || d->discards_off)
		return;
	bit_set(d->slot_stale, slot);
	p->discard_wanted = true;
	waitq_wake_all(&p->discard_waiters);
}

/* ---- pace ---- */

bool discard_go_on(struct pool *p)
{
	bool yes;

	lock_take(&p->lock);
	yes = !p->stopping && !p->faulted && !(p->trim.running ? p->trim.stop : p->no_discard);
	lock_drop(&p->lock);
	return yes;
}

void discard_rest(struct pool *p, uint64_t ns)
{
	for (uint64_t end = reactor_now_ns() + ns, now = 0; now < end && !p->stopping;
	     now = reactor_now_ns())
		co_sleep_ns(ns < STEP_NS ? ns : STEP_NS);
}

/* After something that took so long: longer while volumes are read or written. */
static void rest_after(struct pool *p, uint64_t took_ns, uint64_t ops_before)
{
	bool busy = atomic_load_explicit(&p->user_ops, memory_order_relaxed) != ops_before;
	uint64_t pause = busy ? took_ns * 3 : took_ns / 2;

	if (pause > 50000)
		discard_rest(p, pause < 1000000000ull ? pause : 1000000000ull);
}

/* ---- ranges ---- */

bool discard_takes(const struct dev *d)
{
	return d->backend && d->state == DEV_ONLINE && !d->changing && !d->discards_off;
}

/* The backend to use, which stays open until piece_end. NULL: not now. */
static struct dev_backend *piece_begin(struct pool *p, struct dev *d)
{
	struct dev_backend *b = NULL;

	lock_take(&p->lock);
	if (discard_takes(d)) {
		b = d->backend;
		d->inflight++;
	}
	lock_drop(&p->lock);
	return b;
}

static void piece_end(struct pool *p, struct dev *d, uint64_t bytes, int rc)
{
	lock_take(&p->lock);
	d->inflight--;
	if (!rc) {
		d->discard_errors = 0;
		d->discarded_bytes += bytes;
	} else if (rc == -EOPNOTSUPP || ++d->discard_errors >= ERRORS_MAX) {
		d->discards_off = true;
		if (rc != -EOPNOTSUPP)
			event_emit_locked(p, "discards-off",
					  "device %u (%s): discard: %s; it is not told any more "
					  "what is free",
					  d->id, d->path, err_str(rc));
	}
	lock_drop(&p->lock);
}

int discard_range(struct pool *p, struct dev *d, uint64_t off, uint64_t len)
{
	int rc = 0;

	while (len && !rc) {
		uint64_t start = reactor_now_ns(), n = len;
		uint64_t ops = atomic_load_explicit(&p->user_ops, memory_order_relaxed);
		struct dev_backend *b = discard_go_on(p) ? piece_begin(p, d) : NULL;

		if (!b)
			return -ECANCELED;
		if (n > (b->is_block ? PIECE_BYTES : PIECE_FILE_BYTES))
			n = b->is_block ? PIECE_BYTES : PIECE_FILE_BYTES;
		rc = dev_discard(b, off, n);
		piece_end(p, d, n, rc);
		off += n;
		len -= n;
		rest_after(p, reactor_now_ns() - start, ops);
	}
	return rc;
}

/* ---- slots ---- */

static bool first_stale(const struct dev *d, uint32_t *ret_slot)
{
	for (uint32_t w = 0; w < (d->slots + 63) / 64; w++) {
		uint64_t stale = d->slot_stale[w] & ~d->slot_used[w];

		if (!stale)
			continue;
		*ret_slot = w * 64 + (uint32_t)__builtin_ctzll(stale);
		return *ret_slot < d->slots;
	}
	return false;
}

/* Every chunk that is promised may need a slot of this device. */
static bool can_withhold(const struct pool *p, const struct dev *d, uint32_t slot)
{
	return !dev_placeable(d) || (d->slots_limit && slot >= d->slots_limit) ||
	       d->slots_free > space_promised_chunks(p) + SLOTS_KEPT;
}

/* Lock held: a slot to discard. *ret_left: some cannot be withheld now. */
static struct dev *pick(struct pool *p, uint32_t *ret_slot, bool *ret_left)
{
	*ret_left = false;
	for (unsigned i = 0; i < p->ndevs; i++) {
		struct dev *d = &p->devs[i];

		if (d->state == DEV_NONE || !discard_takes(d) || !first_stale(d, ret_slot))
			continue;
		if (can_withhold(p, d, *ret_slot))
			return d;
		*ret_left = true;
	}
	return NULL;
}

/* Lock held; dropped meanwhile. */
static void discard_one(struct pool *p, struct dev *d, uint32_t slot)
{
	uint64_t bytes = (uint64_t)p->chunk_blocks * BLOCK_SIZE;
	int rc;

	d->discarding = true;
	d->discarding_slot = slot;
	bit_clear(d->slot_stale, slot);
	lock_drop(&p->lock);
	rc = discard_range(p, d, chunk_slot_offset(p, slot), bytes);
	lock_take(&p->lock);
	d->discarding = false;
	if (rc == -ECANCELED)
		bit_set(d->slot_stale, slot);
	else if (p->trim.running)
		p->trim.done_bytes += bytes;
}

bool discard_slots(struct pool *p)
{
	uint64_t denied = p->space_denied;
	bool left = false;

	while (discard_go_on(p)) {
		struct dev *d;
		uint32_t slot;
		bool full;

		lock_take(&p->lock);
		full = p->space_denied != denied;
		denied = p->space_denied;
		d = full ? NULL : pick(p, &slot, &left);
		if (d)
			discard_one(p, d, slot);
		lock_drop(&p->lock);
		if (full) /* somebody looks again, and must find what is withheld */
			discard_rest(p, DENIED_NS);
		else if (!d)
			break;
	}
	return left;
}

/* ---- the coroutine ---- */

/* A trim need not wait. */
static void idle(struct pool *p, uint64_t ns)
{
	for (uint64_t end = reactor_now_ns() + ns;
	     reactor_now_ns() < end && !p->stopping && !p->trim.running;)
		co_sleep_ns(STEP_NS);
}

static void turn(struct pool *p)
{
	bool left;

	idle(p, DELAY_NS);
	lock_take(&p->lock);
	p->discard_wanted = false;
	lock_drop(&p->lock);
	left = discard_slots(p);
	if (!left)
		return;
	idle(p, RETRY_NS);
	lock_take(&p->lock);
	p->discard_wanted = true;
	lock_drop(&p->lock);
}

void discard_main(void *arg)
{
	struct pool *p = arg;

	lock_take(&p->lock);
	while (!p->stopping) {
		bool trim = p->trim.running;

		if (!trim && (!p->discard_wanted || p->no_discard || p->faulted)) {
			waitq_wait(&p->discard_waiters, &p->lock);
			continue;
		}
		lock_drop(&p->lock);
		if (trim)
			trim_run(p);
		else
			turn(p);
		lock_take(&p->lock);
	}
	p->bg_count--;
	waitq_wake_all(&p->bg_waiters);
	lock_drop(&p->lock);
}
