/* rescue_fs: walk a rescued tree. First the root and all below, then what was not met.
 *
 * An inode that no directory names is the top of a lost part: those come first, so that what hangs
 * below keeps its place; whatever is left then (loops, too deep, names that were taken) is put into
 * lost+found one by one.
 */
#include "fs/rescue_fs.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "fs/rescue_impl.h"

struct level { /* a directory being copied */
	int fd;
	size_t path_len; /* of c->path, its parent's */
	char name[FS_NAME_MAX + 1];
	struct fs_attr a;
	struct rescue_cursor cur;
};
struct walk {
	struct rescue_copy *c;
	struct level *level; /* RESCUE_DEPTH_MAX */
	unsigned depth;
};

static bool path_push(struct rescue_copy *c, const char *name)
{
	size_t len = strlen(c->path), n = strlen(name);

	if (len + n + 2 > sizeof(c->path))
		return false;
	snprintf(c->path + len, sizeof(c->path) - len, "%s%s", len ? "/" : "", name);
	return true;
}

/* fd is taken over. The directory's own attributes are set when all is in it. */
static int level_push(struct walk *w, int fd, const char *name, const struct fs_attr *a)
{
	struct level *l = &w->level[w->depth];
	int r = rescue_cursor_init(&l->cur, w->c->v);

	if (r) {
		close(fd);
		return r;
	}
	l->fd = fd;
	l->a = *a;
	snprintf(l->name, sizeof(l->name), "%s", name);
	l->path_len = strlen(w->c->path);
	if (*name && !path_push(w->c, name)) {
		rescue_cursor_fini(&l->cur);
		close(fd);
		return -ENAMETOOLONG;
	}
	rescue_seek(&l->cur, fs_key(a->ino, FS_KEY_DIRENT, 0));
	w->depth++;
	return 0;
}

static void level_pop(struct walk *w)
{
	struct rescue_copy *c = w->c;
	struct level *l = &w->level[--w->depth];

	if (rescue_gap_between(c->v, fs_key(l->a.ino, FS_KEY_INODE, 0),
			       fs_key(l->a.ino, FS_KEY_DIRENT, UINT64_MAX))) {
		rescue_damage(c, "", l->a.ino, "metadata lost: entries may be missing or old", 0,
			      0);
		c->res->damaged++;
	}
	rescue_attrs(c, l->fd, ".", &l->a);
	c->path[l->path_len] = 0;
	rescue_cursor_fini(&l->cur);
	close(l->fd);
}

