#include "tools/sessions.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "fs/mount.h"
#include "tools/hop.h"
#include "tools/log.h"
#include "tools/names.h"

#define INIT_WAIT_MS 2000
#define LINGER_MS    5000  /* an unmounted session has so long to notice */
#define ABORT_MS     30000 /* a cut-off session has so long to end */

struct session {
	struct session *next;
	struct daemon *d;
	struct serve *s; /* NULL until serve_*_start returned */
	bool ended;	 /* before start returned: the starter frees */
	bool images;
	bool held; /* no mount: session_hold() */
	char source[POOL_NAME_MAX + VOL_NAME_MAX + 2];
	char mountpoint[PATH_MAX];
};

static void session_remove_locked(struct session *x)
{
	for (struct session **p = &x->d->sessions; *p; p = &(*p)->next) {
		if (*p == x) {
			*p = x->next;
			break;
		}
	}
	pthread_cond_broadcast(&x->d->changed);
	free(x);
}

static void session_ended(struct serve *s, enum serve_end why, int code, void *arg)
{
	(void)s;
	struct session *x = arg;
	struct daemon *d = x->d;
	if (why == SERVE_END_FAILED)
		log_error("%s on %s: session failed: %s", x->source, x->mountpoint, err_str(code));
	else
		log_info("%s on %s: %s", x->source, x->mountpoint,
			 why == SERVE_END_ABORTED ? "cut off" : "unmounted");
	pthread_mutex_lock(&d->mutex);
	if (x->s)
		session_remove_locked(x);
	else
		x->ended = true;
	pthread_mutex_unlock(&d->mutex);
}

static struct session *session_find_locked(struct daemon *d, const char *source)
{
	struct session *x = d->sessions;
	while (x && strcmp(x->source, source))
		x = x->next;
	return x;
}

static int held_text(const struct session *x, struct err *e)
{
	return err_set(e, ERR_IN_USE, "%s is kept for %s; try again when that has ended", x->source,
		       x->mountpoint);
}

/* Put an entry in the list so that nobody else starts the same source. */
static int session_insert(struct daemon *d, const struct session_options *o, struct session **ret_x,
			  struct err *e)
{
	struct session *x = calloc(1, sizeof(*x));
	if (!x)
		return err_set(e, -ENOMEM, "out of memory");
	x->d = d;
	x->images = !o->volume;
	x->held = o->held;
	snprintf(x->source, sizeof(x->source), "%s%s%s", d->name, o->volume ? "/" : "",
		 o->volume ? o->volume : "");
	snprintf(x->mountpoint, sizeof(x->mountpoint), "%s", o->mountpoint);

	pthread_mutex_lock(&d->mutex);
	struct session *other = session_find_locked(d, x->source);
	if (other) {
		int r = other->held ? held_text(other, e)
				    : err_set(e, ERR_IN_USE, "%s is mounted already: on %.600s",
					      x->source, other->mountpoint);
		pthread_mutex_unlock(&d->mutex);
		free(x);
		return r;
	}
	x->next = d->sessions;
	d->sessions = x;
	pthread_mutex_unlock(&d->mutex);
	*ret_x = x;
	return 0;
}

int session_hold(struct daemon *d, const char *volume, const char *what, struct session **ret_x,
		 struct err *e)
{
	struct session_options o = {.volume = volume, .mountpoint = what, .held = true};
	return session_insert(d, &o, ret_x, e);
}

void session_let_go(struct session *x)
{
	if (!x)
		return;
	struct daemon *d = x->d;
	pthread_mutex_lock(&d->mutex);
	session_remove_locked(x);
	pthread_mutex_unlock(&d->mutex);
}

/* The root directory of a new tree belongs to the owner of the volume; when he mounts it himself,
 * by the numbers that he has there. */
static void root_owner(struct vol *v, const struct session_options *o, struct serve_options *so)
{
	struct vol_info *info = malloc(sizeof(*info));
	if (!info)
		return;
	vol_info_get(v, info);
	so->root_uid = info->owner_uid;
	free(info);
	if (so->root_uid == o->mounter_uid) {
		so->root_uid = o->self_uid;
		so->root_gid = o->self_gid;
		return;
	}
	if (!so->root_uid)
		return;
	struct passwd pw, *found = NULL;
	char *buf = malloc(16384);
	if (buf && !getpwuid_r(so->root_uid, &pw, buf, 16384, &found) && found)
		so->root_gid = pw.pw_gid;
	else
		so->root_gid = so->root_uid;
	free(buf);
}

