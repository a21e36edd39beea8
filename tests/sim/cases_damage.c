/* cases_damage: a node of a volume's tree that no device has any more. */
#include <string.h>
#include "pool/btree_page.h"
#include "tests/sim/cases.h"

#define STRIDE 3    /* blocks from one extent to the next */
#define COUNT  2000 /* extents: several leaves */
#define LAST   ((COUNT - 1) * STRIDE)

/* ---- helpers ---- */

static const uint8_t rot[4096] = {1};
static uint8_t pool_id[16]; /* of the last pool made */

/* A whole node, or NULL. */
static const uint8_t *node_peek(const struct rig *g, unsigned disk, uint64_t block)
{
	static uint8_t buf[NODE_SIZE];
	for (unsigned i = 0; i < NODE_BLOCKS; i++) {
		const uint8_t *d = sim_disk_peek(g->disk[disk], block + i);
		if (!d ||
		    (!i && le32_get(((const struct node_header_disk *)(const void *)d)->magic) !=
				   NODE_MAGIC))
			return NULL;
		memcpy(buf + i * 4096, d, 4096);
	}
	return buf;
}

/* Where the newest leaf of the tree begins whose extents lie around block `lblk`; 0: none. */
static uint64_t leaf_find(const struct rig *g, unsigned disk, uint64_t tree, uint64_t lblk)
{
	uint64_t best = 0, birth = 0;
	for (uint64_t b = 256; b + NODE_BLOCKS < sim_disk_blocks(g->disk[disk]); b++) {
		const uint8_t *d = node_peek(g, disk, b);
		const struct node_header_disk *h = (const void *)d;
		if (!d || le64_get(h->tree_id) != tree || memcmp(h->pool_id, pool_id, 16) ||
		    h->level || !page_count(d) || page_key(d, 0).offset > lblk ||
		    page_key(d, page_count(d) - 1).offset < lblk || le64_get(h->birth) <= birth)
			continue;
		birth = le64_get(h->birth);
		best = b;
	}
	return best;
}

/* The leaf that has this block rots on all disks. */
static void leaf_rot(struct rig *g, uint64_t tree, uint64_t lblk)
{
	for (unsigned i = 0; i < g->ndisks; i++) {
		uint64_t b = leaf_find(g, i, tree, lblk);
		CHECK(b);
		sim_disk_poke(g->disk[i], b + 1, rot);
	}
}

static unsigned events(const struct rig *g, const char *kind)
{
	static struct pool_event ev[256];
	unsigned n = pool_events(g->pool, 0, ev, 256), found = 0;
	for (unsigned i = 0; i < n; i++)
		found += !strcmp(ev[i].kind, kind);
	return found;
}

static struct vol *open_volume(struct rig *g, const char *name)
{
	struct err e = {0};
	struct vol *v;
	CHECK(!vol_open(g->pool, name, &v, &e));
	return v;
}

/* Volumes v, of several leaves, and w. The number of v's tree. */
static uint64_t two_volumes(struct rig *g, uint8_t copies)
{
	case_start(g);
	memcpy(pool_id, g->pool->uuid, sizeof(pool_id));
	struct vol *v = case_volume(g, "v", copies), *w = case_volume(g, "w", copies);
	uint64_t id = v->id;
	for (uint64_t i = 0; i < COUNT; i++)
		CHECK(!case_write(v, i * STRIDE, 1));
	CHECK(!case_write(w, 0, 8));
	vol_close(v);
	vol_close(w);
	return id;
}

static void import_again(struct rig *g)
{
	struct err e = {0};
	int rc = rig_import(g, &e);
	if (rc)
		printf("import: %s\n", e.text);
	CHECK(!rc);
}

static bool is_damaged(struct vol *v)
{
	struct vol_info i;
	vol_info_get(v, &i);
	return i.damaged;
}

/* ---- cases ---- */

/* What was taken before anybody knew is lost and said to be; then writes into the range fail. All
 * else goes on, now and after the next import. */
void case_damage_write(void *arg)
{
	struct rig *g = arg;
	struct err e = {0};
	uint64_t id = two_volumes(g, 1);
	CHECK(!rig_export(g, &e));
	leaf_rot(g, id, 0);
	import_again(g);
	struct vol *v = open_volume(g, "v"), *w = open_volume(g, "w");
	CHECK(!is_damaged(v));
	CHECK(!case_write(v, 1, 1));
	CHECK(!case_write(v, LAST + 1, 1));
	CHECK(!vol_sync(v)); /* in the log */
	CHECK(!pool_commit(g->pool));
	CHECK(!g->pool->faulted);
	CHECK(events(g, "volume-damaged") == 1 && events(g, "write-lost") == 1);
	CHECK(vol_sync(v) == -EIO); /* told once */
	CHECK(!vol_sync(v));
	for (unsigned round = 0; round < 2; round++) {
		static uint8_t buf[4096];
		CHECK(is_damaged(v) && !is_damaged(w));
		CHECK(err_errno(case_write(v, 2, 1)) == EIO);
		CHECK(err_errno(case_write(v, 0, 64)) == EIO);
		CHECK(err_errno(vol_read(v, VOL_OBJECT_FIRST, 0, 4096, buf)) == EIO);
		case_read(v, LAST, 1);
		case_read(v, LAST + 1, 1);
		case_read(w, 0, 8);
		CHECK(!case_write(v, LAST + 2 + round, 1) && !vol_sync(v));
		CHECK(!case_write(w, 8 + round, 1) && !vol_sync(w));
		CHECK(!pool_commit(g->pool) && !g->pool->faulted);
		vol_close(v);
		vol_close(w);
		CHECK(!rig_export(g, &e));
		import_again(g);
		v = open_volume(g, "v");
		w = open_volume(g, "w");
	}
	vol_close(v);
	vol_close(w);
	CHECK(!rig_export(g, &e));
}

