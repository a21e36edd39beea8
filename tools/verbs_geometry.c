/* verbs_geometry: devices into and out of a pool, larger and smaller; rebalance; scrub; trim. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "tools/hop.h"
#include "tools/known_devices.h"
#include "tools/log.h"
#include "tools/new_device.h"
#include "tools/verbs.h"

#define PATH_ARG_MAX 4095

/* ---- add ---- */

struct add {
	struct request *q;
	const char *path;
	bool force;
	struct dev_backend *b;
	struct pool_add_options o;
	struct pool_status *s;
};

/* A member that is out of service must not be wiped, whatever the force: it may hold the only copy
 * of something. */
static int refuse_member(struct add *a)
{
	struct pool_label *l = calloc(1, sizeof(*l));
	int r = 0;
	if (!l)
		return err_set(&a->q->e, -ENOMEM, "out of memory");
	pool_status_get(a->q->d->pool, a->s);
	int look = pool_label_read(a->b, l, NULL);
	if (look == -ENOMEM)
		r = err_set(&a->q->e, look, "out of memory");
	bool ours = (!look || look == ERR_VERSION) && !memcmp(l->uuid, a->s->uuid, sizeof(l->uuid));
	for (unsigned i = 0; ours && !r && i < a->s->ndevs; i++) {
		const struct pool_dev_status *d = &a->s->devs[i];
		if (d->id == l->dev_id && d->state != DEV_ONLINE && d->state != DEV_RESYNC &&
		    !d->taken)
			r = err_set(&a->q->e, ERR_IN_USE,
				    "%s is device %u of this pool; "
				    "`tarn pool online %s %s` brings it back, "
				    "`tarn pool remove %s %u` first makes it free",
				    a->path, d->id, a->q->d->name, a->path, a->q->d->name, d->id);
	}
	free(l);
	return r;
}

static int add_co(void *arg)
{
	struct add *a = arg;
	int r = refuse_member(a);
	if (!r)
		r = new_device_label(a->b, a->force, &a->q->e);
	if (!r)
		r = pool_dev_add(a->q->d->pool, a->b, &a->o, &a->q->e);
	if (r)
		dev_close(a->b);
	else
		pool_status_get(a->q->d->pool, a->s);
	return r;
}

static int add_args(struct request *q, struct add *a)
{
	const char *domain = "", *class = "";
	int r = arg_string(q, "device", ARG_REQUIRED, PATH_ARG_MAX, &a->path);
	if (!r)
		r = arg_string(q, "domain", ARG_OPTIONAL, POOL_DOMAIN_MAX, &domain);
	if (!r)
		r = arg_string(q, "class", ARG_OPTIONAL, sizeof(a->o.class_name) - 1, &class);
	if (!r)
		r = arg_bool(q, "spare", &a->o.spare);
	if (!r)
		r = arg_bool(q, "force", &a->force);
	if (r)
		return r;
	if (*a->path != '/')
		return err_set(&q->e, -EINVAL, "device: not an absolute path");
	if (*domain && !new_device_word(domain, POOL_DOMAIN_MAX))
		return err_set(&q->e, -EINVAL, "domain: not a valid name");
	if (*class && !new_device_word(class, sizeof(a->o.class_name) - 1))
		return err_set(&q->e, -EINVAL, "class: not a valid name");
	snprintf(a->o.domain, sizeof(a->o.domain), "%s", domain);
	snprintf(a->o.class_name, sizeof(a->o.class_name), "%s", class);
	return 0;
}

/* Number and path of the device that has just come. */
static void added_to_json(struct add *a)
{
	size_t kept = sizeof(a->s->devs[0].path) - 1;
	a->q->result = json_object_new_object();
	for (unsigned i = 0; i < a->s->ndevs; i++) {
		if (a->s->devs[i].taken || strncmp(a->s->devs[i].path, a->path, kept))
			continue;
		add_u64(a->q->result, "id", a->s->devs[i].id);
		add_string(a->q->result, "path", a->s->devs[i].path);
		add_string(a->q->result, "class", a->s->devs[i].class_name);
		return;
	}
}

