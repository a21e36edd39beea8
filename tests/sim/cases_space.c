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
