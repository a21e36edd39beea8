/* verbs_volume: create, list, status, set, resize, rename, destroy. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uuid/uuid.h>
#include "tools/ctl_proto.h"
#include "tools/hop.h"
#include "tools/sessions.h"
#include "tools/size_text.h"
#include "tools/verbs.h"

#define NAME_NOTE "volumes of a pool: `tarn volume list POOL`"

static int compression_parse(struct request *q, const char *text, enum vol_compression *ret_c)
{
	if (!strcmp(text, "lz4"))
		*ret_c = VOL_COMPRESS_LZ4;
	else if (!strcmp(text, "off"))
		*ret_c = VOL_COMPRESS_OFF;
	else
		return err_set(&q->e, -EINVAL, "compression=%.32s: known are lz4 and off", text);
	return 0;
}

int verb_volume_create(struct request *q)
{
	const char *name = NULL, *type = NULL, *compression = "lz4", *class = "";
	uint64_t copies = 2, size = 0, uid = q->d->uid;
	struct vol_options o = {0};
	int r = arg_volume(q, "name", &name);
	if (!r)
		r = arg_string(q, "type", ARG_REQUIRED, 8, &type);
	if (!r)
		r = arg_string(q, "compression", ARG_OPTIONAL, 32, &compression);
	if (!r)
		r = arg_u64(q, "copies", ARG_OPTIONAL, 1, 4, &copies);
	if (!r)
		r = arg_u64(q, "size_bytes", ARG_OPTIONAL, 0, VOL_OBJECT_BYTES_MAX, &size);
	if (!r)
		r = arg_u64(q, "owner_uid", ARG_OPTIONAL, 0, UINT32_MAX - 1, &uid);
	if (!r)
		r = compression_parse(q, compression, &o.compression);
	if (!r)
		r = arg_string(q, "class", ARG_OPTIONAL, VOL_CLASS_MAX, &class);
	if (r)
		return r;
	if (!strcmp(type, "fs"))
		o.type = VOL_TYPE_FS;
	else if (!strcmp(type, "block"))
		o.type = VOL_TYPE_BLOCK;
	else
		return err_set(&q->e, -EINVAL, "type %s: known are fs and block", type);
	if (o.type == VOL_TYPE_BLOCK && !size)
		return err_set(&q->e, -EINVAL, "a block volume needs a size");
	o.copies = (uint8_t)copies;
	o.size_bytes = size;
	o.owner_uid = (uint32_t)uid;
	snprintf(o.class_name, sizeof(o.class_name), "%s", class);
	return vol_create(q->d->pool, name, &o, &q->e);
}

/* All volumes; the caller frees. */
static struct vol_info *volumes_get(struct request *q, unsigned *ret_n)
{
	unsigned max = 64;
	for (;;) {
		struct vol_info *a = calloc(max, sizeof(*a));
		if (!a) {
			err_set(&q->e, -ENOMEM, "out of memory");
			return NULL;
		}
		unsigned n = vol_list(q->d->pool, a, max);
		if (n <= max) {
			*ret_n = n;
			return a;
		}
		free(a);
		max = n + 16;
	}
}

static struct json_object *volume_to_json(const struct vol_info *v)
{
	struct json_object *o = json_object_new_object();
	char uuid[37];
	uuid_unparse_lower(v->uuid, uuid);
	add_string(o, "name", v->name);
	add_u64(o, "id", v->id);
	add_string(o, "uuid", uuid);
	add_string(o, "type", v->type == VOL_TYPE_FS ? "fs" : "block");
	add_string(o, "compression", v->compression == VOL_COMPRESS_LZ4 ? "lz4" : "off");
	add_u64(o, "copies", v->copies);
	add_string(o, "class", v->class_name);
	add_u64(o, "size_bytes", v->size_bytes);
	if (v->type == VOL_TYPE_FS)
		add_u64(o, "quota_bytes", v->size_bytes);
	add_u64(o, "used_bytes", v->used_bytes);
	add_u64(o, "logical_bytes", v->logical_bytes);
	add_u64(o, "reserved_bytes", v->reserved_bytes);
	add_u64(o, "reservation_bytes", v->reservation_bytes);
	add_u64(o, "delta_bytes", v->delta_bytes);
	add_u64(o, "available_bytes", v->available_bytes);
	add_u64(o, "created_ns", v->created_ns);
	add_u64(o, "owner_uid", v->owner_uid);
	json_object_object_add(o, "snapshot", json_object_new_boolean(v->snapshot));
	add_string(o, "health", v->damaged ? "damaged" : "ok");
	json_object_object_add(o, "converting", json_object_new_boolean(v->converting));
	json_object_object_add(o, "open", json_object_new_boolean(v->open));
	json_object_object_add(o, "destroying", json_object_new_boolean(v->destroying));
	return o;
}

