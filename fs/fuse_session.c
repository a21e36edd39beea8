#include "fs/fuse_session.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <unistd.h>
#include "fs/fs.h"
#include "fs/fuse_serve.h"

void serve_end(struct serve *s, enum serve_end why, int code)
{
	lock_take(&s->lock);
	if (!atomic_load(&s->ending)) {
		s->why = why;
		s->code = code;
		atomic_store(&s->ending, true);
		waitq_wake_all(&s->wait);
	}
	lock_drop(&s->lock);
}

void serve_abort(struct serve *s)
{
	serve_end(s, SERVE_END_ABORTED, 0);
}

bool serve_running(struct serve *s)
{
	return atomic_load(&s->running);
}

static void serve_free(struct serve *s)
{
	if (s->se)
		fuse_session_destroy(s->se);
	images_destroy(s->images);
	serve_uring_free(s);
	if (s->abort_fd >= 0)
		close(s->abort_fd);
	free(s->source);
	free(s->mountpoint);
	lock_fini(&s->lock);
	free(s);
}

/* The last worker has stopped: nobody else uses s. */
static void serve_finish(struct serve *s)
{
	enum serve_end why = s->why;
	int code = s->code, r;

	if (s->fs) {
		struct fs *fs = s->fs;

		lock_take(&s->lock);
		s->fs = NULL; /* serve_info_get() */
		lock_drop(&s->lock);
		fs_close(fs);
		r = vol_sync(s->vol);
		if (r && why == SERVE_END_UNMOUNTED) {
			why = SERVE_END_FAILED;
			code = r;
		}
		vol_close(s->vol);
	}
	if (s->images)
		images_stop(s->images);
	if (s->ended)
		s->ended(s, why, code, s->arg);
	serve_free(s);
}

/* Keep this thread on the CPUs whose share of the work is its own, as far as it may run there.
 * FUSE over io_uring delivers a request on the client's CPU. Over /dev/fuse, left to the scheduler,
 * all workers and the client are often on one CPU while others idle. The thread stays so for good:
 * a later session would choose the same. */
static void worker_pin(const struct serve_worker *w)
{
	cpu_set_t set;

	if (pthread_getaffinity_np(pthread_self(), sizeof(set), &set))
		return;
	for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (cpu % w->s->worker_count != w->index)
			CPU_CLR(cpu, &set);
	if (CPU_COUNT(&set))
		pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
}

static void worker_serve(struct serve_worker *w)
{
	struct serve *s = w->s;
	int r;

	worker_pin(w);
	r = s->transport->start(w);
	if (r)
		serve_end(s, SERVE_END_FAILED, r);
	lock_take(&s->lock);
	while (!atomic_load(&s->ending)) {
		if (s->uring_agreed && !w->registered) {
			lock_drop(&s->lock);
			serve_uring_register(w);
			lock_take(&s->lock);
			continue;
		}
		if (atomic_load(&w->parked) ? atomic_load(&w->wanted) : atomic_load(&w->unwanted)) {
			lock_drop(&s->lock);
			serve_dev_ops.help(w);
			lock_take(&s->lock);
			continue;
		}
		waitq_wait(&s->wait, &s->lock);
	}
	lock_drop(&s->lock);
	serve_abort_now(s);
	s->transport->stop(w);
}

/* One per reactor, from start to end. */
static void worker_main(void *arg)
{
	struct serve_worker *w = arg;
	struct serve *s = w->s;
	bool go, last;

	lock_take(&s->lock);
	while (!s->go && !atomic_load(&s->ending))
		waitq_wait(&s->wait, &s->lock);
	go = s->go;
	lock_drop(&s->lock);
	if (go)
		worker_serve(w);
	lock_take(&s->lock);
	while (w->active)
		waitq_wait(&s->wait, &s->lock);
	if (go)
		close(w->fd); /* under the lock: send_notify() */
	w->fd = -1;
	serve_rq_free_all(w);
	last = --s->workers_left == 0;
	lock_drop(&s->lock);
	if (last && go)
		serve_finish(s);
	else if (last)
		serve_free(s);
}

