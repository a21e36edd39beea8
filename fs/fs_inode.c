/* Attributes: getattr, setattr with truncate, readlink. */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include "base/reactor.h"
#include "fs/fs_acl.h"
#include "fs/fs_file.h"
#include "fs/fs_xattr.h"

struct getattr {
	struct fs *fs;
	uint64_t ino;
	struct fs_attr attr;
};

static int getattr_fn(struct vol *v, void *arg)
{
	struct getattr *g = arg;
	struct fs_tx_inode *i;
	struct fs_tx t;
	int r;

	(void)v;
	fs_tx_init(&t, g->fs);
	r = fs_tx_inode(&t, g->ino, &i);
	if (!r)
		g->attr = i->a;
	return r;
}

int fs_getattr(struct fs *fs, uint64_t ino, struct fs_attr *ret_a)
{
	struct getattr g = {.fs = fs, .ino = ino};
	struct fs_node *n;
	bool found;
	int r;

	lock_take(&fs->lock);
	n = fs_node_find(fs, ino);
	found = n && n->attr_valid;
	if (found)
		*ret_a = n->attr;
	lock_drop(&fs->lock);
	if (found)
		return 0;
	r = vol_query(fs->vol, getattr_fn, &g);
	if (!r)
		*ret_a = g.attr;
	return r;
}

#define EXTENTS_MANY 256u

static bool scattered_note(struct fs *fs, uint64_t ino, bool many)
{
	struct fs_node *n;
	bool brief;

	if (many)
		atomic_store(&fs->any_scattered, true);
	lock_take(&fs->lock);
	n = fs_node_find(fs, ino);
	brief = n && many && n->writers;
	if (n) {
		n->scattered = many;
		if (!brief) /* may be believed until the next writer syncs */
			n->blocks_told_ns = 0;
	}
	lock_drop(&fs->lock);
	return brief;
}

int fs_blocks(struct fs *fs, const struct fs_attr *a, uint64_t *ret_sectors, bool *ret_brief)
{
	uint64_t bytes = 0, extents = 0;
	int r = 0;

	*ret_brief = false;
	if (a->flags & FS_INODE_INLINE) {
		bytes = a->size < FS_INLINE_MAX ? a->size : FS_INLINE_MAX;
	} else if (S_ISREG(a->mode)) {
		r = vol_object_bytes(fs->vol, a->ino, &bytes, &extents);
		if (!r && (extents > EXTENTS_MANY || atomic_load(&fs->any_scattered)))
			*ret_brief = scattered_note(fs, a->ino, extents > EXTENTS_MANY);
	}
	*ret_sectors = (bytes + 511) / 512;
	return r;
}

bool fs_file_blocks_due(struct fs_file *f)
{
	struct fs_node *n = f->node;
	uint64_t now = reactor_now_ns();
	bool due;

	lock_take(&f->fs->lock);
	due = n->writers && (!n->scattered || !n->blocks_told_ns ||
			     now - n->blocks_told_ns >= FS_BLOCKS_SEC * 1000000000ull);
	if (due)
		n->blocks_told_ns = now;
	lock_drop(&f->fs->lock);
	return due;
}

void fs_kill_priv(struct fs_attr *a, bool sgid)
{
	if (S_ISDIR(a->mode))
		return;
	a->mode &= ~(uint32_t)S_ISUID;
	if (a->mode & S_IXGRP || sgid)
		a->mode &= ~(uint32_t)S_ISGID;
}

struct setattr {
	struct fs *fs;
	uint64_t ino;
	const struct fs_setattr *sa;
	bool in_punch; /* run by vol_punch, which frees what lies behind size */
	uint8_t buf[FS_INLINE_MAX];
	struct fs_acl_space acl;
	struct fs_attr attr;
};

/* Shorten the inline item. */
static int truncate_inline(struct setattr *s, struct fs_tx *t, uint64_t size)
{
	struct key k = fs_key(s->ino, FS_KEY_INLINE, 0);
	uint16_t len;
	int r = fs_inline_get(t, s->ino, s->buf, &len);

	if (r || len <= size)
		return r;
	if (size)
		fs_tx_put(t, k, s->buf, (uint16_t)size);
	else
		fs_tx_del(t, k);
	return 0;
}

