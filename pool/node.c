/* node: the node cache, validation and printing of nodes. See node.h.
 *
 * A hash table of chains by address that doubles when it is full. Clean nodes are also on a list in
 * order of age: node_cache_trim() takes the oldest, and sets it back once when it was used since.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include "base/crc.h"
#include "pool/btree_page.h"
#include "pool/node.h"

#define BUCKETS_MIN 64u
/* Second chances per evicted node, so that one trim never walks the whole cache. */
#define CHANCES_MAX 32u
/* aligned_alloc of 4 blocks costs about one block more. */
#define NODE_MEMORY_BYTES (NODE_SIZE + BLOCK_SIZE)

struct node_cache {
	struct node **buckets;
	unsigned shift; /* 64 - log2 of the number of buckets */
	struct node_cache_stats stats;
	struct node *newest, *oldest; /* clean nodes */
	struct node *spare;	      /* with buffers, for when there is no memory */
	unsigned spares;
	uint8_t *scratch;
};

uint8_t *node_buf_alloc(void)
{
	return aligned_alloc(BLOCK_SIZE, NODE_SIZE);
}

void node_buf_free(uint8_t *buf)
{
	free(buf);
}

static uint64_t bucket_count(const struct node_cache *c)
{
	return 1ull << (64 - c->shift);
}

static struct node **bucket(const struct node_cache *c, struct addr a)
{
	return &c->buckets[(a.v * 0x9e3779b97f4a7c15ull) >> c->shift];
}

int node_cache_create(uint64_t budget_bytes, struct node_cache **ret_c)
{
	struct node_cache *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->shift = 64 - (unsigned)__builtin_ctz(BUCKETS_MIN);
	c->buckets = calloc(BUCKETS_MIN, sizeof(struct node *));
	c->scratch = node_buf_alloc();
	if (!c->buckets || !c->scratch) {
		node_cache_destroy(c);
		return -ENOMEM;
	}
	c->stats.budget_nodes = budget_bytes / NODE_MEMORY_BYTES;
	*ret_c = c;
	return 0;
}

void node_cache_destroy(struct node_cache *c)
{
	if (!c)
		return;
	for (uint64_t i = 0; c->buckets && i < bucket_count(c); i++) {
		for (struct node *n = c->buckets[i], *next; n; n = next) {
			next = n->hash_next;
			node_buf_free(n->buf);
			free(n);
		}
	}
	for (struct node *n = c->spare, *next; n; n = next) {
		next = n->hash_next;
		node_buf_free(n->buf);
		free(n);
	}
	free(c->buckets);
	node_buf_free(c->scratch);
	free(c);
}

uint8_t *node_cache_scratch(struct node_cache *c)
{
	return c->scratch;
}

static struct node *lookup(const struct node_cache *c, struct addr a)
{
	struct node *n = *bucket(c, a);

	while (n && !addr_eq(n->addr, a))
		n = n->hash_next;
	return n;
}

struct node *node_cache_find(struct node_cache *c, struct addr a)
{
	struct node *n = lookup(c, a);

	if (!n) {
		c->stats.misses++;
		return NULL;
	}
	c->stats.hits++;
	if (!n->referenced)
		n->referenced = true;
	return n;
}

static void list_remove(struct node_cache *c, struct node *n)
{
	*(n->lru_prev ? &n->lru_prev->lru_next : &c->newest) = n->lru_next;
	*(n->lru_next ? &n->lru_next->lru_prev : &c->oldest) = n->lru_prev;
	n->lru_prev = n->lru_next = NULL;
}

static void list_add_newest(struct node_cache *c, struct node *n)
{
	n->lru_prev = NULL;
	n->lru_next = c->newest;
	*(c->newest ? &c->newest->lru_prev : &c->oldest) = n;
	c->newest = n;
}

