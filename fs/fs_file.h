/* fs_file: data of regular files: inline in the tree while small, else the volume's extents.
 *
 * A file starts inline (FS_INODE_INLINE) and leaves for good with the first write that ends behind
 * FS_INLINE_MAX, or a fallocate:
 *
 *   inode {inline, size}, INLINE item  --fs_file_leave_inline-->  inode {size}, extents
 *
 * in one step that is made only when the item still is what was read.
 */
#ifndef TARN_FS_FS_FILE_H
#define TARN_FS_FS_FILE_H
#include "fs/fs_tx.h"

/* The inline data into buf (FS_INLINE_MAX); no item: *ret_len 0. */
int fs_inline_get(struct fs_tx *t, uint64_t ino, uint8_t *buf, uint16_t *ret_len);
/* Move inline data to extents. 0 also when that was done before. Yields. */
int fs_file_leave_inline(struct fs_file *f);
/* What a write by an ordinary user does to set-uid and set-gid; sgid: to the latter always. */
void fs_kill_priv(struct fs_attr *a, bool sgid);

#endif
