/* test_node: the node cache, and node_validate() against corrupt and crafted nodes. */
#include "tests/unit/btree_mock.h"

static void reseal(uint8_t *buf, struct node_ptr *p)
{
	p->crc = crc32c(0, buf + 8, NODE_SIZE - 8);
	page_header(buf)->crc = le32_of(p->crc);
}

/* The root (level 1) and a leaf of a committed tree. */
static struct mock *two_levels(uint8_t *root, struct node_ptr *ret_root, uint8_t *leaf,
			       struct node_ptr *ret_leaf)
{
	static struct model md;
	struct mock *m = mock_create(10000);

	rng_state = 3;
	md.count = 0;
	while (m->bt.level < 1 || m->allocated < 20)
		random_ops(m, &md, &grow_shape, 10);
	commit(m);
	*ret_root = m->bt.root;
	memcpy(root, m->disk[m->bt.root.addr.v], NODE_SIZE);
	*ret_leaf = page_child(root, 1);
	memcpy(leaf, m->disk[ret_leaf->addr.v], NODE_SIZE);
	return m;
}

static void test_validate_codes(void **state)
{
	static uint8_t root[NODE_SIZE], leaf[NODE_SIZE];
	static const uint8_t other_pool[16] = {1};
	struct node_ptr rp, lp, p;
	struct mock *m = two_levels(root, &rp, leaf, &lp);
	struct err e;

	(void)state;
	assert_int_equal(node_validate(root, &rp, pool_id, TREE_ID, 1, false, &e), 0);
	assert_int_equal(node_validate(leaf, &lp, pool_id, 0, 0xff, false, &e), 0);
	assert_int_equal(node_validate(leaf, &lp, pool_id, 8, 0, false, &e), ERR_FORMAT);
	assert_int_equal(node_validate(leaf, &lp, pool_id, 0, 1, false, &e), ERR_FORMAT);
	assert_int_equal(node_validate(leaf, &lp, other_pool, 0, 0, false, &e), ERR_POOL_ID);
	p = lp;
	p.birth++;
	assert_int_equal(node_validate(leaf, &p, pool_id, 0, 0, false, &e), ERR_STALE);
	assert_int_equal(node_validate(leaf, &p, pool_id, 0, 0, true, &e), 0);
	p = lp;
	p.crc++;
	assert_int_equal(node_validate(leaf, &p, pool_id, 0, 0, false, &e), ERR_STALE);
	p.addr.v++;
	assert_int_equal(node_validate(leaf, &p, pool_id, 0, 0, false, &e), ERR_ADDR);
	page_header(leaf)->version = le16_of(2);
	assert_int_equal(node_validate(leaf, &lp, pool_id, 0, 0, false, &e), ERR_CSUM);
	reseal(leaf, &lp);
	assert_int_equal(node_validate(leaf, &lp, pool_id, 0, 0, false, &e), ERR_VERSION);
	mock_destroy(m);
}

static void test_validate_bytes(void **state)
{
	static uint8_t root[NODE_SIZE], leaf[NODE_SIZE];
	struct node_ptr rp, lp;
	struct mock *m = two_levels(root, &rp, leaf, &lp);

	(void)state;
	for (unsigned i = 0; i < NODE_SIZE; i++) {
		uint8_t flip = (uint8_t)(1 + rnd(255));
		int want = i < 4 ? ERR_MAGIC : ERR_CSUM;

		leaf[i] ^= flip;
		root[i] ^= flip;
		assert_int_equal(node_validate(leaf, &lp, pool_id, 0, 0, false, NULL), want);
		assert_int_equal(node_validate(root, &rp, pool_id, 0, 1, true, NULL), want);
		leaf[i] ^= flip;
		root[i] ^= flip;
	}
	mock_destroy(m);
}

/* Allocation for mutants: a tree with two parents for one node frees it twice. */
static int mutant_alloc(void *ctx, struct btree *bt, struct addr *ret_addr)
{
	(void)bt;
	ret_addr->v = ++((struct mock *)ctx)->next_addr;
	return 0;
}

static void mutant_free(void *ctx, struct btree *bt, struct addr addr, uint64_t birth)
{
	(void)ctx;
	(void)bt;
	(void)addr;
	(void)birth;
}

static const struct btree_ops mutant_ops = {mutant_alloc, mutant_free, mock_txn};

/* Read from the disk of the tree the mutant was made of. */
static bool mutant_fetch(struct mock *m, struct btree *bt)
{
	struct node_ptr p = bt->need;
	uint8_t *buf;

	if (p.addr.v >= ADDRS || !m->disk[p.addr.v] ||
	    node_validate(m->disk[p.addr.v], &p, pool_id, 0, bt->need_level, false, NULL) < 0)
		return false;
	buf = node_buf_alloc();
	memcpy(buf, m->disk[p.addr.v], NODE_SIZE);
	return node_cache_insert(bt->cache, p.addr, p.birth, buf) != NULL;
}

