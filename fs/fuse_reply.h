/* fuse_reply: replies in the kernel's own format, where libfuse 3.14's structs lack fields (open
 * flags). */
#ifndef TARN_FS_FUSE_REPLY_H
#define TARN_FS_FUSE_REPLY_H
#include "fs/fs.h"
#include "fs/fuse_serve.h"

/* The tree a request is for. */
static inline struct fs *fs_of(fuse_req_t req)
{
	return ((struct serve *)fuse_req_userdata(req))->fs;
}

#define REPLY_LONG_SEC 3600u /* this daemon is the only writer: the kernel may remember */

void reply_attr_fill(struct fuse_attr *o, const struct fs_attr *a, uint64_t sectors);
void reply_entry_fill(struct fuse_entry_out *o, const struct fs_attr *a, uint64_t sectors);
/* This and the next two: the attributes may be remembered for attr_sec. */
int reply_entry(fuse_req_t req, const struct fs_attr *a, uint64_t sectors, uint64_t attr_sec);
/* A name that does not exist, to be remembered for sec. */
int reply_no_entry(fuse_req_t req, uint64_t sec);
int reply_attr(fuse_req_t req, const struct fs_attr *a, uint64_t sectors, uint64_t attr_sec);
/* Statx: as above, and with the time of birth. */
int reply_statx(fuse_req_t req, const struct fs_attr *a, uint64_t sectors, uint64_t attr_sec);
int reply_open(fuse_req_t req, void *handle, uint32_t fopen_flags);
/* Any negative code as its errno. */
void reply_err(fuse_req_t req, int code);

/* Open flags for a file opened with `flags`: O_DIRECT goes straight through and in parallel;
 * others use the page cache and keep it. */
uint32_t reply_fopen_flags(int flags);

#endif
