/* cmd_pool_create: `tarn pool create`: check the devices, write the pool, start its daemon.
 *
 * Happy path: names and options -> each device: exists or is made sparse, not listed twice,
 * nobody's data (libblkid, Tarn's own label), not in use -> pool_create on a private reactor ->
 * tarnd. On failure the files made here are removed again; devices that existed are untouched until
 * pool_create.
 */
#include "tools/cmd_pool.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "pool/pool.h"
#include "tools/command_text.h"
#include "tools/ctl_client.h"
#include "tools/hop.h"
#include "tools/names.h"
#include "tools/new_device.h"
#include "tools/size_text.h"
#include "tools/start.h"
#include "tools/state_file.h"

struct create {
	struct call *c;
	const char *pool;
	uint64_t size, chunk;
	bool force;
	unsigned n;
	struct new_device *d; /* n */
	struct pool_create_dev *pd;
};

/* --OPTION DEV=NAME for one device, into ret. */
static void word_of(const struct create *k, const char *option, unsigned i, char *ret, size_t size)
{
	const struct options *o = &k->c->opt;
	const char *arg = o->args[1 + i];
	for (unsigned n = 0; n < o->n; n++) {
		if (!o->spec[n]->name || strcmp(o->spec[n]->name, option))
			continue;
		const char *eq = strrchr(o->value[n], '=');
		size_t len = (size_t)(eq - o->value[n]);
		if ((strlen(arg) == len && !strncmp(arg, o->value[n], len)) ||
		    (strlen(k->d[i].path) == len && !strncmp(k->d[i].path, o->value[n], len)))
			snprintf(ret, size, "%s", eq + 1);
	}
}

/* Every --domain and --class must be well-formed and name one of the devices. */
static int words_check(struct create *k, const char *option, size_t max)
{
	const struct options *o = &k->c->opt;
	for (unsigned n = 0; n < o->n; n++) {
		if (!o->spec[n]->name || strcmp(o->spec[n]->name, option))
			continue;
		const char *v = o->value[n], *eq = strrchr(v, '=');
		if (!eq || eq == v || !new_device_word(eq + 1, max))
			return err_set(&k->c->e, -EINVAL,
				       "--%s %s: DEVICE=NAME is needed, with a name of at most %zu "
				       "letters, digits and _ - . +",
				       option, v, max);
		bool found = false;
		for (int i = 1; i < o->nargs; i++)
			found |= strlen(o->args[i]) == (size_t)(eq - v) &&
				 !strncmp(o->args[i], v, (size_t)(eq - v));
		if (!found)
			return err_set(&k->c->e, -EINVAL, "--%s %s: %.*s is not among the devices",
				       option, v, (int)(eq - v), v);
	}
	return 0;
}

/* Domain and class, as given or (the class of a disk) as found. */
static void words_set(struct create *k, unsigned i)
{
	struct pool_create_dev *d = &k->pd[i];
	snprintf(d->class_name, sizeof(d->class_name), "%s", new_device_class(d->backend));
	word_of(k, "domain", i, d->domain, sizeof(d->domain));
	word_of(k, "class", i, d->class_name, sizeof(d->class_name));
}

static int create_co(void *arg)
{
	struct create *k = arg;
	char command[COMMAND_TEXT_MAX];
	struct pool_create_note note = {getuid(), command};
	int r = 0;
	for (unsigned i = 0; !r && i < k->n; i++) {
		r = dev_file_open(k->d[i].path, 0, &k->pd[i].backend, &k->c->e);
		if (!r)
			words_set(k, i);
		if (!r && !k->d[i].made)
			r = new_device_label(k->pd[i].backend, k->force, &k->c->e);
	}
	command_text_of(k->c->cmd->name, &k->c->opt, command, sizeof(command));
	if (!r)
		r = pool_create_noted(k->pool, k->pd, k->n, k->chunk, &note, &k->c->e);
	for (unsigned i = 0; i < k->n; i++)
		dev_close(k->pd[i].backend);
	return r;
}

/* Is the name free on this host? */
static int name_check(struct create *k)
{
	struct err *e = &k->c->e;
	struct state_file s;
	if (!pool_name_valid(k->pool))
		return err_set(e, -EINVAL,
			       "%s: a pool name has at most %d letters, digits and _ - . + "
			       "and starts with a letter or digit",
			       k->pool, POOL_NAME_MAX);
	if (ctl_running(k->pool))
		return err_set(e, -EEXIST, "pool %s is running here; choose another name", k->pool);
	if (state_file_load(k->pool, &s, NULL))
		return 0;
	unsigned there = 0;
	for (unsigned i = 0; i < s.ndevs; i++)
		there += !access(s.devs[i], F_OK);
	state_file_fini(&s);
	if (!there || k->force)
		return 0;
	return err_set(e, -EEXIST,
		       "a pool %s is known here; `tarn pool import %s` starts it; choose "
		       "another name, or use --force to forget it",
		       k->pool, k->pool);
}

static int create_run(struct create *k)
{
	int r = name_check(k);
	if (!r)
		r = words_check(k, "domain", POOL_DOMAIN_MAX);
	if (!r)
		r = words_check(k, "class", POOL_CLASS_MAX);
	for (unsigned i = 0; !r && i < k->n; i++) {
		const char *arg = k->c->opt.args[1 + i];
		r = new_device_prepare(arg, k->size, k->d, i, &k->d[i], &k->c->e);
		if (!r && !k->d[i].made)
			r = new_device_probe(k->d[i].path, k->force, &k->c->e);
	}
	if (!r)
		r = hop_private(create_co, k);
	if (r)
		for (unsigned i = 0; i < k->n; i++)
			new_device_undo(&k->d[i]);
	return r;
}

static int create_start(struct create *k)
{
	const char *devs[POOL_DEVS_MAX];
	for (unsigned i = 0; i < k->n; i++)
		devs[i] = k->d[i].path;
	/* nobody else can have a pool that was made this instant: no need to wait */
	struct start_options so = {.pool = k->pool, .devs = devs, .ndevs = k->n, .force = true};
	int r = start_daemon(&so, &k->c->e);
	if (r)
		err_wrap(&k->c->e, "pool %s is made but could not be started", k->pool);
	return r;
}

int cmd_pool_create(struct call *c)
{
	struct create k = {.c = c,
			   .pool = c->opt.args[0],
			   .n = (unsigned)c->opt.nargs - 1,
			   .force = option_given(&c->opt, "force")};
	const char *size = option_value(&c->opt, "size", NULL);
	const char *chunk = option_value(&c->opt, "chunk-size", NULL);
	if (size && (size_parse(size, &k.size) || !k.size))
		return call_usage(c, "--size %s: a size like 8G is needed", size);
	if (chunk && (size_parse(chunk, &k.chunk) || !k.chunk || k.chunk & (k.chunk - 1)))
		return call_usage(c, "--chunk-size %s: a power of two from 1M to 64M is needed",
				  chunk);
	if (k.n > POOL_DEVS_MAX)
		return call_usage(c, "a pool has at most %d devices", POOL_DEVS_MAX);
	k.d = calloc(k.n, sizeof(*k.d));
	k.pd = calloc(k.n, sizeof(*k.pd));
	int r = k.d && k.pd ? create_run(&k) : err_set(&c->e, -ENOMEM, "out of memory");
	if (r && !c->e.code)
		err_set(&c->e, r, "%s", err_str(r));
	if (!r && !option_given(&c->opt, "no-start"))
		r = create_start(&k);
	free(k.d);
	free(k.pd);
	return r ? EXIT_FAILED : EXIT_OK;
}
