#include "tests/unit/fake_vol.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include "base/co.h"
#include "base/lock.h"
#include "base/reactor.h"

#define VOLS_MAX     16
#define PREPARED_MAX 256
#define PUNCH_STEP   64 /* blocks per atomic step */
#define CLONE_STEP   (64u << 10)
#define TOTAL_BYTES  (4ull << 30)

struct entry {
	struct key key;
	uint16_t len;
	uint8_t *value;
};
struct block {
	uint64_t index;
	uint8_t *data;
}; /* data NULL: reserved */
struct object {
	uint64_t id;
	struct block *b;
	size_t n, max;
};

struct fake_state {
	struct entry *e;
	size_t n, max;
	struct object *o;
	size_t on, omax;
	uint64_t next_object;
};

struct vol {
	struct pool *pool;
	struct vol_info info;
	struct lock lock;
	struct fake_state s;
	unsigned one_in, rng, fail_after;
	int fail_code;
	uint64_t delay_ns, clock_ns;
	unsigned refs;
	bool used;
	/* one run of a vol_fn */
	bool in_change, said_need;
	unsigned changes, prepared;
	struct key prepared_key[PREPARED_MAX];
	void (*resize_cb)(void *arg, uint64_t size);
	void *resize_arg;
};

struct pool {
	struct lock lock;
	struct vol vol[VOLS_MAX];
};

struct pool *fake_pool_create(void)
{
	struct pool *p = calloc(1, sizeof(*p));

	lock_init(&p->lock);
	return p;
}

static void state_clear(struct fake_state *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->e[i].value);
	for (size_t i = 0; i < s->on; i++) {
		for (size_t k = 0; k < s->o[i].n; k++)
			free(s->o[i].b[k].data);
		free(s->o[i].b);
	}
	free(s->e);
	free(s->o);
	*s = (struct fake_state){.next_object = s->next_object};
}

void fake_pool_destroy(struct pool *p)
{
	for (unsigned i = 0; i < VOLS_MAX; i++)
		if (p->vol[i].used) {
			assert(!p->vol[i].refs);
			state_clear(&p->vol[i].s);
			lock_fini(&p->vol[i].lock);
		}
	lock_fini(&p->lock);
	free(p);
}

void fake_vol_need_node(struct vol *v, unsigned one_in, unsigned seed)
{
	v->one_in = one_in;
	v->rng = seed * 2654435761u + 1;
}
void fake_vol_delay(struct vol *v, uint64_t ns)
{
	v->delay_ns = ns;
}
void fake_vol_fail_after(struct vol *v, unsigned n, int code)
{
	v->fail_after = n;
	v->fail_code = code;
}

static unsigned rnd(struct vol *v)
{
	v->rng = v->rng * 1664525u + 1013904223u;
	return v->rng >> 8;
}

static bool need(struct vol *v)
{
	lock_assert_held(&v->lock);
	assert(!v->said_need); /* must be passed on at once */
	if (!v->one_in || v->changes || rnd(v) % v->one_in)
		return false;
	v->said_need = true;
	return true;
}

/* ---- items ---- */

