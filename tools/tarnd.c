/* tarnd: the daemon of one pool.
 *
 * Happy path: options -> pid file (refuses a second start) -> fork (unless --foreground) -> control
 * socket -> daemon_start (import, images) -> ready -> serve until SIGTERM, SIGINT or an export ->
 * daemon_stop.
 *
 * The parent waits on a pipe: the child writes warnings and then "ready", or an error; the parent
 * prints what is not "ready" to stderr and its exit status says how it went.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tools/ctl_server.h"
#include "tools/known_devices.h"
#include "tools/log.h"
#include "tools/names.h"
#include "tools/options.h"
#include "tools/pid_file.h"
#include "tools/progress.h"
#include "tools/sessions.h"
#include "tools/size_text.h"
#include "tools/state_file.h"
#include "tools/version.h"

#define POLL_MS		 1000
#define DATA_CACHE_BYTES (128ull << 20)

static const struct option_spec specs[] = {
	{"foreground", 'f', NULL, "stay in the foreground, log to stderr"},
	{"pool", 0, "NAME", "take the devices from the state file of this pool"},
	{"workers", 0, "N", "threads that serve requests (default: one per core)"},
	{"cache", 0, "SIZE", "memory for metadata (default 256M)"},
	{"data-cache", 0, "SIZE", "memory for small data read again (default 128M; 0: none)"},
	{"delta", 0, "SIZE", "most dirty data in memory (default 128M)"},
	{"commit", 0, "SECONDS", "longest time between commits (default 5)"},
	{"mover-rate", 0, "SIZE", "most bytes a second to move between devices, 1M or more"},
	{"degraded", 0, NULL, "start although most devices are missing"},
	{"force", 0, NULL, "do not wait for another host to let go of the pool"},
	{"read-only", 0, NULL, "change nothing on the devices"},
	{"no-images", 0, NULL, "do not mount the images of block volumes"},
	{"record", 0, "COMMAND", "what to write in the pool's history about this start"},
	{"help", 'h', NULL, "print this help"},
	{"version", 'V', NULL, "print the version"},
	{0},
};

static struct daemon the_daemon = {.mutex = PTHREAD_MUTEX_INITIALIZER,
				   .known.mutex = PTHREAD_MUTEX_INITIALIZER};

static void usage(void)
{
	puts("usage: tarnd [OPTIONS] POOL DEVICE...\n"
	     "       tarnd [OPTIONS] --pool NAME\n\n"
	     "Serve one Tarn pool. Usually started by `tarn pool import` or systemd.\n\noptions:");
	options_help(specs);
}

static int usage_error(const char *text)
{
	fprintf(stderr, "tarnd: %s; see `tarnd --help`\n", text);
	return 2;
}

static int size_option(const struct options *o, const char *name, uint64_t min, uint64_t *ret_n,
		       struct err *e)
{
	char text[SIZE_TEXT_MAX];
	const char *v = option_value(o, name, NULL);
	int r = v ? size_parse(v, ret_n) : 0;
	if (!r && v && *ret_n < min)
		r = -ERANGE;
	return r ? err_set(e, r, "--%s %s: a size from %s on, like 256M, is needed", name, v,
			   size_text(text, min, false))
		 : 0;
}

static int number_option(const struct options *o, const char *name, uint64_t max, uint64_t *ret_n,
			 struct err *e)
{
	const char *v = option_value(o, name, NULL);
	int r = v ? number_parse(v, 1, max, ret_n) : 0;
	return r ? err_set(e, r, "--%s %s: a number from 1 to %u is needed", name, v, (unsigned)max)
		 : 0;
}

static int options_apply(const struct options *o, struct daemon_options *d, struct err *e)
{
	uint64_t workers = 0, seconds = 0;
	int r = number_option(o, "workers", REACTOR_THREADS_MAX, &workers, e);
	if (!r)
		r = number_option(o, "commit", 3600, &seconds, e);
	if (!r)
		r = size_option(o, "cache", 8u << 20, &d->pool.cache_bytes, e);
	d->pool.data_cache_bytes = DATA_CACHE_BYTES;
	if (!r)
		r = size_option(o, "data-cache", 0, &d->pool.data_cache_bytes, e);
	if (!r)
		r = size_option(o, "delta", 8u << 20, &d->pool.delta_bytes, e);
	if (!r)
		r = size_option(o, "mover-rate", 1u << 20, &d->pool.mover_bytes_per_s, e);
	if (r)
		return r;
	d->workers = (unsigned)workers;
	d->pool.commit_ns = seconds * 1000000000ull;
	d->pool.degraded_ok = option_given(o, "degraded");
	d->pool.force = option_given(o, "force");
	d->pool.read_only = option_given(o, "read-only");
	d->record = option_value(o, "record", NULL);
	d->no_images = option_given(o, "no-images");
	return 0;
}

/* Absolute paths: the daemon runs in /. */
static int devices_resolve(struct daemon_options *d, struct state_file *known)
{
	for (unsigned i = 0; i < d->ndevs; i++) {
		char full[PATH_MAX];
		const char *path = d->devs[i]; /* names below /dev/disk stay true over reboots */
		if (strncmp(path, "/dev/disk/", 10) && realpath(path, full))
			path = full;
		int r = state_file_add(known, path);
		if (r)
			return r;
	}
	d->devs = known->devs;
	d->ndevs = known->ndevs;
	return 0;
}

