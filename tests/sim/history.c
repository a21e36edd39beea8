#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include "tests/sim/history_impl.h"
#include "tests/sim/sim_rng.h"

#define PRUNE_AT 24u

static void *grow(void *p, size_t n, size_t size)
{
	p = realloc(p, n * size);
	if (!p)
		abort();
	return p;
}

static void *zalloc(size_t n, size_t size)
{
	void *p = calloc(n ? n : 1, size);
	if (!p)
		abort();
	return p;
}

struct history *hist_create(uint8_t vol, uint64_t *clock, const struct hist_space *spaces,
			    unsigned nspaces, unsigned keys, uint64_t size)
{
	struct history *h = zalloc(1, sizeof(*h));
	h->vol = vol;
	h->clock = clock;
	h->nspaces = nspaces;
	h->nkeys = keys;
	h->size_base = size;
	h->next_seq = 1;
	for (unsigned i = 0; i < nspaces; i++) {
		h->space[i] = spaces[i];
		h->blk[i] = zalloc(spaces[i].blocks, sizeof(struct hist_blk));
	}
	h->item = zalloc(keys, sizeof(struct hist_item));
	return h;
}

static void free_ops(struct history *h)
{
	for (size_t i = 0; i < h->nops; i++) {
		free(h->ops[i]->keys);
		free(h->ops[i]);
	}
	h->nops = 0;
}

void hist_destroy(struct history *h)
{
	if (!h)
		return;
	for (unsigned s = 0; s < h->nspaces; s++) {
		for (uint64_t b = 0; b < h->space[s].blocks; b++) {
			free(h->blk[s][b].base);
			free(h->blk[s][b].data);
			free(h->blk[s][b].cell.ops);
		}
		free(h->blk[s]);
	}
	for (unsigned i = 0; i < h->nkeys; i++)
		free(h->item[i].cell.ops);
	free(h->item);
	free(h->size_cell.ops);
	free_ops(h);
	free(h->ops);
	free(h->cand);
	free(h);
}

const struct hist_space *hist_space(const struct history *h, unsigned space)
{
	return &h->space[space];
}

unsigned hist_spaces(const struct history *h)
{
	return h->nspaces;
}
unsigned hist_keys(const struct history *h)
{
	return h->nkeys;
}
uint32_t hist_seq(const struct hist_op *op)
{
	return op->seq;
}
uint64_t hist_now(struct history *h)
{
	return ++*h->clock;
}

/* ---- cells ---- */

void hist_cell_clear(struct hist_cell *c)
{
	c->count = 0;
}

static bool covers_block(const struct hist_op *op, uint64_t block)
{
	return op->kind != HIST_ITEMS && op->off <= block * HIST_BLOCK &&
	       op->off + op->len >= (block + 1) * HIST_BLOCK;
}

/* Drop what a durable operation has covered for good. */
static void cell_prune(struct history *h, struct hist_cell *c, uint64_t block)
{
	const struct hist_op *top = NULL;
	for (unsigned i = 0; i < c->count; i++)
		if (c->ops[i]->ack < h->synced && covers_block(c->ops[i], block) &&
		    (!top || c->ops[i]->start > top->start))
			top = c->ops[i];
	if (!top)
		return;
	unsigned kept = 0;
	for (unsigned i = 0; i < c->count; i++)
		if (c->ops[i]->ack >= top->start && !c->ops[i]->dropped)
			c->ops[kept++] = c->ops[i];
	c->count = kept;
}

static void cell_add(struct hist_cell *c, struct hist_op *op)
{
	if (c->count == c->cap) {
		c->cap = c->cap ? c->cap * 2 : 4;
		c->ops = grow(c->ops, c->cap, sizeof(*c->ops));
	}
	c->ops[c->count++] = op;
}

static void cell_del(struct hist_cell *c, const struct hist_op *op)
{
	for (unsigned i = 0; i < c->count; i++) {
		if (c->ops[i] != op)
			continue;
		memmove(&c->ops[i], &c->ops[i + 1], (c->count - i - 1) * sizeof(*c->ops));
		c->count--;
		return;
	}
}

/* ---- operations ---- */

static struct hist_op *op_new(struct history *h, enum hist_kind kind)
{
	if (h->nops == h->ops_cap) {
		h->ops_cap = h->ops_cap ? h->ops_cap * 2 : 64;
		h->ops = grow(h->ops, h->ops_cap, sizeof(*h->ops));
	}
	struct hist_op *op = zalloc(1, sizeof(*op));
	h->ops[h->nops++] = op;
	op->seq = h->next_seq++;
	op->kind = (uint8_t)kind;
	op->start = hist_now(h);
	op->ack = HIST_NEVER;
	return op;
}

