/* cases: single situations on the simulated machine, one function each; no chance.
 *
 * Each was a defect that a random history met too seldom, or not at all.
 */
#define ALLOC_HOOK_OFF
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "pool/sb.h"
#include "tests/fault/alloc_hook.h"
#include "tests/sim/cases.h"
#include "tests/sim/tally.h"

const char *case_now;

/* ---- memory ---- */

static uint64_t fail_from, fail_count, largest; /* fail_from 0: never */

static bool fails(size_t size)
{
	if (size > largest)
		largest = size;
	if (!fail_from || --fail_from)
		return false;
	fail_from = fail_count-- ? 1 : 0;
	return fail_from;
}

void *hook_malloc(size_t size)
{
	return fails(size) ? NULL : malloc(size);
}
void *hook_calloc(size_t n, size_t size)
{
	return fails(n * size) ? NULL : calloc(n, size);
}
void *hook_realloc(void *p, size_t size)
{
	return fails(size) ? NULL : realloc(p, size);
}
void *hook_aligned_alloc(size_t align, size_t size)
{
	return fails(size) ? NULL : aligned_alloc(align, size);
}
int hook_co_spawn(struct reactor *r, co_fn *fn, void *arg)
{
	return fails(0) ? -ENOMEM : co_spawn(r, fn, arg);
}

/* ---- helpers, in a coroutine ---- */

struct vol *case_volume(struct rig *g, const char *name, uint8_t copies)
{
	struct vol_options o = {.type = VOL_TYPE_FS, .copies = copies};
	struct err e = {0};
	struct vol *v;
	CHECK(!vol_create(g->pool, name, &o, &e));
	CHECK(!vol_open(g->pool, name, &v, &e));
	return v;
}

int case_write(struct vol *v, uint64_t at, unsigned n)
{
	static uint8_t buf[64 * 4096];
	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t)(i * 31 + at);
	return vol_write(v, VOL_OBJECT_FIRST, at * 4096, (uint64_t)n * 4096, buf, NULL, NULL);
}

void case_start(struct rig *g)
{
	struct err e = {0};
	CHECK(!rig_create(g, 1 * MIB, &e));
	CHECK(!rig_import(g, &e));
}

void case_read(struct vol *v, uint64_t at, unsigned n)
{
	static uint8_t got[64 * 4096];
	CHECK(!vol_read(v, VOL_OBJECT_FIRST, at * 4096, (uint64_t)n * 4096, got));
	for (size_t i = 0; i < (size_t)n * 4096; i++)
		CHECK(got[i] == (uint8_t)(i * 31 + at));
}

void case_check(struct rig *g)
{
	uint64_t problems;
	char text[256];
	CHECK(!rig_check(g, &problems, text, sizeof(text)));
	if (problems)
		printf("check: %s\n", text);
	CHECK(!problems);
}

/* ---- cases ---- */

/* A suspended pool is not let go as if all were well. */
static void export_suspended(void *arg)
{
	struct rig *g = arg;
	struct err e = {0};
	case_start(g);
	struct vol *v = case_volume(g, "v", 1);
	CHECK(!case_write(v, 0, 8));
	for (unsigned i = 0; i < g->ndisks; i++)
		sim_disk_kill(g->disk[i], -EIO, false);
	CHECK(pool_commit(g->pool));
	vol_close(v);
	CHECK(pool_export(g->pool, false, &e) == ERR_FAULTED);
	CHECK(!pool_export(g->pool, true, &e));
	g->pool = NULL;
}

/* Short of memory when a flush begins: it is waited out, whichever allocation fails. */
static void flush_without_memory(void *arg)
{
	struct rig *g = arg;
	struct err e = {0};
	case_start(g);
	struct vol *v = case_volume(g, "v", 2);
	for (uint64_t nth = 1; nth <= 12; nth++) {
		CHECK(!case_write(v, nth * 64, 64));
		lock_take(&g->pool->lock);
		g->pool->flush_wanted = true;
		waitq_wake_all(&g->pool->flusher_waiters);
		lock_drop(&g->pool->lock);
		fail_from = nth;
		fail_count = 3;
		while (v->active_blocks || v->flushing_blocks)
			co_sleep_ns(SIM_MS);
		fail_from = 0;
		if (g->pool->faulted)
			printf("allocation %llu: %s\n", (unsigned long long)nth,
			       g->pool->events[(g->pool->event_seq - 1) % EVENTS_KEPT].text);
		CHECK(!g->pool->faulted);
		CHECK(!pool_commit(g->pool));
	}
	vol_close(v);
	CHECK(!rig_export(g, &e));
}

