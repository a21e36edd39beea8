/* tools/ without a daemon: sizes, names, options, framing against hostile peers, state files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/le.h"
#include "tools/ctl_proto.h"
#include "tools/names.h"
#include "tools/options.h"
#include "tools/rate.h"
#include "tools/size_text.h"
#include "tools/state_file.h"

static void test_size_parse(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		int rc;
		uint64_t n;
	} t[] = {
		{"0", 0, 0},
		{"17", 0, 17},
		{"4096", 0, 4096},
		{"512B", 0, 512},
		{"1K", 0, 1024},
		{"1k", 0, 1024},
		{"8G", 0, 8ull << 30},
		{"8GiB", 0, 8ull << 30},
		{"8gb", 0, 8ull << 30},
		{"1.5T", 0, 3ull << 39},
		{"0.5K", 0, 512},
		{"1.0000009M", 0, 1 << 20},
		{"7E", 0, 7ull << 60},
		{"9223372036854775807", 0, INT64_MAX},
		{"8E", -ERANGE, 0},
		{"9223372036854775808", -ERANGE, 0},
		{"99999999999999999999", -ERANGE, 0},
		{"9999999999T", -ERANGE, 0},
		{"", -EINVAL, 0},
		{NULL, -EINVAL, 0},
		{"-1", -EINVAL, 0},
		{"G", -EINVAL, 0},
		{"8X", -EINVAL, 0},
		{"8GG", -EINVAL, 0},
		{"8 G", -EINVAL, 0},
		{" 8G", -EINVAL, 0},
		{"1.", -EINVAL, 0},
		{"1.5", -EINVAL, 0},
		{"0x10", -EINVAL, 0},
		{"1e3", -EINVAL, 0},
		{"+8G", -EINVAL, 0},
	};
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		uint64_t n = 42;
		assert_int_equal(size_parse(t[i].text, &n), t[i].rc);
		assert_int_equal(n, t[i].rc ? 42 : t[i].n);
	}
}

static void test_size_text(void **state)
{
	(void)state;
	char b[SIZE_TEXT_MAX];
	assert_string_equal(size_text(b, 0, false), "0B");
	assert_string_equal(size_text(b, 1023, false), "1023B");
	assert_string_equal(size_text(b, 1024, false), "1.0K");
	assert_string_equal(size_text(b, 8ull << 30, false), "8.0G");
	assert_string_equal(size_text(b, (1ull << 20) - 1, false), "1.0M");
	assert_string_equal(size_text(b, 400ull << 30, false), "400G");
	assert_string_equal(size_text(b, UINT64_MAX, false), "16.0E");
	assert_string_equal(size_text(b, UINT64_MAX, true), "18446744073709551615");
}

static void test_number_parse(void **state)
{
	(void)state;
	uint64_t n = 42;
	assert_int_equal(number_parse("3", 1, 4, &n), 0);
	assert_int_equal(n, 3);
	assert_int_equal(number_parse("0", 1, 4, &n), -ERANGE);
	assert_int_equal(number_parse("5", 1, 4, &n), -ERANGE);
	assert_int_equal(number_parse("99999999999999999999999", 1, 4, &n), -ERANGE);
	assert_int_equal(number_parse("3x", 1, 4, &n), -EINVAL);
	assert_int_equal(number_parse("-3", 1, 4, &n), -EINVAL);
	assert_int_equal(number_parse("", 1, 4, &n), -EINVAL);
	assert_int_equal(n, 3);
}

static void test_rate(void **state)
{
	(void)state;
	struct rate r = {0};
	assert_int_equal(rate_get(&r), 0);
	rate_add(&r, 1000, 100);
	assert_int_equal(rate_get(&r), 0);
	assert_int_equal(rate_seconds(&r, 10), 0);
	rate_add(&r, 1100, 5000); /* too soon */
	assert_int_equal(rate_get(&r), 0);
	for (unsigned i = 1; i <= 40; i++)
		rate_add(&r, 1000 + i * 1000, 100 + i * 50);
	assert_int_equal(rate_get(&r), 50);
	assert_int_equal(rate_seconds(&r, 500), 11);
	assert_int_equal(rate_seconds(&r, 0), 1);
	rate_add(&r, 60000, 7); /* something new */
	assert_int_equal(rate_get(&r), 0);
	rate_add(&r, 62000, 7);
	assert_int_equal(rate_seconds(&r, 10), 0);
}

