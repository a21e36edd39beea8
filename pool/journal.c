#include "pool/journal.h"
#include <inttypes.h>
#include <string.h>
#include "pool/chunk.h"
#include "pool/event.h"
#include "pool/spare.h"
#include "pool/txn.h"
#include "pool/vol_record.h"

#define HOUR_NS	       3600000000000ull
#define CENTURY_NS     (100 * 365 * 24 * HOUR_NS)
#define SAMPLE_VOLUMES 32u

struct settings_disk {
	uint8_t version, no_discard, pad[2];
	le32 spare_after_s;
	le64 retention_s;
};
struct history_disk {
	le64 wall_ns;
	le32 uid;
	le32 result;
	char text[];
};
struct use_disk {
	le64 used, total;
	struct {
		le64 id, used;
	} vol[];
};

/* ---- putting items into the root tree ---- */

struct put {
	struct key k;
	const void *value;
	uint16_t len;
	uint64_t kept; /* so many of its kind */
	journal_fn *fn; /* NULL or what becomes durable with it */
	void *arg;
};

/* A frozen transaction whose superblock is still to be written: the device table goes into that as
 * it is then. */
static bool commit_writes(const struct pool *p)
{
	return p->open->nr > p->durable_txn + 1 && p->commit_running;
}

/* The oldest of its kind, if that is to go; else k itself. Numbers may be missing. */
static int find_oldest(struct pool *p, const struct put *pu, struct key *ret_k)
{
	struct btree_item it;
	int rc;

	*ret_k = pu->k;
	if (!pu->kept || pu->k.offset < pu->kept)
		return 0;
	rc = btree_seek_ge(&p->root, (struct key){pu->k.object, pu->k.type, 0}, &it);
	if (!rc && it.key.object == pu->k.object && it.key.type == pu->k.type &&
	    it.key.offset <= pu->k.offset - pu->kept)
		*ret_k = it.key;
	return rc == -ENOENT ? 0 : rc;
}

static int step_put(struct pool *p, void *arg)
{
	struct put *pu = arg;
	struct key drop;
	int rc = pu->fn && commit_writes(p) ? ERR_LAST : find_oldest(p, pu, &drop);

	if (!rc)
		rc = btree_prepare(&p->root, pu->k);
	if (!rc)
		rc = btree_prepare(&p->root, drop);
	if (!rc && pu->fn && !pu->fn(p, pu->arg, false))
		rc = -ECANCELED;
	if (!rc)
		rc = btree_put(&p->root, pu->k, pu->value, pu->len);
	if (rc)
		return rc;
	if (key_cmp(pu->k, drop))
		btree_del(&p->root, drop);
	if (pu->fn)
		pu->fn(p, pu->arg, true);
	txn_mark_dirty_locked(p);
	return 0;
}

static void wait_commit(struct pool *p)
{
	lock_take(&p->lock);
	while (commit_writes(p) && !p->faulted)
		waitq_wait(&p->commit_waiters, &p->lock);
	lock_drop(&p->lock);
}

/* Put an item and let the oldest go that is `kept` numbers behind. */
static int journal_put(struct pool *p, struct put *pu, uint64_t kept)
{
	int rc;

	pu->kept = kept;
	for (;;) {
		rc = txn_enter(p, true);
		if (rc)
			return rc;
		rc = txn_step(p, &p->root, step_put, pu);
		txn_leave(p);
		if (rc != ERR_LAST)
			return rc;
		wait_commit(p);
	}
}

/* ---- history ---- */

static int history_put(struct pool *p, uint32_t uid, int result, const char *text, journal_fn *fn,
		       void *arg)
{
	uint8_t buf[sizeof(struct history_disk) + HISTORY_TEXT_MAX];
	struct history_disk *h = (struct history_disk *)buf;
	size_t n = strnlen(text, HISTORY_TEXT_MAX);
	struct put pu = {.value = buf, .len = (uint16_t)(sizeof *h + n), .fn = fn, .arg = arg};

	h->wall_ns = le64_of(reactor_wall_ns());
	h->uid = le32_of(uid);
	h->result = le32_of((uint32_t)result);
	memcpy(h->text, text, n);
	lock_take(&p->lock);
	pu.k = (struct key){JOURNAL_HISTORY, 1, ++p->history_seq};
	lock_drop(&p->lock);
	return journal_put(p, &pu, HISTORY_KEPT);
}