static int set_size(struct setattr *s, struct fs_tx *t, struct fs_tx_inode *i)
{
	uint64_t size = s->sa->size;
	int r = 0;

	if (S_ISDIR(i->a.mode))
		return -EISDIR;
	if (!S_ISREG(i->a.mode))
		return -EINVAL;
	if (i->a.flags & FS_INODE_INLINE)
		r = truncate_inline(s, t, size);
	else if (size < i->a.size && !s->in_punch)
		r = -EAGAIN;
	if (r)
		return r;
	i->a.size = size;
	i->a.mtime = i->a.ctime = t->now;
	return 0;
}

static void set_owner_and_mode(const struct fs_setattr *sa, struct fs_attr *a)
{
	if (sa->set & (FS_SET_UID | FS_SET_GID | FS_SET_KILL_PRIV | FS_SET_KILL_SGID))
		fs_kill_priv(a, sa->set & FS_SET_KILL_SGID);
	if (sa->set & FS_SET_UID)
		a->uid = sa->uid;
	if (sa->set & FS_SET_GID)
		a->gid = sa->gid;
	if (sa->set & FS_SET_MODE)
		a->mode = (a->mode & S_IFMT) | (sa->mode & 07777);
	if (sa->set & FS_SET_FLAGS)
		a->flags = (a->flags & ~(uint32_t)FS_INODE_USER) | (sa->flags & FS_INODE_USER);
}

/* May an immutable or append-only inode be changed so? mtime with ctime alone is what the kernel
 * brings of earlier writes. */
static int may_set(const struct fs_setattr *sa, const struct fs_attr *a)
{
	const unsigned owner = FS_SET_MODE | FS_SET_UID | FS_SET_GID | FS_SET_SIZE;

	if (!(a->flags & (FS_INODE_IMMUTABLE | FS_INODE_APPEND)) || sa->set & FS_SET_FLAGS)
		return 0;
	if (sa->set & owner)
		return -EPERM;
	if (a->flags & FS_INODE_IMMUTABLE)
		return sa->set & (FS_SET_ATIME | FS_SET_ATIME_NOW) ? -EPERM : 0;
	return sa->set & FS_SET_ATIME && !(sa->set & FS_SET_ATIME_NOW) ? -EPERM : 0;
}

static void set_times(const struct fs_setattr *sa, const struct timespec *now, struct fs_attr *a)
{
	if (sa->set & (FS_SET_ATIME | FS_SET_ATIME_NOW))
		a->atime = sa->set & FS_SET_ATIME_NOW ? *now : sa->atime;
	if (sa->set & (FS_SET_MTIME | FS_SET_MTIME_NOW))
		a->mtime = sa->set & FS_SET_MTIME_NOW ? *now : sa->mtime;
	a->ctime = sa->set & FS_SET_CTIME ? sa->ctime : *now;
}

static int setattr_fn(struct vol *v, void *arg)
{
	const unsigned drops_caps = FS_SET_UID | FS_SET_GID | FS_SET_SIZE | FS_SET_KILL_PRIV |
				    FS_SET_KILL_SGID | FS_SET_KILL_CAPS;
	struct setattr *s = arg;
	struct fs_tx_inode *i;
	struct fs_tx t;
	int r;

	(void)v;
	fs_tx_init(&t, s->fs);
	r = fs_tx_inode(&t, s->ino, &i);
	if (!r)
		r = may_set(s->sa, &i->a);
	if (!r && s->sa->set & FS_SET_SIZE)
		r = set_size(s, &t, i);
	if (r)
		return r;
	set_owner_and_mode(s->sa, &i->a);
	set_times(s->sa, &t.now, &i->a);
	i->dirty = true;
	if (s->sa->set & drops_caps && S_ISREG(i->a.mode))
		r = fs_xattr_tx_drop_caps(&t, i);
	if (!r && s->sa->set & FS_SET_MODE)
		r = fs_acl_tx_chmod(&t, i, &s->acl);
	if (!r)
		r = fs_tx_commit(&t);
	if (!r)
		s->attr = i->a;
	return r;
}

