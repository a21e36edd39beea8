/* fs_tx: the changes of one operation, staged, then applied together.
 *
 * Lives inside one run of a vol_fn: load inodes, look at items, stage puts and deletes, then
 * fs_tx_commit(): prepares every key first and only then changes, so the vol_fn can be run again
 * after ERR_NEED_NODE at any place before. Commit also brings the cached attributes of the nodes
 * touched up to date. A vol_fn must not fail after fs_tx_commit() returned 0.
 *
 *   fs_tx_init -> fs_tx_inode(dir) -> edit ->put/fs_tx_del ... -> fs_tx_commit
 *                     any of these may return ERR_NEED_NODE: pass it on
 *
 * Lock: the pool's is held. Staged values stay the caller's memory until commit.
 */
#ifndef TARN_FS_FS_TX_H
#define TARN_FS_FS_TX_H
#include "fs/fs_item.h"
#include "fs/fs_node.h"

#define FS_TX_INODES 6u
#define FS_TX_OPS    64u

struct fs_tx_inode {
	struct fs_attr a; /* edit, then set dirty */
	bool dirty, del;
	bool dead; /* no item any more: changes stay in memory */
};
struct fs_tx_op {
	struct key key;
	const void *value;
	uint16_t len;
	bool del;
};
struct fs_tx {
	struct fs *fs;
	struct vol *v;
	struct timespec now;
	unsigned inodes, ops;
	struct fs_tx_inode inode[FS_TX_INODES];
	struct fs_tx_op op[FS_TX_OPS];
	struct fs_inode_disk disk[FS_TX_INODES];
};

void fs_tx_init(struct fs_tx *t, struct fs *fs);
/* The inode, from the node's cache or the tree. -ESTALE: there is none. */
int fs_tx_inode(struct fs_tx *t, uint64_t ino, struct fs_tx_inode **ret_i);
/* As above, for a directory in which a name is looked up or changed: -ENOTDIR, -ENOENT when
 * removed. */
int fs_tx_dir(struct fs_tx *t, uint64_t ino, struct fs_tx_inode **ret_i);
/* A new inode to be written: all zero but ino, times and generation. */
struct fs_tx_inode *fs_tx_inode_new(struct fs_tx *t, uint64_t ino);
void fs_tx_put(struct fs_tx *t, struct key k, const void *value, uint16_t len);
/* Deleting what is not there is fine. */
void fs_tx_del(struct fs_tx *t, struct key k);
int fs_tx_commit(struct fs_tx *t);

/* A read happened: atime to now. A full pool must stay readable: no error. Yields. */
void fs_atime_set(struct fs *fs, uint64_t ino);
/* The same for a directory or symlink, when it is due. */
void fs_atime_read(struct fs *fs, uint64_t ino, bool is_dir);

/* mtime and ctime to now; dirty. */
void fs_tx_touch(struct fs_tx *t, struct fs_tx_inode *i);

#endif
