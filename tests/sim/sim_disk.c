#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "tests/sim/cover.h"
#include "tests/sim/sim_disk_impl.h"

#define ROT_TRIES 64u

/* ---- blocks and lists ---- */

static struct sim_block *block_free_list; /* linked through data */

struct sim_block *sim_block_new(void)
{
	struct sim_block *b = block_free_list;
	if (b)
		memcpy(&block_free_list, b->data, sizeof(b));
	else if (!(b = malloc(sizeof(*b))))
		abort();
	b->refs = 1;
	return b;
}

struct sim_block *sim_block_get(struct sim_block *b)
{
	if (b)
		b->refs++;
	return b;
}

void sim_block_put(struct sim_block *b)
{
	if (!b || --b->refs)
		return;
	memcpy(b->data, &block_free_list, sizeof(b));
	block_free_list = b;
}

static void block_set(struct sim_block **slot, struct sim_block *b)
{
	struct sim_block *old = *slot;
	*slot = sim_block_get(b);
	sim_block_put(old);
}

void sim_list_add(struct sim_write_list *l, struct sim_write *w)
{
	w->next = NULL;
	w->prev = l->tail;
	if (l->tail)
		l->tail->next = w;
	else
		l->head = w;
	l->tail = w;
	l->count++;
}

void sim_list_del(struct sim_write_list *l, struct sim_write *w)
{
	if (w->prev)
		w->prev->next = w->next;
	else
		l->head = w->next;
	if (w->next)
		w->next->prev = w->prev;
	else
		l->tail = w->prev;
	l->count--;
}

void sim_write_free(struct sim_write *w)
{
	for (uint32_t i = 0; i < w->count; i++)
		sim_block_put(w->blk[i]);
	free(w);
}

/* ---- the disk ---- */

struct sim_disk *sim_disk_create(struct sim_bus *bus, const char *name, uint64_t size_bytes,
				 uint64_t seed)
{
	struct sim_disk *d = calloc(1, sizeof(*d));
	if (!d)
		abort();
	d->bus = bus;
	snprintf(d->name, sizeof(d->name), "%s", name);
	d->blocks = size_bytes / DEV_BLOCK;
	d->view = calloc(d->blocks, sizeof(*d->view));
	d->plat = calloc(d->blocks, sizeof(*d->plat));
	d->latent = calloc(d->blocks / 8 + 1, 1);
	if (!d->view || !d->plat || !d->latent)
		abort();
	d->rng = rng_of(seed, 2);
	d->fill_seed = rng_next(&d->rng);
	d->traits.latency_ns = 50000;
	d->faults.dead_code = -EIO;
	return d;
}

static void list_free(struct sim_write_list *l)
{
	while (l->head) {
		struct sim_write *w = l->head;
		sim_list_del(l, w);
		sim_write_free(w);
	}
}

void sim_disk_destroy(struct sim_disk *d)
{
	if (!d)
		return;
	list_free(&d->flying);
	list_free(&d->cache);
	for (uint64_t i = 0; i < d->blocks; i++) {
		sim_block_put(d->view[i]);
		sim_block_put(d->plat[i]);
	}
	free(d->view);
	free(d->plat);
	free(d->latent);
	free(d);
}

struct sim_traits *sim_disk_traits(struct sim_disk *d)
{
	return &d->traits;
}
struct sim_faults *sim_disk_faults(struct sim_disk *d)
{
	return &d->faults;
}
const char *sim_disk_name(const struct sim_disk *d)
{
	return d->name;
}
uint64_t sim_disk_size(const struct sim_disk *d)
{
	return d->blocks * DEV_BLOCK;
}
uint64_t sim_disk_blocks(const struct sim_disk *d)
{
	return d->blocks;
}

