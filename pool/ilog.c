#include "pool/ilog.h"
#include <string.h>
#include "pool/chunk.h"
#include "pool/delta.h"
#include "pool/event.h"
#include "pool/txn.h"
#include "pool/vol_record.h"

_Static_assert(sizeof(struct ilog_group_disk) == 96, "log group");
_Static_assert(sizeof(struct ilog_rec_disk) == 24, "log record");

#define LOG_MEMORY_MAX (4u << 20) /* records kept per volume before a commit has to do it */

/* ---- recording ---- */

static void put_rec(uint8_t *at, uint8_t type, struct key k, const void *value, uint16_t len)
{
	struct ilog_rec_disk r = {.type = type,
				  .key_type = k.type,
				  .len = le16_of(len),
				  .object = le64_of(k.object),
				  .offset = le64_of(k.offset)};

	memcpy(at, &r, sizeof r);
	if (len)
		memcpy(at + sizeof r, value, len);
}

void ilog_record(struct vol *v, uint8_t type, struct key k, const void *value, uint16_t len)
{
	size_t need = sizeof(struct ilog_rec_disk) + len;

	if (v->log_overflow)
		return;
	if (v->commit_only || v->log_len + need > LOG_MEMORY_MAX) {
		v->log_overflow = true;
		v->log_len = 0;
		return;
	}
	if (v->log_len + need > v->log_cap) {
		size_t cap = v->log_cap ? v->log_cap * 2 : 4096;
		uint8_t *b;

		while (cap < v->log_len + need)
			cap *= 2;
		b = realloc(v->log, cap);
		if (!b) {
			v->log_overflow = true;
			v->log_len = 0;
			return;
		}
		v->log = b;
		v->log_cap = cap;
	}
	put_rec(v->log + v->log_len, type, k, value, len);
	v->log_len += need;
}

void ilog_frozen_locked(struct pool *p)
{
	p->log_frozen = p->log_pos;
}

void ilog_durable_locked(struct pool *p)
{
	p->log_tail = p->log_frozen;
}

/* ---- writing ---- */

struct group {
	struct vol *v;
	uint8_t *log;
	size_t log_len;
	struct gblk {
		uint64_t object, lblk;
		uint32_t buf;
	} * blks;
	size_t nblks;
	uint64_t seq_covered;
	uint64_t log_seq;
	size_t bytes;
	uint32_t blocks;
};

static size_t group_bytes(const struct vol *v)
{
	return sizeof(struct ilog_group_disk) + v->log_len +
	       v->unlogged_blocks * (sizeof(struct ilog_rec_disk) + BLOCK_SIZE);
}

static uint32_t log_room(const struct pool *p)
{
	uint32_t size = p->chunk_blocks;
	uint32_t used = (p->log_pos + size - p->log_tail) % size;

	return size - used - 1;
}

/* The longest group that goes to the log rather than into a commit. */
static size_t group_max(const struct pool *p)
{
	size_t max = (size_t)p->chunk_blocks * BLOCK_SIZE / 8;

	return max < 1u << 20 ? max : 1u << 20;
}

static bool can_log(const struct vol *v)
{
	return !v->log_overflow && !v->flushed_unlogged && v->unlogged_txn <= v->p->durable_txn &&
	       group_bytes(v) <= group_max(v->p);
}

/* Take what v has not logged. */
static int group_take(struct vol *v, struct group *g)
{
	struct dseg *s;
	size_t n = 0;

	*g = (struct group){.v = v, .bytes = group_bytes(v), .seq_covered = v->change_seq};
	g->blocks = (uint32_t)((g->bytes + BLOCK_SIZE - 1) / BLOCK_SIZE);
	v->pins++;
	if (v->unlogged_blocks) {
		g->blks = malloc(v->unlogged_blocks * sizeof *g->blks);
		if (!g->blks) {
			v->pins--;
			return -ENOMEM;
		}
		RB_FOREACH (s, dtree, &v->active) {
			if (!s->unlogged)
				continue;
			for (unsigned i = 0; i < SEG_BLOCKS; i++) {
				if (!(s->unlogged & 1u << i))
					continue;
				dbuf_ref(v->p, s->buf[i]);
				g->blks[n++] = (struct gblk){s->object, s->win * SEG_BLOCKS + i,
							     s->buf[i]};
			}
			s->unlogged = 0;
			if (n == v->unlogged_blocks)
				break;
		}
		assert(n == v->unlogged_blocks);
	}
	g->nblks = n;
	v->unlogged_blocks = 0;
	g->log = v->log;
	g->log_len = v->log_len;
	v->log = NULL;
	v->log_len = v->log_cap = 0;
	v->log_requested = false;
	return 0;
}

static void group_build(struct pool *p, struct group *g, uint8_t *out, uint32_t pos, uint64_t txn)
{
	struct ilog_group_disk h = {.magic = le32_of(ILOG_MAGIC),
				    .seq = le64_of(g->log_seq),
				    .epoch = le64_of(p->log_epoch),
				    .txn = le64_of(txn),
				    .volume = le64_of(g->v->id),
				    .pos = le32_of(pos),
				    .bytes = le32_of((uint32_t)g->bytes)};
	uint8_t *at = out + sizeof h;

	memcpy(h.pool_uuid, p->uuid, 16);
	if (g->log_len)
		memcpy(at, g->log, g->log_len);
	at += g->log_len;
	for (size_t i = 0; i < g->nblks; i++) {
		put_rec(at, ILOG_DATA, (struct key){g->blks[i].object, 0, g->blks[i].lblk},
			dbuf_data(p, g->blks[i].buf), BLOCK_SIZE);
		at += sizeof(struct ilog_rec_disk) + BLOCK_SIZE;
	}
	memset(at, 0, (size_t)g->blocks * BLOCK_SIZE - (size_t)(at - out));
	memcpy(out, &h, sizeof h);
	h.crc = le32_of(crc32c(0, out + 8, g->bytes - 8));
	memcpy(out, &h, sizeof h);
}

