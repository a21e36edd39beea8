#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include "tests/sim/history_impl.h"

#define EDGES_MAX 4096u

/* ---- judging one piece ---- */

static void cand_begin(struct history *h, unsigned n)
{
	if (n + 1 <= h->cand_cap)
		return;
	h->cand_cap = n + 64;
	h->cand = realloc(h->cand, h->cand_cap * sizeof(*h->cand));
	if (!h->cand)
		abort();
}

static uint64_t cand_ack(const struct hist_cand *c)
{
	return c->op ? c->op->ack : 0;
}

/* The operation that should have overwritten what is found here, or NULL when c explains it. */
static const struct hist_op *overwriter(const struct hist_cand *all, unsigned n,
					const struct hist_cand *c, uint64_t t)
{
	for (unsigned i = 0; i < n; i++) {
		const struct hist_op *j = all[i].op;
		if (j && j->start > cand_ack(c) && (j->ack < t || (j->atomic && j->seen)))
			return j;
	}
	return NULL;
}

/* 0: explained; 1: nobody's content; 2: overwritten by *ret_by, though written by *ret_w. */
static int judge(const struct hist_cand *all, unsigned n, uint64_t t, const struct hist_op **ret_w,
		 const struct hist_op **ret_by)
{
	int verdict = 1;
	for (unsigned i = 0; i < n; i++) {
		if (!all[i].match)
			continue;
		const struct hist_op *by = overwriter(all, n, &all[i], t);
		if (!by)
			return 0;
		*ret_w = all[i].op;
		*ret_by = by;
		verdict = 2;
	}
	return verdict;
}

/* The earliest submission that explains it; an operation that is the only one was seen. */
static uint64_t observe(const struct hist_cand *all, unsigned n)
{
	uint64_t oldest = HIST_NEVER;
	const struct hist_cand *only = NULL;
	unsigned matches = 0;
	for (unsigned i = 0; i < n; i++) {
		if (!all[i].match)
			continue;
		uint64_t start = all[i].op ? all[i].op->start : 0;
		if (start < oldest)
			oldest = start;
		only = &all[i];
		matches++;
	}
	if (matches == 1 && only->op)
		((struct hist_op *)only->op)->seen = true;
	return matches ? oldest : 0;
}

static void op_text(const struct hist_op *op, char *out, size_t size)
{
	static const char *const kind[] = {"write", "zero", "items", "resize"};
	if (!op) {
		snprintf(out, size, "the base");
		return;
	}
	int n = snprintf(out, size, "op %u %s %llu+%llu [%llu,", op->seq, kind[op->kind],
			 (unsigned long long)op->off, (unsigned long long)op->len,
			 (unsigned long long)op->start);
	if (op->ack == HIST_NEVER)
		snprintf(out + n, size - (size_t)n, "never]%s", op->seen ? " seen" : "");
	else
		snprintf(out + n, size - (size_t)n, "%llu]%s", (unsigned long long)op->ack,
			 op->seen ? " seen" : "");
}

static void explain(const struct history *h, uint64_t t, const struct hist_op *w,
		    const struct hist_op *by, char *why, size_t size)
{
	char a[128], b[128];
	op_text(w, a, sizeof(a));
	op_text(by, b, sizeof(b));
	if (t == HIST_NEVER)
		snprintf(why, size, "shows %s, but %s came later (all must be there)", a, b);
	else
		snprintf(why, size, "shows %s, but %s came later (T %llu, synced %llu)", a, b,
			 (unsigned long long)t, (unsigned long long)h->synced);
}

/* ---- data ---- */

static bool all_zero(const uint8_t *p, uint64_t n)
{
	return !n || (!p[0] && !memcmp(p, p + 1, n - 1));
}

