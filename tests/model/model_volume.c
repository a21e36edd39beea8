/* model_volume: one volume against plain arrays, every call compared.
 *
 * Objects are byte arrays with a map of which 4 KiB blocks are data; items are an array of values.
 * One coroutine, no crash: what the engine says has to be exactly what the arrays say, also over
 * commits, evictions and exports.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "pool/vol.h"
#include "pool/vol_held.h"
#include "tests/sim/rig.h"

#define BLOCK	  4096u
#define OBJECTS	  3u
#define BLOCKS	  768u /* per object */
#define KEYS	  400u
#define VALUE_MAX 3800u
#define IO_MAX	  (400u << 10)

struct object {
	uint64_t number, base; /* window of the object */
	uint8_t *data;
	bool *mapped, *promised; /* blocks; promised: reserved and not punched since */
};
struct item {
	bool there;
	uint16_t len;
	uint8_t *value;
};

struct model {
	struct rig rig;
	struct sim_rng rng;
	uint64_t seed, ops, op;
	struct object obj[OBJECTS];
	struct item item[KEYS];
	uint64_t items_base;
	struct vol_options opt;
	struct vol *v;
	uint8_t buf[IO_MAX];
};

static void fail(struct model *m, const char *fmt, ...)
	__attribute__((format(printf, 2, 3), noreturn));
