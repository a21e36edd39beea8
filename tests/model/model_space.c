/* model_space: the space map against a plain set of blocks, every call compared.
 *
 * A pool without volumes is the subject; the test is the only one to ask for data blocks. The
 * model knows for every block it got whether it is held, freed in a transaction that is not
 * durable or still read, or free, and that is what the map has to keep to: a block is handed out
 * only when it is free, what was promised can be taken, and what was freed comes back.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "pool/chunk.h"
#include "pool/space.h"
#include "pool/txn.h"
#include "tests/sim/rig.h"

#define CHUNKS_MAX   512u
#define CHUNK_BYTES  (1u << 20)
#define CHUNK_BLOCKS (CHUNK_BYTES / 4096u)
#define RUNS_MAX     100000u
#define READERS	     3u

enum state { FREE, HELD, WAITING }; /* WAITING: freed, may not be handed out yet */

struct block {
	uint8_t state;
	uint64_t txn;
};
struct run {
	struct addr addr;
	uint32_t blocks;
};
struct reader {
	struct txn *txn;
	uint64_t nr;
};

struct model {
	struct rig rig;
	struct pool *p;
	struct sim_rng rng;
	uint64_t seed, ops, op;
	struct block *block; /* [chunk][block] */
	struct run *run;     /* held */
	unsigned nruns, copies;
	uint64_t admitted; /* promised and not taken */
	struct reader reader[READERS];
};

static void fail(struct model *m, const char *fmt, ...)
	__attribute__((format(printf, 2, 3), noreturn));
static void fail(struct model *m, const char *fmt, ...)
{
	va_list ap;
	printf("model_space seed %llu op %llu: ", (unsigned long long)m->seed,
	       (unsigned long long)m->op);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	exit(1);
}

static struct block *block_of(struct model *m, struct addr a)
{
	if (addr_chunk(a) >= CHUNKS_MAX || addr_block(a) >= CHUNK_BLOCKS)
		fail(m, "address %llx is not in the pool", (unsigned long long)a.v);
	return &m->block[addr_chunk(a) * CHUNK_BLOCKS + addr_block(a)];
}

/* Freed blocks may be handed out when their transaction is durable and no reader is as old. */
static bool may_come_back(struct model *m, const struct block *b)
{
	if (b->txn > m->p->durable_txn)
		return false;
	for (unsigned i = 0; i < READERS; i++)
		if (m->reader[i].txn && m->reader[i].nr <= b->txn)
			return false;
	return true;
}

/* ---- operations ---- */

static void do_admit(struct model *m)
{
	uint64_t n = rng_skewed(&m->rng, 2000), before;
	lock_take(&m->p->lock);
	before = space_available(m->p, m->copies);
	int rc = space_admit(m->p, m->copies, n);
	uint64_t after = space_available(m->p, m->copies);
	lock_drop(&m->p->lock);
	if (rc && before >= n)
		fail(m, "admission of %llu blocks refused with %llu available",
		     (unsigned long long)n, (unsigned long long)before);
	if (rc && rc != -ENOSPC)
		fail(m, "admission: %d", rc);
	if (!rc && before < n)
		fail(m, "admission of %llu blocks with %llu available", (unsigned long long)n,
		     (unsigned long long)before);
	if (rc ? after != before : after != before - n)
		fail(m, "available went from %llu to %llu by an admission of %llu",
		     (unsigned long long)before, (unsigned long long)after, (unsigned long long)n);
	if (!rc)
		m->admitted += n;
}

static void do_unadmit(struct model *m)
{
	uint64_t n = rng_below(&m->rng, m->admitted + 1);
	lock_take(&m->p->lock);
	space_unadmit(m->p, m->copies, n);
	lock_drop(&m->p->lock);
	m->admitted -= n;
}

static void took(struct model *m, struct addr a, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		struct block *b = block_of(m, addr_add(a, i));
		if (b->state == HELD)
			fail(m, "block %llx handed out twice", (unsigned long long)a.v + i);
		if (b->state == WAITING && !may_come_back(m, b))
			fail(m,
			     "block %llx, freed in transaction %llu, handed out too early "
			     "(durable: %llu)",
			     (unsigned long long)a.v + i, (unsigned long long)b->txn,
			     (unsigned long long)m->p->durable_txn);
		b->state = HELD;
	}
	m->run[m->nruns++] = (struct run){a, n};
}

/* Take what was promised: this must never fail. */
static void do_alloc(struct model *m)
{
	uint32_t want = (uint32_t)rng_range(&m->rng, 1, 32), got = 0;
	struct chunk *need = NULL;
	struct addr a;
	if (m->admitted < want || m->nruns == RUNS_MAX)
		return;
	for (;;) {
		lock_take(&m->p->lock);
		int rc = space_alloc_data(m->p, m->copies, want, &a, &got, &need);
		if (!rc) {
			space_unadmit(m->p, m->copies, got);
			txn_mark_dirty_locked(m->p);
		}
		uint64_t id = rc == ERR_NEED_NODE ? need->id : 0;
		lock_drop(&m->p->lock);
		if (!rc)
			break;
		if (rc != ERR_NEED_NODE)
			fail(m, "%llu blocks were promised, taking %u: %d %s",
			     (unsigned long long)m->admitted, want, rc, err_str(rc));
		rc = space_load(m->p, id);
		if (rc)
			fail(m, "space_load: %d", rc);
	}
	if (!got || got > want)
		fail(m, "asked for %u blocks, got %u", want, got);
	took(m, a, got);
	m->admitted -= got;
}

