/* cmd_pool_history: `tarn pool history` and `tarn pool set`. */
#include <errno.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include "tools/cmd_pool.h"
#include "tools/table.h"

/* Name of a user, or the number when it has none here. Valid until the next call. */
static const char *user_text(uint64_t uid)
{
	static char number[24];
	struct passwd *pw = getpwuid((uid_t)uid);
	snprintf(number, sizeof(number), "%" PRIu64, uid);
	return pw ? pw->pw_name : number;
}

/* The whole history, in pieces as the daemon gives them. */
static int history_get(struct call *c, struct json_object *all)
{
	uint64_t after = 0;
	for (;;) {
		struct json_object *args = json_object_new_object(), *list = NULL;
		json_object_object_add(args, "after", json_object_new_uint64(after));
		int r = call_ask(c, c->opt.args[0], "pool.history", args, &list);
		if (r)
			return r;
		size_t n = json_object_array_length(list);
		for (size_t i = 0; i < n; i++) {
			struct json_object *o = json_object_array_get_idx(list, i);
			const char *user = user_text(get_u64(o, "uid"));
			json_object_object_add(o, "user", json_object_new_string(user));
			json_object_array_add(all, json_object_get(o));
			after = get_u64(o, "seq");
		}
		json_object_put(list);
		if (!n)
			return EXIT_OK;
	}
}

static void history_print(struct json_object *all)
{
	char when[TIME_TEXT_MAX];
	size_t n = json_object_array_length(all);
	if (!n) {
		puts("no commands are recorded");
		return;
	}
	struct table *t = table_create("TIME,USER,RESULT,COMMAND");
	for (size_t i = 0; i < n; i++) {
		struct json_object *o = json_object_array_get_idx(all, i);
		table_cell(t, "%s", time_text(when, get_u64(o, "wall_ns")));
		table_cell(t, "%s", get_string(o, "user"));
		table_cell(t, "%s", get_string(o, "result"));
		table_cell(t, "%s", get_string(o, "command"));
	}
	table_print(t, 0);
}

static int cmd_pool_history(struct call *c)
{
	struct json_object *all = json_object_new_array();
	int r = history_get(c, all);
	if (!r && !call_json(c, all))
		history_print(all);
	json_object_put(all);
	return r;
}

static int set_one(struct call *c, const char *assignment)
{
	const char *eq = strchr(assignment, '=');
	if (!eq || eq == assignment)
		return call_usage(c, "%s: PROPERTY=VALUE is needed", assignment);
	struct json_object *args = json_object_new_object();
	json_object_object_add(args, "key",
			       json_object_new_string_len(assignment, (int)(eq - assignment)));
	json_object_object_add(args, "value", json_object_new_string(eq + 1));
	return call_ask(c, c->opt.args[0], "pool.set", args, NULL);
}

static int cmd_pool_set(struct call *c)
{
	int r = EXIT_OK;
	for (int i = 1; !r && i < c->opt.nargs; i++)
		r = set_one(c, c->opt.args[i]);
	return r;
}

static const struct option_spec help_only[] = {OPTION_HELP, {0}};
static const struct option_spec listing[] = {OPTION_HELP, OPTION_JSON, {0}};

const struct command commands_history[] = {
	{"pool set", "POOL PROPERTY=VALUE...", "change properties of a pool", help_only, 2, -1,
	 cmd_pool_set,
	 "Properties: trash-retention=TIME, how long destroyed volumes can come back, like 90s, "
	 "30m, 24h (the default) or 7d; spare-after=TIME, how long a device is missing before a "
	 "spare takes its place (10m; never or 0: not by itself); discard=on|off, whether devices "
	 "are told what becomes free (on)."},
	{"pool history", "POOL", "show who changed what, and when", listing, 1, 1, cmd_pool_history,
	 "Commands that change the pool or its volumes, with their results; kept in the pool."},
	{0},
};