void sim_disk_fill_unwritten(const struct sim_disk *d, uint64_t block, uint8_t *out)
{
	if (!d->traits.stale_fill) {
		memset(out, 0, DEV_BLOCK);
		return;
	}
	struct sim_rng g = rng_of(d->fill_seed, block);
	for (unsigned i = 0; i < DEV_BLOCK; i += 8) {
		uint64_t v = rng_next(&g);
		memcpy(out + i, &v, 8);
	}
}

bool sim_disk_is_latent(const struct sim_disk *d, uint64_t block)
{
	return d->latent[block / 8] >> (block % 8) & 1;
}

void sim_disk_set_latent(struct sim_disk *d, uint64_t block, bool on)
{
	uint8_t bit = (uint8_t)(1u << (block % 8));
	if (on)
		d->latent[block / 8] |= bit;
	else
		d->latent[block / 8] &= (uint8_t)~bit;
}

/* ---- from cache to platter ---- */

/* Older cached writes may not come over what is on the platter now. */
static void forget_older(struct sim_disk *d, const struct sim_write *w)
{
	for (struct sim_write *o = d->cache.head; o && o != w; o = o->next) {
		uint64_t from = o->first > w->first ? o->first : w->first;
		uint64_t o_end = o->first + o->count, w_end = w->first + w->count;
		uint64_t to = o_end < w_end ? o_end : w_end;
		for (uint64_t b = from; b < to; b++)
			if (w->blk[b - w->first])
				block_set(&o->blk[b - o->first], NULL);
	}
}

void sim_disk_show(struct sim_disk *d, struct sim_write *w)
{
	for (uint32_t i = 0; i < w->count; i++) {
		if (!w->blk[i])
			continue;
		block_set(&d->view[w->first + i], w->blk[i]);
		sim_disk_set_latent(d, w->first + i, false);
	}
	d->recent[d->recent_count++ % SIM_RECENT] = w->first + rng_below(&d->rng, w->count);
}

static void apply(struct sim_disk *d, const struct sim_write *w)
{
	for (uint32_t i = 0; i < w->count; i++)
		if (w->blk[i])
			block_set(&d->plat[w->first + i], w->blk[i]);
}

void sim_disk_destage(struct sim_disk *d, struct sim_write *w)
{
	forget_older(d, w);
	apply(d, w);
	sim_list_del(&d->cache, w);
	sim_write_free(w);
}

void sim_disk_flush_to(struct sim_disk *d, uint64_t done_seq)
{
	while (d->cache.head && d->cache.head->done_seq <= done_seq) {
		struct sim_write *w = d->cache.head;
		apply(d, w);
		sim_list_del(&d->cache, w);
		sim_write_free(w);
	}
}

void sim_disk_discard(struct sim_disk *d, uint64_t first, uint64_t count)
{
	if (d->traits.discard_ignored)
		return;
	for (uint64_t b = first; b < first + count; b++) {
		block_set(&d->view[b], NULL);
		block_set(&d->plat[b], NULL);
		sim_disk_set_latent(d, b, false);
	}
	for (struct sim_write *o = d->cache.head; o; o = o->next)
		for (uint32_t i = 0; i < o->count; i++)
			if (o->first + i >= first && o->first + i < first + count)
				block_set(&o->blk[i], NULL);
}

/* ---- power cut ---- */

static void tear_block(struct sim_disk *d, uint64_t block, struct sim_block *newer)
{
	struct sim_block *b = sim_block_new();
	if (d->plat[block])
		memcpy(b->data, d->plat[block]->data, DEV_BLOCK);
	else
		sim_disk_fill_unwritten(d, block, b->data);
	uint64_t mask = rng_next(&d->rng);
	if (rng_chance(&d->rng, 1, 2)) /* in order: a beginning only */
		mask = (1ull << rng_below(&d->rng, DEV_BLOCK / SIM_SECTOR + 1)) - 1;
	for (unsigned s = 0; s < DEV_BLOCK / SIM_SECTOR; s++)
		if (mask >> s & 1)
			memcpy(b->data + s * SIM_SECTOR, newer->data + s * SIM_SECTOR, SIM_SECTOR);
	block_set(&d->plat[block], b);
	sim_block_put(b);
}

