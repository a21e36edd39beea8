/* verbs_check: verify a pool; verify the tree of a volume, and repair it. */
#include <errno.h>
#include <stdlib.h>
#include "tools/hop.h"
#include "tools/sessions.h"
#include "tools/trees_check.h"
#include "tools/verbs.h"

#define CHECK_TEXT_MAX (256u << 10)

static void check_progress(void *arg, uint64_t done, uint64_t total)
{
	struct request *q = arg;
	q->progress_done = done;
	q->progress_total = total;
}

int verb_pool_check(struct request *q)
{
	bool deep = true;
	int r = arg_bool(q, "deep", &deep);
	if (r)
		return r;
	FILE *f;
	struct capped *c = capped_open(CHECK_TEXT_MAX, &f);
	if (!c)
		return err_set(&q->e, -ENOMEM, "out of memory");
	struct pool_check_result res = {0};
	struct fs_check_result trees = {0};
	r = pool_check(q->d->pool, deep, f, check_progress, q, &res, &q->e);
	if (!r)
		r = trees_check(q->d->pool, f, &trees, &q->e);
	q->result = json_object_new_object();
	add_u64(q->result, "nodes", res.nodes);
	add_u64(q->result, "extents", res.extents);
	add_u64(q->result, "data_blocks", res.data_blocks);
	add_u64(q->result, "problems", res.problems);
	trees_check_to_json(&trees, q->result);
	capped_close(c, f, q->result, "text");
	return r;
}

struct tree_call {
	struct request *q;
	const char *name;
	bool repair;
	FILE *out;
	struct fs_check_result res;
};

static int tree_commit(void *arg)
{
	return pool_commit(arg);
}

static int tree_co(void *arg)
{
	struct tree_call *c = arg;
	struct request *q = c->q;
	struct vol_info *i = calloc(1, sizeof(*i));
	struct vol *v;
	if (!i)
		return err_set(&q->e, -ENOMEM, "out of memory");
	int r = vol_open(q->d->pool, c->name, &v, &q->e);
	if (r) {
		free(i);
		return r;
	}
	vol_info_get(v, i);
	if (i->type != VOL_TYPE_FS)
		r = err_set(&q->e, -EINVAL,
			    "%s/%s is a block volume: what is in it is checked by the fsck of its "
			    "own file system",
			    q->d->name, c->name);
	else if (c->repair ? fs_repair(v, c->name, c->out, tree_commit, q->d->pool, &c->res, &q->e)
			   : fs_check(v, c->name, c->out, &c->res, &q->e))
		trees_check_failed(c->out, &c->res, &q->e); /* what was found is told, too */
	vol_close(v);
	free(i);
	return r;
}

static int tree_run(struct tree_call *c)
{
	struct request *q = c->q;
	struct session *held = NULL;
	int r = 0;
	if (c->repair)
		r = session_refuse(q->d, c->name, &q->e);
	if (!r && c->repair)
		r = session_hold(q->d, c->name, "a repair", &held, &q->e);
	if (!r)
		r = hop_run(daemon_bg(q->d), tree_co, c, NULL, NULL);
	session_let_go(held);
	return r;
}

/* Nobody can mount the volume while it is repaired. */
int verb_volume_check(struct request *q)
{
	struct tree_call c = {.q = q};
	int r = arg_volume(q, "name", &c.name);
	if (!r)
		r = arg_bool(q, "repair", &c.repair);
	if (r)
		return r;
	struct capped *text = capped_open(CHECK_TEXT_MAX, &c.out);
	if (!text)
		return err_set(&q->e, -ENOMEM, "out of memory");
	r = tree_run(&c);
	q->result = json_object_new_object();
	trees_check_to_json(&c.res, q->result);
	add_u64(q->result, "repaired", c.res.repaired);
	add_u64(q->result, "left", c.res.left);
	capped_close(text, c.out, q->result, "text");
	return r;
}
