#include "fs/fs_tx.h"
#include <assert.h>
#include <errno.h>
#include <sys/stat.h>

void fs_tx_init(struct fs_tx *t, struct fs *fs)
{
	uint64_t ns = vol_wall_ns(fs->vol);

	t->fs = fs;
	t->v = fs->vol;
	t->now.tv_sec = (time_t)(ns / 1000000000u);
	t->now.tv_nsec = (long)(ns % 1000000000u);
	t->inodes = t->ops = 0;
}

static struct fs_tx_inode *inode_slot(struct fs_tx *t)
{
	struct fs_tx_inode *i;

	assert(t->inodes < FS_TX_INODES);
	i = &t->inode[t->inodes++];
	i->dirty = i->del = i->dead = false;
	return i;
}

static bool load_from_node(struct fs_tx *t, uint64_t ino, struct fs_tx_inode *i)
{
	struct fs_node *n;
	bool found = false;

	lock_take(&t->fs->lock);
	n = fs_node_find(t->fs, ino);
	if (n && n->attr_valid) {
		i->a = n->attr;
		i->dead = n->dead;
		found = true;
	}
	lock_drop(&t->fs->lock);
	return found;
}

int fs_tx_inode(struct fs_tx *t, uint64_t ino, struct fs_tx_inode **ret_i)
{
	struct fs_tx_inode *i;
	struct btree_item it;
	int r;

	for (unsigned k = 0; k < t->inodes; k++)
		if (t->inode[k].a.ino == ino) {
			*ret_i = &t->inode[k];
			return 0;
		}
	i = inode_slot(t);
	if (load_from_node(t, ino, i)) {
		*ret_i = i;
		return 0;
	}
	r = vol_get(t->v, fs_key(ino, FS_KEY_INODE, 0), &it);
	if (!r)
		r = fs_inode_decode(&it, &i->a);
	if (r) {
		t->inodes--;
		return r == -ENOENT ? -ESTALE : r;
	}
	*ret_i = i;
	return 0;
}

int fs_tx_dir(struct fs_tx *t, uint64_t ino, struct fs_tx_inode **ret_i)
{
	struct fs_tx_inode *i;
	int r = fs_tx_inode(t, ino, &i);

	if (r)
		return r;
	if (!S_ISDIR(i->a.mode))
		return -ENOTDIR;
	if (i->dead || !i->a.nlink)
		return -ENOENT;
	*ret_i = i;
	return 0;
}

struct fs_tx_inode *fs_tx_inode_new(struct fs_tx *t, uint64_t ino)
{
	struct fs_tx_inode *i = inode_slot(t);
	uint64_t ns = (uint64_t)t->now.tv_sec * 1000000000u + (uint64_t)t->now.tv_nsec;

	i->a = (struct fs_attr){
		.ino = ino,
		.generation = (ns >> 10 & UINT32_MAX) | 1,
		.atime = t->now,
		.mtime = t->now,
		.ctime = t->now,
		.btime = t->now,
	};
	i->dirty = true;
	return i;
}

static struct fs_tx_op *op_slot(struct fs_tx *t, struct key k)
{
	assert(t->ops < FS_TX_OPS);
	t->op[t->ops].key = k;
	return &t->op[t->ops++];
}

void fs_tx_put(struct fs_tx *t, struct key k, const void *value, uint16_t len)
{
	struct fs_tx_op *o = op_slot(t, k);

	o->value = value;
	o->len = len;
	o->del = false;
}

void fs_tx_del(struct fs_tx *t, struct key k)
{
	op_slot(t, k)->del = true;
}

static void stage_inodes(struct fs_tx *t)
{
	for (unsigned k = 0; k < t->inodes; k++) {
		struct fs_tx_inode *i = &t->inode[k];
		struct key key = fs_key(i->a.ino, FS_KEY_INODE, 0);

		if (i->dead)
			continue;
		if (i->del) {
			fs_tx_del(t, key);
		} else if (i->dirty) {
			fs_inode_encode(&i->a, &t->disk[k]);
			fs_tx_put(t, key, &t->disk[k], sizeof(t->disk[k]));
		}
	}
}

static void cache_inodes(struct fs_tx *t)
{
	lock_take(&t->fs->lock);
	for (unsigned k = 0; k < t->inodes; k++) {
		struct fs_tx_inode *i = &t->inode[k];
		struct fs_node *n;

		if (!i->dirty && !i->del)
			continue;
		n = fs_node_find(t->fs, i->a.ino);
		if (!n)
			continue;
		fs_node_cache(n, &i->a);
		if (i->del)
			n->dead = true;
	}
	lock_drop(&t->fs->lock);
}

int fs_tx_commit(struct fs_tx *t)
{
	unsigned staged = t->ops;
	int r = 0;

	stage_inodes(t);
	for (unsigned k = 0; k < t->ops && !r; k++)
		r = vol_prepare(t->v, t->op[k].key);
	for (unsigned k = 0; k < t->ops && !r; k++) {
		const struct fs_tx_op *o = &t->op[k];

		r = o->del ? vol_del(t->v, o->key) : vol_put(t->v, o->key, o->value, o->len);
		if (o->del && r == -ENOENT)
			r = 0;
		assert(r != ERR_NEED_NODE);
	}
	if (r) {
		t->ops = staged;
		return r;
	}
	cache_inodes(t);
	return 0;
}

void fs_tx_touch(struct fs_tx *t, struct fs_tx_inode *i)
{
	i->a.mtime = i->a.ctime = t->now;
	i->dirty = true;
}
