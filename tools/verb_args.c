/* verb_args: arguments of requests taken apart, text put into replies. Pure functions. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "tools/ctl_proto.h"
#include "tools/names.h"
#include "tools/verbs.h"

static int arg_get(struct request *q, const char *key, enum arg_need need, enum json_type type,
		   struct json_object **ret_v)
{
	*ret_v = NULL;
	if (!json_object_object_get_ex(q->args, key, ret_v) || !*ret_v) {
		*ret_v = NULL;
		return need == ARG_OPTIONAL ? 0 : err_set(&q->e, -EINVAL, "%s is missing", key);
	}
	if (!json_object_is_type(*ret_v, type))
		return err_set(&q->e, -EINVAL, "%s: not a %s", key, json_type_to_name(type));
	return 0;
}

int arg_string(struct request *q, const char *key, enum arg_need need, size_t max,
	       const char **ret_s)
{
	struct json_object *v;
	int r = arg_get(q, key, need, json_type_string, &v);
	if (r || !v)
		return r;
	const char *s = ctl_get_string(q->args, key);
	if (!s || !*s || strlen(s) > max)
		return err_set(&q->e, -EINVAL, "%s: empty, or longer than %zu bytes", key, max);
	*ret_s = s;
	return 0;
}

int arg_u64(struct request *q, const char *key, enum arg_need need, uint64_t min, uint64_t max,
	    uint64_t *ret_n)
{
	struct json_object *v;
	int r = arg_get(q, key, need, json_type_int, &v);
	if (r || !v)
		return r;
	uint64_t n = json_object_get_uint64(v);
	if (json_object_get_int64(v) < 0 || n < min || n > max)
		return err_set(&q->e, -EINVAL, "%s: out of range", key);
	*ret_n = n;
	return 0;
}

int arg_bool(struct request *q, const char *key, bool *ret_b)
{
	struct json_object *v;
	int r = arg_get(q, key, ARG_OPTIONAL, json_type_boolean, &v);
	if (!r && v)
		*ret_b = json_object_get_boolean(v);
	return r;
}

int arg_volume(struct request *q, const char *key, const char **ret_name)
{
	int r = arg_string(q, key, ARG_REQUIRED, VOL_NAME_MAX, ret_name);
	if (!r && !volume_name_valid(*ret_name))
		r = err_set(&q->e, -EINVAL,
			    "%s: names are letters, digits and _ - . +, "
			    "and start with a letter or digit",
			    key);
	return r;
}

void add_u64(struct json_object *o, const char *key, uint64_t n)
{
	json_object_object_add(o, key, json_object_new_uint64(n));
}

/* Length of the UTF-8 sequence at s, 0 when it is none. (Overlong forms are let through; json-c,
 * which reads this, checks no more than lead and following bytes either.) */
static unsigned utf8_len(const unsigned char *s)
{
	unsigned n = *s < 0x80	 ? 1
		     : *s < 0xc2 ? 0
		     : *s < 0xe0 ? 2
		     : *s < 0xf0 ? 3
		     : *s < 0xf5 ? 4
				 : 0;
	for (unsigned i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	return n;
}

/* Names and paths are bytes, JSON is UTF-8: replace what is not. */
static void utf8_clean(char *s, size_t len)
{
	unsigned char *u = (unsigned char *)s;
	for (size_t i = 0; i < len;) {
		unsigned n = u[i] ? utf8_len(u + i) : 0;
		if (!n || n > len - i) {
			u[i] = '?';
			n = 1;
		}
		i += n;
	}
}

void add_string(struct json_object *o, const char *key, const char *s)
{
	char *copy = strdup(s);
	if (copy) {
		utf8_clean(copy, strlen(copy));
		json_object_object_add(o, key, json_object_new_string(copy));
	}
	free(copy);
}

struct capped {
	size_t len, max;
	bool truncated;
	char text[];
};

static ssize_t capped_write(void *cookie, const char *buf, size_t size)
{
	struct capped *c = cookie;
	size_t room = c->max - c->len, n = size < room ? size : room;
	memcpy(c->text + c->len, buf, n);
	c->len += n;
	c->truncated |= n < size;
	return (ssize_t)size;
}

struct capped *capped_open(size_t max, FILE **ret_f)
{
	struct capped *c = malloc(sizeof(*c) + max + 1);
	if (!c)
		return NULL;
	*c = (struct capped){.max = max};
	*ret_f = fopencookie(c, "w", (cookie_io_functions_t){.write = capped_write});
	if (!*ret_f) {
		free(c);
		return NULL;
	}
	return c;
}

void capped_close(struct capped *c, FILE *f, struct json_object *o, const char *key)
{
	char flag[64];
	fclose(f);
	c->text[c->len] = 0;
	utf8_clean(c->text, c->len);
	json_object_object_add(o, key, json_object_new_string_len(c->text, (int)c->len));
	snprintf(flag, sizeof(flag), "%s_truncated", key);
	json_object_object_add(o, flag, json_object_new_boolean(c->truncated));
	free(c);
}