static void fail(struct model *m, const char *fmt, ...)
{
	va_list ap;
	printf("model seed %llu op %llu: ", (unsigned long long)m->seed, (unsigned long long)m->op);
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

static void open_volume(struct model *m)
{
	struct err e = {0};
	if (rig_import(&m->rig, &e) || vol_open(m->rig.pool, "v", &m->v, &e))
		fail(m, "open: %s", e.text);
}

static void set_up(struct model *m)
{
	struct err e = {0};
	if (rig_create(&m->rig, 1 << 20, &e) || rig_import(&m->rig, &e) ||
	    vol_create(m->rig.pool, "v", &m->opt, &e) || vol_open(m->rig.pool, "v", &m->v, &e))
		fail(m, "set up: %s", e.text);
}

static void check(struct model *m)
{
	char text[256];
	uint64_t problems;
	if (rig_check(&m->rig, &problems, text, sizeof(text)) || problems)
		fail(m, "pool_check: %s", text);
}

static void reopen(struct model *m)
{
	struct err e = {0};
	vol_close(m->v);
	if (rig_export(&m->rig, &e))
		fail(m, "export: %s", e.text);
	open_volume(m);
	check(m);
}

/* ---- data ---- */

static struct object *pick_object(struct model *m)
{
	return &m->obj[rng_below(&m->rng, OBJECTS)];
}

static void pick_range(struct model *m, uint64_t *ret_off, uint64_t *ret_len)
{
	uint64_t end = (uint64_t)BLOCKS * BLOCK;
	*ret_off = rng_below(&m->rng, rng_chance(&m->rng, 1, 2) ? end / 8 : end);
	*ret_len = rng_skewed(&m->rng, IO_MAX);
	if (rng_chance(&m->rng, 1, 2)) {
		*ret_off -= *ret_off % BLOCK;
		*ret_len = (*ret_len + BLOCK - 1) / BLOCK * BLOCK;
	}
	if (*ret_len > IO_MAX)
		*ret_len = IO_MAX;
	if (*ret_len > end - *ret_off)
		*ret_len = end - *ret_off;
}

static void map(struct object *o, uint64_t off, uint64_t len, bool on)
{
	for (uint64_t b = off / BLOCK; b * BLOCK < off + len; b++)
		o->mapped[b] = on;
}

/* Now and then something LZ4 likes. */
static void fill(struct model *m, uint64_t len)
{
	uint64_t kind = rng_below(&m->rng, 4), v = rng_next(&m->rng);
	for (uint64_t i = 0; i < len; i++) {
		if (i % 8 == 0 && (kind == 0 || (kind == 1 && i / 64 % 2)))
			v = rng_next(&m->rng);
		m->buf[i] = kind == 3 ? 0 : (uint8_t)(v >> (i % 8 * 8));
	}
}

static void do_write(struct model *m)
{
	struct object *o = pick_object(m);
	uint64_t off, len;
	pick_range(m, &off, &len);
	fill(m, len);
	expect(m, vol_write(m->v, o->number, o->base + off, len, m->buf, NULL, NULL), "vol_write");
	memcpy(o->data + off, m->buf, len);
	map(o, off, len, true);
}

static void compare(struct model *m, struct object *o, uint64_t off, uint64_t len)
{
	memset(m->buf, 0xa5, len);
	expect(m, vol_read(m->v, o->number, o->base + off, len, m->buf), "vol_read");
	for (uint64_t i = 0; i < len; i++)
		if (m->buf[i] != o->data[off + i])
			fail(m, "vol_read object %llu: byte %llu is %02x, should be %02x",
			     (unsigned long long)o->number, (unsigned long long)(o->base + off + i),
			     m->buf[i], o->data[off + i]);
}

static void do_read(struct model *m)
{
	struct object *o = pick_object(m);
	uint64_t off, len;
	pick_range(m, &off, &len);
	compare(m, o, off, len);
}

static void punch_model(struct object *o, uint64_t off, uint64_t len)
{
	memset(o->data + off, 0, len);
	uint64_t first = (off + BLOCK - 1) / BLOCK, last = (off + len) / BLOCK;
	for (uint64_t b = first; b < last; b++)
		o->mapped[b] = o->promised[b] = false;
}

static void do_punch(struct model *m)
{
	struct object *o = pick_object(m);
	uint64_t off, len, real;
	pick_range(m, &off, &len);
	if (rng_chance(&m->rng, 1, 8))
		len = (uint64_t)BLOCKS * BLOCK - off;
	real = len;
	if (off + len == (uint64_t)BLOCKS * BLOCK && rng_chance(&m->rng, 1, 2))
		real = UINT64_MAX - (o->base + off);
	expect(m, vol_punch(m->v, o->number, o->base + off, real, NULL, NULL), "vol_punch");
	punch_model(o, off, len);
}

static void do_reserve(struct model *m)
{
	struct object *o = pick_object(m);
	uint64_t off, len;
	pick_range(m, &off, &len);
	expect(m, vol_reserve(m->v, o->number, o->base + off, len, NULL, NULL), "vol_reserve");
	for (uint64_t b = off / BLOCK; b * BLOCK < off + len; b++)
		o->promised[b] |= !o->mapped[b];
}

/* Blocks that do not match are copied in pieces of the engine's choice: which of them became data
 * it may say itself. */
static void ask_mapped(struct model *m, struct object *o, uint64_t off, uint64_t len)
{
	for (uint64_t b = off / BLOCK; b * BLOCK < off + len; b++) {
		uint64_t at = o->base + b * BLOCK, got = 0;
		int rc = vol_seek_data(m->v, o->number, at, &got);
		if (rc && rc != -ENXIO)
			fail(m, "vol_seek_data: %d", rc);
		o->mapped[b] = !rc && got == at;
	}
}

static void clone_model(struct object *from, uint64_t src, struct object *to, uint64_t dst,
			uint64_t len)
{
	uint64_t first = (dst + BLOCK - 1) / BLOCK, last = (dst + len) / BLOCK;
	memmove(to->data + dst, from->data + src, len);
	for (uint64_t b = dst / BLOCK; b * BLOCK < dst + len; b++) {
		bool whole = b >= first && b < last;
		to->mapped[b] = !whole || from->mapped[(src + b * BLOCK - dst) / BLOCK];
		to->promised[b] &= !whole;
	}
}

static void do_clone(struct model *m)
{
	struct object *from = pick_object(m), *to = pick_object(m);
	uint64_t src, dst, len, done = 0;
	pick_range(m, &src, &len);
	dst = rng_below(&m->rng, (uint64_t)BLOCKS * BLOCK - len + 1);
	if (!rng_chance(&m->rng, 1, 8))
		dst = dst / BLOCK * BLOCK + src % BLOCK;
	if (dst + len > (uint64_t)BLOCKS * BLOCK)
		return;
	if (rng_chance(&m->rng, 1, 3))
		expect(m, pool_commit(m->rig.pool), "pool_commit");
	bool onto = from == to && src < dst + len && dst < src + len;
	if (!onto && (src ^ dst) % BLOCK) { /* so that no promise is in the way */
		expect(m, vol_punch(m->v, to->number, to->base + dst, len, NULL, NULL),
		       "vol_punch");
		punch_model(to, dst, len);
	}
	int rc = vol_clone_range(m->v, from->number, from->base + src, m->v, to->number,
				 to->base + dst, len, NULL, NULL, &done);
	if (onto) {
		if (len && rc != -EINVAL)
			fail(m, "vol_clone_range onto itself: %d", rc);
		return;
	}
	expect(m, rc, "vol_clone_range");
	if (done != len)
		fail(m, "vol_clone_range: %llu bytes of %llu", (unsigned long long)done,
		     (unsigned long long)len);
	if ((src ^ dst) % BLOCK) {
		memmove(to->data + dst, from->data + src, len);
		ask_mapped(m, to, dst, len);
	} else {
		clone_model(from, src, to, dst, len);
	}
	if (rng_chance(&m->rng, 1, 4))
		compare(m, to, dst, len);
}

static void do_seek(struct model *m)
{
	struct object *o = pick_object(m);
	uint64_t off = rng_below(&m->rng, (uint64_t)BLOCKS * BLOCK), got = 0, want;
	uint64_t b = off / BLOCK;
	while (b < BLOCKS && !o->mapped[b])
		b++;
	int rc = vol_seek_data(m->v, o->number, o->base + off, &got);
	want = o->base + (b == off / BLOCK ? off : b * BLOCK);
	if (b == BLOCKS ? rc != -ENXIO : rc || got != want)
		fail(m, "vol_seek_data from %llu: %d %llu, should be %llu%s",
		     (unsigned long long)(o->base + off), rc, (unsigned long long)got,
		     (unsigned long long)want, b == BLOCKS ? " (none)" : "");
	b = off / BLOCK;
	while (b < BLOCKS && o->mapped[b])
		b++;
	rc = vol_seek_hole(m->v, o->number, o->base + off, &got);
	want = o->base + (b == off / BLOCK ? off : b * BLOCK);
	if (rc || got != want)
		fail(m, "vol_seek_hole from %llu: %d %llu, should be %llu",
		     (unsigned long long)(o->base + off), rc, (unsigned long long)got,
		     (unsigned long long)want);
}

static uint64_t mapped_bytes(const struct object *o)
{
	uint64_t n = 0;
	for (unsigned b = 0; b < BLOCKS; b++)
		n += o->mapped[b];
	return n * BLOCK;
}

static uint64_t promised_bytes(const struct object *o)
{
	uint64_t n = 0;
	for (unsigned b = 0; b < BLOCKS; b++)
		n += o->promised[b] && !o->mapped[b];
	return n * BLOCK;
}

static void do_bytes(struct model *m)
{
	struct object *o = pick_object(m);
	uint64_t got = 0, extents = 0, want = mapped_bytes(o) + promised_bytes(o);
	expect(m, vol_object_bytes(m->v, o->number, &got, &extents), "vol_object_bytes");
	if (got != want)
		fail(m, "vol_object_bytes of %llu: %llu, should be %llu",
		     (unsigned long long)o->number, (unsigned long long)got,
		     (unsigned long long)want);
}

static void do_commit(struct model *m)
{
	struct vol_info info;
	uint64_t want = 0, promised = 0;
	expect(m, pool_commit(m->rig.pool), "pool_commit");
	vol_info_get(m->v, &info);
	for (unsigned i = 0; i < OBJECTS; i++) {
		want += mapped_bytes(&m->obj[i]);
		promised += promised_bytes(&m->obj[i]);
	}
	if (info.reserved_bytes != promised)
		fail(m, "vol_info: %llu reserved, should be %llu",
		     (unsigned long long)info.reserved_bytes, (unsigned long long)promised);
	if (info.logical_bytes != want || info.delta_bytes)
		fail(m, "vol_info: logical %llu, dirty %llu; should be %llu and nothing",
		     (unsigned long long)info.logical_bytes, (unsigned long long)info.delta_bytes,
		     (unsigned long long)want);
}

/* Whatever is dirty or being flushed. */
static void do_held(struct model *m)
{
	struct pool *p = m->rig.pool;
	uint64_t want = 0, least, most, most_then;
	for (unsigned i = 0; i < OBJECTS; i++)
		want += mapped_bytes(&m->obj[i]) + promised_bytes(&m->obj[i]);
	lock_take(&p->lock);
	least = vol_held_least(m->v);
	most = vol_held_most(m->v);
	int rc = vol_held_count(m->v);
	most_then = vol_held_most(m->v);
	lock_drop(&p->lock);
	if (least * BLOCK > want || most * BLOCK < want || (!rc && most_then * BLOCK != want))
		fail(m, "holds %llu to %llu blocks, then %llu (%d); should be %llu",
		     (unsigned long long)least, (unsigned long long)most,
		     (unsigned long long)most_then, rc, (unsigned long long)want / BLOCK);
}

/* ---- items ---- */

static struct key key_of(const struct model *m, unsigned i)
{
	return (struct key){m->items_base + i / 16, (uint8_t)(1 + i % 16 / 8), i % 8 * 1000};
}

struct step {
	struct model *m;
	unsigned i, n;
	uint64_t seed;
	struct key found;
	int rc;
	bool ge;
};

static uint16_t value_make(uint64_t seed, unsigned i, uint8_t *out)
{
	struct sim_rng g = rng_of(seed, i);
	uint16_t len = (uint16_t)rng_below(&g, rng_chance(&g, 1, 12) ? VALUE_MAX + 1 : 200);
	for (uint16_t k = 0; k < len; k++)
		out[k] = (uint8_t)rng_next(&g);
	return len;
}

static int query_fn(struct vol *v, void *arg)
{
	struct step *s = arg;
	struct item *want = &s->m->item[s->i];
	struct btree_item it;
	int rc = vol_get(v, key_of(s->m, s->i), &it);
	if (rc == ERR_NEED_NODE)
		return rc;
	if (want->there ? rc || it.len != want->len || memcmp(it.value, want->value, it.len)
			: rc != -ENOENT)
		fail(s->m, "item %u: %d, should%s be there", s->i, rc, want->there ? "" : " not");
	return 0;
}

static int seek_fn(struct vol *v, void *arg)
{
	struct step *s = arg;
	struct btree_item it;
	struct key k = key_of(s->m, s->i);
	s->rc = s->ge ? vol_seek_ge(v, k, &it) : vol_seek_le(v, k, &it);
	if (s->rc == ERR_NEED_NODE)
		return s->rc;
	if (!s->rc)
		s->found = it.key;
	return 0;
}

/* Change items i .. i+n-1 by one seed: put or delete each. */
static bool is_put(uint64_t seed, unsigned i)
{
	struct sim_rng g = rng_of(seed, 1000 + i);
	return rng_chance(&g, 2, 3);
}

static int change_fn(struct vol *v, void *arg)
{
	static uint8_t value[VALUE_MAX + 1];
	struct step *s = arg;
	for (unsigned i = s->i; i < s->i + s->n; i++) {
		int rc = vol_prepare(v, key_of(s->m, i));
		if (rc)
			return rc;
	}
	for (unsigned i = s->i; i < s->i + s->n; i++) {
		struct key k = key_of(s->m, i);
		int rc = 0;
		if (is_put(s->seed, i)) {
			uint16_t len = value_make(s->seed, i, value);
			rc = vol_put(v, k, value, len);
		} else if (s->m->item[i].there) {
			rc = vol_del(v, k);
		}
		if (rc)
			return rc;
	}
	return 0;
}

static void change_model(struct model *m, const struct step *s)
{
	for (unsigned i = s->i; i < s->i + s->n; i++) {
		struct item *it = &m->item[i];
		it->there = is_put(s->seed, i);
		if (it->there)
			it->len = value_make(s->seed, i, it->value);
	}
}

static struct step pick_step(struct model *m)
{
	struct step s = {.m = m, .seed = rng_next(&m->rng)};
	s.n = 1 + (unsigned)rng_below(&m->rng, 6);
	s.i = (unsigned)rng_below(&m->rng, KEYS - s.n);
	return s;
}

static void do_change(struct model *m)
{
	struct step s = pick_step(m);
	expect(m, vol_change(m->v, false, change_fn, &s), "vol_change");
	change_model(m, &s);
}

static void do_write_items(struct model *m)
{
	struct object *o = pick_object(m);
	struct step s = pick_step(m);
	uint64_t off, len;
	pick_range(m, &off, &len);
	fill(m, len);
	expect(m, vol_write(m->v, o->number, o->base + off, len, m->buf, change_fn, &s),
	       "vol_write with items");
	memcpy(o->data + off, m->buf, len);
	map(o, off, len, true);
	change_model(m, &s);
}

static int refuse_fn(struct vol *v, void *arg)
{
	(void)v;
	(void)arg;
	return -EPERM;
}

/* A change function that refuses: nothing may be written. */
static void do_refused(struct model *m)
{
	struct object *o = pick_object(m);
	uint64_t off, len;
	pick_range(m, &off, &len);
	fill(m, len);
	int rc = vol_write(m->v, o->number, o->base + off, len, m->buf, refuse_fn, NULL);
	if (rc != -EPERM)
		fail(m, "vol_write with a refusing function: %d", rc);
	compare(m, o, off, len);
}

static void do_query(struct model *m)
{
	struct step s = pick_step(m);
	expect(m, vol_query(m->v, query_fn, &s), "vol_query");
}

static void do_seek_item(struct model *m)
{
	struct step s = pick_step(m);
	s.ge = rng_chance(&m->rng, 1, 2);
	int i = (int)s.i;
	while (i >= 0 && i < (int)KEYS && !m->item[i].there)
		i += s.ge ? 1 : -1;
	bool any = i >= 0 && i < (int)KEYS;
	expect(m, vol_query(m->v, seek_fn, &s), "vol_query");
	/* Outside the items lies data of the objects: not the model's business. */
	bool ours = !s.rc && s.found.object >= m->items_base && s.found.type < VOL_KEY_EXTENT;
	if (any ? !ours || key_cmp(s.found, key_of(m, (unsigned)i)) : ours)
		fail(m, "vol_seek_%s from item %u: %d, should be item %d", s.ge ? "ge" : "le", s.i,
		     s.rc, any ? i : -1);
}

/* ---- the run ---- */

static void compare_all(struct model *m)
{
	for (unsigned i = 0; i < OBJECTS; i++)
		for (uint64_t off = 0; off < (uint64_t)BLOCKS * BLOCK; off += BLOCK * 64)
			compare(m, &m->obj[i], off, BLOCK * 64);
	for (unsigned i = 0; i < KEYS; i++) {
		struct step s = {.m = m, .i = i};
		expect(m, vol_query(m->v, query_fn, &s), "vol_query");
	}
}

static void one_op(struct model *m)
{
	static void (*const ops[])(struct model *) = {
		do_write,     do_write,	    do_write,	    do_write,	do_write,   do_read,
		do_read,      do_read,	    do_punch,	    do_punch,	do_seek,    do_seek,
		do_bytes,     do_change,    do_change,	    do_change,	do_query,   do_query,
		do_seek_item, do_seek_item, do_write_items, do_refused, do_reserve, do_clone,
		do_clone,     do_clone,	    do_held,	    do_held,	do_held,
	};
	if (rng_chance(&m->rng, 1, 100))
		do_commit(m);
	else if (rng_chance(&m->rng, 1, 100))
		expect(m, vol_sync(m->v), "vol_sync");
	else if (rng_chance(&m->rng, 1, 600))
		reopen(m);
	else
		ops[rng_below(&m->rng, sizeof(ops) / sizeof(ops[0]))](m);
	if (rng_chance(&m->rng, 1, 10))
		co_sleep_ns(rng_skewed(&m->rng, 20 * SIM_MS));
}

static void run(void *arg)
{
	struct model *m = arg;
	set_up(m);
	for (m->op = 0; m->op < m->ops; m->op++)
		one_op(m);
	compare_all(m);
	reopen(m);
	compare_all(m);
}

static void model_init(struct model *m, uint64_t seed, uint64_t ops)
{
	memset(m, 0, sizeof(*m));
	m->seed = seed;
	m->ops = ops;
	m->rng = rng_of(seed, 5);
	m->opt.type = VOL_TYPE_FS;
	m->opt.copies = (uint8_t)(1 + seed % 3);
	m->opt.compression = seed % 4 ? VOL_COMPRESS_LZ4 : VOL_COMPRESS_OFF;
	rig_init(&m->rig, seed, m->opt.copies, 64 << 20);
	m->rig.opt.cache_bytes = 512 << 10;
	m->items_base = rng_chance(&m->rng, 1, 2) ? 5000 : VOL_OBJECT_FIRST + 100;
	for (unsigned i = 0; i < OBJECTS; i++) {
		m->obj[i].number = VOL_OBJECT_FIRST + i * 7;
		m->obj[i].base = i == 2 ? (1ull << 50) - BLOCK * 100 : 0;
		m->obj[i].data = calloc(BLOCKS, BLOCK);
		m->obj[i].mapped = calloc(BLOCKS, sizeof(bool));
		m->obj[i].promised = calloc(BLOCKS, sizeof(bool));
		if (!m->obj[i].data || !m->obj[i].mapped || !m->obj[i].promised)
			abort();
	}
	for (unsigned i = 0; i < KEYS; i++)
		if (!(m->item[i].value = malloc(VALUE_MAX + 1)))
			abort();
}

static void model_fini(struct model *m)
{
	rig_fini(&m->rig);
	for (unsigned i = 0; i < OBJECTS; i++) {
		free(m->obj[i].data);
		free(m->obj[i].mapped);
		free(m->obj[i].promised);
	}
	for (unsigned i = 0; i < KEYS; i++)
		free(m->item[i].value);
}

int main(int argc, char **argv)
{
	bool is_long = getenv("TARN_LONG") != NULL;
	uint64_t first = 1, last = is_long ? 400 : 24, ops = is_long ? 20000 : 2500;
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
