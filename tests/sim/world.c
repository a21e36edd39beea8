#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "pool/vol_types.h"
#include "tests/sim/cover.h"
#include "tests/sim/fsvol.h"
#include "tests/sim/hunger.h"
#include "tests/sim/sim_reactor.h"
#include "tests/sim/snapvol.h"
#include "tests/sim/spares.h"
#include "tests/sim/states.h"
#include "tests/sim/world.h"

#define CALL_TIMEOUT_NS (4 * 3600 * SIM_SEC)
#define BOOT_TRIES	4u

/* ---- reports ---- */

#define EVENTS_SHOWN 4u

static void print_events(struct world *w)
{
	static struct pool_event ev[1024];
	unsigned n = pool_events(w->pool, 0, ev, 1024);
	for (unsigned i = n > EVENTS_SHOWN && !w->opt.verbose ? n - EVENTS_SHOWN : 0; i < n; i++)
		printf("    event %s: %s\n", ev[i].kind, ev[i].text);
}

void world_fail(struct world *w, const char *fmt, ...)
{
	va_list ap;
	fflush(stdout);
	printf("seed %llu: ", (unsigned long long)w->seed);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	if (w->pool)
		print_events(w);
	if (w->pool && w->opt.verbose)
		disks_print(w);
	fflush(stdout);
	if (getenv("SIM_ABORT"))
		abort();
	_exit(1);
}

void world_log(struct world *w, const char *fmt, ...)
{
	if (!w->opt.verbose)
		return;
	va_list ap;
	printf("%8llu.%06llu ", (unsigned long long)(w->r->ops->now_ns(w->r) / SIM_MS),
	       (unsigned long long)(w->r->ops->now_ns(w->r) % SIM_MS));
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
}

uint64_t world_now_ms(struct world *w)
{
	return w->r->ops->now_ns(w->r) / SIM_MS;
}

static void bus_fail(void *arg, const char *text)
{
	world_fail(arg, "device interface: %s", text);
}

const char *world_doing(struct world *w, char *buf, size_t size)
{
	size_t n = 0;
	buf[0] = 0;
	for (unsigned i = 0; i < w->nworkers && n < size; i++)
		if (!w->worker[i]->done)
			n += (size_t)snprintf(buf + n, size - n, " worker %u: %s;", i,
					      w->worker[i]->doing ? w->worker[i]->doing : "?");
	if (!w->chaos_done && n < size)
		n += (size_t)snprintf(buf + n, size - n, " chaos");
	if (!w->admin_done && n < size)
		n += (size_t)snprintf(buf + n, size - n, " admin");
	if (!w->fs_done && n < size)
		n += (size_t)snprintf(buf + n, size - n, " file system");
	if (!w->snap_done && n < size)
		snprintf(buf + n, size - n, " snapshots");
	return buf;
}

static void end_check(struct world *w, enum sim_end end, const char *what)
{
	char text[512];
	if (end == SIM_IDLE)
		world_fail(w, "hang in %s: nothing is ready and no event is left;%s", what,
			   world_doing(w, text, sizeof(text)));
	if (end == SIM_LATE)
		world_fail(w, "hang in %s: not done after hours of virtual time;%s", what,
			   world_doing(w, text, sizeof(text)));
}

struct world_task {
	struct world *w;
	world_fn *fn;
};

static void task_main(void *arg)
{
	struct world_task *t = arg;
	t->fn(t->w);
}

bool world_call(struct world *w, world_fn *fn, const char *what)
{
	struct world_task t = {w, fn};
	enum sim_end end = sim_reactor_call(w->r, task_main, &t, CALL_TIMEOUT_NS);
	end_check(w, end, what);
	return end == SIM_DONE;
}

void world_arm(struct world *w, uint64_t ticks)
{
	w->bus.halt_at = ticks ? w->bus.ticks + rng_skewed(&w->rng, ticks) : 0;
}

bool world_may_lose(const struct world *w, const struct wvol *v)
{
	return w->damaged_ever && v->single;
}

