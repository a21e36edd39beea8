/* ACLs, file capabilities, immutable and append-only inodes, atime, over a fake volume that stops
 * at random moments with ERR_NEED_NODE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include "fs/fs.h"
#include "tests/unit/fake_vol.h"
#include "tests/unit/fs_tree_check.h"

#define ACCESS	"system.posix_acl_access"
#define DEFAULT "system.posix_acl_default"
#define CAPS	"security.capability"

struct env {
	struct pool *pool;
	struct vol *vol;
	struct fs *fs;
};

static const struct fs_options options = {.seed = "seed", .atime = true};

static int setup(void **state)
{
	struct env *t = calloc(1, sizeof(*t));
	struct vol_options o = {.type = VOL_TYPE_FS};
	struct err e = {0};

	t->pool = fake_pool_create();
	vol_create(t->pool, "v", &o, NULL);
	vol_open(t->pool, "v", &t->vol, NULL);
	fake_vol_need_node(t->vol, 5, 42);
	assert_int_equal(fs_open(t->vol, &options, &t->fs, &e), 0);
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct env *t = *state;

	fs_close(t->fs);
	fs_tree_check(t->vol, 0);
	vol_close(t->vol);
	fake_pool_destroy(t->pool);
	free(t);
	return 0;
}

static struct fs_attr make_masked(struct env *t, uint64_t dir, const char *name, uint32_t mode,
				  uint32_t umask)
{
	struct fs_make m = {.mode = mode, .umask = umask, .target = "t"};
	struct fs_attr a;

	assert_int_equal(fs_make(t->fs, dir, name, &m, &a, NULL), 0);
	return a;
}

static uint64_t make(struct env *t, uint64_t dir, const char *name, uint32_t mode)
{
	return make_masked(t, dir, name, mode, 0).ino;
}

static uint32_t mode_of(struct env *t, uint64_t ino)
{
	struct fs_attr a;

	assert_int_equal(fs_getattr(t->fs, ino, &a), 0);
	return a.mode & 07777;
}

static int chmod_ino(struct env *t, uint64_t ino, uint32_t mode)
{
	struct fs_setattr sa = {.set = FS_SET_MODE, .mode = mode};
	struct fs_attr a;

	return fs_setattr(t->fs, ino, &sa, &a);
}

static int flags_ino(struct env *t, uint64_t ino, uint32_t flags)
{
	struct fs_setattr sa = {.set = FS_SET_FLAGS, .flags = flags};
	struct fs_attr a;

	return fs_setattr(t->fs, ino, &sa, &a);
}

/* ---- ACLs ---- */

struct acl {
	uint8_t bytes[4096];
	size_t len;
};

static void acl_add(struct acl *l, unsigned tag, unsigned perm, uint32_t id)
{
	uint8_t e[8] = {(uint8_t)tag,	     0,
			(uint8_t)perm,	     0,
			(uint8_t)id,	     (uint8_t)(id >> 8),
			(uint8_t)(id >> 16), (uint8_t)(id >> 24)};

	if (!l->len) {
		memcpy(l->bytes, (uint8_t[]){2, 0, 0, 0}, 4);
		l->len = 4;
	}
	memcpy(l->bytes + l->len, e, 8);
	l->len += 8;
}

/* Owner 7, `named` users with 7, group 5, mask, others 0. */
static struct acl acl_of(unsigned named, unsigned mask)
{
	struct acl l = {0};

	acl_add(&l, 1, 7, UINT32_MAX);
	for (unsigned n = 0; n < named; n++)
		acl_add(&l, 2, 7, 1000 + n);
	acl_add(&l, 4, 5, UINT32_MAX);
	if (named)
		acl_add(&l, 16, mask, UINT32_MAX);
	acl_add(&l, 32, 0, UINT32_MAX);
	return l;
}

static int acl_set(struct env *t, uint64_t ino, const char *name, const struct acl *l, int flags)
{
	return fs_xattr_set(t->fs, ino, name, l->bytes, l->len, flags);
}

static void expect_acl(struct env *t, uint64_t ino, const char *name, const struct acl *want)
{
	uint8_t buf[4096];
	size_t n;

	assert_int_equal(fs_xattr_get(t->fs, ino, name, buf, sizeof(buf), &n), 0);
	assert_int_equal(n, want->len);
	assert_memory_equal(buf, want->bytes, n);
}

static void expect_no(struct env *t, uint64_t ino, const char *name)
{
	size_t n;

	assert_int_equal(fs_xattr_get(t->fs, ino, name, NULL, 0, &n), -ENODATA);
}