int pool_history_add(struct pool *p, uint32_t uid, int result, const char *text)
{
	return history_put(p, uid, result, text, NULL, NULL);
}

int journal_history_with(struct pool *p, const char *text, journal_fn *fn, void *arg)
{
	return history_put(p, 0, 0, text, fn, arg);
}

struct history_read {
	uint64_t seq;
	struct pool_history_entry *e;
};

static int step_history(struct pool *p, void *arg)
{
	struct history_read *r = arg;
	struct btree_item it;
	const struct history_disk *h;
	size_t n;
	int rc = btree_seek_ge(&p->root, (struct key){JOURNAL_HISTORY, 1, r->seq}, &it);

	if (rc)
		return rc;
	if (it.key.object != JOURNAL_HISTORY)
		return -ENOENT;
	if (it.len < sizeof *h)
		return ERR_FORMAT;
	h = it.value;
	n = it.len - sizeof *h;
	if (n >= sizeof r->e->text)
		n = sizeof r->e->text - 1;
	r->e->seq = it.key.offset;
	r->e->wall_ns = le64_get(h->wall_ns);
	r->e->uid = le32_get(h->uid);
	r->e->result = (int)le32_get(h->result);
	memcpy(r->e->text, h->text, n);
	r->e->text[n] = 0;
	return 0;
}

int pool_history_next(struct pool *p, uint64_t after_seq, struct pool_history_entry *ret_e)
{
	struct history_read r = {after_seq + 1, ret_e};

	return txn_step(p, &p->root, step_history, &r);
}

static int step_last_history(struct pool *p, void *arg)
{
	struct btree_item it;
	int rc = btree_seek_le(&p->root, (struct key){JOURNAL_HISTORY, 1, UINT64_MAX}, &it);

	(void)arg;
	if (!rc && it.key.object == JOURNAL_HISTORY)
		p->history_seq = it.key.offset;
	return rc == -ENOENT ? 0 : rc;
}

/* ---- settings ---- */

static int step_settings(struct pool *p, void *arg)
{
	struct btree_item it;
	int rc = btree_get(&p->root, (struct key){JOURNAL_SETTINGS, 1, 0}, &it);

	(void)arg;
	if (!rc && it.len == sizeof(struct settings_disk)) {
		const struct settings_disk *s = it.value;
		uint32_t after = le32_get(s->spare_after_s);

		p->no_discard = s->no_discard;
		p->trash_retention_s = le64_get(s->retention_s);
		p->spare_after_s = !after		 ? SPARE_AFTER_S
				   : after == UINT32_MAX ? SPARE_NEVER
							 : after;
	}
	return rc == -ENOENT ? 0 : rc;
}

static int settings_put(struct pool *p)
{
	struct settings_disk s = {.version = 1};
	struct put pu = {.k = {JOURNAL_SETTINGS, 1, 0}, .value = &s, .len = sizeof s};
	int rc;

	lock_take(&p->lock);
	s.no_discard = p->no_discard;
	s.retention_s = le64_of(p->trash_retention_s);
	s.spare_after_s =
		le32_of(p->spare_after_s < UINT32_MAX ? (uint32_t)p->spare_after_s : UINT32_MAX);
	lock_drop(&p->lock);
	rc = journal_put(p, &pu, 0);
	return rc ? rc : txn_commit_wait(p);
}

int pool_set_spare_after(struct pool *p, uint64_t seconds)
{
	lock_take(&p->lock);
	p->spare_after_s = seconds ? seconds : SPARE_NEVER;
	lock_drop(&p->lock);
	return settings_put(p);
}