static int put_item(struct vol *v, void *arg)
{
	struct key k = {VOL_OBJECT_FIRST, 1, 0};
	int rc = vol_prepare(v, k);
	return rc ? rc : vol_put(v, k, arg, 8);
}

/* Synced changes of every kind, whose leaf is lost before they are replayed. */
void case_damage_replay_before(void *arg)
{
	static uint8_t buf[4096];
	struct rig *g = arg;
	struct err e = {0};
	uint64_t id = two_volumes(g, 1);
	CHECK(!rig_export(g, &e));
	g->opt.commit_ns = 3600 * SIM_SEC;
	import_again(g);
	struct vol *v = open_volume(g, "v"), *w = open_volume(g, "w");
	for (unsigned i = 0; i < g->ndisks; i++)
		sim_disk_traits(g->disk[i])->destage_permille = 1000;
	CHECK(!vol_read(v, VOL_OBJECT_FIRST, 0, 4096, buf)); /* the leaf is in memory */
	leaf_rot(g, id, 0);
	CHECK(!vol_change(v, false, put_item, "an item"));
	CHECK(!vol_punch(v, VOL_OBJECT_FIRST, STRIDE * 4096, 4096, NULL, NULL));
	CHECK(!case_write(v, 1, 1));
	CHECK(!case_write(v, LAST + 1, 1));
	CHECK(!vol_sync(v));
	CHECK(!case_write(w, 8, 1));
	CHECK(!vol_sync(w));
	vol_close(v);
	vol_close(w);
}

void case_damage_replay_after(void *arg)
{
	struct rig *g = arg;
	struct err e = {0};
	import_again(g);
	CHECK(events(g, "replay-skipped") == 1 && events(g, "volume-damaged") == 1);
	struct vol *v = open_volume(g, "v"), *w = open_volume(g, "w");
	CHECK(is_damaged(v));
	CHECK(vol_sync(v) == -EIO);
	case_read(v, LAST + 1, 1);
	case_read(w, 8, 1);
	CHECK(!case_write(v, LAST + 4, 1) && !case_write(w, 9, 1));
	CHECK(!pool_commit(g->pool));
	vol_close(v);
	vol_close(w);
	CHECK(!rig_export(g, &e));
	import_again(g);
	CHECK(!rig_export(g, &e));
}

static void wait_gone(struct rig *g, uint64_t id)
{
	for (unsigned i = 0;; i++) {
		bool there = false;
		for (struct vol *v = g->pool->vols; v; v = v->next)
			there |= v->id == id;
		if (!there)
			return;
		CHECK(i < 60000);
		co_sleep_ns(SIM_MS);
	}
}

/* A damaged volume can be destroyed: what can be found of it comes back. */
void case_damage_destroy(void *arg)
{
	static const uint64_t lost[] = {0, LAST / 2, LAST};
	struct rig *g = arg;
	struct err e = {0};
	for (unsigned i = 0; i < 3; i++) {
		struct pool_status *st = calloc(1, sizeof(*st));
		uint64_t used, id = two_volumes(g, 1);
		CHECK(st);
		CHECK(!rig_export(g, &e));
		leaf_rot(g, id, lost[i]);
		import_again(g);
		pool_status_get(g->pool, st);
		used = st->raw_used_bytes;
		CHECK(!vol_destroy(g->pool, "v", &e));
		wait_gone(g, id);
		CHECK(!pool_commit(g->pool) && !pool_commit(g->pool));
		pool_status_get(g->pool, st);
		CHECK(used - st->raw_used_bytes > COUNT / 2 * 4096);
		CHECK(!g->pool->faulted);
		vol_close(case_volume(g, "v", 1));
		CHECK(!rig_export(g, &e));
		import_again(g);
		CHECK(!rig_export(g, &e));
		free(st);
	}
}

/* A device returns, and a node is lost that it does not have: all the rest is copied, and it is in
 * service again. */
