#include "tools/progress.h"
#include <stdlib.h>
#include "tools/verbs.h"

/* Add a sample while something is under way, forget the rate when it is not. */
static void sample(struct rate *r, bool active, uint64_t done)
{
	if (active)
		rate_add(r, daemon_now_ms(), done);
	else
		rate_reset(r);
}

void progress_sample(struct daemon *d, const struct pool_status *s)
{
	struct pool_mover_status m;
	struct pool_trim_status t;
	struct pool_scrub_status *c = calloc(1, sizeof(*c));
	struct progress *p = &d->progress;
	if (!c)
		return;
	pool_mover_status_get(d->pool, &m);
	pool_scrub_status_get(d->pool, c);
	pool_trim_status_get(d->pool, &t);
	pthread_mutex_lock(&d->mutex);
	sample(&p->mover, m.active, m.done_bytes);
	sample(&p->scrub, c->running, c->done_bytes);
	sample(&p->trim, t.running, t.done_bytes);
	for (unsigned i = 0; i < s->ndevs; i++)
		sample(&p->resync[s->devs[i].id % POOL_DEVS_MAX], s->devs[i].state == DEV_RESYNC,
		       s->devs[i].resync_done_bytes);
	pthread_mutex_unlock(&d->mutex);
	free(c);
}

/* Rate and estimate as {PREFIXbytes_per_s, PREFIXseconds_left}; the estimate only when there is
 * one. */
static void rate_to_json(struct daemon *d, const struct rate *r, const char *prefix, uint64_t left,
			 struct json_object *o)
{
	char key[40];
	pthread_mutex_lock(&d->mutex);
	uint64_t per_second = rate_get(r), seconds = rate_seconds(r, left);
	pthread_mutex_unlock(&d->mutex);
	snprintf(key, sizeof(key), "%sbytes_per_s", prefix);
	add_u64(o, key, per_second);
	snprintf(key, sizeof(key), "%sseconds_left", prefix);
	if (left && seconds)
		add_u64(o, key, seconds);
}

static void add_bool(struct json_object *o, const char *key, bool b)
{
	json_object_object_add(o, key, json_object_new_boolean(b));
}

static struct json_object *mover_to_json(struct daemon *d)
{
	struct json_object *o = json_object_new_object();
	struct pool_mover_status m;
	pool_mover_status_get(d->pool, &m);
	add_bool(o, "active", m.active);
	add_bool(o, "rebalancing", m.rebalancing);
	add_u64(o, "done_bytes", m.done_bytes);
	add_u64(o, "left_bytes", m.left_bytes);
	rate_to_json(d, &d->progress.mover, "", m.left_bytes, o);
	return o;
}

static struct json_object *scrub_to_json(struct daemon *d, struct json_object *devs)
{
	struct json_object *o = json_object_new_object();
	struct pool_scrub_status *c = calloc(1, sizeof(*c));
	if (!c)
		return o;
	pool_scrub_status_get(d->pool, c);
	uint64_t left = c->total_bytes > c->done_bytes ? c->total_bytes - c->done_bytes : 0;
	add_bool(o, "running", c->running);
	add_bool(o, "complete", c->complete);
	add_u64(o, "started_ns", c->started_ns);
	add_u64(o, "ended_ns", c->ended_ns);
	add_u64(o, "done_bytes", c->done_bytes);
	add_u64(o, "total_bytes", c->total_bytes);
	add_u64(o, "repaired", c->repaired);
	add_u64(o, "unrepaired", c->unrepaired);
	rate_to_json(d, &d->progress.scrub, "", c->running ? left : 0, o);
	for (size_t i = 0; devs && i < json_object_array_length(devs); i++) {
		struct json_object *dev = json_object_array_get_idx(devs, i), *id;
		if (!json_object_object_get_ex(dev, "id", &id))
			continue;
		uint64_t n = json_object_get_uint64(id) % POOL_DEVS_MAX;
		add_u64(dev, "scrub_bytes", c->dev_bytes[n]);
		add_u64(dev, "scrub_errors", c->dev_errors[n]);
	}
	free(c);
	return o;
}

static struct json_object *trim_to_json(struct daemon *d)
{
	struct json_object *o = json_object_new_object();
	struct pool_trim_status t;
	pool_trim_status_get(d->pool, &t);
	add_bool(o, "running", t.running);
	add_bool(o, "complete", t.complete);
	add_u64(o, "started_ns", t.started_ns);
	add_u64(o, "ended_ns", t.ended_ns);
	add_u64(o, "done_bytes", t.done_bytes);
	add_u64(o, "total_bytes", t.total_bytes);
	add_u64(o, "discarded_bytes", t.discarded_bytes);
	add_u64(o, "devices_left_out", t.devs_left_out);
	rate_to_json(d, &d->progress.trim, "", t.running ? t.total_bytes - t.done_bytes : 0, o);
	return o;
}

void progress_to_json(struct daemon *d, struct json_object *o)
{
	struct json_object *devs = NULL;
	json_object_object_get_ex(o, "devices", &devs);
	json_object_object_add(o, "mover", mover_to_json(d));
	json_object_object_add(o, "scrub", scrub_to_json(d, devs));
	json_object_object_add(o, "trim", trim_to_json(d));
}

void progress_dev_to_json(struct daemon *d, const struct pool_dev_status *s, struct json_object *o)
{
	uint64_t left = s->resync_total_bytes > s->resync_done_bytes
				? s->resync_total_bytes - s->resync_done_bytes
				: 0;
	add_string(o, "class", s->class_name);
	add_bool(o, "spare", s->spare);
	add_bool(o, "taken", s->taken);
	add_bool(o, "evacuating", s->evacuating);
	add_bool(o, "shrinking", s->shrinking);
	rate_to_json(d, &d->progress.resync[s->id % POOL_DEVS_MAX], "resync_",
		     s->state == DEV_RESYNC ? left : 0, o);
}