int verb_pool_add(struct request *q)
{
	struct add a = {.q = q};
	int r = add_args(q, &a);
	if (!r)
		r = new_device_probe(a.path, a.force, &q->e);
	if (!r)
		r = dev_file_open(a.path, 0, &a.b, &q->e);
	if (r)
		return r;
	if (!a.o.class_name[0])
		snprintf(a.o.class_name, sizeof(a.o.class_name), "%s", new_device_class(a.b));
	a.s = calloc(1, sizeof(*a.s));
	if (!a.s) {
		dev_close(a.b);
		return err_set(&q->e, -ENOMEM, "out of memory");
	}
	r = hop_run(daemon_bg(q->d), add_co, &a, NULL, NULL);
	if (!r) {
		known_devices_add(q->d, a.path);
		added_to_json(&a);
	}
	free(a.s);
	return r;
}

/* ---- remove, shrink ---- */

static void plan_to_json(struct request *q, const struct pool_dev_status *s,
			 const struct pool_move_plan *plan)
{
	q->result = json_object_new_object();
	add_u64(q->result, "id", s->id);
	add_string(q->result, "path", s->path);
	add_u64(q->result, "chunks", plan->chunks);
	add_u64(q->result, "bytes", plan->bytes);
	json_object_object_add(q->result, "fits", json_object_new_boolean(plan->fits));
	add_string(q->result, "reason", plan->fits ? "" : plan->reason);
}

static int device_arg(struct request *q, struct pool_dev_status *ret_s, bool *ret_dry_run)
{
	const char *name = NULL;
	int r = arg_string(q, "device", ARG_REQUIRED, PATH_ARG_MAX, &name);
	if (!r)
		r = arg_bool(q, "dry_run", ret_dry_run);
	return r ? r : device_find(q, name, ret_s);
}

int verb_pool_remove(struct request *q)
{
	struct pool_dev_status s;
	struct pool_move_plan plan = {0};
	bool dry_run = false, cancel = false, spare = false;
	int r = device_arg(q, &s, &dry_run);
	if (!r)
		r = arg_bool(q, "cancel", &cancel);
	if (!r)
		r = arg_bool(q, "spare", &spare);
	if (!r && spare && !s.spare)
		r = err_set(&q->e, -EINVAL,
			    "device %u (%s) is no spare; `tarn pool remove` empties it", s.id,
			    s.path);
	if (r)
		return r;
	if (cancel)
		return pool_dev_remove_cancel(q->d->pool, s.id, &q->e);
	/* under way already: what is left of it */
	r = pool_dev_remove(q->d->pool, s.id, dry_run || s.evacuating, &plan, &q->e);
	if (!r)
		plan_to_json(q, &s, &plan);
	return r;
}

int verb_pool_shrink_device(struct request *q)
{
	struct pool_dev_status s;
	struct pool_move_plan plan = {0};
	bool dry_run = false;
	uint64_t size = 0;
	int r = device_arg(q, &s, &dry_run);
	if (!r)
		r = arg_u64(q, "size_bytes", ARG_REQUIRED, 1, INT64_MAX, &size);
	if (!r && s.evacuating)
		r = err_set(&q->e, -EBUSY, "device %u is being removed", s.id);
	if (!r)
		r = pool_dev_shrink(q->d->pool, s.id, size, dry_run, &plan, &q->e);
	if (!r)
		plan_to_json(q, &s, &plan);
	return r;
}

/* ---- class, spare ---- */

int verb_pool_class(struct request *q)
{
	const char *name = NULL;
	struct pool_dev_status s;
	bool unused;
	int r = device_arg(q, &s, &unused);
	if (!r)
		r = arg_string(q, "class", ARG_REQUIRED, POOL_CLASS_MAX, &name);
	if (!r && !strcmp(name, "-"))
		name = "";
	if (!r && *name && !new_device_word(name, POOL_CLASS_MAX))
		r = err_set(&q->e, -EINVAL, "class: not a valid name");
	return r ? r : pool_dev_set_class(q->d->pool, s.id, name, &q->e);
}

int verb_pool_spare(struct request *q)
{
	struct pool_dev_status s;
	bool unused;
	int r = device_arg(q, &s, &unused);
	return r ? r : pool_dev_make_spare(q->d->pool, s.id, &q->e);
}

/* ---- grow ---- */

struct grow {
	struct request *q;
	const char *name;
	struct pool_dev_status s;
	uint64_t size;
};

static int grow_find_co(void *arg)
{
	struct grow *g = arg;
	return device_find(g->q, g->name, &g->s);
}

