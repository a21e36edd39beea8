/* vol_types: a volume in memory, shared by the vol and delta files. Everything under the pool's
 * lock. */
#ifndef TARN_POOL_VOL_TYPES_H
#define TARN_POOL_VOL_TYPES_H
#include <bsd/sys/tree.h>
#include "pool/pool_types.h"

#define SEG_BLOCKS 32u /* one delta segment: an aligned window of 128 KiB */

/* Dirty blocks of one window of one object. buf[i] is valid when bit i of present is set. */
struct dseg {
	RB_ENTRY(dseg) rb;
	uint64_t object, win; /* win = block / SEG_BLOCKS */
	uint32_t present;
	uint32_t unlogged;	  /* written since the last log group or commit */
	uint32_t over, fresh;	  /* counted elsewhere too, or not: vol_held.h */
	uint32_t buf[SEG_BLOCKS]; /* arena indexes, one reference each */
	/* In the flushing map several segments of one window form a chain, newest first; only the
	 * newest is in the tree. entered: its extents are in the volume's tree, only the writes are
	 * under way. */
	struct dseg *older;
	bool entered;
};
RB_HEAD(dtree, dseg);

struct vol {
	struct pool *p;
	struct vol *next; /* by id */
	uint64_t id;
	char name[VOL_NAME_MAX + 1];
	uint8_t uuid[16];
	enum vol_type type;
	enum vol_compression compression;
	uint8_t copies;
	uint8_t class; /* number of the class its data is kept on; 0: any */
	uint64_t size_bytes, created_ns, next_object;
	uint64_t trashed_ns; /* 0: not in the trash */
	uint64_t reservation_blocks;
	uint64_t used_blocks, logical_blocks, reserved_blocks;
	uint32_t owner_uid;
	bool destroying, rec_dirty;
	bool lost;		 /* destroyed, but its space cannot be returned */
	unsigned reap_tries;	 /* that failed */
	uint64_t reap_after_ns;	 /* not tried again before */
	bool damaged;		 /* some node cannot be read: vol_damage.h */
	bool damage_seen;	 /* since the last scrub began */
	bool converting;	 /* some data may lie under an older policy */
	uint32_t policy_changes; /* counts changes of copies and class */
	bool reaped;		 /* its record is gone: never written again */
	unsigned refs;		 /* opens */
	unsigned jobs;		 /* flush jobs at work */
	unsigned pins;		 /* somebody holds a pointer across a dropped lock */

	struct btree tree;
	/* Snapshots (snap.h). Of a snapshot: the volume it is of, the commit it shows. */
	uint64_t origin, snap_txn;
	bool given_up; /* taken with a commit that cannot be relied on */
	/* Of a volume: what it let go of and snapshots show. Id 0: it never had one. */
	uint64_t dead_id;
	struct btree dead;
	struct dtree active, flushing;
	uint64_t active_blocks, flushing_blocks, unlogged_blocks;
	uint64_t over_blocks, fresh_blocks; /* of both: vol_held.h */
	struct key flush_cursor;	    /* object, 0, win: elevator of the flusher */

	uint8_t *log;
	size_t log_len, log_cap; /* records since the last log group or commit */
	bool log_overflow;	 /* too many: only a commit makes them durable */
	bool flushed_unlogged;	 /* unlogged data went into the open transaction's tree */
	uint64_t unlogged_txn;	 /* newest frozen transaction with changes the log does not have */
	uint64_t change_seq;	 /* counts changes */
	uint64_t synced_seq;	 /* durable up to here */
	uint64_t frozen_seq;	 /* change_seq at the last freeze */
	uint64_t full_event_ns;	 /* last said that it is full */
	uint64_t redo_txn; /* newest transaction some data of which could not be written: it is
			      dirty again */
	/* Devices that have the only copy of data written in the open transaction, and in those
	 * that are frozen, but not durable. When one fails, that data may never have left its
	 * cache: the syncs that wait for it, or else the next one, say so. */
	uint64_t sole_open, sole_frozen;
	uint64_t losses, losses_told;
	bool log_requested;
	bool commit_only; /* replaying: do not log */

	void (*resize_cb)(void *arg, uint64_t size_bytes);
	void *resize_arg;
};

static inline unsigned vol_policy(const struct vol *v)
{
	return policy_of(v->copies, v->class);
}

static inline int dseg_cmp(const struct dseg *a, const struct dseg *b)
{
	if (a->object != b->object)
		return a->object < b->object ? -1 : 1;
	return a->win < b->win ? -1 : a->win > b->win;
}
RB_PROTOTYPE(dtree, dseg, rb, dseg_cmp)

#endif
