#include "pool/data_cache.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "base/lock.h"

#define WAYS   8u
#define SHARDS 64u /* locks; a set belongs to one */

struct data_key {
	uint64_t addr, birth;
	uint32_t index; /* in a compressed extent, + 1; 0: addr is the block itself */
};
struct way {
	struct data_key key; /* birth 0: free */
	bool referenced;
};
struct set {
	struct way way[WAYS];
	uint32_t hand;
};
struct shard {
	struct lock lock;
	uint64_t used, hits, misses;
};
struct data_cache {
	uint64_t sets;
	struct set *set;
	uint8_t *pages;
	struct shard shard[SHARDS];
};

int data_cache_create(uint64_t budget_bytes, struct data_cache **ret_c)
{
	uint64_t sets = budget_bytes / (WAYS * BLOCK_SIZE);
	struct data_cache *c;

	*ret_c = NULL;
	if (!sets)
		return 0;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->sets = sets;
	c->set = calloc(sets, sizeof(*c->set));
	c->pages = mmap(NULL, sets * WAYS * BLOCK_SIZE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (!c->set || c->pages == MAP_FAILED) {
		if (c->pages != MAP_FAILED)
			munmap(c->pages, sets * WAYS * BLOCK_SIZE);
		free(c->set);
		free(c);
		return -ENOMEM;
	}
	for (unsigned i = 0; i < SHARDS; i++)
		lock_init(&c->shard[i].lock);
	*ret_c = c;
	return 0;
}

void data_cache_destroy(struct data_cache *c)
{
	if (!c)
		return;
	for (unsigned i = 0; i < SHARDS; i++)
		lock_fini(&c->shard[i].lock);
	munmap(c->pages, c->sets * WAYS * BLOCK_SIZE);
	free(c->set);
	free(c);
}

static struct data_key key_of(const struct extent *x, unsigned block)
{
	if (x->codec == EXTENT_RAW)
		return (struct data_key){addr_add(x->addr, block).v, x->birth, 0};
	return (struct data_key){x->addr.v, x->birth, x->skip + block + 1};
}

/* splitmix64's finaliser (Steele, Lea, Flood 2014): every bit of the key counts. */
static uint64_t key_hash(const struct data_key *k)
{
	uint64_t h = k->addr + k->index * 0x9e3779b97f4a7c15ull;

	h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9ull;
	h = (h ^ h >> 27) * 0x94d049bb133111ebull;
	return h ^ h >> 31;
}

static uint8_t *page_of(struct data_cache *c, uint64_t set, unsigned way)
{
	return c->pages + (set * WAYS + way) * BLOCK_SIZE;
}

static int way_find(const struct set *s, const struct data_key *k)
{
	for (unsigned i = 0; i < WAYS; i++) {
		const struct data_key *w = &s->way[i].key;

		if (w->addr == k->addr && w->birth == k->birth && w->index == k->index)
			return (int)i;
	}
	return -1;
}

/* A free way, or the first that was not used since the hand came by. */
static unsigned way_take(struct set *s)
{
	for (;;) {
		unsigned i = s->hand++ % WAYS;

		if (!s->way[i].key.birth || !s->way[i].referenced)
			return i;
		s->way[i].referenced = false;
	}
}

bool data_cache_get(struct data_cache *c, const struct extent *x, unsigned block, void *dst)
{
	struct data_key k = key_of(x, block);
	struct shard *sh;
	uint64_t set;
	int i;

	if (!c)
		return false;
	set = key_hash(&k) % c->sets;
	sh = &c->shard[set % SHARDS];
	lock_take(&sh->lock);
	i = way_find(&c->set[set], &k);
	if (i >= 0) {
		memcpy(dst, page_of(c, set, (unsigned)i), BLOCK_SIZE);
		c->set[set].way[i].referenced = true;
		sh->hits++;
	} else {
		sh->misses++;
	}
	lock_drop(&sh->lock);
	return i >= 0;
}

void data_cache_put(struct data_cache *c, const struct extent *x, unsigned block, const void *src)
{
	struct data_key k = key_of(x, block);
	struct shard *sh;
	uint64_t set;

	if (!c)
		return;
	set = key_hash(&k) % c->sets;
	sh = &c->shard[set % SHARDS];
	lock_take(&sh->lock);
	if (way_find(&c->set[set], &k) < 0) {
		unsigned i = way_take(&c->set[set]);

		sh->used += !c->set[set].way[i].key.birth;
		c->set[set].way[i] = (struct way){k, false};
		memcpy(page_of(c, set, i), src, BLOCK_SIZE);
	}
	lock_drop(&sh->lock);
}

void data_cache_stats_get(struct data_cache *c, struct data_cache_stats *ret_s)
{
	memset(ret_s, 0, sizeof(*ret_s));
	for (unsigned i = 0; c && i < SHARDS; i++) {
		struct shard *sh = &c->shard[i];

		lock_take(&sh->lock);
		ret_s->bytes += sh->used * BLOCK_SIZE;
		ret_s->hits += sh->hits;
		ret_s->misses += sh->misses;
		lock_drop(&sh->lock);
	}
}
