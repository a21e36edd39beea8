/* test_btree: the B+tree against a sorted array, on a mock pool (btree_mock.h). */
#include "tests/unit/btree_mock.h"

static void make_ready(struct mock *m)
{
	uint64_t pos = 0;

	while (node_cache_make_ready(m->cache, &pos))
		;
}

static void test_model(void **state)
{
	static const struct shape *phases[] = {&grow_shape,   &shrink_shape, &big_shape,
					       &shrink_shape, &tiny_shape,   &steady_shape};
	static struct model md;

	(void)state;
	for (unsigned seed = 1; seed <= 6; seed++) {
		struct mock *m = mock_create(seed % 2 ? 4 : 40);

		rng_state = seed;
		md.count = 0;
		for (unsigned phase = 0; phase < 6; phase++) {
			for (unsigned round = 0; round < 12; round++) {
				random_ops(m, &md, phases[phase], 1 + rnd(600));
				if (rnd(2)) { /* some change again before the freeze */
					make_ready(m);
					random_ops(m, &md, phases[phase], rnd(40));
				}
				commit_begin(m);
				if (rnd(2)) /* changes while the write is under way */
					random_ops(m, &md, phases[phase], rnd(100));
				commit_end(m);
			}
			expect_model(m, &m->bt, &md);
			expect_walk(m);
			btree_check(&m->bt);
		}
		assert_true(m->reads > 1000);
		while (md.count > 0) {
			do_del(m, &md, md.item[rnd(md.count)].key);
			if (rnd(50) == 0)
				commit(m);
		}
		commit(m);
		expect_walk(m);
		expect_model(m, &m->bt, &md);
		mock_destroy(m);
	}
}

static void test_frozen(void **state)
{
	static struct model md, old;
	struct mock *m = mock_create(8);
	struct node_cache *cache;
	struct btree frozen, cold;

	(void)state;
	rng_state = 42;
	md.count = 0;
	random_ops(m, &md, &big_shape, 1500);
	commit(m);
	old = md;
	m->frozen = true;
	btree_init(&frozen, &mock_ops, m, m->cache, pool_id, TREE_ID, m->bt.root, m->bt.level);
	assert_int_equal(node_cache_create(1 << 20, &cache), 0);
	btree_init(&cold, &mock_ops, m, cache, pool_id, TREE_ID, m->bt.root, m->bt.level);
	for (unsigned round = 0; round < 10; round++) {
		random_ops(m, &md, round % 2 ? &shrink_shape : &big_shape, 400);
		expect_model(m, &frozen, &old);
		do_lookups(m, &frozen, &old, random_key(&big_shape));
		commit(m);
		expect_model(m, &cold, &old);
		node_cache_trim(cache);
	}
	expect_model(m, &m->bt, &md);
	node_cache_destroy(cache);
	mock_destroy(m);
}

/* Every operation, with its first, second, ... allocation failing until it gets through. */
static void test_alloc_fails(void **state)
{
	static struct model md;
	struct mock *m = mock_create(1000);
	unsigned failures = 0, deepest = 0;
	uint8_t v[NODE_VALUE_MAX] = {0};

	(void)state;
	rng_state = 5;
	md.count = 0;
	for (unsigned op = 0; op < 2500; op++) {
		struct key k = random_key(&big_shape);
		uint16_t len = (uint16_t)(NODE_VALUE_MAX - rnd(100));
		uint32_t seed = (uint32_t)rng();
		unsigned i = model_search(&md, k), allocated = m->allocated, n = 0;
		bool del = rnd(4) == 0;
		int rc;

		fill_value(v, len, seed);
		for (;; n++) {
			m->fail_after = (int)n;
			READING(m, &m->bt, rc,
				del ? btree_del(&m->bt, k) : btree_put(&m->bt, k, v, len));
			m->fail_after = -1;
			if (rc != -ENOSPC)
				break;
			failures++;
			assert_int_equal(m->allocated, allocated);
			if (op % 16 == 0)
				expect_model(m, &m->bt, &md);
			btree_check(&m->bt);
		}
		deepest = n > deepest ? n : deepest;
		assert_int_equal(rc, del && !model_has(&md, i, k) ? -ENOENT : 0);
		if (del && rc == 0)
			model_del(&md, i);
		else if (!del)
			model_put(&md, k, len, seed);
		if (rnd(3) == 0)
			commit(m);
	}
	expect_model(m, &m->bt, &md);
	expect_walk(m);
	print_message("%u failures, up to %u in one operation\n", failures, deepest);
	assert_true(failures > 1000 && deepest >= 4);
	mock_destroy(m);
}