/* The descriptors of all workers but the first, whose is o->fd itself. */
static int clone_devices(struct serve *s, int fd)
{
	uint32_t from = (uint32_t)fd;
	int flags = fcntl(fd, F_GETFL), c;

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	s->worker[0].fd = fd;
	for (unsigned i = 1; i < s->worker_count; i++) {
		c = open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK);
		if (c >= 0 && ioctl(c, FUSE_DEV_IOC_CLONE, &from) < 0) {
			close(c);
			c = -1;
		}
		if (c < 0) /* no permission: share the queue of the first */
			c = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		if (c < 0)
			return -errno;
		s->worker[i].fd = c;
	}
	return 0;
}

static void close_clones(struct serve *s)
{
	for (unsigned i = 1; i < s->worker_count; i++)
		if (s->worker[i].fd >= 0)
			close(s->worker[i].fd);
}

static int session_create(struct serve *s, const struct fuse_lowlevel_ops *ops)
{
	char *argv[] = {(char *)"tarn", NULL};
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
	int null;

	s->se = fuse_session_new(&args, ops, sizeof(*ops), s);
	fuse_opt_free_args(&args);
	if (!s->se)
		return -ENOMEM;
	/* libfuse wants a descriptor to close; the devices stay ours */
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0)
		return -errno;
	return fuse_session_custom_io(s->se, &serve_custom_io, null);
}

/* Not the same for all mounts and daemons: leaders of several are on several CPUs. */
static unsigned leader_choose(unsigned workers)
{
	static _Atomic unsigned sessions;

	return ((unsigned)getpid() + atomic_fetch_add(&sessions, 1)) % workers;
}

static struct serve *serve_alloc(const struct serve_options *o)
{
	struct serve *s = calloc(1, sizeof(*s) + o->reactor_count * sizeof(s->worker[0]));

	if (!s)
		return NULL;
	lock_init(&s->lock);
	s->source = strdup(o->source ? o->source : "");
	s->mountpoint = strdup(o->mountpoint ? o->mountpoint : "");
	s->ended = o->ended;
	s->arg = o->arg;
	s->read_only = o->read_only;
	s->no_writeback = o->no_writeback;
	s->mounter_uid = o->mounter_uid;
	s->transport = &serve_dev_ops;
	s->abort_fd = -1;
	s->worker_count = o->reactor_count;
	s->places.most = SERVE_ACTIVE_MAX / 2;
	s->leader = leader_choose(s->worker_count);
	for (unsigned i = 0; i < s->worker_count; i++) {
		s->worker[i].s = s;
		s->worker[i].reactor = o->reactors[i];
		s->worker[i].index = i;
		s->worker[i].fd = -1;
	}
	if (s->source && s->mountpoint)
		return s;
	serve_free(s);
	return NULL;
}

/* Workers wait for `go`, so that nothing is served before all of them exist. */
static int spawn_workers(struct serve *s)
{
	for (unsigned i = 0; i < s->worker_count; i++) {
		s->workers_left++;
		if (co_spawn(s->worker[i].reactor, worker_main, &s->worker[i])) {
			s->workers_left--;
			return -ENOMEM;
		}
	}
	return 0;
}

static int transport_choose(struct serve *s, const struct serve_options *o, struct err *e)
{
	int r = o->transport == SERVE_DEV ? 0 : serve_uring_prepare(s, e);

	if (!r && o->transport != SERVE_DEV)
		s->transport = &serve_uring_ops;
	return o->transport == SERVE_URING ? r : 0;
}

/* From here on a failure is answered by the workers, who free s when they give up. */
static int serve_start(struct serve *s, const struct serve_options *o,
		       const struct fuse_lowlevel_ops *ops, struct err *e)
{
	struct err why = {0};
	bool spawned;
	int r;

	s->abort_fd = serve_abort_open(o->fd, s->mountpoint);
	r = transport_choose(s, o, &why);
	if (r) {
		serve_free(s);
		return err_set(e, r, "transport uring: %s", why.text);
	}
	r = session_create(s, ops);
	if (!r)
		r = clone_devices(s, o->fd);
	if (r) {
		close_clones(s);
		serve_free(s);
		return err_set(e, r, "start FUSE session: %s", err_str(r));
	}
	lock_take(&s->lock); /* workers cannot be gone before we are done with s */
	r = spawn_workers(s);
	spawned = s->workers_left > 0;
	s->go = !r;
	if (r) {
		close_clones(s);
		atomic_store(&s->ending, true);
	}
	waitq_wake_all(&s->wait);
	lock_drop(&s->lock);
	if (r && !spawned)
		serve_free(s);
	return r ? err_set(e, r, "start FUSE session: %s", err_str(r)) : 0;
}

