/* memfile: one image in memory behind Tarn's own FUSE transport and nothing else: what the
 * transport alone can carry, to compare the engine with.
 *
 *   memfile dev|uring BYTES MOUNTPOINT [threads]
 *
 * Serves MOUNTPOINT/mem in the foreground until it is unmounted. The engine below fs/ is replaced
 * by the functions of pool/vol.h that an image needs; a tree cannot be served.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "base/reactor.h"
#include "fs/fuse_session.h"
#include "fs/mount.h"
#include "pool/vol.h"

#define THREADS_MAX 8

struct vol {
	uint64_t size;
	uint8_t *data;
};

static struct vol the_vol;
static int exit_code = 1;

/* ---- pool/vol.h, what an image uses ---- */

void vol_info_get(struct vol *v, struct vol_info *ret_i)
{
	*ret_i = (struct vol_info){
		.id = 1, .name = "mem", .type = VOL_TYPE_BLOCK, .size_bytes = v->size};
}

int vol_info_find(struct pool *p, const char *name, uint64_t id, struct vol_info *ret_i)
{
	(void)p;
	vol_info_get(&the_vol, ret_i);
	return name ? strcmp(name, ret_i->name) ? -ENOENT : 0 : id == ret_i->id ? 0 : -ENOENT;
}

unsigned vol_list(struct pool *p, struct vol_info *ret_i, unsigned max)
{
	(void)p;
	if (max)
		vol_info_get(&the_vol, ret_i);
	return 1;
}

int vol_open(struct pool *p, const char *name, struct vol **ret_v, struct err *e)
{
	(void)p, (void)name, (void)e;
	*ret_v = &the_vol;
	return 0;
}

void vol_close(struct vol *v)
{
	(void)v;
}

void vol_on_resize(struct vol *v, void (*cb)(void *arg, uint64_t size_bytes), void *arg)
{
	(void)v, (void)cb, (void)arg;
}

int vol_read(struct vol *v, uint64_t object, uint64_t off, uint64_t len, void *buf)
{
	(void)object;
	memcpy(buf, v->data + off, len);
	return 0;
}

int vol_write(struct vol *v, uint64_t object, uint64_t off, uint64_t len, const void *buf,
	      vol_fn *fn, void *arg)
{
	(void)object, (void)fn, (void)arg;
	memcpy(v->data + off, buf, len);
	return 0;
}

int vol_sync(struct vol *v)
{
	(void)v;
	return 0;
}

int vol_object_bytes(struct vol *v, uint64_t object, uint64_t *ret_bytes, uint64_t *ret_extents)
{
	*ret_extents = 0;
	(void)object;
	*ret_bytes = v->size;
	return 0;
}

/* ---- and what is linked but not called for an image, or refused ---- */

int vol_punch(struct vol *v, uint64_t object, uint64_t off, uint64_t len, vol_fn *fn, void *arg)
{
	(void)v, (void)object, (void)off, (void)len, (void)fn, (void)arg;
	return -EOPNOTSUPP;
}

int vol_reserve(struct vol *v, uint64_t object, uint64_t off, uint64_t len, vol_fn *fn, void *arg)
{
	return vol_punch(v, object, off, len, fn, arg);
}

int vol_clone_range(struct vol *src, uint64_t src_object, uint64_t src_off, struct vol *dst,
		    uint64_t dst_object, uint64_t dst_off, uint64_t len, vol_fn *fn, void *arg,
		    uint64_t *ret_done)
{
	(void)src, (void)src_object, (void)src_off;
	*ret_done = 0;
	return vol_punch(dst, dst_object, dst_off, len, fn, arg);
}

int vol_seek_data(struct vol *v, uint64_t object, uint64_t off, uint64_t *ret_off)
{
	(void)v, (void)object;
	*ret_off = off;
	return 0;
}

int vol_seek_hole(struct vol *v, uint64_t object, uint64_t off, uint64_t *ret_off)
{
	(void)object, (void)off;
	*ret_off = v->size;
	return 0;
}

int vol_query(struct vol *v, vol_fn *fn, void *arg)
{
	(void)v, (void)fn, (void)arg;
	return -EOPNOTSUPP;
}

