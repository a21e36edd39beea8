/* Data of image files: open holds the volume; read, write, fallocate and seek go straight to it. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>
#include "fs/images.h"

static void resized(void *arg, uint64_t size_bytes)
{
	struct image *i = arg;

	atomic_store(&i->size_bytes, size_bytes);
	serve_inval_attr(i->im->s, i->ino);
}

/* Give the node its volume, unless another open was faster. */
static struct vol *image_attach(struct image *i, struct vol *v, const struct vol_info *info)
{
	struct images *im = i->im;
	struct vol *surplus = NULL;

	lock_take(&im->lock);
	if (i->vol) {
		surplus = v;
	} else {
		i->vol = v;
		atomic_store(&i->size_bytes, info->size_bytes);
	}
	i->opens++;
	im->opens++;
	lock_drop(&im->lock);
	return surplus;
}

static int image_open(struct images *im, uint64_t ino, struct image **ret_i)
{
	struct vol_info info;
	struct image *i;
	struct vol *v, *surplus;
	int r = images_find_volume(im, NULL, ino - IMAGES_FIRST, &info);

	if (r)
		return r == -ENOENT ? -ESTALE : r;
	lock_take(&im->lock);
	i = images_find(im, ino); /* the kernel holds a reference while it opens */
	lock_drop(&im->lock);
	if (!i)
		return -ESTALE;
	r = vol_open(im->pool, info.name, &v, NULL);
	if (r)
		return r;
	vol_info_get(v, &info);
	if (info.id + IMAGES_FIRST != ino) { /* another volume took the name */
		vol_close(v);
		return -ESTALE;
	}
	surplus = image_attach(i, v, &info);
	if (surplus)
		vol_close(surplus);
	else
		vol_on_resize(v, resized, i);
	*ret_i = i;
	return 0;
}

static void image_close(struct image *i)
{
	struct images *im = i->im;
	struct vol *v = NULL;
	uint64_t ino = i->ino;

	lock_take(&im->lock);
	im->opens--;
	if (!--i->opens) {
		v = i->vol;
		i->vol = NULL;
	}
	lock_drop(&im->lock);
	if (v) {
		vol_on_resize(v, NULL, NULL);
		vol_close(v);
	}
	images_forget_node(im, ino, 0);
}

static struct image *image_of(const struct fuse_file_info *fi)
{
	return (struct image *)(uintptr_t)fi->fh;
}

void images_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct serve *s = fuse_req_userdata(req);
	struct image *i;
	int r = 0;

	if (s->read_only && (fi->flags & O_ACCMODE) != O_RDONLY)
		r = -EROFS;
	if (!r)
		r = image_open(s->images, ino, &i);
	if (!r && i->snapshot && (fi->flags & O_ACCMODE) != O_RDONLY) {
		image_close(i);
		r = -EROFS;
	}
	if (r)
		reply_err(req, r);
	else if (reply_open(req, i, reply_fopen_flags(fi->flags)))
		image_close(i);
}

void images_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	image_close(image_of(fi));
	reply_err(req, 0);
}

void images_read(fuse_req_t req, fuse_ino_t ino, size_t len, off_t off, struct fuse_file_info *fi)
{
	struct fuse_rq *rq = serve_rq_current();
	struct image *i = image_of(fi);
	uint64_t size = atomic_load(&i->size_bytes);
	int r = 0;

	(void)ino;
	if (len > SERVE_WRITE_MAX)
		len = SERVE_WRITE_MAX;
	if ((uint64_t)off >= size)
		len = 0;
	else if (len > size - (uint64_t)off)
		len = size - (uint64_t)off;
	if (len)
		r = vol_read(i->vol, VOL_BLOCK_OBJECT, (uint64_t)off, len, rq->payload);
	if (r)
		reply_err(req, r);
	else
		fuse_reply_buf(req, (const char *)rq->payload, len);
}

/* Like a block device: what does not fit is cut off, and behind the end there is no space. */
void images_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t len, off_t off,
		  struct fuse_file_info *fi)
{
	struct image *i = image_of(fi);
	uint64_t size = atomic_load(&i->size_bytes);
	int r = 0;