static void test_acl_mode(void **state)
{
	struct env *t = *state;
	uint64_t f = make(t, 1, "f", S_IFREG | 02640), d = make(t, 1, "d", S_IFDIR | 0755);
	uint64_t link = make(t, 1, "l", S_IFLNK | 0777);
	struct acl l = acl_of(1, 6), want = acl_of(1, 4), plain = acl_of(0, 0), bad;

	assert_int_equal(acl_set(t, f, ACCESS, &l, 0), 0);
	assert_int_equal(mode_of(t, f), 02760);
	expect_acl(t, f, ACCESS, &l);
	assert_int_equal(chmod_ino(t, f, 0740), 0);
	expect_acl(t, f, ACCESS, &want);
	assert_int_equal(chmod_ino(t, f, 02740), 0);
	assert_int_equal(acl_set(t, f, ACCESS, &l, FS_XATTR_KILL_SGID), 0);
	assert_int_equal(mode_of(t, f), 0760);
	assert_int_equal(acl_set(t, f, ACCESS, &plain, 0), 0);
	assert_int_equal(mode_of(t, f), 0750);
	expect_no(t, f, ACCESS);
	assert_int_equal(acl_set(t, f, DEFAULT, &l, 0), -EACCES);
	assert_int_equal(acl_set(t, link, ACCESS, &l, 0), -EOPNOTSUPP);
	assert_int_equal(acl_set(t, d, DEFAULT, &plain, 0), 0);
	expect_acl(t, d, DEFAULT, &plain);
	assert_int_equal(mode_of(t, d), 0755);
	bad = (struct acl){.bytes = {2}, .len = 4}; /* empty: none */
	assert_int_equal(acl_set(t, d, DEFAULT, &bad, 0), 0);
	expect_no(t, d, DEFAULT);
	bad = acl_of(1, 7);
	for (size_t len = 0; len < bad.len; len++) {
		struct acl cut = bad;

		cut.len = len;
		if (len != 4)
			assert_int_equal(acl_set(t, f, ACCESS, &cut, 0), -EINVAL);
	}
	for (size_t at = 4; at < bad.len; at += 8) { /* twice the same, or no such tag */
		struct acl odd = bad;

		odd.bytes[at] = odd.bytes[at] == 1 ? 32 : 1;
		assert_int_equal(acl_set(t, f, ACCESS, &odd, 0), -EINVAL);
		odd.bytes[at] = 64;
		assert_int_equal(acl_set(t, f, ACCESS, &odd, 0), -EINVAL);
	}
	assert_int_equal(mode_of(t, f), 0750);
}

static void test_acl_inherit(void **state)
{
	struct env *t = *state;
	uint64_t d = make(t, 1, "d", S_IFDIR | 0755), sub, f;
	struct fs_make tmp = {.mode = S_IFREG | 0666, .umask = 077};
	struct acl def = acl_of(1, 7), want;
	struct fs_file *file;
	struct fs_attr a;

	assert_int_equal(make_masked(t, d, "before", S_IFREG | 0666, 027).mode, S_IFREG | 0640);
	assert_int_equal(acl_set(t, d, DEFAULT, &def, 0), 0);
	f = make_masked(t, d, "f", S_IFREG | 0666, 077).ino;
	assert_int_equal(mode_of(t, f), 0660);
	want = acl_of(1, 6);
	want.bytes[4 + 2] = 6; /* the owner's */
	expect_acl(t, f, ACCESS, &want);
	expect_no(t, f, DEFAULT);
	sub = make_masked(t, d, "sub", S_IFDIR | 0777, 077).ino;
	assert_int_equal(mode_of(t, sub), 0770);
	expect_acl(t, sub, ACCESS, &def);
	expect_acl(t, sub, DEFAULT, &def);
	assert_int_equal(make_masked(t, d, "l", S_IFLNK | 0777, 077).mode, S_IFLNK | 0777);
	assert_int_equal(fs_make_tmpfile(t->fs, d, &tmp, &a, &file), 0);
	assert_int_equal(a.mode, S_IFREG | 0660);
	expect_acl(t, a.ino, ACCESS, &want);
	fs_file_close(file);
	def = acl_of(507, 7); /* as large as the kernel makes them: in pieces */
	assert_int_equal(def.len, 4 + 8 * 511);
	assert_int_equal(acl_set(t, d, DEFAULT, &def, 0), 0);
	sub = make(t, d, "sub2", S_IFDIR | 0777);
	expect_acl(t, sub, ACCESS, &def);
	expect_acl(t, sub, DEFAULT, &def);
	assert_int_equal(chmod_ino(t, sub, 0700), 0);
	assert_int_equal(fs_xattr_remove(t->fs, sub, ACCESS), 0);
	expect_acl(t, sub, DEFAULT, &def);
}

/* ---- capabilities ---- */

