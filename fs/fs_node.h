/* fs_node: the inodes somebody refers to, in memory; and struct fs itself.
 *
 * A node exists while the kernel has looked its inode up (lookups) or a fs_file is open (opens).
 * It caches the decoded inode: `attr` is changed only by fs_tx_commit(), which runs under the
 * pool's lock, in the same step as the item, so the two always agree.
 *
 * Invariants:
 *  1. attr_valid: attr equals the inode item, unless dead;
 *  2. dead: the inode item is gone (or about to be, by the reaper); attr stays readable, changes to
 *     it stay in memory; it cannot be opened again;
 *  3. a node with lookups == 0 and opens == 0 is not in the table.
 *
 * Locks: fs->lock guards the table and every field; it nests inside the pool's lock and is never
 * held over a call to vol_*. size, is_inline, atime_due and no_caps are also used without it (hot
 * path).
 */
#ifndef TARN_FS_FS_NODE_H
#define TARN_FS_FS_NODE_H
#include <stdatomic.h>
#include "base/co.h"
#include "base/lock.h"
#include "fs/fs.h"

struct fs_node {
	uint64_t ino;
	uint64_t lookups, opens;
	uint64_t writers;	 /* opens that may write */
	uint64_t cached_writers; /* of these those that write to a cache above */
	bool attr_valid, dead;
	struct fs_attr attr;
	_Atomic uint64_t size;	   /* = attr.size */
	_Atomic bool is_inline;	   /* = attr.flags & FS_INODE_INLINE */
	_Atomic int64_t atime_due; /* from this second on a read sets atime (relatime) */
	_Atomic bool no_caps;	   /* it has no file capabilities, for sure */
	bool scattered;		   /* counting its blocks takes long: fs_blocks() */
	uint64_t blocks_told_ns; /* then: when those above were told to ask again; 0: ask them to */
	struct fs_node *hash_next;
};

struct fs_file {
	struct fs *fs;
	struct fs_node *node;			      /* pinned by node->opens */
	struct fs_file *prev, *next;		      /* fs->files */
	bool writer, cached_writer, direct, no_atime; /* how it was opened */
};

struct fs {
	struct vol *vol;
	struct fs_options o;
	uint8_t hash_key[16]; /* constant after fs_open */
	struct lock lock;
	struct fs_node **table;
	size_t table_size, node_count; /* size: power of two */
	uint64_t opens, orphans;
	struct fs_file *files; /* all that are open */
	/* the reaper (fs_orphan.c) */
	struct waitq reap_wait, reap_done;
	uint64_t *reap_queue;
	size_t reap_count, reap_max;
	bool reaper_running, stopping, scan_orphans;
	_Atomic bool any_scattered; /* some node was */
};

int fs_node_table_init(struct fs *fs);
void fs_node_table_fini(struct fs *fs);

/* All of these: fs->lock held. */
struct fs_node *fs_node_find(struct fs *fs, uint64_t ino);
/* Put *spare into the table when ino is not there yet (and set *spare to NULL). */
struct fs_node *fs_node_find_or_add(struct fs *fs, uint64_t ino, struct fs_node **spare);
/* Remove and free when nothing refers to it any more. */
void fs_node_drop_unused(struct fs *fs, struct fs_node *n);
void fs_node_cache(struct fs_node *n, const struct fs_attr *a);
/* Without the lock: does a read of n set its atime now? */
bool fs_node_atime_due(const struct fs *fs, const struct fs_node *n);
/* f opens n / is closed (n is not dropped yet). */
void fs_node_open(struct fs *fs, struct fs_node *n, struct fs_file *f);
void fs_node_close(struct fs_file *f);

#endif
