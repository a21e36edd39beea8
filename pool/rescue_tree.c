/* rescue_tree: which roots are whole, views of trees, cursors over their items. */
#include <string.h>
#include "pool/rescue_impl.h"

enum { WHOLE_YES = 1, WHOLE_NO = 2 };

/* Nodes are immutable, so what was found out about one holds. Levels fall, so this ends. */
bool rescue_whole(struct rescue *r, uint32_t i)
{
	uint64_t tree = r->nodes[i].tree;
	uint8_t level = r->nodes[i].level;
	unsigned count = r->nodes[i].count;
	bool whole = true;

	if (!level)
		return true;
	if (r->nodes[i].whole)
		return r->nodes[i].whole == WHOLE_YES;
	for (unsigned s = 0; s < count && whole; s++) {
		const uint8_t *buf = rescue_node_get(r, i);
		struct node_ptr p;
		uint32_t kid;

		if (!buf) {
			whole = false;
			break;
		}
		p = page_child(buf, s);
		kid = rescue_find(r, &p, tree, (uint8_t)(level - 1));
		whole = kid != RESCUE_NONE && rescue_whole(r, kid);
	}
	r->nodes[i].whole = whole ? WHOLE_YES : WHOLE_NO;
	return whole;
}

static bool overlap(const struct rescue_node *a, const struct rescue_node *b)
{
	return !a->count || !b->count ||
	       (key_cmp(a->first, b->last) <= 0 && key_cmp(b->first, a->last) <= 0);
}

/* Every commit that changes a tree writes its root anew. So among the nodes of the newest birth the
 * highest is the root, unless just the root was lost: then it is lower than the tree is, or has
 * siblings, which hold other keys. */
uint32_t rescue_top(struct rescue *r, uint64_t tree)
{
	uint64_t newest = 0;
	uint8_t highest = 0;
	uint32_t top = RESCUE_NONE;
	size_t n;
	const uint32_t *all = rescue_tree_nodes(r, tree, &n);

	for (size_t i = 0; i < n; i++) {
		const struct rescue_node *x = &r->nodes[all[i]];

		newest = x->birth > newest ? x->birth : newest;
		highest = x->level > highest ? x->level : highest;
	}
	for (size_t i = 0; i < n && top == RESCUE_NONE; i++)
		if (r->nodes[all[i]].birth == newest && r->nodes[all[i]].level == highest)
			top = all[i];
	for (size_t i = 0; i < n && top != RESCUE_NONE; i++) {
		const struct rescue_node *x = &r->nodes[all[i]];

		if (all[i] != top && x->level == highest &&
		    (x->birth == newest || !overlap(x, &r->nodes[top])))
			return RESCUE_NONE;
	}
	return top;
}

/* ---- views ---- */

int rescue_piece_add(struct rescue_view *v, struct key from, struct key to, uint32_t node)
{
	int rc;

	if (key_cmp(from, to) >= 0)
		return 0;
	rc = rescue_grow(&v->pieces, v->npieces, &v->cap_pieces, sizeof *v->pieces);
	if (!rc)
		v->pieces[v->npieces++] = (struct rescue_piece){from, to, node};
	return rc;
}

static int gap_add(struct rescue_view *v, struct key from, struct key to)
{
	struct rescue_gap *last = v->ngaps ? &v->gaps[v->ngaps - 1] : NULL;
	int rc;

	if (last && !key_cmp(last->to, from)) {
		last->to = to;
		return 0;
	}
	rc = rescue_grow(&v->gaps, v->ngaps, &v->cap_gaps, sizeof *v->gaps);
	if (!rc)
		v->gaps[v->ngaps++] = (struct rescue_gap){from, to};
	return rc;
}

/* Enter what lies below node i within [from, to). Only ranges that are not empty are followed and
 * they are disjoint: pieces stay in proportion to the slots of the nodes found, however often a
 * crafted parent names a child. */
static int descend(struct rescue_view *v, uint32_t i, struct key from, struct key to)
{
	struct rescue *r = v->r;
	uint8_t level = r->nodes[i].level;
	unsigned count = r->nodes[i].count;
	int rc = 0;

	if (!level)
		return rescue_piece_add(v, from, to, i);
	for (unsigned s = 0; s < count && !rc; s++) {
		const uint8_t *buf = rescue_node_get(r, i);
		struct key lo = from, hi = to;
		struct node_ptr p;
		uint32_t kid;

		if (!buf)
			return gap_add(v, from, to);
		if (s && key_cmp(page_key(buf, s), lo) > 0)
			lo = page_key(buf, s);
		if (s + 1 < count && key_cmp(page_key(buf, s + 1), hi) < 0)
			hi = page_key(buf, s + 1);
		if (key_cmp(lo, hi) >= 0)
			continue;
		p = page_child(buf, s);
		kid = rescue_find(r, &p, v->tree, (uint8_t)(level - 1));
		rc = kid == RESCUE_NONE ? gap_add(v, lo, hi) : descend(v, kid, lo, hi);
	}
	return rc;
}

static struct rescue_view *view_new(struct rescue *r, uint64_t tree)
{
	struct rescue_view *v = calloc(1, sizeof *v);

	if (v) {
		v->r = r;
		v->tree = tree;
	}
	return v;
}

