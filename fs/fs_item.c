#include "fs/fs_item.h"
#include <ctype.h>
#include <dirent.h>
#include <inttypes.h>
#include <sys/stat.h>

_Static_assert(sizeof(struct fs_time_disk) == 12, "disk format");
_Static_assert(sizeof(struct fs_inode_disk) == 128, "disk format");
_Static_assert(offsetof(struct fs_inode_disk, size) == 32, "disk format");
_Static_assert(offsetof(struct fs_inode_disk, atime) == 56, "disk format");
_Static_assert(sizeof(struct fs_dirent_disk) == 12, "disk format");
_Static_assert(sizeof(struct fs_xattr_disk) == 8, "disk format");
_Static_assert(sizeof(struct fs_orphan_disk) == 4, "disk format");
_Static_assert(sizeof(struct fs_super_disk) == 64, "disk format");

static bool is_zero(const uint8_t *p, size_t n)
{
	while (n--)
		if (*p++)
			return false;
	return true;
}

static int time_decode(const struct fs_time_disk *d, struct timespec *ret_t)
{
	uint32_t nsec = le32_get(d->nsec);

	if (nsec >= 1000000000u)
		return ERR_FORMAT;
	ret_t->tv_sec = (time_t)le64_get(d->sec);
	ret_t->tv_nsec = (long)nsec;
	return 0;
}

static struct fs_time_disk time_encode(const struct timespec *t)
{
	return (struct fs_time_disk){le64_of((uint64_t)t->tv_sec), le32_of((uint32_t)t->tv_nsec)};
}

static bool mode_known(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
	case S_IFDIR:
	case S_IFLNK:
	case S_IFCHR:
	case S_IFBLK:
	case S_IFIFO:
	case S_IFSOCK:
		return !(mode & ~(S_IFMT | 07777u));
	}
	return false;
}

int fs_inode_decode(const struct btree_item *it, struct fs_attr *ret_a)
{
	const struct fs_inode_disk *d = it->value;
	struct fs_attr a;

	if (it->len < 1)
		return ERR_FORMAT;
	if (d->version != FS_VERSION)
		return ERR_VERSION;
	if (it->len != sizeof(*d) || it->key.offset)
		return ERR_FORMAT;
	if (!is_zero(d->pad0, sizeof(d->pad0)) || !is_zero(d->pad1, sizeof(d->pad1)))
		return ERR_FORMAT;
	a = (struct fs_attr){
		.ino = it->key.object,
		.generation = le64_get(d->generation),
		.mode = le32_get(d->mode),
		.nlink = le32_get(d->nlink),
		.uid = le32_get(d->uid),
		.gid = le32_get(d->gid),
		.flags = le32_get(d->flags),
		.rdev = le64_get(d->rdev),
		.size = le64_get(d->size),
		.parent = le64_get(d->parent),
	};
	if (!mode_known(a.mode) || a.nlink > FS_LINK_MAX)
		return ERR_FORMAT;
	if (a.flags & ~(uint32_t)FS_INODE_KNOWN)
		return ERR_VERSION;
	if (a.size > (uint64_t)VOL_OBJECT_BYTES_MAX)
		return ERR_FORMAT;
	if (S_ISLNK(a.mode) && (!a.size || a.size > FS_TARGET_MAX))
		return ERR_FORMAT;
	if (S_ISDIR(a.mode) != (a.parent != 0))
		return ERR_FORMAT;
	if (time_decode(&d->atime, &a.atime) || time_decode(&d->mtime, &a.mtime) ||
	    time_decode(&d->ctime, &a.ctime) || time_decode(&d->btime, &a.btime))
		return ERR_FORMAT;
	*ret_a = a;
	return 0;
}

void fs_inode_encode(const struct fs_attr *a, struct fs_inode_disk *ret_d)
{
	*ret_d = (struct fs_inode_disk){
		.version = FS_VERSION,
		.flags = le32_of(a->flags),
		.mode = le32_of(a->mode),
		.uid = le32_of(a->uid),
		.gid = le32_of(a->gid),
		.nlink = le32_of(a->nlink),
		.rdev = le64_of(a->rdev),
		.size = le64_of(a->size),
		.parent = le64_of(a->parent),
		.generation = le64_of(a->generation),
		.atime = time_encode(&a->atime),
		.mtime = time_encode(&a->mtime),
		.ctime = time_encode(&a->ctime),
		.btime = time_encode(&a->btime),
	};
}

