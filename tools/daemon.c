#include "tools/daemon.h"
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "tools/history.h"
#include "tools/hop.h"
#include "tools/known_devices.h"
#include "tools/log.h"
#include "tools/names.h"
#include "tools/pid_file.h"
#include "tools/sessions.h"
#include "tools/state_file.h"

#define VERBS_MS 60000 /* at stop, running verbs have so long to end */

int64_t daemon_now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

bool daemon_wait(struct daemon *d, int64_t deadline_ms)
{
	struct timespec ts = {deadline_ms / 1000, deadline_ms % 1000 * 1000000};
	return pthread_cond_timedwait(&d->changed, &d->mutex, &ts) != ETIMEDOUT;
}

bool daemon_verb_begin(struct daemon *d)
{
	pthread_mutex_lock(&d->mutex);
	bool ok = d->state == DAEMON_SERVING && !d->terminating;
	d->verbs_active += ok;
	pthread_mutex_unlock(&d->mutex);
	return ok;
}

void daemon_verb_end(struct daemon *d)
{
	pthread_mutex_lock(&d->mutex);
	d->verbs_active--;
	pthread_cond_broadcast(&d->changed);
	pthread_mutex_unlock(&d->mutex);
}

/* ---- start ---- */

struct import_call {
	struct daemon *d;
	const struct daemon_options *o;
	struct dev_backend **devs;
	unsigned n;
	struct err *e;
};

/* Refuse a device of another pool before anything is written. */
static int labels_check(struct import_call *c)
{
	struct pool_label *l = calloc(1, sizeof(*l));
	int r = l ? 0 : err_set(c->e, -ENOMEM, "out of memory");
	for (unsigned i = 0; !r && i < c->n; i++)
		if (!pool_label_read(c->devs[i], l, NULL) && strcmp(l->name, c->d->name))
			r = err_set(c->e, ERR_POOL_ID, "%s belongs to pool %s, not %s",
				    c->devs[i]->path, l->name, c->d->name);
	for (unsigned i = 0; r && i < c->n; i++)
		dev_close(c->devs[i]);
	free(l);
	return r;
}

static int import_co(void *arg)
{
	struct import_call *c = arg;
	int r = labels_check(c);
	return r ? r
		 : pool_import(c->devs, c->n, &c->o->pool, reactor_current(), &c->d->pool, c->e);
}

/* Open one device; after a kill, what the killed daemon still holds is waited for. */
static int device_open(const struct daemon_options *o, const char *path, int64_t deadline_ms,
		       struct dev_backend **ret_b, struct err *e)
{
	for (;;) {
		memset(e, 0, sizeof(*e));
		int r = dev_file_open(path, o->pool.read_only ? DEV_OPEN_RDONLY : 0, ret_b, e);
		if (r != ERR_IN_USE || !o->after_kill || daemon_now_ms() >= deadline_ms)
			return r;
		usleep(20000);
	}
}

/* Open what is there; a device that is missing is the pool's business (degraded), one in use is
 * not. */
static int devices_open(const struct daemon_options *o, struct dev_backend **devs, unsigned *ret_n,
			struct err *e)
{
	int64_t deadline = daemon_now_ms() + PID_FILE_KILLED_MS;
	*ret_n = 0;
	for (unsigned i = 0; i < o->ndevs; i++) {
		struct err oe;
		int r = device_open(o, o->devs[i], deadline, &devs[*ret_n], &oe);
		if (!r) {
			++*ret_n;
			continue;
		}
		if (r == ERR_IN_USE) {
			while (*ret_n)
				dev_close(devs[--*ret_n]);
			return err_set(e, r, "%s", oe.text);
		}
		log_warn("device left out: %s", oe.text);
	}
	if (!*ret_n)
		return err_set(e, -ENODEV, "none of the %u devices could be opened", o->ndevs);
	return 0;
}

static int pool_start(struct daemon *d, const struct daemon_options *o, struct err *e)
{
	struct dev_backend *devs[POOL_DEVS_MAX];
	struct import_call c = {.d = d, .o = o, .devs = devs, .e = e};
	int r = devices_open(o, devs, &c.n, e);
	if (!r)
		r = hop_run(daemon_bg(d), import_co, &c, NULL, NULL);
	return r;
}

