/* Device classes and hot spares on small pools in files: placement, policies, who takes over, and
 * what becomes of a device that returns before and after. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "pool/pool.h"
#include "pool/vol.h"

#define DEVS	  6
#define DEV_BYTES (48ull << 20)
#define MIB	  (1u << 20)

static char dir[64];
static struct reactor *reactor;
static uint8_t *buf, *want;

static struct dev_backend *open_dev(unsigned i)
{
	struct dev_backend *b;
	struct err e = {0};
	char path[96];

	snprintf(path, sizeof path, "%s/d%u", dir, i);
	if (dev_file_make_sparse(path, DEV_BYTES, &e) || dev_file_open(path, 0, &b, &e)) {
		fprintf(stderr, "%s\n", e.text);
		abort();
	}
	return b;
}

/* The devices of the mask. */
static struct pool *import_pool(unsigned mask)
{
	struct pool_options o = {
		.delta_bytes = 4u << 20, .cache_bytes = 2u << 20, .degraded_ok = true};
	struct dev_backend *d[DEVS];
	struct err e = {0};
	struct pool *p;
	unsigned n = 0;

	for (unsigned i = 0; i < DEVS; i++)
		if (mask & 1u << i)
			d[n++] = open_dev(i);
	if (pool_import(d, n, &o, reactor, &p, &e)) {
		fprintf(stderr, "%s\n", e.text);
		abort();
	}
	return p;
}

static struct pool *reimport(struct pool *p, unsigned mask)
{
	struct err e = {0};

	assert_int_equal(pool_export(p, false, &e), 0);
	return import_pool(mask);
}

static void new_pool(const char *const *classes, unsigned n)
{
	struct pool_create_dev cd[DEVS];
	struct err e = {0};
	char path[96];

	for (unsigned i = 0; i < DEVS; i++) { /* what the test before left */
		snprintf(path, sizeof path, "%s/d%u", dir, i);
		unlink(path);
	}
	for (unsigned i = 0; i < n; i++) {
		cd[i] = (struct pool_create_dev){open_dev(i), "", ""};
		snprintf(cd[i].class_name, sizeof cd[i].class_name, "%s", classes[i]);
	}
	if (pool_create("cls", cd, n, MIB, &e))
		fail_msg("%s", e.text);
	for (unsigned i = 0; i < n; i++)
		dev_close(cd[i].backend);
}

static int make_vol(struct pool *p, const char *name, unsigned copies, const char *class,
		    struct err *e)
{
	struct vol_options o = {
		.type = VOL_TYPE_BLOCK, .copies = (uint8_t)copies, .size_bytes = 256u << 20};

	snprintf(o.class_name, sizeof o.class_name, "%s", class);
	return vol_create(p, name, &o, e);
}

static void pattern(const char *name, unsigned at, uint8_t *b)
{
	uint32_t *w = (uint32_t *)(void *)b;

	for (unsigned k = 0; k < MIB / 4; k++)
		w[k] = (k ^ at * 31 ^ (uint32_t)name[0] << 20) * 2654435761u ^ k << 7;
}

/* Write incompressible MiBs [from, to); how many went in. */
static unsigned fill(struct pool *p, const char *name, unsigned from, unsigned to)
{
	struct err e = {0};
	struct vol *v;
	unsigned i;

	assert_int_equal(vol_open(p, name, &v, &e), 0);
	for (i = from; i < to; i++) {
		int rc;

		pattern(name, i, buf);
		rc = vol_write(v, 1, (uint64_t)i * MIB, MIB, buf, NULL, NULL);
		if (rc == -ENOSPC)
			break;
		assert_int_equal(rc, 0);
	}
	assert_int_equal(vol_sync(v), 0);
	vol_close(v);
	return i - from;
}

static void compare(struct pool *p, const char *name, unsigned to)
{
	struct err e = {0};
	struct vol *v;

	assert_int_equal(vol_open(p, name, &v, &e), 0);
	for (unsigned i = 0; i < to; i++) {
		pattern(name, i, want);
		assert_int_equal(vol_read(v, 1, (uint64_t)i * MIB, MIB, buf), 0);
		assert_memory_equal(buf, want, MIB);
	}
	vol_close(v);
}