static void list_add_oldest(struct node_cache *c, struct node *n)
{
	n->lru_next = NULL;
	n->lru_prev = c->oldest;
	*(c->oldest ? &c->oldest->lru_next : &c->newest) = n;
	c->oldest = n;
}

/* Double the table; when there is no memory the chains just get longer. */
static void grow(struct node_cache *c)
{
	uint64_t old_count = bucket_count(c);
	struct node **old = c->buckets, **new = calloc(old_count * 2, sizeof(struct node *));

	if (!new)
		return;
	c->buckets = new;
	c->shift--;
	for (uint64_t i = 0; i < old_count; i++) {
		for (struct node *n = old[i], *next; n; n = next) {
			struct node **b = bucket(c, n->addr);

			next = n->hash_next;
			n->hash_next = *b;
			*b = n;
		}
	}
	free(old);
}

static struct node *make(uint8_t *buf)
{
	struct node *n = buf ? calloc(1, sizeof(*n)) : NULL;

	if (n)
		n->buf = buf;
	else
		node_buf_free(buf);
	return n;
}

int node_cache_reserve(struct node_cache *c)
{
	while (c->spares < NODE_SPARES) {
		struct node *n = make(node_buf_alloc());

		if (!n)
			return -ENOMEM;
		n->hash_next = c->spare;
		c->spare = n;
		c->spares++;
	}
	return 0;
}

static struct node *take_spare(struct node_cache *c)
{
	struct node *n = c->spare;

	if (!n)
		return NULL;
	c->spare = n->hash_next;
	c->spares--;
	return n;
}

static void add(struct node_cache *c, struct node *n, struct addr a, uint64_t birth)
{
	struct node **b;

	if (c->stats.nodes >= bucket_count(c))
		grow(c);
	b = bucket(c, a);
	n->addr = a;
	n->birth = birth;
	n->hash_next = *b;
	*b = n;
	c->stats.nodes++;
}

struct node *node_cache_insert(struct node_cache *c, struct addr a, uint64_t birth, uint8_t *buf)
{
	struct node *n = lookup(c, a);

	if (n && (n->birth == birth || n->dirty)) {
		node_buf_free(buf);
		return n->birth == birth ? n : NULL; /* a crafted pool names one block twice */
	}
	if (n) /* an older life of this address */
		node_cache_drop(c, n);
	n = make(buf);
	if (!n)
		return NULL;
	add(c, n, a, birth);
	n->referenced = n->sealed = true;
	list_add_newest(c, n);
	return n;
}

struct node *node_cache_new(struct node_cache *c, struct addr a, uint64_t birth)
{
	struct node *old = lookup(c, a), *n = make(node_buf_alloc());

	if (!n)
		n = take_spare(c);
	if (!n)
		return NULL;
	if (old) { /* an older life of this address */
		assert(!old->dirty);
		node_cache_drop(c, old);
	}
	add(c, n, a, birth);
	memset(n->buf, 0, NODE_SIZE);
	n->dirty = n->referenced = true;
	c->stats.dirty_nodes++;
	return n;
}

void node_cache_drop(struct node_cache *c, struct node *n)
{
	struct node **b = bucket(c, n->addr);

	while (*b != n)
		b = &(*b)->hash_next;
	*b = n->hash_next;
	if (n->dirty)
		c->stats.dirty_nodes--;
	else
		list_remove(c, n);
	c->stats.nodes--;
	node_buf_free(n->buf);
	free(n);
}

uint32_t node_finish(struct node *n, uint8_t *scratch)
{
	uint32_t crc;

	page_compact(n->buf, scratch);
	crc = crc32c(0, n->buf + 8, NODE_SIZE - 8);
	page_header(n->buf)->crc = le32_of(crc);
	return crc;
}

#define READY_LEAVES 32u  /* at a time */
#define READY_LOOKS  512u /* nodes and buckets looked at */

