#include "pool/check_dead.h"

void check_dead_fini(struct check_dead *c)
{
	free(c->spans);
	free(c->lists);
}

/* Room for one more of n: in steps of powers of two. */
static void *grown(void *a, size_t n, size_t size)
{
	return n & (n - 1) ? a : realloc(a, (n ? n * 2 : 1) * size);
}

static uint64_t list_of(const struct check_dead *c, uint64_t volume)
{
	for (size_t i = c->nlists; i-- > 0;)
		if (c->lists[i].volume == volume)
			return c->lists[i].id;
	return 0;
}

/* By list, then by commit: snapshots of a volume have their ids in the order of commits, those of
 * several come mixed. */
static void span_put(struct check_dead *c, struct check_dead_span s)
{
	size_t i = c->nspans++;

	for (; i && (c->spans[i - 1].list > s.list ||
		     (c->spans[i - 1].list == s.list && c->spans[i - 1].txn > s.txn));
	     i--)
		c->spans[i] = c->spans[i - 1];
	c->spans[i] = s;
}

int check_dead_record(struct check_dead *c, const struct vol *v)
{
	if (v->origin) {
		struct check_dead_span *s = grown(c->spans, c->nspans, sizeof *s);

		if (!s)
			return -ENOMEM;
		c->spans = s;
		span_put(c, (struct check_dead_span){list_of(c, v->origin), v->snap_txn});
	} else if (v->dead_id) {
		struct check_dead_list *l = grown(c->lists, c->nlists, sizeof *l);

		if (!l)
			return -ENOMEM;
		c->lists = l;
		c->lists[c->nlists++] = (struct check_dead_list){v->dead_id, v->id};
	}
	return 0;
}

bool check_dead_shown(const struct check_dead *c, uint64_t list, const struct snap_dead *d)
{
	size_t low = 0, high = c->nspans;

	while (low < high) { /* the first of the list that is not before the birth */
		size_t mid = low + (high - low) / 2;
		const struct check_dead_span *s = &c->spans[mid];

		if (s->list < list || (s->list == list && s->txn < d->birth))
			low = mid + 1;
		else
			high = mid;
	}
	return low < c->nspans && c->spans[low].list == list && c->spans[low].txn < d->died;
}
