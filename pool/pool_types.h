/* pool_types: the structures the files of pool/ share. Not for layers above.
 *
 * One lock, pool.lock, guards everything here unless a field says otherwise; it is never held
 * across I/O (law 5).
 */
#ifndef TARN_POOL_POOL_TYPES_H
#define TARN_POOL_POOL_TYPES_H
#include <stdatomic.h>
#include <assert.h>
#include <stdlib.h>
#include "base/co.h"
#include "base/crc.h"
#include "base/err.h"
#include "base/reactor.h"
#include "pool/btree.h"
#include "pool/dev.h"
#include "pool/node.h"
#include "pool/pool.h"
#include "pool/sb_format.h"
#include "pool/vol.h"

#define COPIES_MAX	  4
#define MEMBERS_MAX	  SB_MEMBERS_MAX
#define CLASSES_MAX	  SB_CLASSES_MAX
#define POLICIES	  ((CLASSES_MAX + 1) * POLICY_COPIES)
#define POLICY_COPIES	  8u /* numbers of copies that a policy has room for */
#define TREE_MAP	  1u
#define TREE_SPACE	  2u
#define TREE_ROOT	  3u
#define TREE_VOLUME_FIRST 64u /* volume ids, which are their tree's id too */

/* ---- devices ---- */
struct dev {
	uint32_t id;
	enum dev_state state;
	struct dev_backend *backend; /* NULL: missing */
	uint8_t uuid[16];
	uint64_t size_bytes;
	char domain[POOL_DOMAIN_MAX + 1];
	char path[256];
	uint64_t stale_since; /* txn from which on it missed writes; 0 = current */
	uint64_t sb_seq;      /* newest superblock it is known to have */
	uint8_t flags;	      /* DEV_F_* */
	char class_name[POOL_CLASS_MAX + 1];
	uint64_t lost_ns;	    /* wall clock: missing or faulted since; 0: not */
	bool spare_reported;	    /* that no spare fits */
	uint32_t slots, slots_free; /* free: below the limit */
	uint32_t slots_limit;	    /* 0: none; else slots from here on are being emptied */
	uint32_t slots_leaving;	    /* used, but free when what dropped them is durable */
	uint64_t joined;	    /* tells one that had the entry before from this one */
	uint64_t *slot_used;	    /* bitmap */
	uint64_t *slot_stale;	    /* bitmap of free ones to be discarded; in the same memory */
	uint32_t discarding_slot;   /* free, but not to be taken now */
	bool discarding, discards_off;
	unsigned discard_errors; /* in a row */
	uint64_t discarded_bytes;
	unsigned inflight; /* I/Os under way on backend */
	unsigned reads_inflight;
	uint64_t read_bytes, write_bytes, read_errors, write_errors, checksum_errors, repaired;
	uint64_t resync_done, resync_total;
	unsigned generation;	  /* counts departures and returns */
	bool changing;		  /* being taken out or brought in */
	bool beating;		  /* a heartbeat is under way */
	unsigned beat_generation; /* 1 + that in which it got the last one; 0: none */
};

/* ---- chunks ---- */
struct member {
	uint16_t dev;
	uint32_t slot;
	uint64_t stale_since; /* of this member alone; the device's counts too */
	bool goes;	      /* a rebalance moves it: task.h */
	uint16_t paper_dev;   /* while that is planned: where it is */
};
struct chunk {
	uint64_t id;
	uint8_t kind, copies, nmembers;
	uint8_t class; /* of the policy: class.h */
	struct member m[MEMBERS_MAX];
	uint64_t created_txn;
	uint32_t used;	     /* bits set: allocated as of the open transaction */
	uint32_t busy_count; /* freed, not yet reusable */
	uint64_t *bits;	     /* NULL: not loaded */
	uint64_t *busy;
	bool dirty;	 /* record or bitmap differs from the trees */
	bool new_record; /* not in the trees yet */
	bool is_write_point, condemned;
	bool moving;		 /* a member is on its way: mover.h */
	uint64_t stays_until_ns; /* the mover lets it alone: its copies cannot be verified */
	bool usable;	   /* some member's device takes writes, and it is not being emptied */
	bool draining;	   /* being emptied: squeeze.h */
	bool shared;	   /* some block has more than one reference: refs.h */
	uint64_t refs_txn; /* the last in which counts of its blocks were to change */
	bool planned;	   /* would be emptied: used while a plan is made */
	struct chunk *hash_next, *dirty_next;
	struct chunk *list_next, *list_prev; /* among those of its list that have as much free */
	uint8_t list_at;		     /* of chunk_list.by_free */
	uint32_t raw_blocks;		     /* counted in pool.raw_used_blocks */
};
#define CHUNK_FREE_CLASSES 16u
struct chunk_list { /* chunk_list.h */
	struct chunk *by_free[CHUNK_FREE_CLASSES];
	uint64_t count;
	uint64_t free_blocks;  /* in usable chunks */
	uint64_t stuck_blocks; /* free, in chunks that are not usable */
};

