/* cmd_pool_create: `tarn pool create`: check the devices, write the pool, start its daemon.
 *
 * Happy path: names and options -> each device: exists or is made sparse, not listed twice,
 * nobody's data (libblkid, Tarn's own label), not in use -> pool_create on a private reactor ->
 * tarnd. On failure the files made here are removed again; devices that existed are untouched until
 * pool_create.
 */
#include "tools/cmd_pool.h"
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "pool/pool.h"
#include "tools/ctl_client.h"
#include "tools/hop.h"
#include "tools/names.h"
#include "tools/size_text.h"
#include "tools/start.h"
#include "tools/state_file.h"

struct create_dev {
	char path[PATH_MAX];      /* absolute */
	bool made;                /* by us: removed when creation fails */
	dev_t dev;
	ino_t ino;
};

struct create {
	struct call *c;
	const char *pool;
	uint64_t size, chunk;
	bool force;
	unsigned n;
	struct create_dev *d;     /* n */
	struct pool_create_dev *pd;
};

/* A file or block device that is there, or a sparse file made now. */
static int dev_prepare(struct create *k, struct create_dev *d, const char *arg)
{
	struct err *e = &k->c->e;
	struct stat st;
	if (stat(arg, &st)) {
		if (errno != ENOENT)
			return err_set(e, -errno, "%s: %s", arg, strerror(errno));
		if (!k->size)
			return err_set(e, -ENOENT, "%s does not exist; give --size to have it made",
				       arg);
		int r = dev_file_make_sparse(arg, k->size, e);
		if (r)
			return r;
		d->made = true;
	}
	if (!realpath(arg, d->path) || stat(d->path, &st))
		return err_set(e, -errno, "%s: %s", arg, strerror(errno));
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_set(e, -EINVAL, "%s is neither a file nor a block device", arg);
	d->dev = st.st_dev;
	d->ino = st.st_ino;
	for (struct create_dev *o = k->d; o < d; o++)
		if (o->dev == d->dev && o->ino == d->ino)
			return err_set(e, -EINVAL, "%s and %s are the same device", o->path, arg);
	return 0;
}

/* Somebody's data? --force overrides a signature, never a user. */
static int dev_check(struct create *k, struct create_dev *d)
{
	char what[256] = "";
	struct err e = { 0 };
	if (d->made)
		return 0;
	int r = dev_probe_foreign(d->path, what, sizeof(what), &e);
	if (!r)
		return 0;
	if (r != ERR_FOREIGN)
		return err_set(&k->c->e, r, "%s", e.code ? e.text : err_str(r));
	if (k->force)
		return 0;
	return err_set(&k->c->e, r, "%s carries data: %s; use --force to destroy it", d->path,
		       what);
}

/* --domain DEV=NAME for one device. */
static int domain_set(struct create *k, unsigned i, const char *arg)
{
	const struct options *o = &k->c->opt;
	for (unsigned n = 0; n < o->n; n++) {
		if (!o->spec[n]->name || strcmp(o->spec[n]->name, "domain"))
			continue;
		const char *eq = strrchr(o->value[n], '=');
		size_t len = (size_t)(eq - o->value[n]);
		if ((strlen(arg) == len && !strncmp(arg, o->value[n], len)) ||
		    (strlen(k->d[i].path) == len && !strncmp(k->d[i].path, o->value[n], len)))
			snprintf(k->pd[i].domain, sizeof(k->pd[i].domain), "%s", eq + 1);
	}
	return 0;
}

/* Every --domain must be well-formed and name one of the devices. */
static int domains_check(struct create *k)
{
	const struct options *o = &k->c->opt;
	for (unsigned n = 0; n < o->n; n++) {
		if (!o->spec[n]->name || strcmp(o->spec[n]->name, "domain"))
			continue;
		const char *v = o->value[n], *eq = strrchr(v, '=');
		if (!eq || eq == v || !pool_name_valid(eq + 1))
			return err_set(&k->c->e, -EINVAL, "--domain %s: DEVICE=NAME is needed", v);
		bool found = false;
		for (int i = 1; i < o->nargs; i++)
			found |= strlen(o->args[i]) == (size_t)(eq - v) &&
				 !strncmp(o->args[i], v, (size_t)(eq - v));
		if (!found)
			return err_set(&k->c->e, -EINVAL,
				       "--domain %s: %.*s is not among the devices", v,
				       (int)(eq - v), v);
	}
	return 0;
}

/* A member of another pool counts as somebody's data. */
static int label_check(struct create *k, struct dev_backend *b)
{
	struct pool_label *l = calloc(1, sizeof(*l));
	int r = 0;
	if (l && !k->force && !pool_label_read(b, l, NULL))
		r = err_set(&k->c->e, ERR_FOREIGN, "%s belongs to pool %s; "
			    "use --force to destroy what is there", b->path, l->name);
	free(l);
	return r;
}

static int create_co(void *arg)
{
	struct create *k = arg;
	int r = 0;
	for (unsigned i = 0; !r && i < k->n; i++) {
		r = dev_file_open(k->d[i].path, 0, &k->pd[i].backend, &k->c->e);
		if (!r && !k->d[i].made)
			r = label_check(k, k->pd[i].backend);
	}
	if (!r)
		r = pool_create(k->pool, k->pd, k->n, k->chunk, &k->c->e);
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
		r = domains_check(k);
	for (unsigned i = 0; !r && i < k->n; i++) {
		const char *arg = k->c->opt.args[1 + i];
		r = dev_prepare(k, &k->d[i], arg);
		if (!r)
			r = dev_check(k, &k->d[i]);
		if (!r)
			r = domain_set(k, i, arg);
	}
	if (!r)
		r = hop_private(create_co, k);
	if (r)
		for (unsigned i = 0; i < k->n; i++)
			if (k->d[i].made)
				unlink(k->d[i].path);
	return r;
}

static int create_start(struct create *k)
{
	const char *devs[POOL_DEVS_MAX];
	for (unsigned i = 0; i < k->n; i++)
		devs[i] = k->d[i].path;
	/* nobody else can have a pool that was made this instant: no need to wait */
	struct start_options so = { .pool = k->pool, .devs = devs, .ndevs = k->n, .force = true };
	int r = start_daemon(&so, &k->c->e);
	if (r)
		err_wrap(&k->c->e, "pool %s is made but could not be started", k->pool);
	return r;
}

int cmd_pool_create(struct call *c)
{
	struct create k = { .c = c, .pool = c->opt.args[0], .n = (unsigned)c->opt.nargs - 1,
			    .force = option_given(&c->opt, "force") };
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
