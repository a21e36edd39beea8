/* fsvol: a file system in a volume of its own, used by one coroutine.
 *
 * One user at a time makes its history a list of states; each operation adds one. After a crash
 * the tree must be one of them, not older than the last sync (law 4); without a crash, the last.
 * A state is what each of a fixed set of paths is: absent, or a size and a hash of the content.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "fs/fs.h"
#include "pool/pool_types.h"
#include "tests/sim/cover.h"
#include "tests/sim/fsvol.h"
#include "tests/sim/sim_reactor.h"

#define DIRS	     3u /* the root and two more */
#define NAMES	     5u
#define PATHS	     (DIRS * NAMES)
#define FILE_MAX     20000u
#define VOLUME	     "files"
#define FS_SLEEP_MAX (50 * SIM_MS)

struct state {
	struct {
		bool there;
		uint32_t size;
		uint64_t hash;
	} path[PATHS];
};

struct fsvol {
	struct vol *v;
	struct fs *fs;
	uint64_t dir[DIRS];
	bool made;  /* the volume must be there, with its directories */
	bool stuck; /* an operation failed: what it did is open until the next import */
	struct fs_file *held;
	struct state now;
	uint8_t data[PATHS][FILE_MAX];
	struct state *list; /* from the last sync on */
	size_t count, cap;
	uint8_t buf[FILE_MAX];
};

/* ---- states ---- */

static uint64_t hash(const uint8_t *p, size_t n)
{
	uint64_t h = 1469598103934665603ull;
	for (size_t i = 0; i < n; i++)
		h = (h ^ p[i]) * 1099511628211ull;
	return h;
}

static void list_begin(struct fsvol *f)
{
	f->count = 0;
}

static void list_add(struct fsvol *f)
{
	if (f->count == f->cap) {
		f->cap = f->cap ? f->cap * 2 : 64;
		f->list = realloc(f->list, f->cap * sizeof(*f->list));
		if (!f->list)
			abort();
	}
	f->list[f->count++] = f->now;
}

static bool same(const struct state *a, const struct state *b)
{
	for (unsigned p = 0; p < PATHS; p++)
		if (a->path[p].there != b->path[p].there ||
		    (a->path[p].there &&
		     (a->path[p].size != b->path[p].size || a->path[p].hash != b->path[p].hash)))
			return false;
	return true;
}

/* ---- the tree as it is ---- */

static const char *name_of(unsigned p)
{
	static const char *const names[NAMES] = {"x", "yy", "z z", "long-name-of-a-file", "0"};
	return names[p % NAMES];
}

static uint64_t dir_of(const struct fsvol *f, unsigned p)
{
	return f->dir[p / NAMES];
}

static int open_path(struct fsvol *f, unsigned p, struct fs_attr *a, struct fs_file **ret_file)
{
	int rc = fs_lookup(f->fs, dir_of(f, p), name_of(p), a);
	if (rc)
		return rc;
	rc = fs_file_open(f->fs, a->ino, ret_file);
	fs_forget(f->fs, a->ino, 1);
	return rc;
}

/* What a path is now, into *s and f->buf. */
static int look(struct fsvol *f, unsigned p, struct state *s)
{
	struct fs_file *file;
	struct fs_attr a;
	uint32_t got = 0;
	int rc = open_path(f, p, &a, &file);
	s->path[p].there = !rc;
	if (rc)
		return rc == -ENOENT ? 0 : rc;
	s->path[p].size = (uint32_t)a.size;
	rc = a.size > FILE_MAX ? -EFBIG : fs_read(file, 0, FILE_MAX, f->buf, &got);
	fs_file_close(file);
	if (!rc && got != a.size)
		rc = -EIO;
	if (!rc)
		s->path[p].hash = hash(f->buf, got);
	return rc;
}

static void take(struct world *w, struct fsvol *f)
{
	for (unsigned p = 0; p < PATHS; p++) {
		int rc = look(f, p, &f->now);
		if (rc)
			world_fail(w, "file system: read path %u: %d %s", p, rc, err_str(rc));
		if (f->now.path[p].there)
			memcpy(f->data[p], f->buf, f->now.path[p].size);
	}
}

/* ---- open and close ---- */

