/* verbs_snapshot: taking, listing and destroying snapshots. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "tools/ctl_proto.h"
#include "tools/names.h"
#include "tools/verbs.h"

#define TAKEN_MAX 64u /* in one moment */

static int name_check(struct request *q, const char *name)
{
	if (name && volume_name_valid(name) && strchr(name, '@'))
		return 0;
	return err_set(&q->e, -EINVAL, "%s: a snapshot is written VOLUME@NAME",
		       name ? name : "name");
}

int verb_snapshot_create(struct request *q)
{
	const char *names[TAKEN_MAX];
	struct json_object *a;
	if (!json_object_object_get_ex(q->args, "names", &a) ||
	    !json_object_is_type(a, json_type_array) || !json_object_array_length(a) ||
	    json_object_array_length(a) > TAKEN_MAX)
		return err_set(&q->e, -EINVAL, "names: 1 to %u names are needed", TAKEN_MAX);
	unsigned n = (unsigned)json_object_array_length(a);
	for (unsigned i = 0; i < n; i++) {
		names[i] = json_object_get_string(json_object_array_get_idx(a, i));
		int r = name_check(q, names[i]);
		if (r)
			return r;
	}
	return vol_snapshot_create(q->d->pool, names, n, &q->e);
}

static struct json_object *snapshot_to_json(const struct vol_snapshot_info *i)
{
	struct json_object *o = json_object_new_object();
	add_string(o, "name", i->name);
	add_u64(o, "id", i->id);
	add_u64(o, "created_ns", i->created_ns);
	add_u64(o, "txn", i->txn);
	add_u64(o, "used_bytes", i->used_bytes);
	add_u64(o, "logical_bytes", i->logical_bytes);
	json_object_object_add(o, "open", json_object_new_boolean(i->open));
	return o;
}

int verb_snapshot_list(struct request *q)
{
	const char *volume = NULL;
	unsigned max = 64, n;
	int r = 0;
	if (json_object_object_get_ex(q->args, "volume", NULL))
		r = arg_volume(q, "volume", &volume);
	if (r)
		return r;
	for (;;) {
		struct vol_snapshot_info *a = calloc(max, sizeof(*a));
		if (!a)
			return err_set(&q->e, -ENOMEM, "out of memory");
		n = vol_snapshot_list(q->d->pool, volume, a, max);
		if (n <= max) {
			q->result = json_object_new_array();
			for (unsigned i = 0; i < n; i++)
				json_object_array_add(q->result, snapshot_to_json(&a[i]));
		}
		free(a);
		if (n <= max)
			return 0;
		max = n + 16;
	}
}

int verb_snapshot_destroy(struct request *q)
{
	const char *name = NULL;
	int r = arg_volume(q, "name", &name);
	if (!r)
		r = name_check(q, name);
	return r ? r : vol_snapshot_destroy(q->d->pool, name, &q->e);
}
