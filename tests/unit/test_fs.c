/* The POSIX tree over a fake volume that stops at random moments with ERR_NEED_NODE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "fs/fs.h"
#include "tests/unit/fake_vol.h"
#include "tests/unit/fs_tree_check.h"

struct env {
	struct pool *pool;
	struct vol *vol;
	struct fs *fs;
};

static const struct fs_options options = {
	.root_uid = 7, .root_gid = 8, .seed = "seed", .atime = true};

static void env_reopen(struct env *t)
{
	struct err e = {0};

	assert_int_equal(fs_open(t->vol, &options, &t->fs, &e), 0);
}

static int setup(void **state)
{
	struct env *t = calloc(1, sizeof(*t));
	struct vol_options o = {.type = VOL_TYPE_FS};

	t->pool = fake_pool_create();
	vol_create(t->pool, "v", &o, NULL);
	vol_open(t->pool, "v", &t->vol, NULL);
	fake_vol_need_node(t->vol, 5, 42);
	env_reopen(t);
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

static uint64_t make(struct env *t, uint64_t dir, const char *name, uint32_t mode)
{
	struct fs_make m = {.mode = mode, .uid = 1000, .gid = 1000, .target = "t"};
	struct fs_attr a;

	assert_int_equal(fs_make(t->fs, dir, name, &m, &a, NULL), 0);
	return a.ino;
}

static struct fs_file *open_ino(struct env *t, uint64_t ino)
{
	struct fs_file *f;

	assert_int_equal(fs_file_open(t->fs, ino, &f), 0);
	return f;
}

static struct fs_attr attr_of(struct env *t, uint64_t ino)
{
	struct fs_attr a;

	assert_int_equal(fs_getattr(t->fs, ino, &a), 0);
	return a;
}

static uint64_t look(struct env *t, uint64_t dir, const char *name)
{
	struct fs_attr a;
	int r = fs_lookup(t->fs, dir, name, &a);

	if (r) {
		assert_int_equal(r, -ENOENT);
		return 0;
	}
	return a.ino;
}

static void test_root(void **state)
{
	struct env *t = *state;
	struct fs_attr a = attr_of(t, 1);

	assert_int_equal(a.mode, S_IFDIR | 0755);
	assert_int_equal(a.uid, 7);
	assert_int_equal(a.gid, 8);
	assert_int_equal(a.nlink, 2);
	assert_int_equal(look(t, 1, "."), 1);
	assert_int_equal(look(t, 1, ".."), 1);
	assert_int_equal(look(t, 1, "x"), 0);
}

static void test_names(void **state)
{
	struct env *t = *state;
	char name[300];
	struct fs_make m = {.mode = S_IFREG | 0600};
	struct fs_attr a;
	uint64_t d = make(t, 1, "d", S_IFDIR | 0755), f;

	memset(name, 'n', sizeof(name));
	name[255] = 0;
	f = make(t, d, name, S_IFREG | 0644);
	assert_int_equal(look(t, d, name), f);
	name[255] = 'n';
	name[256] = 0;
	assert_int_equal(fs_make(t->fs, d, name, &m, &a, NULL), -ENAMETOOLONG);
	assert_int_equal(fs_lookup(t->fs, d, name, &a), -ENAMETOOLONG);
	assert_int_equal(fs_make(t->fs, 1, "d", &m, &a, NULL), -EEXIST);
	assert_int_equal(fs_make(t->fs, f, "x", &m, &a, NULL), -ENOTDIR);
	assert_int_equal(fs_make(t->fs, 999, "x", &m, &a, NULL), -ESTALE);
	assert_int_equal(look(t, d, ".."), 1);
	assert_int_equal(attr_of(t, 1).nlink, 3);
	assert_int_equal(fs_rmdir(t->fs, 1, "d"), -ENOTEMPTY);
	assert_int_equal(fs_unlink(t->fs, 1, "d"), -EISDIR);
	name[255] = 0;
	assert_int_equal(fs_rmdir(t->fs, d, name), -ENOTDIR);
	assert_int_equal(fs_unlink(t->fs, d, name), 0);
	assert_int_equal(fs_rmdir(t->fs, 1, "d"), 0);
	assert_int_equal(fs_make(t->fs, d, "x", &m, &a, NULL), -ENOENT);
	assert_int_equal(attr_of(t, d).nlink, 0);
	assert_int_equal(attr_of(t, 1).nlink, 2);
	assert_int_equal(attr_of(t, 1).size, 0);
}

static void test_setgid_dir(void **state)
{
	struct env *t = *state;
	uint64_t d = make(t, 1, "d", S_IFDIR | 02775), s;
	struct fs_make m = {.mode = S_IFDIR | 0755, .uid = 5, .gid = 6};
	struct fs_attr a;

	assert_int_equal(fs_make(t->fs, d, "s", &m, &a, NULL), 0);
	s = a.ino;
	assert_int_equal(a.gid, 1000);
	assert_int_equal(a.mode, S_IFDIR | 02755);
	m.mode = S_IFREG | 0644;
	assert_int_equal(fs_make(t->fs, s, "f", &m, &a, NULL), 0);
	assert_int_equal(a.gid, 1000);
	assert_int_equal(a.mode, S_IFREG | 0644);
}

static void test_symlink(void **state)
{
	struct env *t = *state;
	char target[FS_TARGET_MAX + 2], buf[FS_TARGET_MAX + 1];
	struct fs_make m = {.mode = S_IFLNK | 0777, .target = target};
	struct fs_attr a;

	memset(target, 'x', sizeof(target));
	target[FS_TARGET_MAX + 1] = 0;
	assert_int_equal(fs_make(t->fs, 1, "l", &m, &a, NULL), -ENAMETOOLONG);
	target[FS_TARGET_MAX] = 0;
	assert_int_equal(fs_make(t->fs, 1, "l", &m, &a, NULL), 0);
	assert_int_equal(a.size, FS_TARGET_MAX);
	assert_int_equal(fs_readlink(t->fs, a.ino, buf), 0);
	assert_string_equal(buf, target);
	assert_int_equal(fs_readlink(t->fs, 1, buf), -EINVAL);
	assert_int_equal(fs_unlink(t->fs, 1, "l"), 0);
	assert_int_equal(fake_vol_item_count(t->vol), 2); /* super, root */
}

