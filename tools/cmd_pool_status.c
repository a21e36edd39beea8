/* cmd_pool_status: `tarn pool status` and `tarn pool list`. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "tools/cmd_pool.h"
#include "tools/ctl_client.h"
#include "tools/names.h"
#include "tools/size_text.h"
#include "tools/state_file.h"
#include "tools/table.h"
#include "tools/watch.h"

#define WEEK_NS	    (7 * 86400 * 1000000000ull)
#define FORECAST_NS (520 * WEEK_NS) /* what is farther off is not worth telling */

/* A size member as text. One buffer for each of a few calls in one expression. */
static const char *size_of(struct json_object *o, const char *key, bool exact)
{
	static char buf[8][SIZE_TEXT_MAX];
	static unsigned next;
	return size_text(buf[next++ % 8], get_u64(o, key), exact);
}

static unsigned percent(uint64_t part, uint64_t whole)
{
	return whole ? (unsigned)((double)part * 100 / (double)whole + 0.5) : 0;
}

/* "online", "online, evacuating", "online, spare", "missing, replaced" */
static void state_cell(struct table *t, struct json_object *d)
{
	const char *what = get_bool(d, "taken")	       ? ", replaced"
			   : get_bool(d, "evacuating") ? ", evacuating"
			   : get_bool(d, "shrinking")  ? ", shrinking"
			   : get_bool(d, "spare")      ? ", spare"
						       : "";
	table_cell(t, "%s%s", get_string(d, "state"), what);
}

static const char *or_dash(const char *s)
{
	return *s ? s : "-";
}

static void device_row(struct table *t, struct json_object *d, bool exact)
{
	static const char *const counts[] = {"read_errors", "write_errors", "checksum_errors",
					     "repaired"};
	table_cell(t, "%s", get_string(d, "path"));
	table_cell(t, "%" PRIu64, get_u64(d, "id"));
	state_cell(t, d);
	table_cell(t, "%s", or_dash(get_string(d, "domain")));
	table_cell(t, "%s", or_dash(get_string(d, "class")));
	table_cell(t, "%s", size_of(d, "size_bytes", exact));
	table_cell(t, "%s", size_of(d, "used_bytes", exact));
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
		table_cell(t, "%" PRIu64, get_u64(d, counts[i]));
}

/* What else there is to say of a device: resync, errors that a scrub found. */
static void device_notes(struct json_object *d, bool exact)
{
	char text[160];
	uint64_t total = get_u64(d, "resync_total_bytes"), bad = get_u64(d, "scrub_errors");
	struct watch_progress p = {.done = get_u64(d, "resync_done_bytes")};
	p.left = total > p.done ? total - p.done : 0;
	watch_rate(d, "resync_", &p);
	if (p.left)
		printf("  %s: resync %s\n", get_string(d, "path"),
		       watch_text(text, sizeof(text), &p, exact));
	else if (get_u64(d, "stale_since_txn"))
		printf("  %s: behind since transaction %" PRIu64 "\n", get_string(d, "path"),
		       get_u64(d, "stale_since_txn"));
	if (bad)
		printf("  %s: the last scrub found %" PRIu64 " bad cop%s\n", get_string(d, "path"),
		       bad, bad == 1 ? "y" : "ies");
}

static void devices_print(struct json_object *devs, bool exact)
{
	struct table *t = table_create("DEVICE,ID,STATE,DOMAIN,CLASS,>SIZE,>USED,>READ ERR,"
				       ">WRITE ERR,>CHECKSUM,>REPAIRED");
	for (size_t i = 0; devs && i < json_object_array_length(devs); i++)
		device_row(t, json_object_array_get_idx(devs, i), exact);
	table_print(t, 2);
	for (size_t i = 0; devs && i < json_object_array_length(devs); i++)
		device_notes(json_object_array_get_idx(devs, i), exact);
}

static void mover_print(struct json_object *o, bool exact)
{
	struct json_object *m = NULL;
	char text[160];
	json_object_object_get_ex(o, "mover", &m);
	struct watch_progress p = {.done = get_u64(m, "done_bytes"),
				   .left = get_u64(m, "left_bytes")};
	watch_rate(m, "", &p);
	bool rebalancing = get_bool(m, "rebalancing");
	if (get_bool(m, "active"))
		printf("%-9s %s\n", rebalancing ? "rebalance" : "moving",
		       p.left ? watch_text(text, sizeof(text), &p, exact) : "about to end");
}

