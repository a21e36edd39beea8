/* rescue_scan: read the devices from end to end and index every valid node and log group. */
#include <string.h>
#include "pool/rescue_impl.h"

#define WINDOW_BYTES (4u << 20)
/* a node that begins in the window's last block */
#define TAIL_BYTES	   (NODE_SIZE - BLOCK_SIZE)
#define BUCKETS_MIN	   1024u
#define PLACE(file, block) ((uint64_t)(file) << 48 | (block))

int rescue_grow(void *array, size_t n, size_t *cap, size_t size)
{
	size_t want = *cap ? *cap * 2 : 64;
	void *old, *new;

	if (n < *cap)
		return 0;
	memcpy(&old, array, sizeof old);
	new = want > SIZE_MAX / size ? NULL : realloc(old, want * size);
	if (!new)
		return -ENOMEM;
	memcpy(array, &new, sizeof new);
	*cap = want;
	return 0;
}

static size_t bucket_of(const struct rescue *r, uint64_t addr, uint64_t birth)
{
	uint64_t h = (addr ^ birth * 0xff51afd7ed558ccdull) * 0x9e3779b97f4a7c15ull;

	return (size_t)(h >> 20) & (r->nbuckets - 1);
}

static int buckets_grow(struct rescue *r)
{
	size_t n = r->nbuckets ? r->nbuckets * 2 : BUCKETS_MIN;
	uint32_t *b = malloc(n * sizeof *b);

	if (!b)
		return -ENOMEM;
	free(r->buckets);
	r->buckets = b;
	r->nbuckets = n;
	memset(b, 0xff, n * sizeof *b);
	for (size_t i = 0; i < r->nnodes; i++) {
		size_t at = bucket_of(r, r->nodes[i].addr, r->nodes[i].birth);

		r->nodes[i].next = b[at];
		b[at] = (uint32_t)i;
	}
	return 0;
}

static uint32_t find(const struct rescue *r, uint64_t addr, uint64_t birth, uint32_t crc,
		     uint8_t pool)
{
	uint32_t i = r->nbuckets ? r->buckets[bucket_of(r, addr, birth)] : RESCUE_NONE;

	for (; i != RESCUE_NONE; i = r->nodes[i].next) {
		const struct rescue_node *n = &r->nodes[i];

		if (n->addr == addr && n->birth == birth && n->crc == crc && n->pool == pool)
			break;
	}
	return i;
}

uint32_t rescue_find(const struct rescue *r, const struct node_ptr *p, uint64_t tree, uint8_t level)
{
	uint32_t i = find(r, p->addr.v, p->birth, p->crc, r->pool);

	if (i != RESCUE_NONE && (r->nodes[i].tree != tree || r->nodes[i].level != level))
		return RESCUE_NONE;
	return i;
}

uint8_t rescue_pool_number(struct rescue *r, const uint8_t *id)
{
	unsigned i = 0;

	while (i < r->npools && memcmp(r->pools[i], id, 16))
		i++;
	if (i == r->npools && i < RESCUE_POOLS_MAX)
		memcpy(r->pools[r->npools++], id, 16);
	return (uint8_t)i;
}

static int node_add(struct rescue *r, const uint8_t *buf, uint8_t pool, uint64_t place)
{
	const struct node_header_disk *h = page_header_const(buf);
	struct rescue_node n = {
		.addr = le64_get(h->addr),
		.birth = le64_get(h->birth),
		.tree = le64_get(h->tree_id),
		.crc = le32_get(h->crc),
		.pool = pool,
		.level = h->level,
		.copies = 1,
		.count = le16_get(h->count),
		.at = {place},
	};
	size_t at;
	int rc = r->nnodes >= RESCUE_NONE - 1 ? -ENOMEM : 0;

	if (!rc)
		rc = rescue_grow(&r->nodes, r->nnodes, &r->cap_nodes, sizeof n);
	if (!rc && r->nnodes >= r->nbuckets)
		rc = buckets_grow(r);
	if (rc)
		return rc;
	if (n.count) {
		n.first = page_key(buf, 0);
		n.last = page_key(buf, n.count - 1u);
	}
	at = bucket_of(r, n.addr, n.birth);
	n.next = r->buckets[at];
	r->buckets[at] = (uint32_t)r->nnodes;
	r->nodes[r->nnodes++] = n;
	r->pool_nodes[pool]++;
	return 0;
}

/* Is there a node at buf (NODE_SIZE bytes)? Then enter it. */
static int node_look(struct rescue *r, const uint8_t *buf, uint64_t place)
{
	const struct node_header_disk *h = page_header_const(buf);
	struct node_ptr p = {.addr = {le64_get(h->addr)}};
	uint32_t i;
	uint8_t pool;

	if (le32_get(h->magic) != NODE_MAGIC || h->level > NODE_LEVEL_MAX ||
	    node_validate(buf, &p, h->pool_id, 0, 0xff, true, NULL))
		return 0;
	pool = rescue_pool_number(r, h->pool_id);
	if (pool == RESCUE_POOLS_MAX)
		return 0;
	i = find(r, p.addr.v, le64_get(h->birth), le32_get(h->crc), pool);
	if (i == RESCUE_NONE)
		return node_add(r, buf, pool, place);
	if (r->nodes[i].copies < RESCUE_COPIES_MAX)
		r->nodes[i].at[r->nodes[i].copies++] = place;
	return 0;
}