static void test_links(void **state)
{
	struct env *t = *state;
	uint64_t f = make(t, 1, "f", S_IFREG | 0644), d = make(t, 1, "d", S_IFDIR | 0755);
	struct fs_attr a;
	char name[32];

	for (unsigned i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "l%u", i);
		assert_int_equal(fs_link(t->fs, f, d, name, &a), 0);
		assert_int_equal(a.nlink, i + 2);
	}
	assert_int_equal(fs_link(t->fs, d, 1, "x", &a), -EPERM);
	assert_int_equal(fs_link(t->fs, f, d, "l7", &a), -EEXIST);
	assert_int_equal(fs_unlink(t->fs, 1, "f"), 0);
	for (unsigned i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "l%u", i);
		assert_int_equal(look(t, d, name), f);
		assert_int_equal(fs_unlink(t->fs, d, name), 0);
	}
	assert_int_equal(attr_of(t, f).nlink, 0);
	assert_int_equal(fs_link(t->fs, f, d, "again", &a), -ENOENT);
}

static void read_back(struct fs_file *f, uint64_t off, const char *want, uint32_t len)
{
	char *buf = malloc(len + 100);
	uint32_t n;

	assert_int_equal(fs_read(f, off, len + 100, buf, &n), 0);
	assert_true(n >= len);
	assert_memory_equal(buf, want, len);
	free(buf);
}