/* Fill h->cand for bytes [from, to) of a space, which no operation begins or ends inside of. */
static unsigned segment_cands(struct history *h, const struct hist_blk *k, uint64_t from,
			      uint64_t to, const uint8_t *got)
{
	uint64_t len = to - from;
	bool zero = all_zero(got, len), found = false;
	unsigned n = 0;
	cand_begin(h, k->cell.count);
	for (unsigned i = k->cell.count; i-- > 0;) {
		const struct hist_op *op = k->cell.ops[i];
		if (op->off > from || op->off + op->len < to)
			continue;
		struct stamp s = {h->vol, op->space, op->style, op->seq};
		bool match = op->kind != HIST_WRITE ? zero
						    : (!zero || len < 8) && !found &&
							      stamp_match(s, from, len, got);
		if (match && op->kind == HIST_WRITE && len >= 16)
			found = true;
		h->cand[n++] = (struct hist_cand){op, match};
	}
	bool base = k->base ? !memcmp(k->base + from % HIST_BLOCK, got, len) : zero;
	h->cand[n++] = (struct hist_cand){NULL, base};
	return n;
}

static int cmp_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

/* Where operations begin and end within [from, to) of one block; both ends included. */
static unsigned edges(const struct hist_blk *k, uint64_t from, uint64_t to, uint64_t *out)
{
	unsigned n = 0;
	out[n++] = from;
	for (unsigned i = 0; i < k->cell.count && n + 3 < EDGES_MAX; i++) {
		const struct hist_op *op = k->cell.ops[i];
		uint64_t e[2] = {op->off, op->off + op->len};
		for (unsigned j = 0; j < 2; j++)
			if (e[j] > from && e[j] < to)
				out[n++] = e[j];
	}
	out[n++] = to;
	qsort(out, n, sizeof(*out), cmp_u64);
	unsigned kept = 1;
	for (unsigned i = 1; i < n; i++)
		if (out[i] != out[kept - 1])
			out[kept++] = out[i];
	return kept;
}

struct piece {
	uint64_t from, to;
	const uint8_t *got;
};

/* Judge [from, to) inside one block. t NULL: only observe, raising *ret_t. */
static bool block_check(struct history *h, unsigned space, struct piece p, const uint64_t *t,
			uint64_t *ret_t, char *why, size_t why_size)
{
	static uint64_t edge[EDGES_MAX];
	const struct hist_blk *k = &h->blk[space][p.from / HIST_BLOCK];
	unsigned n = edges(k, p.from, p.to, edge);
	for (unsigned i = 0; i + 1 < n; i++) {
		const uint8_t *got = p.got + (edge[i] - p.from);
		unsigned c = segment_cands(h, k, edge[i], edge[i + 1], got);
		if (!t) {
			uint64_t seen = observe(h->cand, c);
			if (seen > *ret_t)
				*ret_t = seen;
			continue;
		}
		const struct hist_op *w = NULL, *by = NULL;
		int verdict = judge(h->cand, c, *t, &w, &by);
		if (!verdict)
			continue;
		int len = snprintf(why, why_size, "volume %u object %llu offset %llu+%llu ", h->vol,
				   (unsigned long long)h->space[space].object,
				   (unsigned long long)(h->space[space].base + edge[i]),
				   (unsigned long long)(edge[i + 1] - edge[i]));
		if (verdict == 2) {
			explain(h, *t, w, by, why + len, why_size - (size_t)len);
		} else {
			char text[128];
			stamp_describe(edge[i], edge[i + 1] - edge[i], got, text, sizeof(text));
			snprintf(why + len, why_size - (size_t)len, "holds foreign bytes: %s",
				 text);
		}
		return false;
	}
	return true;
}

bool hist_check_read(struct history *h, unsigned space, uint64_t off, uint64_t len,
		     const uint8_t *buf, uint64_t since, char *why, size_t why_size)
{
	uint64_t end = off + len;
	for (uint64_t at = off; at < end;) {
		uint64_t next = (at / HIST_BLOCK + 1) * HIST_BLOCK;
		if (next > end)
			next = end;
		struct piece p = {at, next, buf + (at - off)};
		if (!block_check(h, space, p, &since, NULL, why, why_size))
			return false;
		at = next;
	}
	return true;
}