/* Whatever passes validation with a good checksum can be used without touching foreign memory. */
static void use_mutant(struct mock *m, const uint8_t *page, struct node_ptr p, FILE *null)
{
	static const uint8_t v[NODE_VALUE_MAX];
	uint8_t *buf = node_buf_alloc();
	struct node_cache *cache;
	struct btree_cursor c = {0};
	struct btree_path path;
	struct btree_item it;
	struct btree bt;

	memcpy(buf, page, NODE_SIZE);
	node_to_text(null, buf, NULL);
	assert_int_equal(node_cache_create(0, &cache), 0);
	node_cache_insert(cache, p.addr, p.birth, buf);
	m->next_addr = ADDRS;
	btree_init(&bt, &mutant_ops, m, cache, pool_id, TREE_ID, p, page_level(page));
	for (unsigned i = 0; i < 60; i++) {
		struct key k = random_key(&grow_shape);
		int rc;

		rc = btree_seek_ge(&bt, k, &it);
		if (rc == 0)
			k = it.key;
		(void)btree_get(&bt, k, &it);
		(void)btree_seek_le(&bt, k, &it);
		rc = rnd(3) ? btree_del(&bt, k) : btree_put(&bt, k, v, random_len(&grow_shape));
		if (rc == ERR_NEED_NODE && !mutant_fetch(m, &bt))
			break;
	}
	for (unsigned i = 0; i < 200 && btree_walk(&bt, &c, 0, &path) != -ENOENT; i++) {
		if (!mutant_fetch(m, &bt))
			break;
	}
	node_cache_destroy(cache);
}

static void test_validate_mutants(void **state)
{
	static uint8_t root[NODE_SIZE], leaf[NODE_SIZE], page[NODE_SIZE];
	struct node_ptr rp, lp;
	struct mock *m = two_levels(root, &rp, leaf, &lp);
	FILE *null = fopen("/dev/null", "w");
	unsigned accepted = 0;

	(void)state;
	for (unsigned i = 0; i < 20000; i++) {
		bool is_root = rnd(2);
		struct node_ptr p = is_root ? rp : lp;
		unsigned slots = PAGE_HEADER_SIZE + page_count(is_root ? root : leaf) * 24;
		int rc;

		memcpy(page, is_root ? root : leaf, NODE_SIZE);
		for (unsigned j = rnd(4) + 1; j > 0; j--) {
			unsigned at = 8 + rnd((rnd(4) ? slots : NODE_SIZE) - 8);

			if (rnd(8) == 0) /* two slots with one value */
				memmove(page + PAGE_HEADER_SIZE + 24 * rnd(4) + 20,
					page + PAGE_HEADER_SIZE + 24 * rnd(4) + 20, 4);
			else
				page[at] = (uint8_t)(rnd(2) ? rng() : page[at] ^ 1u << rnd(8));
		}
		reseal(page, &p);
		rc = node_validate(page, &p, pool_id, 0, 0xff, false, NULL);
		assert_true(rc == 0 || rc == ERR_FORMAT || rc == ERR_VERSION || rc == ERR_ADDR ||
			    rc == ERR_STALE || rc == ERR_POOL_ID);
		if (rc == 0) {
			accepted++;
			use_mutant(m, page, p, null);
		}
	}
	print_message("%u mutants accepted\n", accepted);
	assert_true(accepted > 100);
	fclose(null);
	mock_destroy(m);
}

static void test_wrong_level(void **state)
{
	static uint8_t root[NODE_SIZE], leaf[NODE_SIZE];
	struct node_ptr rp, lp;
	struct mock *m = two_levels(root, &rp, leaf, &lp);
	struct btree_item it;
	struct btree bt;

	(void)state;
	btree_init(&bt, &mock_ops, m, m->cache, pool_id, TREE_ID, rp, 2);
	assert_int_equal(btree_get(&bt, KEY_MIN, &it), ERR_FORMAT);
	assert_int_equal(btree_put(&bt, KEY_MIN, "", 0), ERR_FORMAT);
	mock_destroy(m);
}

static void test_cache(void **state)
{
	struct node_cache *c;
	struct node_cache_stats s;
	struct node *n;

	(void)state;
	assert_int_equal(node_cache_create(10 * (NODE_SIZE + 4096), &c), 0);
	for (uint64_t a = 1; a <= 1000; a++) {
		n = a % 2 ? node_cache_insert(c, (struct addr){a}, 1, node_buf_alloc())
			  : node_cache_new(c, (struct addr){a}, 1);
		assert_non_null(n);
	}
	node_cache_trim(c);
	node_cache_stats(c, &s);
	assert_int_equal(s.nodes, 500); /* dirty ones are pinned */
	assert_int_equal(s.dirty_nodes, 500);
	assert_int_equal(s.evictions, 500);
	for (uint64_t a = 2; a <= 1000; a += 2) {
		n = node_cache_find(c, (struct addr){a});
		n->sealed = true;
		n->referenced = a == 4;
		node_cache_clean(c, n);
	}
	node_cache_trim(c);
	node_cache_stats(c, &s);
	assert_int_equal(s.nodes, 10);
	assert_int_equal(s.dirty_nodes, 0);
	assert_non_null(node_cache_find(c, (struct addr){4})); /* its second chance */
	n = node_cache_insert(c, (struct addr){4}, 2, node_buf_alloc());
	assert_int_equal(n->birth, 2);
	assert_ptr_equal(n, node_cache_find(c, (struct addr){4}));
	assert_ptr_equal(n, node_cache_insert(c, (struct addr){4}, 2, node_buf_alloc()));
	node_cache_destroy(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cache),	       cmocka_unit_test(test_validate_codes),
		cmocka_unit_test(test_validate_bytes), cmocka_unit_test(test_validate_mutants),
		cmocka_unit_test(test_wrong_level),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