uint64_t pool_spare_after(struct pool *p)
{
	uint64_t s;

	lock_take(&p->lock);
	s = p->spare_after_s;
	lock_drop(&p->lock);
	return s;
}

int pool_set_discard(struct pool *p, bool on)
{
	lock_take(&p->lock);
	p->no_discard = !on;
	lock_drop(&p->lock);
	return settings_put(p);
}

bool pool_discard(struct pool *p)
{
	bool on;

	lock_take(&p->lock);
	on = !p->no_discard;
	lock_drop(&p->lock);
	return on;
}

int pool_set_trash_retention(struct pool *p, uint64_t seconds)
{
	lock_take(&p->lock);
	p->trash_retention_s = seconds;
	lock_drop(&p->lock);
	return settings_put(p);
}

int journal_load(struct pool *p)
{
	int rc = txn_step(p, &p->root, step_settings, NULL);

	return rc ? rc : txn_step(p, &p->root, step_last_history, NULL);
}

/* ---- use, thresholds, forecast ---- */

static void raw_use(struct pool *p, uint64_t *ret_used, uint64_t *ret_total)
{
	struct pool_status *s = malloc(sizeof *s);

	*ret_used = *ret_total = 0;
	if (!s)
		return;
	pool_status_get(p, s);
	*ret_used = s->raw_used_bytes;
	*ret_total = s->raw_bytes;
	free(s);
}

static void thresholds(struct pool *p, uint64_t used, uint64_t total)
{
	static const unsigned levels[] = {95, 90, 80};
	unsigned now = 0;

	for (unsigned i = 0; i < 3 && !now; i++)
		if (total && used * 100 >= total * levels[i])
			now = levels[i];
	lock_take(&p->lock);
	if (now > p->threshold)
		event_emit_locked(
			p, "pool-filling",
			"the pool is more than %u %% full: %llu of %llu bytes; free space, empty "
			"the trash or add devices",
			now, (unsigned long long)used, (unsigned long long)total);
	p->threshold = now;
	lock_drop(&p->lock);
}

static void sample(struct pool *p, uint64_t hour, uint64_t used, uint64_t total)
{
	uint8_t buf[sizeof(struct use_disk) + SAMPLE_VOLUMES * 16];
	struct use_disk *u = (struct use_disk *)buf;
	struct put pu = {.k = {JOURNAL_USE, 1, 0}, .value = buf};
	unsigned n = 0;

	u->used = le64_of(used);
	u->total = le64_of(total);
	lock_take(&p->lock);
	for (struct vol *v = p->vols; v && n < SAMPLE_VOLUMES; v = v->next) {
		if (v->destroying)
			continue;
		u->vol[n].id = le64_of(v->id);
		u->vol[n++].used = le64_of(v->used_blocks * BLOCK_SIZE);
	}
	p->sample_hour = hour;
	lock_drop(&p->lock);
	pu.k.offset = hour;
	pu.len = (uint16_t)(sizeof *u + n * 16);
	journal_put(p, &pu, SAMPLES_KEPT);
}

void journal_tick(struct pool *p)
{
	uint64_t hour = reactor_wall_ns() / HOUR_NS, used, total;

	raw_use(p, &used, &total);
	thresholds(p, used, total);
	if (hour != p->sample_hour)
		sample(p, hour, used, total);
	vol_trash_expire(p);
}

struct forecast_read {
	uint64_t hour;
	struct use_disk u;
	struct {
		le64 id, used;
	} vol[SAMPLE_VOLUMES];
	unsigned n;
};

