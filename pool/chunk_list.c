#include "pool/chunk_list.h"
#include "pool/chunk.h"

_Static_assert(SB_CHUNK_BLOCKS_MAX < 1u << (CHUNK_FREE_CLASSES - 1), "a class for every chunk");

/* by_free[] for so many free blocks. */
static unsigned free_class(uint32_t blocks)
{
	return blocks ? 32u - (unsigned)__builtin_clz(blocks) : 0;
}

static struct chunk_list *list_of(struct pool *p, const struct chunk *c)
{
	return &p->lists[c->kind][chunk_policy(c)];
}

static void list_link(struct pool *p, struct chunk *c)
{
	struct chunk **head;

	c->list_at = (uint8_t)free_class(chunk_free_blocks(p, c));
	head = &list_of(p, c)->by_free[c->list_at];
	c->list_prev = NULL;
	c->list_next = *head;
	if (*head)
		(*head)->list_prev = c;
	*head = c;
}

static void list_unlink(struct pool *p, struct chunk *c)
{
	if (c->list_prev)
		c->list_prev->list_next = c->list_next;
	else
		list_of(p, c)->by_free[c->list_at] = c->list_next;
	if (c->list_next)
		c->list_next->list_prev = c->list_prev;
}

void chunk_list_add(struct pool *p, struct chunk *c)
{
	list_link(p, c);
	list_of(p, c)->count++;
}

void chunk_list_remove(struct pool *p, struct chunk *c)
{
	list_unlink(p, c);
	list_of(p, c)->count--;
}

void chunk_count_raw(struct pool *p, struct chunk *c)
{
	uint32_t now = (c->used + c->busy_count) * c->nmembers;

	p->raw_used_blocks += now;
	p->raw_used_blocks -= c->raw_blocks;
	c->raw_blocks = now;
}

uint64_t chunk_list_used(const struct pool *p, uint8_t kind)
{
	uint64_t n = 0;

	for (unsigned k = 0; k < POLICIES; k++) {
		const struct chunk_list *l = &p->lists[kind][k];

		n += l->count * p->chunk_blocks - l->free_blocks - l->stuck_blocks;
	}
	return n;
}

void chunk_count_free(struct pool *p, struct chunk *c, int64_t blocks)
{
	struct chunk_list *l = list_of(p, c);

	if (c->list_at != free_class(chunk_free_blocks(p, c))) {
		list_unlink(p, c);
		list_link(p, c);
	}
	chunk_count_raw(p, c);
	if (c->usable)
		l->free_blocks += (uint64_t)blocks;
	else
		l->stuck_blocks += (uint64_t)blocks;
}

/* The best of so many is good enough where all have about as much free. */
#define EMPTIEST_OF 64u

struct emptiest {
	struct chunk *best[2]; /* [1]: its devices are all in service */
	uint32_t free[2];
	unsigned seen; /* that would do */
};

static void emptiest_look(struct pool *p, struct chunk *c, struct emptiest *em)
{
	for (; c && em->seen < EMPTIEST_OF; c = c->list_next) {
		uint32_t f = chunk_free_blocks(p, c);
		bool complete;

		if (!c->usable || c->condemned)
			continue;
		complete = chunk_complete(p, c);
		if (f > em->free[complete]) {
			em->best[complete] = c;
			em->free[complete] = f;
		}
		em->seen += em->best[1] != NULL;
	}
}

struct chunk *chunk_list_emptiest(struct pool *p, uint8_t kind, unsigned policy, uint32_t min_free)
{
	struct emptiest em = {.free = {min_free - 1, min_free - 1}};
	struct chunk_list *l = &p->lists[kind][policy];

	for (unsigned k = CHUNK_FREE_CLASSES; !em.best[1] && k-- > free_class(min_free);)
		emptiest_look(p, l->by_free[k], &em);
	return em.best[1] ? em.best[1] : em.best[0];
}

struct chunk *chunk_list_empty(struct pool *p)
{
	unsigned empty = free_class(p->chunk_blocks);

	for (unsigned k = 0; k < POLICIES; k++)
		for (unsigned kind = CHUNK_META; kind <= CHUNK_DATA;
		     kind += CHUNK_DATA - CHUNK_META)
			for (struct chunk *c = p->lists[kind][k].by_free[empty]; c;
			     c = c->list_next)
				if (!c->used && !c->busy_count && !c->is_write_point && !c->moving)
					return c;
	return NULL;
}
