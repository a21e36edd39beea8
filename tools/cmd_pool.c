/* cmd_pool: the table of `tarn pool ...`; export, events, offline, online. */
#include "tools/cmd_pool.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>
#include "tools/ctl_client.h"
#include "tools/pid_file.h"

#define EXIT_WAIT_MS 60000

static int cmd_pool_export(struct call *c)
{
	const char *pool = c->opt.args[0];
	struct json_object *args = json_object_new_object();
	bool force = option_given(&c->opt, "force");
	json_object_object_add(args, "force", json_object_new_boolean(force));
	int r = call_ask(c, pool, "pool.export", args, NULL);
	/* the daemon still has to end; then its devices and its name are free */
	if (!r && !pid_file_wait(pool, EXIT_WAIT_MS)) {
		err_set(&c->e, -ETIMEDOUT,
			"pool %s is exported but its daemon does not end; "
			"look into its log",
			pool);
		r = EXIT_FAILED;
	}
	return r;
}

static void event_print(struct json_object *o)
{
	char when[32];
	struct tm tm;
	time_t t = (time_t)(get_u64(o, "wall_ns") / 1000000000u);
	localtime_r(&t, &tm);
	strftime(when, sizeof(when), "%F %T", &tm);
	printf("%s  %-12s %s\n", when, get_string(o, "kind"), get_string(o, "text"));
}

static int cmd_pool_events(struct call *c)
{
	bool follow = option_given(&c->opt, "follow");
	uint64_t since = 0;
	for (;;) {
		struct json_object *args = json_object_new_object(), *list = NULL;
		json_object_object_add(args, "since", json_object_new_uint64(since));
		int r = call_ask(c, c->opt.args[0], "pool.events", args, &list);
		if (r)
			return r;
		size_t n = json_object_array_length(list);
		bool json = (!follow || n) && call_json(c, list);
		for (size_t i = 0; i < n; i++) {
			struct json_object *o = json_object_array_get_idx(list, i);
			if (!json)
				event_print(o);
			since = get_u64(o, "seq");
		}
		json_object_put(list);
		if (fflush(stdout))
			return EXIT_FAILED;
		if (!follow)
			return EXIT_OK;
		sleep(1);
	}
}

static int cmd_pool_offline(struct call *c)
{
	return call_ask(c, c->opt.args[0], "pool.offline", device_args(c->opt.args[1]), NULL);
}

static int cmd_pool_online(struct call *c)
{
	return call_ask(c, c->opt.args[0], "pool.online", device_args(c->opt.args[1]), NULL);
}

static const struct option_spec help_only[] = {OPTION_HELP, {0}};
static const struct option_spec listing[] = {OPTION_HELP, OPTION_JSON, OPTION_BYTES, {0}};
static const struct option_spec force[] = {
	OPTION_HELP,
	{"force", 'f', NULL, "cut off users; what they did not fsync may be lost"},
	{0},
};
static const struct option_spec create[] = {
	OPTION_HELP,
	{"size", 's', "SIZE", "make missing files, sparse, of this size"},
	{"domain", 'd', "DEVICE=NAME",
	 "failure domain of a device (repeatable); copies of a block go to different domains"},
	{"class", 0, "DEVICE=NAME",
	 "class of a device (repeatable; default for disks: nvme, ssd or hdd, as detected)"},
	{"chunk-size", 'c', "SIZE", "power of two from 1M to 64M (default: by device size)"},
	{"force", 'f', NULL, "destroy data that is on the devices"},
	{"no-start", 0, NULL, "write the pool, do not start its daemon"},
	{0},
};
static const struct option_spec import[] = {
	OPTION_HELP,
	{"degraded", 0, NULL, "import although most devices are missing"},
	{"force", 'f', NULL, "take over at once, do not wait for another host to let go"},
	{"read-only", 'r', NULL, "change nothing: the newest commit, to look at and copy from"},
	{"mover-rate", 0, "SIZE", "most bytes a second to move between devices, 1M or more"},
	{0},
};
static const struct option_spec check[] = {
	OPTION_HELP,
	OPTION_JSON,
	{"quick", 'q', NULL, "structure only, do not read the data"},
	{0},
};
static const struct option_spec events[] = {
	OPTION_HELP,
	OPTION_JSON,
	{"follow", 'F', NULL, "go on with events as they come"},
	{0},
};

const struct command commands_pool[] = {
	{"pool create", "POOL DEVICE...", "write a new pool on devices and start it", create, 2, -1,
	 cmd_pool_create,
	 "Devices are files, partitions or disks, of any mix of sizes. Existing files and block "
	 "devices are taken as they are; missing files are made with --size."},
	{"pool import", "DEVICE...|POOL", "start a pool from its devices", import, 1, -1,
	 cmd_pool_import,
	 "Give the devices in any order, or a directory that holds them; files that belong to no "
	 "pool are left out. A pool that is known here (imported before and not exported) is "
	 "started by its name."},
	{"pool export", "POOL", "stop a pool so that it can move", force, 1, 1, cmd_pool_export,
	 "Refused while volumes are mounted or images are open."},
	{"pool status", "[POOL]", "show health, capacity and devices", listing, 0, 1,
	 cmd_pool_status, NULL},
	{"pool list", "", "list pools known here", listing, 0, 0, cmd_pool_list, NULL},
	{"pool check", "POOL|DEVICE...", "verify everything in a pool, read-only", check, 1, -1,
	 cmd_pool_check,
	 "A running pool is checked by its daemon, while in use; otherwise give its devices. "
	 "The exit status is 1 when problems were found."},
	{"pool events", "POOL", "show what happened to a pool", events, 1, 1, cmd_pool_events,
	 NULL},
	{0},
};

const struct command commands_device[] = {
	{"pool offline", "POOL DEVICE", "take a device out of service", help_only, 2, 2,
	 cmd_pool_offline,
	 "The device stays a member; what is written meanwhile is remembered. DEVICE is its path, "
	 "or its number in `tarn pool status`."},
	{"pool online", "POOL DEVICE", "bring a device back", help_only, 2, 2, cmd_pool_online,
	 "Only what was written meanwhile is copied. DEVICE is a path (it may be a new one)."},
	{0},
};