/* Add "mountpoint" where a tree is mounted. */
static void mountpoints_add(struct request *q, struct json_object *volumes)
{
	struct json_object *mounts = sessions_to_json(q->d);
	for (size_t i = 0; i < json_object_array_length(volumes); i++) {
		struct json_object *v = json_object_array_get_idx(volumes, i);
		for (size_t k = 0; k < json_object_array_length(mounts); k++) {
			struct json_object *m = json_object_array_get_idx(mounts, k);
			const char *slash = strchr(ctl_get_string(m, "source"), '/');
			if (slash && !strcmp(slash + 1, ctl_get_string(v, "name")))
				add_string(v, "mountpoint", ctl_get_string(m, "mountpoint"));
		}
	}
	json_object_put(mounts);
}

/* The volumes called name (NULL: all) as an array. */
static struct json_object *volumes_to_json(struct request *q, const char *name)
{
	unsigned n;
	struct vol_info *a = volumes_get(q, &n);
	if (!a)
		return NULL;
	struct json_object *list = json_object_new_array();
	for (unsigned i = 0; i < n; i++)
		if (!name || !strcmp(a[i].name, name))
			json_object_array_add(list, volume_to_json(&a[i]));
	free(a);
	mountpoints_add(q, list);
	return list;
}

int verb_volume_list(struct request *q)
{
	q->result = volumes_to_json(q, NULL);
	return q->result ? 0 : q->e.code;
}

/* How much of a volume is stored as its policy says; left out when it cannot be told. */
static void compliance_to_json(struct request *q, const char *name)
{
	struct vol *v;
	struct vol_compliance c;
	if (vol_open(q->d->pool, name, &v, NULL))
		return;
	if (!vol_compliance_get(v, &c)) {
		struct json_object *o = json_object_new_object();
		add_u64(o, "compliant_bytes", c.compliant_bytes);
		add_u64(o, "degraded_bytes", c.degraded_bytes);
		add_u64(o, "other_policy_bytes", c.other_policy_bytes);
		add_u64(o, "needed_bytes", c.needed_bytes);
		json_object_object_add(q->result, "compliance", o);
	}
	vol_close(v);
}

int verb_volume_status(struct request *q)
{
	const char *name = NULL;
	bool compliance = false;
	int r = arg_volume(q, "name", &name);
	if (!r)
		r = arg_bool(q, "compliance", &compliance);
	if (r)
		return r;
	struct json_object *list = volumes_to_json(q, name);
	if (!list)
		return q->e.code;
	if (json_object_array_length(list))
		q->result = json_object_get(json_object_array_get_idx(list, 0));
	else
		r = err_set(&q->e, -ENOENT, "pool %s has no volume %s; " NAME_NOTE, q->d->name,
			    name);
	json_object_put(list);
	if (!r && compliance)
		compliance_to_json(q, name);
	return r;
}

/* The result says whether there is older data to be rewritten. */
static int set_copies(struct request *q, const char *name)
{
	const char *value = NULL;
	uint64_t n = 0;
	struct vol *v;
	struct vol_info i;
	int r = arg_string(q, "value", ARG_REQUIRED, 32, &value);
	if (!r && number_parse(value, 1, 4, &n))
		r = err_set(&q->e, -EINVAL, "copies=%s: 1 to 4", value);
	if (!r)
		r = vol_open(q->d->pool, name, &v, &q->e);
	if (r)
		return r;
	vol_info_get(v, &i);
	vol_close(v);
	r = vol_set_copies(q->d->pool, name, (uint8_t)n, &q->e);
	if (r)
		return r;
	q->result = json_object_new_object();
	json_object_object_add(q->result, "converting",
			       json_object_new_boolean(i.copies != n && i.logical_bytes));
	return 0;
}

static int set_class(struct request *q, const char *name)
{
	const char *value = "";
	struct vol *v;
	struct vol_info i;
	int r = arg_string(q, "value", ARG_OPTIONAL, VOL_CLASS_MAX, &value);
	if (!r)
		r = vol_open(q->d->pool, name, &v, &q->e);
	if (r)
		return r;
	vol_info_get(v, &i);
	vol_close(v);
	r = vol_set_class(q->d->pool, name, value, &q->e);
	if (r)
		return r;
	q->result = json_object_new_object();
	json_object_object_add(
		q->result, "converting",
		json_object_new_boolean(strcmp(i.class_name, value) && i.logical_bytes));
	return 0;
}