static void do_free(struct model *m)
{
	if (!m->nruns)
		return;
	unsigned i = (unsigned)rng_below(&m->rng, m->nruns);
	struct run *r = &m->run[i];
	uint32_t n = (uint32_t)rng_range(&m->rng, 1, r->blocks);
	struct addr a = addr_add(r->addr, r->blocks - n);
	lock_take(&m->p->lock);
	uint64_t nr = m->p->open->nr;
	space_free(m->p, a, n, false);
	txn_mark_dirty_locked(m->p);
	lock_drop(&m->p->lock);
	for (uint32_t k = 0; k < n; k++)
		*block_of(m, addr_add(a, k)) = (struct block){WAITING, nr};
	r->blocks -= n;
	if (!r->blocks)
		*r = m->run[--m->nruns];
}

static void do_reader(struct model *m)
{
	struct reader *r = &m->reader[rng_below(&m->rng, READERS)];
	if (r->txn) {
		txn_read_end(m->p, r->txn);
		r->txn = NULL;
		return;
	}
	r->txn = txn_read_begin(m->p);
	r->nr = r->txn->nr;
}

static void end_readers(struct model *m)
{
	for (unsigned i = 0; i < READERS; i++) {
		if (m->reader[i].txn)
			txn_read_end(m->p, m->reader[i].txn);
		m->reader[i].txn = NULL;
	}
}

static void do_commit(struct model *m)
{
	int rc = pool_commit(m->p);
	if (rc)
		fail(m, "commit: %d %s", rc, err_str(rc));
}

/* ---- the run ---- */

static uint64_t available(struct model *m)
{
	lock_take(&m->p->lock);
	uint64_t n = space_available(m->p, m->copies);
	lock_drop(&m->p->lock);
	return n;
}

static void one_op(struct model *m)
{
	uint64_t dice = rng_below(&m->rng, 100);
	if (dice < 6)
		do_admit(m);
	else if (dice < 8)
		do_unadmit(m);
	else if (dice < 58)
		do_alloc(m);
	else if (dice < 92)
		do_free(m);
	else if (dice < 96)
		do_reader(m);
	else
		do_commit(m);
}

/* Everything given back: as much is available as at the beginning. */
static void give_back(struct model *m, uint64_t at_first)
{
	end_readers(m);
	while (m->nruns) {
		struct run *r = &m->run[--m->nruns];
		lock_take(&m->p->lock);
		space_free(m->p, r->addr, r->blocks, false);
		txn_mark_dirty_locked(m->p);
		lock_drop(&m->p->lock);
	}
	lock_take(&m->p->lock);
	space_unadmit(m->p, m->copies, m->admitted);
	lock_drop(&m->p->lock);
	for (unsigned i = 0; i < 4; i++) {
		lock_take(&m->p->lock);
		txn_mark_dirty_locked(m->p);
		lock_drop(&m->p->lock);
		do_commit(m);
	}
	uint64_t now = available(m), slack = 8ull * CHUNK_BLOCKS;
	if (now + slack < at_first)
		fail(m, "all was given back, but only %llu of %llu blocks are available",
		     (unsigned long long)now, (unsigned long long)at_first);
}

static void run(void *arg)
{
	struct model *m = arg;
	struct err e = {0};
	char text[256];
	uint64_t problems;
	if (rig_create(&m->rig, CHUNK_BYTES, &e) || rig_import(&m->rig, &e))
		fail(m, "set up: %s", e.text);
	m->p = m->rig.pool;
	uint64_t at_first = available(m);
	for (m->op = 0; m->op < m->ops; m->op++)
		one_op(m);
	give_back(m, at_first);
	if (rig_check(&m->rig, &problems, text, sizeof(text)) || problems)
		fail(m, "pool_check: %s", text);
	if (rig_export(&m->rig, &e))
		fail(m, "export: %s", e.text);
}

int main(int argc, char **argv)
{
	bool is_long = getenv("TARN_LONG") != NULL;
	uint64_t first = 1, last = is_long ? 600 : 60, ops = is_long ? 20000 : 4000;
	if (argc > 1)
		first = last = strtoull(argv[1], NULL, 0);
	static struct model m;
	for (uint64_t seed = first; seed <= last; seed++) {
		memset(&m, 0, sizeof(m));
		m.seed = seed;
		m.ops = ops;
		m.rng = rng_of(seed, 6);
		m.copies = 1 + (unsigned)(seed % 3);
		m.block = calloc((size_t)CHUNKS_MAX * CHUNK_BLOCKS, sizeof(*m.block));
		m.run = calloc(RUNS_MAX, sizeof(*m.run));
		if (!m.block || !m.run)
			abort();
		rig_init(&m.rig, seed, 3, 32 << 20);
		rig_run(&m.rig, run, &m, "model_space");
		rig_fini(&m.rig);
		free(m.block);
		free(m.run);
	}
	printf("%llu seeds of %llu operations agree with the model\n",
	       (unsigned long long)(last - first + 1), (unsigned long long)ops);
	return 0;
}
