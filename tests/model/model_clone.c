/* model_clone: several volumes of one pool that share blocks, and their snapshots, against plain
 * arrays.
 *
 * Clones between and within volumes of both compressions, overwritten, punched, converted to
 * another number of copies, destroyed and made again, over commits and imports; snapshots taken of
 * one or two at once, read, cloned from, and destroyed in any order. The deep check compares every
 * count of references. First a story: what a clone and a snapshot cost, and what remains when the
 * original goes.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "pool/vol.h"
#include "tests/sim/rig.h"

#define BLOCK	4096u
#define VOLS	3u
#define OBJECTS 2u
#define BLOCKS	512u /* per object */
#define BYTES	((uint64_t)BLOCKS * BLOCK)
#define IO_MAX	(256u << 10)
#define SNAPS	5u /* of a volume at a time */

struct snapshot {
	bool there;
	char name[16];
	uint8_t *data[OBJECTS];
};
struct volume {
	char name[8];
	struct vol_options opt;
	struct vol *v;
	uint8_t *data[OBJECTS];
	struct snapshot snap[SNAPS];
};
struct model {
	struct rig rig;
	struct sim_rng rng;
	uint64_t seed, ops, op, snaps_taken;
	struct volume vol[VOLS];
	uint8_t buf[BYTES];
};

static void fail(struct model *m, const char *fmt, ...)
	__attribute__((format(printf, 2, 3), noreturn));
static void fail(struct model *m, const char *fmt, ...)
{
	va_list ap;
	printf("model_clone seed %llu op %llu: ", (unsigned long long)m->seed,
	       (unsigned long long)m->op);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	exit(1);
}

static void expect(struct model *m, int rc, const char *what)
{
	if (rc)
		fail(m, "%s: %d %s", what, rc, err_str(rc));
}

/* ---- the pool around it ---- */

static void make(struct model *m, struct volume *x)
{
	struct err e = {0};
	if (vol_create(m->rig.pool, x->name, &x->opt, &e) ||
	    vol_open(m->rig.pool, x->name, &x->v, &e))
		fail(m, "create: %s", e.text);
	for (unsigned o = 0; o < OBJECTS; o++)
		memset(x->data[o], 0, BYTES);
}

static void set_up(struct model *m)
{
	struct err e = {0};
	if (rig_create(&m->rig, 1 << 20, &e) || rig_import(&m->rig, &e))
		fail(m, "set up: %s", e.text);
	for (unsigned i = 0; i < VOLS; i++)
		make(m, &m->vol[i]);
}

/* Blocks of data in use, each counted once. */
static uint64_t check(struct model *m)
{
	struct pool_check_result r;
	struct err e = {0};
	expect(m, pool_commit(m->rig.pool), "pool_commit");
	if (pool_check(m->rig.pool, true, stdout, NULL, NULL, &r, &e))
		fail(m, "pool_check: %s", e.text);
	if (r.problems)
		fail(m, "pool_check found %llu problems", (unsigned long long)r.problems);
	return r.data_blocks;
}

static void reopen(struct model *m)
{
	struct err e = {0};
	for (unsigned i = 0; i < VOLS; i++)
		vol_close(m->vol[i].v);
	if (rig_export(&m->rig, &e) || rig_import(&m->rig, &e))
		fail(m, "export and import: %s", e.text);
	for (unsigned i = 0; i < VOLS; i++)
		if (vol_open(m->rig.pool, m->vol[i].name, &m->vol[i].v, &e))
			fail(m, "open: %s", e.text);
	check(m);
}

/* ---- operations ---- */

static uint64_t number(unsigned object)
{
	return VOL_OBJECT_FIRST + object;
}

static void write_at(struct model *m, struct volume *x, unsigned o, uint64_t off, uint64_t len,
		     bool random)
{
	uint64_t v = rng_next(&m->rng);
	for (uint64_t i = 0; i < len; i++) {
		if (random && i % 8 == 0)
			v = rng_next(&m->rng);
		m->buf[i] = (uint8_t)(v >> (i % 8 * 8));
	}
	expect(m, vol_write(x->v, number(o), off, len, m->buf, NULL, NULL), "vol_write");
	memcpy(x->data[o] + off, m->buf, len);
}

