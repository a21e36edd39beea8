#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include "base/crc.h"
#include "pool/ilog_format.h"
#include "pool/sb_format.h"
#include "tests/fuzz/mutate.h"

#define NODES_MAX     1024u
#define SBS_MAX	      (2 * SB_RING_SLOTS * RIG_DISKS_MAX)
#define LOGS_MAX      64u
#define LOG_BYTES_MAX (64u << 10)
#define PTR_BYTES     20u /* addr, birth, crc of node_ptr_disk */

/* One copy of a structure somewhere on a disk. */
struct place {
	struct sim_disk *d;
	uint64_t block;
	uint32_t bytes;
	uint8_t *buf;
};

struct scene {
	struct rig *g;
	struct place node[NODES_MAX], sb[SBS_MAX], log[LOGS_MAX];
	unsigned nodes, sbs, logs;
};
struct edit {
	uint8_t kind, how;
	uint16_t which, where, spare;
	uint32_t value;
};

enum { EDIT_RAW, EDIT_SB, EDIT_NODE, EDIT_NODE_ITEM, EDIT_LOG, EDIT_ZERO, EDIT_COPY, EDIT_KINDS };

/* ---- finding structures ---- */

static bool load(struct place *pl, struct sim_disk *d, uint64_t block, uint32_t bytes)
{
	uint64_t n = (bytes + DEV_BLOCK - 1) / DEV_BLOCK;
	if (block + n > sim_disk_blocks(d))
		return false;
	*pl = (struct place){d, block, bytes, calloc(n, DEV_BLOCK)};
	if (!pl->buf)
		abort();
	for (uint64_t i = 0; i < n; i++) {
		const uint8_t *b = sim_disk_peek(d, block + i);
		if (b)
			memcpy(pl->buf + i * DEV_BLOCK, b, DEV_BLOCK);
	}
	return true;
}

static void store(const struct place *pl)
{
	for (uint32_t i = 0; i < (pl->bytes + DEV_BLOCK - 1) / DEV_BLOCK; i++)
		sim_disk_poke(pl->d, pl->block + i, pl->buf + i * DEV_BLOCK);
}

static uint32_t magic_of(const uint8_t *b)
{
	uint32_t m;
	memcpy(&m, b, 4);
	return le32toh(m);
}

static void find_in(struct scene *s, struct sim_disk *d)
{
	for (uint64_t b = 0; b < sim_disk_blocks(d); b++) {
		const uint8_t *p = sim_disk_peek(d, b);
		struct ilog_group_disk h;
		if (!p)
			continue;
		if (magic_of(p) == NODE_MAGIC && s->nodes < NODES_MAX)
			s->nodes += load(&s->node[s->nodes], d, b, NODE_SIZE);
		else if (!memcmp(p, SB_MAGIC, 8) && s->sbs < SBS_MAX)
			s->sbs += load(&s->sb[s->sbs], d, b, SB_SIZE);
		if (magic_of(p) != ILOG_MAGIC || s->logs == LOGS_MAX)
			continue;
		memcpy(&h, p, sizeof(h));
		if (le32_get(h.bytes) >= sizeof(h) && le32_get(h.bytes) <= LOG_BYTES_MAX)
			s->logs += load(&s->log[s->logs], d, b, le32_get(h.bytes));
	}
}

static void scene_free(struct scene *s)
{
	for (unsigned i = 0; i < s->nodes; i++)
		free(s->node[i].buf);
	for (unsigned i = 0; i < s->sbs; i++)
		free(s->sb[i].buf);
	for (unsigned i = 0; i < s->logs; i++)
		free(s->log[i].buf);
}

/* ---- checksums ---- */

static void fix_sb(const struct place *pl)
{
	le32 crc = le32_of(crc32c(0, pl->buf + 12, SB_SIZE - 12));
	memcpy(pl->buf + 8, &crc, 4);
	store(pl);
}

/* How a parent names a node. */
static void ptr_of(const uint8_t *node, uint8_t out[PTR_BYTES])
{
	const struct node_header_disk *h = (const void *)node;
	memcpy(out, &h->addr, 8);
	memcpy(out + 8, &h->birth, 8);
	memcpy(out + 16, &h->crc, 4);
}