static void test_inline(void **state)
{
	struct env *t = *state;
	uint64_t ino = make(t, 1, "f", S_IFREG | 0644), sectors, at;
	bool brief;
	struct fs_file *f = open_ino(t, ino);
	struct fs_setattr sa = {.set = FS_SET_SIZE, .size = 3};
	char zero[4096] = {0}, want[5000] = {0}, buf[8000];
	struct fs_attr a;
	uint32_t n;

	assert_int_equal(fs_write(f, 0, 5, "hello", 0), 0);
	assert_int_equal(fs_write(f, 100, 5, "world", 0), 0);
	read_back(f, 0, "hello\0", 6);
	read_back(f, 100, "world", 5);
	assert_int_equal(attr_of(t, ino).size, 105);
	assert_int_equal(fake_vol_block_count(t->vol), 0);
	assert_int_equal(fs_seek(f, 0, SEEK_HOLE, &at), 0);
	assert_int_equal(at, 105);
	assert_int_equal(fs_seek(f, 105, SEEK_DATA, &at), -ENXIO);
	assert_int_equal(fs_setattr(t->fs, ino, &sa, &a), 0);
	sa.size = 5000;
	assert_int_equal(fs_setattr(t->fs, ino, &sa, &a), 0);
	memcpy(want, "hel", 3);
	assert_int_equal(fs_read(f, 0, sizeof(buf), buf, &n), 0);
	assert_int_equal(n, 5000);
	assert_memory_equal(buf, want, 5000);
	assert_int_equal(fake_vol_block_count(t->vol), 0);
	/* grows out of the inode */
	assert_int_equal(fs_write(f, 4000, 4, "tail", 0), 0);
	memcpy(want + 4000, "tail", 4);
	assert_int_equal(fs_read(f, 0, sizeof(buf), buf, &n), 0);
	assert_int_equal(n, 5000);
	assert_memory_equal(buf, want, 5000);
	a = attr_of(t, ino);
	assert_int_equal(a.flags, 0);
	assert_int_equal(fs_blocks(t->fs, &a, &sectors, &brief), 0);
	assert_int_equal(sectors, 8);
	sa.size = 2;
	assert_int_equal(fs_setattr(t->fs, ino, &sa, &a), 0);
	sa.size = 4096;
	assert_int_equal(fs_setattr(t->fs, ino, &sa, &a), 0);
	memcpy(zero, "he", 2);
	read_back(f, 0, zero, 4096);
	fs_file_close(f);
}

static void test_first_write_big(void **state)
{
	struct env *t = *state;
	struct fs_file *f = open_ino(t, make(t, 1, "f", S_IFREG | 0644));
	char buf[10000];

	memset(buf, 'q', sizeof(buf));
	assert_int_equal(fs_write(f, 0, 10, "0123456789", 0), 0);
	assert_int_equal(fs_write(f, 0, sizeof(buf), buf, 0), 0);
	read_back(f, 0, buf, sizeof(buf));
	assert_int_equal(fs_write(f, INT64_MAX, 1, "x", 0), -EFBIG);
	assert_int_equal(fs_write(f, INT64_MAX - 1, 1, "x", 0), 0);
	read_back(f, INT64_MAX - 1, "x", 1);
	assert_int_equal(fs_write(f, 1ull << 62, 5, "far y", 0), 0);
	read_back(f, 1ull << 62, "far y", 5);
	fs_file_close(f);
}

static void test_kill_priv(void **state)
{
	struct env *t = *state;
	uint64_t ino = make(t, 1, "f", S_IFREG | 06755);
	struct fs_file *f = open_ino(t, ino);
	struct fs_setattr sa = {.set = FS_SET_MODE, .mode = 06755};
	struct fs_attr a;

	assert_int_equal(fs_write(f, 0, 1, "x", 0), 0);
	assert_int_equal(attr_of(t, ino).mode, S_IFREG | 06755);
	assert_int_equal(fs_write(f, 0, 1, "x", FS_WRITE_KILL_PRIV), 0);
	assert_int_equal(attr_of(t, ino).mode, S_IFREG | 0755);
	assert_int_equal(fs_setattr(t->fs, ino, &sa, &a), 0);
	sa = (struct fs_setattr){.set = FS_SET_UID, .uid = 3};
	assert_int_equal(fs_setattr(t->fs, ino, &sa, &a), 0);
	assert_int_equal(a.mode, S_IFREG | 0755);
	assert_int_equal(a.uid, 3);
	fs_file_close(f);
}

