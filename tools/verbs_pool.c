/* verbs_pool: status, events, dump, export, devices off and on. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <uuid/uuid.h>
#include "tools/dump_pool.h"
#include "tools/history.h"
#include "tools/hop.h"
#include "tools/known_devices.h"
#include "tools/progress.h"
#include "tools/sessions.h"
#include "tools/size_text.h"
#include "tools/verbs.h"

#define DUMP_TEXT_MAX (4u << 20)
#define EVENTS_MAX    256u

static struct json_object *dev_to_json(struct daemon *d, const struct pool_dev_status *s)
{
	struct json_object *o = json_object_new_object();
	add_u64(o, "id", s->id);
	add_string(o, "path", s->path);
	add_string(o, "domain", s->domain);
	add_string(o, "state", dev_state_name(s->state));
	if (s->lost_ns)
		add_u64(o, "lost_ns", s->lost_ns);
	add_u64(o, "size_bytes", s->size_bytes);
	add_u64(o, "used_bytes", s->used_bytes);
	add_u64(o, "read_bytes", s->read_bytes);
	add_u64(o, "write_bytes", s->write_bytes);
	add_u64(o, "read_errors", s->read_errors);
	add_u64(o, "write_errors", s->write_errors);
	add_u64(o, "checksum_errors", s->checksum_errors);
	add_u64(o, "repaired", s->repaired);
	add_u64(o, "stale_since_txn", s->stale_since_txn);
	add_u64(o, "resync_done_bytes", s->resync_done_bytes);
	add_u64(o, "resync_total_bytes", s->resync_total_bytes);
	json_object_object_add(o, "discards", json_object_new_boolean(s->discards));
	add_u64(o, "discarded_bytes", s->discarded_bytes);
	progress_dev_to_json(d, s, o);
	return o;
}

static struct json_object *status_to_json(struct daemon *d, const struct pool_status *s)
{
	struct json_object *o = json_object_new_object(), *devs = json_object_new_array();
	char uuid[37];
	uuid_unparse_lower(s->uuid, uuid);
	add_string(o, "name", s->name);
	add_string(o, "uuid", uuid);
	add_string(o, "health", s->health);
	json_object_object_add(o, "read_only", json_object_new_boolean(d->read_only));
	add_u64(o, "txn", s->txn);
	add_u64(o, "chunk_bytes", s->chunk_bytes);
	add_u64(o, "chunks", s->chunks);
	add_u64(o, "raw_bytes", s->raw_bytes);
	add_u64(o, "raw_used_bytes", s->raw_used_bytes);
	add_u64(o, "raw_free_bytes", s->raw_free_bytes);
	add_u64(o, "meta_bytes", s->meta_bytes);
	add_u64(o, "delta_bytes", s->delta_bytes);
	add_u64(o, "delta_limit_bytes", s->delta_limit_bytes);
	add_u64(o, "cache_bytes", s->cache_bytes);
	add_u64(o, "data_cache_bytes", s->data_cache_bytes);
	add_u64(o, "data_cache_hits", s->data_cache_hits);
	add_u64(o, "data_cache_misses", s->data_cache_misses);
	add_u64(o, "commits", s->commits);
	add_u64(o, "commit_begun_ns", s->commit_begun_ns);
	add_u64(o, "commit_ended_ns", s->commit_ended_ns);
	add_u64(o, "commit_gate_ns", s->commit_gate_ns);
	add_u64(o, "log_writes", s->log_writes);
	add_u64(o, "log_bytes", s->log_bytes);
	add_u64(o, "user_write_bytes", s->user_write_bytes);
	add_u64(o, "dev_write_bytes", s->dev_write_bytes);
	add_u64(o, "volumes", vol_list(d->pool, NULL, 0));
	add_u64(o, "trashed", vol_trash_list(d->pool, NULL, 0));
	if (pool_spare_after(d->pool) != SPARE_NEVER)
		add_u64(o, "spare_after_s", pool_spare_after(d->pool));
	for (unsigned i = 0; i < s->ndevs && i < POOL_DEVS_MAX; i++)
		json_object_array_add(devs, dev_to_json(d, &s->devs[i]));
	json_object_object_add(o, "devices", devs);
	progress_to_json(d, o);
	return o;
}

struct forecast_call {
	struct request *q;
	struct pool_forecast f;
};

static int forecast_co(void *arg)
{
	struct forecast_call *c = arg;
	return pool_forecast_get(c->q->d->pool, &c->f);
}

static void forecast_to_json(struct request *q)
{
	struct forecast_call *c = calloc(1, sizeof(*c));
	if (!c)
		return;
	c->q = q;
	if (!hop_run(daemon_bg(q->d), forecast_co, c, NULL, NULL) && c->f.since_ns) {
		struct json_object *o = json_object_new_object(), *grown = json_object_new_array();
		add_u64(o, "since_ns", c->f.since_ns);
		add_u64(o, "full_ns", c->f.full_ns);
		json_object_object_add(o, "grown_bytes", json_object_new_int64(c->f.grown_bytes));
		for (unsigned i = 0; i < POOL_FORECAST_VOLUMES && c->f.vol[i].bytes; i++) {
			struct json_object *v = json_object_new_object();
			add_string(v, "name", c->f.vol[i].name);
			add_u64(v, "grown_bytes", c->f.vol[i].bytes);
			json_object_array_add(grown, v);
		}
		json_object_object_add(o, "volumes", grown);
		json_object_object_add(q->result, "forecast", o);
	}
	free(c);
}

int verb_pool_status(struct request *q)
{
	bool forecast = false;
	int r = arg_bool(q, "forecast", &forecast);
	if (r)
		return r;
	struct pool_status *s = calloc(1, sizeof(*s));
	if (!s)
		return err_set(&q->e, -ENOMEM, "out of memory");
	pool_status_get(q->d->pool, s);
	known_devices_sync(q->d, s); /* who saw a device leave may rely on the state file */
	progress_sample(q->d, s);
	q->result = status_to_json(q->d, s);
	json_object_object_add(q->result, "mounts", sessions_to_json(q->d));
	if (forecast)
		forecast_to_json(q);
	free(s);
	return 0;
}

