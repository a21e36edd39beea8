/* cmd_pool_geometry: `tarn pool add | spare | class | replace | remove | shrink-device |
 * grow-device | rebalance | scrub`. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tools/cmd_pool.h"
#include "tools/ctl_client.h"
#include "tools/new_device.h"
#include "tools/size_text.h"
#include "tools/watch.h"

#define CLASS_MAX   15
#define PATH_SHOWN  256 /* bytes of a path that a status has */
#define LEAVE_LOOKS 60	/* so often look for the event that a device has left */

static void add_string(struct json_object *o, const char *key, const char *s)
{
	json_object_object_add(o, key, json_object_new_string(s));
}

static void add_flag(struct call *c, struct json_object *o, const char *key, const char *option)
{
	json_object_object_add(o, key, json_object_new_boolean(option_given(&c->opt, option)));
}

/* ---- add ---- */

struct add {
	struct call *c;
	const char *pool, *domain, *class;
	uint64_t size;
	bool spare;
	unsigned n;
	struct new_device *d; /* n */
};

static int add_options(struct add *a)
{
	struct call *c = a->c;
	const char *size = option_value(&c->opt, "size", NULL);
	a->domain = option_value(&c->opt, "domain", "");
	a->class = option_value(&c->opt, "class", "");
	a->spare = option_given(&c->opt, "spare");
	if (size && (size_parse(size, &a->size) || !a->size))
		return call_usage(c, "--size %s: a size like 8G is needed", size);
	if (*a->domain && !new_device_word(a->domain, POOL_DOMAIN_MAX))
		return call_usage(c,
				  "--domain %s: at most %d letters, digits and _ - . + are "
				  "needed",
				  a->domain, POOL_DOMAIN_MAX);
	if (*a->class && !new_device_word(a->class, CLASS_MAX))
		return call_usage(c,
				  "--class %s: at most %d letters, digits and _ - . + are "
				  "needed",
				  a->class, CLASS_MAX);
	return EXIT_OK;
}

/* All of them are made and looked at before the first one is added. */
static int add_prepare(struct add *a, char *const *paths)
{
	struct call *c = a->c;
	int r = 0;
	if (!ctl_running(a->pool)) { /* its text is better than one about devices */
		int s;
		return ctl_connect(a->pool, &s, &c->e);
	}
	for (unsigned i = 0; !r && i < a->n; i++) {
		r = new_device_prepare(paths[i], a->size, a->d, i, &a->d[i], &c->e);
		if (!r && !a->d[i].made)
			r = new_device_probe(a->d[i].path, option_given(&c->opt, "force"), &c->e);
	}
	return r;
}

static int add_one(struct add *a, struct new_device *d, struct json_object **ret_o)
{
	struct json_object *args = json_object_new_object();
	add_string(args, "device", d->path);
	if (*a->domain)
		add_string(args, "domain", a->domain);
	if (*a->class)
		add_string(args, "class", a->class);
	json_object_object_add(args, "spare", json_object_new_boolean(a->spare));
	add_flag(a->c, args, "force", "force");
	return call_ask(a->c, a->pool, "pool.add", args, ret_o);
}

/* Add the devices; ret_o (may be NULL): what the daemon says of the last one. */
static int add_run(struct add *a, char *const *paths, struct json_object **ret_o)
{
	unsigned done = 0;
	a->d = calloc(a->n, sizeof(*a->d));
	int r = a->d ? add_prepare(a, paths) : err_set(&a->c->e, -ENOMEM, "out of memory");
	for (; !r && done < a->n; done += !r)
		r = add_one(a, &a->d[done], ret_o);
	for (unsigned i = done; r && a->d && i < a->n; i++)
		new_device_undo(&a->d[i]);
	if (r && done)
		err_wrap(&a->c->e, "%u of %u devices are added", done, a->n);
	free(a->d);
	return r ? EXIT_FAILED : EXIT_OK;
}