static void op_set_range(struct history *h, struct hist_op *op, unsigned space, uint64_t off,
			 uint64_t len)
{
	uint64_t end = h->space[space].blocks * HIST_BLOCK;
	op->space = (uint8_t)space;
	op->off = off < end ? off : end;
	op->len = len < end - op->off ? len : end - op->off;
	uint64_t last = op->len ? (op->off + op->len + HIST_BLOCK - 1) / HIST_BLOCK : 0;
	for (uint64_t b = op->off / HIST_BLOCK; b < last; b++) {
		struct hist_blk *k = &h->blk[space][b];
		if (k->cell.count >= PRUNE_AT)
			cell_prune(h, &k->cell, b);
		cell_add(&k->cell, op);
		k->touched = true;
	}
}

struct hist_op *hist_write(struct history *h, unsigned space, uint64_t off, uint64_t len,
			   enum stamp_style style)
{
	struct hist_op *op = op_new(h, HIST_WRITE);
	op->style = (uint8_t)style;
	op_set_range(h, op, space, off, len);
	return op;
}

struct hist_op *hist_zero(struct history *h, unsigned space, uint64_t off, uint64_t len)
{
	struct hist_op *op = op_new(h, HIST_ZERO);
	op_set_range(h, op, space, off, len);
	return op;
}

void hist_add_items(struct history *h, struct hist_op *op, const struct hist_key *keys, unsigned n)
{
	op->keys = zalloc(n, sizeof(*keys));
	memcpy(op->keys, keys, n * sizeof(*keys));
	op->nkeys = n;
	op->atomic = true;
	for (unsigned i = 0; i < n; i++)
		cell_add(&h->item[keys[i].key].cell, op);
}

struct hist_op *hist_items(struct history *h, const struct hist_key *keys, unsigned n)
{
	struct hist_op *op = op_new(h, HIST_ITEMS);
	hist_add_items(h, op, keys, n);
	return op;
}

struct hist_op *hist_resize(struct history *h, uint64_t size)
{
	struct hist_op *op = op_new(h, HIST_RESIZE);
	op->size = size;
	op_set_range(h, op, 0, size, UINT64_MAX);
	cell_add(&h->size_cell, op);
	return op;
}

void hist_fill(const struct history *h, const struct hist_op *op, uint8_t *buf)
{
	struct stamp s = {h->vol, op->space, op->style, op->seq};
	stamp_fill(s, op->off, op->len, buf);
}

void hist_ack(struct history *h, struct hist_op *op)
{
	op->ack = hist_now(h);
}

void hist_drop(struct history *h, struct hist_op *op)
{
	op->dropped = true;
	op->ack = hist_now(h);
	if (op->kind != HIST_ITEMS)
		for (uint64_t b = op->off / HIST_BLOCK;
		     op->len && b * HIST_BLOCK < op->off + op->len; b++)
			cell_del(&h->blk[op->space][b].cell, op);
	for (unsigned i = 0; i < op->nkeys; i++)
		cell_del(&h->item[op->keys[i].key].cell, op);
	if (op->kind == HIST_RESIZE)
		cell_del(&h->size_cell, op);
}

void hist_synced(struct history *h, uint64_t since)
{
	if (since > h->synced)
		h->synced = since;
}

uint64_t hist_ops_open(const struct history *h)
{
	uint64_t n = 0;
	for (size_t i = 0; i < h->nops; i++)
		n += h->ops[i]->ack == HIST_NEVER;
	return n;
}

/* ---- items ---- */

uint16_t hist_item_make(const struct history *h, unsigned key, uint32_t seq, uint8_t *buf)
{
	struct sim_rng g = rng_of((uint64_t)h->vol << 48 | (uint64_t)key << 32 | seq, 7);
	uint64_t max = rng_chance(&g, 1, 16) ? HIST_ITEM_MAX - 24 : 240;
	uint16_t len = (uint16_t)(24 + rng_below(&g, max));
	uint32_t head[6] = {h->vol, key, seq, len, 0, 0};
	memcpy(buf, head, sizeof(head));
	for (uint16_t i = 24; i < len; i++)
		buf[i] = (uint8_t)(seq * 31 + key * 7 + i);
	return len;
}

bool hist_item_parse(const struct history *h, unsigned key, const void *buf, size_t len,
		     uint32_t *ret_seq)
{
	static uint8_t want[HIST_ITEM_MAX + 1];
	uint32_t head[6];
	if (len < sizeof(head) || len > HIST_ITEM_MAX)
		return false;
	memcpy(head, buf, sizeof(head));
	if (hist_item_make(h, key, head[2], want) != len || memcmp(want, buf, len))
		return false;
	*ret_seq = head[2];
	return true;
}
