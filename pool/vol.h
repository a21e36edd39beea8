/* vol: a thin volume: numbered objects with data (extents) and keyed items, in one tree per volume.
 *
 * A block volume has one object, VOL_BLOCK_OBJECT. A file system keeps its inodes, names and xattrs
 * as items, and file data as the data of the object with the inode's number. Front ends call
 * nothing else.
 *
 * Where a byte is: active delta (memory) -> delta being flushed (memory) -> tree extent -> hole
 * (zero).
 *
 * Happy path of a write: admission (space reserved, memory throttle) -> enter the transaction gate
 * -> under the lock: copy into the delta, run the caller's change function -> leave ->
 * acknowledged. It is durable when vol_sync() returns, or after the next commit. After a crash the
 * volume shows a prefix of the acknowledged history that contains everything synced (law 4).
 *
 * Thread and lock rule: all calls that say "yields" run in a coroutine on any reactor thread, with
 * no lock held. A vol_fn runs under the pool's lock: pure memory, short, no yield, may be run
 * several times.
 *
 * Errors: -ENOSPC (space; clean, nothing changed), -EFBIG, ERR_FAULTED (pool suspended),
 * ERR_READONLY, -ENOMEM, ERR_CSUM/-EIO (no copy readable; event emitted; also for writes into a
 * part of the volume whose tree is damaged), what a vol_fn returned.
 */
#ifndef TARN_POOL_VOL_H
#define TARN_POOL_VOL_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>
#include "base/err.h"
#include "pool/btree.h"

struct pool;
struct vol;

enum vol_type { VOL_TYPE_BLOCK = 1, VOL_TYPE_FS = 2 };
enum vol_compression { VOL_COMPRESS_OFF = 0, VOL_COMPRESS_LZ4 = 1 };

#define VOL_BLOCK_OBJECT 1u  /* data of a block volume */
#define VOL_OBJECT_FIRST 16u /* first number vol_new_object() hands out */
#define VOL_KEY_EXTENT \
	0x80 /* key types from here on belong to vol; smaller ones to the front end */
#define VOL_NAME_MAX	     63
#define VOL_CLASS_MAX	     15	       /* of a class of devices: POOL_CLASS_MAX */
#define VOL_OBJECT_BYTES_MAX INT64_MAX /* 8 EiB of address space per object */

struct vol_info { /* a copy; sizes in bytes */
	uint64_t id;
	char name[VOL_NAME_MAX + 1];
	uint8_t uuid[16];
	enum vol_type type;
	enum vol_compression compression;
	uint8_t copies;
	uint64_t size_bytes;	    /* block: device size. fs: 0 or quota (most logical bytes) */
	uint64_t used_bytes;	    /* stored data, one copy, after compression */
	uint64_t logical_bytes;	    /* data before compression, with what is dirty, but for dirty
				       data over what is reserved */
	uint64_t reserved_bytes;    /* promised and not yet written (fallocate) */
	uint64_t delta_bytes;	    /* dirty in memory */
	uint64_t reservation_bytes; /* guaranteed, whatever others write */
	uint64_t available_bytes;   /* what can still be written with this policy, truthful thin
				       number */
	uint64_t created_ns;
	uint32_t owner_uid;		    /* may mount it without being root */
	char class_name[VOL_CLASS_MAX + 1]; /* "": any */
	bool snapshot;			    /* it cannot be changed */
	bool open, destroying, converting; /* converting: some data may lie under an older policy */
	bool damaged; /* a part of its tree cannot be read: reads and writes there fail */
};

/* ---- items: call only from a vol_fn (lock held) ----
 * get/seek/put/del as in btree.h; -ENOENT, ERR_NEED_NODE (return it from your vol_fn unchanged: it
 * is run again after the node was read). Rule for changes: first every get and vol_prepare(key) for
 * every key you will put or delete, then the puts and deletes; after the first change you must not
 * return an error. Every put and del is also a record of the intent log. */
int vol_get(struct vol *v, struct key k, struct btree_item *ret_item);
int vol_seek_ge(struct vol *v, struct key k, struct btree_item *ret_item);
int vol_seek_le(struct vol *v, struct key k, struct btree_item *ret_item);
int vol_prepare(struct vol *v, struct key k);
int vol_put(struct vol *v, struct key k, const void *value,
	    uint16_t len); /* len <= NODE_VALUE_MAX */
int vol_del(struct vol *v, struct key k);
/* A fresh object number, never used before in this volume (also over crashes). */
uint64_t vol_new_object(struct vol *v);
/* Wall clock, ns since 1970, of the pool's environment. */
uint64_t vol_wall_ns(struct vol *v);
typedef int vol_fn(struct vol *v, void *arg);

/* The data an item of a type from VOL_KEY_EXTENT on stands for, in bytes; reserved: promised space
 * only. 0, or ERR_FORMAT. Any thread. */