static void test_names(void **state)
{
	(void)state;
	struct volume_ref r;
	struct err e = {0};
	assert_true(pool_name_valid("tank"));
	assert_true(pool_name_valid("9-b_c.d+e"));
	static const char *const bad[] = {
		"",    ".",   "..",  ".a",	 "-a",
		"a/b", "a b", "a\n", "\xc3\xa4", "a123456789012345678901234567890123"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(pool_name_valid(bad[i]));
	assert_int_equal(volume_ref_parse("tank/home", &r, &e), 0);
	assert_string_equal(r.pool, "tank");
	assert_string_equal(r.volume, "home");
	static const char *const badref[] = {"tank",   "/home",	  "tank/",   "tank/a/b",
					     "../x/y", "tank/..", "tank/.x", "ta nk/x"};
	for (size_t i = 0; i < sizeof(badref) / sizeof(badref[0]); i++)
		assert_int_equal(volume_ref_parse(badref[i], &r, &e), -EINVAL);
	assert_string_equal(r.volume, "home");
}

static const struct option_spec specs[] = {
	{"force", 'f', NULL, ""},
	{"size", 's', "SIZE", ""},
	{"json", 0, NULL, ""},
	{NULL, 'o', "LIST", ""},
	{0},
};

/* Split a line at blanks and parse it. */
static int parse_line(const char *line, struct options *o, struct err *e)
{
	static char buf[512];
	static char *argv[64];
	int argc = 0;
	snprintf(buf, sizeof(buf), "%s", line);
	char *save = NULL;
	for (char *p = strtok_r(buf, " ", &save); p; p = strtok_r(NULL, " ", &save))
		argv[argc++] = p;
	return options_parse(specs, argc, argv, o, e);
}

static void test_options(void **state)
{
	(void)state;
	struct options o;
	struct err e = {0};
	assert_int_equal(parse_line("a -f b --size 8G c -oro", &o, &e), 0);
	assert_int_equal(o.nargs, 3);
	assert_string_equal(o.args[0], "a");
	assert_string_equal(o.args[2], "c");
	assert_true(option_given(&o, "force"));
	assert_false(option_given(&o, "json"));
	assert_string_equal(option_value(&o, "size", NULL), "8G");
	assert_string_equal(option_value(&o, "o", NULL), "ro");
	assert_int_equal(parse_line("--size=1 -s 2 -fs3 --json", &o, &e), 0);
	assert_string_equal(option_value(&o, "size", NULL), "3");
	assert_int_equal(o.n, 5);
	assert_int_equal(parse_line("-- -f --size", &o, &e), 0);
	assert_int_equal(o.nargs, 2);
	assert_int_equal(o.n, 0);
	assert_int_equal(parse_line("- x", &o, &e), 0);
	assert_int_equal(o.nargs, 2);
	static const char *const bad[] = {"--siz 3",   "--size", "-s", "-x",
					  "--force=1", "-fx",	 "--", "---"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		int r = parse_line(bad[i], &o, &e);
		assert_int_equal(r, !strcmp(bad[i], "--") ? 0 : -EINVAL);
	}
}

/* ---- framing ---- */

struct pair {
	int a, b;
};

static struct pair pair_open(void)
{
	int s[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
	return (struct pair){s[0], s[1]};
}

static void pair_close(struct pair p)
{
	close(p.a);
	close(p.b);
}

static void put_raw(int fd, uint32_t len, const char *body, size_t n)
{
	le32 head = le32_of(len);
	assert_int_equal(write(fd, &head, 4), 4);
	if (n)
		assert_int_equal(write(fd, body, n), (ssize_t)n);
}

static void test_proto_roundtrip(void **state)
{
	(void)state;
	struct pair p = pair_open();
	struct json_object *o = json_object_new_object(), *got = NULL;
	json_object_object_add(o, "verb", json_object_new_string("x\"\xc3\xa4\n"));
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), fd = -1;
	assert_int_equal(ctl_send(p.a, o, null, 1000), 0);
	assert_int_equal(ctl_send(p.a, o, -1, 1000), 0);
	assert_int_equal(ctl_recv(p.b, CTL_REQUEST_MAX, 1000, &got, &fd), 0);
	assert_string_equal(ctl_get_string(got, "verb"), "x\"\xc3\xa4\n");
	assert_true(fd >= 0);
	struct stat a, b;
	assert_int_equal(fstat(fd, &a), 0);
	assert_int_equal(fstat(null, &b), 0);
	assert_int_equal(a.st_rdev, b.st_rdev);
	close(fd);
	json_object_put(got);
	assert_int_equal(ctl_recv(p.b, CTL_REQUEST_MAX, 1000, &got, &fd), 0);
	assert_int_equal(fd, -1);
	json_object_put(got);
	close(p.a);
	assert_int_equal(ctl_recv(p.b, CTL_REQUEST_MAX, 1000, &got, NULL), -ENODATA);
	close(p.b);
	close(null);
	json_object_put(o);
}

static void test_proto_hostile(void **state)
{
	(void)state;
	static const struct {
		const char *body;
		int rc;
	} t[] = {
		{"{}", 0},
		{" {} ", 0},
		{"{", -EPROTO},
		{"[]", -EPROTO},
		{"1", -EPROTO},
		{"null", -EPROTO},
		{"\"x\"", -EPROTO},
		{"{}x", -EPROTO},
		{"{}{}", -EPROTO},
		{"{\"a\":}", -EPROTO},
		{"{'a':1}", 0},
		{"{\"a\":1,}", -EPROTO},
		{"{\"a\":\"\xff\"}", -EPROTO},
		{"//\n{}", -EPROTO},
		{"{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":1}}}}}}}}}",
		 -EPROTO},
	};
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct pair p = pair_open();
		struct json_object *o = NULL;
		put_raw(p.a, (uint32_t)strlen(t[i].body), t[i].body, strlen(t[i].body));
		int r = ctl_recv(p.b, CTL_REQUEST_MAX, 1000, &o, NULL);
		if (r != t[i].rc)
			fail_msg("%s: %d instead of %d", t[i].body, r, t[i].rc);
		json_object_put(o);
		pair_close(p);
	}
}

