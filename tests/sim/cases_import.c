/* cases_import: devices that come, go and return. */
#include <string.h>
#include "pool/rescue.h"
#include "pool/sb.h"
#include "tests/sim/cases.h"

/* ---- a superblock that one device alone has ---- */

#define RING_BLOCKS (SB_RING_BYTES / 4096)

static uint8_t ring_saved[RIG_DISKS_MAX][2][RING_BLOCKS][4096];
static bool ring_there[RIG_DISKS_MAX][2][RING_BLOCKS];

static uint64_t ring_block(const struct rig *g, unsigned disk, unsigned copy, unsigned k)
{
	return copy ? sim_disk_blocks(g->disk[disk]) - RING_BLOCKS + k : k;
}

static void ring_save(struct rig *g, unsigned disk)
{
	for (unsigned copy = 0; copy < 2; copy++)
		for (unsigned k = 0; k < RING_BLOCKS; k++) {
			const uint8_t *d =
				sim_disk_peek(g->disk[disk], ring_block(g, disk, copy, k));
			ring_there[disk][copy][k] = d != NULL;
			if (d)
				memcpy(ring_saved[disk][copy][k], d, 4096);
		}
}

static void ring_restore(struct rig *g, unsigned disk)
{
	static const uint8_t none[4096];
	for (unsigned copy = 0; copy < 2; copy++)
		for (unsigned k = 0; k < RING_BLOCKS; k++)
			sim_disk_poke(g->disk[disk], ring_block(g, disk, copy, k),
				      ring_there[disk][copy][k] ? ring_saved[disk][copy][k] : none);
}

static void commit_now(void *pool)
{
	CHECK(!pool_commit(pool));
}

/* Two commits, and what was synced during the second is in the log that follows it; the rings of
 * the devices 1 and 2 as they were before the second. */
static void alone_before(void *arg)
{
	struct rig *g = arg;
	struct vol *v, *w;
	struct err e = {0};
	case_start(g);
	vol_close(case_volume(g, "v", 2));
	vol_close(case_volume(g, "w", 2));
	CHECK(!rig_export(g, &e) && !rig_import(g, &e)); /* what is written now lies in front */
	CHECK(!vol_open(g->pool, "v", &v, &e) && !vol_open(g->pool, "w", &w, &e));
	for (unsigned i = 0; i < g->ndisks; i++)
		sim_disk_traits(g->disk[i])->latency_ns = 4 * SIM_MS;
	CHECK(!case_write(v, 0, 64) && !case_write(w, 0, 64));
	CHECK(!pool_commit(g->pool));
	ring_save(g, 1);
	ring_save(g, 2);
	CHECK(!case_write(v, 64, 64));
	uint64_t nr = g->pool->open->nr;
	CHECK(!co_spawn(g->r, commit_now, g->pool));
	while (g->pool->open->nr == nr)
		co_sleep_ns(SIM_MS / 10);
	CHECK(!case_write(w, 64, 4));
	CHECK(!vol_sync(w));
	CHECK(g->pool->durable_txn < nr);
	while (g->pool->durable_txn < nr)
		co_sleep_ns(SIM_MS / 10);
	vol_close(v);
	vol_close(w);
}

static void alone_import(void *arg)
{
	struct rig *g = arg;
	struct err e = {0};
	CHECK(!rig_import(g, &e));
}

static void alone_verify(void *arg)
{
	struct rig *g = arg;
	struct err e = {0};
	struct vol *v, *w;
	int rc = rig_import(g, &e);
	if (rc)
		printf("import: %s\n", e.text);
	CHECK(!rc);
	CHECK(!vol_open(g->pool, "v", &v, &e) && !vol_open(g->pool, "w", &w, &e));
	case_read(v, 0, 64);
	case_read(w, 0, 64);
	case_read(w, 64, 4);
	vol_close(v);
	vol_close(w);
	case_check(g);
}

/* A power cut let one device alone have the newest superblock. The import that takes it is cut off,
 * at any instant, and that device dies: the others have all that was acknowledged. */
