/* btree_page: see btree_page.h. */
#include "pool/btree_page.h"

static void set_count(uint8_t *buf, unsigned count)
{
	page_header(buf)->count = le16_of((uint16_t)count);
}

static unsigned value_start(const uint8_t *buf)
{
	return le16_get(page_header_const(buf)->value_start);
}

static unsigned value_bytes(const uint8_t *buf)
{
	return le16_get(page_header_const(buf)->value_bytes);
}

static unsigned slots_end(unsigned count)
{
	return PAGE_HEADER_SIZE + count * PAGE_SLOT_SIZE;
}

static void set_values(uint8_t *buf, unsigned start, unsigned bytes)
{
	page_header(buf)->value_start = le16_of((uint16_t)start);
	page_header(buf)->value_bytes = le16_of((uint16_t)bytes);
}

struct node_ptr_disk page_ptr_disk(struct node_ptr p)
{
	return (struct node_ptr_disk){
		.addr = le64_of(p.addr.v), .birth = le64_of(p.birth), .crc = le32_of(p.crc)};
}

static struct key_disk key_to_disk(struct key k)
{
	return (struct key_disk){
		.object = le64_of(k.object), .offset = le64_of(k.offset), .type = k.type};
}

static inline bool slot_less(const struct node_slot_disk *s, struct key k)
{
	uint64_t object = le64_get(s->key.object);

	if (object != k.object)
		return object < k.object;
	if (s->key.type != k.type)
		return s->key.type < k.type;
	return le64_get(s->key.offset) < k.offset;
}

/* Slots with key < k. A leaf is usually not in the CPU's cache: fetch the places of the first three
 * steps at once instead of one miss after the other. */
static inline unsigned lower_bound(const uint8_t *buf, struct key k)
{
	const struct node_slot_disk *base = page_slots(buf);
	unsigned n = page_count(buf);

	if (n == 0)
		return 0;
	if (page_level(buf) == 0 && n > 32) {
		for (unsigned j = 1; j < 8; j++)
			__builtin_prefetch(&base[n * j / 8]);
	}
	while (n > 1) {
		unsigned half = n / 2;

		base = slot_less(&base[half - 1], k) ? base + half : base;
		n -= half;
	}
	return (unsigned)(base - page_slots(buf)) + slot_less(base, k);
}

unsigned page_search(const uint8_t *buf, struct key k, bool *ret_exact)
{
	unsigned i = lower_bound(buf, k);

	*ret_exact = i < page_count(buf) && key_cmp(page_key(buf, i), k) == 0;
	return i;
}

unsigned page_search_child(const uint8_t *buf, struct key k)
{
	bool exact;
	unsigned i = page_search(buf, k, &exact);

	return exact || i == 0 ? i : i - 1;
}

void page_init(uint8_t *buf, uint8_t level, const uint8_t *pool_id, uint64_t tree_id)
{
	struct node_header_disk *h = page_header(buf);

	h->magic = le32_of(NODE_MAGIC);
	h->version = le16_of(NODE_VERSION);
	h->level = level;
	memcpy(h->pool_id, pool_id, sizeof(h->pool_id));
	h->tree_id = le64_of(tree_id);
	set_values(buf, NODE_SIZE, 0);
}

void page_set_id(uint8_t *buf, struct addr addr, uint64_t birth, uint64_t tree_id)
{
	struct node_header_disk *h = page_header(buf);

	h->addr = le64_of(addr.v);
	h->birth = le64_of(birth);
	h->tree_id = le64_of(tree_id);
}

/* Append a value below value_start and point slot i at it. An empty value's offset is the node's
 * end, so that it stays in bounds wherever value_start goes. */
static void place_value(uint8_t *buf, unsigned i, const void *value, unsigned len)
{
	unsigned start = value_start(buf) - len;
	struct node_slot_disk *s = page_slot(buf, i);

	if (len)
		memcpy(buf + start, value, len);
	s->value_off = le16_of((uint16_t)(len ? start : NODE_SIZE));
	s->value_len = le16_of((uint16_t)len);
	set_values(buf, start, value_bytes(buf) + len);
}

void page_insert(uint8_t *buf, unsigned i, struct key k, const void *value, unsigned len,
		 uint8_t *scratch)
{
	unsigned count = page_count(buf);
	struct node_slot_disk *s = page_slot(buf, i);

	assert(i <= count && len <= NODE_VALUE_MAX);
	assert(page_room(buf) >= PAGE_SLOT_SIZE + len);
	if (value_start(buf) < slots_end(count + 1) + len)
		page_compact(buf, scratch);
	memmove(s + 1, s, (count - i) * PAGE_SLOT_SIZE);
	set_count(buf, count + 1);
	s->key = key_to_disk(k);
	place_value(buf, i, value, len);
}

