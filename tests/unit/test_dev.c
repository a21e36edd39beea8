/* Unit tests of pool/dev_file.c and dev_probe.c on files in a temporary directory. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "pool/dev.h"

#define FILE_BYTES (8u << 20)

struct env {
	char dir[64];
	char path[128];
};

static int setup_in(void **state, const char *template)
{
	static struct env env;
	snprintf(env.dir, sizeof(env.dir), "%s", template);
	if (!mkdtemp(env.dir))
		return -1;
	snprintf(env.path, sizeof(env.path), "%s/disk", env.dir);
	*state = &env;
	return 0;
}

static int setup(void **state)
{
	return setup_in(state, "/tmp/tarn-dev-XXXXXX");
}

static int setup_shm(void **state)
{
	return setup_in(state, "/dev/shm/tarn-dev-XXXXXX");
}

static int teardown(void **state)
{
	struct env *env = *state;
	unlink(env->path);
	return rmdir(env->dir);
}

static void make_file(const struct env *env, uint64_t bytes)
{
	struct err e = {0};
	assert_int_equal(dev_file_make_sparse(env->path, bytes, &e), 0);
}

static struct dev_backend *open_file(const struct env *env, unsigned flags)
{
	struct dev_backend *b;
	struct err e = {0};
	assert_int_equal(dev_file_open(env->path, flags, &b, &e), 0);
	return b;
}

static void put_bytes(const char *path, off_t off, const void *buf, size_t len)
{
	int fd = open(path, O_WRONLY);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, buf, len, off), len);
	close(fd);
}

static char *alloc_blocks(unsigned count, char fill)
{
	void *p = NULL;
	assert_int_equal(posix_memalign(&p, DEV_BLOCK, (size_t)count * DEV_BLOCK), 0);
	memset(p, fill, (size_t)count * DEV_BLOCK);
	return p;
}

struct run {
	void (*fn)(struct dev_backend *b);
	struct dev_backend *b;
};

static void run_co(void *arg)
{
	struct run *run = arg;
	run->fn(run->b);
	reactor_stop(reactor_current());
}

/* Run fn(b) in a coroutine on a small real reactor. */
static void run_on_reactor(void (*fn)(struct dev_backend *b), struct dev_backend *b)
{
	struct reactor *r;
	struct run run = {fn, b};
	assert_int_equal(reactor_uring_create(16, &r), 0);
	assert_int_equal(co_spawn(r, run_co, &run), 0);
	reactor_run(r);
	reactor_destroy(r);
}

/* ---- I/O ---- */

static void write_and_read(struct dev_backend *b)
{
	char *out = alloc_blocks(4, 'x'), *in = alloc_blocks(4, 0);
	assert_int_equal(dev_write(b, DEV_BLOCK, out, 4 * DEV_BLOCK, 0), 0);
	assert_int_equal(dev_flush(b), 0);
	assert_int_equal(dev_read(b, DEV_BLOCK, in, 4 * DEV_BLOCK), 0);
	assert_memory_equal(in, out, 4 * DEV_BLOCK);
	memset(out, 'y', DEV_BLOCK);
	assert_int_equal(dev_write(b, b->size_bytes - DEV_BLOCK, out, DEV_BLOCK, DEV_IO_FUA), 0);
	assert_int_equal(dev_read(b, b->size_bytes - DEV_BLOCK, in, DEV_BLOCK), 0);
	assert_memory_equal(in, out, DEV_BLOCK);
	assert_int_equal(dev_read(b, 0, in, DEV_BLOCK), 0); /* never written */
	for (unsigned i = 0; i < DEV_BLOCK; i++)
		assert_int_equal(in[i], 0);
	free(in);
	free(out);
}

static void test_io(void **state)
{
	struct env *env = *state;
	make_file(env, FILE_BYTES);
	struct dev_backend *b = open_file(env, 0);
	assert_int_equal(b->size_bytes, FILE_BYTES);
	assert_false(b->is_block);
	assert_string_equal(b->path, env->path);
	run_on_reactor(write_and_read, b);
	dev_close(b);
}

static void discard_all(struct dev_backend *b)
{
	char *buf = alloc_blocks(256, 'z');
	assert_int_equal(dev_write(b, 0, buf, 256 * DEV_BLOCK, 0), 0);
	assert_int_equal(dev_flush(b), 0);
	assert_int_equal(dev_discard(b, 0, 255 * DEV_BLOCK), 0);
	assert_int_equal(dev_read(b, 0, buf, 256 * DEV_BLOCK), 0);
	assert_int_equal(buf[0], 0); /* a punched file reads as zeroes */
	assert_int_equal(buf[255 * DEV_BLOCK - 1], 0);
	assert_int_equal(buf[255 * DEV_BLOCK], 'z');
	assert_int_equal(dev_discard(b, 0, 0), -EINVAL);
	free(buf);
}

static void test_discard(void **state)
{
	struct env *env = *state;
	struct stat st;
	make_file(env, FILE_BYTES);
	struct dev_backend *b = open_file(env, 0);
	run_on_reactor(discard_all, b);
	dev_close(b);
	assert_int_equal(stat(env->path, &st), 0);
	assert_int_equal(st.st_size, FILE_BYTES);
	assert_true(st.st_blocks * 512 < 64 << 10); /* space went back */
}

