/* A flat directory with one file per block volume of a pool.
 *
 * Snapshots are there under their names, VOLUME@NAME, read-only; the directory does not list them,
 * since there may be very many and who copies all images does not mean them.
 *
 * Node 1 is the directory; a file's node id is its volume's id + IMAGES_FIRST. A node remembers
 * the name its volume had when it was looked up; names expire after a second, attributes at once,
 * so that volumes appear, vanish and change names under the kernel's eyes. While a file is open it
 * holds a reference to its volume, one per node (vol_on_resize has room for one listener).
 *
 * No kernel writeback cache here: with it the kernel would not believe a changed size. Files opened
 * with O_DIRECT (qemu cache=none, losetup --direct-io) go straight through and in parallel, others
 * use the page cache, written through.
 *
 * Locks: images->lock guards the table; never held over vol_*.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include "fs/images.h"

#define NAME_SEC 1u /* how long the kernel may believe a name */
#define SECTOR	 512u

int images_create(struct pool *p, struct serve *s, struct images **ret_i)
{
	struct images *im = calloc(1, sizeof(*im));

	if (!im)
		return -ENOMEM;
	im->pool = p;
	im->s = s;
	im->started = time(NULL);
	lock_init(&im->lock);
	*ret_i = im;
	return 0;
}

void images_stop(struct images *im)
{
	for (struct image *i = im->list; i; i = i->next)
		if (i->vol) {
			vol_on_resize(i->vol, NULL, NULL);
			vol_close(i->vol);
			i->vol = NULL;
		}
}

void images_destroy(struct images *im)
{
	if (!im)
		return;
	while (im->list) {
		struct image *i = im->list;

		im->list = i->next;
		free(i);
	}
	lock_fini(&im->lock);
	free(im);
}

uint64_t images_open_count(struct images *im)
{
	uint64_t n;

	lock_take(&im->lock);
	n = im->opens;
	lock_drop(&im->lock);
	return n;
}

static struct images *images_of(fuse_req_t req)
{
	return ((struct serve *)fuse_req_userdata(req))->images;
}

/* Lock held. */
struct image *images_find(struct images *im, uint64_t ino)
{
	struct image *i = im->list;

	while (i && i->ino != ino)
		i = i->next;
	return i;
}

/* All volumes, sorted by name, as a malloced array. */
static int list_volumes(struct images *im, struct vol_info **ret_v, unsigned *ret_n)
{
	unsigned max = 64, n;
	struct vol_info *v;

	for (;;) {
		v = malloc(max * sizeof(*v));
		if (!v)
			return -ENOMEM;
		n = vol_list(im->pool, v, max);
		if (n <= max)
			break;
		free(v);
		max = n + 16;
	}
	*ret_v = v;
	*ret_n = n;
	return 0;
}

static bool is_image(const struct vol_info *v)
{
	return v->type == VOL_TYPE_BLOCK && !v->destroying;
}

/* By name, or when that is NULL by id. */
int images_find_volume(struct images *im, const char *name, uint64_t id, struct vol_info *ret_i)
{
	int r = vol_info_find(im->pool, name, id, ret_i);

	return r ? r : is_image(ret_i) ? 0 : -ENOENT;
}

