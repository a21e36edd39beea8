/* Space of a file: fallocate, SEEK_DATA and SEEK_HOLE. */
#include <errno.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <unistd.h>
#include "fs/fs_file.h"
#include "fs/fs_xattr.h"

struct alloc {
	struct fs_file *f;
	uint64_t end; /* grow the file to here; 0: keep its size */
};

/* Last step of any fallocate: size and times. */
static int alloc_fn(struct vol *v, void *arg)
{
	struct alloc *al = arg;
	struct fs_tx_inode *i;
	struct fs_tx t;
	int r;

	(void)v;
	fs_tx_init(&t, al->f->fs);
	r = fs_tx_inode(&t, al->f->node->ino, &i);
	if (r)
		return r;
	r = fs_xattr_tx_drop_caps(&t, i);
	if (r)
		return r;
	if (al->end > i->a.size)
		i->a.size = al->end;
	fs_tx_touch(&t, i);
	return fs_tx_commit(&t);
}

static int may_alloc(struct fs_file *f, int mode)
{
	uint32_t flags;

	lock_take(&f->fs->lock);
	flags = f->node->attr.flags;
	lock_drop(&f->fs->lock);
	if (flags & FS_INODE_IMMUTABLE)
		return -EPERM;
	return flags & FS_INODE_APPEND && mode & ~FALLOC_FL_KEEP_SIZE ? -EPERM : 0;
}

int fs_fallocate(struct fs_file *f, int mode, uint64_t off, uint64_t len)
{
	struct alloc al = {.f = f};
	struct vol *v = f->fs->vol;
	uint64_t ino = f->node->ino;
	int r;

	if (f->fs->o.read_only)
		return -EROFS;
	if (!len)
		return -EINVAL;
	if (!S_ISREG(f->node->attr.mode)) /* its type never changes */
		return S_ISDIR(f->node->attr.mode) ? -EISDIR : -ENODEV;
	if (len > (uint64_t)VOL_OBJECT_BYTES_MAX || off > (uint64_t)VOL_OBJECT_BYTES_MAX - len)
		return -EFBIG;
	if (!(mode & FALLOC_FL_KEEP_SIZE))
		al.end = off + len;
	switch (mode & ~FALLOC_FL_KEEP_SIZE) {
	case 0:
	case FALLOC_FL_PUNCH_HOLE:
	case FALLOC_FL_ZERO_RANGE:
		break;
	default:
		return -EOPNOTSUPP;
	}
	if (mode & FALLOC_FL_PUNCH_HOLE && al.end)
		return -EOPNOTSUPP;
	r = may_alloc(f, mode);
	if (!r)
		r = fs_file_leave_inline(f);
	if (r)
		return r;
	if (mode & FALLOC_FL_PUNCH_HOLE)
		return vol_punch(v, ino, off, len, alloc_fn, &al);
	if (mode & FALLOC_FL_ZERO_RANGE) {
		r = vol_punch(v, ino, off, len, NULL, NULL);
		if (r)
			return r;
	}
	return vol_reserve(v, ino, off, len, alloc_fn, &al);
}

static int inline_len_fn(struct vol *v, void *arg)
{
	struct alloc *al = arg;
	struct btree_item it;
	int r = vol_get(v, fs_key(al->f->node->ino, FS_KEY_INLINE, 0), &it);

	al->end = r ? 0 : it.len;
	return r == -ENOENT ? 0 : r;
}

/* A file in the tree: data up to the end of its item, then a hole. */
static int seek_inline(struct fs_file *f, uint64_t off, int whence, uint64_t size,
		       uint64_t *ret_off)
{
	struct alloc al = {.f = f};
	int r = vol_query(f->fs->vol, inline_len_fn, &al);

	if (r)
		return r;
	if (al.end > size)
		al.end = size;
	if (whence == SEEK_DATA) {
		if (off >= al.end)
			return -ENXIO;
		*ret_off = off;
	} else {
		*ret_off = off < al.end ? al.end : off;
	}
	return 0;
}

int fs_seek(struct fs_file *f, uint64_t off, int whence, uint64_t *ret_off)
{
	uint64_t size = atomic_load_explicit(&f->node->size, memory_order_relaxed), at;
	int r;

	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return -EINVAL;
	if (off >= size)
		return -ENXIO;
	if (atomic_load_explicit(&f->node->is_inline, memory_order_relaxed))
		return seek_inline(f, off, whence, size, ret_off);
	if (whence == SEEK_DATA)
		r = vol_seek_data(f->fs->vol, f->node->ino, off, &at);
	else
		r = vol_seek_hole(f->fs->vol, f->node->ino, off, &at);
	if (r)
		return r;
	if (at >= size) {
		if (whence == SEEK_DATA)
			return -ENXIO;
		at = size;
	}
	*ret_off = at;
	return 0;
}