/* Listed, and the kernel's INIT not answered yet. */
static bool session_starting(struct daemon *d, const struct session *x)
{
	bool starting = false;
	pthread_mutex_lock(&d->mutex);
	for (const struct session *y = d->sessions; y; y = y->next)
		starting |= y == x && y->s && !serve_running(y->s);
	pthread_mutex_unlock(&d->mutex);
	return starting;
}

/* What is mounted answers, and shows the transport that was agreed on. The kernel sends INIT with
 * the mount itself, so this is short. */
static void session_wait(struct daemon *d, const struct session *x)
{
	for (unsigned i = 0; i < INIT_WAIT_MS && session_starting(d, x); i++)
		co_sleep_ns(1000000);
}

int session_start(struct daemon *d, const struct session_options *o, struct err *e)
{
	struct session *x = NULL;
	int r = session_insert(d, o, &x, e);
	if (r)
		return r;

	struct serve_options so = {
		.fd = o->fd,
		.source = x->source,
		.mountpoint = x->mountpoint,
		.reactors = d->workers.r,
		.reactor_count = d->workers.n,
		.transport = o->transport,
		.read_only = o->read_only || d->read_only, /* images, too */
		.no_writeback = o->no_writeback,
		.no_atime = o->no_atime,
		.strict_atime = o->strict_atime,
		.no_dir_atime = o->no_dir_atime,
		.mounter_uid = o->mounter_uid,
		.ended = session_ended,
		.arg = x,
	};
	struct serve *s = NULL;
	struct vol *v = NULL;
	if (o->volume) {
		r = vol_open(d->pool, o->volume, &v, e);
		if (!r) {
			struct vol_info info;
			vol_info_get(v, &info);
			so.read_only |= info.snapshot;
			root_owner(v, o, &so);
			r = serve_tree_start(v, &so, &s, e);
		}
		if (r)
			vol_close(v);
	} else {
		r = serve_images_start(d->pool, &so, &s, e);
	}

	pthread_mutex_lock(&d->mutex);
	if (!r)
		log_info("%s on %s: mounted", x->source, x->mountpoint);
	if (r || x->ended)
		session_remove_locked(x);
	else
		x->s = s;
	pthread_mutex_unlock(&d->mutex);
	if (!r)
		session_wait(d, x);
	return r;
}

static void add_u64(struct json_object *o, const char *key, uint64_t n)
{
	json_object_object_add(o, key, json_object_new_uint64(n));
}

struct json_object *sessions_to_json(struct daemon *d)
{
	static const char *const states[] = {"starting", "starting", "running", "ending"};
	struct json_object *a = json_object_new_array();
	struct serve_info *i = calloc(1, sizeof(*i));
	pthread_mutex_lock(&d->mutex);
	for (struct session *x = d->sessions; x && i; x = x->next) {
		if (x->held)
			continue;
		struct json_object *o = json_object_new_object();
		json_object_object_add(o, "source", json_object_new_string(x->source));
		json_object_object_add(o, "mountpoint", json_object_new_string(x->mountpoint));
		json_object_object_add(o, "images", json_object_new_boolean(x->images));
		if (x->s) {
			serve_info_get(x->s, i);
			json_object_object_add(o, "transport",
					       json_object_new_string(i->transport));
			json_object_object_add(o, "read_only",
					       json_object_new_boolean(i->read_only));
			add_u64(o, "mounter_uid", i->mounter_uid);
			add_u64(o, "open_files", i->open_files);
			add_u64(o, "requests_active", i->requests_active);
			add_u64(o, "requests_total", i->requests_total);
			add_u64(o, "nodes", i->nodes);
			add_u64(o, "orphans", i->orphans);
		}
		const char *state =
			x->s && i->state <= SERVE_ENDING ? states[i->state] : "starting";
		json_object_object_add(o, "state", json_object_new_string(state));
		json_object_array_add(a, o);
	}
	pthread_mutex_unlock(&d->mutex);
	free(i);
	return a;
}

struct mount_search {
	const char *source, *mountpoint;
	bool found;
};

static void mount_search_cb(void *arg, const char *mountpoint, const char *source)
{
	struct mount_search *m = arg;
	m->found |= !strcmp(m->source, source) && !strcmp(m->mountpoint, mountpoint);
}

/* Is source still mounted at mountpoint, as seen from this mount namespace? Does not touch the
 * mount (mount_probe does): one that nobody serves yet would hold us. */
static bool still_mounted(const char *source, const char *mountpoint)
{
	struct mount_search m = {source, mountpoint, false};
	mount_list(source, mount_search_cb, &m);
	return m.found;
}