void case_superblock_alone(void)
{
	bool done = false;
	case_now = "superblock-alone";
	for (uint64_t after = 1; !done; after++) {
		struct rig g;
		rig_init(&g, 77, 3, 32 * MIB);
		rig_run(&g, alone_before, &g, case_now);
		rig_cut(&g, SIM_CUT_KEEP_ALL);
		ring_restore(&g, 1);
		ring_restore(&g, 2);
		g.bus.halt_at = g.bus.ticks + after;
		done = rig_run(&g, alone_import, &g, case_now);
		rig_cut(&g, SIM_CUT_KEEP_ALL);
		sim_disk_kill(g.disk[0], -EIO, false);
		rig_run(&g, alone_verify, &g, case_now);
		rig_fini(&g);
	}
	printf("%s: ok\n", case_now);
}

/* ---- two lives of a pool ---- */

static int import_some(struct rig *g, unsigned first, unsigned n, struct err *e)
{
	struct dev_backend *b[RIG_DISKS_MAX];
	for (unsigned i = 0; i < n; i++)
		b[i] = sim_disk_open(g->disk[first + i]);
	return pool_import(b, n, &g->opt, g->r, &g->pool, e);
}

/* Imported with either half of its devices, forced; then with both: what the half that loses wrote
 * in its life is gone, also where the other wrote nothing. */
void case_two_lives(void *arg)
{
	struct rig *g = arg;
	struct err e = {0};
	struct vol *v;
	uint64_t at;
	case_start(g);
	v = case_volume(g, "v", 2);
	for (at = 0; !case_write(v, at, 64); at += 64)
		continue;
	vol_close(v);
	CHECK(!rig_export(g, &e));
	CHECK(!import_some(g, 1, 1, &e)); /* loses: fewer commits */
	CHECK(!vol_open(g->pool, "v", &v, &e));
	CHECK(!vol_punch(v, VOL_OBJECT_FIRST, 0, 1024 * 4096, NULL, NULL));
	CHECK(!pool_commit(g->pool));
	for (unsigned k = 0; k < 8; k++)
		CHECK(!case_write(v, at + 1 + k * 64, 64)); /* where the others were */
	vol_close(v);
	CHECK(!rig_export(g, &e));
	CHECK(!import_some(g, 0, 1, &e));
	for (unsigned k = 0; k < 20; k++) {
		CHECK(!vol_open(g->pool, "v", &v, &e));
		CHECK(!vol_punch(v, VOL_OBJECT_FIRST, (2000 + k) * 4096, 4096, NULL, NULL));
		vol_close(v);
		CHECK(!pool_commit(g->pool));
	}
	CHECK(!rig_export(g, &e));
	CHECK(!rig_import(g, &e));
	for (unsigned i = 0; g->pool->devs[1].state != DEV_ONLINE; i++) {
		CHECK(i < 60000);
		co_sleep_ns(SIM_MS);
	}
	CHECK(!pool_dev_offline(g->pool, 0, &e));
	case_check(g);
	CHECK(!rig_export(g, &e));
}

/* ---- heartbeats ---- */

#define HEARTBEAT_BLOCK (SB_HEARTBEAT_OFF / 4096)

static uint64_t heartbeat_seq(const struct rig *g, unsigned disk)
{
	const uint8_t *b = sim_disk_peek(g->disk[disk], HEARTBEAT_BLOCK);
	return b ? le64_get(((const struct heartbeat_disk *)(const void *)b)->seq) : 0;
}

/* A device that hangs does not keep the others from saying that the pool is served; and who finds
 * another's heartbeat over its own stops. */
void case_heartbeats(void *arg)
{
	struct rig *g = arg;
	for (unsigned i = 0; i < g->ndisks; i++)
		sim_disk_traits(g->disk[i])->destage_permille = 1000;
	case_start(g);
	co_sleep_ns(3 * SIM_SEC);
	sim_disk_faults(g->disk[0])->hang_until_ns = reactor_now_ns() + 20 * SIM_SEC;
	for (unsigned i = 0; i < 4; i++) {
		uint64_t was[] = {heartbeat_seq(g, 1), heartbeat_seq(g, 2)};
		co_sleep_ns(3 * SIM_SEC);
		CHECK(heartbeat_seq(g, 1) != was[0] && heartbeat_seq(g, 2) != was[1]);
	}
	co_sleep_ns(20 * SIM_SEC);
	CHECK(!g->pool->faulted);
	uint8_t *b = aligned_alloc(4096, 4096);
	CHECK(b);
	memcpy(b, sim_disk_peek(g->disk[1], HEARTBEAT_BLOCK), 4096);
	struct heartbeat_disk *h = (struct heartbeat_disk *)(void *)b;
	snprintf((char *)h->boot_id, sizeof(h->boot_id), "of another host");
	h->crc = le32_of(crc32c(0, b + 12, 4096 - 12));
	sim_disk_poke(g->disk[1], HEARTBEAT_BLOCK, b);
	free(b);
	co_sleep_ns(3 * SIM_SEC);
	CHECK(g->pool->faulted);
}

