#include "fs/fs_orphan.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#define REAP_AT_ONCE_BYTES (16u << 20)
#define REAP_XATTRS	   16u /* xattr items deleted in one step */
#define REAP_SCAN	   32u /* orphans looked up in one step */

static const struct fs_orphan_disk orphan_item = {.version = FS_VERSION};

static bool is_open(struct fs *fs, uint64_t ino)
{
	struct fs_node *n;
	bool open;

	lock_take(&fs->lock);
	n = fs_node_find(fs, ino);
	open = n && n->opens;
	lock_drop(&fs->lock);
	return open;
}

static void stage_inline_del(struct fs_tx *t, const struct fs_attr *a)
{
	if (S_ISLNK(a->mode) || a->flags & FS_INODE_INLINE)
		fs_tx_del(t, fs_key(a->ino, FS_KEY_INLINE, 0));
	if (S_ISLNK(a->mode) && a->size > FS_LINK_CHUNK)
		fs_tx_del(t, fs_key(a->ino, FS_KEY_INLINE, FS_LINK_CHUNK));
}

bool fs_orphan_or_del(struct fs_tx *t, struct fs_tx_inode *i)
{
	bool extents = S_ISREG(i->a.mode) && !(i->a.flags & FS_INODE_INLINE);

	if (extents || i->a.flags & FS_INODE_XATTR || is_open(t->fs, i->a.ino)) {
		fs_tx_put(t, fs_key(FS_OBJ_META, FS_KEY_ORPHAN, i->a.ino), &orphan_item,
			  sizeof(orphan_item));
		i->dirty = true;
		return true;
	}
	stage_inline_del(t, &i->a);
	i->del = true;
	return false;
}

struct reap {
	struct fs *fs;
	struct fs_attr attr;
	bool more_xattrs;
};

/* From now on nobody can open it. */
static int reap_begin_fn(struct vol *v, void *arg)
{
	struct reap *rp = arg;
	struct fs_tx_inode *i;
	struct btree_item it;
	struct fs_node *n;
	struct fs_tx t;
	int r;

	r = vol_get(v, fs_key(FS_OBJ_META, FS_KEY_ORPHAN, rp->attr.ino), &it);
	if (r)
		return r;
	fs_tx_init(&t, rp->fs);
	r = fs_tx_inode(&t, rp->attr.ino, &i);
	if (r)
		return r;
	if (i->a.nlink)
		return ERR_FORMAT;
	rp->attr = i->a;
	lock_take(&rp->fs->lock);
	n = fs_node_find(rp->fs, rp->attr.ino);
	if (n && n->opens)
		r = -EBUSY;
	else if (n && n->dead)
		r = -EALREADY;
	else if (n)
		n->dead = true;
	lock_drop(&rp->fs->lock);
	return r;
}

static int reap_xattrs_fn(struct vol *v, void *arg)
{
	struct reap *rp = arg;
	struct key k = fs_key(rp->attr.ino, FS_KEY_XATTR, 0);
	struct btree_item it;
	struct fs_tx t;
	int r;

	fs_tx_init(&t, rp->fs);
	rp->more_xattrs = false;
	for (;;) {
		r = vol_seek_ge(v, k, &it);
		if (r && r != -ENOENT)
			return r;
		if (r || it.key.object != k.object || it.key.type > FS_KEY_XATTR_DATA)
			break;
		if (t.ops == REAP_XATTRS) {
			rp->more_xattrs = true;
			break;
		}
		fs_tx_del(&t, it.key);
		k = it.key;
		k.offset++;
	}
	return fs_tx_commit(&t);
}

static int reap_end_fn(struct vol *v, void *arg)
{
	struct reap *rp = arg;
	struct fs_tx t;

	(void)v;
	fs_tx_init(&t, rp->fs);
	stage_inline_del(&t, &rp->attr);
	fs_tx_del(&t, fs_key(rp->attr.ino, FS_KEY_INODE, 0));
	fs_tx_del(&t, fs_key(FS_OBJ_META, FS_KEY_ORPHAN, rp->attr.ino));
	return fs_tx_commit(&t);
}

