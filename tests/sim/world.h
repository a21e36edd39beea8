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
 * Files: world.c (set-up, boot, crash), worker.c (operations), wvol.c (whole volumes), wpolicy.c
 * (copies, class), disks.c and admin.c (geometry), spares.c (hot spares, classes), chaos.c (device
 * faults), verify.c (comparison), finish.c (the end), fill.c (full pools).
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

#define WORLD_DISKS_FIRST 5u /* at most, when the pool is created */
#define WORLD_DISKS_MAX	  9u /* with those that join later */
#define WORLD_VOLS_MAX	  4u
#define WORLD_WORKERS_MAX 8u
#define WORLD_WRITE_MAX	  (256u << 10)

enum world_faults { FAULTS_NONE, FAULTS_LOUD, FAULTS_SILENT };
enum world_hunger {
	HUNGER_NONE,
	HUNGER_REQUESTS, /* requests find no memory */
	HUNGER_ALL,	 /* nor does the pool's own work */
};
enum wvol_state {
	WVOL_NONE,
	WVOL_CREATING,	 /* may exist */
	WVOL_LIVE,	 /* must exist */
	WVOL_DESTROYING, /* may exist, also after a crash soon after the destroy returned */
	WVOL_TRASHING,	 /* live or in the trash */
	WVOL_TRASHED,	 /* must be in the trash */
	WVOL_LEAVING,	 /* in the trash, or gone from there */
};

/* Is a disk part of the pool? */
enum wdisk_state {
	WDISK_OUT,
	WDISK_JOINING, /* may be */
	WDISK_IN,
	WDISK_LEAVING, /* is being emptied; out at any time */
};

struct wvol {
	enum wvol_state state;
	uint8_t no;
	char name[16], other_name[16]; /* other: while it is renamed */
	struct vol_options opt;
	uint8_t other_copies; /* not 0: while its policy changes */
	bool class_changes;   /* to other_class */
	char other_class[VOL_CLASS_MAX + 1];
	bool single; /* has, or had, one copy */
	uint64_t id;
	uint64_t trashed_ns; /* wall clock */
	bool maybe_live;     /* it left the trash before it was there durably */
	struct vol *v;	     /* NULL: not open */
	unsigned users;	     /* workers inside */
	bool closing;	     /* no new users */
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
	bool fill;	/* fill the pool in every seed */
	bool no_single; /* no volumes with one copy where there are two devices */
};

enum wop { /* kinds of operations; weights differ by seed */
	   WOP_WRITE,
	   WOP_READ,
	   WOP_PUNCH,
	   WOP_CLONE,
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
	   WOP_TRASH,
	   WOP_RESTORE,
	   WOP_EMPTY_TRASH,
	   WOP_COPIES,
	   WOP_CLASS,
	   WOP_RENAME,
	   WOP_PROPERTY,
	   WOP_CHECK,
	   WOP_STATUS,
	   WOP_SLEEP,
	   WOP_COUNT
};

struct worker {
	struct world *w;
	unsigned id;
	bool done;
	struct co *co;
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
	enum wdisk_state disk_state[WORLD_DISKS_MAX];
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
	unsigned next_name;
	struct worker *worker[WORLD_WORKERS_MAX];
	unsigned nworkers;
	uint64_t ops_left; /* of this round */
	unsigned weight[WOP_COUNT];
	unsigned align_percent; /* of ranges that are whole blocks */
	bool stop_chaos, chaos_done;

	bool with_fs, fs_done;
	struct fsvol *fsvol; /* NULL: none */
	struct sim_rng fs_rng;

	bool with_snaps, snap_done;
	struct snapvol *snapvol; /* NULL: none */
	struct sim_rng snap_rng;