static int make_dirs(struct fsvol *f)
{
	static const char *const names[DIRS] = {NULL, "a", "b"};
	struct fs_make m = {.mode = S_IFDIR | 0755};
	struct fs_attr a;
	f->dir[0] = FS_OBJ_ROOT;
	for (unsigned i = 1; i < DIRS; i++) {
		int rc = fs_lookup(f->fs, FS_OBJ_ROOT, names[i], &a);
		if (rc == -ENOENT && !f->made)
			rc = fs_make(f->fs, FS_OBJ_ROOT, names[i], &m, &a, NULL);
		if (rc)
			return rc;
		f->dir[i] = a.ino; /* and keep the reference */
	}
	return 0;
}

static int open_fs(struct world *w, struct fsvol *f)
{
	struct fs_options o = {.bg = w->r};
	struct err e = {0};
	int rc = vol_open(w->pool, VOLUME, &f->v, &e);
	if (rc)
		return rc;
	memcpy(o.seed, &w->seed, sizeof(w->seed));
	rc = fs_open(f->v, &o, &f->fs, &e);
	return rc ? rc : make_dirs(f);
}

void fsvol_create(struct world *w)
{
	struct vol_options o = {.type = VOL_TYPE_FS,
				.copies = disks_in(w) > 1 ? 2 : 1,
				.compression = VOL_COMPRESS_LZ4};
	struct err e = {0};
	if (!w->with_fs)
		return;
	struct fsvol *f = w->fsvol = w->fsvol ? w->fsvol : calloc(1, sizeof(*f));
	if (!f)
		abort();
	f->made = f->stuck = false;
	int rc = vol_create(w->pool, VOLUME, &o, &e);
	if (rc)
		world_fail(w, "vol_create %s: %d %s", VOLUME, rc, e.text);
	rc = open_fs(w, f);
	if (!rc)
		rc = fs_sync(f->fs);
	if (rc)
		world_fail(w, "file system: make: %d %s", rc, err_str(rc));
	f->made = true;
	memset(&f->now, 0, sizeof(f->now));
	list_begin(f);
	list_add(f);
}

void fsvol_crashed(struct world *w)
{
	struct fsvol *f = w->fsvol;
	if (!f)
		return;
	f->fs = NULL; /* its memory goes with the process */
	f->v = NULL;
	f->held = NULL;
}

void fsvol_close(struct world *w)
{
	struct fsvol *f = w->fsvol;
	if (!f || !f->v)
		return;
	if (f->held)
		fs_file_close(f->held);
	f->held = NULL;
	if (f->fs)
		fs_close(f->fs);
	f->fs = NULL;
	vol_close(f->v);
	f->v = NULL;
}

bool fsvol_is(const struct world *w, const char *name)
{
	return w->fsvol && !strcmp(name, VOLUME);
}

void fsvol_verify(struct world *w, bool complete)
{
	struct fsvol *f = w->fsvol;
	if (!f)
		return;
	bool opened = f->fs != NULL;
	if (!opened) {
		int rc = open_fs(w, f);
		if (rc == -ENOENT && !f->made) { /* it never came to be */
			free(f);
			w->fsvol = NULL;
			return;
		}
		if (rc)
			world_fail(w, "file system: open: %d %s", rc, err_str(rc));
	}
	if (!f->made && fs_sync(f->fs))
		world_fail(w, "file system: sync");
	take(w, f);
	size_t first = complete && !f->stuck && f->count ? f->count - 1 : 0;
	bool found = !f->made;
	for (size_t i = first; i < f->count && !found; i++)
		found = same(&f->list[i], &f->now);
	for (unsigned p = 0; !found && p < PATHS; p++)
		world_log(w, "path %u: there %d size %u hash %llx; last %d %u %llx", p,
			  f->now.path[p].there, f->now.path[p].size,
			  (unsigned long long)f->now.path[p].hash,
			  f->list[f->count - 1].path[p].there, f->list[f->count - 1].path[p].size,
			  (unsigned long long)f->list[f->count - 1].path[p].hash);
	if (!found)
		world_fail(w, "file system: its state is none of the %zu since the last sync",
			   f->count - first);
	cover_hit(COVER_FS_VERIFIED);
}

void fsvol_rebase(struct world *w)
{
	struct fsvol *f = w->fsvol;
	if (!f)
		return;
	f->made = true;
	f->stuck = false;
	list_begin(f);
	list_add(f);
}