static uint64_t open_files_locked(struct session *x)
{
	if (!x->s)
		return 1;
	struct serve_info *i = calloc(1, sizeof(*i));
	if (!i)
		return 1;
	serve_info_get(x->s, i);
	uint64_t n = i->open_files;
	free(i);
	return n;
}

/* One line about the sessions that hold the pool (volume NULL) or the volume. */
static unsigned holders_locked(struct daemon *d, const char *source, char *text, size_t size)
{
	unsigned n = 0;
	size_t len = 0;
	*text = 0;
	for (struct session *x = d->sessions; x; x = x->next) {
		if (source && strcmp(x->source, source))
			continue;
		if (x->images && !open_files_locked(x))
			continue;
		if (len < size)
			len += (size_t)snprintf(text + len, size - len, "%s%s %s %.200s",
						n ? ", " : "", x->images ? "images" : x->source,
						x->held ? "by" : "on", x->mountpoint);
		n++;
	}
	return n;
}

/* Copies of the list's places, for work without the mutex (a mount under test may need a worker,
 * and a worker may need the mutex). Ends with an entry without source. NULL: no memory. */
static struct session *sessions_copy(struct daemon *d)
{
	unsigned n = 0, i = 0;
	pthread_mutex_lock(&d->mutex);
	for (struct session *x = d->sessions; x; x = x->next)
		n++;
	struct session *a = calloc(n + 1, sizeof(*a));
	for (struct session *x = d->sessions; x && a; x = x->next)
		a[i++] = *x;
	pthread_mutex_unlock(&d->mutex);
	return a;
}

/* Trees (of source, or all) whose mount is gone from this namespace; *ret_stay: others are there.
 */
static bool some_leave(struct daemon *d, const char *source, bool *ret_stay)
{
	bool leaving = false;
	struct session *a = sessions_copy(d);
	*ret_stay = !a;
	for (struct session *x = a; a && *x->source; x++) {
		if (x->images || (source && strcmp(x->source, source)))
			continue;
		if (x->held || still_mounted(x->source, x->mountpoint))
			*ret_stay = true;
		else
			leaving = true;
	}
	free(a);
	return leaving;
}

/* Wait for sessions whose mount is gone already: umount(8) returns before the daemon has noticed.
 */
static void wait_for_leavers(struct daemon *d, const char *source)
{
	int64_t deadline = daemon_now_ms() + LINGER_MS;
	bool staying;
	while (some_leave(d, source, &staying) && !staying) {
		int64_t now = daemon_now_ms();
		if (now >= deadline)
			break;
		pthread_mutex_lock(&d->mutex);
		daemon_wait(d, now + 100);
		pthread_mutex_unlock(&d->mutex);
	}
}

unsigned sessions_busy(struct daemon *d, char *ret_text, size_t size)
{
	wait_for_leavers(d, NULL);
	pthread_mutex_lock(&d->mutex);
	unsigned n = holders_locked(d, NULL, ret_text, size);
	pthread_mutex_unlock(&d->mutex);
	return n;
}

int session_refuse(struct daemon *d, const char *volume, struct err *e)
{
	char where[400], source[POOL_NAME_MAX + VOL_NAME_MAX + 2], mountpoint[PATH_MAX] = "";
	if (!session_of_volume(d, volume, where, sizeof(where)))
		return 0;
	snprintf(source, sizeof(source), "%s/%s", d->name, volume);
	pthread_mutex_lock(&d->mutex);
	struct session *x = session_find_locked(d, source);
	bool held = x && x->held;
	if (held)
		held_text(x, e);
	else if (x)
		snprintf(mountpoint, sizeof(mountpoint), "%s", x->mountpoint);
	pthread_mutex_unlock(&d->mutex);
	if (held)
		return ERR_IN_USE;
	if (!*mountpoint)
		return 0;
	if (still_mounted(source, mountpoint))
		return err_set(e, ERR_IN_USE,
			       "%s is mounted on %.600s already; use `mount --bind` to "
			       "see it in a second place",
			       source, mountpoint);
	return err_set(e, ERR_IN_USE,
		       "%s is in use on %.600s, in another mount namespace or by programs "
		       "that kept files open when it was detached; end those first",
		       source, mountpoint);
}

bool session_of_volume(struct daemon *d, const char *volume, char *ret_text, size_t size)
{
	char source[POOL_NAME_MAX + VOL_NAME_MAX + 2];
	snprintf(source, sizeof(source), "%s/%s", d->name, volume);
	wait_for_leavers(d, source);
	pthread_mutex_lock(&d->mutex);
	unsigned n = holders_locked(d, source, ret_text, size);
	pthread_mutex_unlock(&d->mutex);
	return n > 0;
}