static int cmd_pool_add(struct call *c)
{
	struct add a = {.c = c, .pool = c->opt.args[0], .n = (unsigned)c->opt.nargs - 1};
	int r = add_options(&a);
	return r ? r : add_run(&a, c->opt.args + 1, NULL);
}

/* ---- class, spare ---- */

static int cmd_pool_class(struct call *c)
{
	const char *name = c->opt.args[2];
	if (strcmp(name, "-") && !new_device_word(name, CLASS_MAX))
		return call_usage(c, "%s: at most %d letters, digits and _ - . + are needed", name,
				  CLASS_MAX);
	struct json_object *args = device_args(c->opt.args[1]);
	add_string(args, "class", name);
	return call_ask(c, c->opt.args[0], "pool.class", args, NULL);
}

/* Is it a member already, by number, path or the last part of its path? */
static bool is_member(struct json_object *devs, const char *name)
{
	char full[PATH_MAX], id[24];
	const char *path = realpath(name, full) ? full : name;
	for (size_t i = 0; devs && i < json_object_array_length(devs); i++) {
		struct json_object *d = json_object_array_get_idx(devs, i);
		const char *has = get_string(d, "path"), *slash = strrchr(has, '/');
		snprintf(id, sizeof(id), "%" PRIu64, get_u64(d, "id"));
		if (get_bool(d, "taken"))
			continue;
		if (!strcmp(id, name) || !strncmp(has, path, PATH_SHOWN - 1) ||
		    (slash && !strcmp(slash + 1, name)))
			return true;
	}
	return false;
}

/* What is new joins the pool as spares; members become spares and are emptied. */
static int spare_add(struct call *c, struct add *a, char **devs, int n)
{
	struct json_object *status = NULL;
	char **fresh = calloc((size_t)n, sizeof(*fresh));
	int r = fresh ? call_ask(c, a->pool, "pool.status", NULL, &status)
		      : err_set(&c->e, -ENOMEM, "out of memory");
	for (int i = 0; !r && i < n; i++)
		if (is_member(get_array(status, "devices"), devs[i]))
			r = call_ask(c, a->pool, "pool.spare", device_args(devs[i]), NULL);
		else
			fresh[a->n++] = devs[i];
	if (!r && a->n)
		r = add_run(a, fresh, NULL);
	json_object_put(status);
	free(fresh);
	return r ? EXIT_FAILED : EXIT_OK;
}

static int spare_remove(struct call *c, const char *pool, char **devs, int n)
{
	int r = EXIT_OK;
	for (int i = 0; !r && i < n; i++) {
		struct json_object *args = device_args(devs[i]);
		json_object_object_add(args, "spare", json_object_new_boolean(true));
		r = call_ask(c, pool, "pool.remove", args, NULL);
	}
	return r;
}

static int cmd_pool_spare(struct call *c)
{
	struct add a = {.c = c, .pool = c->opt.args[1]};
	const char *verb = c->opt.args[0];
	char **devs = c->opt.args + 2;
	int n = c->opt.nargs - 2, r = add_options(&a);
	if (r)
		return r;
	a.spare = true;
	if (!strcmp(verb, "add"))
		return spare_add(c, &a, devs, n);
	if (!strcmp(verb, "remove"))
		return c->opt.n ? call_usage(c, "remove goes with no option")
				: spare_remove(c, a.pool, devs, n);
	return call_usage(c, "%s: add or remove is needed", verb);
}

/* ---- a device on its way ---- */

struct leaving {
	struct call *c;
	const char *pool;
	uint64_t id;
	char path[PATH_SHOWN];
	const char *flag; /* member of its status that is true meanwhile */
	uint64_t size;	  /* shrink: what was asked for */
	unsigned looks;
};

static struct json_object *device_of(struct json_object *status, const struct leaving *l)
{
	struct json_object *devs = get_array(status, "devices");
	for (size_t i = 0; devs && i < json_object_array_length(devs); i++) {
		struct json_object *d = json_object_array_get_idx(devs, i);
		if (get_u64(d, "id") == l->id && !strcmp(get_string(d, "path"), l->path))
			return d;
	}
	return NULL;
}

