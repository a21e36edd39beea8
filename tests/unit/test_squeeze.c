/* A pool that was full keeps a little in every chunk: the slots come back by themselves, and a
 * device can be removed though at first no slot is free for what it holds. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "pool/pool.h"
#include "pool/vol.h"

#define DEVS	    5
#define DEV_BYTES   (40ull << 20)
#define RUN_BLOCKS  32u
#define KEPT_OF	    16u /* one block of so many stays */
#define VOLUME_RUNS 2048u

enum story { BY_ITSELF, REMOVAL, REMOVAL_AND_FAILURE };

static char dir[64];
static struct reactor *reactor;

static struct dev_backend *open_dev(unsigned i)
{
	struct dev_backend *b;
	struct err e = {0};
	char path[96];

	snprintf(path, sizeof path, "%s/d%u", dir, i);
	if (dev_file_make_sparse(path, DEV_BYTES, &e) || dev_file_open(path, 0, &b, &e))
		fail_msg("%s", e.text);
	return b;
}

static struct pool *make_pool(void)
{
	struct pool_options o = {.delta_bytes = 8u << 20, .cache_bytes = 4u << 20};
	struct pool_create_dev cd[DEVS];
	struct dev_backend *d[DEVS];
	struct err e = {0};
	struct pool *p;

	for (unsigned i = 0; i < DEVS; i++)
		cd[i] = (struct pool_create_dev){open_dev(i), "", ""};
	if (pool_create("squeeze", cd, DEVS, 1u << 20, &e))
		fail_msg("%s", e.text);
	for (unsigned i = 0; i < DEVS; i++) {
		dev_close(cd[i].backend);
		d[i] = open_dev(i);
	}
	if (pool_import(d, DEVS, &o, reactor, &p, &e))
		fail_msg("%s", e.text);
	return p;
}

static void fill(uint32_t *blocks, uint64_t at, unsigned n)
{
	for (uint64_t i = 0; i < n * 1024ull; i++)
		blocks[i] = (uint32_t)((at * 1024 + i) * 2654435761u >> 3);
}

/* Write until there is no space left. Returns how many runs. */
static uint64_t fill_up(struct vol *v)
{
	uint32_t *buf = aligned_alloc(4096, RUN_BLOCKS * 4096);
	uint64_t runs = 0;
	int rc = 0;

	for (; runs < VOLUME_RUNS && !rc; runs += !rc) {
		uint64_t at = runs * RUN_BLOCKS;

		fill(buf, at, RUN_BLOCKS);
		rc = vol_write(v, VOL_BLOCK_OBJECT, at * 4096, RUN_BLOCKS * 4096, buf, NULL, NULL);
	}
	assert_int_equal(rc, -ENOSPC);
	free(buf);
	return runs;
}

static void thin_out(struct vol *v, uint64_t runs)
{
	for (uint64_t at = 0; at < runs * RUN_BLOCKS; at += KEPT_OF)
		assert_int_equal(vol_punch(v, VOL_BLOCK_OBJECT, (at + 1) * 4096,
					   (KEPT_OF - 1) * 4096, NULL, NULL),
				 0);
}

static void compare(struct pool *p, struct vol *v, uint64_t runs)
{
	uint32_t *got = aligned_alloc(4096, 4096), *want = aligned_alloc(4096, 4096);
	struct pool_check_result r;
	struct err e = {0};

	for (uint64_t at = 0; at < runs * RUN_BLOCKS; at += KEPT_OF) {
		fill(want, at, 1);
		assert_int_equal(vol_read(v, VOL_BLOCK_OBJECT, at * 4096, 4096, got), 0);
		assert_memory_equal(got, want, 4096);
	}
	free(got);
	free(want);
	assert_int_equal(pool_commit(p), 0);
	assert_int_equal(pool_check(p, true, stderr, NULL, NULL, &r, &e), 0);
	assert_int_equal(r.problems, 0);
}

