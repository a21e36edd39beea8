#include "fs/fs_check.h"
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/co.h"
#include "fs/fs_check_impl.h"
#include "fs/fs_dir.h"

#define TABLE_MIN 1024u
#define BREATH	  4096u /* inodes */

static void fix_add(struct fs_check *c, struct fs_fix x)
{
	if (!c->want_fixes)
		return;
	if (c->fixes == c->fix_max) {
		size_t max = c->fix_max ? c->fix_max * 2 : 64;
		struct fs_fix *f = realloc(c->fix, max * sizeof(*f));

		if (!f) {
			c->rc = -ENOMEM;
			return;
		}
		c->fix = f;
		c->fix_max = max;
	}
	c->fix[c->fixes++] = x;
}

static void problem(struct fs_check *c, enum fs_fix_kind kind, uint64_t ino, uint64_t value,
		    const char *fmt, ...) __attribute__((format(printf, 5, 6)));
static void problem(struct fs_check *c, enum fs_fix_kind kind, uint64_t ino, uint64_t value,
		    const char *fmt, ...)
{
	va_list ap;

	c->r->problems++;
	if (c->out) {
		fprintf(c->out, "%s: ", c->name);
		va_start(ap, fmt);
		vfprintf(c->out, fmt, ap);
		va_end(ap);
		fputc('\n', c->out);
	}
	fix_add(c, (struct fs_fix){kind, ino, value});
}

/* The same of the entry d of a directory. */
static void entry_problem(struct fs_check *c, enum fs_fix_kind kind, const struct btree_item *it,
			  const struct fs_dirent_view *d, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));
static void entry_problem(struct fs_check *c, enum fs_fix_kind kind, const struct btree_item *it,
			  const struct fs_dirent_view *d, const char *fmt, ...)
{
	va_list ap;

	c->r->problems++;
	if (c->out) {
		fprintf(c->out, "%s: entry ", c->name);
		fs_name_to_text(c->out, d->name, d->name_len);
		fprintf(c->out, " of directory %" PRIu64, it->key.object);
		va_start(ap, fmt);
		vfprintf(c->out, fmt, ap);
		va_end(ap);
		fputc('\n', c->out);
	}
	fix_add(c, (struct fs_fix){kind, it->key.object, it->key.offset});
}

/* ---- the table ---- */

static struct fs_seen *slot_in(struct fs_seen *table, size_t size, uint64_t ino)
{
	size_t at = (size_t)(ino * 0x9e3779b97f4a7c15u >> 20) & (size - 1);

	while (table[at].ino && table[at].ino != ino)
		at = (at + 1) & (size - 1);
	return &table[at];
}

static int table_grow(struct fs_check *c)
{
	size_t size = c->size ? c->size * 2 : TABLE_MIN;
	struct fs_seen *t = calloc(size, sizeof(*t));

	if (!t)
		return -ENOMEM;
	for (size_t i = 0; i < c->size; i++)
		if (c->table[i].ino)
			*slot_in(t, size, c->table[i].ino) = c->table[i];
	free(c->table);
	c->table = t;
	c->size = size;
	return 0;
}

/* NULL: no memory. The pointer is good until the next call. */
static struct fs_seen *seen(struct fs_check *c, uint64_t ino)
{
	struct fs_seen *s;

	if (c->count >= c->size / 4 * 3 && table_grow(c))
		return NULL;
	s = slot_in(c->table, c->size, ino);
	if (!s->ino) {
		s->ino = ino;
		c->count++;
	}
	return s;
}

struct fs_seen *fs_check_seen(struct fs_check *c, uint64_t ino)
{
	struct fs_seen *s = c->size ? slot_in(c->table, c->size, ino) : NULL;

	return s && s->ino ? s : NULL;
}

/* ---- first pass: what each item says ---- */