void case_superblocks(struct rig *g, unsigned disk, case_sb_fn *change, void *arg)
{
	uint8_t *buf = aligned_alloc(4096, SB_SIZE);
	struct sb_disk *sb = (struct sb_disk *)(void *)buf;
	uint64_t end = sim_disk_blocks(g->disk[disk]) - SB_RING_BYTES / 4096;
	CHECK(buf);
	for (unsigned i = 0; i < 2 * SB_RING_SLOTS; i++) {
		uint64_t at = (i < SB_RING_SLOTS ? 0 : end) + i % SB_RING_SLOTS * (SB_SIZE / 4096);
		bool there = true;
		int rc;
		for (unsigned b = 0; b < SB_SIZE / 4096; b++) {
			const uint8_t *d = sim_disk_peek(g->disk[disk], at + b);
			there &= d != NULL;
			if (d)
				memcpy(buf + b * 4096, d, 4096);
		}
		rc = there ? sb_validate(sb, NULL) : ERR_MAGIC;
		if (rc && rc != ERR_VERSION)
			continue;
		if (change(sb, arg))
			sb_seal(sb, le32_get(sb->own_dev));
		for (unsigned b = 0; b < SB_SIZE / 4096; b++)
			sim_disk_poke(g->disk[disk], at + b, buf + b * 4096);
	}
	free(buf);
}

struct sizes { /* 0: as it is */
	uint64_t bytes;
	uint32_t chunk_blocks;
};

static bool set_sizes(struct sb_disk *sb, void *arg)
{
	const struct sizes *z = arg;
	for (unsigned d = 0; z->bytes && d < le32_get(sb->devs_count); d++)
		sb->devs[d].size_bytes = le64_of(z->bytes);
	if (z->chunk_blocks)
		sb->chunk_blocks = le32_of(z->chunk_blocks);
	return true;
}

static void seal_sizes(struct rig *g, unsigned disk, uint64_t bytes, uint32_t chunk_blocks)
{
	struct sizes z = {bytes, chunk_blocks};
	case_superblocks(g, disk, set_sizes, &z);
}

/* A superblock that claims a device of petabytes costs an error, not the memory. */
static void wild_size(void *arg)
{
	struct rig *g = arg;
	struct err e = {0};
	case_start(g);
	CHECK(!rig_export(g, &e));
	for (unsigned i = 0; i < g->ndisks; i++)
		seal_sizes(g, i, 16ull << 40, 0);
	largest = 0;
	CHECK(rig_import(g, &e) == ERR_FORMAT);
	CHECK(strstr(e.text, "smaller"));
	CHECK(largest <= g->opt.delta_bytes + MIB);
}

/* A superblock that claims chunks larger than there are (tables are made for those) is none. */
static void wild_chunks(void *arg)
{
	struct rig *g = arg;
	struct err e = {0};
	case_start(g);
	CHECK(!rig_export(g, &e));
	for (unsigned i = 0; i < g->ndisks; i++)
		seal_sizes(g, i, 0, 2 * SB_CHUNK_BLOCKS_MAX);
	CHECK(rig_import(g, &e) == ERR_FORMAT);
	CHECK(strstr(e.text, "chunk size"));
}

#define SPREAD 40u /* chunks, over a wider range of ids than a pool of this size comes to */

/* Wherever memory is short, a chunk map that is read in parts is read whole or refused. */
static void map_in_parts(void *arg)
{
	struct rig *g = arg;
	struct err e = {0};
	case_start(g);
	struct vol *v = case_volume(g, "v", 1);
	for (uint64_t i = 0; i < SPREAD; i++) {
		for (uint64_t k = 0; k < 256; k += 64)
			CHECK(!case_write(v, i * 257 + k, 64));
		CHECK(!pool_commit(g->pool));
		g->pool->next_chunk_id += 1999;
	}
	vol_close(v);
	CHECK(!rig_export(g, &e));
	for (uint64_t nth = 0;; nth++) {
		fail_from = nth;
		fail_count = 2;
		int rc = rig_import(g, &e);
		bool all = nth && fail_count == 2; /* none failed */
		fail_from = 0;
		if (rc) {
			CHECK(nth && (rc == -ENOMEM || rc == ERR_FAULTED));
			continue;
		}
		CHECK(g->pool->chunk_count > SPREAD && !tally_check(g->pool));
		CHECK(!vol_open(g->pool, "v", &v, &e));
		for (uint64_t i = 0; i < SPREAD; i++)
			case_read(v, i * 257, 64);
		vol_close(v);
		CHECK(!rig_export(g, &e));
		if (all)
			return;
	}
}

