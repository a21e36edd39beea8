/* The operations of a POSIX tree: each decodes, calls fs, and replies. Nothing is decided here. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include "fs/fuse_reply.h"

static struct fs_file *file_of(const struct fuse_file_info *fi)
{
	return (struct fs_file *)(uintptr_t)fi->fh;
}

static void tree_init(void *userdata, struct fuse_conn_info *conn)
{
	struct serve *s = userdata;
	unsigned want = FUSE_CAP_ASYNC_READ | FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_ASYNC_DIO |
			FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_READDIRPLUS |
			FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_CACHE_SYMLINKS |
			FUSE_CAP_EXPORT_SUPPORT | FUSE_CAP_EXPLICIT_INVAL_DATA |
			FUSE_CAP_DONT_MASK | FUSE_CAP_POSIX_ACL | FUSE_CAP_IOCTL_DIR;

	if (!s->no_writeback)
		want |= FUSE_CAP_WRITEBACK_CACHE;
	conn->want = conn->capable & want; /* no splice; locks are the kernel's own business */
	conn->max_write = SERVE_WRITE_MAX;
	conn->max_background = 256;
	conn->congestion_threshold = 192;
	conn->time_gran = 1;
	s->writeback = (conn->want & FUSE_CAP_WRITEBACK_CACHE) != 0;
}

static uint64_t attr_sec(bool brief)
{
	return brief ? FS_BLOCKS_SEC : REPLY_LONG_SEC;
}

/* Reply with an entry for which a lookup reference was taken; give it back when nobody hears. */
static void entry_reply(fuse_req_t req, const struct fs_attr *a)
{
	struct fs *fs = fs_of(req);
	uint64_t ino = a->ino, sectors;
	bool brief;
	int r = fs_blocks(fs, a, &sectors, &brief);

	if (r) {
		reply_err(req, r);
		fs_forget(fs, ino, 1);
	} else if (reply_entry(req, a, sectors, attr_sec(brief))) {
		fs_forget(fs, ino, 1);
	}
}

static void attr_reply(fuse_req_t req, const struct fs_attr *a, bool statx)
{
	uint64_t sectors;
	bool brief;
	int r = fs_blocks(fs_of(req), a, &sectors, &brief);

	if (r)
		reply_err(req, r);
	else if (statx)
		reply_statx(req, a, sectors, attr_sec(brief));
	else
		reply_attr(req, a, sectors, attr_sec(brief));
}

static void tree_lookup(fuse_req_t req, fuse_ino_t dir, const char *name)
{
	struct fs_attr a;
	int r = fs_lookup(fs_of(req), dir, name, &a);

	if (r == -ENOENT)
		reply_no_entry(req, REPLY_LONG_SEC);
	else if (r)
		reply_err(req, r);
	else
		entry_reply(req, &a);
}

static void tree_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n)
{
	fs_forget(fs_of(req), ino, n);
	fuse_reply_none(req);
}

static void tree_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *f)
{
	for (size_t i = 0; i < count; i++)
		fs_forget(fs_of(req), f[i].ino, f[i].nlookup);
	fuse_reply_none(req);
}

static void tree_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	bool statx = serve_rq_current()->opcode == SERVE_STATX;
	struct fs_attr a;
	int r = fs_getattr(fs_of(req), ino, &a);

	(void)fi;
	if (r)
		reply_err(req, r);
	else
		attr_reply(req, &a, statx);
}

_Static_assert((int)FS_SET_MODE == FATTR_MODE && (int)FS_SET_UID == FATTR_UID, "same bits");

static bool keeps_sgid(struct serve_caller c)
{
	return c.in_group || c.fsetid;
}

/* Set-gid on a file that its group may not run is cleared only by strangers to the group. */
static bool kills_sgid(fuse_req_t req, fuse_ino_t ino)
{
	struct fs_attr a;

	return !fs_getattr(fs_of(req), ino, &a) && (a.mode & (S_ISGID | S_IXGRP)) == S_ISGID &&
	       !keeps_sgid(serve_caller_get(req, a.gid));
}

static bool no_caps(fuse_req_t req, fuse_ino_t ino)
{
	size_t len;

	return fs_xattr_get(fs_of(req), ino, "security.capability", NULL, 0, &len) == -ENODATA;
}

/* Nothing is said: this is how the kernel wants privileges cleared, after it did its own checks, or
 * it is chown(2) without an owner, then with the time of it.
 */