static void punch_at(struct model *m, struct volume *x, unsigned o, uint64_t off, uint64_t len)
{
	expect(m, vol_punch(x->v, number(o), off, len, NULL, NULL), "vol_punch");
	memset(x->data[o] + off, 0, len);
}

static void clone_at(struct model *m, struct volume *x, unsigned o, uint64_t off, struct volume *to,
		     unsigned to_o, uint64_t to_off, uint64_t len)
{
	uint64_t done = 0;
	int rc = vol_clone_range(x->v, number(o), off, to->v, number(to_o), to_off, len, NULL, NULL,
				 &done);
	expect(m, rc, "vol_clone_range");
	if (done != len)
		fail(m, "vol_clone_range: %llu bytes", (unsigned long long)done);
	memcpy(to->data[to_o] + to_off, x->data[o] + off, len);
}

static void compare(struct model *m, struct volume *x)
{
	for (unsigned o = 0; o < OBJECTS; o++) {
		expect(m, vol_read(x->v, number(o), 0, BYTES, m->buf), "vol_read");
		for (uint64_t i = 0; i < BYTES; i++)
			if (m->buf[i] != x->data[o][i])
				fail(m, "volume %s object %u: byte %llu is %02x, should be %02x",
				     x->name, o, (unsigned long long)i, m->buf[i], x->data[o][i]);
	}
}

/* ---- snapshots ---- */

static struct snapshot *snap_slot(struct volume *x, bool there)
{
	for (unsigned i = 0; i < SNAPS; i++)
		if (x->snap[i].there == there)
			return &x->snap[i];
	return NULL;
}

/* One moment for all of them. */
static void snap_create(struct model *m, struct volume *const *x, unsigned n)
{
	struct snapshot *slot[VOLS];
	const char *names[VOLS] = {NULL};
	struct err e = {0};
	for (unsigned i = 0; i < n; i++) {
		struct snapshot *s = slot[i] = snap_slot(x[i], false);
		if (!s) {
			while (i--)
				slot[i]->there = false;
			return;
		}
		s->there = true;
		m->snaps_taken++;
		snprintf(s->name, sizeof(s->name), "v%u@s%llu", (unsigned)(x[i] - m->vol),
			 (unsigned long long)m->snaps_taken);
		names[i] = s->name;
	}
	if (vol_snapshot_create(m->rig.pool, names, n, &e))
		fail(m, "snapshot: %s", e.text);
	for (unsigned i = 0; i < n; i++)
		for (unsigned o = 0; o < OBJECTS; o++)
			memcpy(slot[i]->data[o], x[i]->data[o], BYTES);
}

static void snap_destroy(struct model *m, struct snapshot *s)
{
	struct err e = {0};
	if (vol_snapshot_destroy(m->rig.pool, s->name, &e))
		fail(m, "destroy %s: %s", s->name, e.text);
	s->there = false;
}

static void snap_compare(struct model *m, struct snapshot *s)
{
	struct err e = {0};
	struct vol *v;
	if (vol_open(m->rig.pool, s->name, &v, &e))
		fail(m, "open %s: %s", s->name, e.text);
	for (unsigned o = 0; o < OBJECTS; o++) {
		expect(m, vol_read(v, number(o), 0, BYTES, m->buf), "vol_read of a snapshot");
		for (uint64_t i = 0; i < BYTES; i++)
			if (m->buf[i] != s->data[o][i])
				fail(m, "%s object %u: byte %llu is %02x, should be %02x", s->name,
				     o, (unsigned long long)i, m->buf[i], s->data[o][i]);
	}
	if (vol_write(v, number(0), 0, 1, "x", NULL, NULL) != ERR_READONLY ||
	    vol_punch(v, number(0), 0, BYTES, NULL, NULL) != ERR_READONLY)
		fail(m, "%s can be changed", s->name);
	vol_close(v);
}

