#include "pool/mover.h"
#include <string.h>
#include "pool/chunk.h"
#include "pool/class.h"
#include "pool/event.h"
#include "pool/place.h"
#include "pool/sb.h"
#include "pool/scrub.h"
#include "pool/space.h"
#include "pool/squeeze.h"
#include "pool/task.h"
#include "pool/txn.h"

#define RUN_BLOCKS	128u /* one copy: 512 KiB */
#define RUN_BUSY_BLOCKS 32u  /* while others wait for the devices, too */
#define BUSY_NS		100000000ull
#define UNVERIFIED_NS	600000000000ull

struct move {
	struct chunk *c;
	uint8_t from, to; /* member indexes */
	uint64_t *bits;	  /* allocated in the commit, or freed since and still readable */
	uint32_t copied;  /* as mover_batch_blocks counts it */
	bool failed;
	bool suspect; /* its members do not agree */
};

struct batch {
	struct pool *p;
	struct move m[MOVER_BATCH];
	unsigned n;
	uint8_t *buf;
};

/* ---- what to do ---- */

/* Can a member outside its class go back? */
static bool returns(struct pool *p, const struct chunk *c, unsigned from)
{
	return class_misplaced(p, c, &c->m[from]) && place_find(p, c, from);
}

static bool pick_member_to_move(struct pool *p, struct chunk *c, uint8_t *ret_from)
{
	for (unsigned k = 0; k < c->nmembers; k++)
		if (task_must_leave(p, &c->m[k]) || returns(p, c, k)) {
			*ret_from = (uint8_t)k;
			return true;
		}
	for (unsigned k = 0; k < c->nmembers; k++) {
		if (c->m[k].goes)
			c->m[k].goes = task_gains(p, c, k);
		if (c->m[k].goes) {
			*ret_from = (uint8_t)k;
			return true;
		}
	}
	return false;
}

/* Members may be taken away only while nothing is being written that a commit under way says they
 * have: neither its nodes and data nor, for the log chunk, a group. Lock held; dropped while
 * waiting. */
static void quiet_locked(struct pool *p)
{
	while ((p->commit_running || p->log_writing) && !p->faulted)
		waitq_wait(p->commit_running ? &p->commit_waiters : &p->log_waiters, &p->lock);
}

static void batch_consider(struct batch *b, struct chunk *c)
{
	struct pool *p = b->p;
	uint8_t from;
	int to;

	for (unsigned k = 0; k < c->nmembers; k++)
		p->misplaced |= class_misplaced(p, c, &c->m[k]);
	if (c->moving || c->condemned || c->draining || reactor_now_ns() < c->stays_until_ns ||
	    !task_current_without(p, c, MEMBERS_MAX) || c->nmembers == MEMBERS_MAX ||
	    !pick_member_to_move(p, c, &from))
		return;
	/* Enough current members without this one? Then it need not be copied. */
	if (task_current_without(p, c, from) >= c->copies) {
		chunk_member_drop(p, c, from);
		txn_mark_dirty_locked(p);
		return;
	}
	/* Nodes need room too, while it copies and afterwards. */
	if (!space_can_complete(p, c))
		return;
	to = chunk_member_add(p, c, from);
	if (to < 0)
		return;
	c->moving = true;
	b->m[b->n++] = (struct move){.c = c, .from = from, .to = (uint8_t)to};
}

static void batch_pick_kind(struct batch *b, bool data)
{
	struct pool *p = b->p;

	for (size_t h = 0; h < p->chunk_hash_size && b->n < MOVER_BATCH; h++)
		for (struct chunk *c = p->chunk_hash[h]; c && b->n < MOVER_BATCH; c = c->hash_next)
			if ((c->kind == CHUNK_DATA) == data)
				batch_consider(b, c);
}

/* Lock held: fill the batch and add the new members. */
static void batch_pick(struct batch *b)
{
	struct pool *p = b->p;

	quiet_locked(p);
	/* Metadata first: it needs the most devices, and must not find them filled by data. */
	batch_pick_kind(b, false);
	if (b->n)
		return;
	p->misplaced = false; /* unless some are met */
	batch_pick_kind(b, true);
}

