#include "pool/flush.h"
#include <lz4.h>
#include <string.h>
#include "pool/chunk.h"
#include "pool/data_cache.h"
#include "pool/delta.h"
#include "pool/event.h"
#include "pool/extent.h"
#include "pool/space.h"
#include "pool/txn.h"
#include "pool/vol_damage.h"
#include "pool/vol_held.h"

struct piece { /* becomes one extent */
	struct extent x;
	uint32_t buf[EXTENT_BLOCKS_MAX]; /* logical blocks */
	uint8_t *packed;		 /* LZ4: stored form, aligned, padded with zero */
	struct piece *next;
};

struct job {
	struct pool *p;
	struct vol *v;
	struct dseg *segs[FLUSH_JOB_BLOCKS];
	uint32_t present[FLUSH_JOB_BLOCKS]; /* of each segment when it was taken */
	uint32_t held[FLUSH_JOB_BLOCKS];    /* a reference on every buffer taken */
	unsigned nsegs, blocks;
	unsigned lost;	 /* blocks that the tree cannot take: vol_damage.h */
	unsigned policy; /* when it was taken: its admission is under it */
	struct piece *pieces;
	bool tail;
	struct txn *txn;
	/* writes */
	struct chunk_batch batch;
};

struct run { /* adjacent pieces: one write to all members */
	struct chunk_write_io w;
	struct job *job;
	struct addr addr;
	uint32_t blocks;
	unsigned iovcnt;
	struct iovec iov[FLUSH_JOB_BLOCKS];
};

/* ---- collect ---- */

/* Next segment at or after the cursor that is not in the flushing map too. */
static struct dseg *next_seg(struct vol *v)
{
	struct dseg *s = delta_seg_ge(&v->active, v->flush_cursor.object, v->flush_cursor.offset);
	bool wrapped = false;

	for (;;) {
		if (!s) {
			if (wrapped)
				return NULL;
			wrapped = true;
			s = RB_MIN(dtree, &v->active);
			if (!s)
				return NULL;
		}
		if (s->present && !delta_flush_blocked(v, s))
			return s;
		if (wrapped &&
		    (s->object > v->flush_cursor.object ||
		     (s->object == v->flush_cursor.object && s->win >= v->flush_cursor.offset)))
			return NULL;
		s = RB_NEXT(dtree, &v->active, s);
	}
}

static void collect(struct job *j)
{
	struct vol *v = j->v;
	struct dseg *s;

	while (j->nsegs < FLUSH_JOB_BLOCKS && j->blocks + SEG_BLOCKS <= FLUSH_JOB_BLOCKS &&
	       (s = next_seg(v))) {
		unsigned n = (unsigned)__builtin_popcount(s->present);

		v->flush_cursor = (struct key){s->object, 0, s->win + 1};
		if (s->unlogged) {
			v->unlogged_blocks -= (unsigned)__builtin_popcount(s->unlogged);
			s->unlogged = 0;
			v->flushed_unlogged = true;
		}
		delta_flush_begin(v, s);
		v->active_blocks -= n;
		v->flushing_blocks += n;
		for (unsigned i = 0; i < SEG_BLOCKS; i++)
			if (s->present & 1u << i) {
				dbuf_ref(j->p, s->buf[i]);
				j->held[j->blocks++] = s->buf[i];
			}
		j->present[j->nsegs] = s->present;
		j->segs[j->nsegs++] = s;
	}
}

/* ---- compress and checksum; no lock: buffers are referenced and immutable ---- */

static struct piece *piece_new(uint64_t lblk, unsigned blocks)
{
	struct piece *pc = calloc(1, sizeof *pc);

	if (!pc)
		return NULL;
	pc->x.lblk = lblk;
	pc->x.blocks = pc->x.orig_blocks = pc->x.stored_blocks = (uint16_t)blocks;
	pc->x.codec = EXTENT_RAW;
	return pc;
}

/* Worth compressing? A cheap probe of the first block: data that does not shrink there seldom does
 * later. */
