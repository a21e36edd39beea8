/* The check finds every kind of damage, and the repair loses nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include "fs/fs_check.h"
#include "fs/fs_dir.h"
#include "fs/fs_item.h"
#include "tests/unit/fake_vol.h"
#include "tests/unit/fs_tree_check.h"

struct env {
	struct pool *pool;
	struct vol *vol;
	struct fs *fs; /* NULL: closed */
	char *text;    /* of the last check */
	size_t text_len;
	struct fs_check_result res;
};

static const struct fs_options options = {.seed = "seed"};

static void open_fs(struct env *t)
{
	assert_int_equal(fs_open(t->vol, &options, &t->fs, NULL), 0);
}

static void close_fs(struct env *t)
{
	fs_close(t->fs);
	t->fs = NULL;
}

static int setup(void **state)
{
	struct env *t = calloc(1, sizeof(*t));
	struct vol_options o = {.type = VOL_TYPE_FS};

	t->pool = fake_pool_create();
	vol_create(t->pool, "v", &o, NULL);
	vol_open(t->pool, "v", &t->vol, NULL);
	fake_vol_need_node(t->vol, 5, 42);
	open_fs(t);
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct env *t = *state;

	fs_close(t->fs);
	free(t->text);
	vol_close(t->vol);
	fake_pool_destroy(t->pool);
	free(t);
	return 0;
}

static uint64_t make(struct env *t, uint64_t dir, const char *name, uint32_t mode)
{
	struct fs_make m = {.mode = mode, .target = "target"};
	struct fs_attr a;

	assert_int_equal(fs_make(t->fs, dir, name, &m, &a, NULL), 0);
	return a.ino;
}

static void fill(struct env *t, uint64_t ino, size_t len)
{
	struct fs_file *f;
	char *buf = calloc(1, len);

	assert_int_equal(fs_file_open(t->fs, ino, &f), 0);
	assert_int_equal(fs_write(f, 0, (uint32_t)len, buf, 0), 0);
	fs_file_close(f);
	free(buf);
}

static uint64_t look(struct env *t, uint64_t dir, const char *name)
{
	struct fs_attr a;

	return fs_lookup(t->fs, dir, name, &a) ? 0 : a.ino;
}

static int no_commit(void *arg)
{
	(void)arg;
	return 0;
}

static FILE *text_begin(struct env *t)
{
	free(t->text);
	t->text = NULL;
	return open_memstream(&t->text, &t->text_len);
}

static void check(struct env *t)
{
	FILE *f = text_begin(t);

	assert_int_equal(fs_check(t->vol, "v", f, &t->res, NULL), 0);
	fclose(f);
}

/* The damage is found and named, repaired, and nothing is found any more. */
static void repair(struct env *t, uint64_t problems, const char *said)
{
	FILE *f;

	check(t);
	assert_int_equal(t->res.problems, problems);
	assert_non_null(strstr(t->text, said));
	f = text_begin(t);
	assert_int_equal(fs_repair(t->vol, "v", f, no_commit, NULL, &t->res, NULL), 0);
	fclose(f);
	assert_int_equal(t->res.left, 0);
	check(t);
	assert_int_equal(t->res.problems, 0);
	fs_tree_check(t->vol, 0);
}

/* ---- damage ---- */

struct edit {
	struct key key;
	struct fs_attr a;
	struct fs_dirent_view d;
	char name[FS_NAME_MAX];
};

static int edit_inode_fn(struct vol *v, void *arg)
{
	struct edit *x = arg;
	struct btree_item it;
	int r = vol_get(v, x->key, &it);

	return r ? r : fs_inode_decode(&it, &x->a);
}

static void inode_get(struct env *t, uint64_t ino, struct edit *x)
{
	x->key = fs_key(ino, FS_KEY_INODE, 0);
	assert_int_equal(vol_query(t->vol, edit_inode_fn, x), 0);
}

static void inode_put(struct env *t, struct edit *x)
{
	struct fs_inode_disk d;

	fs_inode_encode(&x->a, &d);
	fake_vol_put_raw(t->vol, x->key, &d, sizeof(d));
}

static int del_fn(struct vol *v, void *arg)
{
	struct key *k = arg;
	int r = vol_prepare(v, *k);

	if (!r)
		r = vol_del(v, *k);
	return r == -ENOENT ? 0 : r;
}

static void del(struct env *t, struct key k)
{
	assert_int_equal(vol_change(t->vol, true, del_fn, &k), 0);
}