static void see_inode(struct fs_check *c, struct fs_seen *s, const struct fs_attr *a)
{
	s->inode = true;
	s->size = a->size;
	s->parent = a->parent;
	s->mode = a->mode;
	s->nlink = a->nlink;
	s->flags = a->flags;
	c->r->inodes++;
	c->r->directories += S_ISDIR(a->mode);
}

static int see_entry(struct fs_check *c, const struct btree_item *it,
		     const struct fs_dirent_view *d)
{
	uint64_t dir = it->key.object, slot = it->key.offset;
	struct fs_seen *s = seen(c, dir);

	if (!s)
		return -ENOMEM;
	if (!fs_dent_placed(c->hash_key, d->name, d->name_len, slot))
		entry_problem(c, FS_FIX_ENTRY_MOVE, it, d, " is not where it would be looked for");
	s->entries = true;
	s->dir_size += FS_DIRENT_WEIGHT + d->name_len;
	s->subdirs += d->type == S_IFDIR >> 12;
	s = seen(c, d->ino);
	if (!s)
		return -ENOMEM;
	s->types_differ |= s->names && s->entry_type != d->type;
	s->names++;
	s->named_by = dir;
	s->slot = slot;
	s->entry_type = d->type;
	c->r->entries++;
	return 0;
}

static int see_extent(struct fs_check *c, struct fs_seen *s, const struct btree_item *it)
{
	uint64_t off, len;
	bool reserved;

	s->extents = true;
	if (vol_item_extent(it, &off, &len, &reserved))
		problem(c, FS_FIX_NONE, 0, 0, "inode %" PRIu64 ": a damaged extent", s->ino);
	else if (!reserved && off + len > s->data_end)
		s->data_end = off + len;
	return 0;
}

static void damaged(struct fs_check *c, const struct btree_item *it)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	if (f) {
		fs_item_to_text(f, it);
		fclose(f);
	}
	if (text)
		text[strcspn(text, "\n")] = 0;
	problem(c, FS_FIX_NONE, 0, 0, "a damaged item: %s", text ? text : "?");
	free(text);
}

/* It does not decode. */
static void unknown(struct fs_check *c, const struct btree_item *it)
{
	if (fs_item_validate(it) != ERR_VERSION) {
		damaged(c, it);
		return;
	}
	c->newer = true;
	problem(c, FS_FIX_NONE, 0, 0, "an item of inode %" PRIu64 " is of a newer program",
		it->key.object);
}

static int see_meta(struct fs_check *c, const struct btree_item *it)
{
	struct fs_seen *s;

	if (fs_item_validate(it)) {
		unknown(c, it);
	} else if (it->key.type == FS_KEY_ORPHAN) {
		s = seen(c, it->key.offset);
		if (!s)
			return -ENOMEM;
		s->orphan = true;
	}
	return 0;
}

static int see_item(void *arg, const struct btree_item *it)
{
	struct fs_check *c = arg;
	struct fs_dirent_view d;
	struct fs_xattr_view x;
	struct fs_attr a;
	struct fs_seen *s;

	if (it->key.object == FS_OBJ_META)
		return see_meta(c, it);
	s = seen(c, it->key.object);
	if (!s)
		return -ENOMEM;
	if (it->key.type >= VOL_KEY_EXTENT)
		return see_extent(c, s, it);
	if (fs_item_validate(it)) {
		if (it->key.type == FS_KEY_INODE)
			*(fs_item_validate(it) == ERR_VERSION ? &s->newer : &s->damaged) = true;
		unknown(c, it);
		return c->rc;
	}
	switch (it->key.type) {
	case FS_KEY_INODE:
		fs_inode_decode(it, &a);
		see_inode(c, s, &a);
		break;
	case FS_KEY_INLINE:
		s->inlined = true;
		s->inline_len = (uint16_t)(it->key.offset + it->len);
		break;
	case FS_KEY_XATTR:
		fs_xattr_decode(it, &x);
		s->xattrs = true;
		s->pieces_wanted += x.pieces;
		s->bytes_wanted += x.pieces ? x.value_len : 0;
		break;
	case FS_KEY_XATTR_DATA:
		s->xattrs = true;
		s->pieces++;
		s->bytes += it->len;
		break;
	case FS_KEY_DIRENT:
		fs_dirent_decode(it, &d);
		return see_entry(c, it, &d);
	}
	return c->rc;
}

