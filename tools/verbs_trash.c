/* verbs_trash: what was destroyed and can still come back; settings and history of the pool. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "tools/ctl_proto.h"
#include "tools/size_text.h"
#include "tools/verbs.h"

#define HISTORY_PER_REPLY 500u

static int oldest_first(const void *a, const void *b)
{
	const struct vol_trash_info *x = a, *y = b;
	return (x->trashed_ns > y->trashed_ns) - (x->trashed_ns < y->trashed_ns);
}

/* All of the trash, oldest first; the caller frees. */
static struct vol_trash_info *trash_get(struct request *q, unsigned *ret_n)
{
	unsigned max = 64;
	for (;;) {
		struct vol_trash_info *a = calloc(max, sizeof(*a));
		if (!a) {
			err_set(&q->e, -ENOMEM, "out of memory");
			return NULL;
		}
		unsigned n = vol_trash_list(q->d->pool, a, max);
		if (n <= max) {
			qsort(a, n, sizeof(*a), oldest_first);
			*ret_n = n;
			return a;
		}
		free(a);
		max = n + 16;
	}
}

static struct json_object *trashed_to_json(const struct vol_trash_info *i)
{
	struct json_object *o = json_object_new_object();
	add_string(o, "name", i->name);
	add_u64(o, "id", i->id);
	add_string(o, "type", i->type == VOL_TYPE_FS ? "fs" : "block");
	add_u64(o, "used_bytes", i->used_bytes);
	add_u64(o, "trashed_ns", i->trashed_ns);
	add_u64(o, "expires_ns", i->expires_ns);
	return o;
}

struct json_object *trashed_newest(struct request *q, const char *name)
{
	unsigned n;
	struct json_object *o = NULL;
	struct vol_trash_info *a = trash_get(q, &n);
	for (; a && n && !o; n--)
		if (!strcmp(a[n - 1].name, name))
			o = trashed_to_json(&a[n - 1]);
	free(a);
	return o;
}

int verb_trash_list(struct request *q)
{
	unsigned n;
	struct vol_trash_info *a = trash_get(q, &n);
	if (!a)
		return q->e.code;
	q->result = json_object_new_array();
	for (unsigned i = 0; i < n; i++)
		json_object_array_add(q->result, trashed_to_json(&a[i]));
	free(a);
	return 0;
}

/* Number and name, when both are given, must be those of one volume in the trash. */
static int trash_id_check(struct request *q, uint64_t id, const char *name)
{
	unsigned n;
	bool found = false;
	struct vol_trash_info *a = trash_get(q, &n);
	if (!a)
		return q->e.code;
	for (unsigned i = 0; i < n; i++)
		found |= a[i].id == id && (!name || !strcmp(a[i].name, name));
	free(a);
	if (found)
		return 0;
	return err_set(&q->e, -ENOENT,
		       "the trash has no volume %s%swith number %llu; "
		       "`tarn trash list %s` shows what is there",
		       name ? name : "", name ? " " : "", (unsigned long long)id, q->d->name);
}

int verb_trash_restore(struct request *q)
{
	const char *name = NULL, *to = NULL;
	uint64_t id = 0;
	int r = arg_volume(q, "name", &name);
	if (!r)
		r = arg_u64(q, "id", ARG_OPTIONAL, 1, INT64_MAX, &id);
	if (!r && json_object_object_get_ex(q->args, "to", NULL))
		r = arg_volume(q, "to", &to);
	if (!r && id)
		r = trash_id_check(q, id, name);
	return r ? r : vol_trash_restore(q->d->pool, name, id, to, &q->e);
}

int verb_trash_empty(struct request *q)
{
	const char *name = NULL;
	uint64_t id = 0;
	unsigned count = 0;
	int r = 0;
	if (json_object_object_get_ex(q->args, "name", NULL))
		r = arg_volume(q, "name", &name);
	if (!r)
		r = arg_u64(q, "id", ARG_OPTIONAL, 1, INT64_MAX, &id);
	if (!r && id)
		r = trash_id_check(q, id, name);
	if (!r)
		r = vol_trash_empty(q->d->pool, name, id, &count, &q->e);
	if (r)
		return r;
	q->result = json_object_new_object();
	add_u64(q->result, "count", count);
	return 0;
}

/* ---- settings ---- */

static int set_spare_after(struct request *q, const char *value)
{
	uint64_t seconds = 0;
	if (strcmp(value, "never") && duration_parse(value, &seconds))
		return err_set(&q->e, -EINVAL,
			       "spare-after=%s: a time like 90s, 10m or 2h is needed, at most "
			       "3650d, or never",
			       value);
	return pool_set_spare_after(q->d->pool, seconds);
}

static int set_discard(struct request *q, const char *value)
{
	if (strcmp(value, "on") && strcmp(value, "off"))
		return err_set(&q->e, -EINVAL, "discard=%s: on or off is needed", value);
	return pool_set_discard(q->d->pool, !strcmp(value, "on"));
}

int verb_pool_set(struct request *q)
{
	const char *key = NULL, *value = NULL;
	uint64_t seconds;
	int r = arg_string(q, "key", ARG_REQUIRED, 32, &key);
	if (!r)
		r = arg_string(q, "value", ARG_REQUIRED, 64, &value);
	if (r)
		return r;
	if (!strcmp(key, "spare-after"))
		return set_spare_after(q, value);
	if (!strcmp(key, "discard"))
		return set_discard(q, value);
	if (strcmp(key, "trash-retention"))
		return err_set(&q->e, -EINVAL,
			       "%s: no such property; known are discard, spare-after, "
			       "trash-retention",
			       key);
	if (duration_parse(value, &seconds))
		return err_set(&q->e, -EINVAL,
			       "trash-retention=%s: a time like 90s, 30m, 24h or "
			       "7d is needed, at most 3650d",
			       value);
	return pool_set_trash_retention(q->d->pool, seconds);
}

/* ---- history ---- */

int verb_pool_history(struct request *q)
{
	uint64_t seq = 0;
	int r = arg_u64(q, "after", ARG_OPTIONAL, 0, INT64_MAX, &seq);
	struct pool_history_entry *h = calloc(1, sizeof(*h));
	if (!h)
		return err_set(&q->e, -ENOMEM, "out of memory");
	q->result = json_object_new_array();
	for (unsigned i = 0; !r && i < HISTORY_PER_REPLY; i++) {
		r = pool_history_next(q->d->pool, seq, h);
		if (r)
			break;
		struct json_object *o = json_object_new_object();
		seq = h->seq;
		add_u64(o, "seq", h->seq);
		add_u64(o, "wall_ns", h->wall_ns);
		add_u64(o, "uid", h->uid);
		add_string(o, "result", h->result ? ctl_code_name(h->result) : "ok");
		add_string(o, "command", h->text);
		json_object_array_add(q->result, o);
	}
	free(h);
	return r == -ENOENT ? 0 : r;
}