static void check(struct pool *p)
{
	struct pool_check_result r;
	struct err e = {0};

	assert_int_equal(pool_commit(p), 0);
	assert_int_equal(pool_check(p, true, stderr, NULL, NULL, &r, &e), 0);
	assert_int_equal(r.problems, 0);
}

/* Status of the device with this file, or state DEV_NONE. */
static struct pool_dev_status dev_status(struct pool *p, unsigned i)
{
	struct pool_status *s = calloc(1, sizeof *s);
	struct pool_dev_status d = {.state = DEV_NONE};
	char path[96];

	snprintf(path, sizeof path, "%s/d%u", dir, i);
	pool_status_get(p, s);
	for (unsigned k = 0; k < s->ndevs; k++)
		if (!strcmp(s->devs[k].path, path))
			d = s->devs[k];
	free(s);
	return d;
}

static unsigned used_mib(struct pool *p, unsigned i)
{
	return (unsigned)(dev_status(p, i).used_bytes / MIB);
}

static bool has_event(struct pool *p, const char *kind, const char *text)
{
	struct pool_event *ev = calloc(256, sizeof *ev);
	unsigned n = pool_events(p, 0, ev, 256);
	bool found = false;

	for (unsigned i = 0; i < n; i++)
		found |= !strcmp(ev[i].kind, kind) && strstr(ev[i].text, text);
	free(ev);
	return found;
}

static uint64_t available(struct pool *p, const char *name)
{
	struct vol_info i;
	struct err e = {0};
	struct vol *v;

	assert_int_equal(vol_open(p, name, &v, &e), 0);
	vol_info_get(v, &i);
	vol_close(v);
	return i.available_bytes / MIB;
}

static struct vol_compliance compliance(struct pool *p, const char *name)
{
	struct vol_compliance c;
	struct err e = {0};
	struct vol *v;

	assert_int_equal(vol_open(p, name, &v, &e), 0);
	assert_int_equal(vol_compliance_get(v, &c), 0);
	vol_close(v);
	return c;
}

static void wait_compliant(struct pool *p, const char *name)
{
	for (unsigned i = 0; i < 600; i++) {
		struct vol_compliance c = compliance(p, name);

		if (!c.other_policy_bytes && !c.degraded_bytes && c.compliant_bytes)
			return;
		co_sleep_ns(50000000);
	}
	fail_msg("%s does not become compliant", name);
}

/* ---- classes ---- */

static void refusals(struct pool *p)
{
	struct err e = {0};

	assert_int_equal(make_vol(p, "no", 3, "ssd", &e), -EINVAL);
	assert_non_null(strstr(e.text, "class ssd; the pool has 2"));
	assert_int_equal(make_vol(p, "no", 1, "tape", &e), -EINVAL);
	assert_int_equal(vol_set_class(p, "fast", "tape", &e), -EINVAL);
	assert_int_equal(vol_set_copies(p, "fast", 3, &e), -EINVAL);
	assert_int_equal(pool_dev_set_class(p, 0, "hdd", &e), -EBUSY);
	assert_int_equal(pool_dev_set_class(p, 9, "hdd", &e), -ENOENT);
}

/* What one class holds does not touch the room of the other. */
static void bound(struct pool *p)
{
	unsigned free_fast = (unsigned)available(p, "fast"), meta[4];
	struct pool_move_plan plan;
	struct err e = {0};
	unsigned n;

	for (unsigned i = 0; i < 4; i++)
		meta[i] = used_mib(p, i);
	assert_in_range(free_fast, 30, 46);
	assert_int_equal(fill(p, "fast", 0, 20), 20);
	assert_int_equal(pool_commit(p), 0);
	for (unsigned i = 0; i < 4; i++)
		if (i < 2)
			assert_in_range(used_mib(p, i), meta[i] + 20, meta[i] + 24);
		else
			assert_in_range(used_mib(p, i), 0, meta[i] + 3);
	n = fill(p, "slow", 0, 60);
	assert_in_range(n, 28, 46);
	assert_true(has_event(p, "class-full", "class hdd"));
	assert_int_equal(available(p, "slow"), 0);
	assert_in_range(available(p, "fast"), free_fast - 26, free_fast - 20);
	assert_int_equal(vol_set_class(p, "fast", "hdd", &e), -ENOSPC);
	assert_non_null(strstr(e.text, "class hdd"));
	assert_int_equal(pool_dev_remove(p, 1, true, &plan, &e), 0);
	assert_false(plan.fits);
	assert_non_null(strstr(plan.reason, "class ssd"));
	compare(p, "fast", 20);
	compare(p, "slow", n);
	assert_int_equal(vol_destroy(p, "slow", &e), 0);
	for (unsigned i = 0; i < 600 && used_mib(p, 2) > 15; i++)
		co_sleep_ns(50000000);
	assert_in_range(used_mib(p, 2), 0, 15); /* without anybody writing */
}

