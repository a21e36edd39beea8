/* fuzz_rescue: a rescue from a pool image with any mutation, with or without superblocks, ends,
 * with something or nothing; never a crash, a hang or an access out of bounds (run it with ASan).
 * The tree is copied into a folder, so that hostile names and sizes meet a real file system.
 *
 * Arguments as fuzz_pool's. Built with clang and -fsanitize=fuzzer (-DFUZZ_LIBFUZZER) it is a
 * libFuzzer target over scripts.
 */
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "fs/fs.h"
#include "fs/rescue_fs.h"
#include "pool/sb_format.h"
#include "tests/fuzz/mutate.h"
#include "tests/sim/seeds.h"
#include "tests/sim/sim_rand.h"

#define DISKS	   2u
#define DISK_BYTES (16ull << 20)
#define FILES	   120u

const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=512";
}

/* ---- the image ---- */

static void must(int rc, const char *what)
{
	if (!rc)
		return;
	printf("image: %s: %d\n", what, rc);
	abort();
}

static void make_file(struct fs *fs, uint64_t dir, unsigned n, uint64_t *ret_ino)
{
	static uint8_t data[200000];
	struct fs_make m = {.mode = S_IFREG | 0644, .uid = n};
	size_t len = n % 3 ? n * 7 : n * 1000;
	struct fs_file *f;
	struct fs_attr a;
	char name[32];
	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)(n % 2 ? i * n >> 3 : (i * 2654435761u) >> 13);
	snprintf(name, sizeof(name), "file%u", n);
	must(fs_make(fs, dir, name, &m, &a, &f), "fs_make");
	must(fs_write(f, n % 5 ? 0 : 5000, (uint32_t)len, data, 0), "fs_write");
	fs_file_close(f);
	if (n % 4 == 0)
		must(fs_xattr_set(fs, a.ino, "user.test", data, n * 60, 0), "fs_xattr_set");
	if (n % 10 == 0)
		must(fs_link(fs, a.ino, FS_OBJ_ROOT, name, &a), "fs_link");
	*ret_ino = a.ino;
}

static void fill(struct fs *fs)
{
	struct fs_make d = {.mode = S_IFDIR | 0755};
	struct fs_make l = {.mode = S_IFLNK | 0777, .target = "some/where"};
	uint64_t dir = FS_OBJ_ROOT, ino;
	struct fs_attr a;
	for (unsigned n = 0; n < FILES; n++) {
		if (n % 20 == 0) {
			must(fs_make(fs, dir, "down", &d, &a, NULL), "mkdir");
			dir = a.ino;
			must(fs_make(fs, dir, "link", &l, &a, NULL), "symlink");
		}
		make_file(fs, dir, n, &ino);
	}
}

static void make(void *arg)
{
	struct rig *g = arg;
	struct vol_options o = {.type = VOL_TYPE_FS, .copies = 2, .compression = VOL_COMPRESS_LZ4};
	struct fs_options fo = {.seed = {1, 2, 3}};
	static uint8_t data[300000];
	struct err e = {0};
	struct vol *v;
	struct fs *fs;
	must(rig_create(g, 1 << 20, &e), "pool_create");
	must(rig_import(g, &e), "pool_import");
	must(vol_create(g->pool, "fs", &o, &e), "vol_create");
	must(vol_open(g->pool, "fs", &v, &e), "vol_open");
	must(fs_open(v, &fo, &fs, &e), "fs_open");
	fill(fs);
	must(pool_commit(g->pool), "pool_commit");
	must(fs_unlink(fs, FS_OBJ_ROOT, "file0"), "fs_unlink");
	fs_close(fs);
	vol_close(v);
	o.type = VOL_TYPE_BLOCK;
	o.size_bytes = 2 << 20;
	must(vol_create(g->pool, "blk", &o, &e), "vol_create");
	must(vol_open(g->pool, "blk", &v, &e), "vol_open");
	must(vol_write(v, VOL_BLOCK_OBJECT, 8192, sizeof(data), data, NULL, NULL), "vol_write");
	must(pool_commit(g->pool), "pool_commit");
	must(vol_write(v, VOL_BLOCK_OBJECT, 0, 65536, data, NULL, NULL), "vol_write");
	must(vol_sync(v), "vol_sync");
	must(vol_punch(v, VOL_BLOCK_OBJECT, 4096, 8192, NULL, NULL), "vol_punch");
	must(vol_sync(v), "vol_sync");
	vol_close(v);
}

/* The disks stay; each script gets copies. */
static struct sim_disk **image_disks(void)
{
	static struct rig g;
	static bool made;
	if (!made) {
		sim_rand_seed(1);
		rig_init(&g, 1, DISKS, DISK_BYTES);
		rig_run(&g, make, &g, "making the image");
		rig_cut(&g, SIM_CUT_KEEP_ALL);
		made = true;
	}
	return g.disk;
}

static void rig_of_image(struct rig *g)
{
	struct sim_disk **disk = image_disks();
	rig_init(g, 1, DISKS, DEV_BLOCK);
	for (unsigned i = 0; i < DISKS; i++) {
		sim_disk_destroy(g->disk[i]);
		g->disk[i] = sim_disk_clone(disk[i], &g->bus, 1 + i);
	}
}

