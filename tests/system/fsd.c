/* fsd: serve a volume in memory (tests/unit/fake_vol.c) over real FUSE, to test fs/ without an
 * engine.
 *
 *   fsd tree|images MOUNTPOINT [threads [delay_us [need_node_one_in]]]
 *
 * Runs in the foreground until unmounted. SIGUSR1: abort the session. SIGUSR2: grow the image
 * "vm1" by 1 MiB.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/reactor.h"
#include "fs/fuse_session.h"
#include "fs/mount.h"
#include "tests/unit/fake_vol.h"
#include "tests/unit/fs_tree_check.h"

#define THREADS_MAX 8

static struct pool *pool;
static struct vol *vol;
static struct serve *serve;
static struct serve_options options;
static struct reactor *reactors[THREADS_MAX];
static bool images;
static uint64_t image_size = 256 << 20;
static int exit_code = 1;

static void ended(struct serve *s, enum serve_end why, int code, void *arg)
{
	(void)s;
	(void)arg;
	serve = NULL;
	printf("ended: why %d code %d (%s)\n", why, code, err_str(code));
	exit_code = why == SERVE_END_FAILED;
	kill(getpid(), SIGTERM);
}

static void start(void *arg)
{
	struct err e = {0};
	int r;

	(void)arg;
	if (images)
		r = serve_images_start(pool, &options, &serve, &e);
	else
		r = serve_tree_start(vol, &options, &serve, &e);
	if (r) {
		fprintf(stderr, "start: %s\n", e.text);
		exit(1);
	}
	printf("serving\n");
}

static void *thread_main(void *arg)
{
	reactor_run(arg);
	return NULL;
}

static void resize(void *arg)
{
	(void)arg;
	image_size += 1 << 20;
	vol_resize(pool, "vm1", image_size, false, NULL);
}

static void wait_for_signals(const sigset_t *set)
{
	int sig;

	while (!sigwait(set, &sig)) {
		if (sig == SIGUSR1 && serve)
			serve_abort(serve);
		else if (sig == SIGUSR2)
			co_spawn(reactors[0], resize, NULL);
		else if (sig == SIGTERM || sig == SIGINT)
			return;
	}
}

static void volumes_create(uint64_t delay_us, unsigned need)
{
	struct vol_options tree = {.type = VOL_TYPE_FS};
	struct vol_options block = {.type = VOL_TYPE_BLOCK, .size_bytes = image_size};

	pool = fake_pool_create();
	vol_create(pool, "home", &tree, NULL);
	vol_create(pool, "vm1", &block, NULL);
	vol_create(pool, "vm2", &block, NULL);
	vol_open(pool, "home", &vol, NULL);
	fake_vol_delay(vol, delay_us * 1000);
	fake_vol_need_node(vol, need, 1);
}

int main(int argc, char **argv)
{
	unsigned n = argc > 3 ? (unsigned)atoi(argv[3]) : 2;
	struct mount_options mo;
	pthread_t thread[THREADS_MAX];
	struct err e = {0};
	sigset_t set;
	int r;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc < 3 || n < 1 || n > THREADS_MAX)
		return 2;
	images = argv[1][0] == 'i';
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	volumes_create(argc > 4 ? (uint64_t)atoi(argv[4]) : 0,
		       argc > 5 ? (unsigned)atoi(argv[5]) : 0);
	for (unsigned i = 0; i < n; i++) {
		r = reactor_uring_create(256, &reactors[i]);
		if (r) {
			fprintf(stderr, "reactor: %s\n", err_str(r));
			return 1;
		}
	}
	r = mount_options_parse(getenv("FSD_OPTIONS"), &mo, &e);
	if (!r)
		r = mount_fuse(argv[2], &mo, images, images ? "tank/images" : "tank/home",
			       &options.fd, &e);
	if (r) {
		fprintf(stderr, "%s\n", e.text);
		return 1;
	}
	options.source = "tank/home";
	options.mountpoint = argv[2];
	options.reactors = reactors;
	options.reactor_count = n;
	options.read_only = mo.read_only;
	options.no_writeback = mo.no_writeback;
	options.no_atime = mo.no_atime;
	options.transport = !strcmp(mo.transport, "uring") ? SERVE_URING
			    : !strcmp(mo.transport, "dev") ? SERVE_DEV
							   : SERVE_AUTO;
	options.root_uid = getuid();
	options.root_gid = getgid();
	options.ended = ended;
	co_spawn(reactors[0], start, NULL);
	for (unsigned i = 0; i < n; i++)
		pthread_create(&thread[i], NULL, thread_main, reactors[i]);
	wait_for_signals(&set);
	for (unsigned i = 0; i < n; i++)
		reactor_stop(reactors[i]);
	for (unsigned i = 0; i < n; i++)
		pthread_join(thread[i], NULL);
	if (!images && !exit_code) {
		vol_open(pool, "home", &vol, NULL);
		fs_tree_check(vol, 0);
		vol_close(vol);
	}
	if (images)
		vol_close(vol);
	fake_pool_destroy(pool);
	for (unsigned i = 0; i < n; i++)
		reactor_destroy(reactors[i]);
	return exit_code;
}