void case_damage_resync(void *arg)
{
	struct rig *g = arg;
	struct err e = {0};
	case_start(g);
	memcpy(pool_id, g->pool->uuid, sizeof(pool_id));
	for (unsigned i = 0; i < g->ndisks; i++)
		sim_disk_traits(g->disk[i])->destage_permille = 1000;
	struct vol *v = case_volume(g, "v", 2);
	CHECK(!pool_dev_offline(g->pool, 1, &e));
	for (uint64_t i = 0; i < COUNT; i++)
		CHECK(!case_write(v, i * STRIDE, 1));
	CHECK(!pool_commit(g->pool));
	vol_close(v);
	CHECK(!rig_export(g, &e) && !rig_import(g, &e)); /* nothing is in memory */
	sim_disk_poke(g->disk[0], leaf_find(g, 0, TREE_VOLUME_FIRST, 0) + 1, rot);
	CHECK(!pool_dev_online(g->pool, sim_disk_open(g->disk[1]), &e));
	for (unsigned i = 0; g->pool->devs[1].state != DEV_ONLINE; i++) {
		CHECK(i < 60000);
		co_sleep_ns(SIM_MS);
	}
	CHECK(events(g, "resync-lost") == 1 && events(g, "volume-damaged") == 1);
	CHECK(!pool_dev_offline(g->pool, 0, &e));
	v = open_volume(g, "v");
	for (uint64_t i = COUNT / 2; i < COUNT; i++)
		case_read(v, i * STRIDE, 1);
	vol_close(v);
	CHECK(!rig_export(g, &e));
}

static void scrub(struct rig *g, struct pool_scrub_status *st)
{
	struct err e = {0};
	CHECK(!pool_scrub_start(g->pool, &e));
	do {
		co_sleep_ns(SIM_MS);
		pool_scrub_status_get(g->pool, st);
	} while (st->running);
	CHECK(st->complete);
}

/* A scrub sees what lies behind a lost node, says what it did not, and finds out when it is back.
 */
void case_damage_scrub(void *arg)
{
	static uint8_t saved[RIG_DISKS_MAX][4096];
	struct rig *g = arg;
	struct err e = {0};
	struct pool_scrub_status st;
	uint64_t id = two_volumes(g, 2), whole;
	CHECK(!pool_commit(g->pool));
	scrub(g, &st);
	CHECK(!st.unrepaired);
	whole = st.done_bytes;
	CHECK(!rig_export(g, &e));
	for (unsigned i = 0; i < g->ndisks; i++)
		memcpy(saved[i], sim_disk_peek(g->disk[i], leaf_find(g, i, id, 0) + 1), 4096);
	leaf_rot(g, id, 0);
	import_again(g);
	struct vol *v = open_volume(g, "v");
	scrub(g, &st);
	CHECK(st.unrepaired);
	CHECK(st.done_bytes > whole / 2 && st.done_bytes < whole);
	CHECK(is_damaged(v));
	for (unsigned i = 0; i < g->ndisks; i++) {
		uint64_t b = leaf_find(g, i, id, 0);
		CHECK(b);
		sim_disk_poke(g->disk[i], b + 1, saved[i]);
	}
	CHECK(is_damaged(v));
	scrub(g, &st);
	CHECK(!st.unrepaired && !is_damaged(v));
	CHECK(!case_write(v, 1, 1) && !vol_sync(v));
	CHECK(!pool_commit(g->pool));
	vol_close(v);
	case_check(g);
	CHECK(!rig_export(g, &e));
}

/* A disk that has the content of block `at` rots there. Its number. */
static unsigned copy_rot(struct rig *g, uint64_t at)
{
	uint8_t want[4096];
	for (size_t i = 0; i < sizeof(want); i++)
		want[i] = (uint8_t)(i * 31 + at);
	for (unsigned i = 0; i < g->ndisks; i++)
		for (uint64_t b = 256; b < sim_disk_blocks(g->disk[i]); b++) {
			const uint8_t *d = sim_disk_peek(g->disk[i], b);
			if (!d || memcmp(d, want, sizeof(want)))
				continue;
			sim_disk_poke(g->disk[i], b, rot);
			return i;
		}
	CHECK(!"there");
	return 0;
}

/* Copies differ, and a lost node keeps them from being verified: the one that was to move stays,
 * until the damaged volume is gone. */
void case_damage_mover(void *arg)
{
	struct rig *g = arg;
	struct err e = {0};
	uint64_t id = two_volumes(g, 2);
	struct pool_move_plan *plan = calloc(1, sizeof(*plan));
	unsigned leaves;
	CHECK(!rig_export(g, &e));
	leaf_rot(g, id, 0);
	leaves = copy_rot(g, LAST);
	import_again(g);
	CHECK(!pool_dev_remove(g->pool, leaves, false, plan, &e));
	co_sleep_ns(120 * SIM_SEC);
	CHECK(events(g, "not-moved") == 1 && !events(g, "device-removed"));
	CHECK(!vol_destroy(g->pool, "v", &e));
	wait_gone(g, id);
	for (unsigned i = 0; !events(g, "device-removed"); i++) {
		CHECK(i < 3600);
		co_sleep_ns(SIM_SEC);
	}
	free(plan);
	CHECK(!g->pool->faulted);
	CHECK(!rig_export(g, &e));
}
