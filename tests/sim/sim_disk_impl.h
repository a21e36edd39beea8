/* sim_disk_impl: the inside of a disk, shared by sim_disk.c (platter and cache) and sim_dev.c
 * (I/O). */
#ifndef TARN_TESTS_SIM_DISK_IMPL_H
#define TARN_TESTS_SIM_DISK_IMPL_H
#include "tests/sim/sim_disk.h"

struct sim_block {
	uint32_t refs;
	uint8_t data[DEV_BLOCK];
};

/* A write in flight or in the cache: one reference per block; NULL when superseded on the
 * platter. */
struct sim_write {
	struct sim_write *next, *prev;
	uint64_t first, done_seq;
	uint32_t count;
	struct sim_block *blk[];
};
struct sim_write_list {
	struct sim_write *head, *tail;
	uint64_t count;
};

#define SIM_RECENT 256u

struct sim_disk {
	struct sim_bus *bus;
	char name[32];
	uint64_t blocks, fill_seed;
	struct sim_block **view, **plat;
	uint8_t *latent;		     /* bitmap */
	struct sim_write_list flying, cache; /* cache: in order of completion */
	uint64_t done_seq;
	uint32_t gen;				   /* cables of another generation are cut */
	uint32_t deaths;			   /* what was under way at a death fails */
	uint64_t recent[SIM_RECENT], recent_count; /* blocks written last: where damage hurts */
	struct sim_rng rng;
	struct sim_traits traits;
	struct sim_faults faults;
};

struct sim_block *sim_block_new(void);
struct sim_block *sim_block_get(struct sim_block *b);
void sim_block_put(struct sim_block *b);

void sim_disk_fill_unwritten(const struct sim_disk *d, uint64_t block, uint8_t *out);
void sim_list_add(struct sim_write_list *l, struct sim_write *w);
void sim_list_del(struct sim_write_list *l, struct sim_write *w);
void sim_write_free(struct sim_write *w);
/* Readers see w from now on. */
void sim_disk_show(struct sim_disk *d, struct sim_write *w);
/* w, in the cache, becomes durable and is freed. */
void sim_disk_destage(struct sim_disk *d, struct sim_write *w);
/* Everything completed up to done_seq becomes durable. */
void sim_disk_flush_to(struct sim_disk *d, uint64_t done_seq);
void sim_disk_discard(struct sim_disk *d, uint64_t first, uint64_t count);
void sim_disk_lose_cache(struct sim_disk *d, enum sim_cut how);
bool sim_disk_is_latent(const struct sim_disk *d, uint64_t block);
void sim_disk_set_latent(struct sim_disk *d, uint64_t block, bool on);
void sim_bus_fail(struct sim_bus *bus, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