/* ---- transactions ---- */
enum free_kind {
	FREE_ONE,  /* one reference less */
	FREE_REF,  /* one more */
	FREE_DONE, /* found to be the last one: freed already */
};
struct free_ext {
	struct addr addr;
	uint32_t blocks;
	uint32_t kind;
};
struct dead_ext { /* let go of, and shown by a snapshot: snap.h */
	uint64_t tree_id, birth;
	struct addr addr;
	uint32_t blocks;
	bool is_node;
};
struct slot_free {
	uint16_t dev;
	uint32_t slot;
	uint64_t since; /* joined, of the device then: the entry may be another one's by now */
};
struct txn {
	uint64_t nr;
	unsigned readers; /* operations that may still read what this transaction frees */
	bool durable;
	struct free_ext *frees;
	size_t frees_count, frees_cap, frees_done;
	struct dead_ext *dead; /* for dead lists */
	size_t dead_count, dead_cap, dead_done;
	size_t refs_nodes; /* about so many nodes will change with counts of references */
	struct slot_free *slots;
	size_t slots_count, slots_cap;
	unsigned data_io; /* data writes under way that belong to it */
	bool data_failed; /* must not become durable alone: see redo in flush.c */
	struct txn *next; /* newer */
};

/* ---- memory of dirty data ---- */
struct dbuf {
	uint32_t ref;
};
struct arena {
	uint8_t *mem;
	struct dbuf *bufs;
	uint64_t *free_bits;
	uint32_t count, used, first_free; /* no word of free_bits before first_free's has a bit */
	struct waitq waiters;
};

struct wpoint {
	struct chunk *chunk;
	uint32_t cursor;
};

struct node_reading { /* a node being read: others wait */
	struct addr addr;
	struct waitq waiters;
	struct node_reading *next;
};

struct reserve_state {
	uint64_t reserved_blocks;
};

#define EVENTS_KEPT 256

struct pool {
	struct lock lock;
	char name[POOL_NAME_MAX + 1];
	uint8_t uuid[16];
	struct pool_options opt;
	struct reactor *bg;
	bool read_only, faulted, stopping, exporting, running;
	unsigned bg_count; /* background coroutines alive */
	struct waitq bg_waiters;
	int fault_code;

	struct dev devs[POOL_DEVS_MAX];
	unsigned ndevs;
	uint64_t joins;			 /* devices that have joined */
	uint64_t failed_devs;		 /* bit n: device n, since a transaction became durable */
	bool no_discard, discard_wanted; /* some slot may be stale */
	struct waitq discard_waiters;
	struct pool_trim_status trim;
	bool trim_withholds;   /* a run of a chunk, whose members stay where they are */
	uint64_t space_denied; /* how often there was no room */
	bool resync_running, resync_wanted;
	uint64_t resync_after_ns; /* not tried again before */
	unsigned resync_unread;	  /* runs that met what no device could read */
	bool reap_wanted;
	bool any_reservation; /* some volume has, or had, a reservation */
	bool refs_used;	      /* extents are, or were, shared */
	bool snaps_used;      /* a snapshot was taken, ever */
	uint64_t snap_newest; /* the newest commit that a snapshot shows; 0: none */
	unsigned exact_walks; /* that must meet all that is in use: nothing is shared meanwhile */

	struct pool_scrub_status scrub;
	bool mover_wanted, mover_running, rebalancing;
	struct waitq mover_waiters;
	uint64_t mover_total_blocks, mover_done_blocks; /* task.h */
	uint64_t mover_batch_blocks; /* copied of members that have not left their slots yet */
	uint64_t mover_moved_chunks;
	uint64_t squeeze_next_ns;	 /* not before */
	bool squeezing, squeeze_in_vain; /* chunks are being emptied; none was, last time */
	bool squeeze_asked;		 /* somebody who finds no room waits for it */
	uint8_t squeeze_tasks;		 /* of the mover when it began */
	unsigned squeeze_left;		 /* chunks that were not emptied */
	uint64_t squeeze_turns;		 /* passes that have ended */
	_Atomic uint64_t user_ops;	 /* reads and writes of volumes */
	uint64_t user_ops_seen, user_busy_until_ns; /* the mover's view of them */