/* The most data a file system may hold. */
static int set_quota(struct request *q, const char *name)
{
	const char *value = NULL;
	uint64_t n = 0;
	struct vol *v;
	struct vol_info i;
	int r = arg_string(q, "value", ARG_REQUIRED, 32, &value);
	if (!r && (size_parse(value, &n) || n % 4096))
		r = err_set(&q->e, -EINVAL,
			    "quota=%s: a size like 40G (a multiple of 4K) is needed; 0 ends it",
			    value);
	if (!r)
		r = vol_open(q->d->pool, name, &v, &q->e);
	if (r)
		return r;
	vol_info_get(v, &i);
	vol_close(v);
	if (i.type != VOL_TYPE_FS)
		return err_set(&q->e, -EINVAL,
			       "%s/%s is a block volume: it has a size, not a quota", q->d->name,
			       name);
	return vol_resize(q->d->pool, name, n, true, &q->e);
}

int verb_volume_set(struct request *q)
{
	const char *name = NULL, *key = NULL, *value = NULL;
	int r = arg_volume(q, "name", &name);
	if (!r)
		r = arg_string(q, "key", ARG_REQUIRED, 32, &key);
	if (r)
		return r;
	if (!strcmp(key, "compression")) {
		enum vol_compression c = VOL_COMPRESS_OFF;
		r = arg_string(q, "value", ARG_REQUIRED, 32, &value);
		if (!r)
			r = compression_parse(q, value, &c);
		return r ? r : vol_set_compression(q->d->pool, name, c, &q->e);
	}
	if (!strcmp(key, "owner")) {
		uint64_t uid = 0;
		r = arg_u64(q, "value", ARG_REQUIRED, 0, UINT32_MAX - 1, &uid);
		return r ? r : vol_set_owner(q->d->pool, name, (uint32_t)uid, &q->e);
	}
	if (!strcmp(key, "copies"))
		return set_copies(q, name);
	if (!strcmp(key, "class"))
		return set_class(q, name);
	if (!strcmp(key, "quota"))
		return set_quota(q, name);
	if (!strcmp(key, "reservation")) {
		uint64_t n = 0;
		r = arg_string(q, "value", ARG_REQUIRED, 32, &value);
		if (!r && (size_parse(value, &n) || n % 4096))
			r = err_set(&q->e, -EINVAL,
				    "reservation=%s: a size like 40G (a multiple "
				    "of 4K) is needed; 0 ends it",
				    value);
		return r ? r : vol_set_reservation(q->d->pool, name, n, &q->e);
	}
	return err_set(&q->e, -EINVAL,
		       "%s: no such property; known are class, compression, copies, "
		       "owner, quota, reservation, size",
		       key);
}

int verb_volume_resize(struct request *q)
{
	const char *name = NULL;
	uint64_t size = 0;
	bool shrink = false;
	int r = arg_volume(q, "name", &name);
	if (!r)
		r = arg_u64(q, "size_bytes", ARG_REQUIRED, 0, VOL_OBJECT_BYTES_MAX, &size);
	if (!r)
		r = arg_bool(q, "allow_shrink", &shrink);
	return r ? r : vol_resize(q->d->pool, name, size, shrink, &q->e);
}

/* Refuse what would pull a mounted tree from under its users. Blocking. */
static int refuse_mounted(struct request *q, const char *name)
{
	char where[400];
	if (!session_of_volume(q->d, name, where, sizeof(where)))
		return 0;
	return err_set(&q->e, ERR_IN_USE, "in use: %s; `tarn umount` it first", where);
}

struct volume_call {
	struct request *q;
	const char *name, *to;
	bool now;
};

static int destroy_co(void *arg)
{
	struct volume_call *c = arg;
	if (c->now)
		return vol_destroy(c->q->d->pool, c->name, &c->q->e);
	int r = vol_trash(c->q->d->pool, c->name, &c->q->e);
	if (!r)
		c->q->result = trashed_newest(c->q, c->name);
	return r;
}

int verb_volume_destroy(struct request *q)
{
	struct volume_call c = {.q = q};
	int r = arg_volume(q, "name", &c.name);
	if (!r)
		r = arg_bool(q, "now", &c.now);
	if (!r)
		r = refuse_mounted(q, c.name);
	return r ? r : hop_run(daemon_bg(q->d), destroy_co, &c, NULL, NULL);
}

static int rename_co(void *arg)
{
	struct volume_call *c = arg;
	return vol_rename(c->q->d->pool, c->name, c->to, &c->q->e);
}

int verb_volume_rename(struct request *q)
{
	struct volume_call c = {.q = q};
	int r = arg_volume(q, "name", &c.name);
	if (!r)
		r = arg_volume(q, "to", &c.to);
	if (!r)
		r = refuse_mounted(q, c.name);
	return r ? r : hop_run(daemon_bg(q->d), rename_co, &c, NULL, NULL);
}
