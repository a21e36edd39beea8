/* Unit tests of base/reactor_uring.c: polled descriptors, file I/O, commands. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/co.h"
#include "base/err.h"
#include "base/reactor.h"
#include "tests/unit/run_here.h"

struct poller {
	struct reactor_poll *p;
	int fd[2];
	unsigned calls, bytes;
};

static void take_one_byte(int fd, uint32_t events, void *arg)
{
	struct poller *p = arg;
	char c;
	assert_true(events & POLLIN);
	assert_null(co_self());
	p->calls++;
	assert_int_equal(read(fd, &c, 1), 1); /* leaves it readable: must be called again */
	p->bytes++;
	if (c == 'q') {
		reactor_unpoll(p->p);
		stop_here();
	}
}

static void poll_pipe(void *arg)
{
	struct poller *p = arg;
	p->p = reactor_poll(reactor_current(), p->fd[0], POLLIN, take_one_byte, p);
	assert_non_null(p->p);
	co_sleep_ns(5 * MS);
	assert_int_equal(p->calls, 0);
	assert_int_equal(write(p->fd[1], "abc", 3), 3);
	co_sleep_ns(20 * MS);
	assert_int_equal(p->bytes, 3);
	assert_int_equal(write(p->fd[1], "q", 1), 1);
}

static void test_poll(void **state)
{
	(void)state;
	struct poller p = {0};
	assert_int_equal(pipe(p.fd), 0);
	run_here(poll_pipe, &p);
	assert_int_equal(p.calls, 4);
	close(p.fd[0]);
	close(p.fd[1]);
}

static void must_not_call(int fd, uint32_t events, void *arg)
{
	(void)fd;
	(void)events;
	(void)arg;
	fail();
}

static void note_events(int fd, uint32_t events, void *arg)
{
	(void)fd;
	unsigned *calls = arg;
	assert_true(events & POLLNVAL);
	++*calls;
}

/* More polls than the submission queue has room for, all ended while idle or ready. */
static void poll_many(void *arg)
{
	int *fd = arg;
	struct reactor *r = reactor_current();
	struct reactor_poll *p[100];
	unsigned calls = 0;
	for (unsigned i = 0; i < 100; i++)
		p[i] = reactor_poll(r, fd[0], POLLIN, must_not_call, NULL);
	co_sleep_ns(2 * MS);
	assert_int_equal(write(fd[1], "x", 1), 1);
	for (unsigned i = 0; i < 100; i++)
		reactor_unpoll(p[i]);
	struct reactor_poll *bad = reactor_poll(r, 1000000, POLLIN, note_events, &calls);
	co_sleep_ns(5 * MS);
	assert_int_equal(calls, 1);
	reactor_unpoll(bad);
	stop_here();
}

static void test_poll_many(void **state)
{
	(void)state;
	int fd[2];
	assert_int_equal(pipe(fd), 0);
	run_here(poll_many, fd);
	close(fd[0]);
	close(fd[1]);
}

struct io_job {
	struct reactor_io io;
	struct iovec iov;
	uint64_t value;
	unsigned *left;
	bool stop_at_end;
};

static void io_job_done(struct reactor_io *io)
{
	struct io_job *j = (struct io_job *)io;
	assert_int_equal(io->res, sizeof(j->value));
	if (--*j->left == 0 && j->stop_at_end)
		stop_here();
}

#define JOBS 1000u

struct io_test {
	int fd;
	bool stop_early;
	unsigned left;
	struct io_job jobs[JOBS];
};

/* Far more writes than the queue of 8 holds, submitted at once. */
static void submit_jobs(void *arg)
{
	struct io_test *t = arg;
	t->left = JOBS;
	for (unsigned i = 0; i < JOBS; i++) {
		struct io_job *j = &t->jobs[i];
		j->value = i;
		j->left = &t->left;
		j->stop_at_end = !t->stop_early;
		j->iov = (struct iovec){&j->value, sizeof(j->value)};
		j->io = (struct reactor_io){
			.fd = t->fd,
			.op = REACTOR_IO_WRITEV,
			.off = i * sizeof(j->value),
			.iov = &j->iov,
			.iovcnt = 1,
			.done = io_job_done,
		};
		reactor_io_submit(reactor_current(), &j->io);
	}
	assert_int_equal(t->left, JOBS); /* never done from within the submit */
	if (t->stop_early)
		stop_here(); /* the rest has to be waited for */
}

static void test_io_full_queue(void **state)
{
	(void)state;
	static struct io_test t;
	char path[] = "/tmp/tarn-base-XXXXXX";
	t.fd = mkstemp(path);
	assert_true(t.fd >= 0);
	unlink(path);
	for (unsigned round = 0; round < 2; round++) {
		t.stop_early = round == 1;
		assert_int_equal(ftruncate(t.fd, 0), 0);
		run_here(submit_jobs, &t);
		assert_int_equal(t.left, 0);
		for (unsigned i = 0; i < JOBS; i++) {
			uint64_t v;
			assert_int_equal(pread(t.fd, &v, sizeof(v), i * (off_t)sizeof(v)),
					 sizeof(v));
			assert_int_equal(v, i);
		}
	}
	close(t.fd);
}

/* A command goes to the driver, and what the driver says comes back; files take none. */
static void cmd_done(struct reactor_io *io)
{
	assert_true(io->res < 0);
	stop_here();
}

static void submit_cmd(void *arg)
{
	struct reactor_io *io = arg;
	reactor_io_submit(reactor_current(), io);
}

static void test_io_cmd(void **state)
{
	(void)state;
	struct reactor_cmd cmd = {.op = 1, .area = {1, 2, 3}};
	struct reactor_io io = {.op = REACTOR_IO_CMD, .cmd = &cmd, .done = cmd_done};
	struct reactor *r;
	assert_int_equal(reactor_uring_create(8, &r), 0);
	bool has = reactor_has_cmd(r);
	reactor_destroy(r);
	if (!has) {
		print_message("needs io_uring with 128-byte entries (Linux 5.19)\n");
		skip();
	}
	io.fd = eventfd(0, EFD_CLOEXEC);
	run_here(submit_cmd, &io);
	assert_int_equal(io.res, -EOPNOTSUPP);
	close(io.fd);
	io.fd = -1;
	run_here(submit_cmd, &io);
	assert_int_equal(io.res, -EBADF);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_poll),
		cmocka_unit_test(test_poll_many),
		cmocka_unit_test(test_io_full_queue),
		cmocka_unit_test(test_io_cmd),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
