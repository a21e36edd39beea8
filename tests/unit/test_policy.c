/* Trash, reservations, history, thresholds and forecast on a small pool in files; what sync says
 * when a device fails that has the only copy. */
#include <errno.h>
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

#define DEV_BYTES (40ull << 20)

static char dir[64];
static struct reactor *reactor;

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

static struct pool *import_pool(void)
{
	struct pool_options o = {.delta_bytes = 4u << 20, .cache_bytes = 2u << 20};
	struct dev_backend *d[2] = {open_dev(0), open_dev(1)};
	struct err e = {0};
	struct pool *p;

	if (pool_import(d, 2, &o, reactor, &p, &e)) {
		fprintf(stderr, "%s\n", e.text);
		abort();
	}
	return p;
}

static void make_vol(struct pool *p, const char *name)
{
	struct vol_options o = {.type = VOL_TYPE_BLOCK, .copies = 2, .size_bytes = 64u << 20};
	struct err e = {0};

	assert_int_equal(vol_create(p, name, &o, &e), 0);
}

/* Write n MiB of incompressible data from the start; how many went in. */
static unsigned fill(struct pool *p, const char *name, unsigned mib)
{
	uint32_t *buf = aligned_alloc(4096, 1u << 20);
	struct err e = {0};
	struct vol *v;
	unsigned i;

	assert_int_equal(vol_open(p, name, &v, &e), 0);
	for (i = 0; i < mib; i++) {
		int rc;

		for (unsigned k = 0; k < 1u << 18; k++)
			buf[k] = (k ^ i) * 2654435761u ^ k << 7;
		rc = vol_write(v, 1, (uint64_t)i << 20, 1u << 20, buf, NULL, NULL);
		if (rc == -ENOSPC)
			break;
		assert_int_equal(rc, 0);
	}
	assert_int_equal(vol_sync(v), 0);
	vol_close(v);
	free(buf);
	return i;
}

static bool has_event(struct pool *p, const char *kind)
{
	struct pool_event *ev = calloc(256, sizeof *ev);
	unsigned n = pool_events(p, 0, ev, 256);
	bool found = false;

	for (unsigned i = 0; i < n; i++)
		found |= !strcmp(ev[i].kind, kind);
	free(ev);
	return found;
}

static void trash(struct pool *p)
{
	struct vol_trash_info t[4];
	struct err e = {0};
	struct vol *v;
	unsigned n;

	make_vol(p, "a");
	assert_int_equal(fill(p, "a", 8), 8);
	assert_int_equal(vol_open(p, "a", &v, &e), 0);
	assert_int_equal(vol_trash(p, "a", &e), ERR_IN_USE);
	vol_close(v);
	assert_int_equal(vol_trash(p, "a", &e), 0);
	assert_int_equal(vol_open(p, "a", &v, &e), -ENOENT);
	assert_int_equal(vol_list(p, NULL, 0), 0);
	assert_int_equal(vol_trash_list(p, t, 4), 1);
	assert_string_equal(t[0].name, "a");

	/* The name is free again; the old one comes back under another. */
	make_vol(p, "a");
	assert_int_equal(vol_trash_restore(p, "a", 0, NULL, &e), -EEXIST);
	assert_int_equal(vol_trash_restore(p, "a", 0, "b", &e), 0);
	assert_int_equal(vol_list(p, NULL, 0), 2);
	assert_int_equal(vol_trash(p, "b", &e), 0);
	assert_int_equal(vol_trash_empty(p, "nothing", 0, &n, &e), -ENOENT);
	assert_int_equal(vol_trash_empty(p, NULL, 0, &n, &e), 0);
	assert_int_equal(n, 1);
	assert_int_equal(vol_trash_list(p, t, 4), 0);
	assert_int_equal(vol_destroy(p, "a", &e), 0);
}

/* What lies in the trash gives way to a writer that needs the space. */
static void pressure(struct pool *p)
{
	struct vol_trash_info t[4];
	struct err e = {0};
	unsigned most;

	make_vol(p, "old");
	make_vol(p, "new");
	most = fill(p, "old", 60);
	assert_in_range(most, 10, 59);
	assert_int_equal(fill(p, "new", 60), 0);
	assert_int_equal(vol_trash(p, "old", &e), 0);
	assert_in_range(fill(p, "new", 60), most - 3, most + 3);
	assert_int_equal(vol_trash_list(p, t, 4), 0);
	assert_true(has_event(p, "trash-pressure"));
	assert_int_equal(vol_destroy(p, "new", &e), 0);
	co_sleep_ns(1000000000);
	assert_int_equal(pool_commit(p), 0);
}

static void reservation(struct pool *p)
{
	struct err e = {0};
	unsigned most;

	make_vol(p, "db");
	make_vol(p, "greedy");
	assert_int_equal(vol_set_reservation(p, "db", 1ull << 40, &e), -ENOSPC);
	assert_int_equal(vol_set_reservation(p, "db", 10u << 20, &e), 0);
	most = fill(p, "greedy", 60);
	assert_in_range(most, 5, 50);
	assert_int_equal(fill(p, "db", 10), 10);
	assert_int_equal(vol_destroy(p, "db", &e), 0);
	assert_int_equal(vol_destroy(p, "greedy", &e), 0);
}

static void history(struct pool *p)
{
	struct pool_history_entry *h = malloc(sizeof *h);
	char text[2000];

	memset(text, 'x', sizeof text);
	text[sizeof text - 1] = 0;
	assert_int_equal(pool_history_add(p, 7, 0, "volume create tank/a"), 0);
	assert_int_equal(pool_history_add(p, 8, -ENOSPC, text), 0);
	assert_int_equal(pool_history_next(p, 0, h), 0);
	assert_string_equal(h->text, "volume create tank/a");
	assert_int_equal(h->uid, 7);
	assert_int_equal(pool_history_next(p, h->seq, h), 0);
	assert_int_equal(h->result, -ENOSPC);
	assert_int_equal(strlen(h->text), 1000);
	assert_int_equal(pool_history_next(p, h->seq, h), -ENOENT);
	free(h);
}

