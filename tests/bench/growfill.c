/* growfill: a pool on sparse files whose metadata is as large as that of a full pool, without data.
 *
 *   growfill NAME SLOTS_PERCENT BLOCKS_PERCENT DEVICE...
 *
 * The devices are files that exist; their sizes are the pool's. Data chunks of two copies are made
 * until SLOTS_PERCENT of the slots are taken; in each, BLOCKS_PERCENT of the blocks count as used,
 * the free ones spread evenly in runs of eight. No volume refers to the blocks, so `tarn pool
 * check` is right to complain. Prints one JSON object: {"chunks": ..., "seconds": ...}.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "pool/chunk.h"
#include "pool/chunk_list.h"
#include "pool/pool.h"
#include "pool/space.h"
#include "pool/txn.h"
#include "tools/hop.h"

#define COPIES	  2u
#define BATCH	  2000u /* chunks to a commit */
#define RUN	  8u
#define MADE_SIZE BATCH

struct fill {
	const char *name;
	unsigned slots_percent, blocks_percent, ndevs;
	char **paths;
	struct pool *p;
	struct chunk *made[MADE_SIZE];
	struct err e;
	uint64_t chunks;
};

static int open_all(struct fill *f, struct dev_backend **b)
{
	int rc = 0;

	for (unsigned i = 0; !rc && i < f->ndevs; i++)
		rc = dev_file_open(f->paths[i], 0, &b[i], &f->e);
	return rc;
}

static int make_pool(struct fill *f)
{
	struct pool_create_dev devs[POOL_DEVS_MAX] = {0};
	struct dev_backend *b[POOL_DEVS_MAX] = {0};
	int rc = open_all(f, b);

	for (unsigned i = 0; i < f->ndevs; i++)
		devs[i].backend = b[i];
	if (!rc)
		rc = pool_create(f->name, devs, f->ndevs, 0, &f->e);
	if (!rc)
		return pool_import(b, f->ndevs, &(struct pool_options){.force = true},
				   reactor_current(), &f->p, &f->e);
	for (unsigned i = 0; i < f->ndevs; i++)
		dev_close(b[i]);
	return rc;
}

static void slots(const struct pool *p, uint64_t *ret_used, uint64_t *ret_all)
{
	*ret_used = *ret_all = 0;
	for (unsigned i = 0; i < p->ndevs; i++) {
		*ret_all += p->devs[i].slots;
		*ret_used += p->devs[i].slots - p->devs[i].slots_free;
	}
}

/* Lock held. */
static void use_blocks(struct fill *f, struct chunk *c)
{
	struct pool *p = f->p;
	uint32_t n = 0, runs = p->chunk_blocks / RUN;

	for (uint32_t r = 0; r < runs; r++) {
		uint64_t before = (uint64_t)r * f->blocks_percent / 100;

		if ((uint64_t)(r + 1) * f->blocks_percent / 100 == before)
			continue;
		for (uint32_t i = r * RUN; i < (r + 1) * RUN; i++)
			bit_set(c->bits, i);
		n += RUN;
	}
	c->used += n;
	chunk_count_free(p, c, -(int64_t)n);
}

/* -ENOSPC: as full as was asked for. */
static int batch(struct fill *f, unsigned *ret_n)
{
	struct pool *p = f->p;
	int rc = txn_enter(p, true);

	*ret_n = 0;
	if (rc)
		return rc;
	lock_take(&p->lock);
	while (!rc && *ret_n < BATCH) {
		uint64_t used, all;

		slots(p, &used, &all);
		rc = used * 100 >= all * f->slots_percent
			     ? -ENOSPC
			     : chunk_create(p, CHUNK_DATA, policy_of(COPIES, 0), false,
					    &f->made[*ret_n]);
		if (!rc)
			use_blocks(f, f->made[(*ret_n)++]);
	}
	txn_mark_dirty_locked(p);
	lock_drop(&p->lock);
	txn_leave(p);
	return rc;
}

/* What is durable need not stay in memory. */
static void unload(struct fill *f, unsigned n)
{
	lock_take(&f->p->lock);
	for (unsigned i = 0; i < n; i++) {
		struct chunk *c = f->made[i];

		assert(!c->dirty && !c->busy_count);
		free(c->bits);
		free(c->busy);
		c->bits = c->busy = NULL;
	}
	lock_drop(&f->p->lock);
}

static int fill_co(void *arg)
{
	struct fill *f = arg;
	int rc = make_pool(f), rc2;

	if (rc)
		return rc;
	while (!rc) {
		unsigned n;

		rc = batch(f, &n);
		rc2 = txn_commit_wait(f->p);
		if (rc2)
			return err_set(&f->e, rc2, "commit: %s", err_str(rc2));
		unload(f, n);
		f->chunks += n;
	}
	if (rc != -ENOSPC)
		return err_set(&f->e, rc, "make chunks: %s", err_str(rc));
	return pool_export(f->p, false, &f->e);
}

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	static struct fill f;
	double start = now_s();
	int rc;

	if (argc < 5 || argc - 4 > (int)POOL_DEVS_MAX) {
		fprintf(stderr, "usage: growfill NAME SLOTS_PERCENT BLOCKS_PERCENT DEVICE...\n");
		return 2;
	}
	f.name = argv[1];
	f.slots_percent = (unsigned)atoi(argv[2]);
	f.blocks_percent = (unsigned)atoi(argv[3]);
	f.paths = argv + 4;
	f.ndevs = (unsigned)argc - 4;
	rc = hop_private(fill_co, &f);
	if (rc) {
		fprintf(stderr, "growfill: %s\n", f.e.code ? f.e.text : err_str(rc));
		return 1;
	}
	printf("{\"chunks\": %llu, \"seconds\": %.2f}\n", (unsigned long long)f.chunks,
	       now_s() - start);
	return 0;
}