int vol_item_extent(const struct btree_item *it, uint64_t *ret_off, uint64_t *ret_len,
		    bool *ret_reserved);

/* Run fn under the lock until it returns something other than ERR_NEED_NODE. Yields. */
int vol_query(struct vol *v, vol_fn *fn, void *arg);
/* The same inside the transaction gate: fn may change items. All its changes are atomic. Yields
 * (gate, throttle). never_full: the operation frees more than it takes (unlink, truncate): admitted
 * on a full pool, unless a snapshot keeps what it frees and hardly any room is left for nodes. */
int vol_change(struct vol *v, bool never_full, vol_fn *fn, void *arg);

/* ---- all items of one state: the newest commit ----
 * Space freed meanwhile stays taken until the view is closed. All yield. */
struct vol_view;
int vol_view_open(struct vol *v, struct vol_view **ret_w);
void vol_view_close(struct vol_view *w); /* NULL is fine */
/* Every item in order. item runs without the lock; what it is given is valid until it returns.
 * bad: a node cannot be read; what lies below it is not met. What either returns but 0
 * ends the walk. May be called again: the same items. O(items). */
struct vol_view_ops {
	int (*item)(void *arg, const struct btree_item *it);
	int (*bad)(void *arg, int rc);
};
int vol_view_walk(struct vol_view *w, const struct vol_view_ops *ops, void *arg);

/* ---- data; offsets and lengths are bytes, any alignment; all yield ---- */

/* Fill iov from [off, off+len): holes are zero. Verified against checksums; repaired from another
 * copy. */
int vol_read(struct vol *v, uint64_t object, uint64_t off, uint64_t len, void *buf);
/* Write, and run fn (may be NULL) in the same atomic step, e.g. to grow a file. If fn returns an
 * error nothing is written. len <= VOL_WRITE_MAX per call. Longer than an eighth of the delta's
 * memory: split into several such steps, fn with the last; on an error earlier ones may have been
 * done. */
#define VOL_WRITE_MAX (4u << 20)
int vol_write(struct vol *v, uint64_t object, uint64_t off, uint64_t len, const void *buf,
	      vol_fn *fn, void *arg);
/* Deallocate [off, off+len), which reads as zero afterwards; len may reach past everything
 * (UINT64_MAX - off). Partial blocks at the edges are zeroed. fn runs with the LAST step; big
 * ranges take several atomic steps, from the end downwards; on an error the later part may have
 * been done. Never fails with -ENOSPC but for unaligned edges. */
int vol_punch(struct vol *v, uint64_t object, uint64_t off, uint64_t len, vol_fn *fn, void *arg);
/* Make [dst_off, dst_off+len) equal to [src_off, src_off+len) of an object of the same or another
 * volume of the pool by sharing its blocks where that is possible, else by copying; the ranges may
 * not overlap (-EINVAL). Several atomic steps from the start upwards, fn with each; *ret_done,
 * bytes, is set before fn runs to what will then be done, and says after an error what is. A sync
 * of dst makes it durable, by a commit. Cost: O(extents) of the range, no I/O but for nodes; it may
 * wait for a commit when the source is dirty. */
int vol_clone_range(struct vol *src, uint64_t src_object, uint64_t src_off, struct vol *dst,
		    uint64_t dst_object, uint64_t dst_off, uint64_t len, vol_fn *fn, void *arg,
		    uint64_t *ret_done);
/* Promise space for the holes in [off, off+len) (fallocate). fn as for vol_write. */
int vol_reserve(struct vol *v, uint64_t object, uint64_t off, uint64_t len, vol_fn *fn, void *arg);
/* Next data / hole at or after off: 0 and *ret_off, or -ENXIO when no data follows. Reserved ranges
 * are holes. */
int vol_seek_data(struct vol *v, uint64_t object, uint64_t off, uint64_t *ret_off);
int vol_seek_hole(struct vol *v, uint64_t object, uint64_t off, uint64_t *ret_off);
/* Allocated bytes of one object in [0, UINT64_MAX): logical mapped + dirty. For st_blocks. Cost:
 * that many extents. */
int vol_object_bytes(struct vol *v, uint64_t object, uint64_t *ret_bytes, uint64_t *ret_extents);
/* Everything of this volume acknowledged before the call is durable when it returns 0. Concurrent
 * calls share one log write. -EIO, told once: data acknowledged before is lost or may be: a device
 * failed before it had made durable of what there is no other copy, or the part of the volume's
 * tree that it belongs into cannot be read. ERR_FAULTED: the pool is suspended. */
int vol_sync(struct vol *v);

/* ---- volumes; yield ---- */
struct vol_options {
	enum vol_type type;
	uint8_t copies; /* 1..4 */
	enum vol_compression compression;
	uint64_t size_bytes;
	uint32_t owner_uid;
	char class_name[VOL_CLASS_MAX + 1]; /* of the devices for its data; "": any */
};
/* Create: durable when it returns. -EEXIST, -EINVAL (name, copies), -ENOSPC, text in e. */
int vol_create(struct pool *p, const char *name, const struct vol_options *o, struct err *e);
/* Destroy: gone at once, space comes back in background, resumed after a crash. ERR_IN_USE when
 * open. */
