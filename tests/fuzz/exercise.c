/* exercise: everything a pool can be asked, on an image that may be anything. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "pool/vol.h"
#include "tests/fuzz/image.h"

#define ITEMS_MAX  2000u
#define VOLS_MAX   16u
#define READ_BYTES (256u << 10)

struct exercise {
	struct rig *g;
	bool read_only;
};
struct scan {
	struct key at;
	struct btree_item it;
	unsigned n;
};

static uint8_t buf[READ_BYTES];
static FILE *null;

/* The text is not looked at, but made. */
static FILE *devnull(void)
{
	if (!null && !(null = fopen("/dev/null", "we")))
		abort();
	return null;
}

/* Step over up to 50 items, touching every byte. */
static int scan_fn(struct vol *v, void *arg)
{
	struct scan *s = arg;
	static volatile uint8_t sink;
	for (unsigned i = 0; i < 50; i++) {
		int rc = vol_seek_ge(v, s->at, &s->it);
		if (rc)
			return rc;
		for (unsigned k = 0; k < s->it.len; k++)
			sink ^= ((const uint8_t *)s->it.value)[k];
		s->at = s->it.key;
		if (!++s->at.offset && !++s->at.type)
			s->at.object++;
		s->n++;
	}
	return 0;
}

static void scan_items(struct vol *v)
{
	struct scan s = {.at = KEY_MIN};
	while (s.n < ITEMS_MAX && !vol_query(v, scan_fn, &s))
		;
}

static void read_object(struct vol *v, uint64_t object)
{
	uint64_t at = 0, bytes, extents;
	for (unsigned i = 0; i < 20; i++) {
		if (vol_seek_data(v, object, at, &at))
			break;
		vol_read(v, object, at, READ_BYTES, buf);
		if (vol_seek_hole(v, object, at, &at))
			break;
	}
	vol_object_bytes(v, object, &bytes, &extents);
}

static int touch_fn(struct vol *v, void *arg)
{
	struct key k = {16, 3, 7};
	int rc = vol_prepare(v, k);
	(void)arg;
	return rc ? rc : vol_put(v, k, "mutated", 7);
}

static void change(struct vol *v)
{
	memset(buf, 0x5a, sizeof(buf));
	vol_write(v, 16, 3 * 4096 + 5, 70000, buf, NULL, NULL);
	vol_punch(v, 16, 20 * 4096, 80 * 4096, NULL, NULL);
	vol_punch(v, VOL_BLOCK_OBJECT, 100, UINT64_MAX - 100, NULL, NULL);
	vol_change(v, false, touch_fn, NULL);
	vol_sync(v);
}

static void use_volumes(struct exercise *x)
{
	static struct vol_info info[VOLS_MAX];
	unsigned n = vol_list(x->g->pool, info, VOLS_MAX);
	for (unsigned i = 0; i < n && i < VOLS_MAX; i++) {
		struct err e = {0};
		struct vol *v;
		if (vol_open(x->g->pool, info[i].name, &v, &e))
			continue;
		scan_items(v);
		for (uint64_t object = 0; object < 32; object++)
			read_object(v, object);
		if (!x->read_only)
			change(v);
		vol_close(v);
	}
}

static void dump(struct exercise *x)
{
	static const char *const what[][2] = {
		{"sb", "0"},	    {"sb", NULL},   {"tree", "map"}, {"tree", "space"},
		{"tree", "root"},   {"tree", "fs"}, {"tree", "blk"}, {"log", NULL},
		{"node", "200000"}, {"chunk", "1"}, {"chunk", "4"},
	};
	for (unsigned i = 0; i < sizeof(what) / sizeof(what[0]); i++) {
		struct err e = {0};
		pool_dump(x->g->pool, what[i][0], what[i][1], devnull(), &e);
	}
}

static void labels(struct exercise *x)
{
	for (unsigned i = 0; i < x->g->ndisks; i++) {
		struct dev_backend *b = sim_disk_open(x->g->disk[i]);
		struct pool_label l;
		struct err e = {0};
		pool_label_read(b, &l, &e);
		dev_close(b);
	}
}

static void run(void *arg)
{
	struct exercise *x = arg;
	struct err e = {0};
	struct pool_check_result r;
	static struct pool_status st;
	labels(x);
	x->g->opt.read_only = x->read_only;
	int rc = rig_import(x->g, &e);
	if (getenv("FUZZ_VERBOSE"))
		printf("import: %d %s\n", rc, e.text);
	if (rc)
		return;
	pool_status_get(x->g->pool, &st);
	dump(x);
	FILE *out = getenv("FUZZ_VERBOSE") ? stdout : devnull();
	pool_check(x->g->pool, true, out, NULL, NULL, &r, &e);
	use_volumes(x);
	if (!x->read_only) {
		pool_commit(x->g->pool);
		vol_destroy(x->g->pool, "fs", &e);
		co_sleep_ns(SIM_SEC);
	}
	if (!pool_export(x->g->pool, true, &e))
		x->g->pool = NULL;
}

void image_exercise(struct rig *g, bool read_only)
{
	struct exercise x = {g, read_only};
	rig_run(g, run, &x, "exercise of a mutated image");
}
