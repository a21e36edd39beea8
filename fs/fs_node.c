#include "fs/fs_node.h"
#include <errno.h>
#include <stdlib.h>

#define TABLE_MIN 256u
#define DAY_SEC	  86400

static size_t slot_of(size_t table_size, uint64_t ino)
{
	return (size_t)(ino * 0x9e3779b97f4a7c15u >> 20) & (table_size - 1);
}

int fs_node_table_init(struct fs *fs)
{
	fs->table = calloc(TABLE_MIN, sizeof(*fs->table));
	fs->table_size = TABLE_MIN;
	return fs->table ? 0 : -ENOMEM;
}

void fs_node_table_fini(struct fs *fs)
{
	for (size_t i = 0; fs->table && i < fs->table_size; i++)
		while (fs->table[i]) {
			struct fs_node *n = fs->table[i];

			fs->table[i] = n->hash_next;
			free(n);
		}
	free(fs->table);
	fs->table = NULL;
}

struct fs_node *fs_node_find(struct fs *fs, uint64_t ino)
{
	struct fs_node *n = fs->table[slot_of(fs->table_size, ino)];

	while (n && n->ino != ino)
		n = n->hash_next;
	return n;
}

static void table_grow(struct fs *fs)
{
	size_t size = fs->table_size * 2;
	struct fs_node **t = calloc(size, sizeof(*t));

	if (!t)
		return; /* longer chains, nothing worse */
	for (size_t i = 0; i < fs->table_size; i++)
		while (fs->table[i]) {
			struct fs_node *n = fs->table[i], **to = &t[slot_of(size, n->ino)];

			fs->table[i] = n->hash_next;
			n->hash_next = *to;
			*to = n;
		}
	free(fs->table);
	fs->table = t;
	fs->table_size = size;
}

struct fs_node *fs_node_find_or_add(struct fs *fs, uint64_t ino, struct fs_node **spare)
{
	struct fs_node *n = fs_node_find(fs, ino), **to;

	if (n)
		return n;
	if (fs->node_count >= fs->table_size)
		table_grow(fs);
	n = *spare;
	*spare = NULL;
	n->ino = ino;
	to = &fs->table[slot_of(fs->table_size, ino)];
	n->hash_next = *to;
	*to = n;
	fs->node_count++;
	return n;
}

void fs_node_drop_unused(struct fs *fs, struct fs_node *n)
{
	struct fs_node **p;

	if (n->lookups || n->opens)
		return;
	p = &fs->table[slot_of(fs->table_size, n->ino)];
	while (*p != n)
		p = &(*p)->hash_next;
	*p = n->hash_next;
	fs->node_count--;
	free(n);
}

/* relatime: atime moves when it is not younger than the last change, or a day old. */
static int64_t atime_due(const struct fs_attr *a)
{
	const struct timespec *t = &a->atime, *m = &a->mtime, *c = &a->ctime;

	if (a->flags & FS_INODE_NOATIME)
		return INT64_MAX;
	if (t->tv_sec < m->tv_sec || (t->tv_sec == m->tv_sec && t->tv_nsec <= m->tv_nsec) ||
	    t->tv_sec < c->tv_sec || (t->tv_sec == c->tv_sec && t->tv_nsec <= c->tv_nsec))
		return INT64_MIN;
	return t->tv_sec > INT64_MAX - DAY_SEC ? INT64_MAX : t->tv_sec + DAY_SEC;
}

bool fs_node_atime_due(const struct fs *fs, const struct fs_node *n)
{
	int64_t due = atomic_load_explicit(&n->atime_due, memory_order_relaxed);

	if (fs->o.read_only || !fs->o.atime || due == INT64_MAX)
		return false;
	return fs->o.atime_strict || due == INT64_MIN ||
	       (int64_t)(vol_wall_ns(fs->vol) / 1000000000u) >= due;
}

void fs_node_cache(struct fs_node *n, const struct fs_attr *a)
{
	n->attr = *a;
	n->attr_valid = true;
	atomic_store_explicit(&n->size, a->size, memory_order_relaxed);
	atomic_store_explicit(&n->is_inline, (a->flags & FS_INODE_INLINE) != 0,
			      memory_order_relaxed);
	atomic_store_explicit(&n->atime_due, atime_due(a), memory_order_relaxed);
}

void fs_node_open(struct fs *fs, struct fs_node *n, struct fs_file *f)
{
	*f = (struct fs_file){.fs = fs, .node = n, .next = fs->files};
	if (fs->files)
		fs->files->prev = f;
	fs->files = f;
	n->opens++;
	fs->opens++;
}

void fs_node_close(struct fs_file *f)
{
	struct fs *fs = f->fs;

	if (f->prev)
		f->prev->next = f->next;
	else
		fs->files = f->next;
	if (f->next)
		f->next->prev = f->prev;
	f->node->opens--;
	f->node->writers -= f->writer;
	f->node->cached_writers -= f->cached_writer;
	fs->opens--;
}
