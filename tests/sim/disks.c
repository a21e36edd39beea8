/* disks: which disks belong to the pool, as the world knows and as the pool says. */
#include <stdio.h>
#include <string.h>
#include "pool/chunk.h"
#include "pool/sb_format.h"
#include "tests/sim/cover.h"
#include "tests/sim/spares.h"

static struct pool_status st; /* one world per process, read and used without a yield between */

unsigned disks_in(const struct world *w)
{
	unsigned n = 0;
	for (unsigned i = 0; i < w->ndisks; i++)
		n += w->disk_state[i] == WDISK_IN;
	for (unsigned i = 0; w->pool && i < w->pool->ndevs; i++) {
		const struct dev *d = &w->pool->devs[i];
		n -= n && d->state != DEV_NONE && d->flags & DEV_F_SPARE &&
		     !(d->flags & DEV_F_EVACUATE);
	}
	return n;
}

bool disk_is_member(const struct world *w, unsigned disk)
{
	return w->disk_state[disk] == WDISK_IN || w->disk_state[disk] == WDISK_LEAVING;
}

static const struct pool_dev_status *find(struct world *w, unsigned disk)
{
	char path[64];
	snprintf(path, sizeof(path), "/sim/%s", sim_disk_name(w->disk[disk]));
	for (unsigned i = 0; i < st.ndevs; i++)
		if (!strcmp(st.devs[i].path, path))
			return &st.devs[i];
	return NULL;
}

/* Does the newest durable superblock say that it is no member? */
static bool durably_out(const struct world *w, unsigned disk)
{
	const struct sb_disk *sb = w->pool->sb;
	char path[64];
	snprintf(path, sizeof(path), "/sim/%s", sim_disk_name(w->disk[disk]));
	for (uint32_t i = 0; i < le32_get(sb->devs_count); i++)
		if (sb->devs[i].state != DEV_NONE && !strcmp(sb->devs[i].path, path))
			return false;
	return true;
}

const struct pool_dev_status *disk_status(struct world *w, unsigned disk)
{
	pool_status_get(w->pool, &st);
	const struct pool_dev_status *s = find(w, disk);
	if (!s && w->disk_state[disk] == WDISK_IN)
		world_fail(w, "pool_status_get: disk%u is not listed", disk);
	if (!s && w->disk_state[disk] == WDISK_LEAVING && durably_out(w, disk)) {
		w->disk_state[disk] = WDISK_OUT;
		cover_hit(COVER_REMOVED);
	}
	return s;
}

void disks_sync(struct world *w)
{
	pool_status_get(w->pool, &st);
	for (unsigned i = 0; i < w->ndisks; i++) {
		const struct pool_dev_status *s = find(w, i);
		enum wdisk_state was = w->disk_state[i];
		if (!s && was == WDISK_IN && !w->loss[i].told)
			world_fail(w, "after an import disk%u is not in the pool any more", i);
		if (s && was == WDISK_OUT)
			world_fail(w, "after an import disk%u, which was removed, is back", i);
		if (s && was == WDISK_IN && s->evacuating && !w->loss[i].told)
			world_fail(w, "after an import disk%u is being removed", i);
		if (s)
			spares_sync(w, i, s);
		w->disk_state[i] = s		       ? (s->evacuating ? WDISK_LEAVING : WDISK_IN)
				   : durably_out(w, i) ? WDISK_OUT
						       : WDISK_LEAVING;
		if ((int)i == w->victim && w->disk_state[i] == WDISK_OUT)
			w->victim = -1; /* else it may be back after another power cut */
	}
}

void disks_check_in_service(struct world *w)
{
	if (w->faults == FAULTS_SILENT || w->victim >= 0)
		return;
	pool_status_get(w->pool, &st);
	/* Whose place is taken stays out. */
	for (unsigned i = 0; i < st.ndevs; i++)
		if (st.devs[i].state != DEV_ONLINE && !st.devs[i].taken)
			world_fail(w, "after a power cut device %u is %s, stale since %llu", i,
				   dev_state_name(st.devs[i].state),
				   (unsigned long long)st.devs[i].stale_since_txn);
}