struct find {
	struct fs_tx t;
	struct fs *fs;
	uint64_t dir;
	const char *name;
	struct fs_dent d;
	struct key free;
};

static int find_fn(struct vol *v, void *arg)
{
	struct find *f = arg;

	(void)v;
	fs_tx_init(&f->t, f->fs);
	return fs_dent_find(&f->t, f->dir, f->name, strlen(f->name), &f->d, &f->free);
}

static struct key entry_key(struct env *t, uint64_t dir, const char *name)
{
	struct find f = {.fs = t->fs, .dir = dir, .name = name};

	assert_int_equal(vol_query(t->vol, find_fn, &f), 0);
	return f.d.key;
}

/* An entry that no count knows of. */
static void entry_put(struct env *t, uint64_t dir, const char *name, uint64_t ino, uint8_t type)
{
	struct find f = {.fs = t->fs, .dir = dir, .name = name};
	char buf[sizeof(struct fs_dirent_disk) + FS_NAME_MAX];

	assert_int_equal(vol_query(t->vol, find_fn, &f), -ENOENT);
	fake_vol_put_raw(t->vol, f.free, buf, fs_dirent_encode(ino, type, name, strlen(name), buf));
}

/* ---- tests ---- */

static void test_sound(void **state)
{
	struct env *t = *state;
	uint64_t d = make(t, 1, "d", S_IFDIR | 0755), f = make(t, d, "f", S_IFREG | 0644);
	struct fs_attr a;
	char big[10000] = "x";

	fill(t, f, 100000);
	make(t, d, "l", S_IFLNK);
	make(t, 1, "p", S_IFIFO | 0600);
	assert_int_equal(fs_link(t->fs, f, 1, "f2", &a), 0);
	assert_int_equal(fs_xattr_set(t->fs, f, "user.big", big, sizeof(big), 0), 0);
	check(t);
	assert_int_equal(t->res.problems, 0);
	assert_int_equal(t->res.inodes, 5);
	assert_int_equal(t->res.directories, 2);
	assert_int_equal(t->res.entries, 5);
	repair(t, 0, "");
}

static void test_counts(void **state)
{
	struct env *t = *state;
	uint64_t d = make(t, 1, "d", S_IFDIR | 0755), f = make(t, d, "f", S_IFREG | 0644);
	uint64_t s = make(t, d, "s", S_IFDIR | 0755);
	struct edit x;

	close_fs(t);
	inode_get(t, f, &x);
	x.a.nlink = 9;
	inode_put(t, &x);
	inode_get(t, d, &x);
	x.a.nlink = 7;
	x.a.size = 1;
	inode_put(t, &x);
	inode_get(t, s, &x);
	x.a.parent = 1;
	inode_put(t, &x);
	repair(t, 4, "link count 9, but it has 1 name");
	open_fs(t);
	assert_int_equal(look(t, s, ".."), d);
}

static void test_no_name(void **state)
{
	struct env *t = *state;
	uint64_t d = make(t, 1, "d", S_IFDIR | 0755), f = make(t, d, "f", S_IFREG | 0644);
	uint64_t deep = make(t, d, "deep", S_IFDIR | 0755), g = make(t, 1, "g", S_IFREG | 0644);
	struct fs_attr a;
	uint64_t lost;
	char name[32];

	fill(t, f, 5000);
	fill(t, g, 10);
	del(t, entry_key(t, 1, "d"));
	del(t, entry_key(t, 1, "g"));
	close_fs(t);
	/* the root's count and size, and the two */
	repair(t, 4, "has no name");
	open_fs(t);
	lost = look(t, 1, "lost+found");
	assert_int_not_equal(lost, 0);
	snprintf(name, sizeof(name), "#%llu", (unsigned long long)d);
	assert_int_equal(look(t, lost, name), d);
	assert_int_equal(look(t, d, "f"), f);
	assert_int_equal(look(t, d, "deep"), deep);
	snprintf(name, sizeof(name), "#%llu", (unsigned long long)g);
	assert_int_equal(look(t, lost, name), g);
	assert_int_equal(fs_getattr(t->fs, f, &a), 0);
	assert_int_equal(a.size, 5000);
}