/* ---- readiness ---- */

/* Tell systemd, when it is the one who waits. */
static void supervisor_notify(const char *text)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	if (!path || (*path != '/' && *path != '@') || strlen(path) >= sizeof(a.sun_path))
		return;
	memcpy(a.sun_path, path, strlen(path));
	if (*path == '@')
		a.sun_path[0] = 0;
	int s = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (s < 0)
		return;
	socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
	sendto(s, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&a, len);
	close(s);
}

/* Parent: pass on what the child says until it says ready. Exit status. */
static int wait_ready(int fd, pid_t child)
{
	FILE *f = fdopen(fd, "r");
	char *line = NULL;
	size_t size = 0;
	bool ready = false;
	while (f && !ready && getline(&line, &size, f) >= 0) {
		ready = !strcmp(line, "ready\n");
		if (!ready)
			fputs(line, stderr);
	}
	free(line);
	int status;
	if (!ready && waitpid(child, &status, 0) == child && WIFSIGNALED(status))
		fprintf(stderr,
			"tarnd: error: crashed (%s) while starting; what was flushed is "
			"safe, see its log\n",
			strsignal(WTERMSIG(status)));
	return ready ? 0 : 1;
}

/* The log file, for appending. */
static int log_file_open(const char *pool)
{
	char path[PATH_MAX];
	return open(run_path(path, pool, "log"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
}

/* Child: ready; from now on the standard descriptors go to the log file. */
static void detach(const char *pool, int ready_fd, int log)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	dup2(null, STDIN_FILENO);
	dup2(log < 0 ? null : log, STDOUT_FILENO);
	dup2(log < 0 ? null : log, STDERR_FILENO);
	log_also_to(-1);
	log_to(STDERR_FILENO);
	log_open(pool, true, false);
	if (write(ready_fd, "ready\n", 6) < 0)
		log_warn("nobody waits for this daemon");
	close(ready_fd);
}

/* ---- main loop ---- */

/* What the pool reports goes to the log. */
static void events_log(struct daemon *d, uint64_t *seq)
{
	struct pool_event ev[16];
	unsigned n;
	do {
		n = pool_events(d->pool, *seq, ev, 16);
		for (unsigned i = 0; i < n && i < 16; i++) {
			log_info("event %s: %s", ev[i].kind, ev[i].text);
			*seq = ev[i].seq;
		}
	} while (n >= 16);
}

/* Devices come and go by themselves in the end: look after what depends on them. */
static void members_look(struct daemon *d)
{
	struct pool_status *s = calloc(1, sizeof(*s));
	if (!s)
		return;
	pool_status_get(d->pool, s);
	known_devices_sync(d, s);
	progress_sample(d, s);
	free(s);
}

static enum daemon_state state_get(struct daemon *d)
{
	pthread_mutex_lock(&d->mutex);
	enum daemon_state s = d->state;
	pthread_mutex_unlock(&d->mutex);
	return s;
}

static void main_loop(struct daemon *d, int listen_fd, int signal_fd)
{
	uint64_t seq = 0;
	for (;;) {
		struct pollfd p[3] = {{.fd = signal_fd, .events = POLLIN},
				      {.fd = d->wake_fd, .events = POLLIN},
				      {.fd = listen_fd, .events = POLLIN}};
		int n = poll(p, 3, POLL_MS);
		if (n > 0 && (p[0].revents & POLLIN)) {
			struct signalfd_siginfo si;
			if (read(signal_fd, &si, sizeof(si)) == (ssize_t)sizeof(si)) {
				log_info("signal %s: stopping", strsignal((int)si.ssi_signo));
				return;
			}
		}
		uint64_t x;
		if (n > 0 && (p[1].revents & POLLIN) && read(d->wake_fd, &x, sizeof(x)) < 0)
			continue;
		if (n > 0 && (p[2].revents & POLLIN))
			ctl_server_accept(d, listen_fd);
		enum daemon_state s = state_get(d);
		if (s == DAEMON_EXPORTED)
			return;
		if (s == DAEMON_SERVING && daemon_verb_begin(d)) {
			events_log(d, &seq);
			members_look(d);
			daemon_verb_end(d);
		}
	}
}

static int signals_open(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

static void daemon_init(struct daemon *d, const char *name)
{
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&d->changed, &attr);
	pthread_condattr_destroy(&attr);
	snprintf(d->name, sizeof(d->name), "%s", name);
	d->uid = geteuid();
	d->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

/* The daemon proper. ready_fd -1: foreground. */
static int serve(const struct daemon_options *o, int pid_fd, int ready_fd)
{
	struct daemon *d = &the_daemon;
	struct err e = {0};
	char path[PATH_MAX];
	int listen_fd = -1;
	daemon_init(d, o->name);
	pid_file_write(pid_fd);
	int signal_fd = signals_open(), log = log_file_open(o->name);
	log_also_to(log);
	sessions_clean_dead(o->name);
	int r = ctl_server_listen(o->name, &listen_fd, &e);
	if (!r)
		r = daemon_start(d, o, &e);
	if (r) {
		err_wrap(&e, "start pool %s", o->name);
		log_error("%s", e.text);
		unlink(run_path(path, o->name, "control"));
		return 1;
	}
	if (ready_fd >= 0)
		detach(o->name, ready_fd, log);
	supervisor_notify("READY=1");
	log_info("pool %s: serving (%u workers, version %s)", d->name, d->workers.n, TARN_VERSION);
	main_loop(d, listen_fd, signal_fd);
	supervisor_notify("STOPPING=1");
	unlink(run_path(path, o->name, "control"));
	if (daemon_stop(d))
		pid_file_clear(pid_fd);
	/* no destructors: connection threads may still be waiting for their clients */
	fflush(NULL);
	_exit(0);
}

static int start_detached(const struct daemon_options *o, int pid_fd)
{
	int p[2];
	if (pipe2(p, O_CLOEXEC)) {
		fprintf(stderr, "tarnd: pipe: %s\n", strerror(errno));
		return 1;
	}
	fflush(NULL);
	pid_t pid = fork();
	if (pid < 0) {
		fprintf(stderr, "tarnd: fork: %s\n", strerror(errno));
		return 1;
	}
	if (pid) {
		close(p[1]);
		close(pid_fd);
		return wait_ready(p[0], pid);
	}
	close(p[0]);
	setsid();
	if (chdir("/"))
		return 1;
	log_open(o->name, false, true);
	log_to(p[1]);
	return serve(o, pid_fd, p[1]);
}

int main(int argc, char **argv)
{
	struct options opt;
	struct err e = {0};
	struct daemon_options o = {0};
	struct state_file known = {0};
	if (options_parse(specs, argc - 1, argv + 1, &opt, &e) || options_apply(&opt, &o, &e))
		return usage_error(e.text);
	if (option_given(&opt, "help")) {
		usage();
		return 0;
	}
	if (option_given(&opt, "version")) {
		printf("tarnd %s\n", TARN_VERSION);
		return 0;
	}
	o.name = option_value(&opt, "pool", opt.nargs ? opt.args[0] : NULL);
	bool from_state = option_given(&opt, "pool");
	if (!o.name || (from_state ? opt.nargs > 0 : opt.nargs < 2))
		return usage_error(from_state ? "--pool takes no further arguments"
					      : "a pool and its devices are needed");
	if (!pool_name_valid(o.name))
		return usage_error("not a valid pool name");
	o.devs = opt.args + 1;
	o.ndevs = from_state ? 0 : (unsigned)opt.nargs - 1;
	int r = from_state ? state_file_load(o.name, &known, &e) : 0;
	if (!r && o.ndevs > POOL_DEVS_MAX)
		r = err_set(&e, -E2BIG, "a pool has at most %d devices", POOL_DEVS_MAX);
	if (!r)
		r = devices_resolve(&o, &known);
	if (r) {
		fprintf(stderr, "tarnd: %s%s\n", e.code ? e.text : err_str(r),
			r == -ENOENT && from_state
				? "; `tarn pool import DEVICE...` with its devices first"
				: "");
		return 1;
	}
	umask(022);
	struct rlimit files;
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	int pid_fd;
	if (pid_file_take(o.name, &pid_fd, &o.after_kill, &e)) {
		fprintf(stderr, "tarnd: %s\n", e.text);
		return 1;
	}
	log_open(o.name, false, option_given(&opt, "foreground") && getenv("NOTIFY_SOCKET"));
	return option_given(&opt, "foreground") ? serve(&o, pid_fd, -1)
						: start_detached(&o, pid_fd);
}
