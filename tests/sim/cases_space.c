/* cases_space: commits and room: what must not starve, and who waits instead of failing. */
#include <errno.h>
#include "tests/sim/cases.h"

/* ---- a commit beside a writer that never rests ---- */

struct busy {
	struct vol *v;
	uint64_t until_ns, next;
	unsigned running;
};

static void write_always(void *arg)
{
	struct busy *b = arg;
	while (reactor_now_ns() < b->until_ns)
		CHECK(!case_write(b->v, b->next++ % 256 * 64, 64));
	b->running--;
}

void case_commit_under_load(void *arg)
{
	struct rig *g = arg;
	struct err e = {0};
	g->opt.delta_bytes = 32 * MIB; /* more than is written at a time */
	case_start(g);
	struct busy b = {.v = case_volume(g, "v", 2), .until_ns = reactor_now_ns() + 8 * SIM_SEC};
	for (unsigned i = 0; i < g->ndisks; i++)
		sim_disk_traits(g->disk[i])->latency_ns = 60 * SIM_MS;
	sim_reactor_in_order(g->r);
	for (b.running = 0; b.running < 2; b.running++) /* faster than the disks */
		CHECK(!co_spawn(g->r, write_always, &b));
	co_sleep_ns(500 * SIM_MS);
	for (unsigned i = 0; i < 5; i++) {
		uint64_t start = reactor_now_ns();
		CHECK(!pool_commit(g->pool));
		CHECK(reactor_now_ns() - start < 3 * SIM_SEC);
	}
	b.until_ns = 0;
	while (b.running)
		co_sleep_ns(SIM_MS);
	vol_close(b.v);
	CHECK(!rig_export(g, &e));
}

/* ---- a full pool with chunks being emptied ---- */

static unsigned draining(struct pool *p)
{
	unsigned n = 0;
	for (size_t h = 0; h < p->chunk_hash_size; h++)
		for (struct chunk *c = p->chunk_hash[h]; c; c = c->hash_next)
			n += c->draining;
	return n;
}

/* All of the pool; then one block of `of` stays. */
static void fill_sparsely(struct vol *v, unsigned of)
{
	uint64_t n = 0;
	while (!case_write(v, n, 32))
		n += 32;
	for (uint64_t at = 0; at < n; at += of)
		CHECK(!vol_punch(v, VOL_OBJECT_FIRST, (at + 1) * 4096, (of - 1) * 4096, NULL,
				 NULL));
	for (unsigned i = 0; i < 3; i++)
		CHECK(!pool_commit(v->p));
}

static void wait_state(const struct pool *p, unsigned dev, enum dev_state want, uint64_t most_ns)
{
	uint64_t start = reactor_now_ns();
	while (p->devs[dev].state != want) {
		CHECK(reactor_now_ns() - start < most_ns);
		co_sleep_ns(100 * SIM_MS);
	}
}

/* Writers get what chunks withhold that are being emptied; and then that is over: nothing is held
 * up by it, and nobody commits for nothing. */
void case_squeeze_full(void *arg)
{
	struct rig *g = arg;
	struct err e = {0};
	g->opt.delta_bytes = 64 * MIB;
	g->opt.commit_ns = 5 * SIM_SEC;
	case_start(g);
	struct pool *p = g->pool;
	struct vol *v = case_volume(g, "v", 2), *w = case_volume(g, "w", 2);
	fill_sparsely(v, 16);
	for (unsigned i = 0; !draining(p); i++) {
		CHECK(i < 100000);
		co_sleep_ns(SIM_MS);
	}
	for (unsigned n = 64; n; n /= 8)
		for (uint64_t at = n * 100000; !case_write(w, at, n); at += n)
			continue;
	CHECK(!p->lists[CHUNK_DATA][2].stuck_blocks);
	CHECK(!pool_dev_offline(p, 2, &e));
	co_sleep_ns(SIM_SEC);
	CHECK(!pool_dev_online(p, sim_disk_open(g->disk[2]), &e));
	wait_state(p, 2, DEV_ONLINE, 60 * SIM_SEC);
	uint64_t commits = p->commits;
	co_sleep_ns(60 * SIM_SEC);
	CHECK(p->commits - commits < 60);
	vol_close(v);
	vol_close(w);
	CHECK(!rig_export(g, &e));
}