static void snap_clone(struct model *m, struct snapshot *s, struct volume *to, unsigned o)
{
	uint64_t off = rng_below(&m->rng, BLOCKS) * BLOCK, len = BYTES - off, done = 0;
	struct err e = {0};
	struct vol *v;
	if (vol_open(m->rig.pool, s->name, &v, &e))
		fail(m, "open %s: %s", s->name, e.text);
	expect(m, vol_clone_range(v, number(o), off, to->v, number(o), off, len, NULL, NULL, &done),
	       "vol_clone_range from a snapshot");
	memcpy(to->data[o] + off, s->data[o] + off, len);
	vol_close(v);
}

/* ---- the story ---- */

static void expect_blocks(struct model *m, const char *when, uint64_t want)
{
	uint64_t got = check(m);
	if (got != want)
		fail(m, "%s: %llu blocks of data, should be %llu", when, (unsigned long long)got,
		     (unsigned long long)want);
}

static void destroy(struct model *m, struct volume *x)
{
	struct err e = {0};
	int rc;
	vol_close(x->v);
	for (unsigned i = 0; i < SNAPS; i++) {
		if (!x->snap[i].there)
			continue;
		rc = vol_destroy(m->rig.pool, x->name, &e);
		if (rc != -EBUSY)
			fail(m, "destroy of a volume with snapshots: %d", rc);
		snap_destroy(m, &x->snap[i]);
	}
	for (unsigned k = 0; k < 1000; k++) {
		rc = vol_destroy(m->rig.pool, x->name, &e);
		if (rc != -EBUSY)
			break;
		co_sleep_ns(20 * SIM_MS); /* the last snapshot is on its way */
	}
	if (rc)
		fail(m, "destroy: %s", e.text);
}

/* What snapshots keep, and no more. */
static void snap_story(struct model *m)
{
	struct volume *b = &m->vol[1];
	write_at(m, b, 0, 0, BYTES, true);
	snap_create(m, &b, 1);
	expect_blocks(m, "a snapshot", BLOCKS);
	write_at(m, b, 0, 0, BYTES / 2, true);
	expect_blocks(m, "half overwritten", BLOCKS * 3 / 2);
	snap_create(m, &b, 1);
	clone_at(m, b, 0, 0, b, 1, 0, BYTES);
	punch_at(m, b, 0, 0, BYTES);
	expect_blocks(m, "second snapshot, clone", BLOCKS * 3 / 2);
	for (unsigned i = 0; i < 2; i++)
		snap_compare(m, &b->snap[i]);
	punch_at(m, b, 1, BYTES / 4, BYTES / 4);
	reopen(m);
	snap_destroy(m, &b->snap[1]);
	co_sleep_ns(2000 * SIM_MS);
	expect_blocks(m, "second snapshot gone", BLOCKS * 5 / 4);
	snap_compare(m, &b->snap[0]);
	snap_destroy(m, &b->snap[0]);
	co_sleep_ns(2000 * SIM_MS);
	compare(m, b);
	expect_blocks(m, "first snapshot gone", BLOCKS * 3 / 4);
	punch_at(m, b, 1, 0, BYTES);
	expect_blocks(m, "nothing left", 0);
}

