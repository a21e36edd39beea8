/* images: what images.c (names and nodes) and images_file.c (data) share. */
#ifndef TARN_FS_IMAGES_H
#define TARN_FS_IMAGES_H
#include "fs/fuse_reply.h"

#define IMAGES_FIRST 16u /* node ids below are the directory's */

struct image { /* a node the kernel knows */
	struct images *im;
	uint64_t ino;
	char name[VOL_NAME_MAX + 1];
	bool snapshot; /* read-only */
	uint64_t lookups, opens;
	struct vol *vol; /* while opens > 0 */
	_Atomic uint64_t size_bytes;
	struct image *next;
};

struct images {
	struct pool *pool;
	struct serve *s;
	struct lock lock;
	struct image *list; /* few: as many as volumes looked at */
	uint64_t opens;
	time_t started;
};

/* The node, when the kernel knows it. Lock held. */
struct image *images_find(struct images *im, uint64_t ino);
/* Drop n references; free the node when none is left and it is not open. */
void images_forget_node(struct images *im, uint64_t ino, uint64_t n);
/* A block volume or a snapshot of one by name, or when that is NULL by id. -ENOENT. */
int images_find_volume(struct images *im, const char *name, uint64_t id, struct vol_info *ret_i);

void images_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void images_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void images_read(fuse_req_t req, fuse_ino_t ino, size_t len, off_t off, struct fuse_file_info *fi);
void images_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t len, off_t off,
		  struct fuse_file_info *fi);
void images_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void images_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
		      struct fuse_file_info *fi);
void images_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
			    struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t off_out,
			    struct fuse_file_info *fi_out, size_t len, int flags);
void images_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi);

#endif
