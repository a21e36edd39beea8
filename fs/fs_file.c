#include "fs/fs_file.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include "fs/fs_orphan.h"
#include "fs/fs_xattr.h"

/* A write that needs no new size brings mtime and ctime up to date only when they are older than
 * this: as fine as a kernel file system's clock, and 4 KiB writes do not each change the inode. */
#define TIME_GRAIN_NS 4000000

struct file_open {
	struct fs *fs;
	uint64_t ino;
	struct fs_node *spare;
	struct fs_file *f;
};

static int file_open_fn(struct vol *v, void *arg)
{
	struct file_open *o = arg;
	struct fs_tx_inode *i;
	struct fs_node *n;
	struct fs_tx t;
	int r;

	(void)v;
	fs_tx_init(&t, o->fs);
	r = fs_tx_inode(&t, o->ino, &i);
	if (r)
		return r;
	if (i->dead)
		return -ESTALE;
	lock_take(&o->fs->lock);
	n = fs_node_find_or_add(o->fs, o->ino, &o->spare);
	if (!n->attr_valid)
		fs_node_cache(n, &i->a);
	fs_node_open(o->fs, n, o->f);
	lock_drop(&o->fs->lock);
	return 0;
}

void fs_file_set_flags(struct fs_file *f, int flags)
{
	f->direct = flags & O_DIRECT;
	f->no_atime = flags & O_NOATIME;
	f->writer = (flags & O_ACCMODE) != O_RDONLY;
	f->cached_writer = f->writer && !f->direct;
	lock_take(&f->fs->lock);
	f->node->writers += f->writer;
	f->node->cached_writers += f->cached_writer;
	lock_drop(&f->fs->lock);
}

bool fs_file_may_be_longer(struct fs_file *f)
{
	bool may;

	if (!f->direct)
		return false;
	lock_take(&f->fs->lock);
	may = f->node->cached_writers;
	lock_drop(&f->fs->lock);
	return may;
}

bool fs_file_has_writer(struct fs_file *f)
{
	bool w;

	lock_take(&f->fs->lock);
	w = f->node->writers;
	lock_drop(&f->fs->lock);
	return w;
}

int fs_file_open(struct fs *fs, uint64_t ino, struct fs_file **ret_f)
{
	struct file_open o = {.fs = fs, .ino = ino};
	int r = -ENOMEM;

	o.f = malloc(sizeof(*o.f));
	o.spare = calloc(1, sizeof(*o.spare));
	if (o.f && o.spare)
		r = vol_query(fs->vol, file_open_fn, &o);
	free(o.spare);
	if (r) {
		free(o.f);
		return r;
	}
	*ret_f = o.f;
	return 0;
}

void fs_file_close(struct fs_file *f)
{
	struct fs *fs = f->fs;
	struct fs_node *n = f->node;
	uint64_t ino = n->ino, size;
	bool reap;

	lock_take(&fs->lock);
	fs_node_close(f);
	reap = !n->opens && !n->attr.nlink && !n->dead;
	size = n->attr.size;
	fs_node_drop_unused(fs, n);
	lock_drop(&fs->lock);
	free(f);
	if (reap && !fs->o.read_only)
		fs_orphan_closed(fs, ino, size);
}

int fs_file_may_open(struct fs_file *f, int flags)
{
	uint32_t bits;

	lock_take(&f->fs->lock);
	bits = f->node->attr.flags;
	lock_drop(&f->fs->lock);
	if ((flags & O_ACCMODE) == O_RDONLY && !(flags & O_TRUNC))
		return 0;
	if (bits & FS_INODE_IMMUTABLE)
		return -EPERM;
	return bits & FS_INODE_APPEND && (!(flags & O_APPEND) || flags & O_TRUNC) ? -EPERM : 0;
}

static bool no_caps(const struct fs_node *n)
{
	return atomic_load_explicit(&n->no_caps, memory_order_relaxed);
}

bool fs_file_may_have_caps(struct fs_file *f)
{
	bool may;

	lock_take(&f->fs->lock);
	may = f->node->attr.flags & FS_INODE_XATTR && !no_caps(f->node);
	lock_drop(&f->fs->lock);
	return may;
}

uint64_t fs_file_ino(const struct fs_file *f)
{
	return f->node->ino;
}

int fs_inline_get(struct fs_tx *t, uint64_t ino, uint8_t *buf, uint16_t *ret_len)
{
	struct btree_item it;
	int r = vol_get(t->v, fs_key(ino, FS_KEY_INLINE, 0), &it);

	*ret_len = 0;
	if (r)
		return r == -ENOENT ? 0 : r;
	if (it.len > FS_INLINE_MAX)
		return ERR_FORMAT;
	memcpy(buf, it.value, it.len);
	*ret_len = it.len;
	return 0;
}

