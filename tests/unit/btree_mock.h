/* btree_mock: a mock pool and a model for the tests of the B+tree and its node cache.
 *
 * The mock pool keeps written nodes by address, hands addresses out again as a real one would (own
 * transaction's at once, older ones when the transaction that freed them is written, never while
 * "frozen"), and can fail the n-th allocation. The cache holds a few nodes only, so that every
 * operation meets ERR_NEED_NODE. The model is a sorted array.
 */
#ifndef TARN_TESTS_BTREE_MOCK_H
#define TARN_TESTS_BTREE_MOCK_H
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>
#include "base/crc.h"
#include "pool/btree_impl.h"

#define TREE_ID	  7
#define ADDRS	  40000u
#define ITEMS_MAX 8192u

static const uint8_t pool_id[16] = "test pool 1 (16)";

struct addr_list {
	uint64_t *v;
	unsigned count;
};

struct mock {
	struct node_cache *cache;
	struct btree bt;
	uint64_t txn;
	uint8_t *disk[ADDRS];
	uint64_t birth[ADDRS]; /* of an allocated address, else 0 */
	uint64_t next_addr;
	struct addr_list usable, pending, committing;
	unsigned allocated; /* by the current tree */
	bool frozen;	    /* a snapshot exists: reuse nothing old */
	int fail_after;	    /* allocations until -ENOSPC; -1 never */
	struct node *sealed[ADDRS];
	unsigned sealed_count;
	uint64_t reads;
};

struct model_item {
	struct key key;
	uint16_t len;
	uint32_t seed;
};
struct model {
	struct model_item item[ITEMS_MAX];
	unsigned count;
};

static uint64_t rng_state;

