/* Devices join, leave, shrink, grow, fail and return while data is written; every byte is compared
 * after each step. */
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

#define DEVS	  6
#define BLOCKS	  4000u
#define DEV_BYTES (48ull << 20)

static char dir[64];
static struct reactor *reactor;
static uint32_t stamp[2][BLOCKS];
static uint64_t rng = 88172645463325252ull;

static uint64_t next_rand(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng;
}

static struct dev_backend *open_dev(unsigned i)
{
	struct dev_backend *b;
	struct err e = {0};
	char path[96];

	snprintf(path, sizeof path, "%s/d%u", dir, i);
	if (dev_file_make_sparse(path, DEV_BYTES, &e) || dev_file_open(path, 0, &b, &e)) {
		fprintf(stderr, "%s\n", e.text);
		abort();
	}
	return b;
}

static struct pool *import_pool(unsigned from, unsigned to)
{
	struct pool_options o = {
		.delta_bytes = 4u << 20, .cache_bytes = 2u << 20, .degraded_ok = true};
	struct dev_backend *d[DEVS];
	struct err e = {0};
	struct pool *p;

	for (unsigned i = from; i < to; i++)
		d[i - from] = open_dev(i);
	if (pool_import(d, to - from, &o, reactor, &p, &e)) {
		fprintf(stderr, "%s\n", e.text);
		abort();
	}
	return p;
}

static void fill(uint32_t *block, unsigned vol, uint64_t at, uint32_t value)
{
	for (unsigned i = 0; i < 1024; i++)
		block[i] =
			value ? value * 2654435761u + (uint32_t)at * 40503u + vol + i * (value % 3)
			      : 0;
}

static void scribble(struct vol **v, unsigned count)
{
	uint32_t *block = aligned_alloc(4096, 4096);

	for (unsigned i = 0; i < count; i++) {
		unsigned k = i & 1;
		uint64_t at = next_rand() % BLOCKS;

		fill(block, k, at, ++stamp[k][at]);
		assert_int_equal(vol_write(v[k], 1, at * 4096, 4096, block, NULL, NULL), 0);
	}
	free(block);
}

static void compare_data(struct vol **v)
{
	uint32_t *block = aligned_alloc(4096, 4096), *want = aligned_alloc(4096, 4096);

	for (unsigned k = 0; k < 2; k++)
		for (uint64_t at = 0; at < BLOCKS; at++) {
			fill(want, k, at, stamp[k][at]);
			assert_int_equal(vol_read(v[k], 1, at * 4096, 4096, block), 0);
			assert_memory_equal(block, want, 4096);
		}
	free(block);
	free(want);
}

static void compare(struct pool *p, struct vol **v)
{
	struct pool_check_result r;
	struct err e = {0};

	compare_data(v);
	assert_int_equal(pool_commit(p), 0);
	assert_int_equal(pool_check(p, true, stderr, NULL, NULL, &r, &e), 0);
	assert_int_equal(r.problems, 0);
}

static unsigned dev_count(struct pool *p, bool *ret_healthy)
{
	struct pool_status *s = malloc(sizeof *s);
	unsigned n;

	pool_status_get(p, s);
	n = s->ndevs;
	*ret_healthy = !strcmp(s->health, "online");
	free(s);
	return n;
}

/* Write on until the movers are done. */
static void settle(struct pool *p, struct vol **v, unsigned want_devs)
{
	for (unsigned i = 0; i < 2000; i++) {
		struct pool_mover_status m;
		bool healthy;
		unsigned n = dev_count(p, &healthy);

		pool_mover_status_get(p, &m);
		if (!m.active && n == want_devs && healthy)
			return;
		scribble(v, 20);
		co_sleep_ns(20000000);
	}
	fail_msg("movers did not finish");
}

static void open_vols(struct pool *p, struct vol **v)
{
	struct err e = {0};

	assert_int_equal(vol_open(p, "one", &v[0], &e), 0);
	assert_int_equal(vol_open(p, "two", &v[1], &e), 0);
}

static struct pool *restart(struct pool *p, struct vol **v, unsigned from, unsigned to)
{
	struct err e = {0};

	vol_close(v[0]);
	vol_close(v[1]);
	if (pool_export(p, false, &e))
		fail_msg("%s", e.text);
	p = import_pool(from, to);
	open_vols(p, v);
	return p;
}