static int grow_co(void *arg)
{
	struct grow *g = arg;
	return pool_dev_grow(g->q->d->pool, g->s.id, g->size, &g->q->e);
}

/* Make a file larger. */
static int extend(int fd, const char *path, uint64_t size, struct stat *st, struct err *e)
{
	if (!S_ISREG(st->st_mode))
		return err_set(e, -EINVAL,
			       "%s is a block device: enlarge the partition or volume, "
			       "then come without --size",
			       path);
	if (size < (uint64_t)st->st_size)
		return err_set(e, -EINVAL, "%s is larger already (%llu bytes)", path,
			       (unsigned long long)st->st_size);
	if (ftruncate(fd, (off_t)size) || fsync(fd) || fstat(fd, st))
		return err_set(e, -errno, "enlarge %s: %s", path, strerror(errno));
	return 0;
}

/* The size of what is at a path now; want 0: leave it as it is. */
static int size_read(const char *path, uint64_t want, uint64_t *ret_size, struct err *e)
{
	struct stat st;
	int r = 0, fd = open(path, (want ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return err_set(e, -errno, "open %s: %s", path, strerror(errno));
	if (fstat(fd, &st))
		r = err_set(e, -errno, "%s: %s", path, strerror(errno));
	if (!r && want)
		r = extend(fd, path, want, &st, e);
	off_t end = r ? 0 : lseek(fd, 0, SEEK_END); /* of a block device, too */
	if (end < 0)
		r = err_set(e, -errno, "size of %s: %s", path, strerror(errno));
	*ret_size = end > 0 ? (uint64_t)end : 0;
	close(fd);
	return r;
}

int verb_pool_grow_device(struct request *q)
{
	struct grow g = {.q = q};
	uint64_t want = 0;
	int r = arg_string(q, "device", ARG_REQUIRED, PATH_ARG_MAX, &g.name);
	if (!r)
		r = arg_u64(q, "size_bytes", ARG_OPTIONAL, 1, INT64_MAX, &want);
	if (!r)
		r = hop_run(daemon_bg(q->d), grow_find_co, &g, NULL, NULL);
	if (!r && g.s.state != DEV_ONLINE)
		r = err_set(&q->e, -EBUSY, "device %u is %s; it must be online to grow", g.s.id,
			    dev_state_name(g.s.state));
	if (!r && (g.s.evacuating || g.s.shrinking))
		r = err_set(&q->e, -EBUSY,
			    "device %u is being %s; "
			    "`tarn pool remove %s %u --cancel` stops that",
			    g.s.id, g.s.evacuating ? "removed" : "shrunk", q->d->name, g.s.id);
	if (!r)
		r = size_read(g.s.path, want, &g.size, &q->e);
	if (!r)
		r = hop_run(daemon_bg(q->d), grow_co, &g, NULL, NULL);
	if (r)
		return r;
	q->result = json_object_new_object();
	add_u64(q->result, "id", g.s.id);
	add_string(q->result, "path", g.s.path);
	add_u64(q->result, "size_bytes", g.size);
	return 0;
}

/* ---- rebalance, scrub, trim ---- */

int verb_pool_rebalance(struct request *q)
{
	struct pool_move_plan plan;
	bool stop = false, dry_run = false;
	int r = arg_bool(q, "stop", &stop);
	if (!r)
		r = arg_bool(q, "dry_run", &dry_run);
	if (r)
		return r;
	if (!dry_run)
		return pool_rebalance(q->d->pool, !stop);
	pool_rebalance_plan(q->d->pool, &plan);
	q->result = json_object_new_object();
	add_u64(q->result, "chunks", plan.chunks);
	add_u64(q->result, "bytes", plan.bytes);
	return 0;
}

int verb_pool_scrub(struct request *q)
{
	bool stop = false;
	int r = arg_bool(q, "stop", &stop);
	if (r)
		return r;
	if (!stop)
		return pool_scrub_start(q->d->pool, &q->e);
	pool_scrub_stop(q->d->pool);
	return 0;
}

int verb_pool_trim(struct request *q)
{
	bool stop = false;
	int r = arg_bool(q, "stop", &stop);
	if (r)
		return r;
	if (!stop)
		return pool_trim_start(q->d->pool, &q->e);
	pool_trim_stop(q->d->pool);
	return 0;
}
