/* fuzz_ctl: what arrives on a control socket, at the daemon and at the tool, may be anything: it is
 * understood within its bounds, or refused with a code and a text. The first byte chooses:
 *
 *   'b' the body of a request      'f' bytes on the daemon's socket, frames and all
 *   'c' the daemon's answer, bytes      't' text on its way into a reply
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "tests/fuzz/driver.h"
#include "tools/ctl_client.h"
#include "tools/ctl_proto.h"
#include "tools/verbs.h"

#define must(x)                                                            \
	do {                                                               \
		if (!(x)) {                                                \
			printf("%s:%d: not %s\n", __FILE__, __LINE__, #x); \
			abort();                                           \
		}                                                          \
	} while (0)

/* A refusal has a code and says why; success says nothing. */
static void told(struct request *q, int r)
{
	must(r <= 0 && r == q->e.code && !q->e.text[0] == !r);
	q->e = (struct err){0};
}

static void arguments(struct request *q, const char *key)
{
	const char *s = NULL, *name = NULL;
	uint64_t n = 77;
	bool b = true;
	int r = arg_string(q, key, ARG_OPTIONAL, 30, &s);
	must(r ? !s : !s || (*s && strlen(s) <= 30));
	told(q, r);
	r = arg_string(q, key, ARG_REQUIRED, 4096, &s);
	must(r || (*s && strlen(s) <= 4096));
	told(q, r);
	r = arg_u64(q, key, ARG_OPTIONAL, 10, 1000, &n);
	must(n == 77 || (n >= 10 && n <= 1000));
	told(q, r);
	told(q, arg_u64(q, key, ARG_REQUIRED, 0, UINT64_MAX, &n));
	told(q, arg_bool(q, key, &b));
	r = arg_volume(q, key, &name);
	must(r || (!strchr(name, '/') && *name != '.' && strlen(name) <= VOL_NAME_MAX));
	told(q, r);
}

/* As ctl_server takes it apart. */
static void request_use(struct json_object *msg)
{
	static const char *const keys[] = {"name",   "volume",	   "size_bytes", "force",
					   "device", "mountpoint", "",		 "what"};
	struct request q = {.fd = -1};
	const char *verb = ctl_get_string(msg, "verb");
	must(!verb || strlen(verb) <= CTL_REPLY_MAX);
	ctl_code_value(verb);
	if (!json_object_object_get_ex(msg, "args", &q.args) ||
	    !json_object_is_type(q.args, json_type_object))
		return;
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		arguments(&q, keys[i]);
	json_object_object_foreach(q.args, key, value)
	{
		(void)value;
		arguments(&q, key);
	}
}

/* What was understood can be said, and is understood again. */
static void body(const char *data, size_t size)
{
	struct json_object *o = ctl_parse(data, size), *again;
	size_t len;
	if (!o)
		return;
	must(json_object_is_type(o, json_type_object));
	request_use(o);
	const char *text = json_object_to_json_string_length(o, JSON_C_TO_STRING_PLAIN, &len);
	must(text);
	again = ctl_parse(text, len);
	must(!again || json_object_object_length(again) == json_object_object_length(o));
	json_object_put(again);
	json_object_put(o);
}

/* A socket on which these bytes wait, and then the end. */
static int socket_with(const uint8_t *data, size_t size, int *ret_peer)
{
	int s[2];
	must(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s));
	must(send(s[1], data, size, MSG_DONTWAIT) == (ssize_t)size);
	must(!shutdown(s[1], SHUT_WR));
	*ret_peer = s[1];
	return s[0];
}

static void frames(const uint8_t *data, size_t size)
{
	int peer, s = socket_with(data, size, &peer), r = 0;
	for (unsigned n = 0; !r; n++) {
		struct json_object *msg = NULL;
		int fd = 5;
		must(n <= size / 5);
		r = ctl_recv(s, CTL_REQUEST_MAX, 2000, &msg, &fd);
		must(!r == !!msg);
		if (msg) {
			must(fd == -1);
			request_use(msg);
		}
		json_object_put(msg);
	}
	must(r == -ENODATA || r == -EPROTO || r == -EMSGSIZE);
	close(s);
	close(peer);
}

static void progress(void *arg, uint64_t done, uint64_t total)
{
	*(uint64_t *)arg += done < total;
}

static void answer(const uint8_t *data, size_t size)
{
	int peer, s = socket_with(data, size, &peer);
	struct json_object *result = NULL;
	struct err e = {0};
	uint64_t seen = 0;
	int r = ctl_call(s, "pool.status", NULL, -1, progress, &seen, &result, &e);
	must(r ? e.code && e.text[0] : !e.code);
	json_object_put(result);
	close(s);
	close(peer);
}

static void text(const uint8_t *data, size_t size)
{
	char *s = strndup((const char *)data, size);
	struct json_object *o = json_object_new_object();
	struct capped *c;
	FILE *f;
	size_t len;
	must(s);
	add_string(o, "text", s);
	c = capped_open(1000, &f);
	must(c);
	fwrite(data, 1, size, f);
	capped_close(c, f, o, "capped");
	const char *json = json_object_to_json_string_length(o, JSON_C_TO_STRING_PLAIN, &len);
	struct json_object *again = ctl_parse(json, len);
	must(again); /* whatever bytes a name has, the reply can be read */
	json_object_put(again);
	json_object_put(o);
	free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size || size > 64u << 10)
		return 0;
	switch (data[0]) {
	case 'f':
		frames(data + 1, size - 1);
		break;
	case 'c':
		answer(data + 1, size - 1);
		break;
	case 't':
		text(data + 1, size - 1);
		break;
	default:
		body((const char *)data + 1, size - 1);
		break;
	}
	return 0;
}
