/* cases_snap: single situations with snapshots and long walks. */
#include "pool/pool_types.h"
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