static bool probe(const uint8_t *block)
{
	char out[BLOCK_SIZE];
	int n = LZ4_compress_fast((const char *)block, out, BLOCK_SIZE, BLOCK_SIZE * 7 / 8, 8);

	return n > 0;
}

static void piece_compress(struct pool *p, struct piece *pc)
{
	unsigned n = pc->x.blocks;
	uint8_t *in;
	int cap = (int)((n - 1) * BLOCK_SIZE), out;

	if (n < 2 || !probe(dbuf_data(p, pc->buf[0])))
		return;
	in = malloc(n * BLOCK_SIZE);
	pc->packed = aligned_alloc(BLOCK_SIZE, n * BLOCK_SIZE);
	if (!in || !pc->packed)
		goto raw;
	for (unsigned i = 0; i < n; i++)
		memcpy(in + i * BLOCK_SIZE, dbuf_data(p, pc->buf[i]), BLOCK_SIZE);
	out = LZ4_compress_default((const char *)in, (char *)pc->packed, (int)(n * BLOCK_SIZE),
				   cap);
	if (out <= 0)
		goto raw;
	free(in);
	pc->x.codec = EXTENT_LZ4;
	pc->x.stored_bytes = (uint32_t)out;
	pc->x.stored_blocks = (uint16_t)(((unsigned)out + BLOCK_SIZE - 1) / BLOCK_SIZE);
	memset(pc->packed + out, 0, pc->x.stored_blocks * BLOCK_SIZE - (unsigned)out);
	return;
raw:
	free(in);
	free(pc->packed);
	pc->packed = NULL;
}

static void piece_crc(struct pool *p, struct piece *pc)
{
	for (unsigned i = 0; i < pc->x.stored_blocks; i++)
		pc->x.crc[i] = crc32c(
			0, pc->packed ? pc->packed + i * BLOCK_SIZE : dbuf_data(p, pc->buf[i]),
			BLOCK_SIZE);
}

static int build_seg(struct job *j, const struct dseg *s, uint32_t present, struct piece ***tail)
{
	bool lz4 = !j->tail && j->v->compression == VOL_COMPRESS_LZ4;
	unsigned i = 0;

	while (i < SEG_BLOCKS) {
		unsigned n = 0, max = EXTENT_BLOCKS_MAX;
		struct piece *pc;

		if (!(present & 1u << i)) {
			i++;
			continue;
		}
		if (lz4)
			max = EXTENT_LZ4_BLOCKS_MAX - i % EXTENT_LZ4_BLOCKS_MAX;
		while (n < max && i + n < SEG_BLOCKS && present & 1u << (i + n))
			n++;
		pc = piece_new(s->win * SEG_BLOCKS + i, n);
		if (!pc)
			return -ENOMEM;
		memcpy(pc->buf, &s->buf[i], n * sizeof pc->buf[0]);
		if (lz4)
			piece_compress(j->p, pc);
		piece_crc(j->p, pc);
		**tail = pc;
		*tail = &pc->next;
		i += n;
	}
	return 0;
}

/* ---- place and enter ---- */

/* Blocks of its segment that the piece holds. */
static uint32_t piece_blocks(const struct piece *pc)
{
	uint32_t all = pc->x.blocks == 32 ? ~0u : ((1u << pc->x.blocks) - 1);

	return all << pc->x.lblk % SEG_BLOCKS;
}

/* Which of the piece's blocks are still wanted: a punch may have dropped some meanwhile. */
static uint32_t piece_present(const struct dseg *s, const struct piece *pc)
{
	unsigned first = pc->x.lblk % SEG_BLOCKS;
	uint32_t want = pc->x.blocks == 32 ? ~0u : ((1u << pc->x.blocks) - 1);

	return (s->present >> first) & want;
}

struct enter {
	struct job *j;
	struct piece *pc;
	struct dseg *seg;
	uint64_t object;
	struct chunk *need;
	uint64_t need_id;
};