bool world_excuses(const struct world *w, const struct wvol *v, int rc)
{
	if (v && world_may_lose(w, v))
		return true;
	if (rc == ERR_FAULTED)
		return w->hungry_ever && w->pool->faulted && w->pool->fault_code == -ENOMEM;
	return rc == -ENOMEM && w->hungry_ever;
}

/* ---- set-up ---- */

static void weights_init(struct world *w)
{
	static const unsigned base[WOP_COUNT] = {
		[WOP_WRITE] = 40,  [WOP_READ] = 20,    [WOP_PUNCH] = 8,	      [WOP_SYNC] = 8,
		[WOP_CHANGE] = 12, [WOP_QUERY] = 6,    [WOP_WRITE_ITEMS] = 6, [WOP_RESERVE] = 2,
		[WOP_SEEK] = 2,	   [WOP_COMMIT] = 2,   [WOP_RESIZE] = 1,      [WOP_CREATE] = 1,
		[WOP_DESTROY] = 1, [WOP_CHECK] = 1,    [WOP_STATUS] = 1,      [WOP_SLEEP] = 8,
		[WOP_TRASH] = 1,   [WOP_RESTORE] = 2,  [WOP_EMPTY_TRASH] = 1, [WOP_COPIES] = 1,
		[WOP_RENAME] = 1,  [WOP_PROPERTY] = 1, [WOP_CLONE] = 6,
	};
	for (unsigned i = 0; i < WOP_COUNT; i++) {
		if (i == WOP_CLASS)
			continue;		    /* by the class of seed */
		uint64_t d = rng_below(&w->rng, 6); /* some seeds do without, some do a lot */
		w->weight[i] = d == 0 ? base[i] / 4 : d == 1 ? base[i] * 3 : base[i];
	}
	w->align_percent = (unsigned)rng_below(&w->rng, 3) * 45;
}

static void disks_init(struct world *w)
{
	static const uint64_t latency[] = {20000, 100000, 4000000};
	static const unsigned destage[] = {0, 50, 300, 1000};
	w->ndisks = 2 + (unsigned)rng_below(&w->rng, WORLD_DISKS_FIRST - 1);
	if (w->faults == FAULTS_NONE && rng_chance(&w->rng, 1, 10))
		w->ndisks = 1;
	for (unsigned i = 0; i < w->ndisks; i++) {
		char name[16];
		snprintf(name, sizeof(name), "disk%u", i);
		uint64_t mib = rng_range(&w->rng, 24, 64);
		uint64_t bytes = (mib << 20) + rng_below(&w->rng, 200) * DEV_BLOCK;
		w->disk[i] = sim_disk_create(&w->bus, name, bytes, rng_next(&w->rng));
		w->disk_state[i] = WDISK_IN;
		w->disk_used[i] = true;
		struct sim_traits *t = sim_disk_traits(w->disk[i]);
		t->latency_ns = latency[rng_below(&w->rng, 3)];
		t->destage_permille = destage[rng_below(&w->rng, 4)];
		t->slow_permille = rng_chance(&w->rng, 1, 3) ? 10 : 0;
		t->stale_fill = rng_chance(&w->rng, 1, 2);
		t->discard_ignored = rng_chance(&w->rng, 1, 2);
	}
}

bool world_canary_known(const char *name)
{
	return !strcmp(name, "no-flush") || !strcmp(name, "no-fua") || !strcmp(name, "lost-writes");
}

/* Disks that lie. */
static void canary_init(struct world *w)
{
	const char *c = w->opt.canary;
	if (!c)
		return;
	for (unsigned i = 0; i < w->ndisks; i++) {
		struct sim_faults *f = sim_disk_faults(w->disk[i]);
		f->ignore_flush = !strcmp(c, "no-flush");
		f->ignore_fua = !strcmp(c, "no-fua");
		f->lost_permille = strcmp(c, "lost-writes") ? 0 : 20;
	}
}

