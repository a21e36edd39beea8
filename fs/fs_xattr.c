/* Extended attributes: one XATTR item with name and value, or, when that does not fit, with the
 * name only, followed by the value in XATTR_DATA pieces. Slots as for directory entries, times 32
 * so that the pieces have keys of their own. FS_INODE_XATTR is set with the first and never
 * cleared: it saves the search in the many inodes that never had any.
 */
#include "fs/fs_xattr.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include "fs/fs_acl.h"
#include "fs/fs_dir.h"
#include "fs/fs_hash.h"

#define SLOT_SHIFT     5
#define SLOT_MAX       ((1ull << (63 - SLOT_SHIFT)) - FS_HASH_WINDOW)
#define LIST_MAX_BYTES (1u << 20)

/* Is there a change of this key already? */
static bool staged(const struct fs_tx *t, struct key k)
{
	for (unsigned n = 0; n < t->ops; n++)
		if (!key_cmp(t->op[n].key, k))
			return true;
	return false;
}

/* The item of a name: 0 and its key and view; or -ENODATA and a free key (object 0: window full).
 */
static int xattr_find(struct fs_tx *t, uint64_t ino, const char *name, struct key *ret_key,
		      struct fs_xattr_view *ret_v)
{
	size_t len = strlen(name);
	uint64_t home = fs_hash(t->fs->hash_key, name, len) % SLOT_MAX;
	uint64_t next = home, free_slot = UINT64_MAX;
	struct btree_item it;
	int r;

	while (next < home + FS_HASH_WINDOW) {
		uint64_t slot;

		r = vol_seek_ge(t->v, fs_key(ino, FS_KEY_XATTR, next << SLOT_SHIFT), &it);
		if (r && r != -ENOENT)
			return r;
		slot = it.key.offset >> SLOT_SHIFT;
		if (r || it.key.object != ino || it.key.type != FS_KEY_XATTR ||
		    slot >= home + FS_HASH_WINDOW)
			break;
		r = fs_xattr_decode(&it, ret_v);
		if (r)
			return r;
		if (ret_v->name_len == len && !memcmp(ret_v->name, name, len)) {
			*ret_key = it.key;
			return 0;
		}
		if (slot > next && free_slot == UINT64_MAX)
			free_slot = next;
		next = slot + 1;
	}
	if (free_slot == UINT64_MAX && next < home + FS_HASH_WINDOW)
		free_slot = next;
	*ret_key = fs_key(free_slot == UINT64_MAX ? 0 : ino, FS_KEY_XATTR, free_slot << SLOT_SHIFT);
	if (staged(t, *ret_key)) /* the other one of a new inode: there are none in the tree */
		ret_key->offset += 1u << SLOT_SHIFT;
	return -ENODATA;
}

int fs_xattr_tx_get(struct fs_tx *t, const struct fs_attr *a, const char *name, void *buf,
		    size_t size, size_t *ret_len)
{
	struct fs_xattr_view view;
	struct btree_item it;
	struct key k;
	int r;

	if (!(a->flags & FS_INODE_XATTR))
		return -ENODATA;
	r = xattr_find(t, a->ino, name, &k, &view);
	if (r)
		return r;
	*ret_len = view.value_len;
	if (!size)
		return 0;
	if (size < view.value_len)
		return -ERANGE;
	if (!view.pieces) {
		memcpy(buf, view.value, view.value_len);
		return 0;
	}
	for (size_t off = 0; off < view.value_len; off += it.len) {
		r = vol_get(t->v,
			    fs_key(a->ino, FS_KEY_XATTR_DATA, k.offset | off / FS_XATTR_CHUNK),
			    &it);
		if (r)
			return r == -ENOENT ? ERR_FORMAT : r;
		if (!it.len || it.len > view.value_len - off ||
		    (it.len != FS_XATTR_CHUNK && it.len != view.value_len - off))
			return ERR_FORMAT;
		memcpy((uint8_t *)buf + off, it.value, it.len);
	}
	return 0;
}

static void stage_pieces(struct fs_tx *t, struct key k, const void *value, size_t len,
			 unsigned old_pieces, unsigned pieces)
{
	for (unsigned p = 0; p < pieces || p < old_pieces; p++) {
		struct key pk = fs_key(k.object, FS_KEY_XATTR_DATA, k.offset | p);
		size_t off = (size_t)p * FS_XATTR_CHUNK, n = len - off;

		if (p < pieces)
			fs_tx_put(t, pk, (const uint8_t *)value + off,
				  (uint16_t)(n < FS_XATTR_CHUNK ? n : FS_XATTR_CHUNK));
		else
			fs_tx_del(t, pk);
	}
}