/* Split a raw (or de-compressed again) piece after its first n blocks. */
static int piece_split(struct piece *pc, unsigned n)
{
	struct piece *rest;

	if (n == pc->x.blocks)
		return 0;
	rest = piece_new(pc->x.lblk + n, pc->x.blocks - n);
	if (!rest)
		return -ENOMEM;
	memcpy(rest->buf, pc->buf + n, rest->x.blocks * sizeof rest->buf[0]);
	memcpy(rest->x.crc, pc->x.crc + n, rest->x.blocks * sizeof rest->x.crc[0]);
	rest->next = pc->next;
	pc->next = rest;
	pc->x.blocks = pc->x.orig_blocks = pc->x.stored_blocks = (uint16_t)n;
	return 0;
}

static void piece_unpack(struct pool *p, struct piece *pc)
{
	free(pc->packed);
	pc->packed = NULL;
	pc->x.codec = EXTENT_RAW;
	pc->x.stored_blocks = pc->x.blocks;
	pc->x.stored_bytes = 0;
	piece_crc(p, pc);
}

/* Enter one piece. blocks becomes 0 when nothing of it is wanted any more. The order matters: the
 * address is taken only when the tree can take the extent without reading, so a restart loses
 * nothing. */
static int enter_step(struct pool *p, void *arg)
{
	struct enter *en = arg;
	struct piece *pc = en->pc;
	struct vol *v = en->j->v;
	uint32_t present = piece_present(en->seg, pc), got, all;
	int rc;

	all = pc->x.blocks == 32 ? ~0u : ((1u << pc->x.blocks) - 1);
	if (present != all) {
		if (pc->packed)
			piece_unpack(p, pc);
		if (!(present & 1u)) {
			unsigned skip = present ? (unsigned)__builtin_ctz(present) : pc->x.blocks;

			rc = piece_split(pc, skip);
			if (!rc)
				pc->x.blocks = 0;
			return rc;
		}
		rc = piece_split(pc, ~present ? (unsigned)__builtin_ctz(~present) : 32u);
		if (rc)
			return rc;
	}
	{
		struct extent probe_x;
		/* Meet missing nodes before an address is taken. */
		rc = extent_lookup(v, en->object, pc->x.lblk, pc->x.lblk + pc->x.blocks, &probe_x);
		if (rc == ERR_NEED_NODE)
			return rc;
		rc = btree_prepare(&v->tree, (struct key){en->object, VOL_KEY_EXTENT, pc->x.lblk});
		if (!rc)
			rc = space_free_reserve(p, SPACE_FREES_SPARE);
		if (rc)
			return rc;
	}
	en->need = NULL;
	rc = space_alloc_data(p, en->j->policy, pc->x.stored_blocks, &pc->x.addr, &got, &en->need);
	if (rc == ERR_NEED_NODE) {
		en->need_id = en->need->id;
		return ERR_LAST;
	}
	if (rc)
		return rc;
	if (got < pc->x.stored_blocks) {
		if (pc->packed)
			piece_unpack(p, pc);
		rc = piece_split(pc, got);
		if (rc)
			goto give_back;
	}
	pc->x.birth = p->open->nr;
	rc = extent_replace(v, en->object, pc->x.lblk, pc->x.blocks, &pc->x, NULL);
	if (!rc) {
		vol_held_entered(v, en->seg, piece_blocks(pc));
		return 0;
	}
give_back:
	space_free(p, pc->x.addr, got, true);
	return rc;
}

/* A bitmap of the pool that cannot be read is not for the volume to answer for. */
static int load_space(struct pool *p, uint64_t chunk_id)
{
	int rc = space_load(p, chunk_id);

	if (!vol_damage_is(rc))
		return rc;
	lock_take(&p->lock);
	pool_fault_locked(p, rc, "flush dirty data: read the space bitmaps");
	lock_drop(&p->lock);
	return ERR_FAULTED;
}

/* The volume's tree cannot take it: what is still wanted of it is lost. */
static void piece_lose(struct job *j, const struct dseg *seg, struct piece *pc, int rc)
{
	lock_take(&j->p->lock);
	vol_damage_note(j->p, j->v->id, rc);
	j->lost += (unsigned)__builtin_popcount(piece_present(seg, pc));
	lock_drop(&j->p->lock);
	pc->x.blocks = 0;
}