/* ---- written by a newer Tarn ---- */

struct marks {
	uint64_t newest;   /* seq, when it is found */
	uint64_t from, to; /* seq of those that are changed */
	uint64_t incompat, ro_compat;
	bool rot;
};

static bool find_newest(struct sb_disk *sb, void *arg)
{
	struct marks *m = arg;
	if (le64_get(sb->seq) > m->newest)
		m->newest = le64_get(sb->seq);
	return true;
}

static bool mark(struct sb_disk *sb, void *arg)
{
	const struct marks *m = arg;
	uint64_t seq = le64_get(sb->seq);
	if (seq < m->from || seq > m->to)
		return true;
	sb->features_incompat = le64_of(m->incompat);
	sb->features_ro_compat = le64_of(m->ro_compat);
	sb->log_pos = le32_of(le32_get(sb->log_pos) ^ m->rot);
	return !m->rot;
}

static struct marks seen(struct rig *g)
{
	struct marks m = {0};
	for (unsigned i = 0; i < g->ndisks; i++)
		case_superblocks(g, i, find_newest, &m);
	CHECK(m.newest > 3);
	return m;
}

static void expect_newer(struct rig *g)
{
	struct err e = {0};
	CHECK(rig_import(g, &e) == ERR_VERSION);
	CHECK(strstr(e.text, "features"));
}

static void refused_elsewhere(struct rig *g)
{
	struct rescue_options o = {0};
	struct dev_backend *b[2] = {sim_disk_open(g->disk[0]), sim_disk_open(g->disk[1])};
	struct pool_label l;
	struct rescue *r;
	struct err e = {0};
	CHECK(pool_label_read(b[0], &l, &e) == ERR_VERSION && l.name[0]);
	CHECK(rescue_open(b, 2, &o, &r, &e) == ERR_VERSION && strstr(e.text, "features"));
	dev_close(b[0]);
	dev_close(b[1]);
}

/* The newest superblock has a feature that this Tarn does not know: no older one is taken instead.
 * One that is rotten is passed over, and an older one may have what it likes. */
void case_newer_format(void *arg)
{
	struct rig *g = arg;
	struct err e = {0};
	struct marks m;
	case_start(g);
	for (unsigned i = 0; i < 3; i++)
		CHECK(!pool_commit(g->pool));
	CHECK(!rig_export(g, &e));
	for (unsigned disks = 1; disks <= g->ndisks; disks++) { /* one device, then both */
		m = seen(g);
		m.from = m.newest - disks + 1;
		m.to = m.newest;
		m.incompat = 1ull << 40;
		for (unsigned i = 0; i < disks; i++)
			case_superblocks(g, i, mark, &m);
		expect_newer(g);
	}
	refused_elsewhere(g);
	m.incompat = 0;
	m.ro_compat = 1;
	for (unsigned i = 0; i < g->ndisks; i++)
		case_superblocks(g, i, mark, &m);
	expect_newer(g);
	g->opt.read_only = true;
	CHECK(!rig_import(g, &e));
	CHECK(!rig_export(g, &e));
	g->opt.read_only = false;
	m.ro_compat = 0;
	for (unsigned i = 0; i < g->ndisks; i++)
		case_superblocks(g, i, mark, &m);
	CHECK(!rig_import(g, &e) && !rig_export(g, &e));
	m = seen(g);
	m.from = m.to = m.newest - 1;
	m.incompat = 1ull << 40;
	for (unsigned i = 0; i < g->ndisks; i++)
		case_superblocks(g, i, mark, &m);
	CHECK(!rig_import(g, &e) && !rig_export(g, &e));
	m = seen(g);
	m.from = m.to = m.newest;
	m.rot = true;
	for (unsigned i = 0; i < g->ndisks; i++)
		case_superblocks(g, i, mark, &m);
	CHECK(!rig_import(g, &e) && !rig_export(g, &e));
}