static void scrub_print(struct json_object *o, bool exact)
{
	struct json_object *s = NULL;
	char when[32], text[160];
	struct tm tm;
	json_object_object_get_ex(o, "scrub", &s);
	bool running = get_bool(s, "running");
	uint64_t ns = get_u64(s, running ? "started_ns" : "ended_ns");
	time_t t = (time_t)(ns / 1000000000u);
	if (!ns)
		return;
	localtime_r(&t, &tm);
	strftime(when, sizeof(when), "%F %T", &tm);
	struct watch_progress p = {.done = get_u64(s, "done_bytes")};
	uint64_t total = get_u64(s, "total_bytes");
	p.left = total > p.done ? total - p.done : 0;
	watch_rate(s, "", &p);
	if (running)
		printf("scrub     since %s: %s", when, watch_text(text, sizeof(text), &p, exact));
	else
		printf("scrub     %s %s, %s read", get_bool(s, "complete") ? "complete" : "stopped",
		       when, size_of(s, "done_bytes", exact));
	printf("; %" PRIu64 " repaired, %" PRIu64 " not\n", get_u64(s, "repaired"),
	       get_u64(s, "unrepaired"));
}

static void trim_print(struct json_object *o, bool exact)
{
	struct json_object *t = NULL;
	char text[160];
	json_object_object_get_ex(o, "trim", &t);
	struct watch_progress p = {.done = get_u64(t, "done_bytes")};
	uint64_t total = get_u64(t, "total_bytes");
	p.left = total > p.done ? total - p.done : 0;
	watch_rate(t, "", &p);
	if (get_bool(t, "running"))
		printf("trim      %s\n", watch_text(text, sizeof(text), &p, exact));
}

static const char *days_text(char *buf, size_t size, uint64_t ns)
{
	uint64_t hours = ns / (3600 * 1000000000ull);
	if (hours < 48)
		snprintf(buf, size, "%" PRIu64 " hour%s", hours, hours == 1 ? "" : "s");
	else
		snprintf(buf, size, "%" PRIu64 " days", (hours + 12) / 24);
	return buf;
}

/* When it is full if it goes on like this; nothing when it does not grow, or not noticeably. */
static void forecast_print(struct json_object *o, bool exact)
{
	struct json_object *f = NULL, *vols;
	char left[32], since[32];
	json_object_object_get_ex(o, "forecast", &f);
	uint64_t full = get_u64(f, "full_ns"), now = (uint64_t)time(NULL) * 1000000000u;
	uint64_t began = get_u64(f, "since_ns"), past = now > began ? now - began : 0;
	if (!full || full > now + FORECAST_NS)
		return;
	bool week = past > WEEK_NS - WEEK_NS / 14;
	printf("forecast  full in about %s at the growth of the last %s",
	       days_text(left, sizeof(left), full > now ? full - now : 0),
	       week ? "week" : days_text(since, sizeof(since), past));
	vols = get_array(f, "volumes");
	for (size_t i = 0; vols && i < json_object_array_length(vols); i++) {
		struct json_object *v = json_object_array_get_idx(vols, i);
		printf("%s%s %s", i ? ", " : "; grows most: ", get_string(v, "name"),
		       size_of(v, "grown_bytes", exact));
	}
	puts("");
}

static void mounts_print(struct json_object *mounts)
{
	if (!mounts || !json_object_array_length(mounts))
		return;
	printf("\n");
	struct table *t = table_create("MOUNTED,ON,TRANSPORT,>OPEN FILES,>REQUESTS");
	for (size_t i = 0; i < json_object_array_length(mounts); i++) {
		struct json_object *m = json_object_array_get_idx(mounts, i);
		table_cell(t, "%s", get_bool(m, "images") ? "(images)" : get_string(m, "source"));
		table_cell(t, "%s%s", get_string(m, "mountpoint"),
			   get_bool(m, "read_only") ? " (read-only)" : "");
		table_cell(t, "%s", get_string(m, "transport"));
		table_cell(t, "%" PRIu64, get_u64(m, "open_files"));
		table_cell(t, "%" PRIu64, get_u64(m, "requests_total"));
	}
	table_print(t, 2);
}