static int enter_piece(struct job *j, struct dseg *seg, struct piece *pc)
{
	struct enter en = {.j = j, .pc = pc, .seg = seg, .object = seg->object};
	unsigned tries = 0;

	for (;;) {
		int rc = txn_step(j->p, &j->v->tree, enter_step, &en);

		if (!rc)
			return 0;
		if (vol_damage_is(rc)) {
			piece_lose(j, seg, pc, rc);
			return 0;
		}
		if (rc == ERR_LAST)
			rc = load_space(j->p, en.need_id);
		if (rc == -ENOMEM && txn_wait_memory(j->p, &tries))
			continue;
		if (rc)
			return rc;
	}
}

/* ---- write ---- */

/* One copy is all there is until the commit's flush: its device must stay in service till then. 0,
 * or ERR_DEV_GONE when it has failed already. */
static int sole_copy(struct job *j, const struct dev *d)
{
	uint64_t bit = 1ull << d->id;
	int rc = 0;

	lock_take(&j->p->lock);
	if (!dev_writable(d))
		rc = ERR_DEV_GONE;
	else if (j->txn == j->p->open)
		j->v->sole_open |= bit;
	else
		j->v->sole_frozen |= bit;
	lock_drop(&j->p->lock);
	return rc;
}

static void run_done(struct chunk_write_io *w)
{
	struct run *r = w->arg;
	struct job *j = r->job;
	int rc = w->res;

	for (unsigned i = 0; !rc && w->ok == 1 && i < w->nio; i++)
		if (!w->io[i].res)
			rc = sole_copy(j, w->dev[i]);
	if (rc)
		j->batch.res = rc;
	if (--j->batch.pending == 0 && j->batch.waiting) {
		j->batch.waiting = false;
		co_wake(j->batch.co);
	}
	free(r);
}

static void run_add(struct pool *p, struct run *r, const struct piece *pc)
{
	if (pc->packed) {
		r->iov[r->iovcnt++] =
			(struct iovec){pc->packed, (size_t)pc->x.stored_blocks * BLOCK_SIZE};
	} else {
		for (unsigned i = 0; i < pc->x.blocks; i++) {
			uint8_t *data = dbuf_data(p, pc->buf[i]);
			struct iovec *last = r->iovcnt ? &r->iov[r->iovcnt - 1] : NULL;

			if (last && (uint8_t *)last->iov_base + last->iov_len == data)
				last->iov_len += BLOCK_SIZE;
			else
				r->iov[r->iovcnt++] = (struct iovec){data, BLOCK_SIZE};
		}
	}
	r->blocks += pc->x.stored_blocks;
}

static int write_pieces(struct job *j)
{
	struct piece *pc = j->pieces;
	unsigned tries = 0;

	chunk_batch_init(&j->batch, j->p);
	while (pc) {
		struct run *r;

		if (!pc->x.blocks) {
			pc = pc->next;
			continue;
		}
		r = malloc(sizeof *r);
		if (!r && txn_wait_memory(j->p, &tries))
			continue;
		if (!r) {
			j->batch.res = -ENOMEM;
			break;
		}
		r->job = j;
		r->addr = pc->x.addr;
		r->blocks = 0;
		r->iovcnt = 0;
		r->w.done = run_done;
		r->w.arg = r;
		for (; pc && r->iovcnt + EXTENT_BLOCKS_MAX <= FLUSH_JOB_BLOCKS; pc = pc->next) {
			if (!pc->x.blocks)
				continue;
			if (r->blocks && (!addr_eq(pc->x.addr, addr_add(r->addr, r->blocks)) ||
					  addr_chunk(pc->x.addr) != addr_chunk(r->addr)))
				break;
			run_add(j->p, r, pc);
		}
		j->batch.pending++;
		chunk_write_start(j->p, &r->w, r->addr, r->blocks, r->iov, r->iovcnt, 0);
	}
	chunk_batch_wait(&j->batch);
	return j->batch.res;
}

/* ---- the job ---- */

