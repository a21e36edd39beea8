#include "base/co_impl.h"
#include "base/timerq.h"

/* Make the later root the first child of the earlier one. */
static struct co *meld(struct co *a, struct co *b)
{
	if (!a)
		return b;
	if (!b)
		return a;
	if (b->timer_at_ns < a->timer_at_ns) {
		struct co *t = a;
		a = b;
		b = t;
	}
	b->timer_sibling = a->timer_child;
	a->timer_child = b;
	return a;
}

/* Meld siblings pairwise from the left, then all pairs from the right. */
static struct co *meld_siblings(struct co *first)
{
	struct co *pairs = NULL;
	while (first) {
		struct co *a = first;
		struct co *b = a->timer_sibling;
		first = b ? b->timer_sibling : NULL;
		a->timer_sibling = NULL;
		if (b)
			b->timer_sibling = NULL;
		a = meld(a, b);
		a->timer_sibling = pairs;
		pairs = a;
	}
	struct co *root = NULL;
	while (pairs) {
		struct co *next = pairs->timer_sibling;
		pairs->timer_sibling = NULL;
		root = meld(root, pairs);
		pairs = next;
	}
	return root;
}

void timerq_add(struct timerq *q, struct co *c, uint64_t at_ns)
{
	c->timer_at_ns = at_ns;
	c->timer_child = NULL;
	c->timer_sibling = NULL;
	q->root = meld(q->root, c);
}

uint64_t timerq_next_ns(const struct timerq *q)
{
	return q->root ? q->root->timer_at_ns : UINT64_MAX;
}

struct co *timerq_pop_due(struct timerq *q, uint64_t now_ns)
{
	struct co *c = q->root;
	if (!c || c->timer_at_ns > now_ns)
		return NULL;
	q->root = meld_siblings(c->timer_child);
	c->timer_child = NULL;
	return c;
}