int rescue_view_node(struct rescue *r, uint64_t tree, uint32_t root, struct rescue_view **ret_v)
{
	struct rescue_view *v = view_new(r, tree);
	int rc = 0;

	if (!v)
		return -ENOMEM;
	if (root != RESCUE_NONE) { /* else: an empty tree */
		v->txn = r->nodes[root].birth;
		rc = descend(v, root, KEY_MIN, KEY_MAX);
	}
	if (!rc && v->ngaps) {
		v->state = RESCUE_PATCHED;
		rc = rescue_merge(v, v->txn);
	}
	if (rc)
		rescue_view_close(v);
	else
		*ret_v = v;
	return rc;
}

int rescue_view_leaves(struct rescue *r, uint64_t tree, struct rescue_view **ret_v)
{
	struct rescue_view *v = view_new(r, tree);
	int rc;

	if (!v)
		return -ENOMEM;
	v->state = RESCUE_MERGED;
	rc = gap_add(v, KEY_MIN, KEY_MAX);
	if (!rc)
		rc = rescue_merge(v, UINT64_MAX);
	for (size_t i = 0; i < v->npieces; i++)
		if (r->nodes[v->pieces[i].node].birth > v->txn)
			v->txn = r->nodes[v->pieces[i].node].birth;
	if (rc)
		rescue_view_close(v);
	else
		*ret_v = v;
	return rc;
}

void rescue_view_close(struct rescue_view *v)
{
	if (!v)
		return;
	rescue_log_free(v);
	free(v->pieces);
	free(v->gaps);
	free(v);
}

const struct rescue_gap *rescue_gaps(const struct rescue_view *v, size_t *ret_n)
{
	*ret_n = v->ngaps;
	return v->gaps;
}

bool rescue_gap_between(const struct rescue_view *v, struct key from, struct key to)
{
	size_t lo = 0, hi = v->ngaps;

	while (lo < hi) { /* the first gap that ends behind from */
		size_t mid = (lo + hi) / 2;

		if (key_cmp(v->gaps[mid].to, from) <= 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < v->ngaps && key_cmp(v->gaps[lo].from, to) <= 0;
}

/* ---- cursors ---- */

int rescue_cursor_init(struct rescue_cursor *c, struct rescue_view *v)
{
	*c = (struct rescue_cursor){.v = v, .loaded = SIZE_MAX, .buf = node_buf_alloc()};
	return c->buf ? 0 : -ENOMEM;
}

void rescue_cursor_fini(struct rescue_cursor *c)
{
	node_buf_free(c->buf);
	c->buf = NULL;
}

void rescue_seek(struct rescue_cursor *c, struct key k)
{
	size_t lo = 0, hi = c->v->npieces;

	while (lo < hi) { /* the first piece that ends behind k */
		size_t mid = (lo + hi) / 2;

		if (key_cmp(c->v->pieces[mid].to, k) <= 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	c->piece = lo;
	c->from = k;
	c->slot = UINT32_MAX; /* find it */
	c->has_held = false;
	lo = 0;
	hi = c->v->nitems;
	while (lo < hi) { /* the first change of the log at or after k */
		size_t mid = (lo + hi) / 2;

		if (key_cmp(c->v->items[mid].key, k) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	c->change = lo;
}

/* The leaf of the cursor's piece into its buffer, at the first item wanted. False: unreadable. */
static bool cursor_load(struct rescue_cursor *c)
{
	const struct rescue_piece *p = &c->v->pieces[c->piece];
	struct key from = key_cmp(p->from, c->from) > 0 ? p->from : c->from;
	bool exact;

	if (c->loaded != c->piece) {
		const uint8_t *buf = rescue_node_get(c->v->r, p->node);

		if (!buf)
			return false;
		memcpy(c->buf, buf, NODE_SIZE);
		c->loaded = c->piece;
	}
	if (c->slot == UINT32_MAX)
		c->slot = page_search(c->buf, from, &exact);
	return true;
}

static int next_of_commit(struct rescue_cursor *c, struct btree_item *ret_item)
{
	while (c->piece < c->v->npieces) {
		if (cursor_load(c) && c->slot < page_count(c->buf) &&
		    key_cmp(page_key(c->buf, c->slot), c->v->pieces[c->piece].to) < 0) {
			page_item(c->buf, c->slot++, ret_item);
			return 0;
		}
		c->piece++;
		c->slot = UINT32_MAX;
	}
	return -ENOENT;
}

/* Items of the commit and changes of the log, merged. */
int rescue_next(struct rescue_cursor *c, struct btree_item *ret_item)
{
	for (;;) {
		const struct rescue_item *i = NULL;
		int d = 1;

		if (!c->has_held)
			c->has_held = !next_of_commit(c, &c->held);
		if (c->change < c->v->nitems) {
			i = &c->v->items[c->change];
			d = c->has_held ? key_cmp(i->key, c->held.key) : -1;
		}
		if (d > 0) {
			*ret_item = c->held;
			d = c->has_held ? 0 : -ENOENT;
			c->has_held = false;
			return d;
		}
		c->change++;
		if (!d)
			c->has_held = false;
		if (i->gone)
			continue;
		*ret_item = (struct btree_item){.key = i->key, .value = i->value, .len = i->len};
		return 0;
	}
}

int rescue_get(struct rescue_cursor *c, struct key k, struct btree_item *ret_item)
{
	int rc;

	rescue_seek(c, k);
	rc = rescue_next(c, ret_item);
	return rc ? rc : key_cmp(ret_item->key, k) ? -ENOENT : 0;
}