int verb_pool_events(struct request *q)
{
	uint64_t since = 0;
	int r = arg_u64(q, "since", ARG_OPTIONAL, 0, INT64_MAX, &since);
	if (r)
		return r;
	struct pool_event *ev = calloc(EVENTS_MAX, sizeof(*ev));
	if (!ev)
		return err_set(&q->e, -ENOMEM, "out of memory");
	unsigned n = pool_events(q->d->pool, since, ev, EVENTS_MAX);
	q->result = json_object_new_array();
	for (unsigned i = 0; i < n && i < EVENTS_MAX; i++) {
		struct json_object *o = json_object_new_object();
		add_u64(o, "seq", ev[i].seq);
		add_u64(o, "wall_ns", ev[i].wall_ns);
		add_string(o, "kind", ev[i].kind);
		add_string(o, "text", ev[i].text);
		json_object_array_add(q->result, o);
	}
	free(ev);
	return 0;
}

int verb_pool_dump(struct request *q)
{
	const char *what = NULL, *arg = NULL;
	int r = arg_string(q, "what", ARG_REQUIRED, 16, &what);
	if (!r)
		r = arg_string(q, "arg", ARG_OPTIONAL, 128, &arg);
	if (r)
		return r;
	FILE *f;
	struct capped *c = capped_open(DUMP_TEXT_MAX, &f);
	if (!c)
		return err_set(&q->e, -ENOMEM, "out of memory");
	r = dump_pool(q->d->pool, what, arg, f, &q->e);
	q->result = json_object_new_object();
	capped_close(c, f, q->result, "text");
	return r;
}

/* Afterwards there is no pool to record it in. */
static void export_record(void *arg)
{
	history_record(arg, "pool.export", 0);
}

int verb_pool_export(struct request *q)
{
	bool force = false;
	int r = arg_bool(q, "force", &force);
	return r ? r : daemon_export(q->d, force, export_record, q, &q->e);
}

static const char *last_part(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

int device_find(struct request *q, const char *name, struct pool_dev_status *ret_s)
{
	struct pool_status *s = calloc(1, sizeof(*s));
	if (!s)
		return err_set(&q->e, -ENOMEM, "out of memory");
	pool_status_get(q->d->pool, s);
	uint64_t id;
	bool by_id = !number_parse(name, 0, UINT32_MAX, &id);
	unsigned hits = 0;
	for (unsigned i = 0; i < s->ndevs && i < POOL_DEVS_MAX; i++) {
		const struct pool_dev_status *d = &s->devs[i];
		if (by_id ? d->id == id : !strcmp(d->path, name)) {
			*ret_s = *d;
			hits = 1;
			break;
		}
		if (!by_id && !strcmp(last_part(d->path), name)) {
			*ret_s = *d;
			hits++;
		}
	}
	free(s);
	if (hits == 1)
		return 0;
	return err_set(&q->e, -ENOENT,
		       "%.200s: %s device of pool %s; `tarn pool status %s` lists them", name,
		       hits ? "more than one" : "no", q->d->name, q->d->name);
}

int verb_pool_offline(struct request *q)
{
	const char *name = NULL;
	struct pool_dev_status s;
	int r = arg_string(q, "device", ARG_REQUIRED, 4095, &name);
	if (!r)
		r = device_find(q, name, &s);
	return r ? r : pool_dev_offline(q->d->pool, s.id, &q->e);
}

struct online_call {
	struct request *q;
	const char *name;
	char path[sizeof(((struct pool_dev_status *)0)->path)];
	struct dev_backend *b;
};

/* The path of a device that was named otherwise. One that failed may still be open here, and nobody
 * opens a device twice. */
static int online_find_co(void *arg)
{
	struct online_call *c = arg;
	struct pool_dev_status s;
	int r = device_find(c->q, c->name, &s);
	if (!r) {
		memcpy(c->path, s.path, sizeof(c->path));
		pool_dev_close_failed(c->q->d->pool, s.id, true);
	}
	return r;
}

static int online_co(void *arg)
{
	struct online_call *c = arg;
	return pool_dev_online(c->q->d->pool, c->b, &c->q->e);
}

int verb_pool_online(struct request *q)
{
	struct online_call c = {.q = q};
	int r = arg_string(q, "device", ARG_REQUIRED, 4095, &c.name);
	if (r)
		return r;
	r = hop_run(daemon_bg(q->d), online_find_co, &c, NULL, NULL);
	if (!r) {
		c.name = c.path;
	} else if (*c.name == '/') { /* a member may come back at another path */
		r = 0;
		memset(&q->e, 0, sizeof(q->e));
	}
	if (!r)
		r = dev_file_open(c.name, 0, &c.b, &q->e);
	if (r)
		return r;
	r = hop_run(daemon_bg(q->d), online_co, &c, NULL, NULL);
	if (!r)
		known_devices_add(q->d, c.name);
	return r;
}