bool node_cache_make_ready(struct node_cache *c, uint64_t *pos)
{
	unsigned leaves = 0, looks = 0;

	for (; *pos < bucket_count(c); ++*pos) {
		if (leaves >= READY_LEAVES || looks >= READY_LOOKS)
			return true;
		looks++;
		for (struct node *n = c->buckets[*pos]; n; n = n->hash_next, looks++) {
			if (!n->dirty || n->sealed || n->ready || page_level(n->buf))
				continue;
			node_finish(n, c->scratch);
			n->ready = true;
			leaves++;
		}
	}
	return false;
}

void node_cache_clean(struct node_cache *c, struct node *n)
{
	assert(n->dirty && n->sealed);
	n->dirty = false;
	c->stats.dirty_nodes--;
	if (n->freed) {
		n->referenced = false;
		list_add_oldest(c, n);
	} else {
		list_add_newest(c, n);
	}
}

void node_cache_trim(struct node_cache *c)
{
	unsigned chances = 0;

	while (c->stats.nodes > c->stats.budget_nodes && c->oldest) {
		struct node *n = c->oldest;

		if (n->referenced && chances++ < CHANCES_MAX) {
			n->referenced = false;
			list_remove(c, n);
			list_add_newest(c, n);
			continue;
		}
		chances = 0;
		node_cache_drop(c, n);
		c->stats.evictions++;
	}
}

void node_cache_stats(const struct node_cache *c, struct node_cache_stats *ret_s)
{
	*ret_s = c->stats;
}