static struct timespec time_of_ns(uint64_t ns)
{
	return (struct timespec){(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
}

static void volume_attr(const struct vol_info *v, struct fs_attr *a, uint64_t *ret_sectors)
{
	struct timespec t = time_of_ns(v->created_ns);

	*a = (struct fs_attr){
		.ino = v->id + IMAGES_FIRST,
		.generation = v->id,
		.mode = S_IFREG | (v->snapshot ? 0400 : 0600),
		.nlink = 1,
		.uid = v->owner_uid,
		.size = v->size_bytes,
		.atime = t,
		.mtime = t,
		.ctime = t,
		.btime = t,
	};
	*ret_sectors = (v->logical_bytes + SECTOR - 1) / SECTOR;
}

static void dir_attr(struct images *im, struct fs_attr *a)
{
	struct timespec t = {im->started, 0};

	*a = (struct fs_attr){.ino = FUSE_ROOT_ID,
			      .mode = S_IFDIR | 0755,
			      .nlink = 2,
			      .atime = t,
			      .mtime = t,
			      .ctime = t,
			      .btime = t};
}

static void images_init(void *userdata, struct fuse_conn_info *conn)
{
	(void)userdata;
	conn->want = conn->capable &
		     (FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO | FUSE_CAP_PARALLEL_DIROPS |
		      FUSE_CAP_EXPLICIT_INVAL_DATA | FUSE_CAP_ATOMIC_O_TRUNC);
	conn->max_write = SERVE_WRITE_MAX;
	conn->max_background = 256;
	conn->congestion_threshold = 192;
}

static struct image *image_ref(struct images *im, const struct vol_info *v)
{
	struct image *i;

	lock_take(&im->lock);
	i = images_find(im, v->id + IMAGES_FIRST);
	if (!i) {
		i = calloc(1, sizeof(*i));
		if (i) {
			i->im = im;
			i->ino = v->id + IMAGES_FIRST;
			i->next = im->list;
			im->list = i;
		}
	}
	if (i) {
		snprintf(i->name, sizeof(i->name), "%s", v->name);
		i->snapshot = v->snapshot;
		i->lookups++;
	}
	lock_drop(&im->lock);
	return i;
}

void images_forget_node(struct images *im, uint64_t ino, uint64_t n)
{
	struct image **p;

	lock_take(&im->lock);
	for (p = &im->list; *p && (*p)->ino != ino;)
		p = &(*p)->next;
	if (*p) {
		struct image *i = *p;

		i->lookups -= n < i->lookups ? n : i->lookups;
		if (!i->lookups && !i->opens) {
			*p = i->next;
			free(i);
		}
	}
	lock_drop(&im->lock);
}

static void images_lookup(fuse_req_t req, fuse_ino_t dir, const char *name)
{
	struct images *im = images_of(req);
	struct fuse_entry_out o;
	struct vol_info v;
	struct fs_attr a;
	uint64_t sectors;
	int r = dir == FUSE_ROOT_ID ? images_find_volume(im, name, 0, &v) : -ENOTDIR;

	if (!r && !image_ref(im, &v))
		r = -ENOMEM;
	if (r) {
		reply_err(req, r); /* -ENOENT is not remembered: the name may come at any time */
		return;
	}
	volume_attr(&v, &a, &sectors);
	reply_entry_fill(&o, &a, sectors);
	o.entry_valid = NAME_SEC;
	o.attr_valid = 0; /* the size is right at once when the volume's changes */
	if (fuse_reply_buf(req, (const char *)&o, sizeof(o)))
		images_forget_node(im, a.ino, 1);
}

static void images_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n)
{
	images_forget_node(images_of(req), ino, n);
	fuse_reply_none(req);
}

static void images_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *f)
{
	for (size_t i = 0; i < count; i++)
		images_forget_node(images_of(req), f[i].ino, f[i].nlookup);
	fuse_reply_none(req);
}

static int image_attr(struct images *im, uint64_t ino, struct fs_attr *a, uint64_t *ret_sectors)
{
	struct vol_info v;
	int r;

	*ret_sectors = 0;
	if (ino == FUSE_ROOT_ID) {
		dir_attr(im, a);
		return 0;
	}
	r = images_find_volume(im, NULL, ino - IMAGES_FIRST, &v);
	if (r)
		return r == -ENOENT ? -ESTALE : r;
	volume_attr(&v, a, ret_sectors);
	return 0;
}

static void attr_reply(fuse_req_t req, uint64_t ino)
{
	struct fuse_attr_out o = {0}; /* attr_valid 0, as in images_lookup() */
	struct fs_attr a;
	uint64_t sectors;
	int r = image_attr(images_of(req), ino, &a, &sectors);

	if (r) {
		reply_err(req, r);
		return;
	}
	reply_attr_fill(&o.attr, &a, sectors);
	fuse_reply_buf(req, (const char *)&o, sizeof(o));
}

static void images_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)fi;
	attr_reply(req, ino);
}

/* Times are accepted and not kept (touch, mount -o loop do that); the size is changed by `tarn
 * volume set`, the owner too. A size that changes nothing is fine (qemu-img, O_TRUNC do not ask
 * twice). */
static void images_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int to_set,
			   struct fuse_file_info *fi)
{
	struct fs_attr a;
	uint64_t sectors;
	int r = image_attr(images_of(req), ino, &a, &sectors);

	(void)fi;
	if (!r && to_set & FUSE_SET_ATTR_SIZE && (uint64_t)st->st_size != a.size)
		r = -EPERM;
	if (!r && to_set & (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID))
		r = -EPERM;
	if (r)
		reply_err(req, r);
	else
		attr_reply(req, ino);
}

static int cmp_id(const void *a, const void *b)
{
	uint64_t x = ((const struct vol_info *)a)->id, y = ((const struct vol_info *)b)->id;

	return x < y ? -1 : x > y;
}