/* Has it let go of the device, too? The pool says so in an event, after it has wiped the labels. */
static bool has_left(struct leaving *l)
{
	struct json_object *list = NULL;
	char text[PATH_SHOWN + 32];
	bool found = false;
	int n = snprintf(text, sizeof(text), "device %" PRIu64 " (%s)", l->id, l->path);
	size_t len = n < 128 ? (size_t)n : 128; /* texts of events are cut */
	struct err e = {0};
	if (ctl_ask(l->pool, "pool.events", NULL, &list, &e))
		return true;
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *o = json_object_array_get_idx(list, i);
		if (!strncmp(get_string(o, "text"), text, len))
			found = !strcmp(get_string(o, "kind"), "device-removed");
	}
	json_object_put(list);
	return found;
}

static bool pool_lost(struct leaving *l, struct json_object *status)
{
	if (strcmp(get_string(status, "health"), "faulted"))
		return false;
	err_set(&l->c->e, ERR_FAULTED,
		"pool %s is suspended after an error; see `tarn pool events "
		"%s`",
		l->pool, l->pool);
	return true;
}

static bool mover_progress(struct json_object *status, struct watch_progress *p)
{
	struct json_object *m;
	if (!json_object_object_get_ex(status, "mover", &m))
		return false;
	p->done = get_u64(m, "done_bytes");
	p->left = get_u64(m, "left_bytes");
	watch_rate(m, "", p);
	return true;
}

static bool leaving_look(void *arg, struct json_object *status, struct watch_progress *p,
			 int *ret_exit)
{
	struct leaving *l = arg;
	struct json_object *d = device_of(status, l);
	*ret_exit = EXIT_OK;
	mover_progress(status, p);
	if (!d)
		return !has_left(l) && ++l->looks < LEAVE_LOOKS;
	*ret_exit = EXIT_FAILED;
	if (pool_lost(l, status))
		return false;
	if (get_bool(d, l->flag))
		return true;
	if (l->size && get_u64(d, "size_bytes") <= l->size) {
		*ret_exit = EXIT_OK;
		return false;
	}
	err_set(&l->c->e, -ECANCELED, "stopped by somebody: device %" PRIu64 " (%s) stays as it is",
		l->id, l->path);
	return false;
}

static void leaving_init(struct leaving *l, struct call *c, const char *pool, const char *flag,
			 struct json_object *o)
{
	*l = (struct leaving){.c = c, .pool = pool, .id = get_u64(o, "id"), .flag = flag};
	snprintf(l->path, sizeof(l->path), "%s", get_string(o, "path"));
}

static int leaving_watch(struct leaving *l, const char *doing)
{
	char stop[128];
	snprintf(stop, sizeof(stop), "tarn pool remove %s %" PRIu64 " --cancel", l->pool, l->id);
	return watch(l->c, l->pool, doing, stop, leaving_look, l);
}

struct json_object *device_args(const char *name)
{
	char full[PATH_MAX];
	struct json_object *args = json_object_new_object();
	if (strchr(name, '/') && strncmp(name, "/dev/disk/", 10) && realpath(name, full))
		name = full;
	add_string(args, "device", name);
	return args;
}

/* What --dry-run found out. */
static int plan_print(const char *doing, struct json_object *o)
{
	char size[SIZE_TEXT_MAX];
	bool fits = get_bool(o, "fits");
	printf("%s device %" PRIu64 " (%s) moves %s in %" PRIu64 " chunks: ", doing,
	       get_u64(o, "id"), get_string(o, "path"), size_text(size, get_u64(o, "bytes"), false),
	       get_u64(o, "chunks"));
	if (fits)
		puts("it fits");
	else
		printf("it does not fit: %s\n", get_string(o, "reason"));
	return fits ? EXIT_OK : EXIT_FAILED;
}

