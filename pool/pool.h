/* pool: create, import, run, look at and export a pool: what tarnd and the admin tool call.
 *
 * A pool runs on reactors: requests on any reactor thread; its background work (commit, flush,
 * heartbeat, resync, reaping) as coroutines on the one given to pool_import. Everything marked
 * "yields" runs in a coroutine. Blocking = plain blocking calls, only outside the request path.
 */
#ifndef TARN_POOL_POOL_H
#define TARN_POOL_POOL_H
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "base/err.h"
#include "base/reactor.h"
#include "pool/dev.h"

#define POOL_NAME_MAX	31
#define POOL_DEVS_MAX	64
#define POOL_DOMAIN_MAX 31
#define POOL_CLASS_MAX	15

struct pool;

struct pool_options {		   /* zero = default */
	uint64_t cache_bytes;	   /* nodes; default 256 MiB */
	uint64_t data_cache_bytes; /* small data read again; 0: none */
	uint64_t delta_bytes;	   /* hard limit of dirty data in memory; default 128 MiB */
	uint64_t commit_ns;	   /* longest time between commits; default 5 s */
	bool read_only;	  /* no replay, no writes: for check and dump of an exported pool */
	bool degraded_ok; /* import although fewer than a majority of devices are here */
	bool force;	  /* skip the heartbeat wait, take over */
	uint64_t mover_bytes_per_s; /* limit of evacuation and rebalance; 0: only yields to requests
				     */
};

struct pool_create_dev {
	struct dev_backend *backend;	  /* taken over on success */
	char domain[POOL_DOMAIN_MAX + 1]; /* failure domain; "" = the device is its own */
	char class_name[POOL_CLASS_MAX + 1];
};
/* Write a new pool on n devices (superblocks, first chunks, empty trees). Yields. chunk_bytes 0:
 * chosen from the smallest device (power of two, 1..64 MiB). Does not start it. Devices are left
 * open, the caller closes or imports them. */
int pool_create(const char *name, struct pool_create_dev *devs, unsigned n, uint64_t chunk_bytes,
		struct err *e);
/* The same; what the history begins with. */
struct pool_create_note {
	uint32_t uid;
	const char *command;
};
int pool_create_noted(const char *name, struct pool_create_dev *devs, unsigned n,
		      uint64_t chunk_bytes, const struct pool_create_note *note, struct err *e);

/* Open the pool on these devices (any order; missing ones allowed): newest witnessed superblock,
 * log replay, degraded handling, background work on reactor bg. Takes the backends over in any
 * case. Yields. */
int pool_import(struct dev_backend **devs, unsigned n, const struct pool_options *o,
		struct reactor *bg, struct pool **ret_p, struct err *e);
/* Commit, mark clean, stop background work, close devices, free. Yields. On error (volumes open:
 * ERR_IN_USE; suspended: ERR_FAULTED, what was not synced before is lost) the pool is untouched,
 * unless force: requests in flight get ERR_FAULTED after the last commit. */
int pool_export(struct pool *p, bool force, struct err *e);
/* Stop without writing anything, as a crash would (tests), and free what can be freed. */
void pool_abandon(struct pool *p);

/* Make everything acknowledged durable: a full commit. Yields. */
int pool_commit(struct pool *p);

enum dev_state { DEV_NONE = 0, DEV_ONLINE = 1, DEV_FAULTED, DEV_MISSING, DEV_OFFLINE, DEV_RESYNC };
const char *dev_state_name(enum dev_state s);
struct pool_dev_status {
	uint32_t id;
	char path[256]; /* last known */
	char domain[POOL_DOMAIN_MAX + 1];
	enum dev_state state;
	uint64_t size_bytes, used_bytes; /* used: slots given to chunks */
	uint64_t read_bytes, write_bytes, read_errors, write_errors, checksum_errors, repaired;
	uint64_t stale_since_txn; /* 0: current */
	uint64_t resync_done_bytes, resync_total_bytes;
	char class_name[POOL_CLASS_MAX + 1];
	uint64_t lost_ns; /* wall clock: missing or faulted since; 0: not */
	bool evacuating, spare, shrinking;
	bool taken;    /* a spare has taken its place for good: it will not be let in */
	bool discards; /* it is told what becomes free */
	uint64_t discarded_bytes;
};
struct pool_status {
	char name[POOL_NAME_MAX + 1];
	uint8_t uuid[16];
	const char *health; /* "online", "degraded", "faulted" */
	uint64_t txn, chunk_bytes, chunks;
	uint64_t raw_bytes, raw_used_bytes, raw_free_bytes;
	uint64_t meta_bytes; /* nodes, one copy */
	uint64_t delta_bytes, delta_limit_bytes, cache_bytes;
	uint64_t data_cache_bytes, data_cache_hits, data_cache_misses;
	/* The last commit: wall clock (ended < begun: it is under way), and for how long its gate
	 * was closed: changes wait that long. 0: none yet. */
	uint64_t commit_begun_ns, commit_ended_ns, commit_gate_ns;
	uint64_t commits, log_writes, log_bytes, user_write_bytes, dev_write_bytes;
	unsigned volumes, ndevs;
	struct pool_dev_status devs[POOL_DEVS_MAX];
};
void pool_status_get(struct pool *p, struct pool_status *ret_s);