static void job_release(struct job *j)
{
	struct vol *v = j->v;

	for (unsigned k = 0; k < j->nsegs; k++) {
		struct dseg *s = j->segs[k];

		vol_held_forget(v, s, ~0u);
		for (unsigned i = 0; i < SEG_BLOCKS; i++)
			if (s->present & 1u << i) {
				dbuf_unref(j->p, s->buf[i]);
				v->flushing_blocks--;
			}
		delta_flush_end(v, s);
	}
}

static void pieces_free_from(struct piece **from)
{
	for (struct piece *pc = *from, *next; pc; pc = next) {
		next = pc->next;
		free(pc->packed);
		free(pc);
	}
	*from = NULL;
}

/* No device took some of the data (its only copy was to go to one that failed): what has not been
 * overwritten or dropped since becomes dirty again and finds another place with the next commit.
 * Until then no sync may count on this transaction. */
static void redo(struct job *j)
{
	struct vol *v = j->v;
	struct pool *p = j->p;

	v->redo_txn = j->txn->nr;
	v->flushed_unlogged = true;
	if (j->txn != p->open || p->gate_closed)
		j->txn->data_failed = true; /* it must not become durable without its successor */
	for (unsigned k = 0; k < j->nsegs; k++) {
		struct dseg *s = j->segs[k], *a;

		for (unsigned i = 0; i < SEG_BLOCKS; i++) {
			uint64_t at = s->win * SEG_BLOCKS + i;

			a = delta_seg(&v->active, s->object, s->win);
			if (!(s->present & 1u << i) || (a && a->present & 1u << i))
				continue;
			if (delta_prepare(v, s->object, at, 1)) {
				pool_fault_locked(p, -ENOMEM,
						  "keep data that could not be written");
				return;
			}
			dbuf_ref(p, s->buf[i]);
			p->reserved[vol_policy(v)]++;
			delta_put(v, s->object, at, s->buf[i]);
		}
	}
	txn_mark_dirty_locked(p);
	event_emit_locked(p, "write-redo",
			  "volume %s: data found no device that takes it; placed anew", v->name);
	txn_commit_request_locked(p);
}

/* Small files and scattered blocks are what is read again in small pieces. */
static void keep_small(struct job *j)
{
	for (struct piece *pc = j->pieces; pc && j->p->data_cache; pc = pc->next)
		for (unsigned i = 0; i < pc->x.blocks && pc->x.blocks <= DATA_CACHE_EXTENT_MAX; i++)
			data_cache_put(j->p->data_cache, &pc->x, i, dbuf_data(j->p, pc->buf[i]));
}

static void job_main(void *arg)
{
	struct job *j = arg;
	struct pool *p = j->p;
	struct piece **tail = &j->pieces, *pc;
	unsigned tries = 0;
	int rc = 0;

	for (unsigned k = 0; !rc && k < j->nsegs; k++) {
		struct piece **from = tail;

		do {
			pieces_free_from(from);
			tail = from;
			rc = build_seg(j, j->segs[k], j->present[k], &tail);
		} while (rc == -ENOMEM && txn_wait_memory(p, &tries));
		if (rc)
			break;
		for (pc = *from; !rc && pc; pc = pc->next)
			rc = enter_piece(j, j->segs[k], pc);
		while (*tail) /* splits may have added pieces */
			tail = &(*tail)->next;
	}
	lock_take(&p->lock);
	if (rc)
		pool_fault_locked(p, rc, "flush dirty data");
	else if (j->lost)
		vol_damage_lost(j->v, j->lost);
	space_unadmit(p, j->policy, j->blocks);
	j->txn = p->open;
	j->txn->data_io++;
	for (unsigned k = 0; k < j->nsegs; k++)
		j->segs[k]->entered = true;
	p->flush_writes++;
	p->flush_jobs--;
	txn_mark_dirty_locked(p);
	j->v->rec_dirty = true;
	waitq_wake_all(&p->data_waiters);
	lock_drop(&p->lock);

	if (!rc)
		rc = write_pieces(j);
	if (!rc)
		keep_small(j);
	lock_take(&p->lock);
	if (rc == -ENOMEM)
		pool_fault_locked(p, rc, "write data");
	else if (rc && !p->faulted)
		redo(j);
	for (unsigned i = 0; i < j->blocks; i++)
		dbuf_unref(p, j->held[i]);
	job_release(j);
	j->v->jobs--;
	j->txn->data_io--;
	p->flush_writes--;
	waitq_wake_all(&p->data_waiters);
	if (p->arena.used > p->arena.count / 4)
		flush_request_locked(p);
	lock_drop(&p->lock);
	pieces_free_from(&j->pieces);
	free(j);
}
/* Lock held: start one job for v on this reactor. 0, -ENOENT when there is nothing to take,
 * -ENOMEM: try again later. */