/* A policy, and a device, change their class. */
static void changes(struct pool *p)
{
	struct err e = {0};

	assert_int_equal(vol_set_class(p, "fast", "hdd", &e), 0);
	assert_true(compliance(p, "fast").needed_bytes > 0);
	wait_compliant(p, "fast");
	compare(p, "fast", 20);
	assert_int_equal(vol_set_class(p, "fast", "", &e), 0);
	wait_compliant(p, "fast");
	assert_int_equal(vol_set_class(p, "fast", "ssd", &e), 0);
	wait_compliant(p, "fast");
	assert_int_equal(pool_dev_set_class(p, 2, "ssd", &e), 0);
	assert_int_equal(pool_dev_set_class(p, 0, "hdd", &e), 0);
	wait_compliant(p, "fast");
	for (unsigned i = 0; i < 600 && used_mib(p, 2) < 20; i++)
		co_sleep_ns(50000000);
	assert_in_range(used_mib(p, 2), 20, 46);
	compare(p, "fast", 20);
}

static void classes(void *arg)
{
	static const char *const names[] = {"ssd", "ssd", "hdd", "hdd"};
	struct vol_info i[4];
	struct err e = {0};
	struct pool *p;

	(void)arg;
	new_pool(names, 4);
	p = import_pool(15);
	assert_int_equal(make_vol(p, "fast", 2, "ssd", &e), 0);
	assert_int_equal(make_vol(p, "slow", 2, "hdd", &e), 0);
	refusals(p);
	bound(p);
	p = reimport(p, 15);
	assert_int_equal(vol_list(p, i, 4), 1);
	assert_string_equal(i[0].class_name, "ssd");
	changes(p);
	check(p);
	p = reimport(p, 15);
	assert_string_equal(dev_status(p, 0).class_name, "hdd");
	compare(p, "fast", 20);
	check(p);
	assert_int_equal(pool_export(p, false, &e), 0);
	reactor_stop(reactor);
}

/* The only device of a class leaves service: what was admitted finds a place, and goes home when
 * the device is back. */
static void outside(void *arg)
{
	static const char *const names[] = {"ssd", "hdd", "hdd"};
	struct err e = {0};
	struct pool *p;

	(void)arg;
	new_pool(names, 3);
	p = import_pool(7);
	assert_int_equal(pool_set_spare_after(p, 0), 0);
	assert_int_equal(make_vol(p, "fast", 1, "ssd", &e), 0);
	assert_int_equal(fill(p, "fast", 0, 2), 2);
	assert_int_equal(pool_dev_offline(p, 0, &e), 0);
	assert_int_equal(fill(p, "fast", 2, 4), 0); /* nothing new is admitted */
	assert_int_equal(available(p, "fast"), 0);
	assert_int_equal(pool_dev_online(p, open_dev(0), &e), 0);
	for (unsigned i = 0; i < 600 && dev_status(p, 0).state != DEV_ONLINE; i++)
		co_sleep_ns(50000000);
	assert_int_equal(fill(p, "fast", 2, 4), 2);
	wait_compliant(p, "fast");
	compare(p, "fast", 4);
	check(p);
	assert_int_equal(pool_export(p, false, &e), 0);
	reactor_stop(reactor);
}

/* ---- spares ---- */