static int see_bad(void *arg, int rc)
{
	struct fs_check *c = arg;

	c->blind = true;
	problem(c, FS_FIX_NONE, 0, 0, "a node cannot be read (%s): what lies below it was not seen",
		err_str(rc));
	return 0;
}

/* ---- judging the table ---- */

static bool has_parts(const struct fs_seen *s)
{
	return s->inlined || s->xattrs || s->extents || s->entries || s->damaged || s->newer;
}

static void judge_missing(struct fs_check *c, const struct fs_seen *s)
{
	bool parts = has_parts(s);
	uint32_t mode = s->entries ? S_IFDIR | 0700 : S_IFREG | 0600;

	if (parts)
		problem(c, FS_FIX_INODE, s->ino, mode, "inode %" PRIu64 " is %s", s->ino,
			s->damaged   ? "damaged"
			: s->entries ? "missing, its entries are there"
			: s->xattrs  ? "missing, its attributes are there"
				     : "missing, its data is there");
	else if (s->orphan)
		problem(c, FS_FIX_ORPHAN_DEL, s->ino, 0,
			"orphan %" PRIu64 " is listed, but there is no such inode", s->ino);
	c->look |= !parts && s->names;
}

static void judge_dir(struct fs_check *c, const struct fs_seen *s)
{
	uint32_t nlink = s->orphan && !s->names ? 0 : 2 + s->subdirs;

	if (s->ino == FS_OBJ_ROOT)
		c->look |= s->names > 0;
	else if (!s->names && !s->orphan)
		problem(c, FS_FIX_ADOPT, s->ino, 0, "directory %" PRIu64 " has no name", s->ino);
	else if (s->names > 1)
		c->look = true;
	else if (s->names && s->parent != s->named_by)
		problem(c, FS_FIX_PARENT, s->ino, s->named_by,
			"directory %" PRIu64 ": its parent is said to be %" PRIu64
			", but it is in %" PRIu64,
			s->ino, s->parent, s->named_by);
	if (s->nlink != nlink)
		problem(c, FS_FIX_NLINK, s->ino, nlink,
			"directory %" PRIu64 ": link count %u, should be %u", s->ino, s->nlink,
			nlink);
	if (s->size != s->dir_size)
		problem(c, FS_FIX_SIZE, s->ino, s->dir_size,
			"directory %" PRIu64 ": size %" PRIu64 ", should be %" PRIu64, s->ino,
			s->size, s->dir_size);
}

static void judge_data(struct fs_check *c, const struct fs_seen *s)
{
	bool regular = S_ISREG(s->mode), flag = s->flags & FS_INODE_INLINE;

	if (s->extents && (!regular || flag))
		problem(c, regular ? FS_FIX_FLAGS : FS_FIX_NONE, s->ino,
			s->flags & ~(uint32_t)FS_INODE_INLINE,
			"inode %" PRIu64 ": has data that it should not have", s->ino);
	else if (s->data_end > (s->size + 4095) / 4096 * 4096)
		problem(c, FS_FIX_SIZE, s->ino, s->data_end,
			"file %" PRIu64 ": data up to %" PRIu64 ", behind its end at %" PRIu64,
			s->ino, s->data_end, s->size);
	if (S_ISLNK(s->mode) && s->inline_len != s->size)
		problem(c, FS_FIX_NONE, s->ino, 0,
			"symbolic link %" PRIu64 ": %u bytes of target, should be %" PRIu64, s->ino,
			s->inline_len, s->size);
	else if (!S_ISLNK(s->mode) && s->inlined && !(regular && flag))
		problem(c, regular && !s->extents ? FS_FIX_FLAGS : FS_FIX_NONE, s->ino,
			s->flags | FS_INODE_INLINE,
			"inode %" PRIu64 ": has data in the tree that it should not have", s->ino);
	else if (regular && s->inlined && s->inline_len > s->size)
		problem(c, FS_FIX_SIZE, s->ino, s->inline_len,
			"file %" PRIu64 ": data up to %u, behind its end at %" PRIu64, s->ino,
			s->inline_len, s->size);
	if (s->entries && !S_ISDIR(s->mode))
		problem(c, FS_FIX_NONE, s->ino, 0,
			"inode %" PRIu64 ": has entries, but is no directory", s->ino);
}