#define BATCH_MAX 64

struct batch {
	struct group g[BATCH_MAX];
	unsigned n;
	uint32_t pos, blocks; /* of the log chunk */
	uint64_t txn;
};

/* Lock held: take what the volumes that asked have to log, as far as it fits. */
static int batch_take(struct pool *p, struct batch *b)
{
	uint32_t room = log_room(p);

	b->n = b->blocks = 0;
	b->pos = p->log_pos;
	b->txn = p->open->nr;
	for (struct vol *v = p->vols; v && b->n < BATCH_MAX; v = v->next) {
		uint32_t need = (uint32_t)((group_bytes(v) + BLOCK_SIZE - 1) / BLOCK_SIZE);
		bool wraps = b->pos + b->blocks + need > p->chunk_blocks;
		uint32_t skip = wraps ? p->chunk_blocks - b->pos : 0;
		int rc;

		if (!v->log_requested || v->destroying || !can_log(v))
			continue;
		if (skip && b->n)
			break; /* next batch */
		if (b->blocks + need + skip > room)
			continue; /* its own loop asks for a commit */
		if (skip) {
			b->pos = 0;
			room -= skip;
		}
		rc = group_take(v, &b->g[b->n]);
		if (rc)
			return rc;
		b->g[b->n].log_seq = p->log_seq + b->n;
		b->blocks += b->g[b->n++].blocks;
	}
	return 0;
}

/* What has been taken must be written: one write for all. Yields. */
static int batch_write(struct pool *p, struct batch *b)
{
	unsigned tries = 0;
	uint32_t at = 0;
	uint8_t *buf;
	int rc;

	do {
		buf = aligned_alloc(BLOCK_SIZE, (size_t)b->blocks * BLOCK_SIZE);
	} while (!buf && txn_wait_memory(p, &tries));
	if (!buf)
		return -ENOMEM;
	for (unsigned i = 0; i < b->n; i++) {
		group_build(p, &b->g[i], buf + (size_t)at * BLOCK_SIZE, b->pos + at, b->txn);
		at += b->g[i].blocks;
	}
	rc = chunk_write(p, addr_make(p->log_chunk->id, b->pos), b->blocks, buf, DEV_IO_FUA);
	free(buf);
	return rc;
}

/* Lock held: rc is how the write went. */
static void batch_end(struct pool *p, struct batch *b, int rc)
{
	for (unsigned i = 0; i < b->n; i++) {
		struct group *g = &b->g[i];

		for (size_t k = 0; k < g->nblks; k++)
			dbuf_unref(p, g->blks[k].buf);
		if (!rc && g->v->synced_seq < g->seq_covered)
			g->v->synced_seq = g->seq_covered;
		free(g->blks);
		free(g->log);
		g->v->pins--;
	}
	waitq_wake_all(&p->data_waiters);
	if (rc)
		pool_fault_locked(p, rc, "write intent log");
	p->log_writes++;
	p->log_bytes += (uint64_t)b->blocks * BLOCK_SIZE;
}

/* Lock held on entry and exit, dropped between: write one batch for every volume that asked. */
static int write_batch(struct pool *p)
{
	struct batch b;
	int rc;

	p->log_writing = true;
	rc = batch_take(p, &b);
	if (b.n) {
		p->log_pos = (b.pos + b.blocks) % p->chunk_blocks;
		p->log_seq += b.n;
		lock_drop(&p->lock);
		rc = batch_write(p, &b);
		lock_take(&p->lock);
		batch_end(p, &b, rc);
	}
	p->log_writing = false;
	waitq_wake_all(&p->log_waiters);
	/* Nothing was taken: it does not fit. */
	if (b.n ? log_room(p) < p->chunk_blocks / 2 : !rc)
		txn_commit_request_locked(p);
	return rc;
}

int vol_sync(struct vol *v)
{
	struct pool *p = v->p;
	uint64_t want, told;
	int rc = 0;

	lock_take(&p->lock);
	want = v->change_seq;
	told = v->losses_told;
	while (!rc && v->synced_seq < want) {
		if (p->faulted) {
			rc = ERR_FAULTED;
		} else if (v->unlogged_txn > p->durable_txn) {
			rc = txn_wait_durable_locked(p, v->unlogged_txn);
		} else if (!can_log(v) ||
			   log_room(p) < 2 * ((group_bytes(v) + BLOCK_SIZE - 1) / BLOCK_SIZE) + 1) {
			rc = txn_wait_durable_locked(p, p->open->nr);
		} else if (p->log_writing) {
			v->log_requested = true;
			waitq_wait(&p->log_waiters, &p->lock);
		} else {
			v->log_requested = true;
			rc = write_batch(p);
		}
	}
	v->log_requested = false;
	if (!rc && v->losses != told) {
		v->losses_told = v->losses;
		rc = -EIO;
	}
	lock_drop(&p->lock);
	return rc;
}