static void under_way(const char *pool, const char *doing, struct json_object *o)
{
	char size[SIZE_TEXT_MAX];
	printf("%s device %" PRIu64 " (%s): %s to move in background; `tarn pool status %s` shows "
	       "how far it is\n",
	       doing, get_u64(o, "id"), get_string(o, "path"),
	       size_text(size, get_u64(o, "bytes"), false), pool);
}

/* ---- remove, replace ---- */

static int remove_wait(struct call *c, const char *pool, struct json_object *o)
{
	struct leaving l;
	leaving_init(&l, c, pool, "evacuating", o);
	int r = leaving_watch(&l, "removal");
	if (!r)
		printf("device %" PRIu64 " (%s) is empty and has left pool %s\n", l.id, l.path,
		       pool);
	return r;
}

static int cmd_pool_remove(struct call *c)
{
	const char *pool = c->opt.args[0];
	bool dry_run = option_given(&c->opt, "dry-run"), cancel = option_given(&c->opt, "cancel");
	if (cancel && (dry_run || option_given(&c->opt, "wait")))
		return call_usage(c, "--cancel goes with no other option");
	struct json_object *args = device_args(c->opt.args[1]), *o = NULL;
	json_object_object_add(args, "dry_run", json_object_new_boolean(dry_run));
	json_object_object_add(args, "cancel", json_object_new_boolean(cancel));
	int r = call_ask(c, pool, "pool.remove", args, &o);
	if (r || cancel)
		return r;
	if (dry_run)
		r = plan_print("removing", o);
	else if (option_given(&c->opt, "wait"))
		r = remove_wait(c, pool, o);
	else
		under_way(pool, "removing", o);
	json_object_put(o);
	return r;
}

/* The old device as the pool knows it now; by --dry-run, which finds names as remove does. */
static int old_find(struct call *c, struct leaving *l, struct json_object **ret_status,
		    struct json_object **ret_dev)
{
	struct json_object *args = device_args(c->opt.args[1]), *plan = NULL;
	json_object_object_add(args, "dry_run", json_object_new_boolean(true));
	int r = call_ask(c, c->opt.args[0], "pool.remove", args, &plan);
	if (!r)
		r = call_ask(c, c->opt.args[0], "pool.status", NULL, ret_status);
	if (!r) {
		leaving_init(l, c, c->opt.args[0], "evacuating", plan);
		*ret_dev = device_of(*ret_status, l);
	}
	json_object_put(plan);
	if (!r && !*ret_dev)
		r = err_set(&c->e, -ENOENT, "%s has just left the pool", l->path);
	return r ? EXIT_FAILED : EXIT_OK;
}

/* The old one could not be removed: let the new one go again, so that nothing is changed. */
static void replace_undo(struct add *a, struct json_object *added)
{
	struct json_object *args = json_object_new_object();
	char id[24];
	struct err e = {0};
	snprintf(id, sizeof(id), "%" PRIu64, get_u64(added, "id"));
	add_string(args, "device", id);
	if (ctl_ask(a->pool, "pool.remove", args, NULL, &e))
		err_wrap(&a->c->e, "%s stays in the pool (%s)", get_string(added, "path"), e.text);
}

static int replace_old(struct add *a, const struct leaving *old, struct json_object *added)
{
	struct call *c = a->c;
	struct json_object *args = json_object_new_object(), *o = NULL;
	char id[24];
	snprintf(id, sizeof(id), "%" PRIu64, old->id);
	add_string(args, "device", id);
	int r = call_ask(c, a->pool, "pool.remove", args, &o);
	if (r) {
		replace_undo(a, added);
		return r;
	}
	if (option_given(&c->opt, "wait"))
		r = remove_wait(c, a->pool, o);
	else
		under_way(a->pool, "replacing", o);
	json_object_put(o);
	return r;
}

