/* The cache of small data: what it must never confuse, and its bound. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include "pool/data_cache.h"

static uint8_t page[BLOCK_SIZE], got[BLOCK_SIZE];

static struct extent raw_at(uint64_t addr, uint64_t birth)
{
	return (struct extent){.addr = {addr}, .birth = birth, .blocks = 8, .codec = EXTENT_RAW};
}

static void put(struct data_cache *c, const struct extent *x, unsigned block, int fill)
{
	memset(page, fill, sizeof(page));
	data_cache_put(c, x, block, page);
}

static void assert_holds(struct data_cache *c, const struct extent *x, unsigned block, int fill)
{
	memset(page, fill, sizeof(page));
	assert_true(data_cache_get(c, x, block, got));
	assert_memory_equal(got, page, sizeof(page));
}

static void test_none(void **state)
{
	struct extent x = raw_at(64, 1);
	struct data_cache *c;

	(void)state;
	assert_int_equal(data_cache_create(BLOCK_SIZE, &c), 0);
	assert_null(c);
	put(c, &x, 0, 1);
	assert_false(data_cache_get(c, &x, 0, got));
	data_cache_destroy(c);
}

static void test_identity(void **state)
{
	struct extent x = raw_at(64, 5), later = raw_at(64, 6), tail = raw_at(66, 5), lz4 = x,
		      part = x;
	struct data_cache *c;

	(void)state;
	assert_int_equal(data_cache_create(1 << 20, &c), 0);
	put(c, &x, 2, 0x11);
	assert_holds(c, &x, 2, 0x11);
	assert_holds(c, &tail, 0, 0x11); /* what is left of x when its head was overwritten */
	assert_false(data_cache_get(c, &later, 2, got)); /* the same place, written anew */
	assert_false(data_cache_get(c, &x, 1, got));
	lz4.codec = part.codec = EXTENT_LZ4;
	assert_false(data_cache_get(c, &lz4, 2, got)); /* a packed extent at the same place */
	put(c, &lz4, 2, 0x22);
	part.skip = 2;
	assert_holds(c, &part, 0, 0x22);
	assert_holds(c, &x, 2, 0x11);
	data_cache_destroy(c);
}

static void test_bound(void **state)
{
	struct extent x;
	struct data_cache_stats s;
	struct data_cache *c;
	unsigned held = 0;

	(void)state;
	assert_int_equal(data_cache_create(256 << 10, &c), 0);
	for (unsigned i = 0; i < 1000; i++) {
		x = raw_at(i, 9);
		put(c, &x, 0, (int)(i % 251));
		assert_holds(c, &x, 0, (int)(i % 251));
	}
	for (unsigned i = 0; i < 1000; i++) {
		x = raw_at(i, 9);
		if (data_cache_get(c, &x, 0, got)) {
			assert_holds(c, &x, 0, (int)(i % 251));
			held++;
		}
	}
	data_cache_stats_get(c, &s);
	assert_int_equal(s.bytes, 256 << 10);
	assert_int_equal(held, 64);
	assert_int_equal(s.misses, 1000 - held);
	data_cache_destroy(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_none),
		cmocka_unit_test(test_identity),
		cmocka_unit_test(test_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