static void test_times(void **state)
{
	struct env *t = *state;
	uint64_t ino = make(t, 1, "f", S_IFREG | 0644);
	struct fs_setattr sa = {.set = FS_SET_MTIME | FS_SET_ATIME,
				.mtime = {-5, 999999999},
				.atime = {1ll << 40, 1}};
	struct timespec before = attr_of(t, ino).ctime;
	struct fs_attr a;

	usleep(2000);
	assert_int_equal(fs_setattr(t->fs, ino, &sa, &a), 0);
	fs_close(t->fs);
	env_reopen(t);
	a = attr_of(t, ino);
	assert_int_equal(a.mtime.tv_sec, -5);
	assert_int_equal(a.mtime.tv_nsec, 999999999);
	assert_int_equal(a.atime.tv_sec, 1ll << 40);
	assert_true(a.ctime.tv_sec > before.tv_sec || a.ctime.tv_nsec > before.tv_nsec);
}

static void test_rename(void **state)
{
	struct env *t = *state;
	uint64_t a = make(t, 1, "a", S_IFDIR | 0755), b = make(t, a, "b", S_IFDIR | 0755);
	uint64_t f = make(t, a, "f", S_IFREG | 0644), g = make(t, 1, "g", S_IFREG | 0644);
	struct fs_attr at;

	assert_int_equal(fs_rename(t->fs, 1, "a", b, "x", 0, 0, 0), -EINVAL);
	assert_int_equal(fs_rename(t->fs, 1, "a", a, "x", 0, 0, 0), -EINVAL);
	assert_int_equal(fs_rename(t->fs, 1, "none", a, "x", 0, 0, 0), -ENOENT);
	assert_int_equal(fs_rename(t->fs, a, "f", 1, "g", RENAME_NOREPLACE, 0, 0), -EEXIST);
	assert_int_equal(fs_rename(t->fs, a, "f", 1, "a", 0, 0, 0), -EISDIR);
	assert_int_equal(fs_rename(t->fs, a, "b", 1, "g", 0, 0, 0), -ENOTDIR);
	assert_int_equal(fs_rename(t->fs, a, "f", 1, "g", RENAME_EXCHANGE, 0, 0), 0);
	assert_int_equal(look(t, 1, "g"), f);
	assert_int_equal(look(t, a, "f"), g);
	assert_int_equal(fs_rename(t->fs, 1, "g", a, "f", 0, 0, 0), 0);
	assert_int_equal(look(t, a, "f"), f);
	assert_int_equal(look(t, 1, "g"), 0);
	assert_int_equal(fs_rename(t->fs, a, "b", 1, "moved", 0, 0, 0), 0);
	assert_int_equal(look(t, b, ".."), 1);
	assert_int_equal(attr_of(t, 1).nlink, 4);
	assert_int_equal(attr_of(t, a).nlink, 2);
	assert_int_equal(fs_rename(t->fs, 1, "moved", 1, "renamed", 0, 0, 0), 0);
	assert_int_equal(attr_of(t, 1).nlink, 4);
	assert_int_equal(fs_link(t->fs, f, 1, "same", &at), 0);
	assert_int_equal(fs_rename(t->fs, 1, "same", a, "f", 0, 0, 0), 0);
	assert_int_equal(look(t, 1, "same"), f);
	assert_int_equal(fs_rename(t->fs, a, "f", b, "w", RENAME_WHITEOUT, 0, 0), 0);
	assert_int_equal(fs_lookup(t->fs, a, "f", &at), 0);
	assert_int_equal(at.mode, S_IFCHR);
	assert_int_equal(fs_rename(t->fs, 1, "renamed", 1, "a", 0, 0, 0), -ENOTEMPTY);
	assert_int_equal(fs_unlink(t->fs, a, "f"), 0);
	assert_int_equal(fs_rename(t->fs, 1, "renamed", 1, "a", 0, 0, 0), 0);
	assert_int_equal(look(t, 1, "a"), b);
	assert_int_equal(attr_of(t, 1).nlink, 3);
}

