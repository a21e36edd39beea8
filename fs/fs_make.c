/* New inodes: create, mkdir, mknod, symlink, O_TMPFILE; and new names: link. */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include "fs/fs_acl.h"
#include "fs/fs_dir.h"

struct make {
	struct fs *fs;
	uint64_t dir;
	const char *name; /* NULL: O_TMPFILE */
	size_t len, target_len;
	const struct fs_make *m;
	uint64_t ino; /* taken once, kept over restarts */
	struct fs_node *spare;
	struct fs_file *file;	  /* NULL: do not open */
	struct fs_acl_space *acl; /* of two ACLs; made when the directory may have a default one */
	struct fs_attr attr;
};

/* After commit: the kernel's reference, and the open file. */
static void make_node(struct make *mk, const struct fs_attr *a)
{
	struct fs *fs = mk->fs;
	struct fs_node *n;

	lock_take(&fs->lock);
	n = fs_node_find_or_add(fs, a->ino, &mk->spare);
	fs_node_cache(n, a);
	n->lookups++;
	if (mk->file)
		fs_node_open(fs, n, mk->file);
	lock_drop(&fs->lock);
}

static void make_attr(const struct make *mk, const struct fs_attr *dir, struct fs_attr *a)
{
	const struct fs_make *m = mk->m;

	a->mode = m->mode & (S_IFMT | 07777);
	a->uid = m->uid;
	a->gid = m->gid;
	a->nlink = 1;
	if (S_ISREG(m->mode) || S_ISDIR(m->mode))
		a->flags = dir->flags & FS_INODE_INHERIT;
	if (dir->mode & S_ISGID) {
		a->gid = dir->gid;
		if (S_ISDIR(m->mode))
			a->mode |= S_ISGID;
	}
	if (S_ISDIR(m->mode)) {
		a->nlink = 2;
		a->parent = dir->ino;
	}
	if (S_ISREG(m->mode))
		a->flags |= FS_INODE_INLINE;
	if (S_ISLNK(m->mode)) {
		a->size = mk->target_len;
		a->mode = S_IFLNK | 0777;
	}
	if (S_ISCHR(m->mode) || S_ISBLK(m->mode))
		a->rdev = m->rdev;
}

static void stage_target(struct fs_tx *t, uint64_t ino, const char *target, size_t len)
{
	for (size_t off = 0; off < len; off += FS_LINK_CHUNK) {
		size_t n = len - off < FS_LINK_CHUNK ? len - off : FS_LINK_CHUNK;

		fs_tx_put(t, fs_key(ino, FS_KEY_INLINE, off), target + off, (uint16_t)n);
	}
}

static int make_acl(struct make *mk, struct fs_tx *t, const struct fs_attr *dir,
		    struct fs_tx_inode *i)
{
	if (dir->flags & FS_INODE_XATTR && !mk->acl) {
		mk->acl = malloc(2 * sizeof(*mk->acl));
		if (!mk->acl)
			return -ENOMEM;
	}
	return fs_acl_tx_inherit(t, dir, i, mk->m->umask, mk->acl, mk->acl ? mk->acl + 1 : NULL);
}

static int make_fn(struct vol *v, void *arg)
{
	struct make *mk = arg;
	uint8_t entry[sizeof(struct fs_dirent_disk) + FS_NAME_MAX];
	struct fs_orphan_disk orphan = {.version = FS_VERSION};
	struct fs_tx_inode *dir, *i;
	struct fs_dent d;
	struct key slot;
	struct fs_tx t;
	int r;

	fs_tx_init(&t, mk->fs);
	r = fs_tx_dir(&t, mk->dir, &dir);
	if (!r)
		r = fs_dir_may_add(&dir->a);
	if (r)
		return r;
	if (mk->name) {
		r = fs_dent_find(&t, mk->dir, mk->name, mk->len, &d, &slot);
		if (r != -ENOENT)
			return r ? r : -EEXIST;
		if (!slot.object)
			return -ENOSPC;
		if (S_ISDIR(mk->m->mode) && dir->a.nlink >= FS_LINK_MAX)
			return -EMLINK;
	}
	if (!mk->ino)
		mk->ino = vol_new_object(v);
	i = fs_tx_inode_new(&t, mk->ino);
	make_attr(mk, &dir->a, &i->a);
	r = make_acl(mk, &t, &dir->a, i);
	if (r)
		return r;
	if (mk->name) {
		fs_tx_put(&t, slot, entry,
			  fs_dirent_encode(mk->ino, fs_type_of_mode(i->a.mode), mk->name, mk->len,
					   entry));
		fs_dir_grow(&dir->a, mk->len, S_ISDIR(i->a.mode));
		fs_tx_touch(&t, dir);
	} else {
		i->a.nlink = 0;
		fs_tx_put(&t, fs_key(FS_OBJ_META, FS_KEY_ORPHAN, mk->ino), &orphan, sizeof(orphan));
	}
	if (S_ISLNK(i->a.mode))
		stage_target(&t, mk->ino, mk->m->target, mk->target_len);
	r = fs_tx_commit(&t);
	if (r)
		return r;
	mk->attr = i->a;
	make_node(mk, &i->a);
	return 0;
}