/* The use of a pool with a device missing stays within its size. */
static void full_degraded(void *arg)
{
	struct rig *g = arg;
	struct pool_status *st = calloc(1, sizeof(*st));
	struct err e = {0};
	CHECK(st);
	case_start(g);
	struct vol *v = case_volume(g, "v", 2);
	CHECK(!pool_dev_offline(g->pool, 0, &e)); /* the small one */
	for (uint64_t at = 0; !case_write(v, at, 64); at += 64)
		continue;
	pool_status_get(g->pool, st);
	CHECK(st->raw_used_bytes + st->raw_free_bytes <= st->raw_bytes);
	vol_close(v);
	free(st);
	CHECK(!rig_export(g, &e));
}

static void wait_converted(const struct vol *v)
{
	for (unsigned i = 0; v->converting; i++) {
		CHECK(i < 60000);
		co_sleep_ns(SIM_MS);
	}
}

/* A policy set again, whenever that is while the volume follows the one before: it says that it is
 * converting until all data is where the last one wants it. */
static void policy_twice(void *arg)
{
	struct rig *g = arg;
	struct err e = {0};
	case_start(g);
	struct vol *v = case_volume(g, "v", 1);
	CHECK(!case_write(v, 0, 64));
	for (unsigned i = 0; i < g->ndisks; i++)
		sim_disk_traits(g->disk[i])->latency_ns = 4 * SIM_MS;
	for (uint64_t ns = 0; ns < 800 * SIM_MS; ns += 10 * SIM_MS) {
		struct vol_compliance r;
		CHECK(!vol_set_copies(g->pool, "v", 2, &e));
		co_sleep_ns(ns);
		CHECK(!vol_set_copies(g->pool, "v", 1, &e));
		wait_converted(v);
		CHECK(!pool_commit(g->pool));
		CHECK(!vol_compliance_get(v, &r));
		CHECK(!r.other_policy_bytes && r.compliant_bytes == 64 * 4096);
	}
	vol_close(v);
	CHECK(!rig_export(g, &e));
}

static bool is_taken(const struct rig *g, unsigned dev)
{
	const struct dev *d = &g->pool->devs[dev];
	return d->state == DEV_NONE || d->flags & DEV_F_TAKEN;
}

/* For how long a device is lost counts over a restart, also when nothing else happens. */
static void loss_before_cut(void *arg)
{
	struct rig *g = arg;
	struct err e = {0};
	case_start(g);
	CHECK(!pool_dev_make_spare(g->pool, 3, &e));
	CHECK(!pool_set_spare_after(g->pool, 600));
	sim_disk_kill(g->disk[0], -EIO, false);
	CHECK(!pool_commit(g->pool));
	CHECK(g->pool->devs[0].state == DEV_FAULTED);
	co_sleep_ns(400 * SIM_SEC);
	CHECK(!is_taken(g, 0));
}

static void loss_after_cut(void *arg)
{
	struct rig *g = arg;
	struct err e = {0};
	CHECK(!rig_import(g, &e));
	CHECK(g->pool->devs[0].state == DEV_MISSING);
	co_sleep_ns(190 * SIM_SEC);
	CHECK(!is_taken(g, 0));
	co_sleep_ns(20 * SIM_SEC);
	CHECK(is_taken(g, 0));
	CHECK(!rig_export(g, &e));
}

/* What was reserved for a range is still there after a write that was larger and found no room. */
static void reserved_stays(void *arg)
{
	struct rig *g = arg;
	struct err e = {0};
	case_start(g);
	struct vol *v = case_volume(g, "v", 2), *w = case_volume(g, "w", 2);
	CHECK(!vol_reserve(v, VOL_OBJECT_FIRST, 0, 32 * 4096, NULL, NULL));
	for (unsigned n = 64; n; n /= 8)
		for (uint64_t at = n * 100000; !case_write(w, at, n); at += n)
			continue;
	CHECK(case_write(v, 0, 64) == -ENOSPC);
	for (unsigned at = 0; at < 64 && !case_write(w, 300000 + at, 1); at++)
		continue; /* what that has given to everybody, if anything */
	CHECK(!case_write(v, 0, 32));
	vol_close(v);
	vol_close(w);
	CHECK(!rig_export(g, &e));
}

static bool is_there(const struct rig *g, uint64_t id)
{
	for (struct vol *v = g->pool->vols; v; v = v->next)
		if (v->id == id)
			return true;
	return false;
}

