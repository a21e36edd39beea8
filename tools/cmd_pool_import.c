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
#include "tools/ctl_client.h"
#include "tools/members.h"
#include "tools/names.h"
#include "tools/start.h"
#include "tools/state_file.h"

/* One word without a slash that is no file: the name of a pool. */
static bool names_pool(const struct options *o)
{
	return o->nargs == 1 && pool_name_valid(o->args[0]) && access(o->args[0], F_OK);
}

static int import_known(struct call *c, const struct start_options *so)
{
	struct state_file s;
	int r = state_file_load(so->pool, &s, &c->e);
	if (r == -ENOENT)
		return err_set(&c->e, r, "no pool %s is known here (exported, or never imported); "
			       "`tarn pool import DEVICE...` with its devices", so->pool);
	if (r)
		return r;
	state_file_fini(&s);
	return start_daemon(so, &c->e);
}

static int import_paths(struct call *c, struct start_options *so)
{
	struct members m;
	int r = members_find(c->opt.args, c->opt.nargs, &m, &c->e);
	if (r)
		return r;
	if (m.n < m.label.ndevs)
		fprintf(stderr, "tarn: %u of the %u devices of pool %s are missing\n",
			m.label.ndevs - m.n, m.label.ndevs, m.label.name);
	so->pool = m.label.name;
	so->devs = (const char *const *)m.path;
	so->ndevs = m.n;
	if (!pool_name_valid(so->pool))
		r = err_set(&c->e, ERR_FORMAT, "the label of %s is damaged", m.path[0]);
	else if (ctl_running(so->pool))
		r = err_set(&c->e, ERR_IN_USE, "pool %s is running here already", so->pool);
	else
		r = start_daemon(so, &c->e);
	members_fini(&m);
	return r;
}

int cmd_pool_import(struct call *c)
{
	struct start_options so = { .degraded = option_given(&c->opt, "degraded"),
				    .force = option_given(&c->opt, "force") };
	int r;
	if (names_pool(&c->opt)) {
		so.pool = c->opt.args[0];
		r = ctl_running(so.pool) ?
			err_set(&c->e, ERR_IN_USE, "pool %s is running here already", so.pool) :
			import_known(c, &so);
	} else {
		r = import_paths(c, &so);
	}
	return r ? EXIT_FAILED : EXIT_OK;
}