static void add_spare(struct pool *p, unsigned i, const char *class, const char *domain)
{
	struct pool_add_options o = {.spare = true};
	struct err e = {0};

	snprintf(o.class_name, sizeof o.class_name, "%s", class);
	snprintf(o.domain, sizeof o.domain, "%s", domain);
	assert_int_equal(pool_dev_add(p, open_dev(i), &o, &e), 0);
}

static void wait_state(struct pool *p, unsigned i, enum dev_state want_state)
{
	for (unsigned n = 0; n < 600; n++) {
		if (dev_status(p, i).state == want_state)
			return;
		co_sleep_ns(50000000);
	}
	fail_msg("device %u is %s", i, dev_state_name(dev_status(p, i).state));
}

static void wait_taken(struct pool *p, unsigned i)
{
	for (unsigned n = 0; n < 600; n++) {
		struct pool_dev_status d = dev_status(p, i);

		if (d.evacuating || d.state == DEV_NONE)
			return;
		co_sleep_ns(10000000);
	}
	fail_msg("no spare took the place of device %u", i);
}

static void takes_over(void *arg)
{
	static const char *const names[] = {"ssd", "ssd", "hdd"};
	struct err e = {0};
	struct pool *p;

	(void)arg;
	new_pool(names, 3);
	p = import_pool(7);
	assert_int_equal(pool_spare_after(p), 600);
	assert_int_equal(make_vol(p, "a", 2, "ssd", &e), 0);
	assert_int_equal(make_vol(p, "b", 2, "", &e), 0);
	assert_int_equal(fill(p, "a", 0, 10) + fill(p, "b", 0, 10), 20);
	add_spare(p, 3, "hdd", "");
	add_spare(p, 4, "ssd", "");
	assert_int_equal(pool_commit(p), 0);
	assert_int_equal(used_mib(p, 3) + used_mib(p, 4), 0);
	assert_int_equal(pool_dev_make_spare(p, dev_status(p, 4).id, &e), -EEXIST);

	/* Lost, but back in time; what an administrator took out is not lost. */
	p = reimport(p, 29);
	co_sleep_ns(3000000000);
	assert_int_equal(pool_set_spare_after(p, 30), 0);
	assert_true(dev_status(p, 1).lost_ns > 0);
	assert_int_equal(pool_dev_online(p, open_dev(1), &e), 0);
	wait_state(p, 1, DEV_ONLINE);
	assert_int_equal(pool_set_spare_after(p, 2), 0);
	assert_int_equal(pool_dev_offline(p, 1, &e), 0);
	co_sleep_ns(4000000000);
	assert_true(dev_status(p, 3).spare && dev_status(p, 4).spare);
	assert_int_equal(pool_dev_online(p, open_dev(1), &e), 0);
	wait_state(p, 1, DEV_ONLINE);

	/* Too late: the one of its class takes over, and the lost one is not let in. */
	p = reimport(p, 29);
	wait_taken(p, 1);
	assert_true(has_event(p, "spare-takeover", "takes the place of device 1"));
	assert_true(dev_status(p, 3).spare);
	assert_false(dev_status(p, 4).spare);
	if (dev_status(p, 1).state != DEV_NONE) {
		struct dev_backend *b = open_dev(1);

		assert_int_equal(pool_dev_online(p, b, &e), ERR_IN_USE);
		dev_close(b);
		p = reimport(p, 31); /* nor by an import */
		assert_int_not_equal(dev_status(p, 1).state, DEV_RESYNC);
	}
	wait_state(p, 1, DEV_NONE);
	wait_compliant(p, "a");
	wait_compliant(p, "b");
	compare(p, "a", 10);
	compare(p, "b", 10);
	check(p);
	p = reimport(p, 31);
	assert_int_equal(dev_status(p, 1).state, DEV_NONE);
	compare(p, "a", 10);
	assert_int_equal(pool_export(p, false, &e), 0);
	reactor_stop(reactor);
}