/* Mean fill of the leaves in percent. */
static unsigned leaf_fill(struct mock *m)
{
	struct btree_cursor c = {0};
	struct btree_path path;
	uint64_t used = 0, leaves = 0;
	int rc;

	for (;;) {
		READING(m, &m->bt, rc, btree_walk(&m->bt, &c, 0, &path));
		if (rc == -ENOENT)
			return (unsigned)(used * 100 / (leaves * PAGE_SPACE));
		assert_int_equal(rc, 0);
		used += page_used(node_cache_find(m->cache, path.ptr[path.count - 1].addr)->buf);
		leaves++;
	}
}

static void test_fill(void **state)
{
	uint8_t v[60] = {1};

	(void)state;
	for (unsigned order = 0; order < 2; order++) {
		struct mock *m = mock_create(100000);
		unsigned fill;

		rng_state = 9;
		for (uint64_t i = 0; i < 200000; i++) {
			struct key k = {1, 2, order ? rng() : i * 4096};

			assert_int_equal(btree_put(&m->bt, k, v, sizeof(v)), 0);
		}
		btree_check(&m->bt);
		fill = leaf_fill(m);
		print_message("%s inserts: leaves %u %% full, level %u\n",
			      order ? "random" : "ascending", fill, m->bt.level);
		assert_true(fill > (order ? 60 : 94));
		mock_destroy(m);
	}
}

/* A walk over a changing tree ends, and reports every node that stayed all the time. */
static void test_walk_changing(void **state)
{
	static struct model md;
	static uint8_t mark[ADDRS];
	static struct seen before, after;
	struct mock *m = mock_create(20);
	struct btree_cursor c = {0};
	struct btree_path path;
	int rc;

	(void)state;
	rng_state = 77;
	md.count = 0;
	random_ops(m, &md, &big_shape, 4000);
	commit(m);
	m->frozen = true; /* no reuse: an address is one node */
	memset(mark, 0, sizeof(mark));
	walk_all(m, &m->bt, 0, &before);
	for (;;) {
		READING(m, &m->bt, rc, btree_walk(&m->bt, &c, 0, &path));
		if (rc == -ENOENT)
			break;
		assert_int_equal(rc, 0);
		for (unsigned i = 0; i < path.count; i++)
			mark[path.ptr[i].addr.v] |= path.is_new[i];
		random_ops(m, &md, rnd(2) ? &shrink_shape : &big_shape, rnd(3));
		if (rnd(10) == 0)
			commit(m);
	}
	commit(m);
	walk_all(m, &m->bt, 0, &after);
	for (unsigned i = 0; i < after.count; i++) {
		for (unsigned j = 0; j < before.count; j++) {
			if (after.addr[i] == before.addr[j])
				assert_true(mark[after.addr[i]]);
		}
	}
	mock_destroy(m);
}

static struct key heir_key(unsigned i)
{
	return (struct key){1, 1, i * 10ull};
}

static void del_range(struct mock *m, struct model *md, unsigned from, unsigned to)
{
	while (from < to)
		do_del(m, md, heir_key(--to));
}

static void read_path(struct mock *m, struct key k)
{
	int rc;

	READING(m, &m->bt, rc, btree_prepare(&m->bt, k));
	assert_int_equal(rc, 0);
}

/* Leaves of exactly 4 items, 3 levels, all written and none cached. */
static struct mock *heir_tree(struct model *md, unsigned items)
{
	struct mock *m = mock_create(0);

	md->count = 0;
	for (unsigned i = 0; i < items; i++)
		do_put(m, md, heir_key(i), NODE_VALUE_MAX);
	commit(m);
	assert_int_equal(m->bt.level, 2);
	return m;
}

/* A leaf becomes empty while neither, the left, the right or both neighbours are cached; a put into
 * its range needs no read. */
static void test_heir_leaf(void **state)
{
	static struct model md;
	struct mock *m = heir_tree(&md, 4000);

	(void)state;
	for (unsigned leaf = 1; leaf + 3 < 1000; leaf += 3) {
		unsigned first = leaf * 4, cached = rnd(4);
		struct key k = heir_key(first);
		uint8_t v[3] = {0};

		read_path(m, k);
		if (cached & 1)
			read_path(m, heir_key(first - 1));
		if (cached & 2)
			read_path(m, heir_key(first + 4));
		for (unsigned i = first; i < first + 4; i++) {
			assert_int_equal(btree_del(&m->bt, heir_key(i)), 0);
			model_del(&md, model_search(&md, heir_key(i)));
		}
		k.offset += 1 + rnd(30);
		fill_value(v, sizeof(v), leaf);
		assert_int_equal(btree_put(&m->bt, k, v, sizeof(v)), 0);
		model_put(&md, k, sizeof(v), leaf);
		if (rnd(2))
			commit(m);
	}
	commit(m);
	expect_model(m, &m->bt, &md);
	expect_walk(m);
	mock_destroy(m);
}

/* An interior node goes away and its right neighbour takes its range over, so that this one's
 * slot 0 key is above its bound; then it is merged with its left (or right) neighbour. */