static void story(struct model *m)
{
	struct volume *a = &m->vol[0], *b = &m->vol[1], *c = &m->vol[2]; /* c has other copies */
	write_at(m, a, 0, 0, BYTES, true);
	expect_blocks(m, "written", BLOCKS);
	clone_at(m, a, 0, 0, a, 1, 0, BYTES);
	clone_at(m, a, 0, 0, b, 0, 0, BYTES);
	expect_blocks(m, "cloned twice", BLOCKS);
	clone_at(m, b, 0, 0, b, 1, BLOCK, BYTES - BLOCK);
	expect_blocks(m, "cloned from a clone", BLOCKS);
	write_at(m, a, 0, 8 * BLOCK, BLOCK, true);
	expect_blocks(m, "original overwritten", BLOCKS + 1);
	write_at(m, b, 0, 100, 100, true);
	expect_blocks(m, "clone overwritten", BLOCKS + 2);
	clone_at(m, a, 1, 0, c, 0, 0, BYTES);
	expect_blocks(m, "cloned to other copies", 2 * BLOCKS + 2);
	reopen(m);
	for (unsigned i = 0; i < VOLS; i++)
		compare(m, &m->vol[i]);
	destroy(m, a);
	punch_at(m, b, 0, 0, BYTES);
	co_sleep_ns(5000 * SIM_MS);
	compare(m, b);
	/* b's second object has all but the last block of what was written first. */
	expect_blocks(m, "original gone", 2 * BLOCKS - 1);
	punch_at(m, b, 1, 0, BYTES);
	punch_at(m, c, 0, 0, BYTES);
	expect_blocks(m, "all gone", 0);
	make(m, a);
	snap_story(m);
	reopen(m);
}

/* ---- by chance ---- */

static void pick_range(struct model *m, uint64_t *ret_off, uint64_t *ret_len)
{
	*ret_off = rng_below(&m->rng, BYTES);
	*ret_len = rng_skewed(&m->rng, IO_MAX);
	if (!rng_chance(&m->rng, 1, 4)) {
		*ret_off -= *ret_off % BLOCK;
		*ret_len = (*ret_len + BLOCK - 1) / BLOCK * BLOCK;
	}
	if (*ret_len > BYTES - *ret_off)
		*ret_len = BYTES - *ret_off;
}

static struct volume *pick(struct model *m)
{
	return &m->vol[rng_below(&m->rng, VOLS)];
}

static void do_clone(struct model *m)
{
	struct volume *x = pick(m), *to = pick(m);
	unsigned o = (unsigned)rng_below(&m->rng, OBJECTS);
	unsigned to_o = (unsigned)rng_below(&m->rng, OBJECTS);
	uint64_t off, to_off, len;
	pick_range(m, &off, &len);
	to_off = off;
	if (rng_chance(&m->rng, 1, 2))
		to_off = rng_below(&m->rng, BLOCKS) * BLOCK + off % BLOCK;
	if (to_off + len > BYTES ||
	    (x == to && o == to_o && off < to_off + len && to_off < off + len))
		return;
	if (rng_chance(&m->rng, 1, 2))
		expect(m, pool_commit(m->rig.pool), "pool_commit");
	clone_at(m, x, o, off, to, to_o, to_off, len);
}

static void do_write(struct model *m)
{
	struct volume *x = pick(m);
	uint64_t off, len;
	pick_range(m, &off, &len);
	write_at(m, x, (unsigned)rng_below(&m->rng, OBJECTS), off, len, rng_chance(&m->rng, 1, 3));
}

static void do_punch(struct model *m)
{
	struct volume *x = pick(m);
	uint64_t off, len;
	pick_range(m, &off, &len);
	punch_at(m, x, (unsigned)rng_below(&m->rng, OBJECTS), off, len);
}

static void do_snap(struct model *m)
{
	struct volume *x[2] = {pick(m), pick(m)};
	struct snapshot *s = &x[0]->snap[rng_below(&m->rng, SNAPS)];
	switch (rng_below(&m->rng, s->there ? 4 : 1)) {
	case 0:
		snap_create(m, x, 1 + (unsigned)rng_below(&m->rng, 2)); /* also of one, twice */
		break;
	case 1:
		snap_destroy(m, s);
		break;
	case 2:
		snap_compare(m, s);
		break;
	default:
		snap_clone(m, s, x[1], (unsigned)rng_below(&m->rng, OBJECTS));
		break;
	}
}