int vol_change(struct vol *v, bool never_full, vol_fn *fn, void *arg)
{
	(void)never_full;
	return vol_query(v, fn, arg);
}

int vol_get(struct vol *v, struct key k, struct btree_item *ret)
{
	(void)v, (void)k, (void)ret;
	return -EOPNOTSUPP;
}

int vol_seek_ge(struct vol *v, struct key k, struct btree_item *ret)
{
	return vol_get(v, k, ret);
}

int vol_seek_le(struct vol *v, struct key k, struct btree_item *ret)
{
	return vol_get(v, k, ret);
}

int vol_prepare(struct vol *v, struct key k)
{
	return vol_get(v, k, NULL);
}

int vol_put(struct vol *v, struct key k, const void *value, uint16_t len)
{
	(void)value, (void)len;
	return vol_get(v, k, NULL);
}

int vol_del(struct vol *v, struct key k)
{
	return vol_get(v, k, NULL);
}

uint64_t vol_new_object(struct vol *v)
{
	(void)v;
	return 0;
}

uint64_t vol_wall_ns(struct vol *v)
{
	(void)v;
	return reactor_wall_ns();
}

/* ---- the server ---- */

static void ended(struct serve *s, enum serve_end why, int code, void *arg)
{
	(void)s, (void)code, (void)arg;
	exit_code = why == SERVE_END_FAILED;
	kill(getpid(), SIGTERM);
}

static void start(void *arg)
{
	struct serve *s;
	struct err e = {0};

	if (serve_images_start(NULL, arg, &s, &e)) {
		fprintf(stderr, "memfile: %s\n", e.text);
		exit(1);
	}
}

static void *thread_main(void *arg)
{
	reactor_run(arg);
	return NULL;
}

static int mount_at(const char *mountpoint)
{
	struct mount_options mo;
	struct err e = {0};
	int fd;

	if (mount_options_parse("allow_other", &mo, &e) ||
	    mount_fuse(mountpoint, &mo, true, "memfile", &fd, &e)) {
		fprintf(stderr, "memfile: %s\n", e.text);
		exit(1);
	}
	return fd;
}

static void serve_until_signal(struct serve_options *o, struct reactor **reactors)
{
	pthread_t thread[THREADS_MAX];
	sigset_t set;
	int sig;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	co_spawn(reactors[0], start, o);
	for (unsigned i = 0; i < o->reactor_count; i++)
		pthread_create(&thread[i], NULL, thread_main, reactors[i]);
	sigwait(&set, &sig);
	mount_umount(o->mountpoint, true, NULL);
	for (unsigned i = 0; i < o->reactor_count; i++) {
		reactor_stop(reactors[i]);
		pthread_join(thread[i], NULL);
		reactor_destroy(reactors[i]);
	}
}

int main(int argc, char **argv)
{
	unsigned n = argc > 4 ? (unsigned)atoi(argv[4]) : (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
	struct reactor *reactors[THREADS_MAX];
	struct serve_options o = {.source = "memfile", .reactors = reactors, .ended = ended};

	if (argc < 4 || n < 1 || (strcmp(argv[1], "dev") && strcmp(argv[1], "uring"))) {
		fprintf(stderr, "usage: memfile dev|uring BYTES MOUNTPOINT [threads]\n");
		return 2;
	}
	n = n > THREADS_MAX ? THREADS_MAX : n;
	the_vol.size = strtoull(argv[2], NULL, 0);
	the_vol.data = mmap(NULL, the_vol.size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (the_vol.data == MAP_FAILED) {
		perror("memfile: memory");
		return 1;
	}
	for (unsigned i = 0; i < n; i++)
		if (reactor_uring_create(256, &reactors[i])) {
			fprintf(stderr, "memfile: no io_uring\n");
			return 1;
		}
	o.fd = mount_at(argv[3]);
	o.mountpoint = argv[3];
	o.reactor_count = n;
	o.transport = !strcmp(argv[1], "uring") ? SERVE_URING : SERVE_DEV;
	serve_until_signal(&o, reactors);
	return exit_code;
}