static void expect_caps_gone(struct env *t, uint64_t ino)
{
	expect_no(t, ino, CAPS);
	assert_int_equal(fs_xattr_set(t->fs, ino, CAPS, "caps", 4, 0), 0);
}

static void test_capabilities(void **state)
{
	static char big[5000];
	struct env *t = *state;
	uint64_t ino = make(t, 1, "f", S_IFREG | 0755);
	struct fs_setattr sa = {.set = FS_SET_SIZE, .size = 100};
	struct fs_file *f;
	struct fs_attr a;

	assert_int_equal(fs_file_open(t->fs, ino, &f), 0);
	assert_false(fs_file_may_have_caps(f));
	assert_int_equal(fs_xattr_set(t->fs, ino, CAPS, "caps", 4, 0), 0);
	assert_int_equal(fs_xattr_set(t->fs, ino, "user.x", "x", 1, 0), 0);
	for (int cached = 0; cached < 2; cached++) {
		assert_int_equal(fs_write(f, 0, 1, "x", cached ? FS_WRITE_CACHED : 0), 0);
		assert_false(fs_file_may_have_caps(f));
		expect_caps_gone(t, ino);
		assert_true(fs_file_may_have_caps(f));
		assert_int_equal(fs_write(f, 0, sizeof(big), big, FS_WRITE_CACHED), 0);
		expect_caps_gone(t, ino);
		assert_int_equal(fs_write(f, 0, 10, big, FS_WRITE_CACHED), 0);
		expect_caps_gone(t, ino);
	}
	assert_int_equal(fs_setattr(t->fs, ino, &sa, &a), 0);
	expect_caps_gone(t, ino);
	sa = (struct fs_setattr){.set = FS_SET_UID, .uid = 1};
	assert_int_equal(fs_setattr(t->fs, ino, &sa, &a), 0);
	expect_caps_gone(t, ino);
	sa = (struct fs_setattr){.set = FS_SET_KILL_PRIV};
	assert_int_equal(fs_setattr(t->fs, ino, &sa, &a), 0);
	expect_caps_gone(t, ino);
	assert_int_equal(fs_fallocate(f, 0, 0, 10000), 0);
	expect_caps_gone(t, ino);
	assert_int_equal(chmod_ino(t, ino, 0700), 0);
	assert_int_equal(fs_xattr_remove(t->fs, ino, CAPS), 0);
	fs_file_close(f);
}

/* ---- immutable, append-only ---- */

static void expect_fixed(struct env *t, uint64_t ino, uint64_t dir)
{
	struct fs_setattr sa = {.set = FS_SET_ATIME | FS_SET_MTIME | FS_SET_CTIME};
	struct fs_attr a;

	assert_int_equal(fs_unlink(t->fs, dir, "f"), -EPERM);
	assert_int_equal(fs_rename(t->fs, dir, "f", dir, "g", 0, 0, 0), -EPERM);
	assert_int_equal(fs_rename(t->fs, dir, "h", dir, "f", 0, 0, 0), -EPERM);
	assert_int_equal(fs_rename(t->fs, dir, "h", dir, "f", RENAME_EXCHANGE, 0, 0), -EPERM);
	assert_int_equal(fs_link(t->fs, ino, dir, "g", &a), -EPERM);
	assert_int_equal(chmod_ino(t, ino, 0600), -EPERM);
	assert_int_equal(fs_setattr(t->fs, ino, &sa, &a), -EPERM);
	sa = (struct fs_setattr){.set = FS_SET_SIZE};
	assert_int_equal(fs_setattr(t->fs, ino, &sa, &a), -EPERM);
	sa = (struct fs_setattr){.set = FS_SET_MTIME | FS_SET_CTIME}; /* the kernel's cache */
	assert_int_equal(fs_setattr(t->fs, ino, &sa, &a), 0);
	assert_int_equal(fs_xattr_set(t->fs, ino, "user.x", "", 0, 0), -EPERM);
	assert_int_equal(fs_xattr_remove(t->fs, ino, "user.y"), -EPERM);
}

