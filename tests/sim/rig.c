#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/sim/rig.h"

#define HANG_NS (4 * 3600 * SIM_SEC)

void rig_init(struct rig *g, uint64_t seed, unsigned ndisks, uint64_t disk_bytes)
{
	memset(g, 0, sizeof(*g));
	g->r = sim_reactor_create(seed);
	sim_bus_init(&g->bus, g->r, seed);
	g->ndisks = ndisks;
	for (unsigned i = 0; i < ndisks; i++) {
		char name[16];
		snprintf(name, sizeof(name), "disk%u", i);
		g->disk[i] = sim_disk_create(&g->bus, name, disk_bytes, seed * 31 + i);
	}
	g->opt.cache_bytes = 1 << 20;
	g->opt.data_cache_bytes = 256 << 10;
	g->opt.delta_bytes = 4 << 20;
	g->opt.commit_ns = 100 * SIM_MS;
	g->opt.force = true;
	g->opt.degraded_ok = true;
}

static void drop_pool(struct rig *g)
{
	sim_reactor_crash(g->r);
	if (!g->pool)
		return;
	reactor_enter(g->r);
	pool_abandon(g->pool);
	reactor_leave();
	g->pool = NULL;
}

void rig_fini(struct rig *g)
{
	g->bus.frozen = true; /* I/O under way at close is nobody's fault any more */
	drop_pool(g);
	for (unsigned i = 0; i < g->ndisks; i++)
		sim_disk_destroy(g->disk[i]);
	reactor_destroy(g->r);
}

bool rig_run(struct rig *g, co_fn *fn, void *arg, const char *what)
{
	enum sim_end end = sim_reactor_call(g->r, fn, arg, HANG_NS);
	if (end == SIM_IDLE || end == SIM_LATE) {
		printf("hang in %s: %s\n", what,
		       end == SIM_IDLE ? "no event is left"
				       : "not done after hours of virtual time");
		fflush(stdout);
		abort();
	}
	return end == SIM_DONE;
}

void rig_cut(struct rig *g, enum sim_cut how)
{
	for (unsigned i = 0; i < g->ndisks; i++)
		sim_disk_cut(g->disk[i], how);
	drop_pool(g);
	g->bus.frozen = false;
	g->bus.halt_at = 0;
}

int rig_create(struct rig *g, uint64_t chunk_bytes, struct err *e)
{
	struct pool_create_dev devs[RIG_DISKS_MAX];
	memset(devs, 0, sizeof(devs));
	for (unsigned i = 0; i < g->ndisks; i++)
		devs[i].backend = sim_disk_open(g->disk[i]);
	int rc = pool_create("tank", devs, g->ndisks, chunk_bytes, e);
	for (unsigned i = 0; i < g->ndisks; i++)
		dev_close(devs[i].backend);
	return rc;
}

int rig_import(struct rig *g, struct err *e)
{
	struct dev_backend *b[RIG_DISKS_MAX];
	for (unsigned i = 0; i < g->ndisks; i++)
		b[i] = sim_disk_open(g->disk[i]);
	return pool_import(b, g->ndisks, &g->opt, g->r, &g->pool, e);
}

int rig_export(struct rig *g, struct err *e)
{
	int rc = pool_export(g->pool, false, e);
	if (!rc)
		g->pool = NULL;
	return rc;
}

int rig_check(struct rig *g, uint64_t *ret_problems, char *out, size_t size)
{
	struct pool_check_result r;
	struct err e = {0};
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);
	if (!f)
		abort();
	memset(&r, 0, sizeof(r));
	int rc = pool_check(g->pool, true, f, NULL, NULL, &r, &e);
	fclose(f);
	snprintf(out, size, "%s", rc ? e.text : text);
	out[strcspn(out, "\n")] = 0;
	free(text);
	*ret_problems = r.problems;
	return rc;
}
