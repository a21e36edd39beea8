/* fs_orphan: inodes without a name: their last moments.
 *
 * When the last name goes, fs_orphan_or_del() decides within that very change: an inode without
 * data, without xattrs and not open is deleted at once; any other gets an ORPHAN item and is
 * reaped when it is not open: small ones by the request that drops them (so that the space is
 * back when unlink or close returns), big ones by the reaper, a coroutine that also takes up what
 * a crash left.
 *
 * Reaping: xattrs in bounded steps -> vol_punch of all data -> (in its last step) inode and ORPHAN
 * item. A crash anywhere leaves the ORPHAN item: it is done again.
 */
#ifndef TARN_FS_FS_ORPHAN_H
#define TARN_FS_FS_ORPHAN_H
#include "fs/fs_tx.h"

/* Part of a change, nlink of i has just become 0: stage its deletion or its ORPHAN item. true: call
 * fs_orphan_made(ino) after the change. */
bool fs_orphan_or_del(struct fs_tx *t, struct fs_tx_inode *i);
/* After the change that made it an orphan. Yields. */
void fs_orphan_made(struct fs *fs, uint64_t ino, uint64_t size);
/* After an orphan's last close. Yields. */
void fs_orphan_closed(struct fs *fs, uint64_t ino, uint64_t size);

/* Start the reaper with what a crash left. 0 or -ENOMEM. */
int fs_reaper_start(struct fs *fs);
/* Ask it to end after its step, and wait. Yields. */
void fs_reaper_stop(struct fs *fs);

#endif