static void options_init(struct world *w)
{
	static const uint64_t commit_ns[] = {5 * SIM_MS, 100 * SIM_MS, SIM_SEC, 5 * SIM_SEC};
	w->popt.cache_bytes = rng_range(&w->rng, 1, 8) << 19;
	w->popt.data_cache_bytes = rng_range(&w->rng, 0, 4) << 16;
	w->popt.delta_bytes = rng_range(&w->rng, 2, 8) << 19;
	w->popt.commit_ns = commit_ns[rng_below(&w->rng, 4)];
}

/* After every step. */
static void watch(void *arg)
{
	struct world *w = arg;
	wvol_watch(w);
	spares_watch(w);
	const char *bad = states_watch(w->pool);
	if (bad)
		world_fail(w, "%s", bad);
}

struct world *world_create(uint64_t seed, const struct sim_opts *opt)
{
	struct world *w = calloc(1, sizeof(*w));
	if (!w)
		abort();
	w->seed = seed;
	w->opt = *opt;
	w->rng = rng_of(seed, 0);
	w->r = sim_reactor_create(seed);
	hunger_init(w);
	sim_reactor_watch(w->r, watch, w);
	sim_bus_init(&w->bus, w->r, seed);
	w->bus.fail = bus_fail;
	w->bus.fail_arg = w;
	w->bus.trace = opt->trace;
	w->victim = -1;
	w->next_vol = 1;
	w->chaos_done = true;
	uint64_t dice = rng_below(&w->rng, 100);
	w->faults = opt->no_faults || (opt->canary && world_canary_known(opt->canary)) ? FAULTS_NONE
		    : dice < 40							       ? FAULTS_NONE
		    : dice < 75							       ? FAULTS_LOUD
				: FAULTS_SILENT;
	w->admin_done = true;
	w->retention_s = 24 * 3600;
	w->fs_done = true;
	w->with_fs = rng_chance(&w->rng, 1, 4);
	w->fs_rng = rng_of(seed, 97);
	w->snap_done = true;
	w->with_snaps = rng_chance(&w->rng, 1, 3);
	w->snap_rng = rng_of(seed, 96);
	w->administered = rng_chance(&w->rng, 1, 2);
	dice = rng_below(&w->rng, 16);
	spares_init(w);
	w->hunger = dice == 0 ? HUNGER_ALL : dice < 4 ? HUNGER_REQUESTS : HUNGER_NONE;
	disks_init(w);
	canary_init(w);
	options_init(w);
	weights_init(w);
	w->weight[WOP_CLASS] = w->with_classes ? 1 : 0;
	w->nworkers = (unsigned)rng_range(&w->rng, 1, 6);
	for (unsigned i = 0; i < w->nworkers; i++) {
		w->worker[i] = calloc(1, sizeof(struct worker));
		if (!w->worker[i])
			abort();
		w->worker[i]->w = w;
		w->worker[i]->id = i;
		w->worker[i]->done = true;
		w->worker[i]->rng = rng_of(seed, 100 + i);
	}
	return w;
}

/* ---- create and import ---- */

static void create_pool(struct world *w)
{
	struct pool_create_dev devs[WORLD_DISKS_MAX];
	struct err e = {0};
	memset(devs, 0, sizeof(devs));
	for (unsigned i = 0; i < w->ndisks; i++) {
		devs[i].backend = sim_disk_open(w->disk[i]);
		memcpy(devs[i].class_name, w->disk_class[i], sizeof(devs[i].class_name));
	}
	int rc = pool_create("tank", devs, w->ndisks, 1u << 20, &e);
	if (rc)
		world_fail(w, "pool_create: %d %s", rc, e.text);
	for (unsigned i = 0; i < w->ndisks; i++)
		dev_close(devs[i].backend);
}

static bool handed_in(struct world *w, unsigned disk)
{
	if (w->disk_state[disk] != WDISK_OUT)
		return (int)disk != w->victim || !w->victim_absent;
	if (!w->disk_used[disk] || !rng_chance(&w->rng, 1, 4))
		return false;
	cover_hit(COVER_NOT_MEMBER);
	return true;
}

