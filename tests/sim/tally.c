#include "tests/sim/tally.h"
#include <string.h>
#include "pool/chunk.h"
#include "pool/chunk_list.h"
#include "pool/vol_types.h"

struct sums {
	uint64_t count, free_blocks, stuck_blocks;
};

static bool listed_right(const struct pool *p, const struct chunk *c)
{
	uint32_t free_blocks = chunk_free_blocks(p, c);
	return c->list_at ? free_blocks >> (c->list_at - 1) == 1 : !free_blocks;
}

/* A list has as many chunks as belong there, each linked both ways. */
static const char *check_list(const struct pool *p, unsigned kind, unsigned policy,
			      const struct sums *s)
{
	const struct chunk_list *l = &p->lists[kind][policy];
	uint64_t n = 0;
	if (l->count != s->count)
		return "chunks of a list are counted wrong";
	if (l->free_blocks != s->free_blocks || l->stuck_blocks != s->stuck_blocks)
		return "free blocks of a list are counted wrong";
	for (unsigned k = 0; k < CHUNK_FREE_CLASSES; k++)
		for (const struct chunk *c = l->by_free[k], *prev = NULL; c;
		     prev = c, c = c->list_next) {
			if (c->list_prev != prev || c->list_at != k || c->kind != kind ||
			    chunk_policy(c) != policy || !listed_right(p, c) || ++n > s->count)
				return "a chunk is in the wrong list";
		}
	return n == s->count ? NULL : "a chunk is in no list";
}

static const char *check_chunks(const struct pool *p)
{
	static struct sums sums[5][POLICIES];
	uint64_t raw = 0;
	memset(sums, 0, sizeof(sums));
	for (size_t h = 0; h < p->chunk_hash_size; h++)
		for (const struct chunk *c = p->chunk_hash[h]; c; c = c->hash_next) {
			struct sums *s = &sums[c->kind][chunk_policy(c)];
			s->count++;
			*(c->usable ? &s->free_blocks : &s->stuck_blocks) +=
				chunk_free_blocks(p, c);
			raw += (uint64_t)(c->used + c->busy_count) * c->nmembers;
		}
	if (raw != p->raw_used_blocks)
		return "blocks in use on devices are counted wrong";
	for (unsigned kind = 0; kind < 5; kind++)
		for (unsigned k = 0; k < POLICIES; k++) {
			const char *bad = check_list(p, kind, k, &sums[kind][k]);
			if (bad)
				return bad;
		}
	return NULL;
}

static const char *check_volumes(const struct pool *p)
{
	const struct vol *last = NULL;
	for (const struct vol *v = p->vols; v; last = v, v = v->next)
		if (last && last->id >= v->id)
			return "volumes are out of order";
	return last == p->vols_last ? NULL : "the last volume is another one";
}

const char *tally_check(const struct pool *p)
{
	const char *bad = check_chunks(p);
	return bad ? bad : check_volumes(p);
}
