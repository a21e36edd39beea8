/* fs_acl: POSIX access control lists. The kernel checks them; here they are kept, inherited, and
 * held in agreement with the mode.
 *
 * An ACL is an xattr of the kernel's form: a head of 4 bytes, then 8 bytes for each entry. Kept is
 * only one that says more than a mode can, so most inodes have none.
 *
 * Invariant: the permissions of the mode are those of the access ACL's owner, mask and others.
 *
 * Lock: the pool's is held (all are parts of a vol_fn) and all may return ERR_NEED_NODE.
 */
#ifndef TARN_FS_FS_ACL_H
#define TARN_FS_FS_ACL_H
#include "fs/fs_tx.h"

#define FS_ACL_ACCESS	 "system.posix_acl_access"
#define FS_ACL_DEFAULT	 "system.posix_acl_default"
#define FS_ACL_BYTES_MAX 4096u

/* Memory of an ACL that a change sets; stays until its commit. */
struct fs_acl_space {
	uint8_t value[FS_ACL_BYTES_MAX];
	uint8_t item[NODE_VALUE_MAX];
};

/* Is this the name of an ACL? */
bool fs_acl_is(const char *name);
/* Set or, without entries, remove an ACL as a user wants it: an access ACL sets the mode. flags as
 * of fs_xattr_set. -EINVAL: malformed, -EACCES: a default ACL for no directory. */
int fs_acl_tx_set(struct fs_tx *t, struct fs_tx_inode *i, const char *name, const void *value,
		  size_t len, int flags, uint8_t *item);
/* i's mode was changed: so its access ACL, if it has one. */
int fs_acl_tx_chmod(struct fs_tx *t, struct fs_tx_inode *i, struct fs_acl_space *s);
/* i is new in dir: it gets what dir's default ACL says, and without one its mode less umask.
 * access and def: of i; not used, and may be NULL, when dir has no xattrs. */
int fs_acl_tx_inherit(struct fs_tx *t, const struct fs_attr *dir, struct fs_tx_inode *i,
		      uint32_t umask, struct fs_acl_space *access, struct fs_acl_space *def);

#endif
