/* cmd_pool_check: `tarn pool check`: of a running pool through its daemon, or of devices at hand,
 * read-only. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "tools/cmd_pool.h"
#include "tools/ctl_client.h"
#include "tools/members.h"
#include "tools/names.h"
#include "tools/state_file.h"
#include "tools/trees_check.h"

static void progress_show(void *arg, uint64_t done, uint64_t total)
{
	static time_t last;
	(void)arg;
	time_t now = time(NULL);
	if (!total || now == last || !isatty(STDERR_FILENO))
		return;
	last = now;
	uint64_t percent = done >= total ? 100 : done / ((total + 99) / 100);
	fprintf(stderr, "\rchecking: %" PRIu64 " %%  ", percent);
}

static void progress_clear(void)
{
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "\r\033[K");
}

struct check {
	struct call *c;
	bool deep;
	FILE *out;
	struct pool_check_result res;
	struct fs_check_result trees;
};

static int check_pool(struct pool *p, void *arg)
{
	struct check *k = arg;
	int r = pool_check(p, k->deep, k->out, progress_show, NULL, &k->res, &k->c->e);
	return r ? r : trees_check(p, k->out, &k->trees, &k->c->e);
}

/* Check without a daemon; the result looks like the daemon's. */
static int check_offline(struct check *k, char *const *paths, int n, struct json_object **ret_o)
{
	struct members m;
	char *text = NULL;
	size_t len = 0;
	int r = members_find(paths, n, &m, &k->c->e);
	if (r)
		return r;
	k->out = open_memstream(&text, &len);
	r = k->out ? members_use(&m, check_pool, k, &k->c->e)
		   : err_set(&k->c->e, -ENOMEM, "out of memory");
	if (k->out)
		fclose(k->out);
	members_fini(&m);
	if (!r) {
		struct json_object *o = json_object_new_object();
		json_object_object_add(o, "nodes", json_object_new_uint64(k->res.nodes));
		json_object_object_add(o, "extents", json_object_new_uint64(k->res.extents));
		json_object_object_add(o, "data_blocks",
				       json_object_new_uint64(k->res.data_blocks));
		json_object_object_add(o, "problems", json_object_new_uint64(k->res.problems));
		trees_check_to_json(&k->trees, o);
		json_object_object_add(o, "text", json_object_new_string(text ? text : ""));
		*ret_o = o;
	}
	free(text);
	return r;
}

static int check_running(struct check *k, const char *pool, struct json_object **ret_o)
{
	int s;
	int r = ctl_connect(pool, &s, &k->c->e);
	if (r)
		return r;
	struct json_object *args = json_object_new_object();
	json_object_object_add(args, "deep", json_object_new_boolean(k->deep));
	r = ctl_call(s, "pool.check", args, -1, progress_show, NULL, ret_o, &k->c->e);
	close(s);
	return r;
}

int cmd_pool_check(struct call *c)
{
	struct check k = {.c = c, .deep = !option_given(&c->opt, "quick")};
	struct json_object *o = NULL;
	struct state_file known = {0};
	const char *first = c->opt.args[0];
	bool named = c->opt.nargs == 1 && pool_name_valid(first) && access(first, F_OK);
	int r;
	if (named && (ctl_running(first) || state_file_load(first, &known, NULL)))
		r = check_running(&k, first, &o);
	else if (named)
		r = check_offline(&k, known.devs, (int)known.ndevs, &o);
	else
		r = check_offline(&k, c->opt.args, c->opt.nargs, &o);
	state_file_fini(&known);
	progress_clear();
	if (r)
		return EXIT_FAILED;
	uint64_t problems = get_u64(o, "problems");
	if (!call_json(c, o)) {
		fputs(get_string(o, "text"), stdout);
		if (get_bool(o, "text_truncated"))
			puts("... (more problems than fit here)");
		printf("checked %" PRIu64 " nodes, %" PRIu64 " extents, %" PRIu64
		       " data blocks, %" PRIu64 " inodes: ",
		       get_u64(o, "nodes"), get_u64(o, "extents"), get_u64(o, "data_blocks"),
		       get_u64(o, "inodes"));
		if (problems)
			printf("%" PRIu64 " problem%s\n", problems, problems == 1 ? "" : "s");
		else
			puts("no problem found");
	}
	json_object_put(o);
	return problems ? EXIT_FAILED : EXIT_OK;
}