static int step_sample(struct pool *p, void *arg)
{
	struct forecast_read *r = arg;
	struct btree_item it;
	int rc = btree_seek_ge(&p->root, (struct key){JOURNAL_USE, 1, r->hour}, &it);

	if (rc)
		return rc;
	if (it.key.object != JOURNAL_USE)
		return -ENOENT;
	if (it.len < sizeof r->u)
		return ERR_FORMAT;
	r->hour = it.key.offset;
	memcpy(&r->u, it.value, sizeof r->u);
	r->n = (unsigned)((it.len - sizeof r->u) / 16);
	if (r->n > SAMPLE_VOLUMES)
		r->n = SAMPLE_VOLUMES;
	memcpy(r->vol, (const uint8_t *)it.value + sizeof r->u, r->n * 16);
	return 0;
}

static void grown(struct pool *p, const struct forecast_read *first, struct pool_forecast *f)
{
	lock_take(&p->lock);
	for (unsigned i = 0; i < first->n; i++)
		for (struct vol *v = p->vols; v; v = v->next) {
			int64_t more = (int64_t)(v->used_blocks * BLOCK_SIZE) -
				       (int64_t)le64_get(first->vol[i].used);

			if (v->id != le64_get(first->vol[i].id) || more <= 0)
				continue;
			for (unsigned k = 0; k < POOL_FORECAST_VOLUMES; k++)
				if (more > (int64_t)f->vol[k].bytes) {
					memmove(&f->vol[k + 1], &f->vol[k],
						(POOL_FORECAST_VOLUMES - 1 - k) * sizeof f->vol[0]);
					snprintf(f->vol[k].name, sizeof f->vol[k].name, "%s",
						 v->name);
					f->vol[k].bytes = (uint64_t)more;
					break;
				}
		}
	lock_drop(&p->lock);
}

/* A straight line from the oldest sample within a week to now: what an administrator would draw. */
int pool_forecast_get(struct pool *p, struct pool_forecast *f)
{
	uint64_t now = reactor_wall_ns(), used, total;
	struct forecast_read *r = calloc(1, sizeof *r);
	int rc;

	memset(f, 0, sizeof *f);
	if (!r)
		return -ENOMEM;
	r->hour = now / HOUR_NS > 24 * 7 ? now / HOUR_NS - 24 * 7 : 0;
	rc = txn_step(p, &p->root, step_sample, r);
	if (!rc) {
		raw_use(p, &used, &total);
		f->since_ns = r->hour * HOUR_NS;
		f->grown_bytes = (int64_t)used - (int64_t)le64_get(r->u.used);
		if (f->grown_bytes > 0 && now > f->since_ns + HOUR_NS && total > used) {
			double left = (double)(total - used) / (double)f->grown_bytes *
				      (double)(now - f->since_ns);

			if (left < (double)CENTURY_NS)
				f->full_ns = now + (uint64_t)left;
		}
		grown(p, r, f);
	}
	free(r);
	return rc == -ENOENT ? 0 : rc;
}

void journal_to_text(FILE *f, const struct btree_item *it)
{
	if (it->key.object == JOURNAL_HISTORY && it->len >= sizeof(struct history_disk)) {
		const struct history_disk *h = it->value;

		fprintf(f, "history %" PRIu64 " at %" PRIu64 " uid %u result %d: %.*s",
			it->key.offset, le64_get(h->wall_ns), le32_get(h->uid),
			(int)le32_get(h->result), (int)(it->len - sizeof *h), h->text);
	} else if (it->key.object == JOURNAL_USE && it->len >= sizeof(struct use_disk)) {
		const struct use_disk *u = it->value;

		fprintf(f, "use in hour %" PRIu64 ": %" PRIu64 " of %" PRIu64 " bytes",
			it->key.offset, le64_get(u->used), le64_get(u->total));
	} else if (it->key.object == JOURNAL_SETTINGS && it->len == sizeof(struct settings_disk)) {
		const struct settings_disk *s = it->value;

		fprintf(f, "settings: trash retention %" PRIu64 " s, spare after %u s, discard %s",
			le64_get(s->retention_s), le32_get(s->spare_after_s),
			s->no_discard ? "off" : "on");
	} else {
		fprintf(f, "pool item object %" PRIu64 ": invalid (%u bytes)", it->key.object,
			it->len);
	}
}