static void test_loop(void **state)
{
	struct env *t = *state;
	uint64_t a = make(t, 1, "a", S_IFDIR | 0755), b = make(t, a, "b", S_IFDIR | 0755);
	uint64_t c = make(t, b, "c", S_IFDIR | 0755), f = make(t, c, "f", S_IFREG | 0644);
	struct edit x;
	uint64_t lost;

	/* a moves into c, below itself */
	del(t, entry_key(t, 1, "a"));
	entry_put(t, c, "a", a, DT_DIR);
	close_fs(t);
	inode_get(t, a, &x);
	x.a.parent = c;
	inode_put(t, &x);
	/* counts and sizes of the root and of c, and the loop */
	repair(t, 5, "in a loop");
	open_fs(t);
	lost = look(t, 1, "lost+found");
	assert_int_not_equal(lost, 0);
	assert_int_equal(look(t, c, "f"), f);
}

static void test_entries(void **state)
{
	struct env *t = *state;
	uint64_t d = make(t, 1, "d", S_IFDIR | 0755), e = make(t, 1, "e", S_IFDIR | 0755);
	uint64_t f = make(t, d, "f", S_IFREG | 0644);

	entry_put(t, d, "nothing", 999, DT_REG);
	entry_put(t, d, "second", e, DT_DIR);
	entry_put(t, e, "root", 1, DT_DIR);
	entry_put(t, e, "wrong", f, DT_FIFO);
	close_fs(t);
	check(t);
	assert_non_null(strstr(t->text, "\"nothing\" of directory"));
	assert_non_null(strstr(t->text, "which has another name"));
	assert_non_null(strstr(t->text, "names the root"));
	assert_non_null(strstr(t->text, "\"wrong\" of directory"));
	repair(t, t->res.problems, "which is missing");
	open_fs(t);
	assert_int_equal(look(t, d, "nothing"), 0);
	assert_int_equal(look(t, d, "second"), 0);
	assert_int_equal(look(t, 1, "e"), e);
	assert_int_equal(look(t, e, "root"), 0);
	assert_int_equal(look(t, e, "wrong"), f);
}

static void test_misplaced(void **state)
{
	struct env *t = *state;
	uint64_t f = make(t, 1, "f", S_IFREG | 0644);
	struct key k = entry_key(t, 1, "f");
	char buf[sizeof(struct fs_dirent_disk) + FS_NAME_MAX];

	del(t, k);
	k.offset = 70;
	fake_vol_put_raw(t->vol, k, buf, fs_dirent_encode(f, DT_REG, "f", 1, buf));
	close_fs(t);
	repair(t, 1, "not where it would be looked for");
	open_fs(t);
	assert_int_equal(look(t, 1, "f"), f);
}

static void test_no_inode(void **state)
{
	struct env *t = *state;
	uint64_t d = make(t, 1, "d", S_IFDIR | 0755), f = make(t, d, "f", S_IFREG | 0644);
	uint64_t g = make(t, 1, "g", S_IFREG | 0644), h = make(t, 1, "h", S_IFREG | 0600);
	struct fs_attr a;
	char junk[128];

	fill(t, f, 100);
	fill(t, g, 9000);
	assert_int_equal(fs_xattr_set(t->fs, g, "user.x", "y", 1, 0), 0);
	close_fs(t);
	del(t, fs_key(d, FS_KEY_INODE, 0));
	del(t, fs_key(g, FS_KEY_INODE, 0));
	memset(junk, 0xff, sizeof(junk));
	junk[0] = FS_VERSION;
	fake_vol_put_raw(t->vol, fs_key(h, FS_KEY_INODE, 0), junk, sizeof(junk));
	check(t);
	assert_non_null(strstr(t->text, "missing, its entries are there"));
	assert_non_null(strstr(t->text, "a damaged item: "));
	repair(t, t->res.problems, "missing, its attributes are there");
	open_fs(t);
	assert_int_equal(look(t, 1, "d"), d);
	assert_int_equal(look(t, d, "f"), f);
	assert_int_equal(look(t, 1, "g"), g);
	assert_int_equal(fs_getattr(t->fs, g, &a), 0);
	assert_int_equal(a.size, 12288);
	assert_int_equal(look(t, 1, "h"), h);
}

static void test_orphans(void **state)
{
	struct env *t = *state;
	struct fs_orphan_disk o = {.version = FS_VERSION};
	uint64_t f = make(t, 1, "f", S_IFREG | 0644);
	struct edit x;

	close_fs(t);
	fake_vol_put_raw(t->vol, fs_key(FS_OBJ_META, FS_KEY_ORPHAN, 999), &o, sizeof(o));
	fake_vol_put_raw(t->vol, fs_key(FS_OBJ_META, FS_KEY_ORPHAN, f), &o, sizeof(o));
	inode_get(t, f, &x);
	x.a.nlink = 0;
	inode_put(t, &x);
	repair(t, 3, "there is no such inode");
	open_fs(t);
	assert_int_equal(look(t, 1, "f"), f);
}