int fs_xattr_tx_set(struct fs_tx *t, struct fs_tx_inode *i, const char *name, const void *value,
		    size_t len, int flags, uint8_t *item)
{
	struct fs_xattr_disk *d = (struct fs_xattr_disk *)item;
	size_t name_len = strlen(name), head = sizeof(*d) + name_len;
	unsigned pieces = 0, old_pieces;
	struct fs_xattr_view view;
	struct key k;
	int r = xattr_find(t, i->a.ino, name, &k, &view);

	if (r && r != -ENODATA)
		return r;
	if (!r && flags & XATTR_CREATE)
		return -EEXIST;
	if (r && flags & XATTR_REPLACE)
		return -ENODATA;
	if (!k.object)
		return -ENOSPC;
	old_pieces = r ? 0 : view.pieces;
	if (head + len > NODE_VALUE_MAX)
		pieces = (unsigned)((len + FS_XATTR_CHUNK - 1) / FS_XATTR_CHUNK);
	*d = (struct fs_xattr_disk){FS_VERSION, (uint8_t)name_len, (uint8_t)pieces, 0,
				    le32_of((uint32_t)len)};
	memcpy(d + 1, name, name_len);
	if (!pieces && len)
		memcpy(item + head, value, len);
	fs_tx_put(t, k, item, (uint16_t)(head + (pieces ? 0 : len)));
	stage_pieces(t, k, value, len, old_pieces, pieces);
	i->a.flags |= FS_INODE_XATTR;
	i->dirty = true;
	return 0;
}

int fs_xattr_tx_del(struct fs_tx *t, struct fs_tx_inode *i, const char *name)
{
	struct fs_xattr_view view;
	struct key k;
	int r;

	if (!(i->a.flags & FS_INODE_XATTR))
		return -ENODATA;
	r = xattr_find(t, i->a.ino, name, &k, &view);
	if (r)
		return r;
	fs_tx_del(t, k);
	stage_pieces(t, k, NULL, 0, view.pieces, 0);
	i->dirty = true;
	return 0;
}

int fs_xattr_tx_drop_caps(struct fs_tx *t, struct fs_tx_inode *i)
{
	int r = fs_xattr_tx_del(t, i, FS_XATTR_CAPS);

	return r == -ENODATA ? 0 : r;
}

/* ---- operations ---- */

struct xattr {
	struct fs *fs;
	uint64_t ino;
	const char *name;
	/* set */
	const void *value;
	size_t len;
	int flags;
	/* get and list */
	char *buf;
	size_t size, used;
	bool trusted;
	uint8_t item[NODE_VALUE_MAX];
};

static int xattr_inode(struct fs_tx *t, const struct xattr *x, struct fs_tx_inode **ret_i)
{
	int r = fs_tx_inode(t, x->ino, ret_i);

	if (!r && (*ret_i)->dead)
		r = -ESTALE;
	return r;
}

/* The inode may have file capabilities again. */
static void caps_set(struct fs *fs, uint64_t ino)
{
	struct fs_node *n;

	lock_take(&fs->lock);
	n = fs_node_find(fs, ino);
	if (n)
		atomic_store_explicit(&n->no_caps, false, memory_order_relaxed);
	lock_drop(&fs->lock);
}

static int xattr_set_fn(struct vol *v, void *arg)
{
	struct xattr *x = arg;
	struct fs_tx_inode *i;
	struct fs_tx t;
	int r;

	(void)v;
	fs_tx_init(&t, x->fs);
	r = xattr_inode(&t, x, &i);
	if (r)
		return r;
	if (i->a.flags & (FS_INODE_IMMUTABLE | FS_INODE_APPEND))
		return -EPERM;
	if (fs_acl_is(x->name))
		r = fs_acl_tx_set(&t, i, x->name, x->value, x->len, x->flags, x->item);
	else
		r = fs_xattr_tx_set(&t, i, x->name, x->value, x->len, x->flags, x->item);
	if (r)
		return r;
	i->a.ctime = t.now;
	i->dirty = true;
	r = fs_tx_commit(&t);
	if (!r && !strcmp(x->name, FS_XATTR_CAPS))
		caps_set(x->fs, x->ino);
	return r;
}

static int xattr_get_fn(struct vol *v, void *arg)
{
	struct xattr *x = arg;
	struct fs_tx_inode *i;
	struct fs_tx t;
	int r;

	(void)v;
	fs_tx_init(&t, x->fs);
	r = xattr_inode(&t, x, &i);
	return r ? r : fs_xattr_tx_get(&t, &i->a, x->name, x->buf, x->size, &x->used);
}

