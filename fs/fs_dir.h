/* fs_dir: entries of a directory, found by the keyed hash of their name.
 *
 * A name's home slot is its hash; when another name lives there it takes the next free slot of a
 * window of FS_HASH_WINDOW. Removal leaves holes: a search always looks at the whole window (one
 * seek finds the first item at or behind the home slot, nearly always the entry or a proof that
 * there is none).
 *
 * Lock: the pool's is held (all are parts of a vol_fn).
 */
#ifndef TARN_FS_FS_DIR_H
#define TARN_FS_FS_DIR_H
#include <errno.h>
#include "fs/fs_tx.h"

struct fs_dent {
	struct key key;
	uint64_t ino;
	uint8_t type;
};

/* -EINVAL, -ENAMETOOLONG, else 0 and the length. */
int fs_name_check(const char *name, size_t *ret_len);
/* 0, or -ENOENT and in *ret_free (may be NULL) the key a new entry of that name takes (object 0:
 * window full). */
int fs_dent_find(struct fs_tx *t, uint64_t dir, const char *name, size_t len, struct fs_dent *ret_d,
		 struct key *ret_free);
/* Would an entry of that name be found at that slot? */
bool fs_dent_placed(const uint8_t hash_key[16], const char *name, size_t len, uint64_t slot);
/* Is the directory empty? 0, -ENOTEMPTY, ERR_NEED_NODE. */
int fs_dent_none(struct fs_tx *t, uint64_t dir);
/* Account for an entry that comes or goes; damaged counts do not wrap. */
static inline void fs_dir_grow(struct fs_attr *dir, size_t name_len, bool is_dir)
{
	dir->size += FS_DIRENT_WEIGHT + name_len;
	dir->nlink += is_dir;
}
static inline void fs_dir_shrink(struct fs_attr *dir, size_t name_len, bool is_dir)
{
	uint64_t n = FS_DIRENT_WEIGHT + name_len;

	dir->size -= n < dir->size ? n : dir->size;
	dir->nlink -= is_dir && dir->nlink > 2;
}
/* Immutable and append-only inodes: may an entry come into dir / the one of i leave it? */
static inline int fs_dir_may_add(const struct fs_attr *dir)
{
	return dir->flags & FS_INODE_IMMUTABLE ? -EPERM : 0;
}
static inline int fs_dir_may_remove(const struct fs_attr *dir, const struct fs_attr *i)
{
	return (dir->flags | i->flags) & (FS_INODE_IMMUTABLE | FS_INODE_APPEND) ? -EPERM : 0;
}
static inline uint8_t fs_type_of_mode(uint32_t mode)
{
	return (uint8_t)(mode >> 12 & 15); /* DT_* are S_IFMT shifted */
}

#endif