static int reap(struct fs *fs, uint64_t ino)
{
	struct reap rp = {.fs = fs, .attr.ino = ino};
	struct vol *v = fs->vol;
	int r = vol_query(v, reap_begin_fn, &rp);

	if (r)
		return r;
	rp.more_xattrs = (rp.attr.flags & FS_INODE_XATTR) != 0;
	while (!r && rp.more_xattrs)
		r = vol_change(v, true, reap_xattrs_fn, &rp);
	if (r)
		return r;
	if (S_ISREG(rp.attr.mode) && !(rp.attr.flags & FS_INODE_INLINE))
		r = vol_punch(v, ino, 0, UINT64_MAX, reap_end_fn, &rp);
	else
		r = vol_change(v, true, reap_end_fn, &rp);
	if (!r) {
		lock_take(&fs->lock);
		fs->orphans -= fs->orphans > 0;
		lock_drop(&fs->lock);
	}
	return r;
}

static bool queue(struct fs *fs, uint64_t ino)
{
	bool queued = false;

	lock_take(&fs->lock);
	if (fs->reaper_running && fs->reap_count == fs->reap_max) {
		size_t max = fs->reap_max ? fs->reap_max * 2 : 64;
		uint64_t *q = realloc(fs->reap_queue, max * sizeof(*q));

		if (q) {
			fs->reap_queue = q;
			fs->reap_max = max;
		}
	}
	if (fs->reaper_running && fs->reap_count < fs->reap_max) {
		fs->reap_queue[fs->reap_count++] = ino;
		waitq_wake_one(&fs->reap_wait);
		queued = true;
	}
	lock_drop(&fs->lock);
	return queued;
}

void fs_orphan_made(struct fs *fs, uint64_t ino, uint64_t size)
{
	lock_take(&fs->lock);
	fs->orphans++;
	lock_drop(&fs->lock);
	fs_orphan_closed(fs, ino, size);
}

void fs_orphan_closed(struct fs *fs, uint64_t ino, uint64_t size)
{
	/* An error leaves the ORPHAN item: the next fs_open tries again. */
	if (size <= REAP_AT_ONCE_BYTES || !queue(fs, ino))
		reap(fs, ino);
}

struct scan {
	uint64_t from;
	unsigned n;
	uint64_t ino[REAP_SCAN];
};

static int scan_fn(struct vol *v, void *arg)
{
	struct scan *s = arg;
	struct btree_item it;
	int r;

	for (s->n = 0; s->n < REAP_SCAN; s->n++) {
		uint64_t at = s->n ? s->ino[s->n - 1] + 1 : s->from;

		r = vol_seek_ge(v, fs_key(FS_OBJ_META, FS_KEY_ORPHAN, at), &it);
		if (r && r != -ENOENT)
			return r;
		if (r || it.key.object != FS_OBJ_META || it.key.type != FS_KEY_ORPHAN)
			break;
		r = fs_item_validate(&it);
		if (r)
			return r;
		s->ino[s->n] = it.key.offset;
	}
	return 0;
}

/* What a crash left behind. Those of this session are seen as well: in use, or soon to be reaped.
 */
static void reap_scan(struct fs *fs)
{
	struct scan s = {.from = 0};

	do {
		if (vol_query(fs->vol, scan_fn, &s))
			return;
		for (unsigned i = 0; i < s.n && !fs->stopping; i++)
			reap(fs, s.ino[i]);
		if (s.n)
			s.from = s.ino[s.n - 1] + 1;
	} while (s.n == REAP_SCAN && !fs->stopping);
}

static void reaper(void *arg)
{
	struct fs *fs = arg;

	reap_scan(fs);
	lock_take(&fs->lock);
	while (!fs->stopping) {
		if (!fs->reap_count) {
			waitq_wait(&fs->reap_wait, &fs->lock);
			continue;
		}
		uint64_t ino = fs->reap_queue[--fs->reap_count];

		lock_drop(&fs->lock);
		reap(fs, ino);
		lock_take(&fs->lock);
	}
	fs->reaper_running = false;
	waitq_wake_all(&fs->reap_done);
	lock_drop(&fs->lock);
}

int fs_reaper_start(struct fs *fs)
{
	int r;

	if (fs->o.read_only || fs->o.keep_orphans)
		return 0;
	if (!fs->o.bg) {
		reap_scan(fs);
		return 0;
	}
	fs->reaper_running = true;
	r = co_spawn(fs->o.bg, reaper, fs);
	if (r)
		fs->reaper_running = false;
	return r;
}

void fs_reaper_stop(struct fs *fs)
{
	lock_take(&fs->lock);
	fs->stopping = true;
	waitq_wake_all(&fs->reap_wait);
	while (fs->reaper_running)
		waitq_wait(&fs->reap_done, &fs->lock);
	lock_drop(&fs->lock);
	free(fs->reap_queue);
	fs->reap_queue = NULL;
}
