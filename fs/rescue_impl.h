/* rescue_impl: what the rescue files of fs/ share: the walk (rescue_fs.c), one inode
 * (rescue_file.c), sets of inode numbers (rescue_set.c). */
#ifndef TARN_FS_RESCUE_IMPL_H
#define TARN_FS_RESCUE_IMPL_H
#include <limits.h>
#include "fs/fs_item.h"
#include "fs/rescue_fs.h"

struct rescue_set { /* of numbers that are not 0, each with a text or NULL */
	struct rescue_entry {
		uint64_t n;
		char *text;
	} * slot;
	size_t count, size; /* size: 0 or a power of two */
};
bool rescue_set_has(const struct rescue_set *s, uint64_t n);
const char *rescue_set_text(const struct rescue_set *s, uint64_t n);
/* text is copied. 0, -EEXIST or -ENOMEM. */
int rescue_set_add(struct rescue_set *s, uint64_t n, const char *text);
void rescue_set_fini(struct rescue_set *s);

struct rescue_copy {
	struct rescue_view *v;
	struct rescue_cursor cur; /* of one inode's items */
	const struct rescue_fs_report *rep;
	struct rescue_fs_result *res;
	struct rescue_set made;	 /* inodes; with the path when there are more links to them */
	struct rescue_set named; /* inodes that some directory names */
	int root_fd;
	char path[PATH_MAX]; /* of the directory at work, relative; "" is the root */
	struct err *e;
	uint8_t value[FS_XATTR_VALUE_MAX];
};

/* The inode's attributes. -ENOENT: lost. */
int rescue_inode(struct rescue_copy *c, uint64_t ino, struct fs_attr *ret_a);
/* Make anything but a directory as name in dir_fd. -EEXIST: the name is taken. */
int rescue_make(struct rescue_copy *c, int dir_fd, const char *name, const struct fs_attr *a);
/* Owner, xattrs, mode, times. */
void rescue_attrs(struct rescue_copy *c, int dir_fd, const char *name, const struct fs_attr *a);
void rescue_damage(struct rescue_copy *c, const char *name, uint64_t ino, const char *what,
		   uint64_t off, uint64_t len);

#endif