int fs_dirent_decode(const struct btree_item *it, struct fs_dirent_view *ret_v)
{
	const struct fs_dirent_disk *d = it->value;

	if (it->len < 1)
		return ERR_FORMAT;
	if (d->version != FS_VERSION)
		return ERR_VERSION;
	if (it->len < sizeof(*d) || !d->name_len || it->len != sizeof(*d) + d->name_len || d->pad)
		return ERR_FORMAT;
	if (it->key.offset < FS_SLOT_MIN || it->key.offset > (uint64_t)INT64_MAX)
		return ERR_FORMAT;
	if (!le64_get(d->inode) || le64_get(d->inode) == FS_OBJ_META)
		return ERR_FORMAT;
	ret_v->ino = le64_get(d->inode);
	ret_v->type = d->type;
	ret_v->name_len = d->name_len;
	ret_v->name = (const char *)(d + 1);
	if (memchr(ret_v->name, 0, d->name_len) || memchr(ret_v->name, '/', d->name_len))
		return ERR_FORMAT;
	return 0;
}

uint16_t fs_dirent_encode(uint64_t ino, uint8_t type, const char *name, size_t name_len, void *buf)
{
	struct fs_dirent_disk *d = buf;

	*d = (struct fs_dirent_disk){FS_VERSION, type, (uint8_t)name_len, 0, le64_of(ino)};
	memcpy(d + 1, name, name_len);
	return (uint16_t)(sizeof(*d) + name_len);
}

int fs_xattr_decode(const struct btree_item *it, struct fs_xattr_view *ret_v)
{
	const struct fs_xattr_disk *d = it->value;
	uint32_t value_len;
	size_t head;

	if (it->len < 1)
		return ERR_FORMAT;
	if (d->version != FS_VERSION)
		return ERR_VERSION;
	if (it->len < sizeof(*d) || !d->name_len || d->pad || it->key.offset & 31)
		return ERR_FORMAT;
	head = sizeof(*d) + d->name_len;
	value_len = le32_get(d->value_len);
	if (value_len > FS_XATTR_VALUE_MAX)
		return ERR_FORMAT;
	if (it->len != head + (d->pieces ? 0 : value_len))
		return ERR_FORMAT;
	if (d->pieces && d->pieces != (value_len + FS_XATTR_CHUNK - 1) / FS_XATTR_CHUNK)
		return ERR_FORMAT;
	ret_v->pieces = d->pieces;
	ret_v->name_len = d->name_len;
	ret_v->value_len = value_len;
	ret_v->name = (const char *)(d + 1);
	ret_v->value = (const uint8_t *)(d + 1) + d->name_len;
	if (memchr(ret_v->name, 0, d->name_len))
		return ERR_FORMAT;
	return 0;
}

static int super_validate(const struct btree_item *it)
{
	const struct fs_super_disk *d = it->value;
	struct timespec t;

	if (it->len < 1)
		return ERR_FORMAT;
	if (d->version != FS_VERSION)
		return ERR_VERSION;
	if (it->len != sizeof(*d) || it->key.object != FS_OBJ_META || it->key.offset)
		return ERR_FORMAT;
	if (le32_get(d->features))
		return ERR_VERSION;
	if (!is_zero(d->pad0, sizeof(d->pad0)) || !is_zero(d->pad1, sizeof(d->pad1)))
		return ERR_FORMAT;
	return time_decode(&d->created, &t);
}

static int orphan_validate(const struct btree_item *it)
{
	const struct fs_orphan_disk *d = it->value;

	if (it->len < 1)
		return ERR_FORMAT;
	if (d->version != FS_VERSION)
		return ERR_VERSION;
	if (it->len != sizeof(*d) || it->key.object != FS_OBJ_META || !is_zero(d->pad, 3))
		return ERR_FORMAT;
	return it->key.offset <= FS_OBJ_META ? ERR_FORMAT : 0;
}

