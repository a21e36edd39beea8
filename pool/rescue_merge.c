/* rescue_merge: fill what a view lacks from leaves, the newest first.
 *
 *      keys    1   2   3   4   5   6   7   8   9
 *      old     |-------------|   |-----------|
 *      new             |-------------|
 *      result  |-- o --|----- new ---|-- o --|
 *
 * A leaf speaks for the keys from its first to its last: what it does not list there was deleted.
 * Beyond them its parent would tell; an older leaf is believed there, so what was deleted at the
 * edge of a leaf may come back.
 */
#include <string.h>
#include "pool/rescue_impl.h"

struct sweep {
	const struct rescue *r;
	uint32_t *leaf; /* by first key */
	size_t n;
	uint32_t *heap; /* leaves at the current key, the newest on top */
	size_t nheap;
	struct rescue_piece *out;
	size_t nout, cap_out;
};

static struct key key_next(struct key k)
{
	if (++k.offset)
		return k;
	if (!++k.type && !++k.object)
		return KEY_MAX;
	return k;
}

static struct key key_least(struct key a, struct key b)
{
	return key_cmp(a, b) < 0 ? a : b;
}

static struct key key_most(struct key a, struct key b)
{
	return key_cmp(a, b) > 0 ? a : b;
}

static bool newer(const struct sweep *s, uint32_t a, uint32_t b)
{
	return s->r->nodes[a].birth > s->r->nodes[b].birth;
}

static void heap_push(struct sweep *s, uint32_t leaf)
{
	size_t i = s->nheap++;

	while (i && newer(s, leaf, s->heap[(i - 1) / 2])) {
		s->heap[i] = s->heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	s->heap[i] = leaf;
}

static void heap_pop(struct sweep *s)
{
	uint32_t leaf = s->heap[--s->nheap];
	size_t i = 0, kid;

	while ((kid = 2 * i + 1) < s->nheap) {
		if (kid + 1 < s->nheap && newer(s, s->heap[kid + 1], s->heap[kid]))
			kid++;
		if (!newer(s, s->heap[kid], leaf))
			break;
		s->heap[i] = s->heap[kid];
		i = kid;
	}
	s->heap[i] = leaf;
}

static int by_first(const void *x, const void *y, void *arg)
{
	const struct rescue_node *n = arg;

	return key_cmp(n[*(const uint32_t *)x].first, n[*(const uint32_t *)y].first);
}

static int sweep_init(struct sweep *s, struct rescue *r, uint64_t tree, uint64_t txn)
{
	size_t count;
	const uint32_t *all = rescue_tree_nodes(r, tree, &count);

	*s = (struct sweep){.r = r};
	s->leaf = malloc((count + 1) * sizeof *s->leaf);
	s->heap = malloc((count + 1) * sizeof *s->heap);
	if (!s->leaf || !s->heap)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		const struct rescue_node *n = &r->nodes[all[i]];

		if (!n->level && n->count && n->birth <= txn)
			s->leaf[s->n++] = all[i];
	}
	qsort_r(s->leaf, s->n, sizeof *s->leaf, by_first, r->nodes);
	return 0;
}

static int emit(struct sweep *s, struct key from, struct key to, uint32_t leaf)
{
	struct rescue_piece *last = s->nout ? &s->out[s->nout - 1] : NULL;
	int rc;

	if (last && last->node == leaf && !key_cmp(last->to, from)) {
		last->to = to;
		return 0;
	}
	rc = rescue_grow(&s->out, s->nout, &s->cap_out, sizeof *s->out);
	if (!rc)
		s->out[s->nout++] = (struct rescue_piece){from, to, leaf};
	return rc;
}

/* Each step takes in a leaf or drops one. */
static int sweep_run(struct sweep *s)
{
	const struct rescue_node *n = s->r->nodes;
	struct key at = KEY_MIN;
	size_t i = 0;
	int rc = 0;

	while (!rc && (i < s->n || s->nheap)) {
		struct key stop;

		if (!s->nheap)
			at = key_most(at, n[s->leaf[i]].first);
		while (i < s->n && key_cmp(n[s->leaf[i]].first, at) <= 0)
			heap_push(s, s->leaf[i++]);
		while (s->nheap && key_cmp(n[s->heap[0]].last, at) < 0)
			heap_pop(s);
		if (!s->nheap)
			continue;
		stop = key_next(n[s->heap[0]].last);
		if (i < s->n)
			stop = key_least(stop, n[s->leaf[i]].first);
		if (key_cmp(stop, at) <= 0) /* the very last key */
			break;
		rc = emit(s, at, stop, s->heap[0]);
		at = stop;
	}
	return rc;
}

static int gaps_fill(struct rescue_view *v, const struct sweep *s)
{
	size_t k = 0;
	int rc = 0;

	for (size_t g = 0; g < v->ngaps && !rc; g++) {
		const struct rescue_gap *gap = &v->gaps[g];

		while (k < s->nout && key_cmp(s->out[k].to, gap->from) <= 0)
			k++;
		for (size_t j = k; j < s->nout && key_cmp(s->out[j].from, gap->to) < 0 && !rc; j++)
			rc = rescue_piece_add(v, key_most(s->out[j].from, gap->from),
					      key_least(s->out[j].to, gap->to), s->out[j].node);
	}
	return rc;
}

static int by_from(const void *x, const void *y)
{
	return key_cmp(((const struct rescue_piece *)x)->from,
		       ((const struct rescue_piece *)y)->from);
}

int rescue_merge(struct rescue_view *v, uint64_t txn)
{
	struct sweep s;
	int rc = sweep_init(&s, v->r, v->tree, txn);

	if (!rc)
		rc = sweep_run(&s);
	if (!rc)
		rc = gaps_fill(v, &s);
	if (!rc && v->npieces)
		qsort(v->pieces, v->npieces, sizeof *v->pieces, by_from);
	free(s.leaf);
	free(s.heap);
	free(s.out);
	return rc;
}