static int options_check(const struct serve_options *o, struct err *e)
{
	if (o->reactor_count < 1 || o->reactor_count > SERVE_WORKERS_MAX)
		return err_set(e, -EINVAL, "1 to %d worker threads", SERVE_WORKERS_MAX);
	return 0;
}

int serve_tree_start(struct vol *v, const struct serve_options *o, struct serve **ret_s,
		     struct err *e)
{
	struct fs_options fo = {.root_uid = o->root_uid,
				.root_gid = o->root_gid,
				.read_only = o->read_only,
				.atime = !o->no_atime,
				.atime_strict = o->strict_atime,
				.atime_no_dirs = o->no_dir_atime};
	struct serve *s;
	struct fs *fs;
	int r = options_check(o, e);

	if (r)
		return r;
	if (getrandom(fo.seed, sizeof(fo.seed), 0) != sizeof(fo.seed))
		return err_set(e, -EIO, "no randomness from the kernel");
	fo.bg = o->reactors[0];
	r = fs_open(v, &fo, &fs, e);
	if (r)
		return r;
	s = serve_alloc(o);
	if (!s) {
		fs_close(fs);
		return err_set(e, -ENOMEM, "out of memory");
	}
	s->fs = fs;
	s->vol = v;
	r = serve_start(s, o, &serve_tree_ops, e);
	if (r) {
		fs_close(fs);
		return r;
	}
	*ret_s = s;
	return 0;
}

int serve_images_start(struct pool *p, const struct serve_options *o, struct serve **ret_s,
		       struct err *e)
{
	struct serve *s;
	int r = options_check(o, e);

	if (r)
		return r;
	s = serve_alloc(o);
	if (!s)
		return err_set(e, -ENOMEM, "out of memory");
	r = images_create(p, s, &s->images);
	if (r) {
		serve_free(s);
		return err_set(e, r, "open images: %s", err_str(r));
	}
	r = serve_start(s, o, &serve_images_ops, e);
	if (!r)
		*ret_s = s;
	return r;
}

static const char *transport_name(struct serve *s)
{
	bool ring;

	lock_take(&s->lock);
	ring = s->uring_agreed && !atomic_load(&s->uring_failed);
	lock_drop(&s->lock);
	return ring ? serve_uring_ops.name : serve_dev_ops.name;
}

void serve_info_get(struct serve *s, struct serve_info *ret_i)
{
	struct fs_stats st = {0};

	memset(ret_i, 0, sizeof(*ret_i));
	strncpy(ret_i->source, s->source, sizeof(ret_i->source) - 1);
	strncpy(ret_i->mountpoint, s->mountpoint, sizeof(ret_i->mountpoint) - 1);
	ret_i->images = s->images != NULL;
	ret_i->read_only = s->read_only;
	ret_i->transport = transport_name(s);
	ret_i->mounter_uid = s->mounter_uid;
	ret_i->state = atomic_load(&s->ending)	  ? SERVE_ENDING
		       : atomic_load(&s->running) ? SERVE_RUNNING
						  : SERVE_STARTING;
	for (unsigned i = 0; i < s->worker_count; i++) {
		ret_i->requests_active += atomic_load(&s->worker[i].requests_active);
		ret_i->requests_total += atomic_load(&s->worker[i].requests_total);
	}
	if (s->images) {
		ret_i->open_files = images_open_count(s->images);
		return;
	}
	lock_take(&s->lock);
	if (s->fs) {
		fs_stats_get(s->fs, &st);
		ret_i->open_files = st.opens;
		ret_i->nodes = st.nodes;
		ret_i->orphans = st.orphans;
	}
	lock_drop(&s->lock);
}