static int setattr_of_nothing(fuse_req_t req, fuse_ino_t ino, bool chown, struct fs_setattr *sa)
{
	struct serve_caller c;
	struct fs_attr a;
	int r = fs_getattr(fs_of(req), ino, &a);
	bool sgid, clears;

	if (r)
		return r;
	c = serve_caller_get(req, a.gid);
	if (c.fsetid && no_caps(req, ino))
		chown = true; /* there is nothing else that it could mean */
	sgid = a.mode & S_ISGID && (a.mode & S_IXGRP || !keeps_sgid(c));
	clears = a.mode & S_ISUID || sgid;
	if (chown && clears && c.uid != a.uid && !c.fowner)
		return -EPERM;
	if (a.flags & FS_INODE_IMMUTABLE || (a.flags & FS_INODE_APPEND && clears))
		return -EPERM;
	sa->set |= FS_SET_KILL_CAPS;
	if (chown || !c.fsetid)
		sa->set |= FS_SET_KILL_PRIV | (sgid ? FS_SET_KILL_SGID : 0);
	return 0;
}

static void setattr_decode(const struct fuse_setattr_in *in, struct fs_setattr *sa)
{
	static const struct {
		unsigned fattr, set;
	} map[] = {
		{FATTR_MODE, FS_SET_MODE},
		{FATTR_UID, FS_SET_UID},
		{FATTR_GID, FS_SET_GID},
		{FATTR_SIZE, FS_SET_SIZE},
		{FATTR_ATIME, FS_SET_ATIME},
		{FATTR_MTIME, FS_SET_MTIME},
		{FATTR_CTIME, FS_SET_CTIME},
		{FATTR_ATIME_NOW, FS_SET_ATIME_NOW},
		{FATTR_MTIME_NOW, FS_SET_MTIME_NOW},
		{FATTR_KILL_SUIDGID, FS_SET_KILL_PRIV},
	};

	*sa = (struct fs_setattr){
		.mode = in->mode,
		.uid = in->uid,
		.gid = in->gid,
		.size = in->size,
		.atime = {(time_t)in->atime, in->atimensec},
		.mtime = {(time_t)in->mtime, in->mtimensec},
		.ctime = {(time_t)in->ctime, in->ctimensec},
	};
	for (unsigned i = 0; i < sizeof(map) / sizeof(map[0]); i++)
		if (in->valid & map[i].fattr)
			sa->set |= map[i].set;
}

static void tree_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int to_set,
			 struct fuse_file_info *fi)
{
	const struct fuse_setattr_in *in = (const void *)(serve_rq_current()->in + 1);
	struct fs_setattr sa;
	struct fs_attr a;
	int r = 0;

	(void)st;
	(void)to_set;
	(void)fi;
	setattr_decode(in, &sa);
	if (sa.set & FS_SET_KILL_PRIV && kills_sgid(req, ino))
		sa.set |= FS_SET_KILL_SGID;
	if (!(sa.set & ~(unsigned)FS_SET_CTIME))
		r = setattr_of_nothing(req, ino, sa.set, &sa);
	if (!r)
		r = fs_setattr(fs_of(req), ino, &sa, &a);
	if (r)
		reply_err(req, r);
	else
		attr_reply(req, &a, false);
}

static void tree_readlink(fuse_req_t req, fuse_ino_t ino)
{
	char *buf = (char *)serve_rq_current()->payload;
	int r = fs_readlink(fs_of(req), ino, buf);

	if (r)
		reply_err(req, r);
	else
		fuse_reply_readlink(req, buf);
}

static void make(fuse_req_t req, fuse_ino_t dir, const char *name, struct fs_make *m)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct fs_attr a;
	int r;

	m->uid = ctx->uid;
	m->gid = ctx->gid;
	m->umask = ctx->umask;
	r = fs_make(fs_of(req), dir, name, m, &a, NULL);
	if (r)
		reply_err(req, r);
	else
		entry_reply(req, &a);
}

static void tree_mknod(fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode, dev_t rdev)
{
	struct fs_make m = {.mode = mode, .rdev = rdev};

	make(req, dir, name, &m);
}

static void tree_mkdir(fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode)
{
	struct fs_make m = {.mode = S_IFDIR | (mode & 07777)};

	make(req, dir, name, &m);
}

static void tree_symlink(fuse_req_t req, const char *target, fuse_ino_t dir, const char *name)
{
	struct fs_make m = {.mode = S_IFLNK | 0777, .target = target};

	make(req, dir, name, &m);
}