static int cmd_pool_replace(struct call *c)
{
	struct add a = {.c = c, .pool = c->opt.args[0], .n = 1};
	struct json_object *status = NULL, *dev = NULL, *added = NULL;
	struct leaving old;
	int r = add_options(&a);
	if (!r)
		r = old_find(c, &old, &status, &dev);
	if (!r) { /* what is not said is as it was */
		a.domain = *a.domain ? a.domain : get_string(dev, "domain");
		a.class = *a.class ? a.class : get_string(dev, "class");
		a.spare |= get_bool(dev, "spare");
		r = add_run(&a, c->opt.args + 2, &added);
	}
	if (!r)
		r = replace_old(&a, &old, added);
	json_object_put(added);
	json_object_put(status);
	return r;
}

/* ---- shrink, grow ---- */

static int shrink_wait(struct call *c, struct json_object *o, uint64_t size)
{
	struct leaving l;
	leaving_init(&l, c, c->opt.args[0], "shrinking", o);
	l.size = size;
	int r = leaving_watch(&l, "shrinking");
	if (!r)
		printf("device %" PRIu64 " (%s) uses only its first %" PRIu64 " bytes now; "
		       "what lies behind may be cut off\n",
		       l.id, l.path, size);
	return r;
}

static int cmd_pool_shrink_device(struct call *c)
{
	const char *pool = c->opt.args[0], *text = c->opt.args[2];
	bool dry_run = option_given(&c->opt, "dry-run");
	uint64_t size = 0;
	if (size_parse(text, &size) || !size)
		return call_usage(c, "%s: a size like 4G is needed", text);
	struct json_object *args = device_args(c->opt.args[1]), *o = NULL;
	json_object_object_add(args, "dry_run", json_object_new_boolean(dry_run));
	json_object_object_add(args, "size_bytes", json_object_new_uint64(size));
	int r = call_ask(c, pool, "pool.shrink-device", args, &o);
	if (r)
		return r;
	if (dry_run)
		r = plan_print("shrinking", o);
	else if (option_given(&c->opt, "wait"))
		r = shrink_wait(c, o, size);
	else
		under_way(pool, "shrinking", o);
	json_object_put(o);
	return r;
}

static int cmd_pool_grow_device(struct call *c)
{
	const char *text = option_value(&c->opt, "size", NULL);
	struct json_object *o = NULL;
	char size_buf[SIZE_TEXT_MAX];
	uint64_t size = 0;
	if (text && (size_parse(text, &size) || !size))
		return call_usage(c, "--size %s: a size like 8G is needed", text);
	struct json_object *args = device_args(c->opt.args[1]);
	if (size)
		json_object_object_add(args, "size_bytes", json_object_new_uint64(size));
	int r = call_ask(c, c->opt.args[0], "pool.grow-device", args, &o);
	if (!r)
		printf("device %" PRIu64 " (%s) has %s now\n", get_u64(o, "id"),
		       get_string(o, "path"), size_text(size_buf, get_u64(o, "size_bytes"), false));
	json_object_put(o);
	return r;
}

/* ---- rebalance, scrub ---- */

static int ask_stop(struct call *c, const char *verb)
{
	struct json_object *args = json_object_new_object();
	add_flag(c, args, "stop", "stop");
	return call_ask(c, c->opt.args[0], verb, args, NULL);
}

static bool rebalance_look(void *arg, struct json_object *status, struct watch_progress *p,
			   int *ret_exit)
{
	struct json_object *m;
	struct leaving l = {.c = arg, .pool = ((struct call *)arg)->opt.args[0]};
	*ret_exit = EXIT_FAILED;
	if (pool_lost(&l, status))
		return false;
	*ret_exit = EXIT_OK;
	return mover_progress(status, p) && json_object_object_get_ex(status, "mover", &m) &&
	       get_bool(m, "rebalancing");
}

static int rebalance_plan(struct call *c)
{
	char size[SIZE_TEXT_MAX];
	struct json_object *args = json_object_new_object(), *o = NULL;
	json_object_object_add(args, "dry_run", json_object_new_boolean(true));
	int r = call_ask(c, c->opt.args[0], "pool.rebalance", args, &o);
	if (!r)
		printf("rebalancing moves %s in %" PRIu64 " chunks\n",
		       size_text(size, get_u64(o, "bytes"), false), get_u64(o, "chunks"));
	json_object_put(o);
	return r;
}