/* ---- operations ---- */

enum kind { CREATE, WRITE, RENAME, TRUNCATE, UNLINK, SYNC, CLOSE, KINDS };
struct act {
	enum kind kind;
	unsigned path, to;
	uint32_t off, len;
};

static struct act pick(const struct fsvol *f, struct sim_rng *g)
{
	static const unsigned weight[KINDS] = {4, 5, 3, 2, 2, 2, 1};
	struct act a = {.path = (unsigned)rng_below(g, PATHS), .to = (unsigned)rng_below(g, PATHS)};
	uint32_t size = f->now.path[a.path].there ? f->now.path[a.path].size : 0;
	uint64_t dice = rng_below(g, 19);
	while (dice >= weight[a.kind])
		dice -= weight[a.kind++];
	a.off = (uint32_t)rng_below(g, size + 1);
	a.len = (uint32_t)rng_skewed(g, FILE_MAX - a.off + 1) - 1;
	if (a.kind == TRUNCATE)
		a.len = (uint32_t)rng_below(g, FILE_MAX);
	return a;
}

/* Does it change anything, judging by the state? */
static bool effective(const struct fsvol *f, const struct act *a)
{
	bool there = f->now.path[a->path].there;
	if (a->kind == CREATE)
		return !there;
	if (a->kind == RENAME)
		return there && a->to != a->path;
	return there && a->kind < SYNC;
}

/* What the state will be. */
static void foresee(struct fsvol *f, const struct act *a, struct sim_rng *g)
{
	uint8_t *d = f->data[a->path];
	uint32_t size = f->now.path[a->path].size;
	switch (a->kind) {
	case CREATE:
		f->now.path[a->path].there = true;
		f->now.path[a->path].size = 0;
		break;
	case WRITE:
		for (uint32_t i = 0; i < a->len; i++)
			d[a->off + i] = (uint8_t)rng_next(g);
		if (a->off + a->len > size)
			f->now.path[a->path].size = a->off + a->len;
		break;
	case RENAME:
		f->now.path[a->to] = f->now.path[a->path];
		f->now.path[a->path].there = false;
		memcpy(f->data[a->to], d, FILE_MAX);
		break;
	case TRUNCATE:
		if (a->len > size)
			memset(d + size, 0, a->len - size);
		f->now.path[a->path].size = a->len;
		break;
	default:
		f->now.path[a->path].there = false;
		break;
	}
	unsigned p = a->kind == RENAME ? a->to : a->path;
	f->now.path[p].hash = hash(f->data[p], f->now.path[p].size);
}

static int do_create(struct fsvol *f, const struct act *a)
{
	struct fs_make m = {.mode = S_IFREG | 0644};
	struct fs_attr at;
	int rc = fs_make(f->fs, dir_of(f, a->path), name_of(a->path), &m, &at, NULL);
	if (!rc)
		fs_forget(f->fs, at.ino, 1);
	return rc;
}

static int do_write(struct fsvol *f, const struct act *a)
{
	struct fs_file *file;
	struct fs_attr at;
	int rc = open_path(f, a->path, &at, &file);
	if (rc)
		return rc;
	rc = fs_write(file, a->off, a->len, f->data[a->path] + a->off, 0);
	fs_file_close(file);
	return rc;
}

static int do_truncate(struct fsvol *f, const struct act *a)
{
	struct fs_setattr sa = {.set = FS_SET_SIZE, .size = a->len};
	struct fs_attr at;
	int rc = fs_lookup(f->fs, dir_of(f, a->path), name_of(a->path), &at);
	if (rc)
		return rc;
	uint64_t ino = at.ino;
	rc = fs_setattr(f->fs, ino, &sa, &at);
	fs_forget(f->fs, ino, 1);
	return rc;
}

static int do_unlink(struct fsvol *f, const struct act *a)
{
	struct fs_attr at;
	if (!f->held && a->off % 2) /* its space stays until it is closed */
		open_path(f, a->path, &at, &f->held);
	return fs_unlink(f->fs, dir_of(f, a->path), name_of(a->path));
}

