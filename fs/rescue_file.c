/* rescue_file: one inode of a rescued tree: make it, its data, its attributes. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "fs/rescue_impl.h"

void rescue_damage(struct rescue_copy *c, const char *name, uint64_t ino, const char *what,
		   uint64_t off, uint64_t len)
{
	char path[PATH_MAX + FS_NAME_MAX + 2];

	snprintf(path, sizeof(path), "%s%s%s", c->path, *c->path && *name ? "/" : "", name);
	if (c->rep->damage)
		c->rep->damage(c->rep->arg, *path ? path : ".", ino, what, off, len);
}

int rescue_inode(struct rescue_copy *c, uint64_t ino, struct fs_attr *ret_a)
{
	struct btree_item it;
	int r = rescue_get(&c->cur, fs_key(ino, FS_KEY_INODE, 0), &it);

	return r ? r : fs_inode_decode(&it, ret_a) ? -ENOENT : 0;
}

/* ---- data ---- */

struct lost {
	struct rescue_copy *c;
	const char *name;
	uint64_t ino, off, len; /* len 0: none yet */
	bool any;
};

static void lost_flush(struct lost *l)
{
	if (l->len)
		rescue_damage(l->c, l->name, l->ino, "data lost", l->off, l->len);
	l->len = 0;
}

/* Blocks come in ascending order: told as ranges. */
static void lost_block(void *arg, uint64_t off, uint64_t len)
{
	struct lost *l = arg;

	l->any = true;
	if (l->len && l->off + l->len == off) {
		l->len += len;
		return;
	}
	lost_flush(l);
	l->off = off;
	l->len = len;
}

static int write_all(int fd, const uint8_t *p, size_t n)
{
	while (n) {
		ssize_t w = write(fd, p, n);

		if (w < 0 && errno != EINTR)
			return -errno;
		p += w > 0 ? w : 0;
		n -= w > 0 ? (size_t)w : 0;
	}
	return 0;
}

static int inline_data(struct rescue_copy *c, const struct fs_attr *a, int fd)
{
	struct btree_item it;
	int r = rescue_get(&c->cur, fs_key(a->ino, FS_KEY_INLINE, 0), &it);
	uint16_t len;

	if (r == -ENOENT)
		r = 0;
	else if (!r) {
		len = it.len < a->size ? it.len : (uint16_t)a->size;
		c->res->good_bytes += len;
		r = write_all(fd, it.value, len);
	}
	if (!r && ftruncate(fd, (off_t)a->size))
		r = -errno;
	return r;
}

static int file_data(struct rescue_copy *c, const char *name, const struct fs_attr *a, int fd)
{
	struct lost l = {.c = c, .name = name, .ino = a->ino};
	struct rescue_data d = {.lost = lost_block, .arg = &l};
	bool gap = rescue_gap_between(c->v, (struct key){a->ino, 0, 0},
				      (struct key){a->ino, UINT8_MAX, UINT64_MAX});
	int r;

	if (a->flags & FS_INODE_INLINE)
		r = inline_data(c, a, fd);
	else
		r = rescue_object_copy(c->v, a->ino, a->size, fd, &d);
	lost_flush(&l);
	if (gap)
		rescue_damage(c, name, a->ino, "metadata lost: parts may be missing or old", 0, 0);
	c->res->damaged += l.any || gap;
	c->res->good_bytes += d.good_bytes;
	c->res->lost_bytes += d.lost_bytes;
	return r;
}

static int make_file(struct rescue_copy *c, int dir_fd, const char *name, const struct fs_attr *a)
{
	int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	int r;

	if (fd < 0)
		return -errno;
	r = file_data(c, name, a, fd);
	if (close(fd) && !r)
		r = -errno;
	c->res->files += !r;
	return r;
}

/* ---- links and devices ---- */

static int make_symlink(struct rescue_copy *c, int dir_fd, const char *name,
			const struct fs_attr *a)
{
	char target[FS_TARGET_MAX + 1];
	size_t len = 0;
	struct btree_item it;

	while (len < a->size && a->size <= FS_TARGET_MAX) {
		int r = rescue_get(&c->cur, fs_key(a->ino, FS_KEY_INLINE, len), &it);

		if (r || !it.len || it.len > a->size - len)
			break;
		memcpy(target + len, it.value, it.len);
		len += it.len;
	}
	target[len] = 0;
	if (len != a->size || strlen(target) != len) {
		rescue_damage(c, name, a->ino, "target of the symbolic link lost", 0, 0);
		c->res->damaged++;
		return 0;
	}
	if (symlinkat(target, dir_fd, name))
		return -errno;
	c->res->links++;
	return 0;
}