static void tree_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t dir, const char *name)
{
	struct fs_attr a;
	int r = fs_link(fs_of(req), ino, dir, name, &a);

	if (r)
		reply_err(req, r);
	else
		entry_reply(req, &a);
}

static void tree_unlink(fuse_req_t req, fuse_ino_t dir, const char *name)
{
	reply_err(req, fs_unlink(fs_of(req), dir, name));
}

static void tree_rmdir(fuse_req_t req, fuse_ino_t dir, const char *name)
{
	reply_err(req, fs_rmdir(fs_of(req), dir, name));
}

static void tree_rename(fuse_req_t req, fuse_ino_t dir, const char *name, fuse_ino_t to_dir,
			const char *to_name, unsigned int flags)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	reply_err(req,
		  fs_rename(fs_of(req), dir, name, to_dir, to_name, flags, ctx->uid, ctx->gid));
}

static void tree_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	const struct fuse_open_in *in = (const void *)(serve_rq_current()->in + 1);
	bool writes = (fi->flags & O_ACCMODE) != O_RDONLY;
	struct fs_setattr sa = {.set = FS_SET_SIZE};
	struct fs *fs = fs_of(req);
	int flags = fi->flags;
	struct fs_file *f;
	struct fs_attr a;
	int r;

	if (in->open_flags & FUSE_OPEN_KILL_SUIDGID)
		sa.set |= FS_SET_KILL_PRIV | (kills_sgid(req, ino) ? FS_SET_KILL_SGID : 0);
	r = fs_file_open(fs, ino, &f);
	if (r) {
		reply_err(req, r);
		return;
	}
	r = fs_file_may_open(f, fi->flags);
	if (!r && fi->flags & O_TRUNC)
		r = fs_setattr(fs, ino, &sa, &a);
	/* file capabilities must go with the first write, not some time later */
	if (!r && writes && fs_file_may_have_caps(f) && !no_caps(req, ino))
		flags |= O_DIRECT;
	if (!r)
		fs_file_set_flags(f, flags);
	if (r)
		reply_err(req, r);
	if (r || reply_open(req, f, reply_fopen_flags(flags)))
		fs_file_close(f);
}

static void tree_create(fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode,
			struct fuse_file_info *fi)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct fs_make m = {.mode = S_IFREG | (mode & 07777),
			    .umask = ctx->umask,
			    .uid = ctx->uid,
			    .gid = ctx->gid};
	struct {
		struct fuse_entry_out e;
		struct fuse_open_out o;
	} out;
	struct fs *fs = fs_of(req);
	struct fs_file *f;
	struct fs_attr a;
	int r;

	if (serve_rq_current()->opcode == FUSE_TMPFILE)
		r = fs_make_tmpfile(fs, dir, &m, &a, &f);
	else
		r = fs_make(fs, dir, name, &m, &a, &f);
	if (r) {
		reply_err(req, r);
		return;
	}
	fs_file_set_flags(f, fi->flags);
	reply_entry_fill(&out.e, &a, 0);
	out.o = (struct fuse_open_out){.fh = (uintptr_t)f,
				       .open_flags = reply_fopen_flags(fi->flags)};
	if (fuse_reply_buf(req, (const char *)&out, sizeof(out))) {
		fs_forget(fs, a.ino, 1);
		fs_file_close(f);
	}
}

static void tree_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	fs_file_close(file_of(fi));
	reply_err(req, 0);
}

static void tree_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		      struct fuse_file_info *fi)
{
	struct serve *s = fuse_req_userdata(req);
	struct fuse_rq *rq = serve_rq_current();
	struct fs_file *f = file_of(fi);
	uint32_t n;
	int r;

	if (size > SERVE_WRITE_MAX)
		size = SERVE_WRITE_MAX;
	r = fs_read(f, (uint64_t)off, (uint32_t)size, rq->payload, &n);
	/* What the kernel holds behind our end would make this a hole, not the end. (Reads into the
	 * cache are no such case: for them the kernel knows.) */
	if (!r && n < size && s->writeback && fs_file_may_be_longer(f)) {
		r = serve_write_back(rq, ino); /* an error is better than an end that is none */
		if (!r)
			r = fs_read(f, (uint64_t)off, (uint32_t)size, rq->payload, &n);
	}
	if (r)
		reply_err(req, r);
	else
		fuse_reply_buf(req, (const char *)rq->payload, n);
}

