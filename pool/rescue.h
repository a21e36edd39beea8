/* rescue: read volumes out of a pool that cannot be imported any more.
 *
 * Needs no superblock, no chunk map and no root: reads every block of the devices and keeps those
 * that say who they are (law 7). From these it rebuilds what the superblock and the map would have
 * told; the checksums in the extents prove where data is. Never writes to a device.
 *
 * Happy path: rescue_open (scan, geometry, volumes) -> rescue_view_open (the items of one volume)
 * -> cursors, rescue_object_copy -> close.
 *
 * What is promised: every item comes from a valid node of this pool and tree, every byte of data
 * matches its checksum. A volume is as its newest commit left it when the tree of that commit is
 * whole (RESCUE_WHOLE: one state of the volume, that of transaction txn), otherwise as the newest
 * whole one did, unless more leaves were born since than it has. Else lost parts are filled from
 * older leaves (RESCUE_PATCHED) or everything merged from leaves, the newest first
 * (RESCUE_MERGED); then deleted items may come back, and the parts of several commits stand beside
 * each other. What the intent log has on top of that commit is applied (rescue_log.c).
 *
 * Everything read is untrusted. Memory: about 1 % of the metadata found, and copies of the map.
 * Threads: one coroutine; "yields" all over. No pool exists, so no lock.
 */
#ifndef TARN_POOL_RESCUE_H
#define TARN_POOL_RESCUE_H
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "pool/btree.h"
#include "pool/dev.h"
#include "pool/pool.h"
#include "pool/vol.h"

struct rescue;
struct rescue_view;

typedef void rescue_progress_fn(void *arg, uint64_t done_bytes, uint64_t total_bytes);
struct rescue_options {
	const uint8_t *pool_uuid; /* NULL: the pool most of the nodes belong to */
	rescue_progress_fn *progress;
	void *arg;
};

struct rescue_info {
	uint8_t uuid[16];
	char name[POOL_NAME_MAX + 1]; /* "" when no superblock survived */
	uint64_t chunk_bytes;
	uint64_t nodes;	      /* different ones */
	uint64_t newest_txn;  /* of any node */
	uint64_t read_errors; /* places of the devices that could not be read */
	unsigned superblocks; /* devices with a valid one */
	unsigned devices;     /* given */
	unsigned known;	      /* of these: it is known which device of the pool it was */
	unsigned other_pools; /* that have nodes here, too */
};

enum rescue_state { RESCUE_WHOLE, RESCUE_PATCHED, RESCUE_MERGED };
struct rescue_vol {
	uint64_t id;
	char name[VOL_NAME_MAX + 1];
	enum vol_type type;
	uint64_t size_bytes, logical_bytes, created_ns;
	bool gone;     /* not in the newest list of volumes: destroyed, or never committed */
	bool trashed;  /* in the trash, or being destroyed */
	bool nameless; /* no record found: name, type and size are made up from its items */
	enum rescue_state state;
	uint64_t txn;	     /* commit of the root; RESCUE_MERGED: of the newest leaf */
	uint64_t lost_nodes; /* subtrees that could not be found */
	uint64_t log_groups; /* of the intent log, applied on top */
};

/* Scan. devs stay the caller's, open until rescue_close(). -ENOENT with text when there is no node
 * (of that pool), -ENOMEM. Yields. Cost: reads every byte of the devices once. */
int rescue_open(struct dev_backend **devs, unsigned n, const struct rescue_options *o,
		struct rescue **ret_r, struct err *e);
void rescue_close(struct rescue *r);
void rescue_info_get(const struct rescue *r, struct rescue_info *ret_i);
/* All volumes, by id; valid until rescue_close(). */
const struct rescue_vol *rescue_vols(const struct rescue *r, unsigned *ret_n);

/* ---- items of a volume ---- */

int rescue_view_open(struct rescue *r, uint64_t vol_id, struct rescue_view **ret_v);
void rescue_view_close(struct rescue_view *v);
struct rescue_gap { /* keys [from, to) whose leaves were lost */
	struct key from, to;
};
const struct rescue_gap *rescue_gaps(const struct rescue_view *v, size_t *ret_n);
/* Was something lost between two keys (inclusive)? */
bool rescue_gap_between(const struct rescue_view *v, struct key from, struct key to);

struct rescue_cursor {
	struct rescue_view *v;
	size_t piece, loaded; /* loaded: piece whose leaf is in buf; SIZE_MAX: none */
	unsigned slot;
	struct key from;
	uint8_t *buf; /* NODE_SIZE */
	struct btree_item held;
	bool has_held; /* held is the next item of the commit */
	size_t change; /* next one of the log */
};
/* Owns a buffer; -ENOMEM. */
int rescue_cursor_init(struct rescue_cursor *c, struct rescue_view *v);
void rescue_cursor_fini(struct rescue_cursor *c);
/* The next call of rescue_next gives the first item with key >= k. */
void rescue_seek(struct rescue_cursor *c, struct key k);
/* Ascending keys. -ENOENT at the end. The item is valid until the next call. Leaves that cannot be
 * read any more are passed over. Yields. */
int rescue_next(struct rescue_cursor *c, struct btree_item *ret_item);
/* Exactly this key, or -ENOENT. */
int rescue_get(struct rescue_cursor *c, struct key k, struct btree_item *ret_item);

/* ---- data ---- */

struct rescue_data {
	uint64_t good_bytes, lost_bytes;
	/* Called in ascending order, at most a block at a time; may be NULL. */
	void (*lost)(void *arg, uint64_t off_bytes, uint64_t len_bytes);
	void (*progress)(void *arg, uint64_t inodes, uint64_t bytes); /* may be NULL */
	void *arg;
};
/* Write the data of an object to fd (a fresh sparse file), up to size_bytes; holes stay holes, and
 * so does what has no valid copy. fd < 0: read and count only. Adds to d. Negative errno when the
 * target fails, -ENOMEM. Yields. */
int rescue_object_copy(struct rescue_view *v, uint64_t object, uint64_t size_bytes, int fd,
		       struct rescue_data *d);

#endif