int disk_spare(struct world *w)
{
	for (unsigned i = 0; i < w->ndisks; i++)
		if (w->disk_state[i] == WDISK_OUT && rng_chance(&w->rng, 1, 2)) {
			memset(sim_disk_faults(w->disk[i]), 0, sizeof(struct sim_faults));
			return (int)i; /* repaired, with what it held */
		}
	if (w->ndisks == WORLD_DISKS_MAX)
		return -1;
	char name[16];
	unsigned n = w->ndisks;
	snprintf(name, sizeof(name), "disk%u", n);
	uint64_t bytes = rng_range(&w->rng, 24, 64) << 20;
	w->disk[n] = sim_disk_create(&w->bus, name, bytes, rng_next(&w->rng));
	*sim_disk_traits(w->disk[n]) = *sim_disk_traits(w->disk[0]);
	w->disk_state[n] = WDISK_OUT;
	w->ndisks++;
	return (int)n;
}

int disk_pick(struct world *w)
{
	unsigned first = (unsigned)rng_below(&w->rng, w->ndisks);
	for (unsigned i = 0; i < w->ndisks; i++)
		if (w->disk_state[(first + i) % w->ndisks] == WDISK_IN)
			return (int)((first + i) % w->ndisks);
	return -1;
}

static bool chunks_have(const struct pool *p, unsigned most)
{
	for (size_t h = 0; h < p->chunk_hash_size; h++)
		for (const struct chunk *c = p->chunk_hash[h]; c; c = c->hash_next) {
			unsigned good = 0;
			for (unsigned k = 0; k < c->nmembers; k++)
				good += p->devs[c->m[k].dev].state == DEV_ONLINE &&
					!chunk_member_since(p, &c->m[k]);
			if (c->used && good < (c->copies < most ? c->copies : most))
				return false;
		}
	return true;
}

bool disks_survive(struct world *w)
{
	return chunks_have(w->pool, 2);
}

bool disks_redundant(struct world *w)
{
	struct pool *p = w->pool;
	unsigned devs = 0;
	pool_status_get(p, &st);
	for (unsigned i = 0; i < st.ndevs; i++) {
		if (st.devs[i].state != DEV_ONLINE || st.devs[i].stale_since_txn)
			return false;
		devs += !st.devs[i].evacuating && !st.devs[i].spare;
	}
	return !strcmp(st.health, "online") && chunks_have(p, devs);
}

/* Devices that a copy of the chunk may be on. */
static unsigned places_for(const struct pool *p, const struct chunk *c)
{
	unsigned n = 0;
	for (unsigned i = 0; i < p->ndevs; i++)
		n += p->devs[i].state == DEV_ONLINE &&
		     !(p->devs[i].flags & (DEV_F_EVACUATE | DEV_F_SPARE)) &&
		     (!c->class || !strcmp(p->classes[c->class], p->devs[i].class_name));
	return n;
}

bool disks_too_few(const struct world *w)
{
	const struct pool *p = w->pool;
	for (size_t h = 0; h < p->chunk_hash_size; h++)
		for (const struct chunk *c = p->chunk_hash[h]; c; c = c->hash_next)
			if (c->used && c->copies > places_for(p, c))
				return true;
	return false;
}

static void print_chunk(const struct pool *p, const struct chunk *c)
{
	static const char *const kind[] = {"?", "boot", "meta", "log", "data"};
	printf("    chunk %llu %s copies %u used %u:", (unsigned long long)c->id, kind[c->kind],
	       c->copies, c->used);
	for (unsigned k = 0; k < c->nmembers; k++)
		printf(" %u/%u%s", c->m[k].dev, c->m[k].slot,
		       chunk_member_since(p, &c->m[k]) ? " stale" : "");
	printf("%s%s%s\n", c->moving ? " moving" : "", c->condemned ? " condemned" : "",
	       c->is_write_point ? " write point" : "");
}

void disks_print(struct world *w)
{
	const struct pool *p = w->pool;
	for (unsigned i = 0; i < p->ndevs; i++)
		printf("    device %u %s %s: %u of %u slots free, limit %u, flags %u, stale since "
		       "%llu\n",
		       i, p->devs[i].path, dev_state_name(p->devs[i].state), p->devs[i].slots_free,
		       p->devs[i].slots, p->devs[i].slots_limit, p->devs[i].flags,
		       (unsigned long long)p->devs[i].stale_since);
	for (size_t h = 0; h < p->chunk_hash_size; h++)
		for (const struct chunk *c = p->chunk_hash[h]; c; c = c->hash_next)
			print_chunk(p, c);
}