static bool is_inline(const struct fs_node *n)
{
	return atomic_load_explicit(&n->is_inline, memory_order_relaxed);
}

struct read {
	struct fs_file *f;
	uint64_t off;
	uint32_t len;
	uint8_t *buf;
};

static int read_inline_fn(struct vol *v, void *arg)
{
	struct read *rd = arg;
	struct btree_item it;
	uint32_t n = 0;
	int r;

	if (!is_inline(rd->f->node))
		return -EAGAIN;
	r = vol_get(v, fs_key(rd->f->node->ino, FS_KEY_INLINE, 0), &it);
	if (r && r != -ENOENT)
		return r;
	if (!r && rd->off < it.len) {
		n = it.len - (uint32_t)rd->off;
		n = n < rd->len ? n : rd->len;
		memcpy(rd->buf, (const uint8_t *)it.value + rd->off, n);
	}
	memset(rd->buf + n, 0, rd->len - n);
	return 0;
}

int fs_read(struct fs_file *f, uint64_t off, uint32_t len, void *buf, uint32_t *ret_len)
{
	struct fs_node *n = f->node;
	uint64_t size = atomic_load_explicit(&n->size, memory_order_relaxed);
	struct read rd = {f, off, len, buf};
	int r = -EAGAIN;

	if (off >= size)
		len = 0;
	else if (len > size - off)
		len = (uint32_t)(size - off);
	rd.len = len;
	*ret_len = len;
	if (!len)
		return 0;
	if (is_inline(n))
		r = vol_query(f->fs->vol, read_inline_fn, &rd);
	if (r == -EAGAIN)
		r = vol_read(f->fs->vol, n->ino, off, len, buf);
	if (!r && !f->no_atime && fs_node_atime_due(f->fs, n))
		fs_atime_set(f->fs, n->ino);
	return r;
}

struct write {
	struct fs_file *f;
	uint64_t off;
	uint32_t len;
	const void *buf;
	unsigned flags;
	uint8_t inline_buf[FS_INLINE_MAX];
	uint16_t inline_len;
};

/* Does this write change the inode? */
static bool write_changes_inode(const struct write *w, const struct fs_tx *t,
				const struct fs_attr *a)
{
	int64_t age;

	if (w->off + w->len > a->size)
		return true;
	if (w->flags & FS_WRITE_KILL_PRIV && a->mode & (S_ISUID | S_ISGID))
		return true;
	if (w->flags & FS_WRITE_CACHED)
		return false;
	age = (int64_t)(t->now.tv_sec - a->mtime.tv_sec) * 1000000000 + t->now.tv_nsec -
	      a->mtime.tv_nsec;
	return age < 0 || age >= TIME_GRAIN_NS;
}

/* The inode's part of a write. */
static int write_inode(const struct write *w, struct fs_tx *t, struct fs_tx_inode *i)
{
	int r;

	if (i->a.flags & FS_INODE_IMMUTABLE && !(w->flags & FS_WRITE_CACHED))
		return -EPERM; /* what was cached before is not lost */
	if (i->a.flags & FS_INODE_XATTR && !no_caps(w->f->node)) {
		r = fs_xattr_tx_drop_caps(t, i);
		if (r)
			return r;
	}
	if (!write_changes_inode(w, t, &i->a))
		return 0;
	if (w->off + w->len > i->a.size)
		i->a.size = w->off + w->len;
	if (w->flags & FS_WRITE_KILL_PRIV)
		fs_kill_priv(&i->a, w->flags & FS_WRITE_KILL_SGID);
	if (!(w->flags & FS_WRITE_CACHED))
		i->a.mtime = i->a.ctime = t->now;
	i->dirty = true;
	return 0;
}

static int write_commit(const struct write *w, struct fs_tx *t, struct fs_tx_inode *i)
{
	int r = i->dirty || t->ops ? fs_tx_commit(t) : 0;

	if (!r)
		atomic_store_explicit(&w->f->node->no_caps, true, memory_order_relaxed);
	return r;
}