/* Replace the checksum wherever the pointer `old` occurs in buf. */
static bool patch(uint8_t *buf, uint32_t bytes, const uint8_t old[PTR_BYTES], const uint8_t *crc)
{
	bool any = false;
	uint8_t *at = buf, *end = buf + bytes;
	while ((at = memmem(at, (size_t)(end - at), old, PTR_BYTES))) {
		memcpy(at + 16, crc, 4);
		at += PTR_BYTES;
		any = true;
	}
	return any;
}

/* The node's content changed: make it, its parents and the superblocks valid again. */
static void fix_node(struct scene *s, const struct place *pl, const uint8_t old[PTR_BYTES],
		     unsigned depth)
{
	struct node_header_disk *h = (void *)pl->buf;
	h->crc = le32_of(crc32c(0, pl->buf + 8, NODE_SIZE - 8));
	store(pl);
	if (depth > NODE_LEVEL_MAX)
		return;
	for (unsigned i = 0; i < s->nodes; i++) {
		uint8_t parent[PTR_BYTES];
		if (s->node[i].buf == pl->buf)
			continue;
		ptr_of(s->node[i].buf, parent);
		if (patch(s->node[i].buf + sizeof(*h), NODE_SIZE - sizeof(*h), old, h->crc.b))
			fix_node(s, &s->node[i], parent, depth + 1);
	}
	for (unsigned i = 0; i < s->sbs; i++)
		if (patch(s->sb[i].buf, SB_SIZE, old, h->crc.b))
			fix_sb(&s->sb[i]);
}

/* ---- changes ---- */

static void change(uint8_t *buf, uint32_t bytes, uint32_t where, const struct edit *e)
{
	static const uint64_t telling[] = {
		0,	    1,		2,	     0x7f,	0x80,	   0xff,
		0x100,	    0x7fff,	0x8000,	     0xffff,	0x10000,   0x7fffffff,
		0x80000000, 0xffffffff, 0x100000000, INT64_MAX, UINT64_MAX};
	uint32_t width = 1u << (e->how & 3);
	uint64_t v = 0;
	if (where + width > bytes)
		where = bytes - width;
	memcpy(&v, buf + where, width);
	switch (e->how >> 2 & 7) {
	case 0:
		v = e->value;
		break;
	case 1:
		v += 1;
		break;
	case 2:
		v -= 1;
		break;
	case 3:
		v ^= 1ull << (e->value % (width * 8));
		break;
	case 4:
		v += e->value % 64;
		break;
	case 5:
		v -= e->value % 64;
		break;
	default:
		v = telling[e->value % (sizeof(telling) / sizeof(telling[0]))];
		break;
	}
	memcpy(buf + where, &v, width);
}

static void edit_sb(struct scene *s, const struct edit *e)
{
	/* Mostly the head, the first devices and the boot chunks. */
	static const uint32_t from[] = {12, 0xe0, 0x200, SB_SIZE - 3000};
	static const uint32_t span[] = {300, 300, 1000, 2800};
	uint32_t where = from[e->which % 4] + e->where % span[e->which % 4];
	if (e->spare % 8 == 0)
		where = e->where % SB_SIZE;
	for (unsigned i = 0; i < s->sbs; i++) {
		change(s->sb[i].buf, SB_SIZE, where, e);
		fix_sb(&s->sb[i]);
	}
}

/* An offset worth changing: the header, a slot, or a byte of a value. */
static uint32_t node_where(const uint8_t *buf, const struct edit *e, bool item)
{
	const struct node_header_disk *h = (const void *)buf;
	uint32_t count = le16_get(h->count);
	if (!item || !count)
		return e->spare % 4 ? 8u + e->where % 120u : e->where % NODE_SIZE;
	uint32_t most = (NODE_SIZE - sizeof(*h)) / sizeof(struct node_slot_disk);
	uint32_t slot = e->spare % (count < most ? count : most);
	const struct node_slot_disk *sd = (const void *)(buf + sizeof(*h) + slot * sizeof(*sd));
	uint32_t off = le16_get(sd->value_off), len = le16_get(sd->value_len);
	if (e->value % 3 == 0 || !len || off + len > NODE_SIZE)
		return (uint32_t)(sizeof(*h) + slot * sizeof(*sd) + e->where % sizeof(*sd));
	return off + e->where % (len < 40 ? len : 40);
}

static void edit_node(struct scene *s, const struct edit *e, bool item)
{
	if (!s->nodes)
		return;
	const struct place *first = &s->node[e->which % s->nodes];
	uint32_t where = node_where(first->buf, e, item);
	uint8_t name[PTR_BYTES], old[PTR_BYTES];
	ptr_of(first->buf, name);
	for (unsigned i = 0; i < s->nodes; i++) {
		ptr_of(s->node[i].buf, old);
		if (memcmp(old, name, PTR_BYTES))
			continue;
		change(s->node[i].buf, NODE_SIZE, where, e);
		fix_node(s, &s->node[i], old, 0);
	}
}