static int open_new_directory(int at, const char *name)
{
	int fd;

	if (mkdirat(at, name, 0700))
		return -errno;
	fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int make_directory(struct walk *w, int at, const char *name, const struct fs_attr *a)
{
	struct rescue_copy *c = w->c;
	int fd, r;

	if (w->depth == RESCUE_DEPTH_MAX)
		return -ELOOP;
	fd = open_new_directory(at, name);
	if (fd < 0)
		return fd;
	r = rescue_set_add(&c->made, a->ino, NULL);
	if (r) {
		close(fd);
		return r;
	}
	c->res->directories++;
	return level_push(w, fd, name, a);
}

/* Another name of a file that was made. */
static int link_again(struct rescue_copy *c, int at, const char *name, const struct fs_attr *a)
{
	const char *first = rescue_set_text(&c->made, a->ino);

	if (!first) { /* more names than its link count says, or a directory twice */
		rescue_damage(c, name, a->ino, "a further name of something with one", 0, 0);
		c->res->damaged++;
		return 0;
	}
	if (linkat(c->root_fd, first, at, name, 0))
		return -errno;
	c->res->links++;
	return 0;
}

static int make_other(struct rescue_copy *c, int at, const char *name, const struct fs_attr *a)
{
	char path[PATH_MAX];
	int n = snprintf(path, sizeof(path), "%s%s%s", c->path, *c->path ? "/" : "", name);
	bool keep = a->nlink > 1 && n < (int)sizeof(path);
	int r = rescue_make(c, at, name, a);

	return r ? r : rescue_set_add(&c->made, a->ino, keep ? path : NULL);
}

static int make_any(struct walk *w, int at, const char *name, const struct fs_attr *a)
{
	struct rescue_copy *c = w->c;

	if (c->rep->progress)
		c->rep->progress(c->rep->arg, c->made.count,
				 c->res->good_bytes + c->res->lost_bytes);
	if (rescue_set_has(&c->made, a->ino))
		return link_again(c, at, name, a);
	if (S_ISDIR(a->mode))
		return make_directory(w, at, name, a);
	return make_other(c, at, name, a);
}

/* What concerns one name only: it is told, and what it names goes to lost+found. */
static int excuse(struct rescue_copy *c, const char *name, uint64_t ino, int r)
{
	const char *what;

	switch (r) {
	case -EEXIST:
		what = "the name exists twice";
		break;
	case -ENOENT:
		what = "the inode is lost";
		break;
	case -ELOOP:
	case -ENAMETOOLONG:
		what = "too deep, or its path is too long";
		break;
	case -EINVAL:
	case -EILSEQ:
	case -EFBIG:
		what = "the target refuses the name or the size";
		break;
	default:
		return r;
	}
	rescue_damage(c, name, ino, what, 0, 0);
	c->res->damaged++;
	return 0;
}

static int entry_copy(struct walk *w, int at, const struct btree_item *it)
{
	struct rescue_copy *c = w->c;
	struct fs_dirent_view d;
	char name[FS_NAME_MAX + 1];
	struct fs_attr a;
	int r;

	if (fs_dirent_decode(it, &d))
		return 0;
	memcpy(name, d.name, d.name_len);
	name[d.name_len] = 0;
	if (!strcmp(name, ".") || !strcmp(name, ".."))
		return 0;
	r = rescue_inode(c, d.ino, &a);
	if (!r)
		r = make_any(w, at, name, &a);
	return r ? excuse(c, name, d.ino, r) : 0;
}

/* Copy all below the levels that are open. */
static int walk_run(struct walk *w)
{
	int r = 0;

	while (w->depth) {
		struct level *l = &w->level[w->depth - 1];
		struct btree_item it;

		if (r || rescue_next(&l->cur, &it) || it.key.object != l->a.ino ||
		    it.key.type != FS_KEY_DIRENT)
			level_pop(w);
		else
			r = entry_copy(w, l->fd, &it);
	}
	return r;
}

static int copy_root(struct walk *w)
{
	struct rescue_copy *c = w->c;
	struct fs_attr a;
	int fd, r = rescue_inode(c, FS_OBJ_ROOT, &a);

	if (r || !S_ISDIR(a.mode)) { /* its entries may still be there */
		rescue_damage(c, "", FS_OBJ_ROOT, "the inode of the root directory is lost", 0, 0);
		c->res->damaged++;
		a = (struct fs_attr){.ino = FS_OBJ_ROOT, .mode = S_IFDIR | 0755, .parent = 1};
	}
	fd = openat(c->root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	c->res->directories++;
	r = rescue_set_add(&c->made, FS_OBJ_ROOT, NULL);
	if (r) {
		close(fd);
		return r;
	}
	r = level_push(w, fd, "", &a);
	return r ? r : walk_run(w);
}

/* ---- lost+found ---- */

static int names_read(struct rescue_copy *c)
{
	struct rescue_cursor cur;
	struct btree_item it;
	int r = rescue_cursor_init(&cur, c->v);

	if (r)
		return r;
	rescue_seek(&cur, KEY_MIN);
	while (!r && !rescue_next(&cur, &it)) {
		struct fs_dirent_view d;

		if (it.key.type != FS_KEY_DIRENT || fs_dirent_decode(&it, &d))
			continue;
		r = rescue_set_add(&c->named, d.ino, NULL);
		r = r == -EEXIST ? 0 : r;
	}
	rescue_cursor_fini(&cur);
	return r;
}

static int lost_found_open(struct rescue_copy *c)
{
	if (mkdirat(c->root_fd, "lost+found", 0700) && errno != EEXIST)
		return -errno;
	int fd = openat(c->root_fd, "lost+found", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int lost_copy(struct walk *w, int *fd, const struct fs_attr *a)
{
	struct rescue_copy *c = w->c;
	char name[24];
	int r = 0;

	if (*fd < 0)
		*fd = lost_found_open(c);
	if (*fd < 0)
		return *fd;
	snprintf(name, sizeof(name), "%llu", (unsigned long long)a->ino);
	snprintf(c->path, sizeof(c->path), "lost+found");
	rescue_damage(c, name, a->ino, "no directory names it", 0, 0);
	c->res->lost_found++;
	r = make_any(w, *fd, name, a);
	if (!r)
		r = walk_run(w);
	if (r)
		r = excuse(c, name, a->ino, r);
	c->path[0] = 0;
	return r;
}

/* Inodes not met yet; tops: only those that nothing names. Without a name and without links they
 * were deleted and only kept open. */
static int copy_lost(struct walk *w, bool tops)
{
	struct rescue_copy *c = w->c;
	struct rescue_cursor cur;
	struct btree_item it;
	int fd = -1, r = rescue_cursor_init(&cur, c->v);

	if (r)
		return r;
	rescue_seek(&cur, KEY_MIN);
	while (!r && !rescue_next(&cur, &it)) {
		struct fs_attr a;

		if (it.key.type != FS_KEY_INODE || fs_inode_decode(&it, &a) || !a.ino || !a.nlink ||
		    rescue_set_has(&c->made, a.ino) || (tops && rescue_set_has(&c->named, a.ino)))
			continue;
		r = lost_copy(w, &fd, &a);
	}
	rescue_cursor_fini(&cur);
	if (fd >= 0)
		close(fd);
	return r;
}

int rescue_fs_copy(struct rescue_view *v, int dir_fd, const struct rescue_fs_report *rep,
		   struct rescue_fs_result *ret_r, struct err *e)
{
	struct rescue_copy *c = calloc(1, sizeof(*c));
	struct walk w = {.c = c, .level = calloc(RESCUE_DEPTH_MAX, sizeof(*w.level))};
	int r = -ENOMEM;

	*ret_r = (struct rescue_fs_result){0};
	if (!c || !w.level)
		goto out;
	c->v = v;
	c->rep = rep;
	c->res = ret_r;
	c->root_fd = dir_fd;
	r = rescue_cursor_init(&c->cur, v);
	if (r)
		goto out;
	r = copy_root(&w);
	if (!r)
		r = names_read(c);
	if (!r)
		r = copy_lost(&w, true);
	if (!r)
		r = copy_lost(&w, false);
	rescue_cursor_fini(&c->cur);
	rescue_set_fini(&c->made);
	rescue_set_fini(&c->named);
out:
	free(w.level);
	free(c);
	return r ? err_set(e, r, "write the copy: %s", err_str(r)) : 0;
}