static bool all_zero(const uint8_t *p, size_t len)
{
	return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

/* One slot of an otherwise bounded node. */
static int validate_slot(const uint8_t *buf, unsigned i, struct err *e)
{
	const struct node_slot_disk *s = &page_slots(buf)[i];
	unsigned off = le16_get(s->value_off), len = le16_get(s->value_len);
	const struct node_ptr_disk *p;

	if (off < le16_get(page_header_const(buf)->value_start) || len > NODE_VALUE_MAX ||
	    off + len > NODE_SIZE)
		return err_set(e, ERR_FORMAT, "item %u: value at %u+%u out of bounds", i, off, len);
	if (!all_zero(s->key.pad, sizeof(s->key.pad)))
		return err_set(e, ERR_FORMAT, "item %u: key padding not zero", i);
	if (i > 0 && key_cmp(page_key(buf, i - 1), page_key(buf, i)) >= 0)
		return err_set(e, ERR_FORMAT, "item %u: keys out of order", i);
	if (page_level(buf) == 0)
		return 0;
	p = (const struct node_ptr_disk *)(buf + off);
	if (len != sizeof(*p))
		return err_set(e, ERR_FORMAT, "item %u: child pointer of %u bytes", i, len);
	if (le64_get(p->addr) == 0 || !all_zero(p->pad, sizeof(p->pad)))
		return err_set(e, ERR_FORMAT, "item %u: malformed child pointer", i);
	if (le64_get(p->birth) > le64_get(page_header_const(buf)->birth))
		return err_set(e, ERR_FORMAT, "item %u: child younger than its parent", i);
	return 0;
}

static int validate_structure(const uint8_t *buf, struct err *e)
{
	const struct node_header_disk *h = page_header_const(buf);
	unsigned count = le16_get(h->count), start = le16_get(h->value_start), sum = 0;
	unsigned slots_end = PAGE_HEADER_SIZE + count * PAGE_SLOT_SIZE;

	if (h->level > NODE_LEVEL_MAX)
		return err_set(e, ERR_FORMAT, "level %u too high", h->level);
	if (h->pad0 || !all_zero(h->pad, sizeof(h->pad)))
		return err_set(e, ERR_FORMAT, "header padding not zero");
	if (h->level > 0 && count == 0)
		return err_set(e, ERR_FORMAT, "interior node without children");
	if (slots_end > start || start > NODE_SIZE)
		return err_set(e, ERR_FORMAT, "%u items do not fit below values at %u", count,
			       start);
	if (!all_zero(buf + slots_end, start - slots_end))
		return err_set(e, ERR_FORMAT, "gap not zero");
	for (unsigned i = 0; i < count; i++) {
		int rc = validate_slot(buf, i, e);

		if (rc < 0)
			return rc;
		sum += page_value_len(buf, i);
	}
	if (sum != le16_get(h->value_bytes) || sum != NODE_SIZE - start)
		return err_set(e, ERR_FORMAT, "%u value bytes, expected %u in %u", sum,
			       le16_get(h->value_bytes), NODE_SIZE - start);
	return 0;
}

int node_validate(const uint8_t *buf, const struct node_ptr *p, const uint8_t *pool_id,
		  uint64_t tree_id, uint8_t level, bool any_parent, struct err *e)
{
	const struct node_header_disk *h = page_header_const(buf);
	uint64_t birth = le64_get(h->birth);
	uint32_t crc = le32_get(h->crc);

	if (le32_get(h->magic) != NODE_MAGIC)
		return err_set(e, ERR_MAGIC, "not a tree node");
	if (crc32c(0, buf + 8, NODE_SIZE - 8) != crc)
		return err_set(e, ERR_CSUM, "checksum mismatch");
	if (le16_get(h->version) != NODE_VERSION)
		return err_set(e, ERR_VERSION, "node version %u", le16_get(h->version));
	if (le64_get(h->addr) != p->addr.v)
		return err_set(e, ERR_ADDR, "node of address %#llx",
			       (unsigned long long)le64_get(h->addr));
	if (memcmp(h->pool_id, pool_id, sizeof(h->pool_id)) != 0)
		return err_set(e, ERR_POOL_ID, "node of another pool");
	if (!any_parent && birth != p->birth)
		return err_set(e, ERR_STALE, "node of transaction %llu, parent says %llu",
			       (unsigned long long)birth, (unsigned long long)p->birth);
	if (!any_parent && crc != p->crc)
		return err_set(e, ERR_STALE, "another version of the node than its parent says");
	if (tree_id && le64_get(h->tree_id) != tree_id)
		return err_set(e, ERR_FORMAT, "node of tree %llu",
			       (unsigned long long)le64_get(h->tree_id));
	if (level != 0xff && h->level != level)
		return err_set(e, ERR_FORMAT, "level %u, expected %u", h->level, level);
	return validate_structure(buf, e);
}

static void value_to_text(FILE *f, const struct btree_item *it)
{
	const uint8_t *v = it->value;

	for (unsigned i = 0; i < it->len; i++)
		fprintf(f, "%02x", v[i]);
}

void node_to_text(FILE *f, const uint8_t *buf, node_item_text_fn *item_to_text)
{
	const struct node_header_disk *h = page_header_const(buf);
	uint64_t tree_id = le64_get(h->tree_id);

	fprintf(f, "node %#llx tree %llu level %u birth %llu crc %08x items %u bytes %u\n",
		(unsigned long long)le64_get(h->addr), (unsigned long long)tree_id, h->level,
		(unsigned long long)le64_get(h->birth), le32_get(h->crc), page_count(buf),
		page_used(buf));
	for (unsigned i = 0; i < page_count(buf); i++) {
		struct btree_item it;

		page_item(buf, i, &it);
		fprintf(f, "  (%llu, %u, %llu) ", (unsigned long long)it.key.object, it.key.type,
			(unsigned long long)it.key.offset);
		if (h->level > 0) {
			struct node_ptr p = page_child(buf, i);

			fprintf(f, "child %#llx birth %llu crc %08x", (unsigned long long)p.addr.v,
				(unsigned long long)p.birth, p.crc);
		} else if (item_to_text) {
			item_to_text(f, tree_id, h->level, &it);
		} else {
			value_to_text(f, &it);
		}
		fputc('\n', f);
	}
}