static inline uint64_t rng(void)
{
	rng_state += 0x9e3779b97f4a7c15ull;
	uint64_t z = rng_state;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

static inline unsigned rnd(unsigned n)
{
	return (unsigned)(rng() % n);
}

/* --- mock pool --- */

static inline void list_push(struct addr_list *l, uint64_t a)
{
	l->v = realloc(l->v, (l->count + 1) * sizeof(*l->v));
	l->v[l->count++] = a;
}

static inline int mock_alloc(void *ctx, struct btree *bt, struct addr *ret_addr)
{
	struct mock *m = ctx;

	(void)bt;
	if (m->fail_after == 0)
		return -ENOSPC;
	if (m->fail_after > 0)
		m->fail_after--;
	ret_addr->v = m->usable.count ? m->usable.v[--m->usable.count] : ++m->next_addr;
	assert_true(ret_addr->v < ADDRS);
	assert_int_equal(m->birth[ret_addr->v], 0);
	m->birth[ret_addr->v] = m->txn;
	m->allocated++;
	return 0;
}

static inline void mock_free(void *ctx, struct btree *bt, struct addr addr, uint64_t birth)
{
	struct mock *m = ctx;

	(void)bt;
	assert_true(m->birth[addr.v] != 0 && m->birth[addr.v] == birth);
	m->allocated--;
	if (birth == m->txn) {
		m->birth[addr.v] = 0;
		list_push(&m->usable, addr.v);
	} else if (!m->frozen) {
		list_push(&m->pending, addr.v);
	}
}

static inline uint64_t mock_txn(void *ctx)
{
	return ((struct mock *)ctx)->txn;
}

static const struct btree_ops mock_ops = {mock_alloc, mock_free, mock_txn};

static inline struct mock *mock_create(unsigned cache_nodes)
{
	struct mock *m = calloc(1, sizeof(*m));

	m->txn = 1;
	m->fail_after = -1;
	assert_int_equal(node_cache_create(cache_nodes * (NODE_SIZE + 4096ull), &m->cache), 0);
	btree_init(&m->bt, &mock_ops, m, m->cache, pool_id, TREE_ID, (struct node_ptr){0}, 0);
	return m;
}

static inline void mock_destroy(struct mock *m)
{
	node_cache_destroy(m->cache);
	for (unsigned i = 0; i < ADDRS; i++)
		free(m->disk[i]);
	free(m->usable.v);
	free(m->pending.v);
	free(m->committing.v);
	free(m);
}

static inline void expect_valid(const uint8_t *buf, const struct node_ptr *p, uint8_t level,
				bool any)
{
	struct err e;

	if (node_validate(buf, p, pool_id, TREE_ID, level, any, &e) < 0)
		fail_msg("node %llu: %s", (unsigned long long)p->addr.v, e.text);
}

/* Read what bt needs, as node_read would. */
static inline void fetch(struct mock *m, struct btree *bt)
{
	struct node_ptr p = bt->need;
	uint8_t *buf = node_buf_alloc();

	assert_non_null(m->disk[p.addr.v]);
	memcpy(buf, m->disk[p.addr.v], NODE_SIZE);
	expect_valid(buf, &p, bt->need_level, false);
	assert_non_null(node_cache_insert(bt->cache, p.addr, p.birth, buf));
	m->reads++;
}

/* Run expr until nothing more is to be read. */
#define READING(m, bt, rc, expr)                 \
	while (((rc) = (expr)) == ERR_NEED_NODE) \
	fetch(m, bt)

static inline void collect_cb(void *arg, struct node *n)
{
	struct mock *m = arg;

	assert_true(n->dirty && n->sealed && n->birth == m->txn);
	m->sealed[m->sealed_count++] = n;
}

static inline void commit_begin(struct mock *m)
{
	struct addr_list empty = m->committing;

	btree_check(&m->bt);
	assert_int_equal(m->committing.count, 0);
	m->sealed_count = 0;
	btree_seal(&m->bt, collect_cb, m);
	m->committing = m->pending;
	m->pending = empty;
	m->txn++;
}

static inline void commit_end(struct mock *m)
{
	for (unsigned i = 0; i < m->sealed_count; i++) {
		struct node *n = m->sealed[i];
		struct node_ptr p = {n->addr, n->birth, 0};

		expect_valid(n->buf, &p, 0xff, true);
		if (!m->disk[n->addr.v])
			m->disk[n->addr.v] = malloc(NODE_SIZE);
		memcpy(m->disk[n->addr.v], n->buf, NODE_SIZE);
		node_cache_clean(m->cache, n);
	}
	for (unsigned i = 0; i < m->committing.count; i++) {
		m->birth[m->committing.v[i]] = 0;
		list_push(&m->usable, m->committing.v[i]);
	}
	m->committing.count = 0;
	node_cache_trim(m->cache);
}

static inline void commit(struct mock *m)
{
	commit_begin(m);
	commit_end(m);
}

/* --- model --- */

static inline unsigned model_search(const struct model *md, struct key k)
{
	unsigned lo = 0, hi = md->count;

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;

		if (key_cmp(md->item[mid].key, k) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static inline bool model_has(const struct model *md, unsigned i, struct key k)
{
	return i < md->count && key_cmp(md->item[i].key, k) == 0;
}

static inline void model_put(struct model *md, struct key k, uint16_t len, uint32_t seed)
{
	unsigned i = model_search(md, k);

	if (!model_has(md, i, k)) {
		assert_true(md->count < ITEMS_MAX);
		memmove(&md->item[i + 1], &md->item[i], (md->count - i) * sizeof(md->item[0]));
		md->count++;
	}
	md->item[i] = (struct model_item){k, len, seed};
}

static inline void model_del(struct model *md, unsigned i)
{
	md->count--;
	memmove(&md->item[i], &md->item[i + 1], (md->count - i) * sizeof(md->item[0]));
}

static inline void fill_value(uint8_t *v, unsigned len, uint32_t seed)
{
	for (unsigned i = 0; i < len; i++)
		v[i] = (uint8_t)(seed + i * 7 + (seed >> 8));
}

static inline void expect_item(const struct model_item *mi, const struct btree_item *it)
{
	uint8_t v[NODE_VALUE_MAX];

	assert_int_equal(key_cmp(mi->key, it->key), 0);
	assert_int_equal(mi->len, it->len);
	fill_value(v, mi->len, mi->seed);
	assert_memory_equal(v, it->value, it->len);
}

/* The whole tree equals the model. */
static inline void expect_model(struct mock *m, struct btree *bt, const struct model *md)
{
	struct key k = KEY_MIN;
	struct btree_item it;
	int rc;

	for (unsigned i = 0; i < md->count; i++) {
		READING(m, bt, rc, btree_seek_ge(bt, k, &it));
		assert_int_equal(rc, 0);
		expect_item(&md->item[i], &it);
		k = it.key;
		k.offset++;
	}
	READING(m, bt, rc, btree_seek_ge(bt, k, &it));
	assert_int_equal(rc, -ENOENT);
}

struct seen {
	uint64_t addr[ADDRS];
	uint64_t birth[ADDRS];
	unsigned count;
};

/* All nodes a walk reports. */
static inline void walk_all(struct mock *m, struct btree *bt, uint64_t birth_min,
			    struct seen *ret_s)
{
	struct btree_cursor c = {0};
	struct btree_path path;
	int rc;

	ret_s->count = 0;
	for (;;) {
		READING(m, bt, rc, btree_walk(bt, &c, birth_min, &path));
		if (rc == -ENOENT)
			return;
		assert_int_equal(rc, 0);
		for (unsigned i = 0; i < path.count; i++) {
			assert_true(path.ptr[i].birth >= birth_min);
			if (!path.is_new[i])
				continue;
			ret_s->addr[ret_s->count] = path.ptr[i].addr.v;
			ret_s->birth[ret_s->count++] = path.ptr[i].birth;
		}
		node_cache_trim(m->cache);
	}
}

/* Walk visits every allocated node exactly once, and prunes exactly by birth. */
static inline void expect_walk(struct mock *m)
{
	static struct seen all, some;
	static uint8_t mark[ADDRS];
	uint64_t birth_min = m->txn > 3 ? m->txn - rnd(3) : 2;
	unsigned young = 0;

	memset(mark, 0, sizeof(mark));
	walk_all(m, &m->bt, 0, &all);
	assert_int_equal(all.count, m->allocated);
	for (unsigned i = 0; i < all.count; i++) {
		assert_int_equal(mark[all.addr[i]]++, 0);
		assert_int_equal(m->birth[all.addr[i]], all.birth[i]);
		young += all.birth[i] >= birth_min;
	}
	walk_all(m, &m->bt, birth_min, &some);
	assert_int_equal(some.count, young);
	for (unsigned i = 0; i < some.count; i++)
		assert_int_equal(mark[some.addr[i]]++, 1);
}

/* --- random operations --- */

struct shape {
	unsigned objects, types, offsets, len_max, big_percent, del_percent;
};

static inline struct key random_key(const struct shape *s)
{
	return (struct key){rnd(s->objects), (uint8_t)rnd(s->types), rnd(s->offsets)};
}

static inline uint16_t random_len(const struct shape *s)
{
	return (uint16_t)rnd((rnd(100) < s->big_percent ? NODE_VALUE_MAX : s->len_max) + 1);
}

static inline void do_put(struct mock *m, struct model *md, struct key k, uint16_t len)
{
	uint8_t v[NODE_VALUE_MAX];
	uint32_t seed = (uint32_t)rng();
	int rc;

	fill_value(v, len, seed);
	READING(m, &m->bt, rc, btree_put(&m->bt, k, v, len));
	assert_int_equal(rc, 0);
	model_put(md, k, len, seed);
}

static inline void do_del(struct mock *m, struct model *md, struct key k)
{
	unsigned i = model_search(md, k);
	int rc;

	READING(m, &m->bt, rc, btree_del(&m->bt, k));
	assert_int_equal(rc, model_has(md, i, k) ? 0 : -ENOENT);
	if (rc == 0)
		model_del(md, i);
}

static inline void do_update(struct mock *m, struct model *md, struct key k)
{
	uint8_t v[NODE_VALUE_MAX];
	unsigned i = model_search(md, k);
	uint16_t len = model_has(md, i, k) ? md->item[i].len : 5;
	uint32_t seed = (uint32_t)rng();
	int rc;

	fill_value(v, len, seed);
	READING(m, &m->bt, rc, btree_update(&m->bt, k, v, len));
	assert_int_equal(rc, model_has(md, i, k) ? 0 : -ENOENT);
	if (rc == 0)
		md->item[i].seed = seed;
}

static inline void do_lookups(struct mock *m, struct btree *bt, const struct model *md,
			      struct key k)
{
	unsigned i = model_search(md, k);
	bool has = model_has(md, i, k);
	struct btree_item it;
	int rc;

	READING(m, bt, rc, btree_get(bt, k, &it));
	assert_int_equal(rc, has ? 0 : -ENOENT);
	if (has)
		expect_item(&md->item[i], &it);
	READING(m, bt, rc, btree_seek_ge(bt, k, &it));
	assert_int_equal(rc, i < md->count ? 0 : -ENOENT);
	if (rc == 0)
		expect_item(&md->item[i], &it);
	READING(m, bt, rc, btree_seek_le(bt, k, &it));
	assert_int_equal(rc, has || i > 0 ? 0 : -ENOENT);
	if (rc == 0)
		expect_item(&md->item[has ? i : i - 1], &it);
}

/* Prepare a few neighbouring keys, then change them without any read. */
static inline void do_group(struct mock *m, struct model *md, const struct shape *s)
{
	uint8_t v[NODE_VALUE_MAX];
	struct key k[12];
	unsigned count = 2 + rnd(11);
	int rc = ERR_NEED_NODE;

	k[0] = random_key(s);
	for (unsigned i = 1; i < count; i++) {
		k[i] = rnd(8) ? k[i - 1] : random_key(s);
		k[i].offset++;
	}
	while (rc != 0) {
		for (unsigned i = 0; i < count; i++) {
			rc = btree_prepare(&m->bt, k[i]);
			if (rc != 0)
				break;
		}
		if (rc == ERR_NEED_NODE)
			fetch(m, &m->bt);
	}
	for (unsigned j = 0; j < 2 * count; j++) {
		struct key x = k[rnd(count)];
		unsigned i = model_search(md, x);

		if (rnd(100) < 70) {
			rc = btree_del(&m->bt, x);
			assert_int_equal(rc, model_has(md, i, x) ? 0 : -ENOENT);
			if (rc == 0)
				model_del(md, i);
		} else if (md->count < ITEMS_MAX - 1) {
			uint16_t len = random_len(s);

			fill_value(v, len, j);
			assert_int_equal(btree_put(&m->bt, x, v, len), 0);
			model_put(md, x, len, j);
		}
	}
}

static inline void random_ops(struct mock *m, struct model *md, const struct shape *s,
			      unsigned count)
{
	while (count-- > 0) {
		struct key k = random_key(s);
		unsigned dice = rnd(100);

		node_cache_trim(m->cache);
		if (dice < 10)
			do_lookups(m, &m->bt, md, k);
		else if (dice < 15)
			do_update(m, md, k);
		else if (dice < 18)
			do_group(m, md, s);
		else if (dice < 18 + s->del_percent)
			do_del(m, md, k);
		else if (md->count < ITEMS_MAX - 1)
			do_put(m, md, k, random_len(s));
	}
}

static const struct shape grow_shape = {4, 3, 500, 200, 20, 15};
static const struct shape shrink_shape = {4, 3, 500, 200, 20, 75};
static const struct shape big_shape = {2, 2, 1500, 3800, 100, 20};
static const struct shape tiny_shape = {1, 1, 200, 0, 0, 40};
static const struct shape steady_shape = {3, 2, 900, 64, 2, 41};

#endif