/* ---- one script ---- */

struct exercise {
	struct rig *g;
	char dir[64];
};

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *f)
{
	(void)st;
	(void)type;
	(void)f;
	return remove(path);
}

static void copy_tree(struct exercise *x, struct rescue_view *v)
{
	struct rescue_fs_report rep = {0};
	struct rescue_fs_result res;
	struct err e = {0};
	memcpy(x->dir + strlen(x->dir) - 6, "XXXXXX", 6);
	if (!mkdtemp(x->dir))
		abort();
	int fd = open(x->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		abort();
	int rc = rescue_fs_copy(v, fd, &rep, &res, &e);
	if (getenv("FUZZ_VERBOSE"))
		printf("tree: %d %s %llu files, %llu damaged, %llu lost\n", rc, e.text,
		       (unsigned long long)res.files, (unsigned long long)res.damaged,
		       (unsigned long long)res.lost_bytes);
	close(fd);
	nftw(x->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void use_volume(struct exercise *x, struct rescue *r, const struct rescue_vol *vol)
{
	struct rescue_data d = {0};
	struct rescue_view *v;
	struct rescue_cursor c;
	struct btree_item it;
	static volatile uint8_t sink;
	if (rescue_view_open(r, vol->id, &v))
		return;
	if (rescue_cursor_init(&c, v))
		abort();
	rescue_seek(&c, KEY_MIN);
	while (!rescue_next(&c, &it))
		for (unsigned i = 0; i < it.len; i++)
			sink ^= ((const uint8_t *)it.value)[i];
	rescue_cursor_fini(&c);
	rescue_object_copy(v, VOL_BLOCK_OBJECT, vol->size_bytes, -1, &d);
	if (vol->type == VOL_TYPE_FS)
		copy_tree(x, v);
	rescue_view_close(v);
}

static void run(void *arg)
{
	struct exercise *x = arg;
	struct rescue_options o = {0};
	struct dev_backend *b[DISKS];
	struct rescue *r;
	struct err e = {0};
	for (unsigned i = 0; i < DISKS; i++)
		b[i] = sim_disk_open(x->g->disk[i]);
	int rc = rescue_open(b, DISKS, &o, &r, &e);
	if (getenv("FUZZ_VERBOSE"))
		printf("rescue: %d %s\n", rc, e.text);
	if (!rc) {
		unsigned n;
		const struct rescue_vol *v = rescue_vols(r, &n);
		for (unsigned i = 0; i < n && i < 16; i++)
			use_volume(x, r, &v[i]);
		rescue_close(r);
	}
	for (unsigned i = 0; i < DISKS; i++)
		dev_close(b[i]);
}

static void wipe(struct rig *g)
{
	static const uint8_t zero[DEV_BLOCK];
	for (unsigned i = 0; i < DISKS; i++)
		for (uint64_t k = 0; k < SB_RING_BYTES / DEV_BLOCK; k++) {
			sim_disk_poke(g->disk[i], k, zero);
			sim_disk_poke(g->disk[i], sim_disk_blocks(g->disk[i]) - 1 - k, zero);
		}
}

static void run_script(const uint8_t *script, size_t len, bool wiped)
{
	static struct rig g;
	struct exercise x = {.g = &g};
	const char *shm = access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm";
	snprintf(x.dir, sizeof(x.dir), "%s/fuzz-rescue.XXXXXX", shm);
	sim_rand_seed(len);
	rig_of_image(&g);
	mutate(&g, script, len);
	if (wiped)
		wipe(&g);
	rig_run(&g, run, &x, "rescue from a mutated image");
	rig_fini(&g);
}

#ifdef FUZZ_LIBFUZZER
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > 1)
		run_script(data + 1, size - 1, data[0] & 1);
	return 0;
}
#else
static void one_seed(void *arg, uint64_t seed)
{
	uint8_t script[MUTATE_STEP * MUTATE_STEPS_MAX];
	size_t len = mutate_script(seed, script);
	(void)arg;
	run_script(script, len, seed % 4 != 0);
}

int main(int argc, char **argv)
{
	struct seeds s = {.first = 1, .last = 1000, .child_seconds = 60};
	bool one = false;
	uint64_t done;
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (getenv("TARN_LONG"))
		s.last = 100000;
	for (int i = 1; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--seed"))
			one = seeds_parse(argv[i + 1], &s);
		else if (!strcmp(argv[i], "--seeds"))
			seeds_parse(argv[i + 1], &s);
		else if (!strcmp(argv[i], "--seconds"))
			s.limit_seconds = (unsigned)strtoul(argv[i + 1], NULL, 0);
	}
	image_disks();
	if (one) {
		one_seed(NULL, s.first);
		return 0;
	}
	unsigned failed = seeds_run(&s, one_seed, NULL, &done);
	printf("%llu mutations, %u failed\n", (unsigned long long)done, failed);
	return failed != 0;
}
#endif
