/* Repair of what the check found; see fs_check.h. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include "fs/fs_check_impl.h"
#include "fs/fs_dir.h"

#define ROUNDS_MAX 12
#define LOST	   "lost+found"

struct repair {
	struct fs *fs;
	struct fs_check *c;
	const struct fs_fix *x;
	uint64_t lost; /* the directory; 0: not yet looked for */
	char entry[sizeof(struct fs_dirent_disk) + FS_NAME_MAX];
};

static void done(struct repair *rp, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void done(struct repair *rp, const char *fmt, ...)
{
	va_list ap;

	rp->c->r->repaired++;
	if (!rp->c->out)
		return;
	fprintf(rp->c->out, "%s: repaired: ", rp->c->name);
	va_start(ap, fmt);
	vfprintf(rp->c->out, fmt, ap);
	va_end(ap);
	fputc('\n', rp->c->out);
}

/* ---- one field of an inode ---- */

static int inode_fn(struct vol *v, void *arg)
{
	struct repair *rp = arg;
	struct fs_tx_inode *i;
	struct fs_tx t;
	int r;

	(void)v;
	fs_tx_init(&t, rp->fs);
	r = fs_tx_inode(&t, rp->x->ino, &i);
	if (r)
		return r;
	switch (rp->x->kind) {
	case FS_FIX_NLINK:
		i->a.nlink = (uint32_t)rp->x->value;
		break;
	case FS_FIX_SIZE:
		i->a.size = rp->x->value;
		break;
	case FS_FIX_PARENT:
		i->a.parent = rp->x->value;
		break;
	default:
		i->a.flags = (uint32_t)rp->x->value;
		break;
	}
	i->dirty = true;
	return fs_tx_commit(&t);
}

/* A new inode for what is there without one; its size and counts come with the next round. */
static int make_fn(struct vol *v, void *arg)
{
	struct repair *rp = arg;
	struct fs_tx_inode *i;
	struct fs_tx t;

	(void)v;
	fs_tx_init(&t, rp->fs);
	i = fs_tx_inode_new(&t, rp->x->ino);
	i->a.mode = (uint32_t)rp->x->value;
	if (S_ISDIR(i->a.mode)) {
		i->a.nlink = 2;
		i->a.parent = FS_OBJ_ROOT;
	}
	return fs_tx_commit(&t);
}

static int orphan_fn(struct vol *v, void *arg)
{
	struct repair *rp = arg;
	struct fs_tx t;

	(void)v;
	fs_tx_init(&t, rp->fs);
	fs_tx_del(&t, fs_key(FS_OBJ_META, FS_KEY_ORPHAN, rp->x->ino));
	return fs_tx_commit(&t);
}

/* ---- entries ---- */

/* Remove the entry; or put it where its name belongs; or give it the type of its inode. */
static int entry_fn(struct vol *v, void *arg)
{
	struct repair *rp = arg;
	struct key k = fs_key(rp->x->ino, FS_KEY_DIRENT, rp->x->value);
	struct fs_tx_inode *i;
	struct fs_dirent_view d;
	struct fs_dent other;
	struct btree_item it;
	struct fs_tx t;
	uint16_t len;
	int r = vol_get(v, k, &it);

	if (!r)
		r = fs_dirent_decode(&it, &d);
	if (r)
		return r;
	fs_tx_init(&t, rp->fs);
	len = it.len;
	memcpy(rp->entry, it.value, len);
	if (rp->x->kind == FS_FIX_ENTRY_TYPE) {
		r = fs_tx_inode(&t, d.ino, &i);
		if (r)
			return r;
		((struct fs_dirent_disk *)(void *)rp->entry)->type = fs_type_of_mode(i->a.mode);
		fs_tx_put(&t, k, rp->entry, len);
		return fs_tx_commit(&t);
	}
	fs_tx_del(&t, k);
	if (rp->x->kind == FS_FIX_ENTRY_MOVE) {
		r = fs_dent_find(&t, rp->x->ino, rp->entry + sizeof(struct fs_dirent_disk),
				 len - sizeof(struct fs_dirent_disk), &other, &k);
		if (r != -ENOENT)
			return r ? r : -EEXIST;
		if (!k.object)
			return -ENOSPC;
		fs_tx_put(&t, k, rp->entry, len);
	}
	return fs_tx_commit(&t);
}

/* ---- lost+found ---- */

/* Find or make it; another name is taken when something else is there. */
static int lost_find(struct repair *rp)
{
	const struct fs_make m = {.mode = S_IFDIR | 0700};
	char name[sizeof(LOST) + 4] = LOST;
	struct fs_attr a;
	int r = 0;

	for (unsigned n = 1; !rp->lost && n < 100; n++) {
		r = fs_lookup(rp->fs, FS_OBJ_ROOT, name, &a);
		if (r == -ENOENT)
			r = fs_make(rp->fs, FS_OBJ_ROOT, name, &m, &a, NULL);
		if (r && r != ERR_FORMAT) /* that is: an entry still to be removed */
			return r;
		if (!r && S_ISDIR(a.mode))
			rp->lost = a.ino;
		snprintf(name, sizeof(name), LOST ".%u", n);
	}
	return rp->lost ? 0 : -EEXIST;
}

static int adopt_fn(struct vol *v, void *arg)
{
	struct repair *rp = arg;
	const struct fs_seen *s = fs_check_seen(rp->c, rp->x->ino);
	struct fs_tx_inode *dir, *i;
	struct fs_dent d;
	struct fs_tx t;
	struct key slot;
	char name[24];
	size_t len;
	int r;

	(void)v;
	fs_tx_init(&t, rp->fs);
	r = fs_tx_dir(&t, rp->lost, &dir);
	if (!r)
		r = fs_tx_inode(&t, rp->x->ino, &i);
	if (r)
		return r;
	len = (size_t)snprintf(name, sizeof(name), "#%" PRIu64, rp->x->ino);
	r = fs_dent_find(&t, rp->lost, name, len, &d, &slot);
	if (r != -ENOENT)
		return r ? r : -EEXIST;
	if (!slot.object)
		return -ENOSPC;
	if (rp->x->value)
		fs_tx_del(&t, fs_key(s->named_by, FS_KEY_DIRENT, s->slot));
	fs_tx_put(&t, slot, rp->entry,
		  fs_dirent_encode(rp->x->ino, fs_type_of_mode(i->a.mode), name, len, rp->entry));
	if (S_ISDIR(i->a.mode))
		i->a.parent = rp->lost;
	else
		i->a.nlink = 1;
	i->dirty = true;
	fs_dir_grow(&dir->a, len, S_ISDIR(i->a.mode));
	fs_tx_touch(&t, dir);
	return fs_tx_commit(&t);
}

/* ---- all of it ---- */

static int change(struct repair *rp, vol_fn *fn)
{
	return vol_change(rp->fs->vol, true, fn, rp);
}

static int fix_entry(struct repair *rp)
{
	int r = change(rp, entry_fn);

	if (r)
		return r;
	if (rp->x->kind == FS_FIX_ENTRY_DEL)
		done(rp, "an entry of directory %" PRIu64 " removed", rp->x->ino);
	else
		done(rp, "an entry of directory %" PRIu64 " corrected", rp->x->ino);
	return 0;
}

static int fix_adopt(struct repair *rp)
{
	int r = lost_find(rp);

	if (!r)
		r = change(rp, adopt_fn);
	if (!r)
		done(rp, "inode %" PRIu64 " linked in /" LOST " as #%" PRIu64, rp->x->ino,
		     rp->x->ino);
	return r;
}

static int fix(struct repair *rp)
{
	int r;

	switch (rp->x->kind) {
	case FS_FIX_NONE:
		return 0;
	case FS_FIX_ENTRY_DEL:
	case FS_FIX_ENTRY_TYPE:
	case FS_FIX_ENTRY_MOVE:
		return fix_entry(rp);
	case FS_FIX_ADOPT:
		return fix_adopt(rp);
	case FS_FIX_INODE:
		r = change(rp, make_fn);
		if (!r)
			done(rp, "a new inode %" PRIu64 " for what was there", rp->x->ino);
		return r;
	case FS_FIX_ORPHAN_DEL:
		r = change(rp, orphan_fn);
		if (!r)
			done(rp, "orphan %" PRIu64 " is listed no more", rp->x->ino);
		return r;
	default:
		r = change(rp, inode_fn);
		if (!r)
			done(rp, "inode %" PRIu64 " corrected", rp->x->ino);
		return r;
	}
}

/* One round: check, then a change for every problem that has one. */
static int repair_round(struct fs *fs, struct fs_check *c)
{
	struct repair rp = {.fs = fs, .c = c};
	int r = fs_check_run(fs->vol, c);

	if (!r && c->newer)
		return ERR_VERSION;
	if (!r && c->blind)
		return -EIO;
	for (size_t k = 0; k < c->fixes && !r; k++) {
		rp.x = &c->fix[k];
		r = fix(&rp);
		/* an earlier change of this round may have taken it away, its place is still wrong,
		 * or a directory is immutable: seen again in the next, or left */
		if (r == -ENOENT || r == -ESTALE || r == -EEXIST || r == -EPERM || r == ERR_FORMAT)
			r = 0;
	}
	return r;
}

static int repair_rounds(struct fs *fs, const char *name, FILE *out, fs_check_commit_fn *commit,
			 void *arg, struct fs_check_result *res)
{
	uint64_t repaired;
	unsigned round = 0;
	int r = commit(arg);

	do {
		struct fs_check c = {.name = name, .out = out, .r = res, .want_fixes = true};
		int rc = 0;

		repaired = res->repaired;
		res->inodes = res->directories = res->entries = res->problems = 0;
		if (!r)
			r = repair_round(fs, &c);
		fs_check_fini(&c);
		if (res->repaired > repaired)
			rc = commit(arg); /* what was done before an error, too */
		r = r ? r : rc;
		res->left = res->problems;
	} while (!r && res->repaired > repaired && ++round < ROUNDS_MAX);
	if (round == ROUNDS_MAX || r) /* of the last round */
		res->left -=
			res->repaired - repaired < res->left ? res->repaired - repaired : res->left;
	res->problems = res->repaired + res->left;
	return r;
}

/* Why it gave up, as text. */
static int given_up(const char *name, int r, struct err *e)
{
	switch (r) {
	case ERR_VERSION:
		return err_set(
			e, r,
			"%s: not repaired, because a newer version of Tarn has written to it: "
			"use that to repair it",
			name);
	case -EIO:
		return err_set(e, r,
			       "%s: not repaired, because parts of it cannot be read; scrub the "
			       "pool, or save what is there with `tarn rescue`",
			       name);
	}
	return err_set(e, r, "repair the tree of %s: %s", name, err_str(r));
}

int fs_repair(struct vol *v, const char *name, FILE *out, fs_check_commit_fn *commit, void *arg,
	      struct fs_check_result *ret_r, struct err *e)
{
	const struct fs_options o = {.keep_orphans = true};
	struct fs_check c = {.name = name};
	struct fs *fs;
	int r = fs_check_look(v, &c);

	*ret_r = (struct fs_check_result){0};
	if (r)
		return given_up(name, r, e);
	if (!c.made) /* opening it would make a tree */
		return fs_check(v, name, out, ret_r, e);
	r = fs_open(v, &o, &fs, e);
	if (r)
		return r;
	r = repair_rounds(fs, name, out, commit, arg, ret_r);
	fs_close(fs);
	return r ? given_up(name, r, e) : 0;
}
