#include "fs/fs.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include "fs/fs_orphan.h"

/* -ENOENT: there is none. */
static int load_fn(struct vol *v, void *arg)
{
	struct fs *fs = arg;
	const struct fs_super_disk *d;
	struct btree_item it;
	int r = vol_get(v, fs_key(FS_OBJ_META, FS_KEY_SUPER, 0), &it);

	if (!r)
		r = fs_item_validate(&it);
	if (r)
		return r;
	d = it.value;
	memcpy(fs->hash_key, d->hash_key, sizeof(fs->hash_key));
	return 0;
}

/* The super item and the root directory of an empty volume. */
static int make_fn(struct vol *v, void *arg)
{
	struct fs *fs = arg;
	struct fs_super_disk super = {.version = FS_VERSION};
	struct fs_tx_inode *root;
	struct btree_item it;
	struct fs_tx t;
	int r = vol_seek_ge(v, KEY_MIN, &it);

	if (!r)
		return ERR_FORMAT; /* items, but no super */
	if (r != -ENOENT)
		return r;
	fs_tx_init(&t, fs);
	root = fs_tx_inode_new(&t, FS_OBJ_ROOT);
	root->a.mode = S_IFDIR | 0755;
	root->a.nlink = 2;
	root->a.parent = FS_OBJ_ROOT;
	root->a.uid = fs->o.root_uid;
	root->a.gid = fs->o.root_gid;
	memcpy(super.hash_key, fs->o.seed, sizeof(super.hash_key));
	super.created.sec = le64_of((uint64_t)t.now.tv_sec);
	super.created.nsec = le32_of((uint32_t)t.now.tv_nsec);
	fs_tx_put(&t, fs_key(FS_OBJ_META, FS_KEY_SUPER, 0), &super, sizeof(super));
	r = fs_tx_commit(&t);
	if (!r)
		memcpy(fs->hash_key, fs->o.seed, sizeof(fs->hash_key));
	return r;
}

/* Without a change when there is something: that works on a full pool. */
static int super_open(struct fs *fs)
{
	int r = vol_query(fs->vol, load_fn, fs);

	if (r != -ENOENT)
		return r;
	return fs->o.read_only ? -EROFS : vol_change(fs->vol, true, make_fn, fs);
}

int fs_open(struct vol *v, const struct fs_options *o, struct fs **ret_fs, struct err *e)
{
	struct fs *fs = calloc(1, sizeof(*fs));
	int r = -ENOMEM;

	if (!fs)
		return err_set(e, -ENOMEM, "out of memory");
	fs->vol = v;
	fs->o = *o;
	lock_init(&fs->lock);
	r = fs_node_table_init(fs);
	if (!r)
		r = super_open(fs);
	if (!r)
		r = fs_reaper_start(fs);
	if (r) {
		fs_node_table_fini(fs);
		lock_fini(&fs->lock);
		free(fs);
		return err_set(e, r, "open file system: %s", err_str(r));
	}
	*ret_fs = fs;
	return 0;
}

void fs_close(struct fs *fs)
{
	if (!fs)
		return;
	while (fs->files)
		fs_file_close(fs->files);
	fs_reaper_stop(fs);
	fs_node_table_fini(fs);
	lock_fini(&fs->lock);
	free(fs);
}

void fs_stats_get(struct fs *fs, struct fs_stats *ret_s)
{
	lock_take(&fs->lock);
	*ret_s = (struct fs_stats){
		.nodes = fs->node_count, .opens = fs->opens, .orphans = fs->orphans};
	lock_drop(&fs->lock);
}

/* Truthful thin numbers: what is stored (after compression) plus what can still be written. */
int fs_statfs(struct fs *fs, struct statvfs *ret_st)
{
	struct vol_info i;
	uint64_t avail, total;

	vol_info_get(fs->vol, &i);
	avail = i.available_bytes;
	total = i.used_bytes + i.delta_bytes + i.reserved_bytes + avail;
	if (i.size_bytes) { /* a quota of logical bytes */
		uint64_t held = i.logical_bytes + i.reserved_bytes;
		uint64_t left = i.size_bytes > held ? i.size_bytes - held : 0;

		total = i.size_bytes;
		avail = avail < left ? avail : left;
	}
	*ret_st = (struct statvfs){
		.f_bsize = BLOCK_SIZE,
		.f_frsize = BLOCK_SIZE,
		.f_blocks = total / BLOCK_SIZE,
		.f_bfree = avail / BLOCK_SIZE,
		.f_bavail = avail / BLOCK_SIZE,
		.f_namemax = FS_NAME_MAX,
	};
	return 0;
}