static int job_start_locked(struct vol *v, bool tail)
{
	struct job *j = calloc(1, sizeof *j);

	if (!j)
		return -ENOMEM;
	j->p = v->p;
	j->v = v;
	j->tail = tail;
	j->policy = vol_policy(v);
	/* Queued, not run yet: it finds what is collected now. */
	if (!next_seg(v) || co_spawn(reactor_current(), job_main, j)) {
		int rc = next_seg(v) ? -ENOMEM : -ENOENT;

		free(j);
		return rc;
	}
	collect(j);
	v->jobs++;
	v->p->flush_jobs++;
	return 0;
}

/* Lock held; dropped for a while. */
static void pause_locked(struct pool *p)
{
	lock_drop(&p->lock);
	co_sleep_ns(TXN_MEMORY_PAUSE_NS);
	lock_take(&p->lock);
}

/* The tail does not wait for writes: the gate is closed. */
static bool jobs_full(const struct pool *p, bool tail)
{
	return p->flush_jobs >= FLUSH_JOBS_MAX || (!tail && p->flush_writes >= FLUSH_WRITES_MAX);
}

int flush_all(struct pool *p, bool tail)
{
	lock_take(&p->lock);
	p->flush_commit = true; /* the flusher begins nothing: this would not end beside it */
	for (struct vol *v = p->vols; v && !p->faulted; v = v->next) {
		uint64_t todo = v->active_blocks;

		v->pins++;
		while (!p->faulted && todo) {
			uint64_t before = v->active_blocks;
			int rc = jobs_full(p, tail) ? -EAGAIN : job_start_locked(v, tail);

			if (rc == -ENOMEM) {
				pause_locked(p);
				continue;
			}
			if (rc) {
				if (!v->active_blocks)
					break;
				waitq_wait(&p->data_waiters, &p->lock);
				continue;
			}
			before -= v->active_blocks;
			todo -= before < todo ? before : todo;
		}
		if (--v->pins == 0)
			waitq_wake_all(&p->data_waiters);
	}
	while (p->flush_jobs && !p->faulted)
		waitq_wait(&p->data_waiters, &p->lock);
	p->flush_commit = false;
	waitq_wake_all(&p->data_waiters);
	lock_drop(&p->lock);
	return p->faulted ? ERR_FAULTED : 0;
}

void flush_request_locked(struct pool *p)
{
	if (p->flush_wanted)
		return;
	p->flush_wanted = true;
	waitq_wake_all(&p->flusher_waiters);
}

static struct vol *dirtiest(struct pool *p)
{
	struct vol *best = NULL;

	for (struct vol *v = p->vols; v; v = v->next)
		if (v->active_blocks && (!best || v->active_blocks > best->active_blocks))
			best = v;
	return best;
}

void flush_flusher(void *arg)
{
	struct pool *p = arg;

	lock_take(&p->lock);
	while (!p->stopping) {
		struct vol *v = dirtiest(p);
		int rc = 0;

		if (p->faulted || !p->flush_wanted || !v) {
			p->flush_wanted = false;
			waitq_wait(&p->flusher_waiters, &p->lock);
			continue;
		}
		if (p->gate_closed || p->flush_commit || jobs_full(p, false) ||
		    (rc = job_start_locked(v, false))) {
			if (rc == -ENOMEM)
				pause_locked(p);
			else
				waitq_wait(&p->data_waiters, &p->lock);
			continue;
		}
		if (p->arena.used < p->arena.count / 8)
			p->flush_wanted = false;
	}
	p->bg_count--;
	waitq_wake_all(&p->bg_waiters);
	lock_drop(&p->lock);
}
