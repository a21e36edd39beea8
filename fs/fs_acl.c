#include "fs/fs_acl.h"
#include <errno.h>
#include <sys/stat.h>
#include "fs/fs_xattr.h"

/* ---- the kernel's form ---- */

#define ACL_VERSION 2u

enum acl_tag {
	ACL_USER_OBJ = 1,
	ACL_USER = 2,
	ACL_GROUP_OBJ = 4,
	ACL_GROUP = 8,
	ACL_MASK = 16,
	ACL_OTHER = 32,
};

struct acl_head {
	le32 version;
};
struct acl_entry {
	le16 tag, perm;
	le32 id;
};
_Static_assert(sizeof(struct acl_head) == 4 && sizeof(struct acl_entry) == 8, "the kernel's form");

static unsigned entry_count(size_t len)
{
	return (unsigned)((len - sizeof(struct acl_head)) / sizeof(struct acl_entry));
}

static struct acl_entry *entries(void *value)
{
	return (struct acl_entry *)(void *)((uint8_t *)value + sizeof(struct acl_head));
}

static struct acl_entry *find(void *value, size_t len, enum acl_tag tag)
{
	struct acl_entry *e = entries(value);

	for (unsigned n = entry_count(len); n; n--, e++)
		if (le16_get(e->tag) == tag)
			return e;
	return NULL;
}

/* The entry that the mode's group permissions stand for. */
static struct acl_entry *group_class(void *value, size_t len)
{
	struct acl_entry *mask = find(value, len, ACL_MASK);

	return mask ? mask : find(value, len, ACL_GROUP_OBJ);
}

/* One owner, one group, one for others, at most one mask, which is needed where there are more. */
static bool well_formed(void *value, size_t len)
{
	const struct acl_head *h = value;
	unsigned one = 0, named = 0;

	if (len < sizeof(*h) || len > FS_ACL_BYTES_MAX ||
	    (len - sizeof(*h)) % sizeof(struct acl_entry) || le32_get(h->version) != ACL_VERSION)
		return false;
	for (unsigned n = 0; n < entry_count(len); n++) {
		const struct acl_entry *e = entries(value) + n;
		unsigned tag = le16_get(e->tag);

		if (le16_get(e->perm) > 7)
			return false;
		if (tag == ACL_USER || tag == ACL_GROUP)
			named++;
		else if (!tag || tag & (tag - 1) || tag > ACL_OTHER || one & tag)
			return false;
		else
			one |= tag;
	}
	if (!one && !named)
		return true; /* empty: no ACL at all */
	return (one & ~(unsigned)ACL_MASK) == (ACL_USER_OBJ | ACL_GROUP_OBJ | ACL_OTHER) &&
	       (!named || one & ACL_MASK);
}

static unsigned perm(const struct acl_entry *e)
{
	return le16_get(e->perm);
}

static uint32_t mode_of(void *value, size_t len)
{
	return perm(find(value, len, ACL_USER_OBJ)) << 6 | perm(group_class(value, len)) << 3 |
	       perm(find(value, len, ACL_OTHER));
}

static void mode_into(void *value, size_t len, uint32_t mode)
{
	find(value, len, ACL_USER_OBJ)->perm = le16_of(mode >> 6 & 7);
	group_class(value, len)->perm = le16_of(mode >> 3 & 7);
	find(value, len, ACL_OTHER)->perm = le16_of(mode & 7);
}

/* Does the ACL say no more than its mode? */
static bool is_mode(size_t len)
{
	return entry_count(len) == 3;
}

/* ---- changes ---- */

bool fs_acl_is(const char *name)
{
	return !strcmp(name, FS_ACL_ACCESS) || !strcmp(name, FS_ACL_DEFAULT);
}

static int del(struct fs_tx *t, struct fs_tx_inode *i, const char *name)
{
	int r = fs_xattr_tx_del(t, i, name);

	return r == -ENODATA ? 0 : r;
}

int fs_acl_tx_set(struct fs_tx *t, struct fs_tx_inode *i, const char *name, const void *value,
		  size_t len, int flags, uint8_t *item)
{
	void *acl = (void *)(uintptr_t)value; /* only read */
	bool access = !strcmp(name, FS_ACL_ACCESS);

	if (S_ISLNK(i->a.mode))
		return -EOPNOTSUPP;
	if (!well_formed(acl, len))
		return -EINVAL;
	if (!entry_count(len))
		return del(t, i, name);
	if (!access && !S_ISDIR(i->a.mode))
		return -EACCES;
	if (access) {
		i->a.mode = (i->a.mode & ~0777u) | mode_of(acl, len);
		if (flags & FS_XATTR_KILL_SGID)
			i->a.mode &= ~(uint32_t)S_ISGID;
		i->dirty = true;
		if (is_mode(len))
			return del(t, i, name);
	}
	return fs_xattr_tx_set(t, i, name, value, len, flags, item);
}

/* The ACL of that name. -ENODATA: none. */
static int load(struct fs_tx *t, const struct fs_attr *a, const char *name, uint8_t *value,
		size_t *ret_len)
{
	int r = fs_xattr_tx_get(t, a, name, value, FS_ACL_BYTES_MAX, ret_len);

	if (r == -ERANGE)
		return ERR_FORMAT;
	if (!r && !well_formed(value, *ret_len))
		return ERR_FORMAT;
	return !r && !entry_count(*ret_len) ? -ENODATA : r;
}

int fs_acl_tx_chmod(struct fs_tx *t, struct fs_tx_inode *i, struct fs_acl_space *s)
{
	size_t len;
	int r = load(t, &i->a, FS_ACL_ACCESS, s->value, &len);

	if (r)
		return r == -ENODATA ? 0 : r;
	mode_into(s->value, len, i->a.mode);
	return fs_xattr_tx_set(t, i, FS_ACL_ACCESS, s->value, len, 0, s->item);
}

int fs_acl_tx_inherit(struct fs_tx *t, const struct fs_attr *dir, struct fs_tx_inode *i,
		      uint32_t umask, struct fs_acl_space *access, struct fs_acl_space *def)
{
	size_t len;
	int r;

	if (S_ISLNK(i->a.mode))
		return 0;
	r = -ENODATA;
	if (dir->flags & FS_INODE_XATTR)
		r = load(t, dir, FS_ACL_DEFAULT, access->value, &len);
	if (r == -ENODATA)
		i->a.mode &= ~(umask & 0777);
	if (r)
		return r == -ENODATA ? 0 : r;
	if (S_ISDIR(i->a.mode)) {
		memcpy(def->value, access->value, len);
		r = fs_xattr_tx_set(t, i, FS_ACL_DEFAULT, def->value, len, 0, def->item);
	}
	i->a.mode &= ~0777u | mode_of(access->value, len);
	mode_into(access->value, len, i->a.mode);
	if (!r && !is_mode(len))
		r = fs_xattr_tx_set(t, i, FS_ACL_ACCESS, access->value, len, 0, access->item);
	return r;
}
