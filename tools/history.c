#include "tools/history.h"
#include <inttypes.h>
#include <string.h>
#include <unistd.h>
#include "tools/command_text.h"
#include "tools/ctl_proto.h"
#include "tools/hop.h"
#include "tools/log.h"

/* {key}: an argument, {pool}: the name of the pool. A [group] is there when all of its arguments
 * are; {?key} is no text, but holds its group back unless the flag is set. Arguments whose key ends
 * in _bytes are written as sizes, an array as what it names in the pool. */
static const struct {
	const char *verb, *text;
} commands[] = {
	{"pool.export", "pool export {pool}[ --force{?force}]"},
	{"pool.offline", "pool offline {pool} {device}"},
	{"pool.online", "pool online {pool} {device}"},
	{"pool.add", "pool add {pool} {device}[ --domain {domain}][ --class {class}]"
		     "[ --spare{?spare}][ --force{?force}]"},
	{"pool.class", "pool class {pool} {device} {class}"},
	{"pool.spare", "pool spare add {pool} {device}"},
	{"pool.remove", "pool remove {pool} {device}[ --cancel{?cancel}]"},
	{"pool.shrink-device", "pool shrink-device {pool} {device} {size_bytes}"},
	{"pool.grow-device", "pool grow-device {pool} {device}[ --size {size_bytes}]"},
	{"pool.rebalance", "pool rebalance {pool}[ --stop{?stop}]"},
	{"pool.scrub", "pool scrub {pool}[ --stop{?stop}]"},
	{"pool.trim", "pool trim {pool}[ --stop{?stop}]"},
	{"pool.set", "pool set {pool} {key}={value}"},
	{"volume.create", "volume create {pool}/{name} --type {type}[ --size {size_bytes}]"
			  "[ --copies {copies}][ --compression {compression}]"
			  "[ --class {class}][ --owner {owner_uid}]"},
	{"volume.set", "volume set {pool}/{name} {key}={value}"},
	{"volume.destroy", "volume destroy {pool}/{name}[ --now{?now}]"},
	{"volume.resize", "volume resize {pool}/{name} {size_bytes}[ --shrink{?allow_shrink}]"},
	{"volume.rename", "volume rename {pool}/{name} {to}"},
	{"volume.check", "volume check {pool}/{name} --repair"},
	{"snapshot.create", "snapshot create[ -r {pool}@{all}][ {names}]"},
	{"snapshot.destroy", "snapshot destroy[ -r {pool}@{all}][ {pool}/{name}]"},
	{"trash.restore", "trash restore {pool}/{name}[ --id {id}][ --as {to}]"},
	{"trash.empty", "trash empty {pool}[ {name}][ --id {id}]"},
};

/* 40G rather than 42949672960, when that is exact. */
static void put_number(struct command_text *t, uint64_t n, bool size)
{
	static const char units[] = "KMGTP";
	char buf[24];
	unsigned u = 0;
	for (; size && n && !(n % 1024) && u < sizeof(units) - 1; u++)
		n /= 1024;
	snprintf(buf, sizeof(buf), "%" PRIu64, n);
	command_text_put(t, buf);
	if (u)
		command_text_char(t, units[u - 1]);
}

static void put_names(struct command_text *t, const char *pool, struct json_object *names)
{
	for (size_t i = 0; i < json_object_array_length(names); i++) {
		const char *name = json_object_get_string(json_object_array_get_idx(names, i));
		if (i)
			command_text_char(t, ' ');
		command_text_put(t, pool);
		command_text_char(t, '/');
		command_text_word(t, name ? name : "");
	}
}

/* One {key}; false when it is not there. */
static bool put_argument(struct command_text *t, const char *pool, const char *key,
			 struct json_object *args)
{
	struct json_object *v;
	size_t len = strlen(key);
	if (!strcmp(key, "pool")) {
		command_text_put(t, pool);
		return true;
	}
	if (!json_object_object_get_ex(args, *key == '?' ? key + 1 : key, &v) || !v)
		return false;
	if (*key == '?')
		return json_object_get_boolean(v);
	if (json_object_is_type(v, json_type_int))
		put_number(t, json_object_get_uint64(v),
			   len > 6 && !strcmp(key + len - 6, "_bytes"));
	else if (json_object_is_type(v, json_type_array))
		put_names(t, pool, v);
	else
		command_text_word(t, ctl_get_string(args, key) ? ctl_get_string(args, key) : "");
	return true;
}

static void expand(struct command_text *t, const char *form, const char *pool,
		   struct json_object *args)
{
	size_t group = 0; /* where it begins */
	bool there = true;
	for (; *form; form++) {
		char key[32];
		size_t n = 0;
		switch (*form) {
		case '[':
			group = t->len;
			there = true;
			break;
		case ']':
			t->len = there ? t->len : group;
			break;
		case '{':
			for (form++; *form != '}' && n + 1 < sizeof(key); form++)
				key[n++] = *form;
			key[n] = 0;
			there &= put_argument(t, pool, key, args);
			break;
		default:
			command_text_char(t, *form);
		}
	}
	t->buf[t->len] = 0;
}

bool history_text(const char *pool, const char *verb, struct json_object *args, char *buf,
		  size_t size)
{
	struct command_text t = {.buf = buf, .size = size};
	struct json_object *v;
	if (json_object_object_get_ex(args, "dry_run", &v) && json_object_get_boolean(v))
		return false;
	if (!strcmp(verb, "volume.check") &&
	    !(json_object_object_get_ex(args, "repair", &v) && json_object_get_boolean(v)))
		return false;
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(commands[i].verb, verb))
			continue;
		command_text_put(&t, "tarn ");
		expand(&t, commands[i].text, pool, args);
		return true;
	}
	return false;
}

struct record {
	struct pool *pool;
	uid_t uid;
	int result;
	const char *text;
};

static int record_co(void *arg)
{
	struct record *r = arg;
	return pool_history_add(r->pool, r->uid, r->result, r->text);
}

static void record(struct daemon *d, uid_t uid, int result, const char *text)
{
	struct record r = {d->pool, uid, result, text};
	int rc = hop_run(daemon_bg(d), record_co, &r, NULL, NULL);
	if (rc)
		log_warn("not recorded in the history: %s: %s", text, err_str(rc));
}

void history_record(struct request *q, const char *verb, int result)
{
	char text[COMMAND_TEXT_MAX];
	if (q->d->pool && !q->d->read_only &&
	    history_text(q->d->name, verb, q->args, text, sizeof(text)))
		record(q->d, q->uid, result, text);
}

void history_record_start(struct daemon *d, const char *text)
{
	record(d, getuid(), 0, text);
}