static void wake_arg(struct dev_io *io)
{
	co_wake(io->arg);
}

/* The file is shorter than the pool believes: what is there is read, then -EIO. */
static void read_past_end(struct dev_backend *b)
{
	char *buf = alloc_blocks(4, 0);
	struct iovec iov[3] = {{buf, DEV_BLOCK},
			       {buf + DEV_BLOCK, 2 * DEV_BLOCK},
			       {buf + 3 * DEV_BLOCK, DEV_BLOCK}};
	struct iovec saved[3];
	memcpy(saved, iov, sizeof(iov));
	assert_int_equal(truncate(b->path, 2 * DEV_BLOCK), 0);
	put_bytes(b->path, 0, "A", 1);
	put_bytes(b->path, DEV_BLOCK, "B", 1);
	struct dev_io io = {
		.op = DEV_READ,
		.len_bytes = 4 * DEV_BLOCK,
		.iov = iov,
		.iovcnt = 3,
		.done = wake_arg,
		.arg = co_self(),
	};
	b->ops->submit(b, &io);
	co_yield ();
	assert_int_equal(io.res, -EIO);
	assert_int_equal(buf[0], 'A');
	assert_int_equal(buf[DEV_BLOCK], 'B');
	assert_memory_equal(saved, iov, sizeof(iov)); /* still as the submitter made it */
	free(buf);
}

static void test_short(void **state)
{
	struct env *env = *state;
	make_file(env, FILE_BYTES);
	struct dev_backend *b = open_file(env, 0);
	run_on_reactor(read_past_end, b);
	dev_close(b);
}

struct many {
	struct dev_io io;
	struct iovec iov[2];
	char *buf;
	unsigned *left;
	struct co *waiter;
};

static void many_done(struct dev_io *io)
{
	struct many *m = io->arg;
	assert_int_equal(io->res, 0);
	if (--*m->left == 0)
		co_wake(m->waiter);
}

#define MANY 200u

static void many_submit(struct dev_backend *b, struct many *m, enum dev_op op, unsigned i)
{
	m->iov[0] = (struct iovec){m->buf, DEV_BLOCK};
	m->iov[1] = (struct iovec){m->buf + DEV_BLOCK, DEV_BLOCK};
	m->io = (struct dev_io){
		.op = op,
		.off_bytes = (uint64_t)i * 2 * DEV_BLOCK,
		.len_bytes = 2 * DEV_BLOCK,
		.iov = m->iov,
		.iovcnt = 2,
		.done = many_done,
		.arg = m,
	};
	m->waiter = co_self();
	b->ops->submit(b, &m->io);
}

/* More I/O at once than the submission queue holds. */
static void many_at_once(struct dev_backend *b)
{
	static struct many many[MANY];
	unsigned left = MANY;
	for (unsigned i = 0; i < MANY; i++) {
		many[i].buf = alloc_blocks(2, (char)('a' + i % 26));
		many[i].left = &left;
		many_submit(b, &many[i], DEV_WRITE, i);
	}
	co_yield ();
	left = MANY;
	for (unsigned i = 0; i < MANY; i++) {
		memset(many[i].buf, 0, 2 * DEV_BLOCK);
		many_submit(b, &many[i], DEV_READ, i);
	}
	co_yield ();
	for (unsigned i = 0; i < MANY; i++) {
		assert_int_equal(many[i].buf[0], 'a' + i % 26);
		assert_int_equal(many[i].buf[2 * DEV_BLOCK - 1], 'a' + i % 26);
		free(many[i].buf);
	}
}

static void test_many(void **state)
{
	struct env *env = *state;
	make_file(env, FILE_BYTES);
	struct dev_backend *b = open_file(env, 0);
	run_on_reactor(many_at_once, b);
	dev_close(b);
}

static void write_refused(struct dev_backend *b)
{
	char *buf = alloc_blocks(1, 'w');
	assert_int_equal(dev_write(b, 0, buf, DEV_BLOCK, 0), -EBADF);
	assert_int_equal(dev_read(b, 0, buf, DEV_BLOCK), 0);
	assert_int_equal(buf[0], 0);
	free(buf);
}

static void test_readonly(void **state)
{
	struct env *env = *state;
	make_file(env, FILE_BYTES);
	struct dev_backend *b = open_file(env, DEV_OPEN_RDONLY);
	run_on_reactor(write_refused, b);
	dev_close(b);
}

/* ---- open ---- */

static void test_double_open(void **state)
{
	struct env *env = *state;
	struct dev_backend *b2 = NULL;
	struct err e = {0};
	char want[256];
	make_file(env, FILE_BYTES);
	struct dev_backend *b = open_file(env, 0);
	assert_int_equal(dev_file_open(env->path, 0, &b2, &e), ERR_IN_USE);
	snprintf(want, sizeof(want), "open %s: in use by another program", env->path);
	assert_string_equal(e.text, want);
	assert_int_equal(dev_file_open(env->path, DEV_OPEN_RDONLY, &b2, NULL), ERR_IN_USE);
	dev_close(open_file(env, DEV_OPEN_FORCE | DEV_OPEN_RDONLY));
	assert_null(b2);
	dev_close(b);
	dev_close(open_file(env, 0)); /* free again */
}

