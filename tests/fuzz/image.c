#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "pool/vol.h"
#include "tests/fuzz/image.h"
#include "tests/sim/sim_rand.h"

#define DISK_BYTES (16ull << 20)
#define BLOCK	   4096u

static void must(int rc, const char *what, const struct err *e)
{
	if (!rc)
		return;
	printf("image: %s: %d %s\n", what, rc, e ? e->text : "");
	abort();
}

static void fill(uint8_t *buf, size_t len, uint64_t seed, bool packs)
{
	struct sim_rng g = rng_of(seed, 1);
	uint64_t v = rng_next(&g);
	for (size_t i = 0; i < len; i++) {
		if (i % 8 == 0 && (!packs || i % 512 == 0))
			v = rng_next(&g);
		buf[i] = (uint8_t)(v >> (i % 8 * 8));
	}
}

static void write_data(struct vol *v, uint64_t object, uint64_t block, unsigned blocks, bool packs)
{
	uint8_t *buf = malloc(blocks * BLOCK);
	if (!buf)
		abort();
	fill(buf, blocks * BLOCK, object * 1000 + block, packs);
	int rc = vol_write(v, object, block * BLOCK, blocks * BLOCK, buf, NULL, NULL);
	must(rc, "vol_write", NULL);
	free(buf);
}

struct put {
	uint64_t object, first;
	unsigned n, len;
};

static int put_fn(struct vol *v, void *arg)
{
	const struct put *p = arg;
	uint8_t value[4096];
	int rc = 0;
	for (unsigned i = 0; i < p->n && !rc; i++)
		rc = vol_prepare(v, (struct key){p->object, 3, p->first + i});
	for (unsigned i = 0; i < p->n && !rc; i++) {
		fill(value, p->len, p->first + i, false);
		rc = vol_put(v, (struct key){p->object, 3, p->first + i}, value, (uint16_t)p->len);
	}
	return rc;
}

static void put_items(struct vol *v, uint64_t object, unsigned count, unsigned len)
{
	for (unsigned i = 0; i < count; i += 8) {
		struct put p = {object, i, 8, len};
		must(vol_change(v, false, put_fn, &p), "vol_change", NULL);
	}
}

static void fill_fs(struct vol *v)
{
	write_data(v, 16, 0, 64, false);
	write_data(v, 16, 64, 64, true);
	write_data(v, 17, 5, 3, true);
	put_items(v, 16, 200, 300);
	put_items(v, 20, 16, 3000);
}

static void make(void *arg)
{
	struct rig *g = arg;
	struct err e = {0};
	struct vol *fs, *blk;
	struct vol_options o = {.type = VOL_TYPE_FS, .copies = 2, .compression = VOL_COMPRESS_LZ4};
	must(rig_create(g, 1 << 20, &e), "pool_create", &e);
	must(rig_import(g, &e), "pool_import", &e);
	must(vol_create(g->pool, "fs", &o, &e), "vol_create", &e);
	must(vol_create(g->pool, "gone", &o, &e), "vol_create", &e);
	o.type = VOL_TYPE_BLOCK;
	o.copies = 1;
	o.size_bytes = 8 << 20;
	must(vol_create(g->pool, "blk", &o, &e), "vol_create", &e);
	must(vol_open(g->pool, "fs", &fs, &e), "vol_open", &e);
	must(vol_open(g->pool, "blk", &blk, &e), "vol_open", &e);
	fill_fs(fs);
	write_data(blk, VOL_BLOCK_OBJECT, 100, 40, true);
	must(vol_reserve(blk, VOL_BLOCK_OBJECT, 0, 20 * BLOCK, NULL, NULL), "vol_reserve", NULL);
	must(pool_commit(g->pool), "pool_commit", NULL);
	/* Cut extents in pieces, then things only the log knows. */
	write_data(fs, 16, 70, 2, true);
	must(vol_destroy(g->pool, "gone", &e), "vol_destroy", &e);
	must(pool_commit(g->pool), "pool_commit", NULL);
	write_data(fs, 17, 9, 2, false);
	must(vol_sync(fs), "vol_sync", NULL);
	put_items(fs, 30, 8, 100);
	must(vol_punch(fs, 16, 30 * BLOCK, 3 * BLOCK, NULL, NULL), "vol_punch", NULL);
	must(vol_sync(fs), "vol_sync", NULL);
	write_data(blk, VOL_BLOCK_OBJECT, 3, 2, true);
	must(vol_sync(blk), "vol_sync", NULL);
}

const struct image *image_get(void)
{
	static struct image image;
	static struct rig g;
	if (image.disk[0])
		return &image;
	sim_rand_seed(1);
	rig_init(&g, 1, IMAGE_DISKS, DISK_BYTES);
	g.opt.commit_ns = 1000 * SIM_SEC;
	rig_run(&g, make, &g, "making the image");
	rig_cut(&g, SIM_CUT_KEEP_ALL);
	for (unsigned i = 0; i < IMAGE_DISKS; i++)
		image.disk[i] = g.disk[i];
	return &image;
}

void image_rig(struct rig *g, uint64_t seed)
{
	const struct image *im = image_get();
	rig_init(g, seed, IMAGE_DISKS, DEV_BLOCK);
	for (unsigned i = 0; i < IMAGE_DISKS; i++) {
		sim_disk_destroy(g->disk[i]);
		g->disk[i] = sim_disk_clone(im->disk[i], &g->bus, seed + i);
	}
}