	uint32_t chunk_blocks;
	uint64_t next_chunk_id, next_volume_id;
	struct chunk **chunk_hash;
	size_t chunk_hash_size;
	uint64_t chunk_count;
	struct chunk_list lists[5][POLICIES]; /* by kind, policy */
	uint64_t raw_used_blocks;	      /* of chunks, on all their members */
	struct chunk *dirty_chunks;
	struct wpoint wp_meta, wp_boot, wp_data[POLICIES];
	uint64_t reserved[POLICIES]; /* blocks promised to dirty data and fallocate */
	char classes[CLASSES_MAX + 1][POOL_CLASS_MAX + 1]; /* [0]: "", any */
	bool misplaced;		      /* some member may lie outside its chunk's class */
	uint64_t reserve_meta_blocks; /* kept for nodes */
	uint64_t dirty_nodes_max;

	struct node_cache *cache;
	struct data_cache *data_cache; /* NULL: none */
	struct btree map, space, root;
	struct node_reading *reading;

	struct txn *open, *oldest;
	uint64_t durable_txn;
	bool gate_closed;
	unsigned gate_count;
	struct waitq gate_waiters, drain_waiters;
	bool commit_running, commit_wanted;
	struct waitq commit_waiters;		   /* waiting for a commit to end */
	struct waitq committer_waiters;		   /* the committer itself, idle */
	uint64_t commit_begun_ns, commit_ended_ns; /* wall clock, of the last */
	uint64_t gate_closed_ns, commit_gate_ns;   /* when; how long, at the last commit */
	uint64_t dirty_since_ns;		   /* 0: nothing to commit */
	struct waitq data_waiters;		   /* data_io reached 0, or a flush job ended */

	struct sb_disk *sb;	 /* newest durable */
	struct sb_disk *sb_next; /* being written */
	uint64_t sb_seq;
	uint64_t hb_seq, slow_tick_ns;

	/* intent log */
	struct chunk *log_chunk;
	uint32_t log_pos;    /* next free block of the log chunk */
	uint32_t log_tail;   /* first block still needed: what the durable commit lacks */
	uint32_t log_frozen; /* log_pos at the last freeze: the next tail */
	uint64_t log_seq, log_epoch;
	bool log_writing;
	struct waitq log_waiters;

	struct arena arena;
	struct vol *vols; /* all volumes, by id ascending */
	struct vol *vols_last;
	struct vol *snaps; /* all snapshots, likewise: apart, for there may be very many */
	struct vol *snaps_last;
	struct vol *snaps_pending; /* asked for */
	unsigned flush_jobs, flush_writes;
	bool flush_wanted, flush_commit; /* a commit flushes: the flusher waits */
	struct waitq flusher_waiters;

	struct pool_event events[EVENTS_KEPT];
	uint64_t event_seq;
	uint64_t history_seq, sample_hour, trash_retention_s;
	uint64_t spare_after_s; /* SPARE_NEVER: spares do not take over by themselves */
	uint64_t spare_last_ns;
	unsigned threshold; /* percent last reported */
	uint64_t journal_last_ns;
	uint64_t commits, log_writes, log_bytes, user_write_bytes;
};

/* ---- policies: what a volume wants of its chunks, as one number ---- */
static inline unsigned policy_of(unsigned copies, unsigned class)
{
	return class * POLICY_COPIES + copies;
}
static inline unsigned policy_copies(unsigned policy)
{
	return policy % POLICY_COPIES;
}
static inline unsigned policy_class(unsigned policy)
{
	return policy / POLICY_COPIES;
}
static inline unsigned chunk_policy(const struct chunk *c)
{
	return policy_of(c->copies, c->class);
}

/* Slots that can be taken this moment. */
static inline uint32_t dev_slots_ready(const struct dev *d)
{
	return d->slots_free > d->discarding ? d->slots_free - d->discarding : 0;
}

/* May new members be placed on it? */
static inline bool dev_placeable(const struct dev *d)
{
	return d->backend && (d->state == DEV_ONLINE || d->state == DEV_RESYNC) &&
	       !(d->flags & (DEV_F_EVACUATE | DEV_F_SPARE));
}

static inline bool dev_writable(const struct dev *d)
{
	return d->backend && (d->state == DEV_ONLINE || d->state == DEV_RESYNC);
}

#endif