static void test_readdir(void **state)
{
	struct env *t = *state;
	enum { N = 500 };
	static bool seen[N];
	struct fs_dirent d[7];
	uint64_t cookie = 0;
	unsigned n, total = 0;
	char name[32];

	memset(seen, 0, sizeof(seen));
	for (unsigned i = 0; i < N; i++) {
		snprintf(name, sizeof(name), "file%u", i);
		make(t, 1, name, S_IFREG | 0644);
	}
	for (;;) {
		assert_int_equal(fs_readdir(t->fs, 1, cookie, total % 2, d, 7, &n), 0);
		if (!n)
			break;
		for (unsigned i = 0; i < n; i++, total++) {
			unsigned k;

			assert_true(d[i].cookie > cookie);
			cookie = d[i].cookie;
			if (sscanf(d[i].name, "file%u", &k) == 1) {
				assert_false(seen[k]);
				seen[k] = true;
				/* removing what was read, adding more: neither disturbs */
				assert_int_equal(fs_unlink(t->fs, 1, d[i].name), 0);
			}
		}
	}
	for (unsigned i = 0; i < N; i++)
		assert_true(seen[i]);
	assert_int_equal(total, N + 2);
	assert_int_equal(attr_of(t, 1).size, 0);
}

static void test_xattr(void **state)
{
	struct env *t = *state;
	uint64_t ino = make(t, 1, "f", S_IFREG | 0644);
	static char big[FS_XATTR_VALUE_MAX + 1], buf[FS_XATTR_VALUE_MAX];
	size_t n;

	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (char)(i * 7 + i / 256);
	assert_int_equal(fs_xattr_get(t->fs, ino, "user.x", buf, sizeof(buf), &n), -ENODATA);
	assert_int_equal(fs_xattr_set(t->fs, ino, "user.x", "v", 1, XATTR_REPLACE), -ENODATA);
	assert_int_equal(fs_xattr_set(t->fs, ino, "user.x", "v", 1, XATTR_CREATE), 0);
	assert_int_equal(fs_xattr_set(t->fs, ino, "user.x", "v", 1, XATTR_CREATE), -EEXIST);
	assert_int_equal(fs_xattr_set(t->fs, ino, "user.x", big, sizeof(big), 0), -E2BIG);
	for (size_t len = 0; len <= FS_XATTR_VALUE_MAX; len = len * 3 + 1) {
		assert_int_equal(fs_xattr_set(t->fs, ino, "user.x", big, len, 0), 0);
		assert_int_equal(fs_xattr_get(t->fs, ino, "user.x", buf, sizeof(buf), &n), 0);
		assert_int_equal(n, len);
		assert_memory_equal(buf, big, len);
	}
	assert_int_equal(fs_xattr_set(t->fs, ino, "user.x", big, FS_XATTR_VALUE_MAX, 0), 0);
	assert_int_equal(fs_xattr_get(t->fs, ino, "user.x", NULL, 0, &n), 0);
	assert_int_equal(n, FS_XATTR_VALUE_MAX);
	assert_int_equal(fs_xattr_get(t->fs, ino, "user.x", buf, 100, &n), -ERANGE);
	assert_int_equal(fs_xattr_set(t->fs, ino, "trusted.y", "", 0, 0), 0);
	assert_int_equal(fs_xattr_list(t->fs, ino, false, buf, sizeof(buf), &n), 0);
	assert_int_equal(n, 7);
	assert_string_equal(buf, "user.x");
	assert_int_equal(fs_xattr_list(t->fs, ino, true, NULL, 0, &n), 0);
	assert_int_equal(n, 17);
	assert_int_equal(fs_xattr_remove(t->fs, ino, "user.x"), 0);
	assert_int_equal(fs_xattr_remove(t->fs, ino, "user.x"), -ENODATA);
	assert_int_equal(fs_xattr_set(t->fs, ino, "user.x", big, 30000, 0), 0);
	assert_int_equal(fs_unlink(t->fs, 1, "f"), 0);
	assert_int_equal(fake_vol_item_count(t->vol), 2);
}