/* ---- copying ---- */

struct bits_arg {
	struct move *m;
	struct txn *t;
};

/* Under one hold of the lock: what is allocated in the durable commit, and a reader that keeps it.
 */
static int step_bits(struct pool *p, void *arg)
{
	struct bits_arg *ba = arg;
	struct move *m = ba->m;
	struct btree_item it;
	int rc;

	if (p->commit_running)
		return ERR_LAST;
	rc = btree_get(&p->space, (struct key){m->c->id, 1, 0}, &it);
	if (rc && rc != -ENOENT)
		return rc;
	for (size_t w = 0; w < p->chunk_blocks / 64; w++) {
		le64 v = le64_of(0);

		if (!rc) /* else made after the commit: every write has gone to both */
			memcpy(&v, (const uint8_t *)it.value + w * 8, 8);
		m->bits[w] = le64_get(v) | (m->c->busy ? m->c->busy[w] : 0);
	}
	ba->t = txn_read_begin_committed_locked(p);
	return 0;
}

static int take_bits(struct pool *p, struct move *m, struct txn **ret_t)
{
	struct bits_arg ba = {m, NULL};

	for (;;) {
		int rc = txn_step(p, &p->space, step_bits, &ba);

		if (rc != ERR_LAST) {
			*ret_t = ba.t;
			return rc;
		}
		lock_take(&p->lock);
		while (p->commit_running && !p->faulted)
			waitq_wait(&p->commit_waiters, &p->lock);
		lock_drop(&p->lock);
		if (p->faulted)
			return ERR_FAULTED;
	}
}

static bool readable(struct pool *p, const struct move *m, unsigned k)
{
	const struct member *mb = &m->c->m[k];
	bool ok;

	lock_take(&p->lock);
	ok = k < m->c->nmembers && k != m->to && p->devs[mb->dev].state == DEV_ONLINE &&
	     !chunk_member_since(p, mb);
	lock_drop(&p->lock);
	return ok;
}

/* No checksum is known here. The member that leaves is read first, so that the new one is as right
 * as it was. */
static int read_any(struct pool *p, const struct move *m, struct addr a, uint32_t blocks, void *buf)
{
	int rc = ERR_DEV_GONE;

	if (readable(p, m, m->from))
		rc = chunk_read_member(p, a, blocks, buf, m->from);
	for (unsigned k = 0; rc && k < MEMBERS_MAX; k++)
		if (k != m->from && readable(p, m, k))
			rc = chunk_read_member(p, a, blocks, buf, k);
	return rc;
}

/* A run, block by block when the member that leaves cannot read all of it. */
static int read_run(struct pool *p, struct move *m, struct addr a, uint32_t blocks, void *buf)
{
	int rc = 0;

	if (!readable(p, m, m->from)) /* rebuilt from the others */
		return read_any(p, m, a, blocks, buf);
	if (!chunk_read_member(p, a, blocks, buf, m->from))
		return 0;
	m->suspect = true;
	for (uint32_t i = 0; i < blocks && !rc; i++)
		rc = read_any(p, m, addr_add(a, i), 1, (uint8_t *)buf + (size_t)i * BLOCK_SIZE);
	return rc;
}

/* A rotten block must not take the place of a right one, nor spread to another device: where
 * another member disagrees, checksums have to tell before the move is done. */
static void compare_run(struct pool *p, struct move *m, struct addr a, uint32_t blocks,
			const void *buf, void *other)
{
	for (unsigned k = 0; k < MEMBERS_MAX && !m->suspect; k++) {
		if (k == m->from || !readable(p, m, k))
			continue;
		m->suspect = chunk_read_member(p, a, blocks, other, k) ||
			     memcmp(buf, other, (size_t)blocks * BLOCK_SIZE);
		return; /* one is enough to tell */
	}
}

