/* Unit tests of base/: err, le, crc, coroutines, timers, wait queues. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/co.h"
#include "base/crc.h"
#include "base/err.h"
#include "base/le.h"
#include "base/reactor.h"
#include "tests/unit/run_here.h"

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#endif

/* ---- helpers: reactors in threads ---- */

struct thread {
	struct reactor *r;
	pthread_t id;
};

static void *thread_main(void *arg)
{
	struct thread *t = arg;
	reactor_run(t->r);
	return NULL;
}

/* valgrind 3.19 lets no other thread run while one waits in io_uring_enter. */
static void skip_under_valgrind(void)
{
	if (RUNNING_ON_VALGRIND) {
		print_message("needs to run without valgrind\n");
		skip();
	}
}

static void thread_start(struct thread *t)
{
	assert_int_equal(reactor_uring_create(64, &t->r), 0);
	assert_int_equal(pthread_create(&t->id, NULL, thread_main, t), 0);
}

static void thread_stop(struct thread *t)
{
	reactor_stop(t->r);
	pthread_join(t->id, NULL);
	reactor_destroy(t->r);
}

/* true when fn(arg) ends in abort() (a failed assertion) */
static bool aborts(void (*fn)(void))
{
	fflush(NULL);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		struct rlimit none = {0, 0};
		setrlimit(RLIMIT_CORE, &none);
		signal(SIGABRT, SIG_DFL);
		int null = open("/dev/null", O_WRONLY);
		dup2(null, STDERR_FILENO);
		fn();
		_exit(0);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

/* ---- err, le, crc ---- */

static void test_err(void **state)
{
	(void)state;
	struct err e = {0};
	assert_int_equal(err_wrap(&e, "nothing"), 0);
	assert_int_equal(err_set(&e, ERR_CSUM, "%s", err_str(ERR_CSUM)), ERR_CSUM);
	assert_int_equal(err_wrap(&e, "read superblock of %s", "/dev/sdb"), ERR_CSUM);
	assert_int_equal(err_wrap(&e, "import pool %s", "tank"), ERR_CSUM);
	assert_string_equal(e.text,
			    "import pool tank: read superblock of /dev/sdb: checksum mismatch");
	assert_int_equal(err_set(NULL, -ENOENT, "x"), -ENOENT);
	assert_int_equal(err_wrap(NULL, "x"), 0);
}

static void test_err_long(void **state)
{
	(void)state;
	struct err e = {0};
	char big[2048];
	memset(big, 'a', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	err_set(&e, -EIO, "inner");
	assert_int_equal(err_wrap(&e, "%.1000s", big), -EIO);
	assert_string_equal(e.text + 1000, ": inner");
	for (int i = 0; i < 3; i++)
		assert_int_equal(err_wrap(&e, "%s", big), -EIO);
	assert_int_equal(strlen(e.text), sizeof(e.text) - 1);
}

static void test_err_codes(void **state)
{
	(void)state;
	for (int code = ERR_BASE + 1; code < ERR_LAST; code++) {
		assert_string_not_equal(err_str(code), "unknown error");
		assert_in_range(err_errno(code), 1, 4095);
	}
	assert_string_equal(err_str(-ENOENT), "No such file or directory");
	assert_string_equal(err_str(-99999), "unknown error");
	assert_int_equal(err_errno(-ENOSPC), ENOSPC);
	assert_int_equal(err_errno(ERR_IN_USE), EBUSY);
	assert_int_equal(err_errno(0), 0);
	assert_int_equal(err_errno(-99999), EIO);
}

static void test_le(void **state)
{
	(void)state;
	le64 v = le64_of(0x0102030405060708);
	assert_int_equal(v.b[0], 8);
	assert_int_equal(v.b[7], 1);
	assert_int_equal(le64_get(v), 0x0102030405060708);
	assert_int_equal(le32_get(le32_of(0xdeadbeef)), 0xdeadbeef);
	assert_int_equal(le16_get(le16_of(0xbeef)), 0xbeef);
}

static void test_crc(void **state)
{
	(void)state;
	char zeroes[32] = {0};
	assert_int_equal(crc32c(0, "123456789", 9), 0xE3069283);
	assert_int_equal(crc32c(0, zeroes, 32), 0x8A9136AA); /* RFC 3720 B.4 */
	assert_int_equal(crc32c(crc32c(0, "1234", 4), "56789", 5), 0xE3069283);
	assert_int_equal(crc32c(0x1234, "", 0), 0x1234);
}

/* ---- coroutines on one reactor ---- */

static void self_waker(void *arg)
{
	unsigned *count = arg;
	for (unsigned i = 0; i < 300000; i++) {
		co_wake(co_self()); /* a wake before the yield is kept */
		co_yield ();
		(*count)++;
	}
	stop_here();
}

static void test_yield(void **state)
{
	(void)state;
	unsigned count = 0;
	assert_null(co_self());
	run_here(self_waker, &count);
	assert_int_equal(count, 300000);
	assert_null(co_self());
	assert_null(reactor_current());
}

static void count_down(void *arg)
{
	if (--*(unsigned *)arg == 0)
		stop_here();
}

static void spawn_many(void *arg)
{
	unsigned *left = arg;
	for (unsigned i = *left; i; i--)
		assert_int_equal(co_spawn(reactor_current(), count_down, left), 0);
}

static void test_spawn_many(void **state)
{
	(void)state;
	unsigned left = 5000; /* more than any pool of stacks keeps */
	run_here(spawn_many, &left);
	assert_int_equal(left, 0);
}

struct order {
	char text[16];
	unsigned len;
};

struct sleeper {
	struct order *order;
	uint64_t ns;
	char name;
	bool last;
};

static void sleep_then_note(void *arg)
{
	struct sleeper *s = arg;
	uint64_t start_ns = reactor_now_ns();
	co_sleep_ns(s->ns);
	assert_true(reactor_now_ns() - start_ns >= s->ns);
	s->order->text[s->order->len++] = s->name;
	if (s->last)
		stop_here();
}

static void spawn_sleepers(void *arg)
{
	static const uint64_t ms[] = {30, 0, 10, 40, 20, 5};
	static struct sleeper sleepers[6];
	for (unsigned i = 0; i < 6; i++) {
		sleepers[i] = (struct sleeper){arg, ms[i] * MS, (char)('a' + i), ms[i] == 40};
		assert_int_equal(co_spawn(reactor_current(), sleep_then_note, &sleepers[i]), 0);
	}
}

static void test_sleep(void **state)
{
	(void)state;
	struct order order = {{0}, 0};
	run_here(spawn_sleepers, &order);
	assert_string_equal(order.text, "bfcead");
}

struct many_sleepers {
	unsigned left;
	unsigned seed;
	uint64_t latest_ns;
};

static void sleep_random(void *arg)
{
	struct many_sleepers *m = arg;
	for (unsigned i = 0; i < 20; i++) {
		uint64_t ns = (uint64_t)(rand_r(&m->seed) % 1000) * 1000;
		uint64_t due_ns = reactor_now_ns() + ns;
		co_sleep_ns(ns);
		assert_true(reactor_now_ns() >= due_ns);
	}
	if (--m->left == 0)
		stop_here();
}

static void spawn_random_sleepers(void *arg)
{
	struct many_sleepers *m = arg;
	for (unsigned i = m->left; i; i--)
		assert_int_equal(co_spawn(reactor_current(), sleep_random, m), 0);
}

static void test_sleep_many(void **state)
{
	(void)state;
	struct many_sleepers m = {.left = 500, .seed = 1};
	run_here(spawn_random_sleepers, &m);
	assert_int_equal(m.left, 0);
}

static void sleep_200ms(void *arg)
{
	(void)arg;
	co_sleep_ns(200 * MS);
	stop_here();
}

/* An idle reactor sleeps in the kernel: hardly any processor time passes. */
static void test_idle(void **state)
{
	(void)state;
	struct timespec a, b;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
	run_here(sleep_200ms, NULL);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
	int64_t ns = (b.tv_sec - a.tv_sec) * 1000000000 + (b.tv_nsec - a.tv_nsec);
	assert_true(ns < 100 * (int64_t)MS);
}

/* ---- across threads ---- */

struct table {
	struct lock lock;
	struct waitq q[2];
	unsigned turn;
	unsigned rounds;
};

struct player {
	struct table *t;
	unsigned me;
};

static void ping_pong(void *arg)
{
	struct player *p = arg;
	struct table *t = p->t;
	for (unsigned i = 0; i < t->rounds; i++) {
		lock_take(&t->lock);
		while (t->turn != p->me)
			waitq_wait(&t->q[p->me], &t->lock);
		t->turn = !p->me;
		waitq_wake_one(&t->q[!p->me]);
		lock_drop(&t->lock);
	}
	stop_here();
}

static void test_ping_pong(void **state)
{
	(void)state;
	skip_under_valgrind();
	struct table t = {.rounds = 100000};
	struct player p[2] = {{&t, 0}, {&t, 1}};
	struct thread th[2];
	lock_init(&t.lock);
	for (unsigned i = 0; i < 2; i++)
		thread_start(&th[i]);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(co_spawn(th[i].r, ping_pong, &p[i]), 0);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(th[i].id, NULL);
	assert_int_equal(t.turn, 0);
	assert_true(waitq_empty(&t.q[0]) && waitq_empty(&t.q[1]));
	for (unsigned i = 0; i < 2; i++)
		reactor_destroy(th[i].r);
	lock_fini(&t.lock);
}

struct crowd {
	struct lock lock;
	struct waitq q;
	unsigned waiting, generation, left;
	struct reactor *stop[2];
};

#define CROWD 64u

/* A barrier for CROWD coroutines on two threads, passed many times. */
static void barrier_member(void *arg)
{
	struct crowd *c = arg;
	pthread_t home = pthread_self();
	for (unsigned i = 0; i < 2000; i++) {
		lock_take(&c->lock);
		unsigned generation = c->generation;
		if (++c->waiting == CROWD) {
			c->waiting = 0;
			c->generation++;
			waitq_wake_all(&c->q);
		}
		while (generation == c->generation)
			waitq_wait(&c->q, &c->lock);
		lock_drop(&c->lock);
		assert_true(pthread_equal(home, pthread_self()));
	}
	lock_take(&c->lock);
	bool last = --c->left == 0;
	lock_drop(&c->lock);
	if (!last)
		return;
	reactor_stop(c->stop[0]);
	reactor_stop(c->stop[1]);
}

static void test_barrier(void **state)
{
	(void)state;
	skip_under_valgrind();
	struct crowd c = {.left = CROWD};
	struct thread th[2];
	lock_init(&c.lock);
	for (unsigned i = 0; i < 2; i++) {
		thread_start(&th[i]);
		c.stop[i] = th[i].r;
	}
	for (unsigned i = 0; i < CROWD; i++)
		assert_int_equal(co_spawn(th[i % 2].r, barrier_member, &c), 0);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(th[i].id, NULL);
	assert_int_equal(c.left, 0);
	for (unsigned i = 0; i < 2; i++)
		reactor_destroy(th[i].r);
	lock_fini(&c.lock);
}

static void test_stop_before_run(void **state)
{
	(void)state;
	struct reactor *r;
	assert_int_equal(reactor_uring_create(8, &r), 0);
	reactor_stop(r);
	reactor_run(r);
	reactor_stop(r); /* and once more on the same thread */
	reactor_run(r);
	reactor_destroy(r);
	reactor_destroy(NULL);
}

static void test_stop_idle(void **state)
{
	(void)state;
	skip_under_valgrind();
	struct thread t;
	thread_start(&t);
	usleep(20000); /* let it fall asleep: the stop has to wake it */
	thread_stop(&t);
}

/* ---- misuse ---- */

static void yield_with_lock(void *arg)
{
	(void)arg;
	struct lock l;
	lock_init(&l);
	lock_take(&l);
	co_yield ();
}

static void do_yield_with_lock(void)
{
	run_here(yield_with_lock, NULL);
}

static void wake_twice(void *arg)
{
	(void)arg;
	co_wake(co_self());
	co_wake(co_self());
}

static void do_wake_twice(void)
{
	run_here(wake_twice, NULL);
}

static void wake_without_yield(void *arg)
{
	(void)arg;
	co_wake(co_self());
}

static void do_wake_without_yield(void)
{
	run_here(wake_without_yield, NULL);
}

static void test_misuse(void **state)
{
	(void)state;
	assert_true(aborts(do_yield_with_lock));
	assert_true(aborts(do_wake_twice));
	assert_true(aborts(do_wake_without_yield));
}

/* ---- abandon: a reactor as a simulator makes one, driven by hand ---- */

struct hand_reactor {
	struct reactor base;
	unsigned notified;
};

static uint64_t hand_now(struct reactor *r)
{
	(void)r;
	return 7;
}
static void hand_timer(struct reactor *r, struct co *c, uint64_t at_ns)
{
	(void)r;
	(void)c;
	(void)at_ns;
}
static void hand_notify(struct reactor *r)
{
	((struct hand_reactor *)r)->notified++;
}
static void hand_destroy(struct reactor *r)
{
	reactor_fini(r);
}

static const struct reactor_ops hand_ops = {
	.now_ns = hand_now,
	.wall_ns = hand_now,
	.timer = hand_timer,
	.notify = hand_notify,
	.destroy = hand_destroy,
};

static void sleep_forever(void *arg)
{
	char frame[512];
	memset(frame, 0x5a, sizeof(frame));
	++*(unsigned *)arg;
	co_sleep_ns(UINT64_MAX);
	fail();
}

static void test_abandon(void **state)
{
	(void)state;
	struct hand_reactor h = {0};
	unsigned begun = 0;
	reactor_init(&h.base, &hand_ops);
	for (unsigned round = 0; round < 50; round++) {
		reactor_enter(&h.base);
		for (unsigned i = 0; i < 20; i++)
			assert_int_equal(co_run(sleep_forever, &begun), 0);
		assert_int_equal(co_spawn(&h.base, sleep_forever, &begun), 0);
		assert_true(reactor_run_ready(&h.base));
		assert_false(reactor_run_ready(&h.base));
		assert_int_equal(co_spawn(&h.base, sleep_forever, &begun), 0); /* never begins */
		reactor_leave();
		assert_int_equal(co_spawn(&h.base, sleep_forever, &begun), 0); /* nor this one */
		co_abandon_all(&h.base);
		assert_null(h.base.all);
		reactor_enter(&h.base);
		assert_int_equal(reactor_ready_count(&h.base), 0);
		reactor_leave();
	}
	assert_int_equal(begun, 50 * 21);
	assert_int_equal(h.notified, 50);
	reactor_destroy(&h.base);
}

struct note {
	struct order *order;
	char name;
};

static void note_twice(void *arg)
{
	struct note *n = arg;
	n->order->text[n->order->len++] = n->name;
	co_wake(co_self());
	co_yield ();
	n->order->text[n->order->len++] = (char)(n->name - 'a' + 'A');
}

static void test_rotate(void **state)
{
	(void)state;
	struct hand_reactor h = {0};
	struct order order = {{0}, 0};
	struct note notes[3] = {{&order, 'a'}, {&order, 'b'}, {&order, 'c'}};
	reactor_init(&h.base, &hand_ops);
	reactor_enter(&h.base);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(co_spawn(&h.base, note_twice, &notes[i]), 0);
	assert_int_equal(reactor_ready_count(&h.base), 3);
	reactor_rotate_ready(&h.base, 1);
	assert_true(reactor_run_one(&h.base));
	reactor_rotate_ready(&h.base, 2);
	while (reactor_run_one(&h.base))
		;
	assert_string_equal(order.text, "bBcaCA");
	reactor_leave();
	reactor_destroy(&h.base);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_err),
		cmocka_unit_test(test_err_long),
		cmocka_unit_test(test_err_codes),
		cmocka_unit_test(test_le),
		cmocka_unit_test(test_crc),
		cmocka_unit_test(test_misuse), /* forks: before any thread exists */
		cmocka_unit_test(test_yield),
		cmocka_unit_test(test_spawn_many),
		cmocka_unit_test(test_sleep),
		cmocka_unit_test(test_sleep_many),
		cmocka_unit_test(test_idle),
		cmocka_unit_test(test_ping_pong),
		cmocka_unit_test(test_barrier),
		cmocka_unit_test(test_stop_before_run),
		cmocka_unit_test(test_stop_idle),
		cmocka_unit_test(test_abandon),
		cmocka_unit_test(test_rotate),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
