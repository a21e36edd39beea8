/* rename: one atomic change of at most two directories, two inodes and two entries.
 *
 *   plain      from -> i, to -> (j)    =>   to -> i            j loses a name
 *   EXCHANGE   from -> i, to -> j      =>   from -> j, to -> i
 *   WHITEOUT   from -> i, to -> (j)    =>   from -> character device 0:0, to -> i
 */
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include "fs/fs_dir.h"
#include "fs/fs_orphan.h"

struct rename {
	struct fs *fs;
	uint64_t dir, to_dir;
	const char *name, *to_name;
	size_t len, to_len;
	unsigned flags;
	uint32_t uid, gid;
	uint64_t white_ino; /* taken once, kept over restarts */
	bool reap;	    /* out */
	uint64_t reap_ino, reap_size;
};

/* What one run of the vol_fn has found. */
struct rename_view {
	struct fs_tx_inode *dir, *to_dir, *i, *j; /* j: NULL when the target name is free */
	struct fs_dent from, to;
	struct key to_free;
	uint8_t entry_to[sizeof(struct fs_dirent_disk) + FS_NAME_MAX];
	uint8_t entry_from[sizeof(struct fs_dirent_disk) + FS_NAME_MAX];
};

/* May directory `moved` go below `dir`? Not when it is dir or one of its ancestors. */
static int loop_check(struct fs_tx *t, uint64_t moved, uint64_t dir)
{
	unsigned inodes = t->inodes;
	int r = 0;

	while (dir != FS_OBJ_ROOT && !r) {
		struct fs_tx_inode *i;

		if (dir == moved)
			return -EINVAL;
		r = fs_tx_inode(t, dir, &i);
		if (!r && (!S_ISDIR(i->a.mode) || i->a.parent == dir))
			r = ERR_FORMAT;
		if (!r)
			dir = i->a.parent;
		t->inodes = inodes; /* only looked at */
	}
	return r == -ESTALE ? ERR_FORMAT : r;
}

static int rename_find(struct fs_tx *t, struct rename *rn, struct rename_view *w)
{
	int r = fs_tx_dir(t, rn->dir, &w->dir);

	if (!r)
		r = fs_tx_dir(t, rn->to_dir, &w->to_dir);
	if (!r)
		r = fs_dent_find(t, rn->dir, rn->name, rn->len, &w->from, NULL);
	if (r)
		return r;
	r = fs_tx_inode(t, w->from.ino, &w->i);
	if (r)
		return r == -ESTALE ? ERR_FORMAT : r;
	w->j = NULL;
	r = fs_dent_find(t, rn->to_dir, rn->to_name, rn->to_len, &w->to, &w->to_free);
	if (r == -ENOENT)
		return 0;
	if (!r)
		r = fs_tx_inode(t, w->to.ino, &w->j);
	return r == -ESTALE ? ERR_FORMAT : r;
}

static int rename_may(const struct rename_view *w)
{
	int r = fs_dir_may_remove(&w->dir->a, &w->i->a);

	if (r)
		return r;
	return w->j ? fs_dir_may_remove(&w->to_dir->a, &w->j->a) : fs_dir_may_add(&w->to_dir->a);
}

static int rename_check(struct fs_tx *t, const struct rename *rn, const struct rename_view *w)
{
	bool i_dir = S_ISDIR(w->i->a.mode), j_dir = w->j && S_ISDIR(w->j->a.mode);
	bool exchange = rn->flags & RENAME_EXCHANGE;
	int r = rename_may(w);

	if (r)
		return r;
	if (w->j && rn->flags & RENAME_NOREPLACE)
		return -EEXIST;
	if (!w->j && exchange)
		return -ENOENT;
	if (!w->j && !w->to_free.object)
		return -ENOSPC;
	if (rn->dir != rn->to_dir && i_dir)
		r = loop_check(t, w->i->a.ino, rn->to_dir);
	if (!r && exchange && rn->dir != rn->to_dir && j_dir)
		r = loop_check(t, w->j->a.ino, rn->dir);
	if (r || !w->j || exchange || w->i == w->j)
		return r;
	if (i_dir && !j_dir)
		return -ENOTDIR;
	if (!i_dir && j_dir)
		return -EISDIR;
	return j_dir ? fs_dent_none(t, w->j->a.ino) : 0;
}

/* An inode got another name, perhaps another parent. */
static void rename_moved(struct fs_tx *t, struct fs_tx_inode *i, uint64_t to_dir)
{
	i->a.ctime = t->now;
	if (S_ISDIR(i->a.mode))
		i->a.parent = to_dir;
	i->dirty = true;
}

