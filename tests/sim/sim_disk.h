/* sim_disk: a disk in memory: a platter of 4 KiB blocks behind a volatile write cache.
 *
 *     submit -> in flight -> completed: in the cache, readers see it -> durable: on the platter
 *                                        (flush, FUA, or earlier by chance)
 *
 * A power cut decides for every write in flight or in the cache whether it survives, is lost or is
 * torn at 512-byte granularity, independently of the others, so that everything between two
 * barriers may be reordered.
 *
 * The disk outlives the pool on it: each open gives a new backend (a cable); a power cut makes
 * the old ones dead. All disks of a run hang on one bus, which counts every submission and
 * completion and stops the machine at a chosen one.
 *
 * Invariants: 1. view = platter + completed writes of the cache; 2. a block made durable
 * disappears from all older cached writes, so that nothing old can come over it; 3. a frozen bus
 * changes nothing.
 */
#ifndef TARN_TESTS_SIM_DISK_H
#define TARN_TESTS_SIM_DISK_H
#include <stdbool.h>
#include <stdint.h>
#include "base/reactor.h"
#include "pool/dev.h"
#include "tests/sim/sim_rng.h"

#define SIM_SECTOR 512u

struct sim_disk;
struct sim_write;

/* Fails the nth I/O of one kind on any disk of the bus: fault iteration. */
struct sim_nth {
	uint64_t at[4]; /* by enum dev_op; 0: never */
	uint64_t seen[4];
	bool all_after; /* from then on everything fails on every disk */
	bool fired;
	struct sim_disk *only; /* NULL or the only disk where it may happen */
};

struct sim_bus {
	struct reactor *r;
	struct sim_rng rng;
	uint64_t ticks;	  /* submissions and completions so far */
	uint64_t halt_at; /* freeze at this tick; 0: never */
	bool frozen;
	struct sim_nth nth;
	bool trace;
	void (*fail)(void *arg, const char *text); /* a rule of the device interface is broken */
	void *fail_arg;
};
void sim_bus_init(struct sim_bus *bus, struct reactor *r, uint64_t seed);

/* How a disk behaves; may be changed at any time. */
struct sim_traits {
	uint64_t latency_ns;	   /* mean */
	unsigned slow_permille;	   /* I/Os that take 100 times as long */
	unsigned destage_permille; /* chance per completed write that a random one becomes
				    * durable; 1000: no volatile cache */
	bool stale_fill;	   /* unwritten blocks read as old rubbish, not zeros */
	bool discard_ignored;
};
struct sim_faults {
	bool dead;
	int dead_code; /* what I/O on a dead disk returns */
	uint64_t hang_until_ns;
	uint64_t slow_until_ns;
	unsigned slow_factor;	/* until then latencies are so many times longer */
	unsigned lost_permille; /* writes acknowledged and dropped */
	unsigned misdirect_permille;
	unsigned read_error_permille;
	unsigned write_errors, flush_errors, read_errors; /* so many of the next fail */
	bool ignore_flush, ignore_fua;			  /* a disk that lies: canaries */
};

struct sim_disk *sim_disk_create(struct sim_bus *bus, const char *name, uint64_t size_bytes,
				 uint64_t seed);
void sim_disk_destroy(struct sim_disk *d);
struct sim_traits *sim_disk_traits(struct sim_disk *d);
struct sim_faults *sim_disk_faults(struct sim_disk *d);
const char *sim_disk_name(const struct sim_disk *d);
uint64_t sim_disk_size(const struct sim_disk *d);

/* A new backend on the disk; freed by its close. */
struct dev_backend *sim_disk_open(struct sim_disk *d);

enum sim_cut { SIM_CUT_RANDOM, SIM_CUT_LOSE_ALL, SIM_CUT_KEEP_ALL };
/* Power cut: decide about the cache, cut all cables. */
void sim_disk_cut(struct sim_disk *d, enum sim_cut how);
/* All I/O fails from now on; with lose_cache as at a power cut. Cables stay. */
void sim_disk_kill(struct sim_disk *d, int code, bool lose_cache);
void sim_disk_revive(struct sim_disk *d);

/* The cache is lost, and nobody is told. */
void sim_disk_blip(struct sim_disk *d);
/* Cut off the end, or add space there. No I/O beyond the new end may be under way. */
void sim_disk_resize(struct sim_disk *d, uint64_t size_bytes);

/* Silent damage to what is on the disk: how many blocks were really changed. */
unsigned sim_disk_rot(struct sim_disk *d, unsigned blocks);
/* Latent errors: reads of these blocks fail until they are written. */
unsigned sim_disk_latent(struct sim_disk *d, unsigned blocks);

/* Raw access, for tools: NULL when never written. The cache must be empty (after a cut). */
const uint8_t *sim_disk_peek(const struct sim_disk *d, uint64_t block);
void sim_disk_poke(struct sim_disk *d, uint64_t block, const void *data);
uint64_t sim_disk_blocks(const struct sim_disk *d);
/* A copy of what is on the platter; shares unchanged blocks. */
struct sim_disk *sim_disk_clone(const struct sim_disk *d, struct sim_bus *bus, uint64_t seed);
/* Write the platter to a file (sparse). 0 or -errno. */
int sim_disk_save(const struct sim_disk *d, const char *path);

#endif
