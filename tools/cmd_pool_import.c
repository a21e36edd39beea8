/* cmd_pool_import: `tarn pool import`: find the devices of one pool and start its daemon.
 *
 * The arguments are paths, or the name of a pool that is known here (state file): that is how a
 * pool is started again after its daemon was killed or stopped.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "tools/cmd_pool.h"
#include "tools/command_text.h"
#include "tools/ctl_client.h"
#include "tools/members.h"
#include "tools/names.h"
#include "tools/pid_file.h"
#include "tools/size_text.h"
#include "tools/start.h"
#include "tools/state_file.h"

/* One word without a slash that is no file: the name of a pool. */
static bool names_pool(const struct options *o)
{
	return o->nargs == 1 && pool_name_valid(o->args[0]) && access(o->args[0], F_OK);
}

/* Served here? A daemon that was killed a moment ago does not count, though it may still answer. */
static bool running(const char *pool)
{
	pid_file_outlive(pool);
	return ctl_running(pool);
}

static int import_known(struct call *c, const struct start_options *so)
{
	struct state_file s;
	int r = state_file_load(so->pool, &s, &c->e);
	if (r == -ENOENT)
		return err_set(&c->e, r,
			       "no pool %s is known here (exported, or never imported); "
			       "`tarn pool import DEVICE...` with its devices",
			       so->pool);
	if (r)
		return r;
	state_file_fini(&s);
	return start_daemon(so, &c->e);
}

static int import_paths(struct call *c, struct start_options *so, char pool[POOL_NAME_MAX + 1])
{
	struct members m;
	int r = members_find(c->opt.args, c->opt.nargs, &m, &c->e);
	if (r)
		return r;
	so->pool = m.label.name;
	so->devs = (const char *const *)m.path;
	so->ndevs = m.n;
	if (!pool_name_valid(so->pool))
		r = err_set(&c->e, ERR_FORMAT, "the label of %s is damaged", m.path[0]);
	else if (running(so->pool))
		r = err_set(&c->e, ERR_IN_USE, "pool %s is running here already", so->pool);
	else
		r = start_daemon(so, &c->e);
	snprintf(pool, sizeof(m.label.name), "%s", m.label.name);
	members_fini(&m);
	return r;
}

/* It has started, but without some devices. */
static void missing_report(const char *pool)
{
	struct json_object *o = NULL, *devs;
	struct err e = {0};
	if (ctl_ask(pool, "pool.status", NULL, &o, &e))
		return;
	devs = get_array(o, "devices");
	for (size_t i = 0; devs && i < json_object_array_length(devs); i++) {
		struct json_object *d = json_object_array_get_idx(devs, i);
		if (!strcmp(get_string(d, "state"), "missing"))
			fprintf(stderr, "tarn: device %u (last at %s) of pool %s is missing\n",
				(unsigned)get_u64(d, "id"), get_string(d, "path"), pool);
	}
	json_object_put(o);
}

int cmd_pool_import(struct call *c)
{
	struct start_options so = {.degraded = option_given(&c->opt, "degraded"),
				   .force = option_given(&c->opt, "force"),
				   .read_only = option_given(&c->opt, "read-only"),
				   .mover_rate = option_value(&c->opt, "mover-rate", NULL)};
	char pool[POOL_NAME_MAX + 1], record[COMMAND_TEXT_MAX];
	uint64_t rate;
	int r;
	if (so.mover_rate && (size_parse(so.mover_rate, &rate) || rate < 1u << 20))
		return call_usage(c, "--mover-rate %s: a size from 1M on, like 50M, is needed",
				  so.mover_rate);
	command_text_of(c->cmd->name, &c->opt, record, sizeof(record));
	so.record = record;
	if (names_pool(&c->opt)) {
		so.pool = c->opt.args[0];
		snprintf(pool, sizeof(pool), "%s", so.pool);
		r = running(so.pool)
			    ? err_set(&c->e, ERR_IN_USE, "pool %s is running here already", so.pool)
			    : import_known(c, &so);
	} else {
		r = import_paths(c, &so, pool);
	}
	if (!r)
		missing_report(pool);
	return r ? EXIT_FAILED : EXIT_OK;
}