static void test_fallocate(void **state)
{
	struct env *t = *state;
	uint64_t ino = make(t, 1, "f", S_IFREG | 0644), at;
	struct fs_file *f = open_ino(t, ino);
	static char buf[65536], zero[65536];
	int r;

	memset(buf, 'd', sizeof(buf));
	assert_int_equal(fs_write(f, 0, 4, "data", 0), 0);
	assert_int_equal(fs_fallocate(f, FALLOC_FL_KEEP_SIZE, 0, 1 << 20), 0);
	assert_int_equal(attr_of(t, ino).size, 4);
	read_back(f, 0, "data", 4);
	assert_int_equal(fs_fallocate(f, 0, 0, 1 << 20), 0);
	assert_int_equal(attr_of(t, ino).size, 1 << 20);
	assert_int_equal(fs_write(f, 65536, sizeof(buf), buf, 0), 0);
	assert_int_equal(fs_seek(f, 5000, SEEK_DATA, &at), 0);
	assert_int_equal(at, 65536);
	assert_int_equal(fs_seek(f, 65536, SEEK_HOLE, &at), 0);
	assert_int_equal(at, 131072);
	assert_int_equal(fs_seek(f, 131072, SEEK_DATA, &at), -ENXIO);
	assert_int_equal(fs_fallocate(f, FALLOC_FL_PUNCH_HOLE, 0, 1), -EOPNOTSUPP);
	r = fs_fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 65536, 65536);
	assert_int_equal(r, 0);
	read_back(f, 65536, zero, 65536);
	assert_int_equal(fs_fallocate(f, FALLOC_FL_COLLAPSE_RANGE, 0, 4096), -EOPNOTSUPP);
	assert_int_equal(fs_fallocate(f, FALLOC_FL_ZERO_RANGE, 0, 2 << 20), 0);
	assert_int_equal(attr_of(t, ino).size, 2 << 20);
	read_back(f, 0, zero, 4096);
	fs_file_close(f);
}

