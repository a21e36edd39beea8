/* damage KIND VOLUME DEVICE...: break the tree of a volume in a pool that does not run: every tenth
 * name (names) or inode (inodes) is removed, or every tenth inode's link count is wrong (counts).
 * Prints how many. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "fs/fs_item.h"
#include "pool/dev.h"
#include "pool/pool.h"
#include "tools/hop.h"

struct damage {
	const char *kind, *volume;
	char **paths;
	unsigned npaths;
	struct vol *v;
	struct key at; /* the next item to look at */
	unsigned met, done;
	struct err e;
};

/* One item from `at` on: hit it when its turn has come. */
static int step(struct vol *v, void *arg)
{
	struct damage *d = arg;
	enum fs_key_type type = !strcmp(d->kind, "names") ? FS_KEY_DIRENT : FS_KEY_INODE;
	struct fs_inode_disk disk;
	struct btree_item it;
	int r = vol_seek_ge(v, d->at, &it);

	if (r)
		return r;
	d->at = it.key;
	if (it.key.type != type || it.key.object == FS_OBJ_META ||
	    (it.key.object == FS_OBJ_ROOT && type == FS_KEY_INODE) || ++d->met % 10)
		return 0;
	memcpy(&disk, it.value, it.len < sizeof(disk) ? it.len : sizeof(disk));
	r = vol_prepare(v, it.key);
	if (r) {
		d->met--;
		return r;
	}
	d->done++;
	if (strcmp(d->kind, "counts"))
		return vol_del(v, d->at);
	disk.nlink = le32_of(le32_get(disk.nlink) + 3);
	return vol_put(v, d->at, &disk, sizeof(disk));
}

static int damage(struct damage *d, struct pool *p)
{
	int r = vol_open(p, d->volume, &d->v, &d->e);

	d->at = KEY_MIN;
	while (!r) {
		r = vol_change(d->v, true, step, d);
		if (!++d->at.offset && !++d->at.type)
			d->at.object++;
	}
	vol_close(d->v);
	return r == -ENOENT ? 0 : r;
}

static int run(void *arg)
{
	struct damage *d = arg;
	struct dev_backend *devs[POOL_DEVS_MAX];
	struct pool_options o = {0};
	struct pool *p;
	int r = 0;

	for (unsigned i = 0; i < d->npaths && !r; i++)
		r = dev_file_open(d->paths[i], 0, &devs[i], &d->e);
	if (!r)
		r = pool_import(devs, d->npaths, &o, reactor_current(), &p, &d->e);
	if (r)
		return r;
	r = damage(d, p);
	return pool_export(p, false, &d->e) ? -EIO : r;
}

int main(int argc, char **argv)
{
	struct damage d = {.kind = argv[1], .volume = argv[2], .paths = argv + 3};
	int r;

	if (argc < 4)
		return 2;
	d.npaths = (unsigned)argc - 3;
	r = hop_private(run, &d);
	if (r) {
		fprintf(stderr, "damage: %s: %s\n", err_str(r), d.e.text);
		return 1;
	}
	printf("%u\n", d.done);
	return 0;
}
