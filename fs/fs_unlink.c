/* Names go: unlink, rmdir. */
#include <errno.h>
#include <sys/stat.h>
#include "fs/fs_dir.h"
#include "fs/fs_orphan.h"

struct unlink {
	struct fs *fs;
	uint64_t dir;
	const char *name;
	size_t len;
	bool rmdir;
	bool reap; /* out: an orphan came to be */
	uint64_t ino, size;
};

static int unlink_check(struct fs_tx *t, const struct unlink *u, const struct fs_attr *dir,
			const struct fs_attr *a)
{
	int r = fs_dir_may_remove(dir, a);

	if (r)
		return r;
	if (!u->rmdir)
		return S_ISDIR(a->mode) ? -EISDIR : 0;
	if (!S_ISDIR(a->mode))
		return -ENOTDIR;
	return fs_dent_none(t, a->ino);
}

static int unlink_fn(struct vol *v, void *arg)
{
	struct unlink *u = arg;
	struct fs_tx_inode *dir, *i;
	struct fs_dent d;
	struct fs_tx t;
	int r;

	(void)v;
	fs_tx_init(&t, u->fs);
	r = fs_tx_dir(&t, u->dir, &dir);
	if (!r)
		r = fs_dent_find(&t, u->dir, u->name, u->len, &d, NULL);
	if (r)
		return r;
	r = fs_tx_inode(&t, d.ino, &i);
	if (r)
		return r == -ESTALE ? ERR_FORMAT : r;
	r = unlink_check(&t, u, &dir->a, &i->a);
	if (r)
		return r;
	fs_tx_del(&t, d.key);
	fs_dir_shrink(&dir->a, u->len, u->rmdir);
	fs_tx_touch(&t, dir);
	if (!i->a.nlink)
		return ERR_FORMAT;
	i->a.nlink = u->rmdir ? 0 : i->a.nlink - 1;
	i->a.ctime = t.now;
	i->dirty = true;
	u->reap = !i->a.nlink && fs_orphan_or_del(&t, i);
	u->ino = i->a.ino;
	u->size = i->a.size;
	return fs_tx_commit(&t);
}

static int unlink_name(struct unlink *u)
{
	int r = fs_name_check(u->name, &u->len);

	if (r)
		return r;
	if (u->fs->o.read_only)
		return -EROFS;
	r = vol_change(u->fs->vol, true, unlink_fn, u);
	if (!r && u->reap)
		fs_orphan_made(u->fs, u->ino, u->size);
	return r;
}

int fs_unlink(struct fs *fs, uint64_t dir, const char *name)
{
	struct unlink u = {.fs = fs, .dir = dir, .name = name};

	return unlink_name(&u);
}

int fs_rmdir(struct fs *fs, uint64_t dir, const char *name)
{
	struct unlink u = {.fs = fs, .dir = dir, .name = name, .rmdir = true};

	return unlink_name(&u);
}