int fs_item_validate(const struct btree_item *it)
{
	struct fs_dirent_view d;
	struct fs_xattr_view x;
	struct fs_attr a;

	if (it->key.type >= VOL_KEY_EXTENT)
		return 0;
	switch (it->key.type) {
	case FS_KEY_INODE:
		return fs_inode_decode(it, &a);
	case FS_KEY_INLINE:
		if (!it->len || (it->key.offset && it->key.offset != FS_LINK_CHUNK))
			return ERR_FORMAT;
		return it->len > NODE_VALUE_MAX ? ERR_FORMAT : 0;
	case FS_KEY_XATTR:
		return fs_xattr_decode(it, &x);
	case FS_KEY_XATTR_DATA:
		return !it->len || it->len > FS_XATTR_CHUNK ? ERR_FORMAT : 0;
	case FS_KEY_ORPHAN:
		return orphan_validate(it);
	case FS_KEY_SUPER:
		return super_validate(it);
	case FS_KEY_DIRENT:
		return fs_dirent_decode(it, &d);
	}
	return ERR_FORMAT;
}

void fs_name_to_text(FILE *f, const char *name, size_t len)
{
	fputc('"', f);
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)name[i];

		if (c == '"' || c == '\\' || !isprint(c))
			fprintf(f, "\\x%02x", c);
		else
			fputc(c, f);
	}
	fputc('"', f);
}

static void inode_to_text(FILE *f, const struct fs_attr *a)
{
	static const struct {
		uint32_t flag;
		const char *name;
	} flags[] = {
		{FS_INODE_INLINE, "inline"},	   {FS_INODE_XATTR, "xattr"},
		{FS_INODE_IMMUTABLE, "immutable"}, {FS_INODE_APPEND, "append"},
		{FS_INODE_NODUMP, "nodump"},	   {FS_INODE_NOATIME, "noatime"},
	};

	fprintf(f, " mode %06o nlink %u owner %u:%u size %" PRIu64, a->mode, a->nlink, a->uid,
		a->gid, a->size);
	if (a->parent)
		fprintf(f, " parent %" PRIu64, a->parent);
	if (S_ISCHR(a->mode) || S_ISBLK(a->mode))
		fprintf(f, " rdev %" PRIx64, a->rdev);
	fprintf(f, " mtime %lld.%09ld gen %" PRIu64, (long long)a->mtime.tv_sec, a->mtime.tv_nsec,
		a->generation);
	for (unsigned i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
		if (a->flags & flags[i].flag)
			fprintf(f, " %s", flags[i].name);
}

void fs_item_to_text(FILE *f, const struct btree_item *it)
{
	static const char *const names[] = {
		[FS_KEY_INODE] = "inode",   [FS_KEY_INLINE] = "inline",
		[FS_KEY_XATTR] = "xattr",   [FS_KEY_XATTR_DATA] = "xattr-data",
		[FS_KEY_ORPHAN] = "orphan", [FS_KEY_SUPER] = "super",
		[FS_KEY_DIRENT] = "dirent",
	};
	struct fs_dirent_view d;
	struct fs_xattr_view x;
	struct fs_attr a;
	const char *name = NULL;
	int r = fs_item_validate(it);

	if (it->key.type < sizeof(names) / sizeof(names[0]))
		name = names[it->key.type];
	fprintf(f, "%" PRIu64 " %s %" PRIu64 ":", it->key.object, name ? name : "unknown",
		it->key.offset);
	if (r) {
		fprintf(f, " malformed (%s), %u bytes\n", err_str(r), it->len);
		return;
	}
	switch (it->key.type) {
	case FS_KEY_INODE:
		if (!fs_inode_decode(it, &a))
			inode_to_text(f, &a);
		break;
	case FS_KEY_DIRENT:
		if (!fs_dirent_decode(it, &d)) {
			fprintf(f, " inode %" PRIu64 " type %u name ", d.ino, d.type);
			fs_name_to_text(f, d.name, d.name_len);
		}
		break;
	case FS_KEY_XATTR:
		if (!fs_xattr_decode(it, &x)) {
			fprintf(f, " value %u bytes in %u pieces name ", x.value_len, x.pieces);
			fs_name_to_text(f, x.name, x.name_len);
		}
		break;
	default:
		fprintf(f, " %u bytes", it->len);
	}
	fputc('\n', f);
}
