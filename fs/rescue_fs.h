/* rescue_fs: copy the tree of a rescued file-system volume into a directory.
 *
 * Names, types, modes, owners, times, hard and symbolic links, devices, extended attributes and
 * data. What no directory names any more goes to lost+found/INODE; so does what lies deeper than
 * RESCUE_DEPTH_MAX. A damaged file is made as far as it goes, with holes for what is lost.
 *
 * Untrusted: names are checked and looked up relative to an open directory, nothing is followed and
 * nothing replaced; an inode is copied once, loops end there. Memory: about 20 bytes per inode,
 * more for hard-linked ones. Yields (see pool/rescue.h); writes to the target block.
 */
#ifndef TARN_FS_RESCUE_FS_H
#define TARN_FS_RESCUE_FS_H
#include "pool/rescue.h"

#define RESCUE_DEPTH_MAX 256u

struct rescue_fs_report {
	/* One damaged file: what, and of data where. path is relative to the target. */
	void (*damage)(void *arg, const char *path, uint64_t ino, const char *what, uint64_t off,
		       uint64_t len);
	void (*progress)(void *arg, uint64_t inodes, uint64_t bytes);
	void *arg;
};
struct rescue_fs_result {
	uint64_t files, directories, links,
		others; /* made; links: symbolic and further hard ones */
	uint64_t good_bytes, lost_bytes;
	uint64_t damaged;    /* files and directories of which something is missing */
	uint64_t lost_found; /* put into lost+found */
	uint64_t unset;	     /* attributes that the target did not take */
};

/* dir_fd: an empty directory, which becomes the root of the tree. 0, or the first failure of the
 * target (full, read-only) with text. */
int rescue_fs_copy(struct rescue_view *v, int dir_fd, const struct rescue_fs_report *rep,
		   struct rescue_fs_result *ret_r, struct err *e);

#endif