/* Runs within vol_write. -EAGAIN: there is inline data in the way. */
static int write_fn(struct vol *v, void *arg)
{
	struct write *w = arg;
	uint64_t ino = w->f->node->ino;
	struct fs_tx_inode *i;
	struct btree_item it;
	struct fs_tx t;
	int r;

	fs_tx_init(&t, w->f->fs);
	r = fs_tx_inode(&t, ino, &i);
	if (r)
		return r;
	if (i->a.flags & FS_INODE_INLINE) {
		r = vol_get(v, fs_key(ino, FS_KEY_INLINE, 0), &it);
		if (r && r != -ENOENT)
			return r;
		if (!r) {
			if (w->off || w->len < it.len)
				return -EAGAIN;
			fs_tx_del(&t, it.key);
		}
		i->a.flags &= ~(uint32_t)FS_INODE_INLINE;
		i->dirty = true;
	}
	r = write_inode(w, &t, i);
	return r ? r : write_commit(w, &t, i);
}

static int write_inline_fn(struct vol *v, void *arg)
{
	struct write *w = arg;
	uint64_t ino = w->f->node->ino;
	uint32_t end = (uint32_t)w->off + w->len;
	struct fs_tx_inode *i;
	struct fs_tx t;
	uint16_t len;
	int r;

	(void)v;
	fs_tx_init(&t, w->f->fs);
	r = fs_tx_inode(&t, ino, &i);
	if (r)
		return r;
	if (!(i->a.flags & FS_INODE_INLINE))
		return -EAGAIN;
	r = fs_inline_get(&t, ino, w->inline_buf, &len);
	if (r)
		return r;
	if (w->off > len)
		memset(w->inline_buf + len, 0, w->off - len);
	memcpy(w->inline_buf + w->off, w->buf, w->len);
	fs_tx_put(&t, fs_key(ino, FS_KEY_INLINE, 0), w->inline_buf,
		  (uint16_t)(end > len ? end : len));
	r = write_inode(w, &t, i);
	return r ? r : write_commit(w, &t, i);
}

static int leave_read_fn(struct vol *v, void *arg)
{
	struct write *w = arg;
	struct fs_tx t;

	(void)v;
	fs_tx_init(&t, w->f->fs);
	return fs_inline_get(&t, w->f->node->ino, w->inline_buf, &w->inline_len);
}

/* Within vol_write of what was read (or vol_change when that was nothing). */
static int leave_fn(struct vol *v, void *arg)
{
	struct write *w = arg;
	uint64_t ino = w->f->node->ino;
	struct fs_tx_inode *i;
	struct btree_item it;
	struct fs_tx t;
	int r;

	fs_tx_init(&t, w->f->fs);
	r = fs_tx_inode(&t, ino, &i);
	if (r)
		return r;
	if (!(i->a.flags & FS_INODE_INLINE))
		return -EALREADY;
	r = vol_get(v, fs_key(ino, FS_KEY_INLINE, 0), &it);
	if (r && r != -ENOENT)
		return r;
	if (r)
		it.len = 0;
	if (it.len != w->inline_len || (it.len && memcmp(it.value, w->inline_buf, it.len)))
		return -EAGAIN;
	fs_tx_del(&t, fs_key(ino, FS_KEY_INLINE, 0));
	i->a.flags &= ~(uint32_t)FS_INODE_INLINE;
	i->dirty = true;
	return fs_tx_commit(&t);
}

int fs_file_leave_inline(struct fs_file *f)
{
	struct write w = {.f = f};
	struct vol *v = f->fs->vol;
	int r;

	do {
		if (!is_inline(f->node))
			return 0;
		r = vol_query(v, leave_read_fn, &w);
		if (!r && w.inline_len)
			r = vol_write(v, f->node->ino, 0, w.inline_len, w.inline_buf, leave_fn, &w);
		else if (!r)
			r = vol_change(v, false, leave_fn, &w);
	} while (r == -EAGAIN);
	return r == -EALREADY ? 0 : r;
}

int fs_write(struct fs_file *f, uint64_t off, uint32_t len, const void *buf, unsigned flags)
{
	struct write w;
	struct vol *v = f->fs->vol;
	int r;

	if (f->fs->o.read_only)
		return -EROFS;
	if (!len)
		return 0;
	if (off > (uint64_t)VOL_OBJECT_BYTES_MAX - len)
		return -EFBIG;
	w.f = f;
	w.off = off;
	w.len = len;
	w.buf = buf;
	w.flags = flags;
	for (;;) {
		if (off + len <= FS_INLINE_MAX && is_inline(f->node)) {
			r = vol_change(v, false, write_inline_fn, &w);
		} else {
			r = vol_write(v, f->node->ino, off, len, buf, write_fn, &w);
			if (r == -EAGAIN) {
				r = fs_file_leave_inline(f);
				if (!r)
					continue;
			}
		}
		if (r != -EAGAIN)
			return r;
	}
}

int fs_sync(struct fs *fs)
{
	return vol_sync(fs->vol);
}