	(void)ino;
	if ((uint64_t)off >= size)
		r = -ENOSPC;
	else if (len > size - (uint64_t)off)
		len = size - (uint64_t)off;
	if (!r)
		r = vol_write(i->vol, VOL_BLOCK_OBJECT, (uint64_t)off, len, buf, NULL, NULL);
	if (r)
		reply_err(req, r);
	else
		fuse_reply_write(req, len);
}

void images_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	(void)ino;
	(void)datasync;
	reply_err(req, vol_sync(image_of(fi)->vol));
}

static int image_fallocate(struct image *i, int mode, uint64_t off, uint64_t len)
{
	uint64_t size = atomic_load(&i->size_bytes);
	int r;

	if (i->im->s->read_only)
		return -EROFS;
	if (off >= size)
		return -ENOSPC;
	if (len > size - off) {
		if (!(mode & FALLOC_FL_KEEP_SIZE))
			return -ENOSPC; /* would have to grow */
		len = size - off;
	}
	switch (mode & ~FALLOC_FL_KEEP_SIZE) {
	case 0:
		return vol_reserve(i->vol, VOL_BLOCK_OBJECT, off, len, NULL, NULL);
	case FALLOC_FL_PUNCH_HOLE:
		return vol_punch(i->vol, VOL_BLOCK_OBJECT, off, len, NULL, NULL);
	case FALLOC_FL_ZERO_RANGE: /* as WRITE ZEROES without NOUNMAP: thin again */
		r = vol_punch(i->vol, VOL_BLOCK_OBJECT, off, len, NULL, NULL);
		return r;
	}
	return -EOPNOTSUPP;
}

void images_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
		      struct fuse_file_info *fi)
{
	(void)ino;
	reply_err(req, image_fallocate(image_of(fi), mode, (uint64_t)off, (uint64_t)len));
}

static int image_copy(struct image *in, uint64_t off_in, struct image *out, uint64_t off_out,
		      uint64_t len, uint64_t *ret_done)
{
	uint64_t size_in = atomic_load(&in->size_bytes), size = atomic_load(&out->size_bytes);
	int r;

	*ret_done = 0;
	if (out->im->s->read_only)
		return -EROFS;
	if (off_in >= size_in || !len)
		return 0;
	if (off_out >= size)
		return -ENOSPC;
	len = len < size_in - off_in ? len : size_in - off_in;
	len = len < size - off_out ? len : size - off_out;
	r = vol_clone_range(in->vol, VOL_BLOCK_OBJECT, off_in, out->vol, VOL_BLOCK_OBJECT, off_out,
			    len, NULL, NULL, ret_done);
	return *ret_done ? 0 : r;
}

/* Within an image, or from one volume to another: shared where it can be. */
void images_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
			    struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t off_out,
			    struct fuse_file_info *fi_out, size_t len, int flags)
{
	uint64_t done = 0;
	int r = flags ? -EINVAL : 0;

	(void)ino_in;
	(void)ino_out;
	if (!r)
		r = image_copy(image_of(fi_in), (uint64_t)off_in, image_of(fi_out),
			       (uint64_t)off_out, len < SERVE_COPY_MAX ? len : SERVE_COPY_MAX,
			       &done);
	if (r)
		reply_err(req, r);
	else
		fuse_reply_write(req, (size_t)done);
}

void images_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
	struct image *i = image_of(fi);
	uint64_t size = atomic_load(&i->size_bytes), at;
	int r;

	(void)ino;
	if ((uint64_t)off >= size)
		r = -ENXIO;
	else if (whence == SEEK_DATA)
		r = vol_seek_data(i->vol, VOL_BLOCK_OBJECT, (uint64_t)off, &at);
	else if (whence == SEEK_HOLE)
		r = vol_seek_hole(i->vol, VOL_BLOCK_OBJECT, (uint64_t)off, &at);
	else
		r = -EINVAL;
	if (!r && at >= size) {
		if (whence == SEEK_DATA)
			r = -ENXIO;
		at = size;
	}
	if (r)
		reply_err(req, r);
	else
		fuse_reply_lseek(req, (off_t)at);
}
