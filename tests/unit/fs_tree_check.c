#include "tests/unit/fs_tree_check.h"
#include <assert.h>
#include <dirent.h>
#include <stdlib.h>
#include <sys/stat.h>
#include "fs/fs_check.h"
#include "fs/fs_item.h"
#include "tests/unit/fake_vol.h"

struct inode {
	struct fs_attr a;
	uint64_t names, size, subdirs, xattrs;
	bool orphan;
};
struct check {
	struct inode *i;
	size_t n, max;
	unsigned orphans;
	int pass;
};

static struct inode *find(struct check *c, uint64_t ino)
{
	size_t lo = 0, hi = c->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (c->i[mid].a.ino < ino)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < c->n && c->i[lo].a.ino == ino ? &c->i[lo] : NULL;
}

static void inodes(struct check *c, const struct btree_item *it)
{
	if (it->key.type != FS_KEY_INODE)
		return;
	if (c->n == c->max) {
		c->max = c->max ? c->max * 2 : 64;
		c->i = realloc(c->i, c->max * sizeof(*c->i));
	}
	c->i[c->n] = (struct inode){0};
	assert(!fs_inode_decode(it, &c->i[c->n].a));
	c->n++;
}

static void links(struct check *c, const struct btree_item *it)
{
	struct inode *i = find(c, it->key.object), *child;
	struct fs_dirent_view d;

	assert(!fs_item_validate(it));
	switch (it->key.type) {
	case FS_KEY_DIRENT:
		assert(i && S_ISDIR(i->a.mode) && !fs_dirent_decode(it, &d));
		child = find(c, d.ino);
		assert(child && d.type == child->a.mode >> 12);
		child->names++;
		i->size += FS_DIRENT_WEIGHT + d.name_len;
		if (S_ISDIR(child->a.mode)) {
			assert(child->a.parent == i->a.ino);
			i->subdirs++;
		}
		break;
	case FS_KEY_ORPHAN:
		i = find(c, it->key.offset);
		assert(i && !i->a.nlink);
		i->orphan = true;
		c->orphans++;
		break;
	case FS_KEY_XATTR:
	case FS_KEY_XATTR_DATA:
		assert(i && i->a.flags & FS_INODE_XATTR);
		break;
	case FS_KEY_INLINE:
		assert(i && (S_ISLNK(i->a.mode) ||
			     (i->a.flags & FS_INODE_INLINE && it->len <= i->a.size)));
		break;
	}
}

static void each(void *arg, const struct btree_item *it)
{
	struct check *c = arg;

	if (c->pass)
		links(c, it);
	else
		inodes(c, it);
}

void fs_tree_check(struct vol *v, unsigned orphans)
{
	struct fs_check_result product;
	struct check c = {0};

	assert(!fs_check(v, "v", stderr, &product, NULL) && !product.problems);

	fake_vol_items(v, each, &c);
	c.pass = 1;
	fake_vol_items(v, each, &c);
	assert(c.orphans == orphans);
	for (size_t k = 0; k < c.n; k++) {
		const struct inode *i = &c.i[k];

		assert(i->orphan == !i->a.nlink);
		if (S_ISDIR(i->a.mode)) {
			assert(i->orphan || i->a.nlink == 2 + i->subdirs);
			assert(i->a.size == i->size);
			assert(i->names == (i->a.ino != FS_OBJ_ROOT && !i->orphan));
		} else {
			assert(i->a.nlink == i->names);
		}
	}
	assert(product.inodes == c.n);
	free(c.i);
}