static int cmd_pool_rebalance(struct call *c)
{
	char stop[96];
	const char *pool = c->opt.args[0];
	bool wait = option_given(&c->opt, "wait"), plan = option_given(&c->opt, "dry-run");
	if ((wait || plan) && option_given(&c->opt, "stop"))
		return call_usage(c, "--stop goes with no other option");
	if (plan)
		return rebalance_plan(c);
	int r = ask_stop(c, "pool.rebalance");
	snprintf(stop, sizeof(stop), "tarn pool rebalance %s --stop", pool);
	if (!r && wait)
		r = watch(c, pool, "rebalance", stop, rebalance_look, c);
	else if (!r && !option_given(&c->opt, "stop"))
		printf("rebalancing in background; `tarn pool status %s` shows how far it is\n",
		       pool);
	return r;
}

static bool scrub_look(void *arg, struct json_object *status, struct watch_progress *p,
		       int *ret_exit)
{
	struct call *c = arg;
	struct json_object *s = NULL;
	json_object_object_get_ex(status, "scrub", &s);
	uint64_t total = get_u64(s, "total_bytes"), bad = get_u64(s, "unrepaired");
	char size[SIZE_TEXT_MAX];
	p->done = get_u64(s, "done_bytes");
	p->left = total > p->done ? total - p->done : 0;
	watch_rate(s, "", p);
	if (get_bool(s, "running"))
		return true;
	*ret_exit = EXIT_FAILED;
	if (!get_bool(s, "complete")) {
		err_set(&c->e, -ECANCELED, "the scrub was stopped after %s",
			size_text(size, p->done, false));
		return false;
	}
	printf("scrub complete: %s read and verified, %" PRIu64 " repaired, %" PRIu64
	       " could not be repaired\n",
	       size_text(size, p->done, false), get_u64(s, "repaired"), bad);
	*ret_exit = bad ? EXIT_FAILED : EXIT_OK;
	return false;
}

static int cmd_pool_scrub(struct call *c)
{
	char stop[96];
	const char *pool = c->opt.args[0];
	bool wait = option_given(&c->opt, "wait");
	if (wait && option_given(&c->opt, "stop"))
		return call_usage(c, "--stop goes with no other option");
	int r = ask_stop(c, "pool.scrub");
	if (r && wait && c->e.code == -EBUSY) { /* one is running: wait for that */
		c->e.code = 0;
		r = EXIT_OK;
	}
	snprintf(stop, sizeof(stop), "tarn pool scrub %s --stop", pool);
	if (!r && wait)
		r = watch(c, pool, "scrub", stop, scrub_look, c);
	else if (!r && !option_given(&c->opt, "stop"))
		printf("scrubbing in background; `tarn pool status %s` shows how far it is\n",
		       pool);
	return r;
}

/* ---- the table ---- */

#define OPTION_WAIT                                                                     \
	{                                                                               \
		"wait", 'w', NULL, "wait until it is done; show progress on a terminal" \
	}
#define OPTION_STOP                                            \
	{                                                      \
		"stop", 0, NULL, "end the one that is running" \
	}
#define OPTION_DRY_RUN                                                                     \
	{                                                                                  \
		"dry-run", 'n', NULL, "change nothing, say what moves and whether it fits" \
	}
#define OPTIONS_ADD                                                                                \
	{"size", 's', "SIZE", "make missing files, sparse, of this size"},                         \
		{"domain", 'd', "NAME", "failure domain; copies of a block go to different ones"}, \
		{"class", 0, "NAME", "device class (default for disks: nvme, ssd or hdd)"},        \
	{                                                                                          \
		"force", 'f', NULL, "destroy data that is on the devices"                          \
	}

