/* Extended attributes: decode, call fs, reply. */
#include "fs/fuse_reply.h"

void serve_tree_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
			 size_t size, int flags)
{
	if (serve_rq_current()->xattr_flags & FUSE_SETXATTR_ACL_KILL_SGID)
		flags |= FS_XATTR_KILL_SGID;
	reply_err(req, fs_xattr_set(fs_of(req), ino, name, value, size, flags));
}

static void xattr_reply(fuse_req_t req, int r, const char *buf, size_t size, size_t len)
{
	if (r)
		reply_err(req, r);
	else if (size)
		fuse_reply_buf(req, buf, len);
	else
		fuse_reply_xattr(req, len);
}

void serve_tree_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	/* the name lies before the payload: it fits there, and stays valid */
	char *buf = (char *)serve_rq_current()->payload + 4096;
	size_t len = 0;
	int r = fs_xattr_get(fs_of(req), ino, name, buf,
			     size < FS_XATTR_VALUE_MAX ? size : FS_XATTR_VALUE_MAX, &len);

	xattr_reply(req, r, buf, size, len);
}

/* The trusted namespace shows only to who may use it. */
static bool shows_trusted(fuse_req_t req, fuse_ino_t ino)
{
	size_t all, others;

	return !fs_xattr_list(fs_of(req), ino, true, NULL, 0, &all) &&
	       !fs_xattr_list(fs_of(req), ino, false, NULL, 0, &others) && all != others &&
	       serve_caller_get(req, 0).sys_admin;
}

void serve_tree_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	char *buf = (char *)serve_rq_current()->payload;
	bool trusted = shows_trusted(req, ino);
	size_t len = 0;
	int r = fs_xattr_list(fs_of(req), ino, trusted, buf,
			      size < SERVE_WRITE_MAX ? size : SERVE_WRITE_MAX, &len);

	xattr_reply(req, r, buf, size, len);
}

void serve_tree_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	reply_err(req, fs_xattr_remove(fs_of(req), ino, name));
}