/* Take a device out of service (stays a member) / bring it back or hand in its backend:
 * resynchronises only what was written meanwhile, in background. Yields. -ENOENT: no such device;
 * ERR_POOL_ID: backend is of another pool, or has left this one;
 * ERR_IN_USE: a spare has taken its place. */
int pool_dev_offline(struct pool *p, uint32_t dev_id, struct err *e);
int pool_dev_online(struct pool *p, struct dev_backend *b, struct err *e);
/* Let go of a device that failed (nothing happens to others), so that its kernel device can vanish
 * and it can be opened again. The pool does so by itself within seconds, when no request is under
 * way any more; wait: wait for those. Yields. */
void pool_dev_close_failed(struct pool *p, uint32_t dev_id, bool wait);

/* ---- geometry: all online; each yields; what moves data goes on in background, over restarts ----
 */
struct pool_add_options {
	char domain[POOL_DOMAIN_MAX + 1];
	char class_name[POOL_CLASS_MAX + 1];
	bool spare;
};
/* Take a device into the pool (its ends are wiped; the caller has looked for signatures). Taken
 * over on success. */
int pool_dev_add(struct pool *p, struct dev_backend *b, const struct pool_add_options *o,
		 struct err *e);
/* What a removal or shrink would move, and whether it fits: a proof by placing every chunk on
 * paper. */
struct pool_move_plan {
	uint64_t chunks, bytes;
	bool fits;
	char reason[160];
};
/* Empty a device and let it leave the pool. It stays in service until it is empty; a missing one is
 * rebuilt from the other copies. -ENOSPC when the plan says it does not fit. dry_run: only the
 * plan. */
int pool_dev_remove(struct pool *p, uint32_t dev_id, bool dry_run, struct pool_move_plan *ret_plan,
		    struct err *e);
/* Stop removing or shrinking a device; what has moved stays where it is. */
int pool_dev_remove_cancel(struct pool *p, uint32_t dev_id, struct err *e);
/* Use only the first size_bytes of a device; when done (event device-shrunk) the rest may be cut
 * off. */
int pool_dev_shrink(struct pool *p, uint32_t dev_id, uint64_t size_bytes, bool dry_run,
		    struct pool_move_plan *ret_plan, struct err *e);
/* Use a device that has become larger (size_bytes: what the caller found). */
int pool_dev_grow(struct pool *p, uint32_t dev_id, uint64_t size_bytes, struct err *e);
/* Give a device a class ("": none). Data that must not stay on it moves in background. -EBUSY when
 * a volume needs it in its class. */
int pool_dev_set_class(struct pool *p, uint32_t dev_id, const char *name, struct err *e);
/* Make a member a spare: it is emptied in background. -ENOSPC, -EBUSY. */
int pool_dev_make_spare(struct pool *p, uint32_t dev_id, struct err *e);
/* How long a device is missing or faulted before a spare takes its place. */
#define SPARE_NEVER UINT64_MAX
int pool_set_spare_after(struct pool *p, uint64_t seconds);
uint64_t pool_spare_after(struct pool *p);
/* Level the use of the devices; ends by itself. / What that would move now; it always fits. */
int pool_rebalance(struct pool *p, bool on);
void pool_rebalance_plan(struct pool *p, struct pool_move_plan *ret_plan);
struct pool_mover_status {
	bool active, rebalancing;
	/* Of what there was to move when it began (the plan's bytes); done never goes back, and
	 * left is 0 in the end. After a restart it counts from there. */
	uint64_t done_bytes, left_bytes;
};
void pool_mover_status_get(struct pool *p, struct pool_mover_status *ret_s);

