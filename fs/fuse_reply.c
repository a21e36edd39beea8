#include "fs/fuse_reply.h"
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#ifndef FOPEN_PARALLEL_DIRECT_WRITES
#define FOPEN_PARALLEL_DIRECT_WRITES (1u << 6)
#endif

/* ---- the kernel's interface, absent from older headers ---- */
struct statx_time {
	int64_t sec;
	uint32_t nsec;
	int32_t reserved;
};
struct statx_out {
	uint64_t attr_valid;
	uint32_t attr_valid_nsec, flags;
	uint64_t spare[2];
	struct {
		uint32_t mask, blksize;
		uint64_t attributes;
		uint32_t nlink, uid, gid;
		uint16_t mode, spare;
		uint64_t ino, size, blocks, attributes_mask;
		struct statx_time atime, btime, ctime, mtime;
		uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
		uint64_t spare2[14];
	} stat;
};
_Static_assert(sizeof(struct statx_out) == 32 + 256, "the kernel's layout");

void reply_attr_fill(struct fuse_attr *o, const struct fs_attr *a, uint64_t sectors)
{
	*o = (struct fuse_attr){
		.ino = a->ino,
		.size = a->size,
		.blocks = sectors,
		.atime = (uint64_t)a->atime.tv_sec,
		.atimensec = (uint32_t)a->atime.tv_nsec,
		.mtime = (uint64_t)a->mtime.tv_sec,
		.mtimensec = (uint32_t)a->mtime.tv_nsec,
		.ctime = (uint64_t)a->ctime.tv_sec,
		.ctimensec = (uint32_t)a->ctime.tv_nsec,
		.mode = a->mode,
		.nlink = a->nlink,
		.uid = a->uid,
		.gid = a->gid,
		.rdev = (uint32_t)a->rdev,
		.blksize = 4096,
	};
}

void reply_entry_fill(struct fuse_entry_out *o, const struct fs_attr *a, uint64_t sectors)
{
	*o = (struct fuse_entry_out){
		.nodeid = a->ino,
		.generation = a->generation,
		.entry_valid = REPLY_LONG_SEC,
		.attr_valid = REPLY_LONG_SEC,
	};
	reply_attr_fill(&o->attr, a, sectors);
}

int reply_entry(fuse_req_t req, const struct fs_attr *a, uint64_t sectors, uint64_t attr_sec)
{
	struct fuse_entry_out o;

	reply_entry_fill(&o, a, sectors);
	o.attr_valid = attr_sec;
	return fuse_reply_buf(req, (const char *)&o, sizeof(o));
}

int reply_no_entry(fuse_req_t req, uint64_t sec)
{
	struct fuse_entry_out o = {.entry_valid = sec};

	return fuse_reply_buf(req, (const char *)&o, sizeof(o));
}

int reply_attr(fuse_req_t req, const struct fs_attr *a, uint64_t sectors, uint64_t attr_sec)
{
	struct fuse_attr_out o = {.attr_valid = attr_sec};

	reply_attr_fill(&o.attr, a, sectors);
	return fuse_reply_buf(req, (const char *)&o, sizeof(o));
}

static struct statx_time time_of(const struct timespec *t)
{
	return (struct statx_time){.sec = t->tv_sec, .nsec = (uint32_t)t->tv_nsec};
}

int reply_statx(fuse_req_t req, const struct fs_attr *a, uint64_t sectors, uint64_t attr_sec)
{
	struct statx_out o = {.attr_valid = attr_sec,
			      .stat = {
				      .mask = STATX_BASIC_STATS | STATX_BTIME,
				      .blksize = 4096,
				      .nlink = a->nlink,
				      .uid = a->uid,
				      .gid = a->gid,
				      .mode = (uint16_t)a->mode,
				      .ino = a->ino,
				      .size = a->size,
				      .blocks = sectors,
				      .atime = time_of(&a->atime),
				      .btime = time_of(&a->btime),
				      .ctime = time_of(&a->ctime),
				      .mtime = time_of(&a->mtime),
				      .rdev_major = major(a->rdev),
				      .rdev_minor = minor(a->rdev),
			      }};

	return fuse_reply_buf(req, (const char *)&o, sizeof(o));
}

int reply_open(fuse_req_t req, void *handle, uint32_t fopen_flags)
{
	struct fuse_open_out o = {.fh = (uintptr_t)handle, .open_flags = fopen_flags};

	return fuse_reply_buf(req, (const char *)&o, sizeof(o));
}

void reply_err(fuse_req_t req, int code)
{
	fuse_reply_err(req, code ? err_errno(code) : 0);
}

/* Why not FOPEN_DIRECT_IO for all, or for none: without it the kernel writes O_DIRECT requests of
 * one file one after the other (under the inode's lock); with it readers lose the page cache and
 * shared mmap. The kernel keeps the two kinds of open files of one inode coherent. */
uint32_t reply_fopen_flags(int flags)
{
	if (flags & O_DIRECT)
		return FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES;
	return FOPEN_KEEP_CACHE | FOPEN_NOFLUSH;
}
