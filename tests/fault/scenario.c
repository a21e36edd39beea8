#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/fault/scenario.h"
#include "tests/sim/item_key.h"

#define BLOCKS	   512u
#define KEYS	   64u
#define DISK_BYTES (24ull << 20)

static void wrong(struct scenario *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void wrong(struct scenario *s, const char *fmt, ...)
{
	va_list ap;
	if (s->wrong[0])
		return;
	va_start(ap, fmt);
	vsnprintf(s->wrong, sizeof(s->wrong), fmt, ap);
	va_end(ap);
}

/* Note an error; true when the step succeeded. */
static bool step(struct scenario *s, int rc, const char *what, const struct err *e)
{
	if (!rc)
		return true;
	if (!s->failures++)
		snprintf(s->first, sizeof(s->first), "%s: %d %.120s", what, rc,
			 e && e->text[0] ? e->text : err_str(rc));
	if (rc > 0)
		wrong(s, "%s returned %d", what, rc);
	if (e && !e->text[0])
		wrong(s, "%s returned %d without a text", what, rc);
	return false;
}

static void bus_fail(void *arg, const char *text)
{
	wrong(arg, "device interface: %s", text);
}

void scenario_init(struct scenario *s, unsigned ndisks)
{
	struct hist_space space = {VOL_OBJECT_FIRST, 0, BLOCKS};
	memset(s, 0, sizeof(*s));
	rig_init(&s->rig, 1, ndisks, DISK_BYTES);
	s->rig.bus.fail = bus_fail;
	s->rig.bus.fail_arg = s;
	s->h = hist_create(1, &s->clock, &space, 1, KEYS, 0);
}

void scenario_fini(struct scenario *s)
{
	rig_fini(&s->rig);
	hist_destroy(s->h);
}

/* ---- steps on the volume ---- */

static void write_at(struct scenario *s, uint64_t off, uint64_t len, enum stamp_style style)
{
	uint8_t *buf = malloc(len);
	if (!buf)
		abort();
	struct hist_op *op = hist_write(s->h, 0, off, len, style);
	hist_fill(s->h, op, buf);
	int rc = vol_write(s->v, VOL_OBJECT_FIRST, off, len, buf, NULL, NULL);
	if (step(s, rc, "vol_write", NULL))
		hist_ack(s->h, op);
	free(buf);
}

static void punch_at(struct scenario *s, uint64_t off, uint64_t len)
{
	struct hist_op *op = hist_zero(s->h, 0, off, len);
	if (step(s, vol_punch(s->v, VOL_OBJECT_FIRST, off, len, NULL, NULL), "vol_punch", NULL))
		hist_ack(s->h, op);
}

/* A write by way of another object, which keeps a reference. */
static void clone_at(struct scenario *s, uint64_t off, uint64_t len)
{
	uint64_t done, stage = VOL_OBJECT_FIRST + 1;
	uint8_t *buf = malloc(len);
	if (!buf)
		abort();
	struct hist_op *op = hist_write(s->h, 0, off, len, STAMP_HALF);
	hist_fill(s->h, op, buf);
	int rc = vol_write(s->v, stage, off, len, buf, NULL, NULL);
	if (!rc)
		rc = pool_commit(s->rig.pool);
	if (!rc)
		rc = vol_clone_range(s->v, stage, off, s->v, VOL_OBJECT_FIRST, off, len, NULL, NULL,
				     &done);
	if (step(s, rc, "clone", NULL))
		hist_ack(s->h, op);
	free(buf);
}

static void snapshot(struct scenario *s, const char *name, bool take)
{
	uint64_t since = hist_now(s->h);
	struct err e = {0};
	int rc = take ? vol_snapshot_create(s->rig.pool, &name, 1, &e)
		      : vol_snapshot_destroy(s->rig.pool, name, &e);
	if (step(s, rc, take ? "vol_snapshot_create" : "vol_snapshot_destroy", &e))
		hist_synced(s->h, since);
}

static void change(struct scenario *s, unsigned first, unsigned n, bool put)
{
	struct hist_key keys[ITEM_KEYS_MAX];
	for (unsigned i = 0; i < n; i++)
		keys[i] = (struct hist_key){(uint16_t)(first + i), put};
	struct hist_op *op = hist_items(s->h, keys, n);
	struct item_change ch = {.h = s->h, .keys = keys, .n = n, .seq = hist_seq(op)};
	if (step(s, vol_change(s->v, false, item_change_fn, &ch), "vol_change", NULL))
		hist_ack(s->h, op);
}

static void sync_now(struct scenario *s)
{
	uint64_t since = hist_now(s->h);
	if (step(s, vol_sync(s->v), "vol_sync", NULL))
		hist_synced(s->h, since);
}

static void commit_now(struct scenario *s)
{
	uint64_t since = hist_now(s->h);
	if (step(s, pool_commit(s->rig.pool), "pool_commit", NULL))
		hist_synced(s->h, since);
}

static void work(struct scenario *s)
{
	write_at(s, 0, 100 * HIST_BLOCK, STAMP_RANDOM);
	write_at(s, 5000, 20000, STAMP_SECTORS);
	sync_now(s);
	for (unsigned i = 0; i < 6; i++)
		change(s, i * 8, 8, true);
	sync_now(s);
	write_at(s, 150 * HIST_BLOCK, 300 * HIST_BLOCK, STAMP_HALF);
	punch_at(s, 10 * HIST_BLOCK + 100, 30 * HIST_BLOCK);
	commit_now(s);
	snapshot(s, "v@a", true);
	clone_at(s, 30 * HIST_BLOCK, 200 * HIST_BLOCK);
	snapshot(s, "v@b", true);
	change(s, 4, 8, false);
	write_at(s, 12 * HIST_BLOCK, 50 * HIST_BLOCK, STAMP_RANDOM);
	write_at(s, 201 * HIST_BLOCK + 7, 60, STAMP_RANDOM);
	sync_now(s);
	change(s, 40, 8, true);
	punch_at(s, 300 * HIST_BLOCK, 400 * HIST_BLOCK);
	snapshot(s, "v@a", false);
}

/* ---- reading everything ---- */

static bool found_data(struct scenario *s)
{
	static uint8_t buf[BLOCKS * HIST_BLOCK];
	int rc = vol_read(s->v, VOL_OBJECT_FIRST, 0, sizeof(buf), buf);
	if (!step(s, rc, "vol_read", NULL))
		return false;
	for (unsigned b = 0; b < BLOCKS; b++)
		hist_found_block(s->h, 0, b, buf + b * HIST_BLOCK);
	return true;
}

static bool found_items(struct scenario *s)
{
	for (unsigned k = 0; k < KEYS; k++) {
		struct item_query q = {.h = s->h, .key = (uint16_t)k};
		if (!step(s, vol_query(s->v, item_query_fn, &q), "vol_query", NULL))
			return false;
		if (q.foreign)
			wrong(s, "item %u has a foreign value", k);
		hist_found_item(s->h, k, q.seq);
	}
	return true;
}

/* complete: no crash before. False when something could not be read. */
static bool compare(struct scenario *s, bool complete)
{
	char why[400];
	hist_found_begin(s->h);
	if (!found_data(s) || !found_items(s))
		return false;
	/* What reported an error may have happened or not. */
	if (!hist_judge(s->h, complete, why, sizeof(why)))
		wrong(s, "%s", why);
	hist_judge_end(s->h);
	return true;
}

static void check(struct scenario *s)
{
	char text[256];
	uint64_t problems = 0;
	int rc = rig_check(&s->rig, &problems, text, sizeof(text));
	/* The fault may have hit the check itself. */
	if (step(s, rc, "pool_check", NULL) && problems && !s->rig.bus.nth.fired)
		wrong(s, "pool_check: %s", text);
}

/* ---- the story ---- */

static bool open_volume(struct scenario *s)
{
	struct err e = {0};
	return step(s, vol_open(s->rig.pool, "v", &s->v, &e), "vol_open", &e);
}

static bool import(struct scenario *s)
{
	struct err e = {0};
	return step(s, rig_import(&s->rig, &e), "pool_import", &e);
}

static bool export(struct scenario *s)
{
	struct err e = {0};
	vol_close(s->v);
	s->v = NULL;
	return step(s, rig_export(&s->rig, &e), "pool_export", &e);
}

static bool make(struct scenario *s)
{
	struct err e = {0};
	struct vol_options o = {.type = VOL_TYPE_FS,
				.compression = VOL_COMPRESS_LZ4,
				.copies = s->rig.ndisks > 1 ? 2 : 1};
	s->pool_made = step(s, rig_create(&s->rig, 1 << 20, &e), "pool_create", &e);
	if (!s->pool_made || !import(s))
		return false;
	s->volume_made = step(s, vol_create(s->rig.pool, "v", &o, &e), "vol_create", &e);
	return s->volume_made && open_volume(s);
}

static bool suspended(struct scenario *s)
{
	static struct pool_status st;
	pool_status_get(s->rig.pool, &st);
	return !strcmp(st.health, "faulted");
}

static void play(void *arg)
{
	struct scenario *s = arg;
	if (!make(s))
		return;
	work(s);
	/* A suspended pool can be exported, but that makes nothing durable. */
	struct hist_tally tally = {0, 0};
	bool lost = suspended(s);
	uint64_t since = lost ? 0 : hist_now(s->h);
	if (!export(s))
		return;
	hist_synced(s->h, since);
	if (!import(s) || !open_volume(s))
		return;
	if (!compare(s, !s->failures))
		return;
	if (lost)
		hist_rebase(s->h, &tally);
	check(s);
	write_at(s, 77, 7777, STAMP_RANDOM);
	sync_now(s);
	export(s);
}

void scenario_play(struct scenario *s)
{
	rig_run(&s->rig, play, s, "the scenario");
}

/* ---- judgement ---- */

static void judge(void *arg)
{
	struct scenario *s = arg;
	unsigned before = s->failures;
	if (!s->pool_made) {
		struct err e = {0};
		if (rig_create(&s->rig, 1 << 20, &e))
			wrong(s, "pool_create again: %s", e.text);
		return;
	}
	bool opened = import(s) && open_volume(s);
	if (!opened && (s->volume_made || !s->rig.pool))
		wrong(s, "after the power cut: pool or volume does not open");
	if (opened && !compare(s, false))
		wrong(s, "after the power cut: not all can be read");
	if (s->rig.pool)
		check(s);
	if (opened && s->failures != before)
		wrong(s, "after the power cut: %u more errors", s->failures - before);
}

void scenario_judge(struct scenario *s)
{
	s->v = NULL;
	memset(&s->rig.bus.nth, 0, sizeof(s->rig.bus.nth));
	rig_cut(&s->rig, SIM_CUT_RANDOM);
	rig_run(&s->rig, judge, s, "the import after the power cut");
}