	bool administered; /* in this seed devices come and go */
	bool admin_done;
	uint64_t admin_ops;
	bool disk_used[WORLD_DISKS_MAX]; /* was a member once */
	bool cut_off[WORLD_DISKS_MAX];	 /* what a shrink has freed is to be cut off */
	bool with_spares, with_classes;
	char disk_class[WORLD_DISKS_MAX][POOL_CLASS_MAX + 1];
	bool class_changes[WORLD_DISKS_MAX]; /* to other_class */
	char other_class[WORLD_DISKS_MAX][POOL_CLASS_MAX + 1];
	struct wloss {
		uint64_t since_ns; /* wall clock: missing or faulted since; 0: it is not */
		uint64_t seen_ns; /* counts as lost in this boot, by the clock that does not jump */
		uint64_t noted_ns; /* what the newest durable superblock says; 0: not lost */
		unsigned boot;	   /* when it was lost */
		bool taken;	   /* a spare has its place, as far as was seen */
		bool told;	   /* the history says so */
		uint64_t told_ns;  /* and when that was, by the wall clock */
		uint64_t joined;   /* only later entries of the history count */
	} loss[WORLD_DISKS_MAX];
	unsigned boots;
	uint64_t boot_ns;      /* wall clock at the last import, and those cut short before it */
	uint64_t boot_last_ns; /* the latest time at which one was cut short, since the last that
				  ended */
	bool boot_cut_short;   /* the import has not ended */
	enum world_hunger hunger;
	bool scrubbed;		  /* nothing is damaged any more */
	uint64_t retention_s;	  /* shortest ever set */
	unsigned emptying;	  /* commands under way that empty the trash */
	uint64_t hungry_until_ns; /* requests may find no memory */
	bool hungry_ever;	  /* since the last import */
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
void world_close_volumes(struct world *w);
/* Does the policy of v allow for errors, given what was damaged? */
bool world_may_lose(const struct world *w, const struct wvol *v);
/* May an operation on v (NULL: on the pool) end with rc? */
bool world_excuses(const struct world *w, const struct wvol *v, int rc);
/* A rule was broken: print seed and reason, end the process. */
void world_fail(struct world *w, const char *fmt, ...)
	__attribute__((format(printf, 2, 3), noreturn));
void world_log(struct world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* What each worker waits for, for the report of a hang. */
const char *world_doing(struct world *w, char *buf, size_t size);
uint64_t world_now_ms(struct world *w);

/* ---- worker.c ---- */
struct ctx { /* one operation under way */
	struct worker *k;
	struct world *w;
	struct wvol *v; /* NULL when the operation has taken it away */
	struct sim_rng *g;
	unsigned resizes; /* of v when the operation began */
};
void worker_main(void *worker);

/* ---- wvol.c: what happens to whole volumes ---- */
/* Create a volume in a free slot; in a coroutine. */
bool wvol_create(struct world *w, struct sim_rng *g);
void wvol_forget(struct wvol *v);
void wvol_resize(struct ctx *c);
void wvol_destroy(struct ctx *c);
void wvol_trash(struct ctx *c);
void wvol_restore(struct world *w, struct sim_rng *g);
void wvol_empty_trash(struct world *w, struct sim_rng *g);
void wvol_rename(struct ctx *c);
void wvol_set_property(struct ctx *c);
/* wpolicy.c: copies and class, when it is made and later. */
void wvol_pick_policy(struct world *w, struct wvol *v, struct sim_rng *g);
void wvol_set_copies(struct ctx *c);
void wvol_set_class(struct ctx *c);
void wvol_check_policy(struct world *w, struct wvol *v, const struct vol_info *info);
/* After an import: which volumes are there, in the trash, gone. Opens them. */
void wvol_open_all(struct world *w);
/* The pool itself may take volumes out of the trash: called after every step. */
void wvol_watch(struct world *w);

/* ---- disks.c: which disks belong to the pool ---- */
unsigned disks_in(const struct world *w); /* members that stay and hold data */
bool disk_is_member(const struct world *w, unsigned disk);
/* What the pool says about a disk; NULL: not a member. Valid until the next call or yield. */
const struct pool_dev_status *disk_status(struct world *w, unsigned disk);
/* After an import: compare with what must be, and take it over. */
void disks_sync(struct world *w);
/* A power cut alone takes no device out. */
void disks_check_in_service(struct world *w);
/* A disk that is no member, new or used before; -1: none left. */
int disk_spare(struct world *w);
/* A random member that stays; -1: none. */
int disk_pick(struct world *w);
/* Is everything stored as often as it can be? */
bool disks_redundant(struct world *w);
/* Does something want more copies than there are devices for them? */
bool disks_too_few(const struct world *w);
/* Is everything with more than one copy stored twice at least? */
bool disks_survive(struct world *w);
/* Devices and chunks, for the report of a failure. */
void disks_print(struct world *w);

/* ---- admin.c: devices come, go, grow and shrink; scrubs; clock jumps; hunger ---- */
void admin_main(void *world);
/* Wait until all that goes on in background has ended, in a coroutine. */
void admin_settle(struct world *w);

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