static void status_print(struct json_object *o, bool exact)
{
	uint64_t raw = get_u64(o, "raw_bytes"), used = get_u64(o, "raw_used_bytes");
	printf("pool      %s (%s)\n", get_string(o, "name"), get_string(o, "uuid"));
	printf("health    %s%s\n", get_string(o, "health"),
	       get_bool(o, "read_only") ? ", imported read-only" : "");
	printf("capacity  %s, %s used (%u %%), %s free; counting every copy\n",
	       size_of(o, "raw_bytes", exact), size_of(o, "raw_used_bytes", exact),
	       percent(used, raw), size_of(o, "raw_free_bytes", exact));
	forecast_print(o, exact);
	printf("volumes   %" PRIu64, get_u64(o, "volumes"));
	if (get_u64(o, "trashed"))
		printf(", and %" PRIu64 " in the trash", get_u64(o, "trashed"));
	printf("\n");
	printf("metadata  %s, transaction %" PRIu64 "\n", size_of(o, "meta_bytes", exact),
	       get_u64(o, "txn"));
	printf("memory    %s metadata cache, %s data cache, %s of %s dirty data\n",
	       size_of(o, "cache_bytes", exact), size_of(o, "data_cache_bytes", exact),
	       size_of(o, "delta_bytes", exact), size_of(o, "delta_limit_bytes", exact));
	mover_print(o, exact);
	scrub_print(o, exact);
	trim_print(o, exact);
	puts("");
	devices_print(get_array(o, "devices"), exact);
	mounts_print(get_array(o, "mounts"));
}

struct pools {
	unsigned n;
	char name[256][POOL_NAME_MAX + 1];
	bool running[256];
};

static void pools_add(void *arg, const char *pool)
{
	struct pools *p = arg;
	for (unsigned i = 0; i < p->n; i++)
		if (!strcmp(p->name[i], pool))
			return;
	if (p->n == 256)
		return;
	snprintf(p->name[p->n], sizeof(p->name[0]), "%s", pool);
	p->running[p->n++] = ctl_running(pool);
}

/* All pools known or running here. */
static void pools_find(struct pools *p)
{
	p->n = 0;
	state_file_each(pools_add, p);
	running_each(pools_add, p);
}

int cmd_pool_status(struct call *c)
{
	static struct pools p;
	bool exact = option_given(&c->opt, "bytes"), json = option_given(&c->opt, "json");
	if (c->opt.nargs)
		snprintf(p.name[p.n++], sizeof(p.name[0]), "%.*s", POOL_NAME_MAX, c->opt.args[0]);
	else
		pools_find(&p);
	struct json_object *all = json_object_new_array();
	int r = EXIT_OK;
	for (unsigned i = 0; !r && i < p.n; i++) {
		struct json_object *o = NULL;
		if (!c->opt.nargs && !p.running[i])
			continue;
		struct json_object *args = json_object_new_object();
		json_object_object_add(args, "forecast", json_object_new_boolean(true));
		r = call_ask(c, p.name[i], "pool.status", args, &o);
		if (r)
			break;
		if (!json) {
			printf("%s", json_object_array_length(all) ? "\n" : "");
			status_print(o, exact);
		}
		json_object_array_add(all, o);
	}
	if (!r && json)
		call_json(c, c->opt.nargs ? json_object_array_get_idx(all, 0) : all);
	if (!r && !json && !json_object_array_length(all))
		puts("no pool is running here");
	json_object_put(all);
	return r;
}

int cmd_pool_list(struct call *c)
{
	static struct pools p;
	bool exact = option_given(&c->opt, "bytes");
	struct json_object *all = json_object_new_array();
	pools_find(&p);
	struct table *t = table_create("POOL,STATE,>SIZE,>USED,>FREE,>VOLUMES,>DEVICES");
	for (unsigned i = 0; i < p.n; i++) {
		struct json_object *o = NULL, *devs;
		struct err e = {0};
		if (p.running[i] && ctl_ask(p.name[i], "pool.status", NULL, &o, &e))
			o = NULL;
		const char *state = o ? get_string(o, "health") : p.running[i] ? "busy" : "stopped";
		struct json_object *j = json_object_new_object();
		json_object_object_add(j, "name", json_object_new_string(p.name[i]));
		json_object_object_add(j, "state", json_object_new_string(state));
		table_cell(t, "%s", p.name[i]);
		table_cell(t, "%s", state);
		static const char *const keys[] = {"raw_bytes", "raw_used_bytes", "raw_free_bytes"};
		for (unsigned k = 0; k < 3; k++) {
			table_cell(t, "%s", o ? size_of(o, keys[k], exact) : "-");
			if (o)
				json_object_object_add(j, keys[k],
						       json_object_new_uint64(get_u64(o, keys[k])));
		}
		devs = o ? get_array(o, "devices") : NULL;
		table_cell(t, "%" PRIu64, o ? get_u64(o, "volumes") : 0);
		table_cell(t, "%zu", devs ? json_object_array_length(devs) : 0);
		json_object_array_add(all, j);
		json_object_put(o);
	}
	if (option_given(&c->opt, "json") || !p.n) {
		if (!call_json(c, all))
			puts("no pool is known here");
		json_object_put(all);
		return EXIT_OK;
	}
	table_print(t, 0);
	json_object_put(all);
	return EXIT_OK;
}
