/* world: one seeded run: disks, a pool on them, volumes with their histories.
 *
 *   create pool -> import -> round: workers and faults until done or the machine stops
 *                    ^          -> power cut -> import (may be cut again) -> verify (law 4) -+
 *                    +-----------------------------------------------------------------------+
 *   at the end: heal, compare everything, take a device away, compare again, export, check
 *
 * Bounds of the faults: between two heals only one disk (the victim) is damaged; a power cut alone
 * touches the caches of all. Silent damage (rot, lost and misdirected writes) has the same victim
 * for the whole run, because only reading heals it.
 *
 * Files: world.c (set-up, boot, crash), worker.c (operations), chaos.c (device faults), verify.c
 * (comparison), finish.c (the end), fill.c (full pools).
 */
#ifndef TARN_TESTS_WORLD_H
#define TARN_TESTS_WORLD_H
#include <stdbool.h>
#include <stdint.h>
#include "pool/pool.h"
#include "pool/vol.h"
#include "tests/sim/history.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_rng.h"

#define WORLD_DISKS_MAX	  5u
#define WORLD_VOLS_MAX	  4u
#define WORLD_WORKERS_MAX 8u
#define WORLD_WRITE_MAX	  (256u << 10)

enum world_faults { FAULTS_NONE, FAULTS_LOUD, FAULTS_SILENT };
enum wvol_state {
	WVOL_NONE,
	WVOL_CREATING,	 /* may exist */
	WVOL_LIVE,	 /* must exist */
	WVOL_DESTROYING, /* may exist, also after a crash soon after the destroy returned */
};

struct wvol {
	enum wvol_state state;
	uint8_t no;
	char name[16];
	struct vol_options opt;
	struct vol *v;	/* NULL: not open */
	unsigned users; /* workers inside */
	bool closing;	/* no new users */
	bool resizing;
	unsigned resizes; /* begun so far */
	struct history *h;
	uint64_t size;	     /* as far as known */
	uint64_t object_max; /* numbers handed out in this boot */
};

struct sim_opts {
	uint64_t ops;
	bool verbose, trace;
	const char *canary; /* NULL or a planted fault that must be found */
	bool no_faults;
	bool no_single; /* no volumes with one copy where there are two devices */
};

enum wop { /* kinds of operations; weights differ by seed */
	   WOP_WRITE,
	   WOP_READ,
	   WOP_PUNCH,
	   WOP_SYNC,
	   WOP_CHANGE,
	   WOP_QUERY,
	   WOP_WRITE_ITEMS,
	   WOP_RESERVE,
	   WOP_SEEK,
	   WOP_COMMIT,
	   WOP_RESIZE,
	   WOP_CREATE,
	   WOP_DESTROY,
	   WOP_CHECK,
	   WOP_STATUS,
	   WOP_SLEEP,
	   WOP_COUNT
};

struct worker {
	struct world *w;
	unsigned id;
	bool done;
	const char *doing; /* for a report of a hang */
	struct sim_rng rng;
	uint8_t buf[WORLD_WRITE_MAX];
};

struct world {
	uint64_t seed;
	struct sim_opts opt;
	struct sim_rng rng;
	struct reactor *r;
	struct sim_bus bus;
	uint64_t clock; /* of the histories */

	unsigned ndisks;
	struct sim_disk *disk[WORLD_DISKS_MAX];
	struct pool_options popt;
	struct pool *pool;

	enum world_faults faults;
	int victim;	    /* disk damaged now; -1: none */
	unsigned hurts;	    /* how often one was damaged */
	bool victim_absent; /* not handed in at the next import */
	bool single_ever;   /* there was a volume with one copy */
	bool damaged_ever;  /* copies=1 volumes may have lost something */

	struct wvol vol[WORLD_VOLS_MAX];
	uint8_t next_vol;
	struct worker *worker[WORLD_WORKERS_MAX];
	unsigned nworkers;
	uint64_t ops_left; /* of this round */
	unsigned weight[WOP_COUNT];
	unsigned align_percent; /* of ranges that are whole blocks */
	bool stop_chaos, chaos_done;
};

/* ---- world.c ---- */
/* Disks that lie, by name. */
bool world_canary_known(const char *name);
struct world *world_create(uint64_t seed, const struct sim_opts *opt);
/* Create and import the pool, one or more volumes. */
void world_start(struct world *w);
/* Power cut, then import and verify until both come through. */
void world_crash(struct world *w);
void world_boot(struct world *w);
/* Clean export (all volumes closed) and import. */
void world_export(struct world *w);
/* Run fn(w) as a coroutine to its end. False: the machine stopped in it. A hang is a failure. */
typedef void world_fn(struct world *w);
bool world_call(struct world *w, world_fn *fn, const char *what);
/* Freeze the machine within the next `ticks` I/O events, by chance. 0: not at all. */
void world_arm(struct world *w, uint64_t ticks);
void world_open_volumes(struct world *w);
void world_close_volumes(struct world *w);
/* Does the policy of v allow for errors, given what was damaged? */
bool world_may_lose(const struct world *w, const struct wvol *v);
/* A rule was broken: print seed and reason, end the process. */
void world_fail(struct world *w, const char *fmt, ...)
	__attribute__((format(printf, 2, 3), noreturn));
void world_log(struct world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* What each worker waits for, for the report of a hang. */
const char *world_doing(struct world *w, char *buf, size_t size);
uint64_t world_now_ms(struct world *w);

/* ---- worker.c ---- */
void worker_main(void *worker);
/* Create a volume in a free slot; in a coroutine. */
bool wvol_create(struct world *w, struct sim_rng *g);
void wvol_forget(struct wvol *v);

/* ---- chaos.c ---- */
void chaos_main(void *world);
/* Bring the victim back and wait until the pool is redundant again; in a coroutine. */
void chaos_heal(struct world *w);

/* ---- verify.c ---- */
/* Compare all volumes and check the pool; in a coroutine. complete: no crash happened before. */
void verify_all(struct world *w, bool complete);
/* Take what was verified as the new beginning. */
void verify_rebase(struct world *w);
void verify_check(struct world *w, bool deep);

/* ---- fill.c, finish.c, run.c ---- */
/* Fill the pool to the last block, let workers meet it full, empty it, use it again. */
void fill_run(struct world *w);
void finish_run(struct world *w);
/* Workers and faults until `ops` operations are done or the machine stops (then it is booted). */
void run_round(struct world *w, uint64_t ops, bool may_crash);
/* The whole life of one seed; returns when nothing was wrong. */
void run_seed(uint64_t seed, const struct sim_opts *opt);

#endif
