/* cases_snap: single situations with snapshots and long walks. */
#include <string.h>
#include "pool/pool_types.h"
#include "pool/sb.h"
#include "pool/txn.h"
#include "pool/vol_types.h"
#include "pool/walk.h"
#include "tests/sim/cases.h"

static int count_node(void *arg, uint64_t tree_id, const struct node_ptr *ptr, uint8_t level)
{
	(void)ptr, (void)level;
	*(unsigned *)arg += tree_id >= TREE_VOLUME_FIRST;
	return 0;
}

static int no_bad(void *arg, uint64_t tree_id, const struct node_ptr *ptr, uint8_t level, int rc)
{
	(void)arg, (void)tree_id, (void)ptr, (void)level;
	return rc;
}

static unsigned nodes_met(struct rig *g, bool live)
{
	const struct walk_ops ops = {NULL, count_node, NULL, no_bad};
	struct pool *p = g->pool;
	unsigned n = 0;
	lock_take(&p->lock);
	struct txn *t = txn_read_begin_committed_locked(p);
	lock_drop(&p->lock);
	CHECK(!(live ? walk_live(p, 0, &ops, &n) : walk_all(p, p->sb, 0, &ops, &n)));
	txn_read_end(p, t);
	return n;
}

/* A destroyed volume whose space was just given back is in the newest commit still: a resync that
 * passed it by called members current that lacked its nodes. */
void case_walk_destroyed(void *arg)
{
	struct rig *g = arg;
	struct err e = {0};
	case_start(g);
	struct vol *v = case_volume(g, "v", 2);
	CHECK(!case_write(v, 0, 64));
	vol_close(v);
	CHECK(!vol_destroy(g->pool, "v", &e));
	uint64_t txn = g->pool->durable_txn;
	while (g->pool->vols)
		co_sleep_ns(SIM_MS);
	CHECK(nodes_met(g, false));
	CHECK(nodes_met(g, true) == nodes_met(g, false));
	CHECK(g->pool->durable_txn == txn);
	CHECK(!rig_export(g, &e));
}

/* What several snapshots show is read once, however many there are. */
void case_walk_snapshots(void *arg)
{
	static const char *const names[] = {"v@1", "v@2", "v@3", "v@4", "v@5"};
	struct rig *g = arg;
	struct err e = {0};
	case_start(g);
	struct vol *v = case_volume(g, "v", 2);
	CHECK(!case_write(v, 0, 64));
	CHECK(!vol_snapshot_create(g->pool, names, 3, &e));
	CHECK(!vol_snapshot_create(g->pool, names + 3, 1, &e));
	CHECK(nodes_met(g, true) == 1);
	CHECK(!case_write(v, 64, 64));
	CHECK(!vol_snapshot_create(g->pool, names + 4, 1, &e));
	CHECK(nodes_met(g, true) == 3); /* leaf, older leaf, dead list */
	for (unsigned i = 0; i < 5; i++)
		CHECK(!vol_snapshot_destroy(g->pool, names[i], &e));
	while (g->pool->snaps)
		co_sleep_ns(SIM_MS);
	CHECK(!pool_commit(g->pool));
	CHECK(nodes_met(g, true) == 1);
	vol_close(v);
	CHECK(!rig_export(g, &e));
}

static void wait_reaped(struct rig *g, unsigned left)
{
	for (unsigned i = 0, n = left + 1; n > left; i++) {
		CHECK(i < 60000);
		n = 0;
		for (struct vol *s = g->pool->snaps; s; s = s->next)
			n++;
		co_sleep_ns(SIM_MS);
	}
	CHECK(!pool_commit(g->pool));
}

/* Every other block, in an order in which no two extents and no two entries of a dead list are
 * neighbours. *ret_n: how many blocks went in. */
static void fill_scattered(struct vol *v, uint64_t *ret_n)
{
	for (*ret_n = 0; !case_write(v, *ret_n * 2, 1); ++*ret_n)
		continue;
}

static int punch_scattered(struct vol *v, uint64_t n, uint64_t from, uint64_t end)
{
	int rc = 0;
	for (uint64_t i = from; i < end && !rc; i++)
		rc = vol_punch(v, VOL_OBJECT_FIRST, i * 7919 % n * 2 * 4096, 4096, NULL, NULL);
	return rc;
}

/* On a full pool snapshots keep what is deleted, and lists of it besides: deleting ends before
 * there is no room for them, destroying snapshots does not. */
void case_full_snapshots(void *arg)
{
	static const char *const names[] = {"v@1", "v@2", "v@3", "v@4"};
	struct rig *g = arg;
	struct err e = {0};
	unsigned taken = 0;
	uint64_t n;
	int rc = 0;
	case_start(g);
	struct vol *v = case_volume(g, "v", 1);
	fill_scattered(v, &n);
	CHECK(!pool_commit(g->pool));
	for (unsigned i = 0; i < 8 && !rc; i++) {
		taken += i < 4 && !vol_snapshot_create(g->pool, &names[taken], 1, &e);
		rc = punch_scattered(v, n, n / 8 * i, n / 8 * (i + 1));
		CHECK(!g->pool->faulted);
	}
	CHECK(rc == -ENOSPC);
	CHECK(!pool_commit(g->pool));
	while (taken)
		CHECK(!vol_snapshot_destroy(g->pool, names[--taken], &e));
	wait_reaped(g, 0);
	CHECK(!punch_scattered(v, n, 0, n));
	CHECK(!pool_commit(g->pool));
	CHECK(!case_write(v, 0, 64));
	vol_close(v);
	case_check(g);
	CHECK(!rig_export(g, &e));
}