static void import_pool(struct world *w)
{
	struct dev_backend *b[WORLD_DISKS_MAX];
	struct err e = {0};
	unsigned n = 0;
	for (unsigned i = 0; i < w->ndisks; i++)
		if (handed_in(w, i))
			b[n++] = sim_disk_open(w->disk[i]);
	for (unsigned i = n; i > 1; i--) {
		unsigned j = (unsigned)rng_below(&w->rng, i);
		struct dev_backend *t = b[i - 1];
		b[i - 1] = b[j];
		b[j] = t;
	}
	cover_hit(COVER_IMPORTS);
	w->boots++;
	spares_boot(w);
	struct pool_options o = w->popt;
	bool damaged = w->victim >= 0 && w->faults == FAULTS_LOUD;
	if (damaged)
		cover_hit(w->victim_absent ? COVER_IMPORT_DEGRADED : COVER_DEV_OLD_CONTENT);
	o.degraded_ok = w->damaged_ever || rng_chance(&w->rng, 1, 4);
	o.force = rng_chance(&w->rng, 1, 2);
	int rc = pool_import(b, n, &o, w->r, &w->pool, &e);
	if (rc)
		world_fail(w, "pool_import of %u of %u devices: %d %s", n, w->ndisks, rc, e.text);
	spares_read_history(w);
	disks_sync(w);
	disks_check_in_service(w);
	static struct pool_event ev[64];
	for (unsigned i = pool_events(w->pool, 0, ev, 64); i-- > 0;)
		if (!strcmp(ev[i].kind, "replayed"))
			cover_hit(COVER_LOG_REPLAYS);
}

void world_close_volumes(struct world *w)
{
	fsvol_close(w);
	snapvol_close(w);
	for (unsigned i = 0; i < WORLD_VOLS_MAX; i++) {
		vol_close(w->vol[i].v);
		w->vol[i].v = NULL;
	}
}

static void verify_crashed(struct world *w)
{
	wvol_open_all(w);
	verify_all(w, false);
}

static void count_crash(struct world *w)
{
	if (!w->pool)
		return;
	bool moving = false, converting = false, rebuilding = false;
	for (size_t h = 0; h < w->pool->chunk_hash_size; h++)
		for (const struct chunk *c = w->pool->chunk_hash[h]; c; c = c->hash_next)
			moving |= c->moving;
	for (unsigned i = 0; i < w->pool->ndevs; i++)
		rebuilding |= w->pool->devs[i].flags & DEV_F_TAKEN;
	for (const struct vol *v = w->pool->vols; v; v = v->next)
		converting |= v->converting;
	cover_add(COVER_CRASH_MOVING, moving);
	cover_add(COVER_CRASH_CONVERTING, converting);
	cover_add(COVER_CRASH_REBUILDING, rebuilding);
}

static void cut_power(struct world *w)
{
	enum sim_cut how = SIM_CUT_RANDOM;
	uint64_t dice = rng_below(&w->rng, 6);
	if (dice == 0)
		how = SIM_CUT_LOSE_ALL;
	else if (dice == 1)
		how = SIM_CUT_KEEP_ALL;
	if (how == SIM_CUT_LOSE_ALL)
		cover_hit(COVER_CRASH_LOSE_ALL);
	uint64_t now = w->r->ops->wall_ns(w->r);
	if (w->boot_cut_short && now > w->boot_last_ns)
		w->boot_last_ns = now;
	world_log(w, "POWER CUT at tick %llu (%d)", (unsigned long long)w->bus.ticks, how);
	count_crash(w);
	/* Some devices may have power of their own. */
	bool subset = rng_chance(&w->rng, 1, 3);
	cover_add(COVER_SUBSET_CUTS, subset);
	for (unsigned i = 0; i < w->ndisks; i++)
		sim_disk_cut(w->disk[i], subset ? (enum sim_cut)rng_below(&w->rng, 3) : how);
	sim_reactor_crash(w->r);
	w->bus.frozen = false;
	w->bus.halt_at = 0;
	if (w->pool) {
		reactor_enter(w->r);
		pool_abandon(w->pool);
		reactor_leave();
	}
	w->pool = NULL;
	for (unsigned i = 0; i < WORLD_VOLS_MAX; i++) {
		w->vol[i].v = NULL;
		w->vol[i].users = 0;
		w->vol[i].closing = w->vol[i].resizing = false;
	}
	for (unsigned i = 0; i < w->nworkers; i++)
		w->worker[i]->done = true;
	w->chaos_done = w->admin_done = w->fs_done = w->snap_done = true;
	fsvol_crashed(w);
	snapvol_crashed(w);
	w->hungry_until_ns = 0;
	w->hungry_ever = false;
	w->emptying = 0;
	sim_reactor_skip(w->r, rng_below(&w->rng, 20) * SIM_SEC);
	if (rng_chance(&w->rng, 1, 10))
		sim_reactor_jump_wall(w->r, (int64_t)rng_below(&w->rng, 7200 * SIM_SEC) -
						    (int64_t)(3600 * SIM_SEC));
}