/* Read and verify every copy of everything, repair what is wrong; in background. */
struct pool_scrub_status {
	bool running, complete, stop;
	uint64_t started_ns, ended_ns; /* wall clock */
	uint64_t done_bytes, total_bytes, repaired, unrepaired;
	uint64_t dev_bytes[POOL_DEVS_MAX], dev_errors[POOL_DEVS_MAX]; /* by device id */
};
int pool_scrub_start(struct pool *p, struct err *e);
void pool_scrub_stop(struct pool *p);
void pool_scrub_status_get(struct pool *p, struct pool_scrub_status *ret_s);

/* Tell devices what is free, in background: slots as they become free (setting, on by default)...
 */
int pool_set_discard(struct pool *p, bool on);
bool pool_discard(struct pool *p);
/* ...and, once, everything that is free, also inside chunks. -EBUSY: one is running. */
struct pool_trim_status {
	bool running, complete, stop;
	uint64_t started_ns, ended_ns;	  /* wall clock */
	uint64_t done_bytes, total_bytes; /* looked at */
	uint64_t discarded_bytes;	  /* known when it has ended; on all devices */
	unsigned devs_left_out;		  /* not in service, or they take no discards */
};
int pool_trim_start(struct pool *p, struct err *e);
void pool_trim_stop(struct pool *p);
void pool_trim_status_get(struct pool *p, struct pool_trim_status *ret_s);

/* Administrative commands, kept in the pool. result: 0 or an errno. Both yield. */
int pool_history_add(struct pool *p, uint32_t uid, int result, const char *text);
struct pool_history_entry {
	uint64_t seq, wall_ns;
	uint32_t uid;
	int result;
	char text[1008];
};
/* The first entry after after_seq: 0 or -ENOENT. */
int pool_history_next(struct pool *p, uint64_t after_seq, struct pool_history_entry *ret_e);
int pool_set_trash_retention(struct pool *p, uint64_t seconds);
/* When will it be full, judging by the growth recorded hourly over the last week? full_ns 0: not
 * growing, or unknown. */
#define POOL_FORECAST_VOLUMES 5
struct pool_forecast {
	uint64_t since_ns, full_ns;
	int64_t grown_bytes;
	struct {
		char name[64];
		uint64_t bytes;
	} vol[POOL_FORECAST_VOLUMES + 1]; /* grew most, descending */
};
int pool_forecast_get(struct pool *p, struct pool_forecast *ret_f);

/* Last events, oldest first. seq grows by one per event; text names volume, offset and device where
 * known. */
struct pool_event {
	uint64_t seq, wall_ns;
	char kind[24];
	char text[232];
};
unsigned pool_events(struct pool *p, uint64_t since_seq, struct pool_event *ret_ev, unsigned max);

/* Verify everything reachable from the newest committed state: structure, checksums of nodes and of
 * all data copies (deep), references against bitmaps. Works on a running and on a read-only pool.
 * One line per problem to out. Returns 0 with counts; an error only when checking itself failed
 * (-ENOSPC: a pool in use is so full that the state checked cannot be held). Yields. */
struct pool_check_result {
	uint64_t nodes, extents, data_blocks, problems;
};
typedef void pool_progress_fn(void *arg, uint64_t done, uint64_t total);
int pool_check(struct pool *p, bool deep, FILE *out, pool_progress_fn *progress, void *arg,
	       struct pool_check_result *ret_r, struct err *e);

/* What a device says about the pool it belongs to, without importing. Blocking-free; yields. */
struct pool_label {
	char name[POOL_NAME_MAX + 1];
	uint8_t uuid[16];
	uint32_t dev_id, ndevs;
	uint64_t txn;
	bool clean;
};
/* 0; ERR_VERSION: it belongs to a pool of a newer Tarn (the label is filled in all the same); else
 * it belongs to none, but for -ENOMEM and -EIO: that is not known. Yields. */
int pool_label_read(struct dev_backend *b, struct pool_label *ret_l, struct err *e);

/* Print a block of an offline or running pool to f. what: "sb" [dev index], "tree
 * map|space|root|VOLUME", "node ADDR" (hex), "chunk ID", "log". Yields. */
struct btree_item;
/* How to print items of volumes that belong to a front end (set once by the tool; NULL: generic).
 */
extern void (*pool_dump_item_text)(FILE *f, uint64_t tree_id, uint8_t level,
				   const struct btree_item *it);
int pool_dump(struct pool *p, const char *what, const char *arg, FILE *f, struct err *e);

#endif