/* Leaves of a dead list that became empty while their neighbours were not in memory go with the
 * volume. */
void case_dead_list_ends(void *arg)
{
	static const char *const names[] = {"v@1", "v@2", "v@3"};
	struct rig *g = arg;
	struct err e = {0};
	case_start(g);
	struct vol *v = case_volume(g, "v", 1);
	for (uint64_t i = 0; i < 3000; i++)
		CHECK(!case_write(v, i * 2, 1));
	for (unsigned i = 0; i < 3; i++) {
		CHECK(!vol_snapshot_create(g->pool, &names[i], 1, &e));
		for (uint64_t k = 0; k < 1000; k++)
			CHECK(!vol_punch(v, VOL_OBJECT_FIRST, (k * 7919 % 1000 * 3 + i) * 2 * 4096,
					 4096, NULL, NULL));
	}
	vol_close(v);
	CHECK(!rig_export(g, &e));
	g->opt.cache_bytes = 6 * 17000;
	CHECK(!rig_import(g, &e));
	for (unsigned i = 0; i < 3; i++) {
		CHECK(!vol_snapshot_destroy(g->pool, names[i], &e));
		wait_reaped(g, 2 - i);
	}
	case_check(g);
	CHECK(g->pool->vols->dead.root.addr.v);
	CHECK(!vol_destroy(g->pool, "v", &e));
	while (g->pool->vols)
		co_sleep_ns(SIM_MS);
	CHECK(!pool_commit(g->pool));
	case_check(g);
	CHECK(!rig_export(g, &e));
}

/* ---- features ---- */

#define SB_BLOCKS (SB_SIZE / 4096)

static uint64_t sb_block(const struct rig *g, unsigned disk, unsigned i)
{
	uint64_t end = sim_disk_blocks(g->disk[disk]) - SB_RING_BYTES / 4096;
	return (i < SB_RING_SLOTS ? 0 : end) + i % SB_RING_SLOTS * SB_BLOCKS;
}

/* The i-th superblock of a disk. False: there is none. */
static bool sb_peek(const struct rig *g, unsigned disk, unsigned i, uint8_t *ret_buf)
{
	for (unsigned b = 0; b < SB_BLOCKS; b++) {
		const uint8_t *d = sim_disk_peek(g->disk[disk], sb_block(g, disk, i) + b);
		if (!d)
			return false;
		memcpy(ret_buf + b * 4096, d, 4096);
	}
	return !sb_validate((const struct sb_disk *)(const void *)ret_buf, NULL);
}

/* With the first snapshot no superblock is left that a program without them would take. */
void case_feature_everywhere(void *arg)
{
	static _Alignas(4096) uint8_t buf[SB_SIZE];
	const struct sb_disk *sb = (const struct sb_disk *)(const void *)buf;
	struct rig *g = arg;
	const char *name = "v@1";
	struct err e = {0};
	case_start(g);
	vol_close(case_volume(g, "v", 2));
	for (unsigned i = 0; i < SB_RING_SLOTS; i++)
		CHECK(!pool_commit(g->pool));
	CHECK(sb_peek(g, 1, SB_RING_SLOTS, buf) && !le64_get(sb->features_incompat));
	CHECK(!vol_snapshot_create(g->pool, &name, 1, &e));
	for (unsigned i = 0; i < 2 * g->ndisks * SB_RING_SLOTS; i++)
		CHECK(!sb_peek(g, i % g->ndisks, i / g->ndisks, buf) ||
		      le64_get(sb->features_incompat) == SB_FEATURE_SNAPS);
	CHECK(!rig_export(g, &e));
}

/* A pool that has gone on with a newer program is refused, not taken as it was before. */
void case_feature_unknown(void *arg)
{
	static _Alignas(4096) uint8_t buf[SB_SIZE], newest[SB_SIZE];
	struct sb_disk *sb = (struct sb_disk *)(void *)newest;
	struct rig *g = arg;
	struct err e = {0};
	unsigned at = 0;
	case_start(g);
	vol_close(case_volume(g, "v", 2));
	CHECK(!rig_export(g, &e));
	memset(newest, 0, sizeof(newest));
	for (unsigned i = 0; i < 2 * SB_RING_SLOTS; i++)
		if (sb_peek(g, 1, i, buf) && sb_newer((struct sb_disk *)(void *)buf, sb)) {
			memcpy(newest, buf, SB_SIZE);
			at = i;
		}
	sb->features_incompat = le64_of(1ull << 63);
	sb->seq = le64_of(le64_get(sb->seq) + 1);
	sb_seal(sb, le32_get(sb->own_dev));
	for (unsigned b = 0; b < SB_BLOCKS; b++)
		sim_disk_poke(g->disk[1], sb_block(g, 1, at) + b, newest + b * 4096);
	CHECK(rig_import(g, &e) == ERR_VERSION);
	CHECK(strstr(e.text, "does not know"));
}