static void tear(struct sim_disk *d, struct sim_write *w)
{
	cover_hit(COVER_WRITE_TORN);
	for (uint32_t i = 0; i < w->count; i++) {
		if (!w->blk[i])
			continue;
		switch (rng_below(&d->rng, 3)) {
		case 0:
			block_set(&d->plat[w->first + i], w->blk[i]);
			break;
		case 1:
			tear_block(d, w->first + i, w->blk[i]);
			break;
		default:
			break;
		}
	}
}

static void cut_write(struct sim_disk *d, struct sim_write *w, enum sim_cut how, bool flying)
{
	uint64_t dice = rng_below(&d->rng, 100);
	if (how == SIM_CUT_KEEP_ALL && !flying)
		dice = 0;
	if (how == SIM_CUT_LOSE_ALL)
		dice = 99;
	if (dice < 40) {
		apply(d, w);
		cover_hit(COVER_WRITE_KEPT_AT_CRASH);
	} else if (dice < 60) {
		tear(d, w);
	} else {
		cover_hit(COVER_WRITE_LOST_AT_CRASH);
	}
}

/* Decide about everything that is not durable; in flight first or last is a matter of chance. */
void sim_disk_lose_cache(struct sim_disk *d, enum sim_cut how)
{
	for (struct sim_write *w = d->cache.head; w; w = w->next)
		cut_write(d, w, how, false);
	for (struct sim_write *w = d->flying.head; w; w = w->next) {
		cover_hit(COVER_WRITE_IN_FLIGHT);
		cut_write(d, w, how, true);
		for (uint32_t i = 0; i < w->count; i++)
			block_set(&w->blk[i], NULL);
	}
	list_free(&d->cache);
	for (uint64_t b = 0; b < d->blocks; b++)
		if (d->view[b] != d->plat[b])
			block_set(&d->view[b], d->plat[b]);
}

void sim_disk_cut(struct sim_disk *d, enum sim_cut how)
{
	sim_disk_lose_cache(d, how);
	list_free(&d->flying);
	d->gen++;
	d->faults.hang_until_ns = 0;
}

void sim_disk_kill(struct sim_disk *d, int code, bool lose_cache)
{
	d->faults.dead = true;
	d->faults.dead_code = code;
	d->deaths++;
	if (lose_cache)
		sim_disk_lose_cache(d, SIM_CUT_RANDOM);
}

void sim_disk_revive(struct sim_disk *d)
{
	d->faults.dead = false;
	d->faults.hang_until_ns = 0;
	d->faults.read_errors = d->faults.write_errors = d->faults.flush_errors = 0;
}

void sim_disk_blip(struct sim_disk *d)
{
	sim_disk_lose_cache(d, SIM_CUT_RANDOM);
	d->done_seq++; /* a flush under way finds nothing */
}

static void list_forget_from(struct sim_write_list *l, uint64_t end)
{
	for (struct sim_write *w = l->head; w; w = w->next)
		for (uint32_t i = 0; i < w->count; i++)
			if (w->first + i >= end)
				block_set(&w->blk[i], NULL);
}

static void *regrow(void *p, uint64_t was, uint64_t n, size_t size)
{
	p = realloc(p, n * size);
	if (!p)
		abort();
	if (n > was)
		memset((char *)p + was * size, 0, (n - was) * size);
	return p;
}

void sim_disk_resize(struct sim_disk *d, uint64_t size_bytes)
{
	uint64_t n = size_bytes / DEV_BLOCK, was = d->blocks;
	list_forget_from(&d->cache, n);
	list_forget_from(&d->flying, n);
	for (uint64_t b = n; b < was; b++) {
		block_set(&d->view[b], NULL);
		block_set(&d->plat[b], NULL);
	}
	d->view = regrow(d->view, was, n, sizeof(*d->view));
	d->plat = regrow(d->plat, was, n, sizeof(*d->plat));
	d->latent = regrow(d->latent, was / 8 + 1, n / 8 + 1, 1);
	d->blocks = n;
	for (unsigned i = 0; i < SIM_RECENT; i++)
		if (d->recent[i] >= n)
			d->recent[i] = 0;
}