/* Short of memory when the space of a destroyed volume is to come back: later it does. */
static void reap_without_memory(void *arg)
{
	struct rig *g = arg;
	struct err e = {0};
	case_start(g);
	for (uint64_t nth = 1; nth <= 8; nth++) {
		struct vol *v = case_volume(g, "v", 2);
		uint64_t id = v->id;
		for (unsigned i = 0; i < 400; i++)
			CHECK(!case_write(v, i * 3, 1));
		vol_close(v);
		CHECK(!rig_export(g, &e) && !rig_import(g, &e)); /* nothing is in memory */
		CHECK(!vol_destroy(g->pool, "v", &e));
		fail_from = nth;
		fail_count = 3;
		for (unsigned i = 0; is_there(g, id); i++) {
			CHECK(i < 60000);
			co_sleep_ns(SIM_MS);
		}
		fail_from = 0;
		CHECK(!g->pool->faulted);
	}
	CHECK(!rig_export(g, &e));
}

static const struct one {
	const char *name;
	co_fn *fn, *after_cut;
	unsigned disks;
	uint64_t bytes[2]; /* of the first, of the others */
} cases[] = {
	{"export-suspended", export_suspended, NULL, 2, {32 * MIB, 32 * MIB}},
	{"flush-without-memory", flush_without_memory, NULL, 2, {32 * MIB, 32 * MIB}},
	{"wild-size", wild_size, NULL, 2, {32 * MIB, 32 * MIB}},
	{"wild-chunks", wild_chunks, NULL, 2, {1024 * MIB, 1024 * MIB}},
	{"map-in-parts", map_in_parts, NULL, 2, {64 * MIB, 64 * MIB}},
	{"full-degraded", full_degraded, NULL, 2, {16 * MIB, 64 * MIB}},
	{"policy-twice", policy_twice, NULL, 2, {32 * MIB, 32 * MIB}},
	{"loss-over-restart", loss_before_cut, loss_after_cut, 4, {32 * MIB, 32 * MIB}},
	{"reserved-stays", reserved_stays, NULL, 2, {32 * MIB, 32 * MIB}},
	{"heartbeats", case_heartbeats, NULL, 3, {32 * MIB, 32 * MIB}},
	{"reap-without-memory", reap_without_memory, NULL, 2, {32 * MIB, 32 * MIB}},
	{"two-lives", case_two_lives, NULL, 2, {32 * MIB, 32 * MIB}},
	{"walk-destroyed", case_walk_destroyed, NULL, 2, {32 * MIB, 32 * MIB}},
	{"walk-snapshots", case_walk_snapshots, NULL, 2, {32 * MIB, 32 * MIB}},
	{"full-snapshots", case_full_snapshots, NULL, 2, {72 * MIB, 72 * MIB}},
	{"dead-list-ends", case_dead_list_ends, NULL, 2, {64 * MIB, 64 * MIB}},
	{"feature-everywhere", case_feature_everywhere, NULL, 2, {32 * MIB, 32 * MIB}},
	{"feature-unknown", case_feature_unknown, NULL, 2, {32 * MIB, 32 * MIB}},
	{"quota-exact", case_quota_exact, NULL, 1, {256 * MIB, 256 * MIB}},
	{"remove-and-fail", case_remove_and_fail, NULL, 5, {64 * MIB, 64 * MIB}},
	{"squeeze-full", case_squeeze_full, NULL, 3, {64 * MIB, 64 * MIB}},
	{"convert-full", case_convert_full, NULL, 2, {32 * MIB, 32 * MIB}},
	{"commit-under-load", case_commit_under_load, NULL, 2, {2048 * MIB, 2048 * MIB}},
	{"newer-format", case_newer_format, NULL, 2, {32 * MIB, 32 * MIB}},
	{"damage-write", case_damage_write, NULL, 2, {32 * MIB, 32 * MIB}},
	{"damage-replay",
	 case_damage_replay_before,
	 case_damage_replay_after,
	 2,
	 {32 * MIB, 32 * MIB}},
	{"damage-destroy", case_damage_destroy, NULL, 2, {32 * MIB, 32 * MIB}},

	{"damage-resync", case_damage_resync, NULL, 2, {32 * MIB, 32 * MIB}},
	{"damage-mover", case_damage_mover, NULL, 3, {32 * MIB, 32 * MIB}},
	{"damage-scrub", case_damage_scrub, NULL, 2, {32 * MIB, 32 * MIB}},
};

const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}

int main(void)
{
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct rig g;
		case_now = cases[i].name;
		rig_init(&g, i + 1, cases[i].disks, cases[i].bytes[1]);
		sim_disk_resize(g.disk[0], cases[i].bytes[0]);
		rig_run(&g, cases[i].fn, &g, case_now);
		if (cases[i].after_cut) {
			rig_cut(&g, SIM_CUT_KEEP_ALL);
			rig_run(&g, cases[i].after_cut, &g, case_now);
		}
		rig_fini(&g);
		printf("%s: ok\n", case_now);
	}
	case_superblock_alone();
	return 0;
}