static int make(struct fs *fs, struct make *mk, struct fs_attr *ret_a, struct fs_file **ret_f)
{
	int r = -ENOMEM;

	if (fs->o.read_only)
		return -EROFS;
	mk->spare = calloc(1, sizeof(*mk->spare));
	if (ret_f)
		mk->file = malloc(sizeof(*mk->file));
	if (mk->spare && (mk->file || !ret_f))
		r = vol_change(fs->vol, false, make_fn, mk);
	free(mk->spare);
	free(mk->acl);
	if (r) {
		free(mk->file);
		return r;
	}
	*ret_a = mk->attr;
	if (ret_f)
		*ret_f = mk->file;
	return 0;
}

int fs_make(struct fs *fs, uint64_t dir, const char *name, const struct fs_make *m,
	    struct fs_attr *ret_a, struct fs_file **ret_f)
{
	struct make mk = {.fs = fs, .dir = dir, .name = name, .m = m};
	int r = fs_name_check(name, &mk.len);

	if (r)
		return r;
	if (S_ISLNK(m->mode)) {
		mk.target_len = strlen(m->target);
		if (!mk.target_len)
			return -ENOENT;
		if (mk.target_len > FS_TARGET_MAX)
			return -ENAMETOOLONG;
	}
	return make(fs, &mk, ret_a, ret_f);
}

int fs_make_tmpfile(struct fs *fs, uint64_t dir, const struct fs_make *m, struct fs_attr *ret_a,
		    struct fs_file **ret_f)
{
	struct make mk = {.fs = fs, .dir = dir, .m = m};
	int r = make(fs, &mk, ret_a, ret_f);

	if (!r) {
		lock_take(&fs->lock);
		fs->orphans++;
		lock_drop(&fs->lock);
	}
	return r;
}

struct link {
	struct fs *fs;
	uint64_t ino, dir;
	const char *name;
	size_t len;
	struct fs_attr attr;
	struct fs_node *spare;
};

static int link_fn(struct vol *v, void *arg)
{
	struct link *l = arg;
	uint8_t entry[sizeof(struct fs_dirent_disk) + FS_NAME_MAX];
	struct fs_tx_inode *dir, *i;
	struct fs_node *n;
	struct fs_dent d;
	struct key slot;
	struct fs_tx t;
	bool orphan;
	int r;

	(void)v;
	fs_tx_init(&t, l->fs);
	r = fs_tx_dir(&t, l->dir, &dir);
	if (!r)
		r = fs_tx_inode(&t, l->ino, &i);
	if (!r)
		r = fs_dir_may_add(&dir->a);
	if (r)
		return r;
	if (S_ISDIR(i->a.mode) || i->a.flags & (FS_INODE_IMMUTABLE | FS_INODE_APPEND))
		return -EPERM;
	if (i->dead)
		return -ENOENT;
	if (i->a.nlink >= FS_LINK_MAX)
		return -EMLINK;
	r = fs_dent_find(&t, l->dir, l->name, l->len, &d, &slot);
	if (r != -ENOENT)
		return r ? r : -EEXIST;
	if (!slot.object)
		return -ENOSPC;
	fs_tx_put(&t, slot, entry,
		  fs_dirent_encode(l->ino, fs_type_of_mode(i->a.mode), l->name, l->len, entry));
	orphan = !i->a.nlink; /* O_TMPFILE; the kernel refuses other files without a name */
	if (orphan)
		fs_tx_del(&t, fs_key(FS_OBJ_META, FS_KEY_ORPHAN, l->ino));
	i->a.nlink++;
	i->a.ctime = t.now;
	i->dirty = true;
	fs_dir_grow(&dir->a, l->len, false);
	fs_tx_touch(&t, dir);
	r = fs_tx_commit(&t);
	if (r)
		return r;
	l->attr = i->a;
	lock_take(&l->fs->lock);
	n = fs_node_find_or_add(l->fs, l->ino, &l->spare);
	fs_node_cache(n, &i->a);
	n->lookups++;
	l->fs->orphans -= orphan;
	lock_drop(&l->fs->lock);
	return 0;
}

int fs_link(struct fs *fs, uint64_t ino, uint64_t dir, const char *name, struct fs_attr *ret_a)
{
	struct link l = {.fs = fs, .ino = ino, .dir = dir, .name = name};
	int r = fs_name_check(name, &l.len);

	if (r)
		return r;
	if (fs->o.read_only)
		return -EROFS;
	l.spare = calloc(1, sizeof(*l.spare));
	if (!l.spare)
		return -ENOMEM;
	r = vol_change(fs->vol, false, link_fn, &l);
	free(l.spare);
	if (!r)
		*ret_a = l.attr;
	return r;
}