/* ---- silent damage ---- */

static bool pick_written(struct sim_disk *d, uint64_t *ret_block)
{
	uint64_t n = d->recent_count < SIM_RECENT ? d->recent_count : SIM_RECENT;
	for (unsigned i = 0; i < ROT_TRIES; i++) {
		uint64_t b = rng_below(&d->rng, d->blocks);
		if (n && rng_chance(&d->rng, 1, 2))
			b = d->recent[rng_below(&d->rng, n)];
		if (d->view[b]) {
			*ret_block = b;
			return true;
		}
	}
	return false;
}

static struct sim_block *rotten(struct sim_disk *d, const struct sim_block *of)
{
	struct sim_block *b = sim_block_new();
	memcpy(b->data, of->data, DEV_BLOCK);
	uint64_t at = rng_below(&d->rng, DEV_BLOCK), n = rng_skewed(&d->rng, DEV_BLOCK - at);
	for (uint64_t i = at; i < at + n; i++)
		b->data[i] ^= (uint8_t)rng_range(&d->rng, 1, 255);
	return b;
}

unsigned sim_disk_rot(struct sim_disk *d, unsigned blocks)
{
	unsigned done = 0;
	uint64_t at;
	for (unsigned i = 0; i < blocks && pick_written(d, &at); i++, done++) {
		struct sim_block *b = rotten(d, d->view[at]);
		block_set(&d->view[at], b);
		block_set(&d->plat[at], b);
		sim_block_put(b);
		for (struct sim_write *w = d->cache.head; w; w = w->next)
			if (at >= w->first && at < w->first + w->count)
				block_set(&w->blk[at - w->first], NULL);
		cover_hit(COVER_ROT);
	}
	return done;
}

unsigned sim_disk_latent(struct sim_disk *d, unsigned blocks)
{
	unsigned done = 0;
	uint64_t at;
	for (; done < blocks && pick_written(d, &at); done++)
		sim_disk_set_latent(d, at, true);
	return done;
}

/* ---- raw access ---- */

const uint8_t *sim_disk_peek(const struct sim_disk *d, uint64_t block)
{
	return block < d->blocks && d->plat[block] ? d->plat[block]->data : NULL;
}

void sim_disk_poke(struct sim_disk *d, uint64_t block, const void *data)
{
	struct sim_block *b = sim_block_new();
	memcpy(b->data, data, DEV_BLOCK);
	block_set(&d->view[block], b);
	block_set(&d->plat[block], b);
	sim_block_put(b);
}

struct sim_disk *sim_disk_clone(const struct sim_disk *d, struct sim_bus *bus, uint64_t seed)
{
	struct sim_disk *c = sim_disk_create(bus, d->name, sim_disk_size(d), seed);
	for (uint64_t b = 0; b < d->blocks; b++) {
		block_set(&c->view[b], d->plat[b]);
		block_set(&c->plat[b], d->plat[b]);
	}
	c->fill_seed = d->fill_seed;
	c->traits = d->traits;
	return c;
}

int sim_disk_save(const struct sim_disk *d, const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	int rc = ftruncate(fd, (off_t)sim_disk_size(d)) ? -errno : 0;
	for (uint64_t b = 0; !rc && b < d->blocks; b++)
		if (d->plat[b] &&
		    pwrite(fd, d->plat[b]->data, DEV_BLOCK, (off_t)(b * DEV_BLOCK)) != DEV_BLOCK)
			rc = errno ? -errno : -EIO;
	if (close(fd) && !rc)
		rc = -errno;
	return rc;
}