static void story(void *arg)
{
	struct pool_create_dev cd[2] = {{open_dev(0), "", ""}, {open_dev(1), "", ""}};
	struct pool_history_entry *h = malloc(sizeof *h);
	struct pool_check_result r;
	struct err e = {0};
	struct pool *p;

	(void)arg;
	assert_int_equal(pool_create("pol", cd, 2, 1u << 20, &e), 0);
	dev_close(cd[0].backend);
	dev_close(cd[1].backend);
	p = import_pool();
	history(p);
	trash(p);
	pressure(p);
	reservation(p);
	assert_int_equal(pool_set_trash_retention(p, 60), 0);
	assert_int_equal(pool_export(p, false, &e), 0);
	p = import_pool();
	assert_int_equal(pool_history_next(p, 1, h), 0);
	assert_int_equal(pool_history_add(p, 0, 0, "third"), 0);
	assert_int_equal(pool_history_next(p, 2, h), 0);
	assert_string_equal(h->text, "third");
	assert_int_equal(pool_commit(p), 0);
	assert_int_equal(pool_check(p, true, stderr, NULL, NULL, &r, &e), 0);
	assert_int_equal(r.problems, 0);
	assert_int_equal(pool_export(p, false, &e), 0);
	free(h);
	reactor_stop(reactor);
}

/* ---- a device that fails between data and flush ---- */

struct shaky { /* its flushes fail when they are to */
	struct dev_backend b;
	struct dev_backend *real;
};
static bool flush_fails;

static void shaky_submit(struct dev_backend *b, struct dev_io *io)
{
	struct shaky *s = (struct shaky *)(void *)b;

	if (io->op == DEV_FLUSH && flush_fails) {
		io->res = -EIO;
		io->done(io);
		return;
	}
	s->real->ops->submit(s->real, io);
}

static void shaky_close(struct dev_backend *b)
{
	struct shaky *s = (struct shaky *)(void *)b;

	dev_close(s->real);
	free(s);
}

static struct dev_backend *open_shaky(unsigned i)
{
	static const struct dev_backend_ops ops = {shaky_submit, shaky_close};
	struct shaky *s = calloc(1, sizeof *s);

	s->real = open_dev(i);
	s->b = *s->real;
	s->b.ops = &ops;
	return &s->b;
}

/* Too much for the log: only a commit makes it durable. */
static void write_much(struct vol *v, unsigned seed)
{
	uint32_t *buf = aligned_alloc(4096, 1u << 20);

	for (unsigned i = 0; i < 6; i++) {
		for (unsigned k = 0; k < 1u << 18; k++)
			buf[k] = (k ^ i ^ seed << 20) * 2654435761u ^ k << 7;
		assert_int_equal(vol_write(v, 1, (uint64_t)i << 20, 1u << 20, buf, NULL, NULL), 0);
	}
	free(buf);
}

static struct vol *make_open(struct pool *p, const char *name, uint8_t copies)
{
	struct vol_options o = {.type = VOL_TYPE_BLOCK, .copies = copies, .size_bytes = 16u << 20};
	struct err e = {0};
	struct vol *v;

	assert_int_equal(vol_create(p, name, &o, &e), 0);
	assert_int_equal(vol_open(p, name, &v, &e), 0);
	return v;
}

static void sole_copies(void *arg)
{
	struct pool_create_dev cd[2] = {{open_dev(0), "", ""}, {open_dev(1), "", ""}};
	struct pool_options o = {.delta_bytes = 16u << 20, .cache_bytes = 2u << 20};
	struct dev_backend *d[2];
	struct err e = {0};
	struct vol *one, *two;
	struct pool *p;

	(void)arg;
	assert_int_equal(pool_create("sole", cd, 2, 1u << 20, &e), 0);
	dev_close(cd[0].backend);
	dev_close(cd[1].backend);
	d[0] = open_dev(0);
	d[1] = open_shaky(1);
	assert_int_equal(pool_import(d, 2, &o, reactor, &p, &e), 0);
	one = make_open(p, "one", 1);
	two = make_open(p, "two", 2);
	write_much(one, 1);
	write_much(two, 2);
	assert_int_equal(vol_sync(one), 0);
	assert_int_equal(vol_sync(two), 0);
	write_much(one, 3);
	write_much(two, 4);
	flush_fails = true;
	assert_int_equal(vol_sync(two), 0);
	flush_fails = false;
	assert_int_equal(vol_sync(one), -EIO);
	assert_int_equal(vol_sync(one), 0); /* told once */
	assert_true(has_event(p, "sync-lost"));
	write_much(one, 5); /* all of it on the other one */
	assert_int_equal(vol_sync(one), 0);
	vol_close(one);
	vol_close(two);
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

static void test_story(void **state)
{
	(void)state;
	run(story);
}

static void test_sole_copies(void **state)
{
	(void)state;
	run(sole_copies);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_story),
					   cmocka_unit_test(test_sole_copies)};
	char path[128];
	int rc;

	snprintf(dir, sizeof dir, "%s/tarn-policy.XXXXXX", "/var/tmp");
	if (!mkdtemp(dir))
		return 1;
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	for (unsigned i = 0; i < 2; i++) {
		snprintf(path, sizeof path, "%s/d%u", dir, i);
		unlink(path);
	}
	rmdir(dir);
	return rc;
}