/* Both volumes get another number of copies under load. */
static void convert(struct pool *p, struct vol **v)
{
	struct vol_compliance c;
	struct err e = {0};

	assert_int_equal(vol_set_copies(p, "one", 4, &e), -EINVAL);
	assert_int_equal(vol_set_copies(p, "one", 3, &e), 0);
	assert_int_equal(vol_set_copies(p, "two", 2, &e), 0);
	for (unsigned i = 0; i < 1000; i++) {
		uint64_t left = 0;

		for (unsigned k = 0; k < 2; k++) {
			assert_int_equal(vol_compliance_get(v[k], &c), 0);
			left += c.other_policy_bytes + c.degraded_bytes;
		}
		if (!left && c.compliant_bytes && i > 5)
			break;
		assert_int_not_equal(i, 999);
		scribble(v, 20);
		co_sleep_ns(20000000);
	}
	compare(p, v);
	/* Any two of the three devices can go now as far as volume one is concerned; one as far as
	 * two is. */
	assert_int_equal(pool_dev_offline(p, 1, &e), 0);
	compare_data(v);
	assert_int_equal(pool_dev_online(p, open_dev(1), &e), 0);
}

static void story(void *arg)
{
	struct vol_options o = {.type = VOL_TYPE_BLOCK,
				.copies = 2,
				.compression = VOL_COMPRESS_LZ4,
				.size_bytes = BLOCKS * 4096ull};
	struct pool_create_dev cd[2] = {{open_dev(0), "", ""}, {open_dev(1), "", ""}};
	struct pool_add_options ao = {"", "", false};
	struct pool_move_plan plan;
	struct err e = {0};
	struct vol *v[2];
	struct pool *p;

	(void)arg;
	assert_int_equal(pool_create("geo", cd, 2, 1u << 20, &e), 0);
	dev_close(cd[0].backend);
	dev_close(cd[1].backend);
	p = import_pool(0, 2);
	assert_int_equal(vol_create(p, "one", &o, &e), 0);
	o.copies = 1;
	assert_int_equal(vol_create(p, "two", &o, &e), 0);
	open_vols(p, v);
	scribble(v, 4500);

	/* With two devices and two copies none can leave. */
	assert_int_equal(pool_dev_remove(p, 0, true, &plan, &e), 0);
	assert_false(plan.fits);
	assert_int_equal(pool_dev_remove(p, 0, false, &plan, &e), -ENOSPC);

	/* Two more join; metadata gets its third copy. */
	assert_int_equal(pool_dev_add(p, open_dev(2), &ao, &e), 0);
	assert_int_equal(pool_dev_add(p, open_dev(3), &ao, &e), 0);
	scribble(v, 2000);
	settle(p, v, 4);
	compare(p, v);

	/* The first leaves under load. */
	assert_int_equal(pool_dev_remove(p, 0, false, &plan, &e), 0);
	assert_true(plan.fits);
	settle(p, v, 3);
	compare(p, v);
	p = restart(p, v, 1, 4);
	compare(p, v);

	assert_int_equal(pool_rebalance(p, true), 0);
	settle(p, v, 3);
	compare(p, v);

	/* One shrinks to a little over half. */
	assert_int_equal(pool_dev_shrink(p, 1, 30u << 20, false, &plan, &e), 0);
	settle(p, v, 3);
	compare(p, v);
	p = restart(p, v, 1, 4);
	assert_int_equal(pool_dev_grow(p, 1, DEV_BYTES, &e), 0);
	scribble(v, 3000);
	compare(p, v);

	/* One is out for a while, returns, and another leaves for good at once. */
	assert_int_equal(pool_dev_offline(p, 2, &e), 0);
	scribble(v, 500);
	assert_int_equal(pool_dev_online(p, open_dev(2), &e), 0);
	assert_int_equal(pool_dev_add(p, open_dev(4), &ao, &e), 0);
	assert_int_equal(pool_dev_remove(p, 3, false, &plan, &e), 0);
	settle(p, v, 3);
	compare(p, v);
	convert(p, v);
	vol_close(v[0]);
	vol_close(v[1]);
	assert_int_equal(pool_export(p, false, &e), 0);
	reactor_stop(reactor);
}

static void test_story(void **state)
{
	(void)state;
	assert_int_equal(reactor_uring_create(256, &reactor), 0);
	assert_int_equal(co_spawn(reactor, story, NULL), 0);
	reactor_run(reactor);
	reactor_destroy(reactor);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_story)};
	char cmd[128];
	int rc;

	snprintf(dir, sizeof dir, "%s/tarn-geo.XXXXXX", "/var/tmp");
	if (!mkdtemp(dir))
		return 1;
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	for (unsigned i = 0; i < DEVS; i++) {
		snprintf(cmd, sizeof cmd, "%s/d%u", dir, i);
		unlink(cmd);
	}
	rmdir(dir);
	return rc;
}