/* The lost device has the only copy of something: it is let in for that, and leaves then. */
static void only_copy(void *arg)
{
	static const char *const names[] = {"", "", ""};
	struct err e = {0};
	struct pool *p;

	(void)arg;
	new_pool(names, 3);
	p = import_pool(7);
	assert_int_equal(make_vol(p, "one", 1, "", &e), 0);
	assert_int_equal(make_vol(p, "two", 2, "", &e), 0);
	assert_int_equal(fill(p, "one", 0, 12) + fill(p, "two", 0, 8), 20);
	assert_int_equal(pool_set_spare_after(p, 1), 0);
	p = reimport(p, 3);
	for (unsigned i = 0; i < 200 && !has_event(p, "spare-none", "device 2"); i++)
		co_sleep_ns(50000000);
	assert_true(has_event(p, "spare-none", "device 2"));
	add_spare(p, 3, "", "");
	wait_taken(p, 2);
	assert_true(has_event(p, "spare-only-copy", "device 2"));
	wait_compliant(p, "two");
	assert_int_equal(dev_status(p, 2).state, DEV_MISSING);
	assert_false(dev_status(p, 2).taken);
	assert_int_equal(pool_dev_online(p, open_dev(2), &e), 0);
	wait_state(p, 2, DEV_NONE);
	compare(p, "one", 12);
	compare(p, "two", 8);
	check(p);
	assert_int_equal(pool_export(p, false, &e), 0);
	reactor_stop(reactor);
}

/* The nearest of the spares: large enough, its class, its domain. A member becomes one. */
static void choice(void *arg)
{
	static const char *const names[] = {"", "", ""};
	struct err e = {0};
	struct pool *p;

	(void)arg;
	new_pool(names, 3);
	p = import_pool(7);
	assert_int_equal(make_vol(p, "x", 2, "", &e), 0);
	assert_int_equal(fill(p, "x", 0, 12), 12);
	add_spare(p, 3, "ssd", "");
	add_spare(p, 4, "", "shelf");
	add_spare(p, 5, "", "");
	assert_int_equal(pool_set_spare_after(p, 1), 0);
	p = reimport(p, 59);
	wait_taken(p, 2);
	assert_true(dev_status(p, 3).spare && dev_status(p, 4).spare);
	assert_false(dev_status(p, 5).spare);
	wait_state(p, 2, DEV_NONE);
	assert_int_equal(
		pool_dev_remove(p, dev_status(p, 4).id, false, &(struct pool_move_plan){0}, &e), 0);
	wait_state(p, 4, DEV_NONE);
	assert_int_equal(pool_dev_make_spare(p, 0, &e), 0);
	for (unsigned i = 0; i < 400 && used_mib(p, 0); i++)
		co_sleep_ns(50000000);
	assert_int_equal(used_mib(p, 0), 0);
	assert_true(dev_status(p, 0).spare);
	wait_compliant(p, "x");
	compare(p, "x", 12);
	check(p);
	assert_int_equal(pool_export(p, false, &e), 0);
	reactor_stop(reactor);
}

static void run(co_fn *fn)
{
	assert_int_equal(reactor_uring_create(256, &reactor), 0);
	assert_int_equal(co_spawn(reactor, fn, NULL), 0);
	reactor_run(reactor);
	reactor_destroy(reactor);
}

static void test_classes(void **state)
{
	(void)state;
	run(classes);
}

static void test_outside(void **state)
{
	(void)state;
	run(outside);
}

static void test_takes_over(void **state)
{
	(void)state;
	run(takes_over);
}

static void test_only_copy(void **state)
{
	(void)state;
	run(only_copy);
}

static void test_choice(void **state)
{
	(void)state;
	run(choice);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_classes),	   cmocka_unit_test(test_outside),
		cmocka_unit_test(test_takes_over), cmocka_unit_test(test_only_copy),
		cmocka_unit_test(test_choice),
	};
	char path[96];
	int rc;

	snprintf(dir, sizeof dir, "%s/tarn-classes.XXXXXX", "/var/tmp");
	buf = aligned_alloc(4096, MIB);
	want = aligned_alloc(4096, MIB);
	if (!mkdtemp(dir) || !buf || !want)
		return 1;
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	for (unsigned i = 0; i < DEVS; i++) {
		snprintf(path, sizeof path, "%s/d%u", dir, i);
		unlink(path);
	}
	rmdir(dir);
	free(buf);
	free(want);
	return rc;
}