static void test_open_errors(void **state)
{
	struct env *env = *state;
	struct dev_backend *b = NULL;
	struct err e = {0};
	char long_path[5000];
	assert_int_equal(dev_file_open(env->path, 0, &b, &e), -ENOENT);
	assert_non_null(strstr(e.text, "No such file"));
	assert_int_equal(dev_file_open(env->dir, 0, &b, &e), -ENOTBLK);
	assert_int_equal(dev_file_open("/dev/null", 0, &b, &e), -ENOTBLK);
	memset(long_path, 'a', sizeof(long_path) - 1);
	long_path[sizeof(long_path) - 1] = '\0';
	assert_int_equal(dev_file_open(long_path, 0, &b, &e), -ENAMETOOLONG);
	assert_null(b);
	dev_close(NULL);
}

static void test_make_sparse(void **state)
{
	struct env *env = *state;
	struct err e = {0};
	struct stat st;
	make_file(env, 10 * DEV_BLOCK + 1);
	make_file(env, 99); /* exists: any size will do, and it is left alone */
	assert_int_equal(stat(env->path, &st), 0);
	assert_int_equal(st.st_size, 10 * DEV_BLOCK + 1);
	assert_int_equal(st.st_blocks, 0);
	struct dev_backend *b = open_file(env, 0);
	assert_int_equal(b->size_bytes, 10 * DEV_BLOCK); /* whole blocks only */
	dev_close(b);
	assert_int_equal(dev_file_make_sparse(env->dir, 99, &e), -EEXIST);
	assert_int_equal(dev_file_make_sparse("/nonexistent/x", 99, &e), -ENOENT);
	unlink(env->path);
	assert_int_equal(dev_file_make_sparse(env->path, UINT64_MAX, &e), -EFBIG);
	assert_int_equal(stat(env->path, &st), -1);
}

/* ---- probe ---- */

static void assert_foreign(const struct env *env, const char *want)
{
	char what[128];
	struct err e = {0};
	assert_int_equal(dev_probe_foreign(env->path, what, sizeof(what), &e), ERR_FOREIGN);
	assert_string_equal(what, want);
	assert_non_null(strstr(e.text, want));
}

static void test_probe_blank(void **state)
{
	struct env *env = *state;
	char what[128] = "x";
	struct err e = {0};
	make_file(env, 0);
	assert_int_equal(dev_probe_foreign(env->path, what, sizeof(what), &e), 0);
	assert_string_equal(what, "");
	assert_int_equal(truncate(env->path, FILE_BYTES), 0);
	assert_int_equal(dev_probe_foreign(env->path, what, sizeof(what), &e), 0);
	assert_string_equal(what, "");
	assert_int_equal(dev_probe_foreign(env->dir, what, sizeof(what), &e), -ENOTBLK);
	unlink(env->path);
	assert_int_equal(dev_probe_foreign(env->path, what, sizeof(what), &e), -ENOENT);
}

static bool make_ext4(const char *path)
{
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		execlp("mke2fs", "mke2fs", "-q", "-F", "-t", "ext4", "-L", "home", path,
		       (char *)NULL);
		execl("/sbin/mke2fs", "mke2fs", "-q", "-F", "-t", "ext4", "-L", "home", path,
		      (char *)NULL);
		_exit(127);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void test_probe_ext4(void **state)
{
	struct env *env = *state;
	make_file(env, FILE_BYTES);
	if (!make_ext4(env->path))
		skip();
	assert_foreign(env, "ext4 file system (label home)");
}

static void test_probe_partitions(void **state)
{
	struct env *env = *state;
	/* one Linux partition, sectors 2048..10239 */
	static const unsigned char entry[16] = {0, 0, 2, 0, 0x83, 0,	2, 0,
						0, 8, 0, 0, 0,	  0x20, 0, 0};
	make_file(env, FILE_BYTES);
	put_bytes(env->path, 446, entry, sizeof(entry));
	put_bytes(env->path, 510, "\x55\xaa", 2);
	assert_foreign(env, "dos partition table");
}

static void test_probe_tarn(void **state)
{
	struct env *env = *state;
	make_file(env, FILE_BYTES);
	put_bytes(env->path, 0, "TARNSB1", 8);
	assert_foreign(env, "member of a Tarn pool");
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
#define T_SHM(fn)                                              \
	{                                                      \
#fn " on tmpfs", fn, setup_shm, teardown, NULL \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_io),	     T_SHM(test_io),	  T(test_discard),
		T_SHM(test_discard), T(test_short),	  T_SHM(test_short),
		T(test_many),	     T_SHM(test_many),	  T(test_readonly),
		T(test_double_open), T(test_open_errors), T(test_make_sparse),
		T(test_probe_blank), T(test_probe_ext4),  T(test_probe_partitions),
		T(test_probe_tarn),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