static const struct option_spec add[] = {
	OPTION_HELP,
	OPTIONS_ADD,
	{"spare", 0, NULL, "keep it empty, to stand in for another one"},
	{0},
};
static const struct option_spec spare[] = {OPTION_HELP, OPTIONS_ADD, {0}};
static const struct option_spec help_only[] = {OPTION_HELP, {0}};
static const struct option_spec replace[] = {OPTION_HELP, OPTIONS_ADD, OPTION_WAIT, {0}};
static const struct option_spec removal[] = {
	OPTION_HELP,
	OPTION_DRY_RUN,
	OPTION_WAIT,
	{"cancel", 0, NULL, "stop removing or shrinking it; what has moved stays there"},
	{0},
};
static const struct option_spec shrink[] = {OPTION_HELP, OPTION_DRY_RUN, OPTION_WAIT, {0}};
static const struct option_spec grow[] = {
	OPTION_HELP,
	{"size", 's', "SIZE", "make the file larger first, sparse"},
	{0},
};
static const struct option_spec stoppable[] = {OPTION_HELP, OPTION_WAIT, OPTION_STOP, {0}};
static const struct option_spec rebalance[] = {
	OPTION_HELP, OPTION_DRY_RUN, OPTION_WAIT, OPTION_STOP, {0},
};

const struct command commands_geometry[] = {
	{"pool add", "POOL DEVICE...", "take devices into a pool", add, 2, POOL_DEVS_MAX,
	 cmd_pool_add,
	 "The devices are used from now on; `tarn pool rebalance` moves older data to them."},
	{"pool spare", "add|remove POOL DEVICE...", "keep devices to stand in for lost ones", spare,
	 3, POOL_DEVS_MAX, cmd_pool_spare,
	 "A spare holds nothing. When a device has been missing or faulted for 10 minutes (`tarn "
	 "pool set POOL spare-after=TIME`), a spare that is large enough, and of its class if it "
	 "has one, takes its place and is filled from the other copies. A member that becomes a "
	 "spare is emptied first; a spare that is removed leaves the pool."},
	{"pool class", "POOL DEVICE NAME", "change the class of a device", help_only, 3, 3,
	 cmd_pool_class,
	 "NAME - takes the class away. Data of volumes that are kept on another class moves in "
	 "background."},
	{"pool replace", "POOL OLD NEW", "take a device in and let another one go", replace, 3, 3,
	 cmd_pool_replace,
	 "Add NEW, with the domain and class of OLD unless told otherwise, then remove OLD. When "
	 "that does not fit nothing is changed."},
	{"pool remove", "POOL DEVICE", "empty a device and let it leave the pool", removal, 2, 2,
	 cmd_pool_remove,
	 "Everything stays in use, and has all its copies, while data moves in background, also "
	 "over restarts. A device that is missing is rebuilt from the other copies. Refused when "
	 "the data does not fit on the other devices."},
	{"pool shrink-device", "POOL DEVICE SIZE", "use only the first part of a device", shrink, 3,
	 3, cmd_pool_shrink_device,
	 "When it is done the file or partition may be made as small as SIZE."},
	{"pool grow-device", "POOL DEVICE", "use a device that has become larger", grow, 2, 2,
	 cmd_pool_grow_device, NULL},
	{"pool rebalance", "POOL", "level the use of the devices", rebalance, 1, 1,
	 cmd_pool_rebalance, "Ends by itself when the devices are about equally full."},
	{"pool scrub", "POOL", "verify every copy of everything, and repair", stoppable, 1, 1,
	 cmd_pool_scrub,
	 "Runs in background. With --wait the exit status is 1 when something could not be "
	 "repaired, or the scrub was stopped."},
	{"pool trim", "POOL", "tell the devices what is free", stoppable, 1, 1, cmd_pool_trim,
	 "Files that are devices shrink on their file system, flash and thin storage get the space "
	 "back. What becomes free is told by and by anyway (`tarn pool set POOL discard=on`, the "
	 "default), but in whole chunks, and not what a restart left."},
	{0},
};