static void judge_file(struct fs_check *c, const struct fs_seen *s)
{
	if (!s->names && !s->orphan)
		problem(c, FS_FIX_ADOPT, s->ino, 0, "file %" PRIu64 " has no name", s->ino);
	else if (s->nlink != s->names)
		problem(c, FS_FIX_NLINK, s->ino, s->names,
			"file %" PRIu64 ": link count %u, but it has %u name%s", s->ino, s->nlink,
			s->names, s->names == 1 ? "" : "s");
}

static void judge(struct fs_check *c, const struct fs_seen *s)
{
	if (s->newer)
		return; /* its counts are not known */
	if (!s->inode) {
		judge_missing(c, s);
		return;
	}
	if (S_ISDIR(s->mode))
		judge_dir(c, s);
	else
		judge_file(c, s);
	judge_data(c, s);
	if (s->orphan && s->names)
		problem(c, FS_FIX_ORPHAN_DEL, s->ino, 0,
			"inode %" PRIu64 " is listed as an orphan, but has a name", s->ino);
	if (s->xattrs && !(s->flags & FS_INODE_XATTR))
		problem(c, FS_FIX_FLAGS, s->ino, s->flags | FS_INODE_XATTR,
			"inode %" PRIu64 ": has attributes, but does not say so", s->ino);
	if (s->pieces != s->pieces_wanted || s->bytes != s->bytes_wanted)
		problem(c, FS_FIX_NONE, s->ino, 0,
			"inode %" PRIu64 ": %u pieces of attributes with %u bytes, should be %u "
			"with %u",
			s->ino, s->pieces, s->bytes, s->pieces_wanted, s->bytes_wanted);
	c->look |= s->types_differ || (s->names && s->entry_type != s->mode >> 12);
}

/* Is this directory, which has one name, below the root? Follows the names upwards; what is met is
 * marked, so every directory is passed once. */
static void judge_place(struct fs_check *c, struct fs_seen *s)
{
	struct fs_seen *top = s;

	while (top && top->inode && !top->walk && top->ino != FS_OBJ_ROOT && top->names == 1) {
		top->walk = 1;
		top = fs_check_seen(c, top->named_by);
	}
	if (top && top->walk == 1) /* met on this very way */
		problem(c, FS_FIX_ADOPT, top->ino, 1,
			"directory %" PRIu64 " is in a loop, not below the root", top->ino);
	for (; s && s->walk == 1; s = fs_check_seen(c, s->named_by))
		s->walk = 2;
}

/* ---- second pass: entries that looked wrong ---- */

static int look_bad(void *arg, int rc)
{
	(void)arg, (void)rc;
	return 0; /* was said in the first */
}

