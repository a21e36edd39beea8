/* Inode flags, as chattr(1) and xfs_io(8) set them. The kernel checks the caller's rights, and
 * brings changes of one structure in the terms of the other.
 */
#include <errno.h>
#include <linux/fs.h>
#include "fs/fuse_reply.h"

struct flag {
	uint32_t inode, fs, x;
};
static const struct flag flags[] = {
	{FS_INODE_IMMUTABLE, FS_IMMUTABLE_FL, FS_XFLAG_IMMUTABLE},
	{FS_INODE_APPEND, FS_APPEND_FL, FS_XFLAG_APPEND},
	{FS_INODE_NODUMP, FS_NODUMP_FL, FS_XFLAG_NODUMP},
	{FS_INODE_NOATIME, FS_NOATIME_FL, FS_XFLAG_NOATIME},
};
#define FLAGS (sizeof(flags) / sizeof(flags[0]))

static void ioctl_get(fuse_req_t req, const struct fs_attr *a, bool x)
{
	struct fsxattr fx = {0};
	uint32_t bits = 0;

	for (size_t i = 0; i < FLAGS; i++)
		if (a->flags & flags[i].inode) {
			bits |= flags[i].fs;
			fx.fsx_xflags |= flags[i].x;
		}
	if (x)
		fuse_reply_ioctl(req, 0, &fx, sizeof(fx));
	else
		fuse_reply_ioctl(req, 0, &bits, sizeof(bits));
}

/* -EOPNOTSUPP: a flag that is not kept here. */
static int inode_flags(uint32_t bits, bool x, uint32_t *ret_flags)
{
	*ret_flags = 0;
	for (size_t i = 0; i < FLAGS; i++) {
		uint32_t bit = x ? flags[i].x : flags[i].fs;

		if (bits & bit)
			*ret_flags |= flags[i].inode;
		bits &= ~bit;
	}
	return bits ? -EOPNOTSUPP : 0;
}

static void ioctl_set(fuse_req_t req, fuse_ino_t ino, uint32_t bits, bool x)
{
	struct fs_setattr sa = {.set = FS_SET_FLAGS};
	struct fs_attr a;
	int r = inode_flags(bits, x, &sa.flags);

	if (!r)
		r = fs_setattr(fs_of(req), ino, &sa, &a);
	if (r) {
		reply_err(req, r);
		return;
	}
	serve_inval_attr(fuse_req_userdata(req), ino); /* the kernel does not think of ctime */
	fuse_reply_ioctl(req, 0, NULL, 0);
}

static void ioctl_set_x(fuse_req_t req, fuse_ino_t ino, const void *in, size_t size)
{
	struct fsxattr fx;

	if (size < sizeof(fx)) {
		reply_err(req, -EINVAL);
		return;
	}
	memcpy(&fx, in, sizeof(fx));
	if (fx.fsx_extsize || fx.fsx_projid || fx.fsx_cowextsize)
		reply_err(req, -EOPNOTSUPP);
	else
		ioctl_set(req, ino, fx.fsx_xflags, true);
}

void serve_tree_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned cmd, void *arg,
		      struct fuse_file_info *fi, unsigned ioctl_flags, const void *in,
		      size_t in_size, size_t out_size)
{
	uint32_t bits = 0, generation;
	struct fs_attr a = {0};
	int r = fs_getattr(fs_of(req), ino, &a);

	(void)arg;
	(void)fi;
	(void)ioctl_flags;
	(void)out_size;
	if (in_size >= sizeof(bits))
		memcpy(&bits, in, sizeof(bits));
	generation = (uint32_t)a.generation;
	if (r)
		reply_err(req, r);
	else if (cmd == FS_IOC_GETFLAGS || cmd == FS_IOC_FSGETXATTR)
		ioctl_get(req, &a, cmd == FS_IOC_FSGETXATTR);
	else if (cmd == FS_IOC_SETFLAGS && in_size >= sizeof(bits))
		ioctl_set(req, ino, bits, false);
	else if (cmd == FS_IOC_FSSETXATTR)
		ioctl_set_x(req, ino, in, in_size);
	else if (cmd == FS_IOC_GETVERSION)
		fuse_reply_ioctl(req, 0, &generation, sizeof(generation));
	else
		reply_err(req, -ENOTTY);
}