/* The member that leaves may be the one that is right: it stays for now. */
static void leave_unverified(struct batch *b, int rc)
{
	unsigned n = 0;

	lock_take(&b->p->lock);
	for (unsigned i = 0; i < b->n; i++) {
		struct move *m = &b->m[i];

		if (!m->suspect || m->failed)
			continue;
		m->failed = true; /* another time */
		if (rc == -EIO) {
			m->c->stays_until_ns = reactor_now_ns() + UNVERIFIED_NS;
			n++;
		}
	}
	if (n)
		event_emit_locked(
			b->p, "not-moved",
			"%u chunks whose copies differ stay where they are: a damaged "
			"volume keeps them from being verified; destroy it, or bring back "
			"the device that has its nodes",
			n);
	lock_drop(&b->p->lock);
}

static void settle_suspects(struct batch *b)
{
	uint64_t ids[MOVER_BATCH];
	unsigned n = 0;
	int rc;

	for (unsigned i = 0; i < b->n; i++)
		if (b->m[i].suspect && !b->m[i].failed)
			ids[n++] = b->m[i].c->id;
	if (!n)
		return;
	event_emit(b->p, "copies-differ", "copies of %u chunks that move differ; they are verified",
		   n);
	rc = scrub_chunks(b->p, ids, n);
	if (rc)
		leave_unverified(b, rc);
}

/* Has a volume been read or written within BUSY_NS? Only the mover's coroutine asks. */
static bool users_busy(struct pool *p)
{
	uint64_t ops = atomic_load_explicit(&p->user_ops, memory_order_relaxed);
	uint64_t now = reactor_now_ns();

	if (ops != p->user_ops_seen)
		p->user_busy_until_ns = now + BUSY_NS;
	p->user_ops_seen = ops;
	return now < p->user_busy_until_ns;
}

static void throttle(struct pool *p, uint64_t took_ns, uint32_t blocks)
{
	uint64_t pause = users_busy(p) ? took_ns * 3 : took_ns / 2;

	lock_take(&p->lock);
	if (p->opt.mover_bytes_per_s) {
		uint64_t at_rate =
			(uint64_t)blocks * BLOCK_SIZE * 1000000000ull / p->opt.mover_bytes_per_s;

		if (at_rate > pause)
			pause = at_rate;
	}
	lock_drop(&p->lock);
	if (pause > 50000)
		co_sleep_ns(pause < 1000000000ull ? pause : 1000000000ull);
}

static int copy_chunk(struct batch *b, struct move *m)
{
	struct pool *p = b->p;

	for (uint32_t i = 0; i < p->chunk_blocks;) {
		uint64_t start = reactor_now_ns();
		uint32_t n = 0, max = users_busy(p) ? RUN_BUSY_BLOCKS : RUN_BLOCKS;
		int rc;

		if (!bit_get(m->bits, i)) {
			i++;
			continue;
		}
		while (n < max && i + n < p->chunk_blocks && bit_get(m->bits, i + n))
			n++;
		if (p->stopping || p->faulted)
			return ERR_FAULTED;
		rc = read_run(p, m, addr_make(m->c->id, i), n, b->buf);
		if (!rc)
			compare_run(p, m, addr_make(m->c->id, i), n, b->buf,
				    b->buf + (size_t)RUN_BLOCKS * BLOCK_SIZE);
		if (!rc)
			rc = chunk_write_member(p, addr_make(m->c->id, i), n, b->buf, m->to);
		if (rc)
			return rc;
		lock_take(&p->lock);
		if (m->copied + n <= m->c->used) {
			m->copied += n;
			p->mover_batch_blocks += n;
		}
		lock_drop(&p->lock);
		throttle(p, reactor_now_ns() - start, n);
		i += n;
	}
	return 0;
}

/* ---- the end of a batch ---- */

static void batch_finish(struct batch *b)
{
	struct pool *p = b->p;

	p->mover_batch_blocks = 0;
	for (unsigned i = 0; i < b->n; i++) {
		struct move *m = &b->m[i];
		struct dev *to = &p->devs[m->c->m[m->to].dev];

		m->c->moving = false;
		if (m->failed || to->state != DEV_ONLINE) {
			chunk_member_drop(p, m->c, m->to);
			continue;
		}
		m->c->m[m->to].stale_since = 0;
		chunk_member_drop(p, m->c, m->from);
		p->mover_moved_chunks++;
	}
	task_update(p);
	txn_mark_dirty_locked(p);
}