static size_t find(const struct fake_state *s, struct key k)
{
	size_t lo = 0, hi = s->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (key_cmp(s->e[mid].key, k) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static int give(const struct fake_state *s, size_t i, struct btree_item *ret)
{
	if (i >= s->n)
		return -ENOENT;
	*ret = (struct btree_item){s->e[i].key, s->e[i].value, s->e[i].len};
	return 0;
}

int vol_get(struct vol *v, struct key k, struct btree_item *ret)
{
	size_t i = find(&v->s, k);

	if (need(v))
		return ERR_NEED_NODE;
	return i < v->s.n && !key_cmp(v->s.e[i].key, k) ? give(&v->s, i, ret) : -ENOENT;
}

int vol_seek_ge(struct vol *v, struct key k, struct btree_item *ret)
{
	if (need(v))
		return ERR_NEED_NODE;
	return give(&v->s, find(&v->s, k), ret);
}

int vol_seek_le(struct vol *v, struct key k, struct btree_item *ret)
{
	size_t i = find(&v->s, k);

	if (need(v))
		return ERR_NEED_NODE;
	if (i < v->s.n && !key_cmp(v->s.e[i].key, k))
		return give(&v->s, i, ret);
	return i ? give(&v->s, i - 1, ret) : -ENOENT;
}

int vol_prepare(struct vol *v, struct key k)
{
	if (need(v))
		return ERR_NEED_NODE;
	assert(v->in_change && !v->changes && v->prepared < PREPARED_MAX);
	v->prepared_key[v->prepared++] = k;
	return 0;
}

static void check_prepared(struct vol *v, struct key k)
{
	unsigned i = 0;

	lock_assert_held(&v->lock);
	assert(v->in_change && !v->said_need);
	while (i < v->prepared && key_cmp(v->prepared_key[i], k))
		i++;
	assert(i < v->prepared);
	v->changes++;
}

static void put(struct fake_state *s, struct key k, const void *value, uint16_t len)
{
	size_t i = find(s, k);

	if (i < s->n && !key_cmp(s->e[i].key, k)) {
		free(s->e[i].value);
	} else {
		if (s->n == s->max) {
			s->max = s->max ? s->max * 2 : 64;
			s->e = realloc(s->e, s->max * sizeof(*s->e));
		}
		memmove(s->e + i + 1, s->e + i, (s->n - i) * sizeof(*s->e));
		s->n++;
	}
	s->e[i] = (struct entry){k, len, malloc(len ? len : 1)};
	memcpy(s->e[i].value, value, len);
}

int vol_put(struct vol *v, struct key k, const void *value, uint16_t len)
{
	assert(len <= NODE_VALUE_MAX && k.type < VOL_KEY_EXTENT);
	check_prepared(v, k);
	put(&v->s, k, value, len);
	return 0;
}

void fake_vol_put_raw(struct vol *v, struct key k, const void *value, uint16_t len)
{
	put(&v->s, k, value, len);
}

int vol_del(struct vol *v, struct key k)
{
	struct fake_state *s = &v->s;
	size_t i = find(s, k);

	check_prepared(v, k);
	if (i >= s->n || key_cmp(s->e[i].key, k))
		return -ENOENT;
	free(s->e[i].value);
	memmove(s->e + i, s->e + i + 1, (s->n - i - 1) * sizeof(*s->e));
	s->n--;
	return 0;
}

uint64_t vol_new_object(struct vol *v)
{
	return v->s.next_object++;
}

uint64_t vol_wall_ns(struct vol *v)
{
	struct timespec t;

	if (v->clock_ns)
		return v->clock_ns;
	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Lock held. */
static int run(struct vol *v, bool change, vol_fn *fn, void *arg)
{
	int r;

	do {
		v->in_change = change;
		v->said_need = false;
		v->changes = v->prepared = 0;
		r = fn ? fn(v, arg) : 0;
		assert(!v->said_need || r == ERR_NEED_NODE);
		assert(r != ERR_NEED_NODE || v->said_need);
		assert(!r || !v->changes);
	} while (r == ERR_NEED_NODE);
	v->in_change = false;
	return r;
}

static int fails(struct vol *v)
{
	if (!v->fail_after)
		return 0;
	if (v->fail_after > 1) {
		v->fail_after--;
		return 0;
	}
	return v->fail_code;
}

static void delay(struct vol *v)
{
	if (v->delay_ns && co_self())
		co_sleep_ns(rnd(v) % v->delay_ns);
}

int vol_query(struct vol *v, vol_fn *fn, void *arg)
{
	lock_take(&v->lock);
	int r = run(v, false, fn, arg);
	lock_drop(&v->lock);
	return r;
}

int vol_change(struct vol *v, bool never_full, vol_fn *fn, void *arg)
{
	int r;

	(void)never_full;
	delay(v);
	lock_take(&v->lock);
	r = fails(v);
	if (!r)
		r = run(v, true, fn, arg);
	lock_drop(&v->lock);
	return r;
}

/* ---- data ---- */

static struct object *object(struct fake_state *s, uint64_t id, bool make)
{
	size_t lo = 0, hi = s->on;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (s->o[mid].id < id)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo < s->on && s->o[lo].id == id)
		return &s->o[lo];
	if (!make)
		return NULL;
	if (s->on == s->omax) {
		s->omax = s->omax ? s->omax * 2 : 16;
		s->o = realloc(s->o, s->omax * sizeof(*s->o));
	}
	memmove(s->o + lo + 1, s->o + lo, (s->on - lo) * sizeof(*s->o));
	s->on++;
	s->o[lo] = (struct object){.id = id};
	return &s->o[lo];
}

static size_t block_find(const struct object *o, uint64_t index)
{
	size_t lo = 0, hi = o->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (o->b[mid].index < index)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static struct block *block(struct object *o, uint64_t index, bool make)
{
	size_t i = block_find(o, index);

	if (i < o->n && o->b[i].index == index)
		return &o->b[i];
	if (!make)
		return NULL;
	if (o->n == o->max) {
		o->max = o->max ? o->max * 2 : 16;
		o->b = realloc(o->b, o->max * sizeof(*o->b));
	}
	memmove(o->b + i + 1, o->b + i, (o->n - i) * sizeof(*o->b));
	o->n++;
	o->b[i] = (struct block){index, NULL};
	return &o->b[i];
}

int vol_read(struct vol *v, uint64_t id, uint64_t off, uint64_t len, void *buf)
{
	uint8_t *to = buf;

	delay(v);
	lock_take(&v->lock);
	struct object *o = object(&v->s, id, false);

	while (len) {
		uint64_t in = off % BLOCK_SIZE, n = BLOCK_SIZE - in < len ? BLOCK_SIZE - in : len;
		struct block *b = o ? block(o, off / BLOCK_SIZE, false) : NULL;

		if (b && b->data)
			memcpy(to, b->data + in, n);
		else
			memset(to, 0, n);
		to += n;
		off += n;
		len -= n;
	}
	lock_drop(&v->lock);
	return 0;
}

static void write_locked(struct vol *v, uint64_t id, uint64_t off, uint64_t len,
			 const uint8_t *from)
{
	struct object *o = object(&v->s, id, true);

	while (len) {
		uint64_t in = off % BLOCK_SIZE, n = BLOCK_SIZE - in < len ? BLOCK_SIZE - in : len;
		struct block *b = block(o, off / BLOCK_SIZE, true);

		if (!b->data)
			b->data = calloc(1, BLOCK_SIZE);
		memcpy(b->data + in, from, n);
		from += n;
		off += n;
		len -= n;
	}
}

int vol_write(struct vol *v, uint64_t id, uint64_t off, uint64_t len, const void *buf, vol_fn *fn,
	      void *arg)
{
	int r;

	assert(len <= VOL_WRITE_MAX);
	delay(v);
	lock_take(&v->lock);
	r = fails(v);
	if (!r)
		r = run(v, true, fn, arg);
	if (!r)
		write_locked(v, id, off, len, buf);
	lock_drop(&v->lock);
	return r;
}

static void zero_edge(struct object *o, uint64_t from, uint64_t to)
{
	struct block *b = from < to ? block(o, from / BLOCK_SIZE, false) : NULL;

	if (b && b->data)
		memset(b->data + from % BLOCK_SIZE, 0, to - from);
}

int vol_punch(struct vol *v, uint64_t id, uint64_t off, uint64_t len, vol_fn *fn, void *arg)
{
	uint64_t end = off + len, last = end / BLOCK_SIZE;
	uint64_t first = (off + BLOCK_SIZE - 1) / BLOCK_SIZE;
	int r = 0;
	bool done = false;

	assert(end >= off);
	while (!r && !done) {
		delay(v);
		lock_take(&v->lock);
		struct object *o = object(&v->s, id, false);
		size_t lo = o ? block_find(o, first) : 0, hi = o ? block_find(o, last) : 0;
		size_t from;

		if (hi < lo)
			hi = lo;
		done = hi - lo <= PUNCH_STEP;
		from = done ? lo : hi - PUNCH_STEP;
		r = fails(v);
		if (!r && done)
			r = run(v, true, fn, arg);
		if (!r && o) {
			for (size_t i = from; i < hi; i++)
				free(o->b[i].data);
			memmove(o->b + from, o->b + hi, (o->n - hi) * sizeof(*o->b));
			o->n -= hi - from;
		}
		if (!r && o && done && first > last) {
			zero_edge(o, off, end);
		} else if (!r && o && done) {
			zero_edge(o, off, first * BLOCK_SIZE < end ? first * BLOCK_SIZE : end);
			zero_edge(o, last * BLOCK_SIZE > off ? last * BLOCK_SIZE : off, end);
		}
		lock_drop(&v->lock);
	}
	return r;
}

int vol_reserve(struct vol *v, uint64_t id, uint64_t off, uint64_t len, vol_fn *fn, void *arg)
{
	int r;

	if (len > TOTAL_BYTES)
		return -ENOSPC;
	lock_take(&v->lock);
	r = fails(v);
	if (!r)
		r = run(v, true, fn, arg);
	for (uint64_t i = off / BLOCK_SIZE; !r && i <= (off + len - 1) / BLOCK_SIZE; i++)
		block(object(&v->s, id, true), i, true);
	lock_drop(&v->lock);
	return r;
}

/* In steps, so that fn runs several times. */
int vol_clone_range(struct vol *src, uint64_t src_id, uint64_t src_off, struct vol *dst,
		    uint64_t dst_id, uint64_t dst_off, uint64_t len, vol_fn *fn, void *arg,
		    uint64_t *ret_done)
{
	uint8_t *buf = malloc(CLONE_STEP);
	int r = 0;

	*ret_done = 0;
	if (src == dst && src_id == dst_id && src_off < dst_off + len && dst_off < src_off + len)
		r = -EINVAL;
	while (!r && *ret_done < len) {
		uint64_t done = *ret_done, n = len - done < CLONE_STEP ? len - done : CLONE_STEP;

		r = vol_read(src, src_id, src_off + done, n, buf);
		*ret_done = done + n;
		if (!r)
			r = vol_write(dst, dst_id, dst_off + done, n, buf, fn, arg);
		if (r)
			*ret_done = done;
	}
	free(buf);
	return r;
}

int vol_seek_data(struct vol *v, uint64_t id, uint64_t off, uint64_t *ret_off)
{
	int r = -ENXIO;

	lock_take(&v->lock);
	struct object *o = object(&v->s, id, false);

	for (size_t i = o ? block_find(o, off / BLOCK_SIZE) : 0; o && i < o->n && r; i++)
		if (o->b[i].data) {
			uint64_t at = o->b[i].index * BLOCK_SIZE;

			*ret_off = at > off ? at : off;
			r = 0;
		}
	lock_drop(&v->lock);
	return r;
}

int vol_seek_hole(struct vol *v, uint64_t id, uint64_t off, uint64_t *ret_off)
{
	uint64_t i = off / BLOCK_SIZE;

	lock_take(&v->lock);
	struct object *o = object(&v->s, id, false);
	struct block *b;

	while (o && (b = block(o, i, false)) && b->data)
		i++;
	*ret_off = i * BLOCK_SIZE > off ? i * BLOCK_SIZE : off;
	lock_drop(&v->lock);
	return 0;
}

int vol_object_bytes(struct vol *v, uint64_t id, uint64_t *ret_bytes, uint64_t *ret_extents)
{
	*ret_extents = 0;
	lock_take(&v->lock);
	struct object *o = object(&v->s, id, false);

	*ret_bytes = o ? o->n * BLOCK_SIZE : 0;
	lock_drop(&v->lock);
	return 0;
}

int vol_sync(struct vol *v)
{
	delay(v);
	return 0;
}

/* ---- state ---- */

struct fake_state *fake_vol_save(struct vol *v)
{
	struct fake_state *c = calloc(1, sizeof(*c));

	lock_take(&v->lock);
	c->next_object = v->s.next_object;
	for (size_t i = 0; i < v->s.n; i++)
		put(c, v->s.e[i].key, v->s.e[i].value, v->s.e[i].len);
	for (size_t i = 0; i < v->s.on; i++) {
		const struct object *from = &v->s.o[i];
		struct object *o = object(c, from->id, true);

		for (size_t k = 0; k < from->n; k++) {
			struct block *b = block(o, from->b[k].index, true);

			if (from->b[k].data) {
				b->data = malloc(BLOCK_SIZE);
				memcpy(b->data, from->b[k].data, BLOCK_SIZE);
			}
		}
	}
	lock_drop(&v->lock);
	return c;
}

void fake_vol_restore(struct vol *v, const struct fake_state *s)
{
	uint64_t next = v->s.next_object; /* never used twice, over crashes too */
	struct vol tmp = {.s = *s};
	struct fake_state *c;

	lock_init(&tmp.lock);
	c = fake_vol_save(&tmp);
	lock_fini(&tmp.lock);
	state_clear(&v->s);
	v->s = *c;
	v->s.next_object = next;
	free(c);
}

void fake_state_free(struct fake_state *s)
{
	state_clear(s);
	free(s);
}

void fake_vol_items(struct vol *v, fake_item_fn *fn, void *arg)
{
	for (size_t i = 0; i < v->s.n; i++) {
		struct btree_item it = {v->s.e[i].key, v->s.e[i].value, v->s.e[i].len};

		fn(arg, &it);
	}
}

unsigned fake_vol_item_count(struct vol *v)
{
	return (unsigned)v->s.n;
}

unsigned fake_vol_block_count(struct vol *v)
{
	size_t n = 0;

	for (size_t i = 0; i < v->s.on; i++)
		n += v->s.o[i].n;
	return (unsigned)n;
}

/* ---- volumes ---- */

static struct vol *by_name(struct pool *p, const char *name)
{
	for (unsigned i = 0; i < VOLS_MAX; i++)
		if (p->vol[i].used && !strcmp(p->vol[i].info.name, name))
			return &p->vol[i];
	return NULL;
}

int vol_create(struct pool *p, const char *name, const struct vol_options *o, struct err *e)
{
	struct vol *v = NULL;

	if (by_name(p, name))
		return err_set(e, -EEXIST, "exists");
	for (unsigned i = 0; i < VOLS_MAX && !v; i++)
		if (!p->vol[i].used)
			v = &p->vol[i];
	assert(v);
	*v = (struct vol){.pool = p, .used = true, .s.next_object = VOL_OBJECT_FIRST};
	strncpy(v->info.name, name, VOL_NAME_MAX);
	v->info.id = (uint64_t)(v - p->vol) + 1;
	v->info.type = o->type;
	v->info.size_bytes = o->size_bytes;
	v->info.owner_uid = o->owner_uid;
	v->info.created_ns = vol_wall_ns(v);
	lock_init(&v->lock);
	return 0;
}

int vol_destroy(struct pool *p, const char *name, struct err *e)
{
	struct vol *v = by_name(p, name);

	if (!v)
		return err_set(e, -ENOENT, "no such volume");
	if (v->refs)
		return err_set(e, ERR_IN_USE, "in use");
	state_clear(&v->s);
	lock_fini(&v->lock);
	v->used = false;
	return 0;
}

int vol_open(struct pool *p, const char *name, struct vol **ret_v, struct err *e)
{
	struct vol *v;

	lock_take(&p->lock);
	v = by_name(p, name);
	if (v)
		v->refs++;
	lock_drop(&p->lock);
	if (!v)
		return err_set(e, -ENOENT, "no such volume");
	*ret_v = v;
	return 0;
}

void vol_close(struct vol *v)
{
	if (!v)
		return;
	lock_take(&v->pool->lock);
	assert(v->refs);
	v->refs--;
	lock_drop(&v->pool->lock);
}

void vol_info_get(struct vol *v, struct vol_info *ret_i)
{
	uint64_t used = (uint64_t)fake_vol_block_count(v) * BLOCK_SIZE;

	*ret_i = v->info;
	ret_i->used_bytes = ret_i->logical_bytes = used;
	ret_i->available_bytes = used < TOTAL_BYTES ? TOTAL_BYTES - used : 0;
	ret_i->open = v->refs > 0;
}

/* Nobody changes the fake while it is looked at. */
int vol_view_open(struct vol *v, struct vol_view **ret_w)
{
	*ret_w = (struct vol_view *)(void *)v;
	return 0;
}

void vol_view_close(struct vol_view *w)
{
	(void)w;
}

int vol_view_walk(struct vol_view *w, const struct vol_view_ops *ops, void *arg)
{
	struct vol *v = (struct vol *)(void *)w;
	int r = 0;

	for (size_t i = 0; i < v->s.n && !r; i++) {
		const struct entry *e = &v->s.e[i];

		r = ops->item(arg, &(struct btree_item){e->key, e->value, e->len});
	}
	for (size_t i = 0; i < v->s.on && !r; i++) /* a block is an extent */
		for (size_t k = 0; k < v->s.o[i].n && !r; k++) {
			const struct block *b = &v->s.o[i].b[k];
			struct key key = {v->s.o[i].id, VOL_KEY_EXTENT, b->index};
			uint8_t reserved = !b->data;

			r = ops->item(arg, &(struct btree_item){key, &reserved, 1});
		}
	return r;
}

int vol_item_extent(const struct btree_item *it, uint64_t *ret_off, uint64_t *ret_len,
		    bool *ret_reserved)
{
	*ret_off = it->key.offset * BLOCK_SIZE;
	*ret_len = BLOCK_SIZE;
	*ret_reserved = *(const uint8_t *)it->value;
	return 0;
}

int vol_info_find(struct pool *p, const char *name, uint64_t id, struct vol_info *ret_i)
{
	for (unsigned i = 0; i < VOLS_MAX; i++)
		if (p->vol[i].used) {
			vol_info_get(&p->vol[i], ret_i);
			if (name ? !strcmp(name, ret_i->name) : id == ret_i->id)
				return 0;
		}
	return -ENOENT;
}

unsigned vol_list(struct pool *p, struct vol_info *ret_i, unsigned max)
{
	unsigned n = 0;

	for (unsigned i = 0; i < VOLS_MAX; i++)
		if (p->vol[i].used) {
			if (n < max)
				vol_info_get(&p->vol[i], &ret_i[n]);
			n++;
		}
	return n;
}

int vol_resize(struct pool *p, const char *name, uint64_t size, bool allow_shrink, struct err *e)
{
	struct vol *v = by_name(p, name);

	(void)allow_shrink;
	if (!v)
		return err_set(e, -ENOENT, "no such volume");
	v->info.size_bytes = size;
	if (v->resize_cb)
		v->resize_cb(v->resize_arg, size);
	return 0;
}

void vol_on_resize(struct vol *v, void (*cb)(void *arg, uint64_t size_bytes), void *arg)
{
	v->resize_cb = cb;
	v->resize_arg = arg;
}
