#include "pool/refs.h"
#include <string.h>
#include "pool/chunk.h"
#include "pool/space.h"

_Static_assert(sizeof(struct refs_run_disk) == 8, "run of references");
_Static_assert(REFS_GROUP * sizeof(struct refs_run_disk) <= NODE_VALUE_MAX, "one item a group");

/* ---- the item of a group ---- */

int refs_decode(const struct btree_item *it, uint32_t *count)
{
	const struct refs_run_disk *r = it->value;
	unsigned n = it->len / sizeof *r, at = 0;

	if (it->len % sizeof *r)
		return ERR_FORMAT;
	for (unsigned i = 0; i < n; i++) {
		unsigned blocks = le16_get(r[i].blocks);

		if (!blocks || blocks > REFS_GROUP - at || !le32_get(r[i].count))
			return ERR_FORMAT;
		for (unsigned k = 0; k < blocks; k++)
			count[at++] = le32_get(r[i].count);
	}
	return at == REFS_GROUP ? 0 : ERR_FORMAT;
}

void refs_to_text(FILE *f, const struct btree_item *it)
{
	uint32_t count[REFS_GROUP];
	unsigned at = 0;

	fprintf(f, "references of chunk %llx:", (unsigned long long)it->key.object);
	if (refs_decode(it, count)) {
		fprintf(f, " invalid (%u bytes)", it->len);
		return;
	}
	for (unsigned i = 1; i <= REFS_GROUP; i++) {
		if (i < REFS_GROUP && count[i] == count[at])
			continue;
		if (count[at] > 1)
			fprintf(f, " %llu+%u x%u",
				(unsigned long long)it->key.offset * REFS_GROUP + at, i - at,
				count[at]);
		at = i;
	}
}

/* Bytes; 0: no block has more than one reference. */
static uint16_t encode(const uint32_t *count, struct refs_run_disk *r)
{
	unsigned n = 0, at = 0;
	bool any = false;

	memset(r, 0, REFS_GROUP * sizeof *r);
	for (unsigned i = 1; i <= REFS_GROUP; i++) {
		if (i < REFS_GROUP && count[i] == count[at])
			continue;
		r[n].blocks = le16_of((uint16_t)(i - at));
		r[n].count = le32_of(count[at]);
		any |= count[at] > 1;
		n++;
		at = i;
	}
	return any ? (uint16_t)(n * sizeof *r) : 0;
}

/* ---- applying ---- */

struct group {
	struct pool *p;
	struct chunk *c;
	struct key key;
	uint32_t first, n; /* blocks of the chunk that this step changes */
	bool there, changed;
	uint32_t count[REFS_GROUP];
	bool freed[REFS_GROUP];
};

static int damaged(struct pool *p, const char *what)
{
	pool_fault_locked(p, ERR_FORMAT, what);
	return ERR_FAULTED;
}

static int group_load(struct group *g)
{
	struct btree_item it;
	int rc = btree_prepare(&g->p->space, g->key);

	if (!rc)
		rc = btree_get(&g->p->space, g->key, &it);
	g->there = !rc;
	if (!rc)
		return refs_decode(&it, g->count)
			       ? damaged(g->p, "counts of references: the pool "
					       "is damaged, run `tarn pool check`")
			       : 0;
	for (unsigned i = 0; i < REFS_GROUP; i++)
		g->count[i] = 1;
	return rc == -ENOENT ? 0 : rc;
}

static int group_change(struct group *g, bool ref)
{
	for (uint32_t i = g->first; i < g->first + g->n; i++) {
		uint32_t *count = &g->count[i % REFS_GROUP];

		if (!bit_get(g->c->bits, i) || bit_get(g->c->busy, i) ||
		    (ref && *count == UINT32_MAX))
			return damaged(g->p, "refer to or free a free block: the pool is damaged, "
					     "run `tarn pool check`");
		g->freed[i % REFS_GROUP] = !ref && *count == 1;
		g->changed |= ref || *count > 1;
		if (ref)
			++*count;
		else if (*count > 1)
			--*count;
	}
	return 0;
}

/* Has the chunk no item any more? What is not in memory may be one. */
static void chunk_unshare(struct group *g)
{
	struct btree_item it;
	int rc = btree_seek_ge(&g->p->space, (struct key){g->c->id, SPACE_KEY_REFS, 0}, &it);

	if (rc == -ENOENT ||
	    (!rc && (it.key.object != g->c->id || it.key.type != SPACE_KEY_REFS))) {
		g->c->shared = false;
		chunk_mark_dirty(g->p, g->c);
	}
}

/* One change of the tree, so that it happens or does not. */
static int group_store(struct group *g)
{
	struct refs_run_disk r[REFS_GROUP];
	uint16_t len;
	int rc;

	if (!g->changed)
		return 0;
	len = encode(g->count, r);
	if (!len && !g->there)
		return 0;
	rc = len ? btree_put(&g->p->space, g->key, r, len) : btree_del(&g->p->space, g->key);
	if (rc)
		return rc;
	if (!len) {
		chunk_unshare(g);
	} else if (!g->c->shared) {
		g->c->shared = true;
		chunk_mark_dirty(g->p, g->c);
	}
	return 0;
}

/* Free what has no reference left, in runs. */
static void group_free(struct group *g)
{
	uint32_t end = g->first + g->n, i = g->first;

	while (i < end) {
		uint32_t n = 0;

		while (i + n < end && g->freed[(i + n) % REFS_GROUP])
			n++;
		if (n)
			space_freed(g->p, g->c, i, n);
		i += n ? n : 1;
	}
}

static int group_step(struct pool *p, struct chunk *c, size_t at)
{
	struct free_ext f = p->open->frees[at];
	uint32_t first = addr_block(f.addr), room = REFS_GROUP - first % REFS_GROUP;
	struct group g = {.p = p,
			  .c = c,
			  .key = {c->id, SPACE_KEY_REFS, first / REFS_GROUP},
			  .first = first,
			  .n = f.blocks < room ? f.blocks : room};
	int rc = space_free_reserve(p, REFS_GROUP);

	if (!rc)
		rc = group_load(&g);
	if (!rc)
		rc = group_change(&g, f.kind == FREE_REF);
	if (!rc)
		rc = group_store(&g);
	if (rc)
		return rc;
	group_free(&g);
	p->open->frees[at].addr = addr_add(f.addr, g.n);
	p->open->frees[at].blocks -= g.n;
	return 0;
}

int refs_apply(struct pool *p, struct chunk *c, size_t at)
{
	int rc = 0;

	while (!rc && p->open->frees[at].blocks)
		rc = group_step(p, c, at);
	return rc;
}
