/* cmd_pool_trim: `tarn pool trim`. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include "tools/cmd_pool.h"
#include "tools/size_text.h"
#include "tools/watch.h"

static void done_print(struct json_object *t)
{
	char size[SIZE_TEXT_MAX];
	uint64_t out = get_u64(t, "devices_left_out");
	printf("trim complete: devices were told of %s that hold nothing",
	       size_text(size, get_u64(t, "discarded_bytes"), false));
	if (out)
		printf("; %" PRIu64 " device%s no discards, or %s not in service", out,
		       out == 1 ? " takes" : "s take", out == 1 ? "is" : "are");
	puts("");
}

static bool trim_look(void *arg, struct json_object *status, struct watch_progress *p,
		      int *ret_exit)
{
	struct call *c = arg;
	struct json_object *t = NULL;
	json_object_object_get_ex(status, "trim", &t);
	uint64_t total = get_u64(t, "total_bytes");
	p->done = get_u64(t, "done_bytes");
	p->left = total > p->done ? total - p->done : 0;
	watch_rate(t, "", p);
	if (get_bool(t, "running"))
		return true;
	*ret_exit = EXIT_OK;
	if (get_bool(t, "complete")) {
		done_print(t);
		return false;
	}
	*ret_exit = EXIT_FAILED;
	err_set(&c->e, -ECANCELED, "the trim was stopped");
	return false;
}

int cmd_pool_trim(struct call *c)
{
	char stop[96];
	const char *pool = c->opt.args[0];
	bool wait = option_given(&c->opt, "wait"), end = option_given(&c->opt, "stop");
	if (wait && end)
		return call_usage(c, "--stop goes with no other option");
	struct json_object *args = json_object_new_object();
	json_object_object_add(args, "stop", json_object_new_boolean(end));
	int r = call_ask(c, pool, "pool.trim", args, NULL);
	if (r && wait && c->e.code == -EBUSY) { /* one is running: wait for that */
		c->e.code = 0;
		r = EXIT_OK;
	}
	snprintf(stop, sizeof(stop), "tarn pool trim %s --stop", pool);
	if (!r && wait)
		r = watch(c, pool, "trim", stop, trim_look, c);
	else if (!r && !end)
		printf("trimming in background; `tarn pool status %s` shows how far it is\n", pool);
	return r;
}
