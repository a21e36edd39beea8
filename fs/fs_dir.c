#include "fs/fs_dir.h"
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include "fs/fs_hash.h"

#define DIR_BATCH 64u /* entries per run under the pool's lock */

int fs_name_check(const char *name, size_t *ret_len)
{
	size_t len = strlen(name);

	if (len > FS_NAME_MAX)
		return -ENAMETOOLONG;
	if (!len || memchr(name, '/', len))
		return -EINVAL;
	*ret_len = len;
	return 0;
}

static bool is_dot(const char *name)
{
	return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]));
}

static uint64_t slot_of(const uint8_t hash_key[16], const char *name, size_t len)
{
	uint64_t h = fs_hash(hash_key, name, len) >> 1;

	if (h < FS_SLOT_MIN)
		h += FS_SLOT_MIN;
	return h > FS_SLOT_MAX ? FS_SLOT_MAX : h;
}

int fs_dent_find(struct fs_tx *t, uint64_t dir, const char *name, size_t len, struct fs_dent *ret_d,
		 struct key *ret_free)
{
	uint64_t home = slot_of(t->fs->hash_key, name, len), next = home, free_slot = 0;
	struct fs_dirent_view d;
	struct btree_item it;
	int r;

	while (next < home + FS_HASH_WINDOW) {
		r = vol_seek_ge(t->v, fs_key(dir, FS_KEY_DIRENT, next), &it);
		if (r && r != -ENOENT)
			return r;
		if (r || it.key.object != dir || it.key.type != FS_KEY_DIRENT ||
		    it.key.offset >= home + FS_HASH_WINDOW)
			break;
		r = fs_dirent_decode(&it, &d);
		if (r)
			return r;
		if (d.name_len == len && !memcmp(d.name, name, len)) {
			*ret_d = (struct fs_dent){it.key, d.ino, d.type};
			return 0;
		}
		if (it.key.offset > next && !free_slot)
			free_slot = next;
		next = it.key.offset + 1;
	}
	if (!free_slot && next < home + FS_HASH_WINDOW)
		free_slot = next;
	if (ret_free)
		*ret_free = fs_key(free_slot ? dir : 0, FS_KEY_DIRENT, free_slot);
	return -ENOENT;
}

bool fs_dent_placed(const uint8_t hash_key[16], const char *name, size_t len, uint64_t slot)
{
	return slot - slot_of(hash_key, name, len) < FS_HASH_WINDOW;
}

int fs_dent_none(struct fs_tx *t, uint64_t dir)
{
	struct btree_item it;
	int r = vol_seek_ge(t->v, fs_key(dir, FS_KEY_DIRENT, 0), &it);

	if (r)
		return r == -ENOENT ? 0 : r;
	return it.key.object == dir && it.key.type == FS_KEY_DIRENT ? -ENOTEMPTY : 0;
}

struct lookup {
	struct fs *fs;
	uint64_t dir;
	const char *name;
	size_t len;
	struct fs_node *spare;
	struct fs_attr attr;
};

static void node_ref(struct fs *fs, const struct fs_attr *a, struct fs_node **spare)
{
	struct fs_node *n;

	lock_take(&fs->lock);
	n = fs_node_find_or_add(fs, a->ino, spare);
	if (!n->attr_valid)
		fs_node_cache(n, a);
	n->lookups++;
	lock_drop(&fs->lock);
}

static int lookup_fn(struct vol *v, void *arg)
{
	struct lookup *l = arg;
	struct fs_tx_inode *dir, *i;
	struct fs_dent d;
	struct fs_tx t;
	int r;

	(void)v;
	fs_tx_init(&t, l->fs);
	if (l->len == 1 && l->name[0] == '.') {
		d.ino = l->dir; /* by handle: any inode */
	} else {
		r = fs_tx_dir(&t, l->dir, &dir);
		if (r)
			return r;
		if (l->len == 2 && is_dot(l->name))
			d.ino = dir->a.parent;
		else
			r = fs_dent_find(&t, l->dir, l->name, l->len, &d, NULL);
		if (r)
			return r;
	}
	r = fs_tx_inode(&t, d.ino, &i);
	if (r)
		return r == -ESTALE && !is_dot(l->name) ? ERR_FORMAT : r;
	if (i->dead || (!i->a.nlink && is_dot(l->name)))
		return -ESTALE;
	l->attr = i->a;
	node_ref(l->fs, &i->a, &l->spare);
	return 0;
}