static void stage_entry(struct fs_tx *t, struct key k, const struct fs_attr *a, const char *name,
			size_t len, uint8_t *buf)
{
	fs_tx_put(t, k, buf, fs_dirent_encode(a->ino, fs_type_of_mode(a->mode), name, len, buf));
}

static void rename_exchange(struct fs_tx *t, const struct rename *rn, struct rename_view *w)
{
	bool i_dir = S_ISDIR(w->i->a.mode), j_dir = S_ISDIR(w->j->a.mode);

	stage_entry(t, w->to.key, &w->i->a, rn->to_name, rn->to_len, w->entry_to);
	stage_entry(t, w->from.key, &w->j->a, rn->name, rn->len, w->entry_from);
	if (w->dir != w->to_dir && i_dir != j_dir) {
		w->dir->a.nlink += j_dir ? 1u : -1u;
		w->to_dir->a.nlink += i_dir ? 1u : -1u;
	}
	rename_moved(t, w->i, rn->to_dir);
	rename_moved(t, w->j, rn->dir);
}

static void rename_whiteout(struct fs_tx *t, struct rename *rn, struct rename_view *w)
{
	struct fs_tx_inode *white;

	if (!rn->white_ino)
		rn->white_ino = vol_new_object(t->v);
	white = fs_tx_inode_new(t, rn->white_ino);
	white->a.mode = S_IFCHR;
	white->a.nlink = 1;
	white->a.uid = rn->uid;
	white->a.gid = rn->gid;
	stage_entry(t, w->from.key, &white->a, rn->name, rn->len, w->entry_from);
	fs_dir_grow(&w->dir->a, rn->len, false);
}

static void rename_plain(struct fs_tx *t, struct rename *rn, struct rename_view *w)
{
	bool i_dir = S_ISDIR(w->i->a.mode);

	fs_dir_shrink(&w->dir->a, rn->len, i_dir);
	if (rn->flags & RENAME_WHITEOUT)
		rename_whiteout(t, rn, w);
	else
		fs_tx_del(t, w->from.key);
	if (w->j) {
		bool j_dir = S_ISDIR(w->j->a.mode);

		fs_dir_shrink(&w->to_dir->a, rn->to_len, j_dir);
		w->j->a.nlink = j_dir || !w->j->a.nlink ? 0 : w->j->a.nlink - 1;
		w->j->a.ctime = t->now;
		w->j->dirty = true;
		rn->reap = !w->j->a.nlink && fs_orphan_or_del(t, w->j);
		rn->reap_ino = w->j->a.ino;
		rn->reap_size = w->j->a.size;
	}
	fs_dir_grow(&w->to_dir->a, rn->to_len, i_dir);
	stage_entry(t, w->j ? w->to.key : w->to_free, &w->i->a, rn->to_name, rn->to_len,
		    w->entry_to);
	rename_moved(t, w->i, rn->to_dir);
}

static int rename_fn(struct vol *v, void *arg)
{
	struct rename *rn = arg;
	struct rename_view w;
	struct fs_tx t;
	int r;

	(void)v;
	rn->reap = false;
	fs_tx_init(&t, rn->fs);
	r = rename_find(&t, rn, &w);
	if (!r)
		r = rename_check(&t, rn, &w);
	if (r)
		return r;
	if (w.i == w.j)
		return 0; /* two names of one file: POSIX wants nothing to happen */
	if (rn->flags & RENAME_EXCHANGE)
		rename_exchange(&t, rn, &w);
	else
		rename_plain(&t, rn, &w);
	fs_tx_touch(&t, w.dir);
	fs_tx_touch(&t, w.to_dir);
	return fs_tx_commit(&t);
}

int fs_rename(struct fs *fs, uint64_t dir, const char *name, uint64_t to_dir, const char *to_name,
	      unsigned flags, uint32_t uid, uint32_t gid)
{
	struct rename rn = {.fs = fs,
			    .dir = dir,
			    .to_dir = to_dir,
			    .name = name,
			    .to_name = to_name,
			    .flags = flags,
			    .uid = uid,
			    .gid = gid};
	int r = fs_name_check(name, &rn.len);

	if (!r)
		r = fs_name_check(to_name, &rn.to_len);
	if (r)
		return r;
	if (fs->o.read_only)
		return -EROFS;
	if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT) ||
	    (flags & RENAME_EXCHANGE && flags & (RENAME_NOREPLACE | RENAME_WHITEOUT)))
		return -EINVAL;
	r = vol_change(fs->vol, false, rename_fn, &rn);
	if (!r && rn.reap)
		fs_orphan_made(fs, rn.reap_ino, rn.reap_size);
	return r;
}