/* The reader is held for one chunk at a time: what is freed meanwhile is missed on a full pool. */
static void move_chunk(struct batch *b, struct move *m)
{
	struct txn *t = NULL;

	if (m->c->kind == CHUNK_LOG)
		return;
	m->failed = take_bits(b->p, m, &t) || copy_chunk(b, m);
	if (t)
		txn_read_end(b->p, t);
}

static int batch_run(struct batch *b)
{
	struct pool *p = b->p;
	int rc = txn_commit_wait(p);

	for (unsigned i = 0; i < b->n; i++) {
		if (rc)
			b->m[i].failed = true;
		else
			move_chunk(b, &b->m[i]);
	}
	if (!rc)
		settle_suspects(b);
	if (!rc)
		rc = chunk_flush_all(p);
	lock_take(&p->lock);
	quiet_locked(p);
	batch_finish(b);
	lock_drop(&p->lock);
	return rc;
}

static bool batch_alloc(struct batch *b)
{
	bool ok = true;

	b->buf = aligned_alloc(BLOCK_SIZE, 2 * RUN_BLOCKS * BLOCK_SIZE);
	for (unsigned i = 0; i < b->n; i++) {
		b->m[i].bits = calloc(b->p->chunk_blocks / 64, 8);
		ok &= b->m[i].bits != NULL;
	}
	return ok && b->buf;
}

static void batch_free(struct batch *b)
{
	for (unsigned i = 0; i < b->n; i++)
		free(b->m[i].bits);
	free(b->buf);
}

/* ---- what follows when a device is empty ---- */

static bool dev_empty(const struct pool *p, const struct dev *d)
{
	uint32_t from = d->slots_limit && !(d->flags & DEV_F_EVACUATE) ? d->slots_limit : 0;

	(void)p;
	for (uint32_t i = from; i < d->slots; i++)
		if (bit_get(d->slot_used, i))
			return false;
	return true;
}

static void wipe_rings(struct dev_backend *b)
{
	uint8_t *zero = aligned_alloc(BLOCK_SIZE, SB_RING_BYTES);

	if (!zero)
		return;
	memset(zero, 0, SB_RING_BYTES);
	dev_write(b, 0, zero, SB_RING_BYTES, 0);
	dev_write(b, SB_HEARTBEAT_OFF, zero, BLOCK_SIZE, 0);
	dev_write(b, b->size_bytes - SB_RING_BYTES, zero, SB_RING_BYTES, DEV_IO_FUA);
	free(zero);
}

/* The device holds nothing any more: out of the table by a commit, then its superblocks go. */
/* d->changing: nobody else takes it out or brings it in. */
static void dev_release(struct pool *p, struct dev *d)
{
	struct dev_backend *b;
	char path[256];

	lock_take(&p->lock);
	d->state = DEV_NONE;
	b = d->backend;
	snprintf(path, sizeof path, "%s", d->path);
	while (d->inflight) {
		lock_drop(&p->lock);
		co_sleep_ns(1000000);
		lock_take(&p->lock);
	}
	d->backend = NULL;
	lock_drop(&p->lock);
	if (txn_commit_wait(p)) {
		dev_close(b);
		return;
	}
	if (b)
		wipe_rings(b);
	dev_close(b);
	lock_take(&p->lock);
	free(d->slot_used);
	memset(d, 0, sizeof *d); /* from here on the entry may be used again */
	d->id = (uint32_t)(d - p->devs);
	space_reserve_init(p);
	event_emit_locked(p, "device-removed", "device %u (%s) is empty and has left the pool",
			  d->id, path);
	lock_drop(&p->lock);
}

static void dev_shrunk(struct pool *p, struct dev *d)
{
	uint64_t size;

	lock_take(&p->lock);
	d->slots = d->slots_limit;
	d->slots_limit = 0;
	d->size_bytes =
		SB_DATA_START + SB_RING_BYTES + (uint64_t)d->slots * p->chunk_blocks * BLOCK_SIZE;
	if (d->backend)
		d->backend->size_bytes = d->size_bytes;
	space_reserve_init(p);
	size = d->size_bytes;
	lock_drop(&p->lock);
	if (txn_commit_wait(p))
		return;
	/* Only now no superblock is left that names the old size. */
	event_emit(p, "device-shrunk",
		   "device %u (%s) now uses %llu bytes; what lies behind may be cut off", d->id,
		   d->path, (unsigned long long)size);
}

