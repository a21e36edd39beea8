/* verbs_snapshot: taking, listing and destroying snapshots. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "tools/ctl_proto.h"
#include "tools/names.h"
#include "tools/verbs.h"

#define TAKEN_MAX 64u /* given by name */
#define FULL_NAME (2 * VOL_NAME_MAX + 2)

static int name_check(struct request *q, const char *name)
{
	if (name && volume_name_valid(name) && strchr(name, '@'))
		return 0;
	return err_set(&q->e, -EINVAL, "%s: a snapshot is written VOLUME@NAME",
		       name ? name : "name");
}

/* All volumes, malloced. */
static int list_volumes(struct request *q, struct vol_info **ret_v, unsigned *ret_n)
{
	for (unsigned max = 64;;) {
		struct vol_info *v = calloc(max, sizeof(*v));
		if (!v)
			return err_set(&q->e, -ENOMEM, "out of memory");
		unsigned n = vol_list(q->d->pool, v, max);
		if (n <= max) {
			*ret_v = v;
			*ret_n = n;
			return 0;
		}
		free(v);
		max = n + 16;
	}
}

/* "VOLUME@part" of every volume, as one moment. */
static int create_all(struct request *q, const char *part)
{
	struct vol_info *v = NULL;
	unsigned n = 0;
	int r = list_volumes(q, &v, &n);
	if (r)
		return r;
	char(*full)[FULL_NAME] = calloc(n + 1, sizeof(*full));
	const char **names = calloc(n + 1, sizeof(*names));
	for (unsigned i = 0; full && names && !r && i < n; i++) {
		snprintf(full[i], sizeof(full[i]), "%s@%s", v[i].name, part);
		names[i] = full[i];
	}
	if (!full || !names)
		r = err_set(&q->e, -ENOMEM, "out of memory");
	else if (!n)
		r = err_set(&q->e, -ENOENT, "this pool has no volumes");
	else
		r = vol_snapshot_create(q->d->pool, names, n, &q->e);
	free(names);
	free(full);
	free(v);
	return r;
}

int verb_snapshot_create(struct request *q)
{
	const char *names[TAKEN_MAX], *all = NULL;
	struct json_object *a;
	int rc = arg_string(q, "all", ARG_OPTIONAL, VOL_NAME_MAX, &all);
	if (rc || all)
		return rc ? rc : create_all(q, all);
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

/* Of one volume or (NULL) all; malloced. */
static int list_snapshots(struct request *q, const char *volume, struct vol_snapshot_info **ret_s,
			  unsigned *ret_n)
{
	for (unsigned max = 64;;) {
		struct vol_snapshot_info *s = calloc(max, sizeof(*s));
		if (!s)
			return err_set(&q->e, -ENOMEM, "out of memory");
		unsigned n = vol_snapshot_list(q->d->pool, volume, s, max);
		if (n <= max) {
			*ret_s = s;
			*ret_n = n;
			return 0;
		}
		free(s);
		max = n + 16;
	}
}

static int volume_there(struct request *q, const char *name)
{
	struct vol_info *i = calloc(1, sizeof(*i));
	int r = i ? vol_info_find(q->d->pool, name, 0, i) : -ENOMEM;
	bool snapshot = !r && i->snapshot;
	free(i);
	if (snapshot)
		return err_set(&q->e, -EINVAL, "%s is a snapshot, and has none", name);
	return r ? err_set(&q->e, r, r == -ENOENT ? "no volume '%s' in this pool" : "%s: %s", name,
			   err_str(r))
		 : 0;
}

int verb_snapshot_list(struct request *q)
{
	const char *volume = NULL;
	struct vol_snapshot_info *s = NULL;
	unsigned n = 0;
	int r = 0;
	if (json_object_object_get_ex(q->args, "volume", NULL))
		r = arg_volume(q, "volume", &volume);
	if (!r && volume)
		r = volume_there(q, volume);
	if (!r)
		r = list_snapshots(q, volume, &s, &n);
	if (r)
		return r;
	q->result = json_object_new_array();
	for (unsigned i = 0; i < n; i++)
		json_object_array_add(q->result, snapshot_to_json(&s[i]));
	free(s);
	return 0;
}

/* One after the other; the first that is in use ends it. */
static int destroy_all(struct request *q, const char *part)
{
	struct vol_snapshot_info *s = NULL;
	unsigned n = 0, found = 0;
	int r = list_snapshots(q, NULL, &s, &n);
	if (r)
		return r;
	for (unsigned i = 0; !r && i < n; i++)
		if (!strcmp(strchr(s[i].name, '@') + 1, part)) {
			r = vol_snapshot_destroy(q->d->pool, s[i].name, &q->e);
			found++;
		}
	free(s);
	return r || found ? r
			  : err_set(&q->e, -ENOENT, "no volume of this pool has a snapshot '%s'",
				    part);
}

int verb_snapshot_destroy(struct request *q)
{
	const char *name = NULL, *all = NULL;
	int r = arg_string(q, "all", ARG_OPTIONAL, VOL_NAME_MAX, &all);
	if (r || all)
		return r ? r : destroy_all(q, all);
	r = arg_volume(q, "name", &name);
	if (!r)
		r = name_check(q, name);
	return r ? r : vol_snapshot_destroy(q->d->pool, name, &q->e);
}