/* Where a large read fails, small ones show how much of it is lost; that reads as zeros. */
static void window_read(struct rescue *r, struct dev_backend *b, uint64_t off, uint8_t *buf,
			uint64_t len)
{
	if (!dev_read(b, off, buf, len))
		return;
	for (uint64_t at = 0; at < len; at += BLOCK_SIZE)
		if (dev_read(b, off + at, buf + at, BLOCK_SIZE)) {
			memset(buf + at, 0, BLOCK_SIZE);
			r->info.read_errors++;
		}
}

static int device_scan(struct rescue *r, unsigned file, uint8_t *buf)
{
	struct dev_backend *b = r->devs[file];
	uint64_t size = b->size_bytes / BLOCK_SIZE * BLOCK_SIZE;
	int rc = 0;

	for (uint64_t off = 0; off < size && !rc; off += WINDOW_BYTES) {
		uint64_t len = size - off;

		if (len > WINDOW_BYTES + TAIL_BYTES)
			len = WINDOW_BYTES + TAIL_BYTES;
		window_read(r, b, off, buf, len);
		for (uint64_t at = 0; at + NODE_SIZE <= len && !rc; at += BLOCK_SIZE) {
			rc = node_look(r, buf + at, PLACE(file, (off + at) / BLOCK_SIZE));
			if (!rc && at < WINDOW_BYTES)
				rc = rescue_log_look(r, buf + at, len - at, file, off + at);
		}
		r->done_bytes += len < WINDOW_BYTES ? len : WINDOW_BYTES;
		if (r->o.progress)
			r->o.progress(r->o.arg, r->done_bytes, r->total_bytes);
	}
	return rc;
}

/* The pool asked for, or any, but written by a newer Tarn: its trees may be another thing than they
 * look like. */
static int refuse_newer(const struct rescue *r, const struct sb_disk *sb, const struct err *why,
			struct err *e)
{
	if (r->o.pool_uuid && memcmp(r->o.pool_uuid, sb->pool_uuid, 16))
		return 0;
	return err_set(e, ERR_VERSION, "%s", why->text);
}

static int superblock_take(struct rescue *r, unsigned file, struct sb_disk *sb, struct err *e)
{
	struct err why = {0};
	int rc = sb_read_newest(r->devs[file], sb, &why);
	uint8_t pool;

	if (rc)
		return rc == ERR_VERSION ? refuse_newer(r, sb, &why, e) : 0;
	pool = rescue_pool_number(r, sb->pool_uuid);
	if (pool == RESCUE_POOLS_MAX)
		return 0;
	r->own_dev[pool][file] = (int16_t)le32_get(sb->own_dev);
	if (r->sb[pool] && !sb_newer(sb, r->sb[pool]))
		return 0;
	if (!r->sb[pool])
		r->sb[pool] = aligned_alloc(BLOCK_SIZE, SB_SIZE);
	if (!r->sb[pool])
		return -ENOMEM;
	memcpy(r->sb[pool], sb, SB_SIZE);
	return 0;
}

/* A superblock is not needed, but where one is left it tells the pool's name and more. */
static int superblock_look(struct rescue *r, unsigned file, struct err *e)
{
	struct sb_disk *sb = aligned_alloc(BLOCK_SIZE, SB_SIZE);
	int rc = sb ? superblock_take(r, file, sb, e) : -ENOMEM;

	free(sb);
	return rc;
}

int rescue_scan(struct rescue *r, struct err *e)
{
	uint8_t *buf = aligned_alloc(BLOCK_SIZE, WINDOW_BYTES + TAIL_BYTES);
	int rc = buf ? 0 : -ENOMEM;

	for (unsigned i = 0; i < r->ndevs; i++)
		r->total_bytes += r->devs[i]->size_bytes;
	for (unsigned i = 0; i < r->ndevs && !rc; i++) {
		rc = superblock_look(r, i, e);
		if (!rc)
			rc = device_scan(r, i, buf);
	}
	rescue_log_sort(r);
	free(buf);
	return rc;
}

const uint8_t *rescue_node_get(struct rescue *r, uint32_t i)
{
	const struct rescue_node *n = &r->nodes[i];
	struct node_ptr p = {{n->addr}, n->birth, n->crc};
	uint8_t *buf = r->cache + (size_t)(i % RESCUE_CACHE) * NODE_SIZE;

	if (r->cached[i % RESCUE_CACHE] == i)
		return buf;
	r->cached[i % RESCUE_CACHE] = RESCUE_NONE;
	for (unsigned c = 0; c < n->copies; c++) {
		struct dev_backend *b = r->devs[n->at[c] >> 48];
		uint64_t off = (n->at[c] & ((1ull << 48) - 1)) * BLOCK_SIZE;

		if (dev_read(b, off, buf, NODE_SIZE) ||
		    node_validate(buf, &p, r->pools[n->pool], n->tree, n->level, false, NULL))
			continue;
		r->cached[i % RESCUE_CACHE] = i;
		return buf;
	}
	return NULL;
}