/* ---- items and the size ---- */

static bool op_puts(const struct hist_op *op, unsigned key)
{
	for (unsigned i = 0; i < op->nkeys; i++)
		if (op->keys[i].key == key)
			return op->keys[i].put;
	return false;
}

static unsigned item_cands(struct history *h, unsigned key, uint32_t seq)
{
	const struct hist_item *it = &h->item[key];
	unsigned n = 0;
	cand_begin(h, it->cell.count);
	for (unsigned i = 0; i < it->cell.count; i++) {
		const struct hist_op *op = it->cell.ops[i];
		bool match = op_puts(op, key) ? seq == op->seq : !seq;
		h->cand[n++] = (struct hist_cand){op, match};
	}
	h->cand[n++] = (struct hist_cand){NULL, seq == it->base};
	return n;
}

static unsigned size_cands(struct history *h, uint64_t size)
{
	unsigned n = 0;
	cand_begin(h, h->size_cell.count);
	for (unsigned i = 0; i < h->size_cell.count; i++)
		h->cand[n++] =
			(struct hist_cand){h->size_cell.ops[i], h->size_cell.ops[i]->size == size};
	h->cand[n++] = (struct hist_cand){NULL, size == h->size_base};
	return n;
}

static bool cell_verdict(struct history *h, unsigned n, uint64_t t, const char *what, char *why,
			 size_t why_size)
{
	const struct hist_op *w = NULL, *by = NULL;
	int verdict = judge(h->cand, n, t, &w, &by);
	if (!verdict)
		return true;
	int len = snprintf(why, why_size, "volume %u %s ", h->vol, what);
	if (verdict == 1)
		snprintf(why + len, why_size - (size_t)len, "was never written so");
	else
		explain(h, t, w, by, why + len, why_size - (size_t)len);
	return false;
}

bool hist_check_item(struct history *h, unsigned key, uint32_t seq, uint64_t since, char *why,
		     size_t why_size)
{
	char what[64];
	snprintf(what, sizeof(what), "item %u (op %u)", key, seq);
	return cell_verdict(h, item_cands(h, key, seq), since, what, why, why_size);
}

bool hist_check_size(struct history *h, uint64_t size, uint64_t since, char *why, size_t why_size)
{
	char what[64];
	snprintf(what, sizeof(what), "size %llu", (unsigned long long)size);
	return cell_verdict(h, size_cands(h, size), since, what, why, why_size);
}

/* ---- a whole state ---- */

bool hist_touched(const struct history *h, unsigned space, uint64_t block)
{
	return h->blk[space][block].touched;
}

void hist_found_begin(struct history *h)
{
	for (unsigned s = 0; s < h->nspaces; s++)
		for (uint64_t b = 0; b < h->space[s].blocks; b++)
			h->blk[s][b].found = FOUND_NOT;
	for (unsigned i = 0; i < h->nkeys; i++)
		h->item[i].found = false;
	h->size_was_found = false;
}

void hist_found_block(struct history *h, unsigned space, uint64_t block, const uint8_t *data)
{
	struct hist_blk *k = &h->blk[space][block];
	if (all_zero(data, HIST_BLOCK)) {
		k->found = FOUND_ZERO;
		return;
	}
	if (!k->data && !(k->data = malloc(HIST_BLOCK)))
		abort();
	memcpy(k->data, data, HIST_BLOCK);
	k->found = FOUND_DATA;
	k->touched = true;
}

void hist_found_unreadable(struct history *h, unsigned space, uint64_t block)
{
	h->blk[space][block].found = FOUND_UNREADABLE;
}

void hist_found_item(struct history *h, unsigned key, uint32_t seq)
{
	h->item[key].seq = seq;
	h->item[key].found = true;
}