static bool finish_devices(struct pool *p)
{
	for (unsigned i = 0; i < p->ndevs; i++) {
		struct dev *d = &p->devs[i];
		bool ready, release, shrunk;

		lock_take(&p->lock);
		ready = d->state != DEV_NONE && !d->changing && !d->discarding && dev_empty(p, d);
		release = ready && d->flags & DEV_F_EVACUATE;
		shrunk = ready && !release && d->slots_limit;
		d->changing |= release;
		lock_drop(&p->lock);
		if (release)
			dev_release(p, d);
		else if (shrunk)
			dev_shrunk(p, d);
		if (release || shrunk)
			return true;
	}
	return false;
}

/* ---- the coroutine ---- */

void mover_wake_locked(struct pool *p)
{
	p->mover_wanted = true;
	waitq_wake_all(&p->mover_waiters);
}

static bool mover_turn(struct pool *p)
{
	struct batch *b = calloc(1, sizeof *b);
	bool any;

	if (!b)
		return false;
	b->p = p;
	lock_take(&p->lock);
	batch_pick(b);
	lock_drop(&p->lock);
	any = b->n;
	if (any && batch_alloc(b)) {
		batch_run(b);
	} else if (any) {
		for (unsigned i = 0; i < b->n; i++)
			b->m[i].failed = true;
		lock_take(&p->lock);
		batch_finish(b);
		lock_drop(&p->lock);
		any = false;
	}
	batch_free(b);
	free(b);
	return any;
}

/* No slot for what must move: there may be some that hold little. */
static bool make_room(struct pool *p)
{
	bool wanted;

	lock_take(&p->lock);
	wanted = task_must_empty(p);
	lock_drop(&p->lock);
	return squeeze_turn(p, wanted);
}

/* Resync, trim and mover take turns; redundancy first. */
static bool others_first(const struct pool *p)
{
	return p->resync_running || p->trim_withholds ||
	       (p->resync_wanted && reactor_now_ns() >= p->resync_after_ns);
}

void mover_main(void *arg)
{
	struct pool *p = arg;

	lock_take(&p->lock);
	while (!p->stopping) {
		bool any;

		if (p->faulted || !p->mover_wanted || others_first(p)) {
			if (p->faulted || !p->mover_wanted) {
				waitq_wait(&p->mover_waiters, &p->lock);
			} else {
				lock_drop(&p->lock);
				co_sleep_ns(100000000);
				lock_take(&p->lock);
			}
			continue;
		}
		p->mover_running = true;
		lock_drop(&p->lock);
		any = mover_turn(p);
		if (!any)
			any = finish_devices(p) || make_room(p);
		lock_take(&p->lock);
		p->mover_running = false;
		if (any)
			continue;
		if (p->rebalancing) {
			p->rebalancing = false;
			task_end_rebalance(p);
			txn_mark_dirty_locked(p);
			event_emit_locked(p, "rebalanced",
					  "devices are balanced; %llu chunks moved",
					  (unsigned long long)p->mover_moved_chunks);
		}
		task_update(p);
		p->mover_wanted = p->rebalancing || p->misplaced || task_must_empty(p);
		if (p->mover_wanted) { /* no room now: look again later */
			lock_drop(&p->lock);
			co_sleep_ns(1000000000);
			lock_take(&p->lock);
		}
	}
	p->bg_count--;
	waitq_wake_all(&p->bg_waiters);
	lock_drop(&p->lock);
}

void mover_forget_half_done(struct pool *p)
{
	for (size_t h = 0; h < p->chunk_hash_size; h++)
		for (struct chunk *c = p->chunk_hash[h]; c; c = c->hash_next)
			for (unsigned k = c->nmembers; k-- > 0 && c->nmembers > c->copies;)
				if (c->m[k].stale_since == 1 && !c->moving) /* or it moves now */
					chunk_member_drop(p, c, k);
}