/* A volume that finds no room for more copies waits for some, quietly. */
void case_convert_full(void *arg)
{
	struct rig *g = arg;
	struct err e = {0};
	case_start(g);
	struct pool *p = g->pool;
	struct vol *v = case_volume(g, "v", 1), *w = case_volume(g, "w", 1);
	CHECK(!case_write(v, 0, 64));
	for (unsigned n = 64; n; n /= 8)
		for (uint64_t at = n * 100000; !case_write(w, at, n); at += n)
			continue;
	CHECK(!pool_commit(p) && !pool_commit(p));
	v->copies = 2; /* before the pool was full: what is promised, is not enough */
	v->converting = true;
	co_sleep_ns(60 * SIM_SEC);
	CHECK(v->converting);
	uint64_t commits = p->commits;
	co_sleep_ns(60 * SIM_SEC);
	CHECK(p->commits - commits < 10);
	CHECK(!vol_punch(w, VOL_OBJECT_FIRST, 0, UINT64_MAX, NULL, NULL));
	uint64_t start = reactor_now_ns();
	while (v->converting) {
		CHECK(reactor_now_ns() - start < 10 * SIM_SEC);
		co_sleep_ns(SIM_MS);
	}
	vol_close(v);
	vol_close(w);
	CHECK(!rig_export(g, &e));
}

/* ---- a device leaves a pool that was full once, another one fails ---- */

static void remove_and_fail(struct rig *g, unsigned of, uint64_t fails_after_ns)
{
	struct pool_move_plan plan;
	struct err e = {0};
	case_start(g);
	struct pool *p = g->pool;
	struct vol *v = case_volume(g, "v", 2), *w = case_volume(g, "w", 2);
	fill_sparsely(v, of);
	uint64_t fails_ns = reactor_now_ns() + fails_after_ns, n = 0;
	CHECK(!pool_dev_remove(p, 4, false, &plan, &e));
	for (; p->devs[4].state != DEV_NONE; n++) {
		CHECK(!case_write(w, n * 7 % 1009, 1 + (unsigned)(n % 3)));
		if (p->devs[1].state == DEV_ONLINE && reactor_now_ns() >= fails_ns)
			sim_disk_kill(g->disk[1], -EIO, false);
		CHECK(n < 100000);
		co_sleep_ns(5 * SIM_MS);
	}
	vol_close(v);
	vol_close(w);
	CHECK(!rig_export(g, &e));
}

/* The other one takes slots with it that nodes may need: writers wait for those of chunks that hold
 * little. Most of the pool is free. */
void case_remove_and_fail(void *arg)
{
	struct rig *g = arg;
	for (uint64_t ns = 0; ns <= SIM_SEC; ns += 500 * SIM_MS) {
		remove_and_fail(g, 8, ns);
		sim_disk_revive(g->disk[1]);
	}
}

/* ---- what a volume holds ---- */

static void overwrite_always(void *arg)
{
	struct busy *b = arg;
	while (reactor_now_ns() < b->until_ns) {
		CHECK(!case_write(b->v, b->next++ % 64 * 64, 64)); /* 16 MiB, again and again */
		co_sleep_ns(SIM_MS / 4);
	}
	b->running--;
}

/* Beside somebody who overwrites: the quota is met neither early nor late, and what the volume is
 * said to hold is right, whatever is dirty or being flushed. */
void case_quota_exact(void *arg)
{
	struct rig *g = arg;
	struct err e = {0};
	struct vol_info i;
	g->opt.delta_bytes = 64 * MIB;
	g->opt.cache_bytes = 8 * MIB;
	g->opt.commit_ns = 5 * SIM_SEC;
	case_start(g);
	struct busy b = {.v = case_volume(g, "v", 1), .running = 1};
	CHECK(!vol_resize(g->pool, "v", 20 * MIB, true, &e));
	for (uint64_t n = 0; n < 64; n++)
		CHECK(!case_write(b.v, n * 64, 64));
	sim_disk_traits(g->disk[0])->latency_ns = 20 * SIM_MS;
	b.until_ns = reactor_now_ns() + 3 * SIM_SEC;
	CHECK(!co_spawn(g->r, overwrite_always, &b));
	for (uint64_t n = 64; n < 80; n++) {
		co_sleep_ns(100 * SIM_MS);
		vol_info_get(b.v, &i);
		CHECK(i.logical_bytes == n * 64 * 4096);
		CHECK(!case_write(b.v, n * 64, 64));
	}
	CHECK(case_write(b.v, 80 * 64, 1) == -ENOSPC);
	while (b.running)
		co_sleep_ns(SIM_MS);
	vol_close(b.v);
	CHECK(!rig_export(g, &e));
}