void hist_found_size(struct history *h, uint64_t size)
{
	h->size_found = size;
	h->size_was_found = true;
}

/* One pass over all that was found: observe (t NULL) or judge. */
static bool pass(struct history *h, const uint64_t *t, uint64_t *ret_t, char *why, size_t why_size)
{
	static const uint8_t zeros[HIST_BLOCK];
	for (unsigned s = 0; s < h->nspaces; s++) {
		for (uint64_t b = 0; b < h->space[s].blocks; b++) {
			const struct hist_blk *k = &h->blk[s][b];
			if (k->found == FOUND_NOT || k->found == FOUND_UNREADABLE)
				continue;
			struct piece p = {b * HIST_BLOCK, (b + 1) * HIST_BLOCK,
					  k->found == FOUND_DATA ? k->data : zeros};
			if (!block_check(h, s, p, t, ret_t, why, why_size))
				return false;
		}
	}
	for (unsigned i = 0; i < h->nkeys; i++) {
		if (!h->item[i].found)
			continue;
		if (t && !hist_check_item(h, i, h->item[i].seq, *t, why, why_size))
			return false;
		uint64_t seen = t ? 0 : observe(h->cand, item_cands(h, i, h->item[i].seq));
		if (!t && seen > *ret_t)
			*ret_t = seen;
	}
	if (!h->size_was_found)
		return true;
	if (t)
		return hist_check_size(h, h->size_found, *t, why, why_size);
	uint64_t seen = observe(h->cand, size_cands(h, h->size_found));
	if (seen > *ret_t)
		*ret_t = seen;
	return true;
}

void hist_judge_end(struct history *h)
{
	for (size_t i = 0; i < h->nops; i++)
		h->ops[i]->seen = false;
}

bool hist_judge(struct history *h, bool complete, char *why, size_t why_size)
{
	uint64_t t = h->synced;
	hist_judge_end(h);
	pass(h, NULL, &t, why, why_size);
	if (complete)
		t = HIST_NEVER;
	h->cut = t;
	return pass(h, &t, NULL, why, why_size);
}

static void tally(const struct history *h, uint64_t synced, struct hist_tally *ret_t)
{
	for (size_t i = 0; i < h->nops; i++) {
		const struct hist_op *op = h->ops[i];
		if (op->dropped || op->ack == HIST_NEVER || op->ack < synced)
			continue;
		if (op->seen || op->ack < h->cut)
			ret_t->kept++;
		else
			ret_t->lost++;
	}
}

static void blk_rebase(struct hist_blk *k)
{
	if (k->found == FOUND_NOT || k->found == FOUND_UNREADABLE)
		return; /* what it holds stays open */
	hist_cell_clear(&k->cell);
	if (k->found == FOUND_ZERO) {
		free(k->base);
		k->base = NULL;
		return;
	}
	uint8_t *old = k->base;
	k->base = k->data;
	k->data = old;
}

void hist_rebase(struct history *h, struct hist_tally *ret_t)
{
	tally(h, h->synced, ret_t);
	for (unsigned s = 0; s < h->nspaces; s++)
		for (uint64_t b = 0; b < h->space[s].blocks; b++)
			blk_rebase(&h->blk[s][b]);
	for (unsigned i = 0; i < h->nkeys; i++) {
		if (!h->item[i].found)
			continue;
		hist_cell_clear(&h->item[i].cell);
		h->item[i].base = h->item[i].seq;
	}
	if (h->size_was_found) {
		hist_cell_clear(&h->size_cell);
		h->size_base = h->size_found;
	}
	/* What is left in cells may have happened, before anything that comes now. */
	uint64_t now = hist_now(h);
	for (size_t i = 0; i < h->nops; i++) {
		h->ops[i]->start = 0;
		h->ops[i]->ack = now;
		h->ops[i]->seen = false;
	}
	h->synced = 0;
}