static int xattr_list_fn(struct vol *v, void *arg)
{
	struct xattr *x = arg;
	struct fs_xattr_view view;
	struct fs_tx_inode *i;
	struct btree_item it;
	struct fs_tx t;
	struct key k = fs_key(x->ino, FS_KEY_XATTR, 0);
	int r;

	fs_tx_init(&t, x->fs);
	x->used = 0;
	r = xattr_inode(&t, x, &i);
	if (r || !(i->a.flags & FS_INODE_XATTR))
		return r;
	for (;; k.offset = it.key.offset + 1) {
		r = vol_seek_ge(v, k, &it);
		if (r && r != -ENOENT)
			return r;
		if (r || it.key.object != x->ino || it.key.type != FS_KEY_XATTR)
			return 0;
		r = fs_xattr_decode(&it, &view);
		if (r)
			return r;
		if (!x->trusted && view.name_len > 8 && !memcmp(view.name, "trusted.", 8))
			continue;
		if (x->size && x->used + view.name_len + 1u > x->size)
			return -ERANGE;
		if (x->size) {
			memcpy(x->buf + x->used, view.name, view.name_len);
			x->buf[x->used + view.name_len] = 0;
		}
		x->used += view.name_len + 1u;
		if (x->used > LIST_MAX_BYTES)
			return -E2BIG;
	}
}

static int xattr_remove_fn(struct vol *v, void *arg)
{
	struct xattr *x = arg;
	struct fs_tx_inode *i;
	struct fs_tx t;
	int r;

	(void)v;
	fs_tx_init(&t, x->fs);
	r = xattr_inode(&t, x, &i);
	if (!r && i->a.flags & (FS_INODE_IMMUTABLE | FS_INODE_APPEND))
		r = -EPERM;
	if (!r)
		r = fs_xattr_tx_del(&t, i, x->name);
	if (r == -ENODATA && fs_acl_is(x->name))
		return 0;
	if (r)
		return r;
	i->a.ctime = t.now;
	return fs_tx_commit(&t);
}

static int name_check(const struct xattr *x)
{
	static const char *const spaces[] = {"user.", "trusted.", "security."};
	size_t len = strlen(x->name);

	if (!len || len > FS_XATTR_NAME_MAX)
		return -ERANGE;
	for (size_t n = 0; n < sizeof(spaces) / sizeof(spaces[0]); n++)
		if (!strncmp(x->name, spaces[n], strlen(spaces[n])))
			return x->name[strlen(spaces[n])] ? 0 : -EINVAL;
	return fs_acl_is(x->name) ? 0 : -EOPNOTSUPP;
}

int fs_xattr_set(struct fs *fs, uint64_t ino, const char *name, const void *value, size_t len,
		 int flags)
{
	struct xattr x = {
		.fs = fs, .ino = ino, .name = name, .value = value, .len = len, .flags = flags};
	int r = name_check(&x);

	if (r)
		return r;
	if (fs->o.read_only)
		return -EROFS;
	if (len > FS_XATTR_VALUE_MAX)
		return -E2BIG;
	return vol_change(fs->vol, false, xattr_set_fn, &x);
}

/* Most inodes have none: answer without the pool's lock. */
static bool surely_none(struct fs *fs, uint64_t ino)
{
	struct fs_node *n;
	bool none;

	lock_take(&fs->lock);
	n = fs_node_find(fs, ino);
	none = n && n->attr_valid && !(n->attr.flags & FS_INODE_XATTR);
	lock_drop(&fs->lock);
	return none;
}

int fs_xattr_get(struct fs *fs, uint64_t ino, const char *name, void *buf, size_t size,
		 size_t *ret_len)
{
	struct xattr x = {.fs = fs, .ino = ino, .name = name, .buf = buf, .size = size};
	int r = name_check(&x);

	if (!r && surely_none(fs, ino))
		return -ENODATA;
	if (!r)
		r = vol_query(fs->vol, xattr_get_fn, &x);
	if (!r)
		*ret_len = x.used;
	return r;
}

int fs_xattr_list(struct fs *fs, uint64_t ino, bool trusted, char *buf, size_t size,
		  size_t *ret_len)
{
	struct xattr x = {.fs = fs, .ino = ino, .trusted = trusted, .buf = buf, .size = size};
	int r = 0;

	if (!surely_none(fs, ino))
		r = vol_query(fs->vol, xattr_list_fn, &x);
	if (!r)
		*ret_len = x.used;
	return r;
}

int fs_xattr_remove(struct fs *fs, uint64_t ino, const char *name)
{
	struct xattr x = {.fs = fs, .ino = ino, .name = name};
	int r = name_check(&x);

	if (r)
		return r;
	if (fs->o.read_only)
		return -EROFS;
	return vol_change(fs->vol, true, xattr_remove_fn, &x);
}
