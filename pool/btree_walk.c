/* btree_walk: visiting all nodes, restartable and prunable by birth; checking invariants.
 *
 * A walk stops at terminals: leaves, and interior nodes all of whose children are pruned (something
 * was removed there). Between two calls it keeps only a key, the upper bound of the terminal
 * reported last, and that terminal's path, so the tree may change meanwhile: what a change copied
 * has a new pointer and is reported again.
 */
#include "pool/btree_impl.h"

struct walk {
	struct btree *bt;
	const struct btree_cursor *c;
	uint64_t birth_min;
	struct btree_path *path;
	struct node *node[NODE_LEVEL_MAX + 1]; /* by depth, 0 is the root */
	unsigned slot[NODE_LEVEL_MAX + 1];
};

static bool ptr_same(const struct node_ptr *a, const struct node_ptr *b)
{
	return addr_eq(a->addr, b->addr) && a->birth == b->birth;
}

/* Append p to the path. */
static int push(struct walk *w, const struct node_ptr *p, uint8_t level)
{
	struct btree_path *path = w->path;
	const struct btree_cursor *c = w->c;
	unsigned depth = path->count;
	int rc = btree_load(w->bt, p, level, &w->node[depth]);

	if (rc < 0) {
		w->bt->need = *p;
		w->bt->need_level = level;
		return rc;
	}
	path->ptr[depth] = *p;
	path->level[depth] = level;
	path->is_new[depth] = (depth > 0 && path->is_new[depth - 1]) || depth >= c->last_count ||
			      !ptr_same(&c->last[depth], p);
	path->count++;
	return 0;
}

/* The first child of the deepest node, from slot `from` on, that is not pruned; or count. */
static unsigned next_child(const struct walk *w, unsigned from)
{
	const uint8_t *buf = w->node[w->path->count - 1]->buf;

	while (from < page_count(buf) && page_child(buf, from).birth < w->birth_min)
		from++;
	return from;
}

/* Find the next terminal at or after the key, from the root. */
static int find_terminal(struct walk *w)
{
	struct btree_path *path = w->path;
	bool edge = true; /* everything so far is on the descent for the key itself */
	int rc = push(w, &w->bt->root, w->bt->level);

	while (rc == 0) {
		unsigned depth = path->count - 1, from = 0;
		const uint8_t *buf = w->node[depth]->buf;

		if (path->level[depth] == 0)
			return 0;
		if (edge)
			from = page_search_child(buf, w->c->key);
		w->slot[depth] = next_child(w, from);
		edge = edge && w->slot[depth] == from;
		if (w->slot[depth] == page_count(buf)) {
			if (path->is_new[depth])
				return 0;
			edge = false;
		}
		/* Back up from nodes reported before that have nothing left. */
		while (w->slot[depth] == page_count(w->node[depth]->buf)) {
			if (depth == 0)
				return -ENOENT;
			path->count = depth--;
			w->slot[depth] = next_child(w, w->slot[depth] + 1);
		}
		struct node_ptr p = page_child(w->node[depth]->buf, w->slot[depth]);

		rc = push(w, &p, path->level[depth] - 1);
	}
	return rc;
}

/* The nearest separator on the right of what the first `depth` nodes of the path lead to. False:
 * there is none. It always lies ahead; a crafted tree must not lead a walk in circles. */
static bool separator(const struct btree_cursor *c, const struct walk *w, unsigned depth,
		      struct key *ret_key)
{
	while (depth-- > 0) {
		const uint8_t *buf = w->node[depth]->buf;
		struct key k;

		if (w->slot[depth] + 1 == page_count(buf))
			continue;
		k = page_key(buf, w->slot[depth] + 1);
		if (key_cmp(k, c->key) <= 0)
			return false;
		*ret_key = k;
		return true;
	}
	return false;
}

static void remember(struct btree_cursor *c, const struct btree_path *path)
{
	memcpy(c->last, path->ptr, path->count * sizeof(path->ptr[0]));
	c->last_count = path->count;
}

int btree_walk(struct btree *bt, struct btree_cursor *c, uint64_t birth_min,
	       struct btree_path *ret_path)
{
	struct walk w = {.bt = bt, .c = c, .birth_min = birth_min, .path = ret_path};
	int rc;

	if (c->done || btree_is_empty(bt) || bt->root.birth < birth_min)
		return -ENOENT;
	ret_path->count = 0;
	rc = find_terminal(&w);
	if (rc == 0) { /* to behind the terminal */
		c->done = !separator(c, &w, ret_path->count - 1, &c->key);
		remember(c, ret_path);
	} else if (rc != -ENOENT) {
		c->behind_done = !separator(c, &w, ret_path->count, &c->behind);
	}
	return rc;
}

void btree_walk_skip(struct btree_cursor *c, const struct btree_path *path)
{
	c->done = c->behind_done;
	c->key = c->behind;
	remember(c, path);
}

/* low <= keys; keys < high unless high is NULL. */
static void check_node(struct btree *bt, struct node_ptr p, uint8_t level, struct key low,
		       const struct key *high)
{
	struct node *n = node_cache_find(bt->cache, p.addr);
	unsigned first = level > 0 ? 1 : 0; /* an interior slot 0 counts as minus infinity */

	if (!n)
		return;
	assert(n->birth == p.birth && page_level(n->buf) == level);
	assert(n->sealed == (n->birth != bt->ops->txn(bt->ctx)) || !bt->dirty);
	assert(level == 0 || page_count(n->buf) > 0);
	assert(page_used(n->buf) <= PAGE_SPACE);
	for (unsigned i = 0; i < page_count(n->buf); i++) {
		struct key k = page_key(n->buf, i), next;
		bool last = i + 1 == page_count(n->buf);

		assert(i < first || key_cmp(k, low) >= 0);
		assert(!high || key_cmp(k, *high) < 0);
		assert(i == 0 || key_cmp(page_key(n->buf, i - 1), k) < 0);
		if (level == 0)
			continue;
		assert(page_child(n->buf, i).birth <= n->birth);
		if (!last)
			next = page_key(n->buf, i + 1);
		check_node(bt, page_child(n->buf, i), level - 1, i ? k : low, last ? high : &next);
	}
}

void btree_check(struct btree *bt)
{
	if (!btree_is_empty(bt))
		check_node(bt, bt->root, bt->level, KEY_MIN, NULL);
}