int fs_lookup(struct fs *fs, uint64_t dir, const char *name, struct fs_attr *ret_a)
{
	struct lookup l = {.fs = fs, .dir = dir, .name = name};
	int r = fs_name_check(name, &l.len);

	if (r)
		return r;
	l.spare = calloc(1, sizeof(*l.spare));
	if (!l.spare)
		return -ENOMEM;
	r = vol_query(fs->vol, lookup_fn, &l);
	free(l.spare);
	if (!r)
		*ret_a = l.attr;
	return r;
}

void fs_forget(struct fs *fs, uint64_t ino, uint64_t count)
{
	struct fs_node *n;

	lock_take(&fs->lock);
	n = fs_node_find(fs, ino);
	if (n) {
		n->lookups -= count < n->lookups ? count : n->lookups;
		fs_node_drop_unused(fs, n);
	}
	lock_drop(&fs->lock);
}

struct readdir {
	struct fs *fs;
	uint64_t dir, cookie;
	bool plus;
	struct fs_dirent *out;
	unsigned max, n; /* entries done: kept over restarts */
	struct fs_node *spare;
	bool end;
};

/* plus: attributes and a reference for the entry just filled. */
static int readdir_plus(struct readdir *rd, struct fs_tx *t, struct fs_dirent *e)
{
	struct fs_tx_inode *i;
	int r;

	if (!rd->spare)
		rd->spare = calloc(1, sizeof(*rd->spare));
	if (!rd->spare)
		return -ENOMEM;
	t->inodes = 0;
	r = fs_tx_inode(t, e->ino, &i);
	if (r)
		return r == -ESTALE ? ERR_FORMAT : r;
	e->attr = i->a;
	node_ref(rd->fs, &i->a, &rd->spare);
	return 0;
}

static void readdir_dot(struct readdir *rd, uint64_t parent)
{
	while (rd->cookie < 2 && rd->n < rd->max) {
		struct fs_dirent *e = &rd->out[rd->n++];

		e->ino = rd->cookie ? parent : rd->dir;
		e->type = DT_DIR;
		e->name_len = (uint8_t)(rd->cookie + 1);
		memcpy(e->name, "..", (size_t)e->name_len);
		e->name[e->name_len] = 0;
		e->cookie = ++rd->cookie;
	}
}

static int readdir_fn(struct vol *v, void *arg)
{
	struct readdir *rd = arg;
	struct fs_tx_inode *dir;
	struct fs_tx t;
	unsigned stop = rd->n + DIR_BATCH;
	int r;

	fs_tx_init(&t, rd->fs);
	r = fs_tx_dir(&t, rd->dir, &dir);
	if (r)
		return r;
	readdir_dot(rd, dir->a.parent);
	while (rd->n < rd->max && rd->n < stop) {
		struct fs_dirent *e = &rd->out[rd->n];
		struct fs_dirent_view d;
		struct btree_item it;

		if (rd->cookie >= (uint64_t)INT64_MAX)
			break;
		r = vol_seek_ge(v, fs_key(rd->dir, FS_KEY_DIRENT, rd->cookie + 1), &it);
		if (r && r != -ENOENT)
			return r;
		if (r || it.key.object != rd->dir || it.key.type != FS_KEY_DIRENT) {
			rd->end = true;
			return 0;
		}
		r = fs_dirent_decode(&it, &d);
		if (r)
			return r;
		e->ino = d.ino;
		e->cookie = it.key.offset;
		e->type = d.type;
		e->name_len = d.name_len;
		memcpy(e->name, d.name, d.name_len);
		e->name[d.name_len] = 0;
		r = rd->plus ? readdir_plus(rd, &t, e) : 0;
		if (r)
			return r;
		rd->cookie = e->cookie;
		rd->n++;
	}
	return 0;
}

int fs_readdir(struct fs *fs, uint64_t dir, uint64_t cookie, bool plus, struct fs_dirent *ret_d,
	       unsigned max, unsigned *ret_n)
{
	struct readdir rd = {
		.fs = fs, .dir = dir, .cookie = cookie, .plus = plus, .out = ret_d, .max = max};
	int r = 0;

	while (!r && !rd.end && rd.n < max && rd.cookie < (uint64_t)INT64_MAX)
		r = vol_query(fs->vol, readdir_fn, &rd);
	free(rd.spare);
	if (r && !rd.n)
		return r; /* else: what was found first; the error comes with the next call */
	fs_atime_read(fs, dir, true);
	*ret_n = rd.n;
	return 0;
}