static void test_data(void **state)
{
	struct env *t = *state;
	uint64_t f = make(t, 1, "f", S_IFREG | 0644), g = make(t, 1, "g", S_IFREG | 0644);
	struct edit x;
	struct fs_attr a;

	fill(t, f, 10000);
	fill(t, g, 100);
	assert_int_equal(fs_xattr_set(t->fs, f, "user.x", "y", 1, 0), 0);
	close_fs(t);
	inode_get(t, f, &x);
	x.a.size = 5;
	x.a.flags = 0;
	inode_put(t, &x);
	inode_get(t, g, &x);
	x.a.size = 10;
	inode_put(t, &x);
	repair(t, 3, "behind its end at 5");
	open_fs(t);
	assert_int_equal(fs_getattr(t->fs, f, &a), 0);
	assert_int_equal(a.size, 12288);
	assert_int_equal(fs_getattr(t->fs, g, &a), 0);
	assert_int_equal(a.size, 100);
}

static void test_no_root(void **state)
{
	struct env *t = *state;
	uint64_t d = make(t, 1, "d", S_IFDIR | 0755);

	close_fs(t);
	del(t, fs_key(1, FS_KEY_INODE, 0));
	repair(t, 1, "the root is missing");
	open_fs(t);
	assert_int_equal(look(t, 1, "d"), d);
}

static int repair_fails(struct env *t)
{
	FILE *f = text_begin(t);
	struct err e = {0};
	int r = fs_repair(t->vol, "v", f, no_commit, NULL, &t->res, &e);

	fclose(f);
	assert_true(!r == !*e.text);
	return r;
}

/* What only a newer program understands is not repaired, but left as it is, all of it. */
static void test_newer(void **state)
{
	struct env *t = *state;
	uint64_t d = make(t, 1, "d", S_IFDIR | 0755), f = make(t, d, "f", S_IFREG | 0640);
	struct fs_attr a;
	struct edit x;

	fill(t, f, 5000);
	close_fs(t);
	inode_get(t, f, &x);
	x.a.flags |= 1u << 30;
	inode_put(t, &x);
	inode_get(t, d, &x);
	x.a.nlink = 7;
	inode_put(t, &x);
	check(t);
	assert_int_equal(t->res.problems, 2);
	assert_non_null(strstr(t->text, "of a newer program"));
	assert_null(strstr(t->text, "missing"));
	assert_int_equal(repair_fails(t), ERR_VERSION);
	assert_int_equal(t->res.repaired, 0);
	x.key = fs_key(f, FS_KEY_INODE, 0);
	assert_int_equal(vol_query(t->vol, edit_inode_fn, &x), ERR_VERSION); /* still there */
	open_fs(t);
	assert_int_equal(fs_getattr(t->fs, d, &a), 0);
	assert_int_equal(a.nlink, 7);
}

static void test_never_mounted(void **state)
{
	struct env *t = *state;
	struct vol_options o = {.type = VOL_TYPE_FS};
	struct vol *v;

	vol_create(t->pool, "new", &o, NULL);
	vol_open(t->pool, "new", &v, NULL);
	assert_int_equal(fs_repair(v, "new", NULL, no_commit, NULL, &t->res, NULL), 0);
	assert_int_equal(t->res.problems, 0);
	assert_int_equal(fake_vol_item_count(v), 0);
	vol_close(v);
}

static void test_no_super(void **state)
{
	struct env *t = *state;

	make(t, 1, "d", S_IFDIR | 0755);
	close_fs(t);
	del(t, fs_key(FS_OBJ_META, FS_KEY_SUPER, 0));
	check(t);
	assert_int_equal(t->res.problems, 1);
	assert_non_null(strstr(t->text, "no super item"));
	assert_int_equal(repair_fails(t), 0);
	assert_int_equal(t->res.left, 1);
	assert_int_equal(t->res.repaired, 0);
}

/* One line for a problem, whatever a name is. */
static void test_evil_name(void **state)
{
	struct env *t = *state;

	entry_put(t, 1, "x\nv: repaired: \033[2J", 4711, DT_REG);
	check(t);
	assert_int_equal(t->res.problems, 2); /* of the root: its size, this entry */
	assert_null(strchr(t->text, '\033'));
	assert_null(strstr(t->text, "\nv: repaired"));
}