static void test_proto_lengths(void **state)
{
	(void)state;
	struct json_object *o = NULL;
	struct pair p = pair_open();
	put_raw(p.a, 0, NULL, 0);
	assert_int_equal(ctl_recv(p.b, 64, 1000, &o, NULL), -EPROTO);
	put_raw(p.a, 65, NULL, 0);
	assert_int_equal(ctl_recv(p.b, 64, 1000, &o, NULL), -EMSGSIZE);
	put_raw(p.a, UINT32_MAX, NULL, 0);
	assert_int_equal(ctl_recv(p.b, 64, 1000, &o, NULL), -EMSGSIZE);
	put_raw(p.a, 10, "{}", 2); /* cut short */
	close(p.a);
	assert_int_equal(ctl_recv(p.b, 64, 1000, &o, NULL), -EPROTO);
	close(p.b);
	p = pair_open();
	assert_int_equal(write(p.a, "\1\0", 2), 2); /* half a head */
	close(p.a);
	assert_int_equal(ctl_recv(p.b, 64, 1000, &o, NULL), -EPROTO);
	close(p.b);
	assert_null(o);
}

/* One byte at a time does not win time. */
static void *drip(void *arg)
{
	int fd = *(int *)arg;
	le32 head = le32_of(60);
	if (write(fd, &head, 4) != 4)
		return NULL;
	for (int i = 0; i < 60; i++) {
		if (send(fd, " ", 1, MSG_NOSIGNAL) < 0)
			break;
		usleep(20000);
	}
	return NULL;
}

static void test_proto_slow(void **state)
{
	(void)state;
	struct json_object *o = NULL;
	struct pair p = pair_open();
	pthread_t t;
	assert_int_equal(ctl_recv(p.b, 64, 30, &o, NULL), -ETIMEDOUT);
	pthread_create(&t, NULL, drip, &p.a);
	assert_int_equal(ctl_recv(p.b, 64, 200, &o, NULL), -ETIMEDOUT);
	close(p.b);
	pthread_join(t, NULL);
	close(p.a);

	/* and one who does not read does not hold the sender */
	p = pair_open();
	struct json_object *big = json_object_new_object();
	char *text = malloc(4u << 20);
	memset(text, 'x', 4u << 20);
	json_object_object_add(big, "t", json_object_new_string_len(text, 4 << 20));
	assert_int_equal(ctl_send(p.a, big, -1, 100), -ETIMEDOUT);
	free(text);
	json_object_put(big);
	pair_close(p);
}

/* Surplus descriptors are closed, wanted or not. */
static void test_proto_descriptors(void **state)
{
	(void)state;
	struct pair p = pair_open();
	int probe = dup(0);
	close(probe);
	for (int round = 0; round < 2; round++) {
		int pass[5], got = -1;
		for (int i = 0; i < 5; i++)
			pass[i] = 0;
		union {
			struct cmsghdr align;
			char buf[CMSG_SPACE(sizeof(pass))];
		} control = {0};
		char text[6] = {2, 0, 0, 0, '{', '}'};
		struct iovec iov = {text, sizeof(text)};
		struct msghdr m = {.msg_iov = &iov,
				   .msg_iovlen = 1,
				   .msg_control = control.buf,
				   .msg_controllen = sizeof(control.buf)};
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(pass));
		memcpy(CMSG_DATA(c), pass, sizeof(pass));
		assert_int_equal(sendmsg(p.a, &m, 0), 6);
		struct json_object *o = NULL;
		assert_int_equal(ctl_recv(p.b, 64, 1000, &o, round ? &got : NULL), 0);
		json_object_put(o);
		assert_int_equal(got >= 0, round);
		if (got >= 0)
			close(got);
		int now = dup(0);
		assert_int_equal(now, probe); /* nothing was left open */
		close(now);
	}
	pair_close(p);
}