void world_boot(struct world *w)
{
	for (unsigned try = 0;; try++) {
		bool may_crash = try < BOOT_TRIES && rng_chance(&w->rng, 1, 4);
		world_arm(w, may_crash ? 200 : 0);
		if (!world_call(w, import_pool, "pool_import")) {
			cover_hit(COVER_CRASH_IN_IMPORT);
			cut_power(w);
			continue;
		}
		if (may_crash)
			world_arm(w, 400);
		if (!world_call(w, verify_crashed, "verification")) {
			cover_hit(COVER_CRASH_IN_VERIFY);
			cut_power(w);
			continue;
		}
		world_arm(w, 0);
		verify_rebase(w);
		return;
	}
}

void world_crash(struct world *w)
{
	cover_hit(COVER_CRASHES);
	cut_power(w);
	/* A damaged device may be away, or back with what it had. */
	w->victim_absent = w->victim >= 0 && w->faults == FAULTS_LOUD && rng_chance(&w->rng, 1, 2);
	if (w->victim >= 0 && !w->victim_absent && rng_chance(&w->rng, 1, 2))
		sim_disk_revive(w->disk[w->victim]);
	world_boot(w);
}

static void first_volumes(struct world *w)
{
	unsigned n = 1 + (unsigned)rng_below(&w->rng, 3);
	for (unsigned i = 0; i < n; i++)
		wvol_create(w, &w->rng);
	fsvol_create(w);
	snapvol_create(w);
}

void world_start(struct world *w)
{
	/* Now and then there was an older pool on the disks. */
	unsigned pools = rng_chance(&w->rng, 1, 4) ? 2 : 1;
	for (unsigned i = 0; i < pools; i++) {
		world_arm(w, rng_chance(&w->rng, 1, 8) ? 60 : 0);
		while (!world_call(w, create_pool, "pool_create"))
			cut_power(w);
		world_arm(w, 0);
		world_call(w, import_pool, "pool_import");
		world_call(w, first_volumes, "vol_create");
		if (i + 1 < pools) {
			cut_power(w);
			for (unsigned v = 0; v < WORLD_VOLS_MAX; v++)
				wvol_forget(&w->vol[v]);
		}
	}
}

static void export_pool(struct world *w)
{
	struct err e = {0};
	world_close_volumes(w);
	int rc = pool_export(w->pool, false, &e);
	if (rc)
		world_fail(w, "pool_export: %d %s", rc, e.text);
	w->pool = NULL;
	cover_hit(COVER_CLEAN_EXPORTS);
}

static void reopen(struct world *w)
{
	import_pool(w);
	wvol_open_all(w);
	verify_all(w, true);
}

void world_export(struct world *w)
{
	world_log(w, "export");
	w->hungry_until_ns = 0;
	world_call(w, export_pool, "pool_export");
	world_call(w, reopen, "import after export");
	verify_rebase(w);
}