static void do_rare(struct model *m)
{
	struct volume *x = pick(m);
	struct err e = {0};
	switch (rng_below(&m->rng, 4)) {
	case 0:
		reopen(m);
		break;
	case 1:
		destroy(m, x);
		make(m, x);
		break;
	case 2:
		x->opt.copies = (uint8_t)(1 + rng_below(&m->rng, 2));
		if (vol_set_copies(m->rig.pool, x->name, x->opt.copies, &e))
			fail(m, "copies: %s", e.text);
		break;
	default:
		check(m);
		break;
	}
	for (unsigned i = 0; i < VOLS; i++)
		compare(m, &m->vol[i]);
}

static void one_op(struct model *m)
{
	uint64_t dice = rng_below(&m->rng, 100);
	if (dice < 40)
		do_clone(m);
	else if (dice < 75)
		do_write(m);
	else if (dice < 85)
		do_punch(m);
	else if (dice < 90)
		do_snap(m);
	else if (dice < 95)
		expect(m, pool_commit(m->rig.pool), "pool_commit");
	else if (dice < 97)
		do_rare(m);
	else
		co_sleep_ns(rng_skewed(&m->rng, 200 * SIM_MS));
}

static void run(void *arg)
{
	struct model *m = arg;
	set_up(m);
	story(m);
	for (m->op = 1; m->op <= m->ops; m->op++)
		one_op(m);
	for (unsigned i = 0; i < VOLS; i++)
		compare(m, &m->vol[i]);
	check(m);
	for (unsigned i = 0; i < VOLS; i++)
		for (unsigned k = 0; k < SNAPS; k++)
			if (m->vol[i].snap[k].there)
				snap_compare(m, &m->vol[i].snap[k]);
	for (unsigned i = 0; i < VOLS; i++)
		destroy(m, &m->vol[i]);
	co_sleep_ns(5000 * SIM_MS);
	expect_blocks(m, "all volumes destroyed", 0);
}

static void model_init(struct model *m, uint64_t seed, uint64_t ops)
{
	memset(m, 0, sizeof(*m));
	m->seed = seed;
	m->ops = ops;
	m->rng = rng_of(seed, 5);
	rig_init(&m->rig, seed, 3, 96 << 20);
	m->rig.opt.cache_bytes = 512 << 10;
	for (unsigned i = 0; i < VOLS; i++) {
		struct volume *x = &m->vol[i];
		snprintf(x->name, sizeof(x->name), "v%u", i);
		x->opt = (struct vol_options){.type = VOL_TYPE_FS,
					      .copies = (uint8_t)(1 + (i == 2)),
					      .compression = i || seed % 2 ? VOL_COMPRESS_LZ4
									   : VOL_COMPRESS_OFF};
		for (unsigned o = 0; o < OBJECTS; o++) {
			if (!(x->data[o] = calloc(1, BYTES)))
				abort();
			for (unsigned k = 0; k < SNAPS; k++)
				if (!(x->snap[k].data[o] = calloc(1, BYTES)))
					abort();
		}
	}
}

static void model_fini(struct model *m)
{
	rig_fini(&m->rig);
	for (unsigned i = 0; i < VOLS; i++)
		for (unsigned o = 0; o < OBJECTS; o++) {
			free(m->vol[i].data[o]);
			for (unsigned k = 0; k < SNAPS; k++)
				free(m->vol[i].snap[k].data[o]);
		}
}

int main(int argc, char **argv)
{
	bool is_long = getenv("TARN_LONG") != NULL;
	uint64_t first = 1, last = is_long ? 200 : 8, ops = is_long ? 5000 : 800;
	if (argc > 1)
		first = last = strtoull(argv[1], NULL, 0);
	if (argc > 2)
		ops = strtoull(argv[2], NULL, 0);
	static struct model m;
	for (uint64_t seed = first; seed <= last; seed++) {
		model_init(&m, seed, ops);
		rig_run(&m.rig, run, &m, "model");
		model_fini(&m);
	}
	printf("%llu seeds of %llu operations agree with the model\n",
	       (unsigned long long)(last - first + 1), (unsigned long long)ops);
	return 0;
}