static void edit_log(struct scene *s, const struct edit *e)
{
	if (!s->logs)
		return;
	struct ilog_group_disk h, other;
	memcpy(&h, s->log[e->which % s->logs].buf, sizeof(h));
	for (unsigned i = 0; i < s->logs; i++) {
		struct place *pl = &s->log[i];
		memcpy(&other, pl->buf, sizeof(other));
		if (memcmp(&h.seq, &other.seq, 8))
			continue;
		uint32_t span = e->spare % 2 && pl->bytes > 200 ? 200 : pl->bytes;
		change(pl->buf, pl->bytes, 8 + e->where % (span - 8), e);
		memcpy(&other, pl->buf, sizeof(other));
		uint32_t bytes = le32_get(other.bytes);
		if (bytes > pl->bytes || bytes < 8)
			bytes = pl->bytes;
		le32 crc = le32_of(crc32c(0, pl->buf + 8, bytes - 8));
		memcpy(pl->buf + 4, &crc, 4);
		store(pl);
	}
}

/* A block that has something on it. */
static uint64_t pick_block(const struct sim_disk *d, uint64_t n)
{
	uint64_t blocks = sim_disk_blocks(d);
	for (uint64_t i = 0; i < blocks; i++)
		if (sim_disk_peek(d, (n * 7919 + i) % blocks))
			return (n * 7919 + i) % blocks;
	return 0;
}

static void edit_blocks(struct scene *s, const struct edit *e)
{
	struct sim_disk *d = s->g->disk[e->spare % s->g->ndisks];
	uint64_t at = pick_block(d, e->which);
	const uint8_t *p = sim_disk_peek(d, at), *q = sim_disk_peek(d, pick_block(d, e->value));
	uint8_t buf[DEV_BLOCK];
	memset(buf, 0, sizeof(buf));
	if (p && e->kind % EDIT_KINDS == EDIT_RAW) {
		memcpy(buf, p, sizeof(buf));
		change(buf, sizeof(buf), e->where % DEV_BLOCK, e);
	} else if (q && e->kind % EDIT_KINDS == EDIT_COPY) {
		memcpy(buf, q, sizeof(buf));
	}
	sim_disk_poke(d, at, buf);
}

static void apply(struct rig *g, const struct edit *e)
{
	static struct scene s;
	memset(&s, 0, sizeof(s));
	s.g = g;
	for (unsigned i = 0; i < g->ndisks; i++)
		find_in(&s, g->disk[i]);
	switch (e->kind % EDIT_KINDS) {
	case EDIT_SB:
		edit_sb(&s, e);
		break;
	case EDIT_NODE:
		edit_node(&s, e, false);
		break;
	case EDIT_NODE_ITEM:
		edit_node(&s, e, true);
		break;
	case EDIT_LOG:
		edit_log(&s, e);
		break;
	default:
		edit_blocks(&s, e);
		break;
	}
	scene_free(&s);
}

void mutate(struct rig *g, const uint8_t *script, size_t len)
{
	for (size_t i = 0; i + MUTATE_STEP <= len && i < MUTATE_STEP * MUTATE_STEPS_MAX;
	     i += MUTATE_STEP) {
		struct edit e = {.kind = script[i], .how = script[i + 1]};
		memcpy(&e.which, script + i + 2, 2);
		memcpy(&e.where, script + i + 4, 2);
		memcpy(&e.spare, script + i + 6, 2);
		memcpy(&e.value, script + i + 8, 4);
		apply(g, &e);
	}
}

size_t mutate_script(uint64_t seed, uint8_t out[MUTATE_STEP * MUTATE_STEPS_MAX])
{
	struct sim_rng g = rng_of(seed, 8);
	size_t n = rng_skewed(&g, 4) * MUTATE_STEP;
	for (size_t i = 0; i < n; i++)
		out[i] = (uint8_t)rng_next(&g);
	/* Items and nodes are where the structure is. */
	for (size_t i = 0; i < n; i += MUTATE_STEP)
		if (rng_chance(&g, 1, 2))
			out[i] = rng_chance(&g, 2, 3) ? EDIT_NODE_ITEM : EDIT_NODE;
	return n;
}