static void test_immutable(void **state)
{
	struct env *t = *state;
	uint64_t d = make(t, 1, "d", S_IFDIR | 0755), ino = make(t, d, "f", S_IFREG | 0644);
	uint64_t h = make(t, d, "h", S_IFREG | 0644);
	struct fs_make m = {.mode = S_IFREG};
	struct fs_file *f;
	struct fs_attr a;

	assert_int_equal(fs_file_open(t->fs, ino, &f), 0);
	assert_int_equal(fs_xattr_set(t->fs, ino, "user.y", "", 0, 0), 0);
	assert_int_equal(flags_ino(t, ino, FS_INODE_IMMUTABLE), 0);
	expect_fixed(t, ino, d);
	assert_int_equal(fs_write(f, 0, 1, "x", 0), -EPERM);
	assert_int_equal(fs_write(f, 0, 1, "x", FS_WRITE_CACHED), 0);
	assert_int_equal(fs_fallocate(f, 0, 0, 10), -EPERM);
	assert_int_equal(fs_file_may_open(f, O_RDONLY), 0);
	assert_int_equal(fs_file_may_open(f, O_WRONLY | O_APPEND), -EPERM);
	assert_int_equal(flags_ino(t, ino, FS_INODE_APPEND), 0);
	expect_fixed(t, ino, d);
	assert_int_equal(fs_write(f, 1, 1, "x", 0), 0);
	assert_int_equal(fs_fallocate(f, FALLOC_FL_KEEP_SIZE, 0, 10), 0);
	assert_int_equal(fs_fallocate(f, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, 0, 10),
			 -EPERM);
	assert_int_equal(fs_file_may_open(f, O_WRONLY), -EPERM);
	assert_int_equal(fs_file_may_open(f, O_RDWR | O_APPEND), 0);
	assert_int_equal(fs_file_may_open(f, O_RDWR | O_APPEND | O_TRUNC), -EPERM);
	assert_int_equal(flags_ino(t, ino, 0), 0);
	assert_int_equal(flags_ino(t, d, FS_INODE_APPEND), 0);
	assert_int_equal(fs_unlink(t->fs, d, "f"), -EPERM);
	make(t, d, "new", S_IFREG | 0644);
	assert_int_equal(flags_ino(t, d, FS_INODE_IMMUTABLE | FS_INODE_NODUMP), 0);
	assert_int_equal(fs_make(t->fs, d, "n", &m, &a, NULL), -EPERM);
	assert_int_equal(fs_link(t->fs, h, d, "n", &a), -EPERM);
	assert_int_equal(fs_rename(t->fs, 1, "d", d, "n", 0, 0, 0), -EPERM);
	assert_int_equal(fs_rename(t->fs, d, "f", 1, "n", 0, 0, 0), -EPERM);
	assert_int_equal(fs_rmdir(t->fs, 1, "d"), -EPERM);
	assert_int_equal(flags_ino(t, d, FS_INODE_NODUMP), 0);
	assert_int_equal(make_masked(t, d, "n", S_IFDIR | 0755, 0).flags, FS_INODE_NODUMP);
	assert_int_equal(fs_unlink(t->fs, d, "f"), 0);
	fs_file_close(f);
}

static void test_atime(void **state)
{
	struct env *t = *state;
	uint64_t d = make(t, 1, "d", S_IFDIR | 0755), l = make(t, d, "l", S_IFLNK | 0777);
	struct fs_setattr sa = {.set = FS_SET_ATIME | FS_SET_MTIME | FS_SET_CTIME};
	uint64_t ino[2] = {d, l};
	struct fs_dirent e[4];
	char buf[FS_TARGET_MAX + 1];
	struct fs_attr a;
	unsigned n;

	for (int k = 0; k < 2; k++) {
		for (int day = 0; day < 2; day++) {
			/* younger than the last change; and then a day old, or not */
			fs_getattr(t->fs, d, &a);
			sa.atime.tv_sec = a.btime.tv_sec - (day ? 2 * 86400 : 100);
			sa.mtime.tv_sec = sa.ctime.tv_sec = sa.atime.tv_sec - 10;
			assert_int_equal(fs_setattr(t->fs, ino[k], &sa, &a), 0);
			if (k)
				assert_int_equal(fs_readlink(t->fs, l, buf), 0);
			else
				assert_int_equal(fs_readdir(t->fs, d, 0, false, e, 4, &n), 0);
			assert_int_equal(fs_getattr(t->fs, ino[k], &a), 0);
			if (day)
				assert_true(a.atime.tv_sec > sa.atime.tv_sec);
			else
				assert_int_equal(a.atime.tv_sec, sa.atime.tv_sec);
		}
	}
	assert_int_equal(flags_ino(t, d, FS_INODE_NOATIME), 0);
	assert_int_equal(fs_getattr(t->fs, d, &a), 0);
	sa.atime = a.atime;
	assert_int_equal(fs_readdir(t->fs, d, 0, false, e, 4, &n), 0);
	assert_int_equal(fs_getattr(t->fs, d, &a), 0);
	assert_int_equal(a.atime.tv_sec, sa.atime.tv_sec);
	assert_int_equal(a.atime.tv_nsec, sa.atime.tv_nsec);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_acl_mode, setup, teardown),
		cmocka_unit_test_setup_teardown(test_acl_inherit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_capabilities, setup, teardown),
		cmocka_unit_test_setup_teardown(test_immutable, setup, teardown),
		cmocka_unit_test_setup_teardown(test_atime, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