int vol_destroy(struct pool *p, const char *name, struct err *e);
/* Throw away: out of sight and not to be opened, but whole until the pool's retention has passed
 * (24 h unless set) or a full pool needs the space. Restore by name (the newest of that name) or id
 * (0: by name), optionally under another name. */
int vol_trash(struct pool *p, const char *name, struct err *e);
int vol_trash_restore(struct pool *p, const char *name, uint64_t id, const char *to, struct err *e);
/* Destroy what is in the trash: all (name NULL, id 0) or one. */
int vol_trash_empty(struct pool *p, const char *name, uint64_t id, unsigned *ret_count,
		    struct err *e);
struct vol_trash_info {
	char name[VOL_NAME_MAX + 1];
	uint64_t id, trashed_ns, expires_ns, used_bytes;
	enum vol_type type;
};
unsigned vol_trash_list(struct pool *p, struct vol_trash_info *ret_i, unsigned max);
/* Space of the pool that no other volume can take: reservation=. In bytes of data, one copy.
 * -ENOSPC when it is not there. */
int vol_set_reservation(struct pool *p, const char *name, uint64_t bytes, struct err *e);
/* Open counts references; the same name gives the same struct. -ENOENT. */
int vol_open(struct pool *p, const char *name, struct vol **ret_v, struct err *e);
void vol_close(struct vol *v); /* does not sync; NULL is fine */
void vol_info_get(struct vol *v, struct vol_info *ret_i);
/* The volume or snapshot of that name or, when that is NULL, with that id; not what is in the trash
 * or being destroyed. 0 or -ENOENT. */
int vol_info_find(struct pool *p, const char *name, uint64_t id, struct vol_info *ret_i);
/* Fill up to max infos sorted by name, returns how many there are. */
unsigned vol_list(struct pool *p, struct vol_info *ret_i, unsigned max);
/* Change one property; durable when it returns. compression, copies (for new data), owner_uid. */
int vol_set_compression(struct pool *p, const char *name, enum vol_compression c, struct err *e);
int vol_set_owner(struct pool *p, const char *name, uint32_t uid, struct err *e);
/* Change the policy: new data at once, older data in background (vol_compliance_get says how far).
 * -ENOSPC, -EINVAL. */
int vol_set_copies(struct pool *p, const char *name, uint8_t copies, struct err *e);
/* The same for the class of devices its data is kept on; "": any. Walks the volume. */
int vol_set_class(struct pool *p, const char *name, const char *class_name, struct err *e);
/* ---- snapshots; yield ---- */
/* Take snapshots "VOLUME@NAME", all of one moment, durable when it returns; O(1) each, one commit.
 * All or none. -EEXIST, -ENOENT, -EINVAL (name), -EIO (a device failed meanwhile), text in e.
 * vol_open() opens "VOLUME@NAME"; changes of it get ERR_READONLY. */
int vol_snapshot_create(struct pool *p, const char *const *names, unsigned n, struct err *e);
/* Gone at once; space comes back in background, resumed after a crash. ERR_IN_USE when open. */
int vol_snapshot_destroy(struct pool *p, const char *name, struct err *e);
struct vol_snapshot_info {
	char name[VOL_NAME_MAX + 1]; /* VOLUME@NAME */
	uint64_t id, created_ns, txn;
	uint64_t used_bytes, logical_bytes; /* of the volume then; shared with it and others */
	bool open;
};
/* Fill up to max infos, oldest first, of one volume or (NULL) all; returns how many there are. */
unsigned vol_snapshot_list(struct pool *p, const char *volume, struct vol_snapshot_info *ret_i,
			   unsigned max);
struct vol_compliance {
	uint64_t compliant_bytes; /* stored as the policy says, every copy current */
	uint64_t degraded_bytes;  /* right policy, but a copy is missing, stale or outside the class
				   */
	uint64_t other_policy_bytes; /* still to be rewritten */
	uint64_t needed_bytes; /* raw space the rewriting needs at most (what it frees comes on top)
				*/
};
/* Walks the volume: O(extents). Yields. */
int vol_compliance_get(struct vol *v, struct vol_compliance *ret_r);
int vol_rename(struct pool *p, const char *name, const char *to, struct err *e);
/* Block volumes: shrinking frees what lies behind; refused with -EBUSY text unless allow_shrink.
 * fs: the quota; 0: none. */
int vol_resize(struct pool *p, const char *name, uint64_t size_bytes, bool allow_shrink,
	       struct err *e);
/* Called (lock not held, on any reactor) when a volume's size changed. One listener per volume. */
void vol_on_resize(struct vol *v, void (*cb)(void *arg, uint64_t size_bytes), void *arg);

#endif