static void tree_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
		       struct fuse_file_info *fi)
{
	const struct fuse_write_in *in = (const void *)(serve_rq_current()->in + 1);
	const struct serve *s = fuse_req_userdata(req);
	unsigned flags = 0;
	int r;

	(void)ino;
	if (in->write_flags & FUSE_WRITE_CACHE && s->writeback)
		flags |= FS_WRITE_CACHED;
	if (in->write_flags & FUSE_WRITE_KILL_SUIDGID)
		flags |= FS_WRITE_KILL_PRIV | (kills_sgid(req, ino) ? FS_WRITE_KILL_SGID : 0);
	r = fs_write(file_of(fi), (uint64_t)off, (uint32_t)size, buf, flags);
	if (r)
		reply_err(req, r);
	else
		fuse_reply_write(req, size);
}

static void tree_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct serve *s = fuse_req_userdata(req);

	(void)datasync;
	/* The kernel goes on showing the allocated blocks it knew before it wrote its cache back.
	 */
	if (s->writeback && fs_file_blocks_due(file_of(fi)))
		serve_inval_attr(s, ino);
	reply_err(req, fs_sync(s->fs));
}

static void tree_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	(void)ino;
	(void)datasync;
	(void)fi;
	reply_err(req, fs_sync(fs_of(req)));
}

static void tree_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct statvfs st;
	int r = fs_statfs(fs_of(req), &st);

	(void)ino;
	if (r)
		reply_err(req, r);
	else
		fuse_reply_statfs(req, &st);
}

static void tree_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
			   struct fuse_file_info *fi)
{
	(void)ino;
	reply_err(req, fs_fallocate(file_of(fi), mode, (uint64_t)off, (uint64_t)len));
}

/* The kernel has written back what it cached of both ranges. */
static void tree_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
				 struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t off_out,
				 struct fuse_file_info *fi_out, size_t len, int flags)
{
	uint64_t done = 0;
	int r = flags ? -EINVAL : 0;

	(void)ino_in;
	(void)ino_out;
	if (len > SERVE_COPY_MAX)
		len = SERVE_COPY_MAX;
	if (!r)
		r = fs_clone_range(file_of(fi_in), (uint64_t)off_in, file_of(fi_out),
				   (uint64_t)off_out, len, &done);
	if (r)
		reply_err(req, r);
	else
		fuse_reply_write(req, (size_t)done);
}

static void tree_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence,
		       struct fuse_file_info *fi)
{
	struct serve *s = fuse_req_userdata(req);
	struct fuse_rq *rq = serve_rq_current();
	uint64_t at;
	int r = 0;

	/* What the kernel has not written back yet would look like a hole here. */
	if (s->writeback && fs_file_has_writer(file_of(fi)))
		r = serve_write_back(rq, ino);
	if (!r)
		r = fs_seek(file_of(fi), (uint64_t)off, whence, &at);
	if (r)
		reply_err(req, r);
	else
		fuse_reply_lseek(req, (off_t)at);
}

/* ENOSYS: the kernel opens directories by itself from now on and caches what it read of them. */
static void tree_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	(void)fi;
	fuse_reply_err(req, ENOSYS);
}

const struct fuse_lowlevel_ops serve_tree_ops = {
	.init = tree_init,
	.lookup = tree_lookup,
	.forget = tree_forget,
	.forget_multi = tree_forget_multi,
	.getattr = tree_getattr,
	.setattr = tree_setattr,
	.readlink = tree_readlink,
	.mknod = tree_mknod,
	.mkdir = tree_mkdir,
	.symlink = tree_symlink,
	.link = tree_link,
	.unlink = tree_unlink,
	.rmdir = tree_rmdir,
	.rename = tree_rename,
	.open = tree_open,
	.create = tree_create,
	.release = tree_release,
	.read = tree_read,
	.write = tree_write,
	.fsync = tree_fsync,
	.opendir = tree_opendir,
	.readdir = serve_tree_readdir,
	.readdirplus = serve_tree_readdirplus,
	.fsyncdir = tree_fsyncdir,
	.statfs = tree_statfs,
	.setxattr = serve_tree_setxattr,
	.getxattr = serve_tree_getxattr,
	.listxattr = serve_tree_listxattr,
	.removexattr = serve_tree_removexattr,
	.ioctl = serve_tree_ioctl,
	.fallocate = tree_fallocate,
	.lseek = tree_lseek,
	.copy_file_range = tree_copy_file_range,
};