struct images_start {
	struct daemon *d;
	struct session_options o;
	struct err *e;
};

static int images_start_co(void *arg)
{
	struct images_start *i = arg;
	return session_start(i->d, &i->o, i->e);
}

int sessions_mount_images(struct daemon *d, struct err *e)
{
	char path[PATH_MAX];
	run_path(path, d->name, "images");
	if (mkdir(path, 0755) && errno != EEXIST)
		return err_set(e, -errno, "mkdir %s: %s", path, strerror(errno));
	struct mount_options mo;
	int fd;
	/* fusermount3 lets only root say allow_other; an ordinary user's images are his own */
	int r = mount_options_parse(geteuid() ? "" : "allow_other", &mo, e);
	if (!r)
		r = mount_fuse(path, &mo, true, d->name, &fd, e);
	if (r)
		return r;
	struct images_start i = {d, {.mountpoint = path, .fd = fd, .mounter_uid = geteuid()}, e};
	r = hop_run(d->workers.r[0], images_start_co, &i, NULL, NULL);
	if (r) {
		close(fd);
		mount_umount(path, true, NULL);
	}
	return r;
}

/* Write back what the kernel holds of a mount; best effort. */
static void mount_flush(const char *mountpoint)
{
	int fd = open(mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (syncfs(fd))
		log_warn("%s: not everything could be written back: %s", mountpoint,
			 strerror(errno));
	close(fd);
}

/* Cut off what did not leave by itself. */
static void abort_all(struct daemon *d)
{
	pthread_mutex_lock(&d->mutex);
	for (struct session *x = d->sessions; x; x = x->next) {
		if (!x->s)
			continue;
		log_warn("%s on %s: in use, cut off", x->source, x->mountpoint);
		serve_abort(x->s);
	}
	pthread_mutex_unlock(&d->mutex);
}

static bool wait_for_none(struct daemon *d, const char *source, int ms)
{
	int64_t deadline = daemon_now_ms() + ms;
	bool none;
	pthread_mutex_lock(&d->mutex);
	for (;;) {
		none = source ? !session_find_locked(d, source) : !d->sessions;
		if (none || !daemon_wait(d, deadline))
			break;
	}
	pthread_mutex_unlock(&d->mutex);
	return none;
}

/* Unmount one; with force also when it is in use. */
static int unmount_one(struct daemon *d, struct session *x, bool force, struct err *e)
{
	if (!still_mounted(x->source, x->mountpoint))
		return 0; /* gone, or in another namespace: abort_all is for that */
	int r = mount_umount(x->mountpoint, false, e);
	if (!r) {
		wait_for_none(d, x->source, ABORT_MS);
		return 0;
	}
	if (!force)
		return err_set(e, ERR_IN_USE, "%s is in use; `fuser -vm %s` shows by whom",
			       x->mountpoint, x->mountpoint);
	mount_flush(x->mountpoint);
	return 0;
}

int sessions_unmount(struct daemon *d, bool force, struct err *e)
{
	struct session *a = sessions_copy(d);
	if (!a)
		return err_set(e, -ENOMEM, "out of memory");
	int r = 0;
	for (struct session *x = a; !r && *x->source; x++)
		if (x->held) /* cut off it would be half done */
			r = held_text(x, e);
	for (struct session *x = a; !r && *x->source; x++)
		if (force || x->images)
			r = unmount_one(d, x, force, e);
	if (!r && force && !wait_for_none(d, NULL, 100)) {
		abort_all(d);
		for (struct session *x = a; *x->source; x++)
			if (still_mounted(x->source, x->mountpoint))
				mount_umount(x->mountpoint, true, NULL);
		if (!wait_for_none(d, NULL, ABORT_MS))
			r = err_set(e, ERR_IN_USE, "requests did not end within %d s",
				    ABORT_MS / 1000);
	}
	free(a);
	return r;
}

static void clean_dead(void *arg, const char *mountpoint, const char *source)
{
	const char *pool = arg;
	size_t n = strlen(pool);
	if (strncmp(source, pool, n) || (source[n] && source[n] != '/'))
		return;
	if (mount_probe(mountpoint, NULL, 0) != 2)
		return;
	struct err e = {0};
	if (mount_umount(mountpoint, true, &e))
		log_warn("dead mount of %s on %s: %s", source, mountpoint, e.text);
	else
		log_info("dead mount of %s on %s: cleaned", source, mountpoint);
}

void sessions_clean_dead(const char *pool)
{
	mount_list(pool, clean_dead, (void *)(uintptr_t)pool);
}