void page_remove(uint8_t *buf, unsigned i)
{
	unsigned count = page_count(buf), start = value_start(buf), len = page_value_len(buf, i);
	struct node_slot_disk *s = page_slot(buf, i);

	assert(i < count);
	if (len && page_value(buf, i) == buf + start) {
		memset(buf + start, 0, len);
		start += len;
	}
	set_values(buf, start, value_bytes(buf) - len);
	memmove(s, s + 1, (count - i - 1) * PAGE_SLOT_SIZE);
	memset(page_slot(buf, count - 1), 0, PAGE_SLOT_SIZE);
	set_count(buf, count - 1);
	if (count == 1 && start < NODE_SIZE) { /* empty: all that is left is garbage */
		memset(buf + start, 0, NODE_SIZE - start);
		set_values(buf, NODE_SIZE, 0);
	}
}

void page_set_value(uint8_t *buf, unsigned i, const void *value, unsigned len)
{
	assert(page_value_len(buf, i) == len);
	if (len)
		memcpy(buf + le16_get(page_slot(buf, i)->value_off), value, len);
}

void page_set_key(uint8_t *buf, unsigned i, struct key k)
{
	page_slot(buf, i)->key = key_to_disk(k);
}

void page_compact(uint8_t *buf, uint8_t *scratch)
{
	unsigned count = page_count(buf), start = NODE_SIZE, old = value_start(buf);

	if (old + value_bytes(buf) == NODE_SIZE)
		return;
	for (unsigned i = count; i-- > 0;) {
		struct node_slot_disk *s = page_slot(buf, i);
		unsigned len = page_value_len(buf, i);

		start -= len;
		memcpy(scratch + start, page_value(buf, i), len);
		s->value_off = le16_of((uint16_t)(len ? start : NODE_SIZE));
	}
	assert(start + value_bytes(buf) == NODE_SIZE);
	memset(buf + old, 0, start - old);
	memcpy(buf + start, scratch + start, NODE_SIZE - start);
	set_values(buf, start, NODE_SIZE - start);
}

/* Append slots [first, count) of src to dst, which has room and no garbage. */
static void copy_tail(uint8_t *dst, const uint8_t *src, unsigned first)
{
	unsigned n = page_count(dst), count = page_count(src);

	set_count(dst, n + count - first);
	for (unsigned i = first; i < count; i++, n++) {
		page_slot(dst, n)->key = page_slots(src)[i].key;
		place_value(dst, n, page_value(src, i), page_value_len(src, i));
	}
}

/* Cut off slots [first, count). */
static void truncate_at(uint8_t *buf, unsigned first, uint8_t *scratch)
{
	unsigned count = page_count(buf), bytes = value_bytes(buf);

	for (unsigned i = first; i < count; i++)
		bytes -= page_value_len(buf, i);
	memset(page_slot(buf, first), 0, (count - first) * PAGE_SLOT_SIZE);
	set_count(buf, first);
	set_values(buf, value_start(buf), bytes);
	page_compact(buf, scratch);
}

/* How many of the count + 1 items (the new one at slot i) stay on the left. */
static unsigned split_point(const uint8_t *buf, unsigned i, unsigned len)
{
	unsigned count = page_count(buf), acc = 0, j;
	unsigned total = page_used(buf) + PAGE_SLOT_SIZE + len;

	if (i == count)
		return page_level(buf) && count > 2 ? count - 1 : count;
	for (j = 0; j < count; j++) {
		unsigned size = PAGE_SLOT_SIZE;

		size += j == i ? len : page_value_len(buf, j < i ? j : j - 1);
		if (2 * acc + size > total)
			break;
		acc += size;
	}
	return j ? j : 1;
}

void page_split_insert(uint8_t *left, uint8_t *right, unsigned i, struct key k, const void *value,
		       unsigned len, uint8_t *scratch)
{
	unsigned at = split_point(left, i, len);

	assert(page_count(right) == 0 && page_count(left) > 0);
	if (at <= i) {
		copy_tail(right, left, at);
		truncate_at(left, at, scratch);
		page_insert(right, i - at, k, value, len, scratch);
	} else {
		copy_tail(right, left, at - 1);
		truncate_at(left, at - 1, scratch);
		page_insert(left, i, k, value, len, scratch);
	}
}

void page_merge(uint8_t *dst, unsigned i, const uint8_t *src, uint8_t *scratch)
{
	unsigned n = page_count(src), count = page_count(dst);
	struct node_slot_disk *s = page_slot(dst, i);

	assert(page_used(src) <= page_room(dst));
	page_compact(dst, scratch);
	memmove(s + n, s, (count - i) * PAGE_SLOT_SIZE);
	set_count(dst, count + n);
	for (unsigned j = 0; j < n; j++) {
		page_slot(dst, i + j)->key = page_slots(src)[j].key;
		place_value(dst, i + j, page_value(src, j), page_value_len(src, j));
	}
}
