/* fs_xattr: extended attributes as parts of a change.
 *
 * Lock: the pool's is held (all are parts of a vol_fn) and all may return ERR_NEED_NODE. They know
 * nothing of permissions and times.
 */
#ifndef TARN_FS_FS_XATTR_H
#define TARN_FS_FS_XATTR_H
#include "fs/fs_tx.h"

/* What a program may do by being run. Writing, and a new owner, take it away. */
#define FS_XATTR_CAPS "security.capability"

/* size 0: only *ret_len. -ENODATA, -ERANGE, ERR_FORMAT. */
int fs_xattr_tx_get(struct fs_tx *t, const struct fs_attr *a, const char *name, void *buf,
		    size_t size, size_t *ret_len);
/* flags: XATTR_CREATE, XATTR_REPLACE. value, and item (NODE_VALUE_MAX bytes, filled in here), are
 * read by the commit. -EEXIST, -ENODATA, -ENOSPC. */
int fs_xattr_tx_set(struct fs_tx *t, struct fs_tx_inode *i, const char *name, const void *value,
		    size_t len, int flags, uint8_t *item);
/* -ENODATA. */
int fs_xattr_tx_del(struct fs_tx *t, struct fs_tx_inode *i, const char *name);
/* Take file capabilities away, if there are any. */
int fs_xattr_tx_drop_caps(struct fs_tx *t, struct fs_tx_inode *i);

#endif