static int carry_out(struct fsvol *f, const struct act *a)
{
	switch (a->kind) {
	case CREATE:
		return do_create(f, a);
	case WRITE:
		return do_write(f, a);
	case RENAME:
		return fs_rename(f->fs, dir_of(f, a->path), name_of(a->path), dir_of(f, a->to),
				 name_of(a->to), 0, 0, 0);
	case TRUNCATE:
		return do_truncate(f, a);
	case UNLINK:
		return do_unlink(f, a);
	case SYNC:
		return fs_sync(f->fs);
	default:
		if (f->held)
			fs_file_close(f->held);
		f->held = NULL;
		return 0;
	}
}

/* The steps of a truncation: first the rest of its last block is zeroed, then the blocks behind go
 * together with the size; on a full pool the blocks go before. */
static void add_steps(struct fsvol *f, const struct act *a)
{
	uint32_t size = f->now.path[a->path].size;
	uint32_t edge = (a->len + HIST_BLOCK - 1) / HIST_BLOCK * HIST_BLOCK;
	if (a->kind != TRUNCATE || a->len >= size)
		return;
	edge = edge < size ? edge : size;
	const uint32_t zero[3][2] = {{a->len, edge}, {edge, size}, {a->len, size}};
	struct state real = f->now;
	for (unsigned i = 0; i < 3; i++) {
		memcpy(f->buf, f->data[a->path], size);
		memset(f->buf + zero[i][0], 0, zero[i][1] - zero[i][0]);
		f->now.path[a->path].hash = hash(f->buf, size);
		list_add(f);
	}
	f->now = real;
}

/* What will be is a state from the moment it is asked for; taken back when it is refused. */
static void change(struct world *w, struct fsvol *f, const struct act *a, struct sim_rng *g)
{
	static uint8_t old[2][FILE_MAX];
	struct state before = f->now;
	memcpy(old[0], f->data[a->path], FILE_MAX);
	memcpy(old[1], f->data[a->to], FILE_MAX);
	size_t count = f->count;
	add_steps(f, a);
	foresee(f, a, g);
	list_add(f);
	int rc = carry_out(f, a);
	world_log(w, "fs: %d path %u to %u %u+%u -> %d, state %zu", a->kind, a->path, a->to, a->off,
		  a->len, rc, f->count - 1);
	if (!rc)
		return;
	if (rc == -ENOSPC && a->kind != TRUNCATE) {
		cover_hit(COVER_ENOSPC);
		f->now = before;
		f->count = count;
		memcpy(f->data[a->to], old[1], FILE_MAX);
		memcpy(f->data[a->path], old[0], FILE_MAX);
		return;
	}
	if (rc != -ENOSPC && !world_excuses(w, NULL, rc))
		world_fail(w, "file system: operation %d on path %u: %d %s", a->kind, a->path, rc,
			   err_str(rc));
	f->stuck = true;
}

static void read_back(struct world *w, struct fsvol *f, unsigned p)
{
	static struct state s;
	int rc = look(f, p, &s);
	if (rc && world_excuses(w, NULL, rc))
		return;
	if (rc)
		world_fail(w, "file system: read path %u: %d %s", p, rc, err_str(rc));
	if (s.path[p].there != f->now.path[p].there ||
	    (s.path[p].there &&
	     (s.path[p].size != f->now.path[p].size || s.path[p].hash != f->now.path[p].hash)))
		world_fail(w, "file system: path %u is not what was written there", p);
	cover_hit(COVER_READS_CHECKED);
}

static void one(struct world *w, struct fsvol *f, struct sim_rng *g)
{
	struct act a = pick(f, g);
	cover_hit(COVER_FS_OPS);
	cover_hit(COVER_OPS);
	if (effective(f, &a)) {
		change(w, f, &a, g);
	} else if (a.kind < SYNC) {
		read_back(w, f, a.path);
	} else if (!carry_out(f, &a) && a.kind == SYNC) {
		world_log(w, "fs: synced");
		list_begin(f);
		list_add(f);
	}
}

void fsvol_main(void *arg)
{
	struct world *w = arg;
	struct fsvol *f = w->fsvol;
	while (!w->stop_chaos && !f->stuck && !w->pool->faulted) {
		one(w, f, &w->fs_rng);
		co_sleep_ns(rng_skewed(&w->fs_rng, FS_SLEEP_MAX));
	}
	w->fs_done = true;
}