static void test_codes(void **state)
{
	(void)state;
	for (int c = ERR_NEED_NODE; c < ERR_LAST; c++)
		assert_int_equal(ctl_code_value(ctl_code_name(c)), c);
	static const int e[] = {-ENOENT, -ENOSPC, -EIO, -EBUSY, -EPERM, -EEXIST, -EINVAL};
	for (size_t i = 0; i < sizeof(e) / sizeof(e[0]); i++)
		assert_int_equal(ctl_code_value(ctl_code_name(e[i])), e[i]);
	assert_int_equal(ctl_code_value("nonsense"), -EIO);
	assert_int_equal(ctl_code_value(NULL), -EIO);
}

static void test_strings(void **state)
{
	(void)state;
	static const char body[] = "{\"a\":\"x\\u0000y\",\"b\":7,\"c\":\"ok\"}";
	struct json_object *o = ctl_parse(body, strlen(body));
	assert_non_null(o);
	assert_null(ctl_get_string(o, "a"));
	assert_null(ctl_get_string(o, "b"));
	assert_null(ctl_get_string(o, "d"));
	assert_string_equal(ctl_get_string(o, "c"), "ok");
	json_object_put(o);
}

/* ---- state files ---- */

static char dir[] = "/tmp/tarn-test-tools-XXXXXX";

static void put_file(const char *text, mode_t mode)
{
	char path[PATH_MAX];
	FILE *f = fopen(state_path(path, "tank"), "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	chmod(path, mode);
}

static void count_pool(void *arg, const char *pool)
{
	assert_string_equal(pool, "tank");
	++*(int *)arg;
}

static void test_state_file(void **state)
{
	(void)state;
	struct state_file s = {.name = "tank", .uuid = "u"}, t;
	struct err e = {0};
	int n = 0;
	assert_non_null(mkdtemp(dir));
	setenv("TARN_STATE_DIR", dir, 1);
	assert_int_equal(state_file_load("tank", &t, &e), -ENOENT);
	state_file_add(&s, "/srv/a.img");
	state_file_add(&s, "/srv/b \"x\".img");
	state_file_add(&s, "/srv/a.img");
	assert_int_equal(s.ndevs, 2);
	assert_int_equal(state_file_save(&s, &e), 0);
	assert_int_equal(state_file_load("tank", &t, &e), 0);
	assert_int_equal(t.ndevs, 2);
	assert_string_equal(t.devs[1], "/srv/b \"x\".img");
	state_file_fini(&t);
	state_file_fini(&s);
	state_file_each(count_pool, &n);
	assert_int_equal(n, 1);

	static const char *const bad[] = {
		"",
		"x",
		"{}",
		"[]",
		"{\"version\":2,\"name\":\"tank\",\"devices\":[\"/a\"]}",
		"{\"version\":1,\"name\":\"other\",\"devices\":[\"/a\"]}",
		"{\"version\":1,\"name\":\"tank\",\"devices\":[]}",
		"{\"version\":1,\"name\":\"tank\",\"devices\":[1]}",
		"{\"version\":1,\"name\":\"tank\",\"devices\":{}}",
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		put_file(bad[i], 0644);
		int r = state_file_load("tank", &t, &e);
		assert_true(r == ERR_FORMAT || r == ERR_VERSION);
	}
	put_file("{\"version\":1,\"name\":\"tank\",\"devices\":[\"/a\"]}", 0666);
	assert_int_equal(state_file_load("tank", &t, &e), -EPERM);
	assert_int_equal(state_file_remove("tank", &e), 0);
	assert_int_equal(state_file_remove("tank", &e), 0);
	assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_size_parse),
		cmocka_unit_test(test_size_text),
		cmocka_unit_test(test_number_parse),
		cmocka_unit_test(test_rate),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_proto_roundtrip),
		cmocka_unit_test(test_proto_hostile),
		cmocka_unit_test(test_proto_lengths),
		cmocka_unit_test(test_proto_slow),
		cmocka_unit_test(test_proto_descriptors),
		cmocka_unit_test(test_codes),
		cmocka_unit_test(test_strings),
		cmocka_unit_test(test_state_file),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