static void test_clone(void **state)
{
	struct env *t = *state;
	uint64_t a = make(t, 1, "a", S_IFREG | 0644), b = make(t, 1, "b", S_IFREG | 06755), n;
	struct fs_file *fa = open_ino(t, a), *fb = open_ino(t, b), *d = open_ino(t, 1);
	uint64_t c = make(t, 1, "c", S_IFREG | 0644);
	struct fs_file *fc = open_ino(t, c);
	struct fs_setattr sa = {.set = FS_SET_SIZE, .size = 1 << 20};
	static char buf[300000];
	struct fs_attr attr;

	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = (char)(i * 31 >> 7);
	assert_int_equal(fs_write(fc, 0, 7, "content", 0), 0);
	assert_int_equal(fs_write(fa, 0, 5, "small", 0), 0);
	assert_int_equal(fs_clone_range(fa, 0, fb, 0, 100, &n), 0);
	assert_int_equal(n, 5);
	read_back(fb, 0, "small", 5);
	assert_int_equal(fs_write(fa, 0, sizeof(buf), buf, 0), 0);
	assert_int_equal(fs_clone_range(fa, 0, fb, 10, 1 << 20, &n), 0);
	assert_int_equal(n, sizeof(buf));
	assert_int_equal(attr_of(t, b).size, sizeof(buf) + 10);
	assert_int_equal(attr_of(t, b).mode, S_IFREG | 06755); /* the kernel asks for that */
	read_back(fb, 0, "small", 5);
	read_back(fb, 10, buf, sizeof(buf));
	assert_int_equal(fs_clone_range(fa, sizeof(buf), fb, 0, 1, &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(fs_clone_range(fb, 0, fb, 10, 11, &n), -EINVAL);
	assert_int_equal(fs_clone_range(d, 0, fb, 0, 11, &n), -EISDIR);
	/* Small data, then a hole: two steps. */
	assert_int_equal(fs_setattr(t->fs, c, &sa, &attr), 0);
	assert_int_equal(fs_clone_range(fc, 0, fb, 0, 1 << 20, &n), 0);
	assert_in_range(n, 7, FS_INLINE_MAX);
	assert_int_equal(fs_clone_range(fc, n, fb, n, (1 << 20) - n, &n), 0);
	assert_in_range(n, (1 << 20) - FS_INLINE_MAX, 1 << 20);
	read_back(fb, 0, "content", 7);
	/* An error in the middle: what was done counts. */
	fake_vol_fail_after(t->vol, 3, -EIO);
	assert_int_equal(fs_clone_range(fa, 0, fb, 0, sizeof(buf), &n), 0);
	assert_in_range(n, 1, sizeof(buf) - 1);
	fake_vol_fail_after(t->vol, 0, 0);
	read_back(fb, 0, buf, (uint32_t)n);
	fs_file_close(fa);
	fs_file_close(fb);
	fs_file_close(fc);
	fs_file_close(d);
}

static void test_orphans(void **state)
{
	struct env *t = *state;
	struct fs_make m = {.mode = S_IFREG | 0600};
	struct fs_file *f[3];
	struct fake_state *crash;
	struct fs_stats st;
	struct fs_attr a;
	static char buf[1 << 20];

	for (unsigned i = 0; i < 3; i++) {
		char name[8];

		snprintf(name, sizeof(name), "f%u", i);
		f[i] = open_ino(t, make(t, 1, name, S_IFREG | 0644));
		assert_int_equal(fs_write(f[i], 0, i ? sizeof(buf) : 4, buf, 0), 0);
		assert_int_equal(fs_unlink(t->fs, 1, name), 0);
	}
	assert_int_equal(fs_xattr_set(t->fs, fs_file_ino(f[2]), "user.a", buf, 5000, 0), 0);
	fs_stats_get(t->fs, &st);
	assert_int_equal(st.orphans, 3);
	assert_int_equal(fs_write(f[1], 10, 4, "live", 0), 0);
	read_back(f[1], 10, "live", 4);
	crash = fake_vol_save(t->vol);
	for (unsigned i = 0; i < 3; i++)
		fs_file_close(f[i]);
	fs_stats_get(t->fs, &st);
	assert_int_equal(st.orphans, 0);
	assert_int_equal(fake_vol_item_count(t->vol), 2);
	assert_int_equal(fake_vol_block_count(t->vol), 0);

	/* O_TMPFILE that gets a name, and one that does not */
	assert_int_equal(fs_make_tmpfile(t->fs, 1, &m, &a, &f[0]), 0);
	assert_int_equal(fs_write(f[0], 0, 3, "tmp", 0), 0);
	assert_int_equal(fs_link(t->fs, a.ino, 1, "named", &a), 0);
	assert_int_equal(a.nlink, 1);
	fs_file_close(f[0]);
	assert_int_equal(look(t, 1, "named"), a.ino);
	assert_int_equal(fs_make_tmpfile(t->fs, 1, &m, &a, &f[0]), 0);
	fs_file_close(f[0]);
	fs_tree_check(t->vol, 0);

	fs_close(t->fs);
	fake_vol_restore(t->vol, crash);
	fs_tree_check(t->vol, 3);
	assert_int_not_equal(fake_vol_block_count(t->vol), 0);
	env_reopen(t);
	fs_tree_check(t->vol, 0);
	assert_int_equal(fake_vol_item_count(t->vol), 2);
	assert_int_equal(fake_vol_block_count(t->vol), 0);
	fake_state_free(crash);
}

/* Reaping stopped at every step, then a crash: the next open ends it. */
static void test_reap_stops(void **state)
{
	struct env *t = *state;
	static char buf[1 << 20];

	for (unsigned n = 1; n < 12; n++) {
		struct fs_file *f = open_ino(t, make(t, 1, "f", S_IFREG | 0644));
		char name[16];

		assert_int_equal(fs_write(f, 0, sizeof(buf), buf, 0), 0);
		for (unsigned i = 0; i < 40; i++) {
			snprintf(name, sizeof(name), "user.%u", i);
			fs_xattr_set(t->fs, fs_file_ino(f), name, "v", 1, 0);
		}
		assert_int_equal(fs_unlink(t->fs, 1, "f"), 0);
		fake_vol_fail_after(t->vol, n, ERR_FAULTED);
		fs_file_close(f);
		fake_vol_fail_after(t->vol, 0, 0);
		fs_close(t->fs);
		env_reopen(t);
		assert_int_equal(fake_vol_item_count(t->vol), 2);
		assert_int_equal(fake_vol_block_count(t->vol), 0);
	}
}

static void test_forget(void **state)
{
	struct env *t = *state;
	uint64_t ino = make(t, 1, "f", S_IFREG | 0644);
	struct fs_stats st;

	look(t, 1, "f");
	fs_forget(t->fs, ino, 1);
	fs_stats_get(t->fs, &st);
	assert_int_equal(st.nodes, 1);
	fs_forget(t->fs, ino, 1);
	fs_stats_get(t->fs, &st);
	assert_int_equal(st.nodes, 0);
	fs_forget(t->fs, ino, 1);
}

static void test_damaged(void **state)
{
	struct env *t = *state;
	struct fs_attr a;
	char junk[200];
	FILE *null = fopen("/dev/null", "w");

	memset(junk, 1, sizeof(junk));
	for (uint16_t len = 0; len < sizeof(junk); len++)
		for (uint8_t type = 0; type < 20; type++) {
			struct btree_item it = {{5, type, 64}, junk, len};

			fs_item_to_text(null, &it);
			fs_item_validate(&it);
		}
	fclose(null);
	fake_vol_put_raw(t->vol, (struct key){77, FS_KEY_INODE, 0}, junk, 128);
	assert_int_equal(fs_getattr(t->fs, 77, &a), ERR_FORMAT);
	junk[0] = 9;
	fake_vol_put_raw(t->vol, (struct key){77, FS_KEY_INODE, 0}, junk, 128);
	assert_int_equal(fs_getattr(t->fs, 77, &a), ERR_VERSION);
	fs_close(t->fs);
	vol_close(t->vol);
	vol_destroy(t->pool, "v", NULL);
	vol_create(t->pool, "v", &(struct vol_options){.type = VOL_TYPE_FS}, NULL);
	vol_open(t->pool, "v", &t->vol, NULL);
	env_reopen(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_root, setup, teardown),
		cmocka_unit_test_setup_teardown(test_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_setgid_dir, setup, teardown),
		cmocka_unit_test_setup_teardown(test_symlink, setup, teardown),
		cmocka_unit_test_setup_teardown(test_links, setup, teardown),
		cmocka_unit_test_setup_teardown(test_inline, setup, teardown),
		cmocka_unit_test_setup_teardown(test_first_write_big, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kill_priv, setup, teardown),
		cmocka_unit_test_setup_teardown(test_times, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rename, setup, teardown),
		cmocka_unit_test_setup_teardown(test_readdir, setup, teardown),
		cmocka_unit_test_setup_teardown(test_xattr, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fallocate, setup, teardown),
		cmocka_unit_test_setup_teardown(test_clone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_orphans, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reap_stops, setup, teardown),
		cmocka_unit_test_setup_teardown(test_forget, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damaged, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