/* Data below a directory cannot be repaired: said once, and not called repaired. */
static void test_dir_data(void **state)
{
	struct env *t = *state;
	uint64_t f = make(t, 1, "f", S_IFREG | 0644);
	struct edit x;

	fill(t, f, 100000);
	close_fs(t);
	inode_get(t, f, &x);
	x.a.mode = S_IFDIR | 0755;
	x.a.nlink = 2;
	x.a.parent = 1;
	x.a.size = 0;
	inode_put(t, &x);
	assert_int_equal(repair_fails(t), 0);
	check(t);
	assert_int_equal(t->res.problems, 1);
	assert_non_null(strstr(t->text, "data that it should not have"));
	assert_int_equal(repair_fails(t), 0);
	assert_int_equal(t->res.repaired, 0);
	assert_int_equal(t->res.left, 1);
}

/* An immutable root takes no lost+found: the rest is repaired. */
static void test_immutable(void **state)
{
	struct env *t = *state;
	uint64_t f = make(t, 1, "f", S_IFREG | 0644), g = make(t, 1, "g", S_IFREG | 0644);
	struct fs_attr a;
	struct edit x;

	close_fs(t);
	inode_get(t, 1, &x);
	x.a.flags |= FS_INODE_IMMUTABLE;
	inode_put(t, &x);
	inode_get(t, g, &x);
	x.a.nlink = 9;
	inode_put(t, &x);
	open_fs(t);
	del(t, entry_key(t, 1, "f"));
	close_fs(t);
	assert_int_equal(repair_fails(t), 0);
	assert_in_range(t->res.left, 1, 1);
	open_fs(t);
	assert_int_equal(fs_getattr(t->fs, g, &a), 0);
	assert_int_equal(a.nlink, 1);
	assert_int_equal(fs_getattr(t->fs, f, &a), 0);
}

struct newer_items {
	struct key key[128];
	unsigned n;
};

static void newer_item(void *arg, const struct btree_item *it)
{
	struct newer_items *x = arg;
	struct fs_attr a;

	if (it->key.type == FS_KEY_INODE && fs_inode_decode(it, &a) == ERR_VERSION)
		x->key[x->n++] = it->key;
}

/* Any item replaced by any other, or lost: the check does not fall over, the repair ends. */
static void test_random(void **state)
{
	struct env *t = *state;

	srandom(1);
	for (unsigned i = 0; i < 20; i++) {
		char name[16];
		uint64_t d;

		snprintf(name, sizeof(name), "d%u", i);
		d = make(t, 1, name, S_IFDIR | 0755);
		fill(t, make(t, d, "f", S_IFREG | 0644), i * 1000 + 1);
		make(t, make(t, d, "s", S_IFDIR | 0755), "l", S_IFLNK);
	}
	for (unsigned round = 0; round < 300; round++) {
		struct key k = fs_key((uint64_t)random() % 100 + 1, FS_KEY_INODE, 0);
		char junk[128];

		for (unsigned i = 0; i < sizeof(junk); i++)
			junk[i] = (char)(i % 4 ? 0 : random() % 3);
		if (random() % 2)
			junk[0] = FS_VERSION;
		if (round % 3)
			vol_change(t->vol, true, del_fn, &k);
		else if (k.object != FS_OBJ_META)
			fake_vol_put_raw(t->vol, k, junk, sizeof(junk));
		check(t);
		if (round % 10 == 9) {
			close_fs(t);
			struct newer_items x = {.n = 0};

			fake_vol_items(t->vol, newer_item, &x);
			assert_int_equal(repair_fails(t), x.n ? ERR_VERSION : 0);
			for (unsigned i = 0; i < x.n; i++)
				del(t, x.key[i]);
			assert_int_equal(repair_fails(t), 0);
			open_fs(t);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_sound, setup, teardown),
		cmocka_unit_test_setup_teardown(test_counts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_name, setup, teardown),
		cmocka_unit_test_setup_teardown(test_loop, setup, teardown),
		cmocka_unit_test_setup_teardown(test_entries, setup, teardown),
		cmocka_unit_test_setup_teardown(test_misplaced, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_inode, setup, teardown),
		cmocka_unit_test_setup_teardown(test_orphans, setup, teardown),
		cmocka_unit_test_setup_teardown(test_data, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_root, setup, teardown),
		cmocka_unit_test_setup_teardown(test_newer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_never_mounted, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_super, setup, teardown),
		cmocka_unit_test_setup_teardown(test_evil_name, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dir_data, setup, teardown),
		cmocka_unit_test_setup_teardown(test_immutable, setup, teardown),
		cmocka_unit_test_setup_teardown(test_random, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