static void images_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
			   struct fuse_file_info *fi)
{
	struct images *im = images_of(req);
	char *buf = (char *)serve_rq_current()->payload;
	struct vol_info *v;
	size_t used = 0, n;
	unsigned count;
	int r = list_volumes(im, &v, &count);

	(void)ino;
	(void)fi;
	if (r) {
		reply_err(req, r);
		return;
	}
	if (size > SERVE_WRITE_MAX)
		size = SERVE_WRITE_MAX;
	/* cookie: volume id + IMAGES_FIRST; smallest first, so that it stays right while volumes
	 * come and go */
	qsort(v, count, sizeof(*v), cmp_id);
	for (unsigned k = 0;;) {
		const struct vol_info *best = NULL;
		struct stat st = {0};
		const char *name;

		while (off >= 2 && k < count &&
		       (!is_image(&v[k]) || v[k].id + IMAGES_FIRST <= (uint64_t)off))
			k++;
		if (off >= 2 && k < count)
			best = &v[k];
		if (off >= 2 && !best)
			break;
		name = best ? best->name : off ? ".." : ".";
		st.st_ino = best ? best->id + IMAGES_FIRST : FUSE_ROOT_ID;
		st.st_mode = best ? S_IFREG : S_IFDIR;
		off = best ? (off_t)(best->id + IMAGES_FIRST) : off + 1;
		n = fuse_add_direntry(req, buf + used, size - used, name, &st, off);
		if (n > size - used)
			break;
		used += n;
	}
	fuse_reply_buf(req, buf, used);
	free(v);
}

static void images_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct images *im = images_of(req);
	struct statvfs st = {
		.f_bsize = BLOCK_SIZE, .f_frsize = BLOCK_SIZE, .f_namemax = VOL_NAME_MAX};
	uint64_t used = 0, avail = 0;
	struct vol_info *v;
	unsigned n;
	int r = list_volumes(im, &v, &n);

	(void)ino;
	if (r) {
		reply_err(req, r);
		return;
	}
	for (unsigned k = 0; k < n; k++) {
		used += v[k].used_bytes + v[k].delta_bytes + v[k].reserved_bytes;
		if (v[k].available_bytes > avail) /* of the policy that gets most out of the pool */
			avail = v[k].available_bytes;
	}
	st.f_blocks = (used + avail) / BLOCK_SIZE;
	st.f_bfree = st.f_bavail = avail / BLOCK_SIZE;
	fuse_reply_statfs(req, &st);
	free(v);
}

/* Volumes are made and destroyed with `tarn volume`. */
static void refuse_create(fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode,
			  struct fuse_file_info *fi)
{
	(void)dir;
	(void)name;
	(void)mode;
	(void)fi;
	fuse_reply_err(req, EPERM);
}

static void refuse_mknod(fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode, dev_t dev)
{
	(void)dir;
	(void)name;
	(void)mode;
	(void)dev;
	fuse_reply_err(req, EPERM);
}

static void refuse_name(fuse_req_t req, fuse_ino_t dir, const char *name)
{
	(void)dir;
	(void)name;
	fuse_reply_err(req, EPERM);
}

static void refuse_mkdir(fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode)
{
	(void)mode;
	refuse_name(req, dir, name);
}

static void refuse_rename(fuse_req_t req, fuse_ino_t dir, const char *name, fuse_ino_t to_dir,
			  const char *to_name, unsigned int flags)
{
	(void)to_dir;
	(void)to_name;
	(void)flags;
	refuse_name(req, dir, name);
}

static void refuse_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t dir, const char *name)
{
	(void)ino;
	refuse_name(req, dir, name);
}

static void refuse_symlink(fuse_req_t req, const char *target, fuse_ino_t dir, const char *name)
{
	(void)target;
	refuse_name(req, dir, name);
}

const struct fuse_lowlevel_ops serve_images_ops = {
	.init = images_init,
	.lookup = images_lookup,
	.forget = images_forget,
	.forget_multi = images_forget_multi,
	.getattr = images_getattr,
	.setattr = images_setattr,
	.readdir = images_readdir,
	.open = images_open,
	.release = images_release,
	.read = images_read,
	.write = images_write,
	.fsync = images_fsync,
	.fallocate = images_fallocate,
	.lseek = images_lseek,
	.copy_file_range = images_copy_file_range,
	.statfs = images_statfs,
	.create = refuse_create,
	.mknod = refuse_mknod,
	.mkdir = refuse_mkdir,
	.unlink = refuse_name,
	.rmdir = refuse_name,
	.rename = refuse_rename,
	.link = refuse_link,
	.symlink = refuse_symlink,
};