int daemon_start(struct daemon *d, const struct daemon_options *o, struct err *e)
{
	unsigned n = o->workers ? o->workers : reactor_threads_cores();
	d->read_only = o->pool.read_only;
	int r = reactor_threads_start(&d->background, 1, "tarn-bg", e);
	if (r)
		return r;
	r = reactor_threads_start(&d->workers, n, "tarn-io", e);
	if (!r)
		r = pool_start(d, o, e);
	if (r) {
		reactor_threads_stop(&d->workers);
		reactor_threads_stop(&d->background);
		return r;
	}
	known_devices_start(d, o->devs, o->ndevs);
	if (o->record && !o->pool.read_only)
		history_record_start(d, o->record);
	if (!o->no_images) {
		struct err ie = {0};
		if (sessions_mount_images(d, &ie))
			log_warn("images of block volumes are not available: %s", ie.text);
	}
	pthread_mutex_lock(&d->mutex);
	d->state = DAEMON_SERVING;
	pthread_mutex_unlock(&d->mutex);
	return 0;
}

/* ---- stop and export ---- */

struct export_call {
	struct daemon *d;
	bool force;
	struct err *e;
};

static int export_verb_co(void *arg)
{
	struct export_call *c = arg;
	return pool_export(c->d->pool, c->force, c->e);
}

static int commit_co(void *arg)
{
	return pool_commit(((struct daemon *)arg)->pool);
}

/* Wait for the verbs under way, but for `own` of them; none may begin any more. */
static bool verbs_drain(struct daemon *d, unsigned own)
{
	int64_t deadline = daemon_now_ms() + VERBS_MS;
	pthread_mutex_lock(&d->mutex);
	while (d->verbs_active > own && daemon_wait(d, deadline))
		;
	bool drained = d->verbs_active <= own;
	pthread_mutex_unlock(&d->mutex);
	return drained;
}

/* From one state to another; false when it was in a third. */
static bool state_move(struct daemon *d, enum daemon_state from, enum daemon_state to)
{
	pthread_mutex_lock(&d->mutex);
	bool ok = d->state == from;
	if (ok)
		d->state = to;
	pthread_mutex_unlock(&d->mutex);
	uint64_t one = 1;
	if (ok && write(d->wake_fd, &one, sizeof(one)) < 0)
		log_error("wake main loop: %s", strerror(errno));
	return ok;
}

/* Unmount and export; the part of daemon_export that can be refused. */
static int export_now(struct daemon *d, bool force, daemon_last_fn *last, void *arg, struct err *e)
{
	char busy[600];
	if (!force && sessions_busy(d, busy, sizeof(busy)))
		return err_set(e, ERR_IN_USE,
			       "pool %s is in use: %s; unmount first, or use --force "
			       "(users get errors, what they did not fsync may be lost)",
			       d->name, busy);
	int r = sessions_unmount(d, force, e);
	if (r)
		return r;
	if (last)
		last(arg);
	struct export_call c = {d, force, e};
	r = hop_run(daemon_bg(d), export_verb_co, &c, NULL, NULL);
	if (r) {
		struct err ie = {0};
		if (sessions_mount_images(d, &ie))
			log_warn("images are not mounted again: %s", ie.text);
	}
	return r;
}

int daemon_export(struct daemon *d, bool force, daemon_last_fn *last, void *arg, struct err *e)
{
	if (!state_move(d, DAEMON_SERVING, DAEMON_STOPPING))
		return err_set(e, ERR_IN_USE, "pool %s is being stopped already", d->name);
	int r = verbs_drain(d, 1)
			? 0
			: err_set(e, ERR_IN_USE,
				  "another command is still working on pool %s; try again when "
				  "it has ended",
				  d->name);
	if (!r)
		r = export_now(d, force, last, arg, e);
	if (r) {
		state_move(d, DAEMON_STOPPING, DAEMON_SERVING);
		return r;
	}
	struct err se = {0};
	if (state_file_remove(d->name, &se))
		log_warn("%s", se.text);
	d->pool = NULL;
	log_info("pool %s: exported", d->name);
	state_move(d, DAEMON_STOPPING, DAEMON_EXPORTED);
	return 0;
}

bool daemon_stop(struct daemon *d)
{
	struct err e = {0};
	pthread_mutex_lock(&d->mutex);
	d->terminating = true;
	pthread_mutex_unlock(&d->mutex);
	bool drained = verbs_drain(d, 0);
	if (!d->pool)
		goto threads;
	if (!drained) {
		log_warn("a command is still running: stopping after a last commit");
		hop_run(daemon_bg(d), commit_co, d, NULL, NULL);
		return false;
	}
	if (sessions_unmount(d, true, &e))
		log_warn("unmount: %s", e.text);
	struct export_call c = {d, true, &e};
	e.code = 0;
	if (hop_run(daemon_bg(d), export_verb_co, &c, NULL, NULL)) {
		log_error("stop pool %s: %s; the next start recovers from its log", d->name,
			  e.text);
		return false; /* coroutines may be left: leave the threads alone */
	}
	d->pool = NULL;
	log_info("pool %s: stopped", d->name);
threads:
	reactor_threads_stop(&d->workers);
	reactor_threads_stop(&d->background);
	return true;
}