static int look_item(void *arg, const struct btree_item *it)
{
	struct fs_check *c = arg;
	struct fs_dirent_view d;
	struct fs_seen *s;
	uint64_t dir = it->key.object;

	if (dir == FS_OBJ_META || it->key.type != FS_KEY_DIRENT || fs_dirent_decode(it, &d))
		return 0;
	s = fs_check_seen(c, d.ino);
	if (!s || (!s->inode && !has_parts(s)))
		entry_problem(c, FS_FIX_ENTRY_DEL, it, &d,
			      " names inode %" PRIu64 ", which is missing", d.ino);
	else if (s->inode && S_ISDIR(s->mode) && s->ino == FS_OBJ_ROOT)
		entry_problem(c, FS_FIX_ENTRY_DEL, it, &d, " names the root");
	else if (s->inode && S_ISDIR(s->mode) && s->names > 1 && (s->parent != dir || s->kept))
		entry_problem(c, FS_FIX_ENTRY_DEL, it, &d,
			      " names directory %" PRIu64 ", which has another name", d.ino);
	else if (s->inode && d.type != s->mode >> 12)
		entry_problem(c, FS_FIX_ENTRY_TYPE, it, &d,
			      ": type %u, but inode %" PRIu64 " is of type %u", d.type, d.ino,
			      s->mode >> 12);
	if (s && s->inode && S_ISDIR(s->mode) && s->names > 1 && s->parent == dir)
		s->kept = true;
	return c->rc;
}

static int super_fn(struct vol *v, void *arg)
{
	struct fs_check *c = arg;
	struct btree_item it;
	int r = vol_get(v, fs_key(FS_OBJ_META, FS_KEY_SUPER, 0), &it);

	c->made = !r;
	if (!r)
		r = fs_item_validate(&it);
	if (!r)
		memcpy(c->hash_key, ((const struct fs_super_disk *)it.value)->hash_key,
		       sizeof(c->hash_key));
	if (r != -ENOENT)
		return r;
	r = vol_seek_ge(v, KEY_MIN, &it);
	c->empty = r == -ENOENT;
	return r == -ENOENT ? 0 : r;
}

int fs_check_look(struct vol *v, struct fs_check *c)
{
	return vol_query(v, super_fn, c);
}

/* Others want to run on this thread, too. */
static void breathe(struct fs_check *c)
{
	if (!(++c->breath % BREATH) && co_self())
		co_sleep_ns(1);
}

static int judge_all(struct fs_check *c)
{
	struct fs_seen *root = seen(c, FS_OBJ_ROOT);

	if (!root)
		return -ENOMEM;
	if (!root->inode)
		problem(c, FS_FIX_INODE, FS_OBJ_ROOT, S_IFDIR | 0755, "the root is missing");
	for (size_t i = 0; i < c->size; i++, breathe(c))
		if (c->table[i].ino && (c->table[i].ino != FS_OBJ_ROOT || c->table[i].inode))
			judge(c, &c->table[i]);
	for (size_t i = 0; i < c->size; i++, breathe(c))
		if (c->table[i].ino && c->table[i].inode && S_ISDIR(c->table[i].mode))
			judge_place(c, &c->table[i]);
	return c->rc;
}

int fs_check_run(struct vol *v, struct fs_check *c)
{
	const struct vol_view_ops first = {see_item, see_bad}, second = {look_item, look_bad};
	struct vol_view *w;
	int r = fs_check_look(v, c);

	if (!r && !c->made) {
		if (!c->empty)
			problem(c, FS_FIX_NONE, 0, 0,
				"there are items, but no super item: it cannot be mounted; save "
				"what is there with `tarn rescue`");
		return c->rc;
	}
	if (!r)
		r = vol_view_open(v, &w);
	if (r)
		return r;
	r = vol_view_walk(w, &first, c);
	if (!r && c->count) /* else it was made after the commit */
		r = judge_all(c);
	if (!r && c->look)
		r = vol_view_walk(w, &second, c);
	vol_view_close(w);
	return r ? r : c->rc;
}

void fs_check_fini(struct fs_check *c)
{
	free(c->table);
	free(c->fix);
}

int fs_check(struct vol *v, const char *name, FILE *out, struct fs_check_result *ret_r,
	     struct err *e)
{
	struct fs_check c = {.name = name, .out = out, .r = ret_r};
	int r;

	*ret_r = (struct fs_check_result){0};
	r = fs_check_run(v, &c);
	ret_r->left = ret_r->problems;
	fs_check_fini(&c);
	return r ? err_set(e, r, "check the tree of %s: %s", name, err_str(r)) : 0;
}