static bool size_shrinks(const struct fs_attr *a, const struct fs_setattr *sa)
{
	return sa->set & FS_SET_SIZE && S_ISREG(a->mode) && !(a->flags & FS_INODE_INLINE) &&
	       sa->size < a->size;
}

int fs_setattr(struct fs *fs, uint64_t ino, const struct fs_setattr *sa, struct fs_attr *ret_a)
{
	struct setattr s;
	struct fs_attr a;
	int r;

	s.fs = fs;
	s.ino = ino;
	s.sa = sa;
	if (fs->o.read_only)
		return -EROFS;
	if (sa->set & FS_SET_SIZE && sa->size > (uint64_t)VOL_OBJECT_BYTES_MAX)
		return -EFBIG;
	do {
		r = sa->set & FS_SET_SIZE ? fs_getattr(fs, ino, &a) : 0;
		if (r)
			return r;
		s.in_punch = sa->set & FS_SET_SIZE && size_shrinks(&a, sa);
		if (s.in_punch)
			r = vol_punch(fs->vol, ino, sa->size, UINT64_MAX - sa->size, setattr_fn,
				      &s);
		else
			r = vol_change(fs->vol, sa->set & FS_SET_SIZE, setattr_fn, &s);
	} while (r == -EAGAIN); /* it became larger, or left its inode, since we looked */
	if (!r)
		*ret_a = s.attr;
	return r;
}

/* ---- atime ---- */

static int atime_fn(struct vol *v, void *arg)
{
	struct getattr *g = arg;
	struct fs_tx_inode *i;
	struct fs_tx t;
	int r;

	(void)v;
	fs_tx_init(&t, g->fs);
	r = fs_tx_inode(&t, g->ino, &i);
	if (r)
		return r;
	i->a.atime = t.now;
	i->dirty = true;
	return fs_tx_commit(&t);
}

void fs_atime_set(struct fs *fs, uint64_t ino)
{
	struct getattr g = {.fs = fs, .ino = ino};

	vol_change(fs->vol, true, atime_fn, &g);
}

void fs_atime_read(struct fs *fs, uint64_t ino, bool is_dir)
{
	struct fs_node *n;
	bool due;

	if (is_dir && fs->o.atime_no_dirs)
		return;
	lock_take(&fs->lock);
	n = fs_node_find(fs, ino);
	due = n && n->attr_valid && !n->dead && fs_node_atime_due(fs, n);
	lock_drop(&fs->lock);
	if (due)
		fs_atime_set(fs, ino);
}

/* ---- readlink ---- */

struct readlink {
	struct fs *fs;
	uint64_t ino;
	char *buf;
};

static int readlink_fn(struct vol *v, void *arg)
{
	struct readlink *l = arg;
	struct fs_tx_inode *i;
	struct btree_item it;
	struct fs_tx t;
	uint64_t off;
	int r;

	fs_tx_init(&t, l->fs);
	r = fs_tx_inode(&t, l->ino, &i);
	if (r)
		return r;
	if (!S_ISLNK(i->a.mode))
		return -EINVAL;
	for (off = 0; off < i->a.size; off += it.len) {
		r = vol_get(v, fs_key(l->ino, FS_KEY_INLINE, off), &it);
		if (r)
			return r == -ENOENT ? ERR_FORMAT : r;
		if (!it.len || it.len > i->a.size - off)
			return ERR_FORMAT;
		memcpy(l->buf + off, it.value, it.len);
	}
	l->buf[off] = 0;
	return 0;
}

int fs_readlink(struct fs *fs, uint64_t ino, char *buf)
{
	struct readlink l = {.fs = fs, .ino = ino, .buf = buf};
	int r = vol_query(fs->vol, readlink_fn, &l);

	if (!r)
		fs_atime_read(fs, ino, false);
	return r;
}