static int make_special(struct rescue_copy *c, int dir_fd, const char *name,
			const struct fs_attr *a)
{
	if (!mknodat(dir_fd, name, (a->mode & S_IFMT) | 0600,
		     S_ISCHR(a->mode) || S_ISBLK(a->mode) ? (dev_t)a->rdev : 0)) {
		c->res->others++;
		return 0;
	}
	if (errno != EPERM)
		return -errno;
	rescue_damage(c, name, a->ino, "special file: not permitted here", 0, 0);
	c->res->damaged++;
	return 0;
}

int rescue_make(struct rescue_copy *c, int dir_fd, const char *name, const struct fs_attr *a)
{
	struct stat st;
	int r;

	if (S_ISREG(a->mode))
		r = make_file(c, dir_fd, name, a);
	else if (S_ISLNK(a->mode))
		r = make_symlink(c, dir_fd, name, a);
	else
		r = make_special(c, dir_fd, name, a);
	if (!r && !fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW))
		rescue_attrs(c, dir_fd, name, a);
	return r;
}

/* ---- attributes ---- */

/* The value of an attribute in pieces, into c->value. */
static int xattr_pieces(struct rescue_copy *c, struct key k, uint32_t len)
{
	struct btree_item it;

	for (uint32_t off = 0; off < len; off += FS_XATTR_CHUNK) {
		uint32_t n = len - off < FS_XATTR_CHUNK ? len - off : FS_XATTR_CHUNK;
		int r = rescue_get(
			&c->cur,
			fs_key(k.object, FS_KEY_XATTR_DATA, k.offset | off / FS_XATTR_CHUNK), &it);

		if (r || it.len != n)
			return -ENOENT;
		memcpy(c->value + off, it.value, n);
	}
	return 0;
}

/* One attribute; path leads through an open directory, and nothing at its end is followed. */
static void xattr_set(struct rescue_copy *c, const char *path, const char *name,
		      const struct btree_item *it)
{
	struct fs_xattr_view x;
	char key[FS_XATTR_NAME_MAX + 1];
	struct key k = it->key;

	if (fs_xattr_decode(it, &x))
		return;
	memcpy(key, x.name, x.name_len);
	key[x.name_len] = 0;
	if (!x.pieces)
		memcpy(c->value, x.value, x.value_len);
	else if (xattr_pieces(c, k, x.value_len)) {
		rescue_damage(c, name, k.object, "an extended attribute lost", 0, 0);
		c->res->damaged++;
		return;
	}
	c->res->unset += lsetxattr(path, key, c->value, x.value_len, 0) != 0;
}

static void xattrs_set(struct rescue_copy *c, int dir_fd, const char *name, const struct fs_attr *a)
{
	char path[64 + FS_NAME_MAX];
	struct key k = fs_key(a->ino, FS_KEY_XATTR, 0);
	struct btree_item it;

	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", dir_fd, name);
	for (;;) {
		rescue_seek(&c->cur, k);
		if (rescue_next(&c->cur, &it) || it.key.object != a->ino ||
		    it.key.type != FS_KEY_XATTR || it.key.offset == UINT64_MAX)
			return;
		k.offset = it.key.offset + 1;
		xattr_set(c, path, name, &it);
	}
}

/* chown clears set-user-ID, and a read-only mode would refuse attributes: so this order. */
void rescue_attrs(struct rescue_copy *c, int dir_fd, const char *name, const struct fs_attr *a)
{
	struct timespec t[2] = {a->atime, a->mtime};

	if (a->flags & FS_INODE_XATTR)
		xattrs_set(c, dir_fd, name, a);
	c->res->unset += fchownat(dir_fd, name, a->uid, a->gid, AT_SYMLINK_NOFOLLOW) != 0;
	if (!S_ISLNK(a->mode))
		c->res->unset += fchmodat(dir_fd, name, a->mode & 07777, 0) != 0;
	c->res->unset += utimensat(dir_fd, name, t, AT_SYMLINK_NOFOLLOW) != 0;
}