static uint64_t used_bytes(struct pool *p)
{
	struct pool_status *s = malloc(sizeof *s);
	uint64_t n = 0;

	pool_status_get(p, s);
	for (unsigned i = 0; i < s->ndevs; i++)
		n += s->devs[i].used_bytes;
	free(s);
	return n;
}

static unsigned dev_count(struct pool *p)
{
	struct pool_status *s = malloc(sizeof *s);
	unsigned n;

	pool_status_get(p, s);
	n = s->ndevs;
	free(s);
	return n;
}

/* The same again: most of the pool is free, so there is space for it. */
static void write_kept(struct vol *v, uint64_t at)
{
	uint32_t *buf = aligned_alloc(4096, 4096);

	fill(buf, at, 1);
	assert_int_equal(vol_write(v, VOL_BLOCK_OBJECT, at * 4096, 4096, buf, NULL, NULL), 0);
	free(buf);
}

/* The last device leaves under writes at once, before anything came back by itself. */
static void leave(struct pool *p, struct vol *v, uint64_t runs, bool another_fails)
{
	struct pool_move_plan plan;
	struct err e = {0};
	uint64_t at = 0;

	assert_int_equal(pool_commit(p), 0); /* what was punched is free now */
	if (pool_dev_remove(p, DEVS - 1, false, &plan, &e))
		fail_msg("%s", e.text);
	if (another_fails)
		assert_int_equal(pool_dev_offline(p, 1, &e), 0);
	for (unsigned i = 0; i < 1000 && dev_count(p) == DEVS; i++) {
		for (unsigned k = 0; k < 40; k++, at = (at + 7 * KEPT_OF) % (runs * RUN_BLOCKS))
			write_kept(v, at);
		co_sleep_ns(20000000);
	}
	assert_int_equal(dev_count(p), DEVS - 1);
}

static void story(void *arg)
{
	struct vol_options o = {.type = VOL_TYPE_BLOCK,
				.copies = 2,
				.compression = VOL_COMPRESS_OFF,
				.size_bytes = VOLUME_RUNS * RUN_BLOCKS * 4096ull};
	enum story *how = arg;
	struct pool *p = make_pool();
	struct err e = {0};
	uint64_t runs, full;
	struct vol *v;

	assert_int_equal(vol_create(p, "v", &o, &e), 0);
	assert_int_equal(vol_open(p, "v", &v, &e), 0);
	runs = fill_up(v);
	assert_int_equal(pool_commit(p), 0);
	full = used_bytes(p);
	assert_true(full > DEVS * DEV_BYTES * 3 / 4);
	thin_out(v, runs);
	if (*how == BY_ITSELF) {
		for (unsigned i = 0; i < 1000 && used_bytes(p) > full * 2 / 3; i++)
			co_sleep_ns(20000000);
		assert_true(used_bytes(p) <= full * 2 / 3);
	} else {
		leave(p, v, runs, *how == REMOVAL_AND_FAILURE);
	}
	compare(p, v, runs);
	vol_close(v);
	assert_int_equal(pool_export(p, false, &e), 0);
	reactor_stop(reactor);
}

static void run_story(enum story how)
{
	assert_int_equal(reactor_uring_create(256, &reactor), 0);
	assert_int_equal(co_spawn(reactor, story, &how), 0);
	reactor_run(reactor);
	reactor_destroy(reactor);
	for (unsigned i = 0; i < DEVS; i++) {
		char path[96];

		snprintf(path, sizeof path, "%s/d%u", dir, i);
		unlink(path);
	}
}

static void test_by_itself(void **state)
{
	(void)state;
	run_story(BY_ITSELF);
}

static void test_removal(void **state)
{
	(void)state;
	run_story(REMOVAL);
}

static void test_removal_and_failure(void **state)
{
	(void)state;
	run_story(REMOVAL_AND_FAILURE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_by_itself),
					   cmocka_unit_test(test_removal),
					   cmocka_unit_test(test_removal_and_failure)};
	int rc;

	snprintf(dir, sizeof dir, "%s/tarn-squeeze.XXXXXX", "/var/tmp");
	if (!mkdtemp(dir))
		return 1;
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	rmdir(dir);
	return rc;
}