static void test_heir_interior(void **state)
{
	static struct model md;

	(void)state;
	for (unsigned order = 0; order < 2; order++) {
		struct mock *m = heir_tree(&md, 337 * 4 * 3 + 40);
		struct node *root;
		unsigned a, b, c;

		read_path(m, KEY_MIN);
		root = node_cache_find(m->cache, m->bt.root.addr);
		assert_true(page_count(root->buf) >= 3);
		a = (unsigned)(page_key(root->buf, 1).offset / 10);
		b = (unsigned)(page_key(root->buf, 2).offset / 10);
		c = b + (b - a) - 8;
		node_cache_trim(m->cache);
		del_range(m, &md, a, b - 1); /* one item is left of the middle node */
		commit(m);
		read_path(m, heir_key(b - 1));
		read_path(m, heir_key(b));
		do_del(m, &md, heir_key(b - 1));
		for (unsigned i = 1; i < 9; i++)
			do_put(m, &md, (struct key){1, 1, a * 10ull + i}, 30);
		commit(m);
		expect_model(m, &m->bt, &md);
		for (unsigned i = 0; i < 2; i++) {
			if (i == order)
				del_range(m, &md, 20, a - 4);
			else
				del_range(m, &md, b + 8, c);
		}
		read_path(m, heir_key(0));
		btree_check(&m->bt);
		commit(m);
		expect_model(m, &m->bt, &md);
		expect_walk(m);
		mock_destroy(m);
	}
}

/* ---- a node that is lost ---- */

/* Any node, by a walk, and its level. */
static struct node_ptr pick_node(struct mock *m, uint8_t *ret_level)
{
	struct btree_cursor c = {0};
	struct btree_path path;
	struct node_ptr p = {0};
	unsigned seen = 0;

	while (btree_walk(&m->bt, &c, 0, &path) == 0)
		for (unsigned i = 0; i < path.count; i++)
			if (path.is_new[i] && rnd(++seen) == 0) {
				p = path.ptr[i];
				*ret_level = path.level[i];
			}
	return p;
}

/* Is k below p? */
static bool below(struct mock *m, struct node_ptr p, struct key k)
{
	struct btree_item it;

	return btree_get(&m->bt, k, &it) == ERR_NEED_NODE && addr_eq(m->bt.need.addr, p.addr);
}

/* Everything but what lies below p is met, and no more. */
static void expect_walk_around(struct mock *m, struct node_ptr p, unsigned items)
{
	struct btree_cursor c = {0};
	struct btree_path path;
	unsigned met = 0, missed = 0;
	int rc;

	while ((rc = btree_walk(&m->bt, &c, 0, &path)) != -ENOENT) {
		unsigned last = path.count - 1;

		if (rc == ERR_NEED_NODE) {
			assert_true(addr_eq(m->bt.need.addr, p.addr));
			btree_walk_skip(&c, &path);
			missed++;
			continue;
		}
		assert_int_equal(rc, 0);
		if (path.level[last] == 0)
			met += page_count(node_cache_find(m->cache, path.ptr[last].addr)->buf);
	}
	assert_int_equal(missed, 1);
	assert_int_equal(met, items);
}

/* A lost node: a walk goes on behind it; cut out of the tree, its range is empty, and all the rest
 * is as it was. */
static void test_lost(void **state)
{
	static struct model md;

	(void)state;
	rng_state = 4711;
	for (unsigned round = 0; round < 60; round++) {
		struct mock *m = mock_create(100000);
		unsigned n, kept = 0;
		uint8_t level = 0;
		struct node_ptr p;

		md.count = 0;
		random_ops(m, &md, round % 2 ? &big_shape : &grow_shape, 1 + rnd(3000));
		commit(m);
		p = pick_node(m, &level);
		if (!p.addr.v) {
			mock_destroy(m);
			continue;
		}
		node_cache_drop(m->cache, node_cache_find(m->cache, p.addr));
		n = md.count;
		for (unsigned i = n; i-- > 0;)
			if (below(m, p, md.item[i].key))
				model_del(&md, i);
		expect_walk_around(m, p, md.count);
		assert_int_equal(btree_cut(&m->bt, p, level), 0);
		assert_int_equal(btree_cut(&m->bt, p, level), -ENOENT);
		btree_check(&m->bt);
		for (unsigned i = 0; i < md.count; i++) {
			struct btree_item it;

			kept += btree_get(&m->bt, md.item[i].key, &it) == 0;
		}
		assert_int_equal(kept, md.count);
		expect_model(m, &m->bt, &md);
		random_ops(m, &md, &grow_shape, 500);
		commit(m);
		expect_model(m, &m->bt, &md);
		mock_destroy(m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model),	      cmocka_unit_test(test_frozen),
		cmocka_unit_test(test_alloc_fails),   cmocka_unit_test(test_fill),
		cmocka_unit_test(test_walk_changing), cmocka_unit_test(test_heir_leaf),
		cmocka_unit_test(test_heir_interior), cmocka_unit_test(test_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
