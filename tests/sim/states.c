#include "tests/sim/states.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "pool/chunk.h"
#include "pool/vol_types.h"
#include "tests/sim/tally.h"

#define CHUNK_STEPS 16u /* the chunk table is looked at every so many steps */

enum { COMMIT_IDLE, COMMIT_FLUSH, COMMIT_DRAIN, COMMIT_FREEZE, COMMIT_WRITE, COMMIT_SUSPENDED };
enum { TXN_NONE, TXN_OPEN, TXN_FROZEN, TXN_REDO, TXN_HELD };
enum { MEMBER_NONE, MEMBER_CURRENT, MEMBER_AWAY, MEMBER_STALE, MEMBER_COPYING };
enum { MOVER_IDLE, MOVER_WAITS, MOVER_LOOKS, MOVER_MOVES };
enum { VOLUME_NONE, VOLUME_LIVE, VOLUME_CONVERTING, VOLUME_TRASH, VOLUME_DESTROYED };
enum { /* the first as in enum dev_state */
       DEVICE_EVACUATING = DEV_RESYNC + 1,
       DEVICE_SHRINKING,
       DEVICE_SPARE,
};

struct move {
	uint8_t from, to;
};
struct machine {
	const char *name;
	const char *state[STATES_MAX];
	struct move allowed[48];
};

static const struct machine machine[MACHINE_COUNT] = {
	[MACHINE_COMMIT] = {"commit",
			    {"idle", "flush", "drain", "freeze", "write", "suspended"},
			    {{COMMIT_IDLE, COMMIT_FLUSH},
			     {COMMIT_IDLE, COMMIT_DRAIN},
			     {COMMIT_IDLE, COMMIT_FREEZE},
			     {COMMIT_IDLE, COMMIT_WRITE},
			     {COMMIT_FLUSH, COMMIT_DRAIN},
			     {COMMIT_FLUSH, COMMIT_FREEZE},
			     {COMMIT_FLUSH, COMMIT_WRITE},
			     {COMMIT_DRAIN, COMMIT_FREEZE},
			     {COMMIT_DRAIN, COMMIT_WRITE},
			     {COMMIT_FREEZE, COMMIT_WRITE},
			     {COMMIT_WRITE, COMMIT_IDLE},
			     {COMMIT_WRITE, COMMIT_FLUSH},
			     {COMMIT_WRITE, COMMIT_DRAIN},
			     {COMMIT_WRITE, COMMIT_FREEZE},
			     {COMMIT_IDLE, COMMIT_SUSPENDED},
			     {COMMIT_FLUSH, COMMIT_SUSPENDED},
			     {COMMIT_DRAIN, COMMIT_SUSPENDED},
			     {COMMIT_FREEZE, COMMIT_SUSPENDED},
			     {COMMIT_WRITE, COMMIT_SUSPENDED}}},
	[MACHINE_TXN] = {"transaction",
			 {"none", "open", "frozen", "redo", "durable, held"},
			 {{TXN_NONE, TXN_OPEN},
			  {TXN_OPEN, TXN_FROZEN},
			  {TXN_OPEN, TXN_REDO},
			  {TXN_OPEN, TXN_NONE},
			  {TXN_FROZEN, TXN_REDO},
			  {TXN_FROZEN, TXN_HELD},
			  {TXN_FROZEN, TXN_NONE},
			  {TXN_REDO, TXN_HELD},
			  {TXN_REDO, TXN_NONE},
			  {TXN_HELD, TXN_NONE}}},
	[MACHINE_MEMBER] = {"chunk member",
			    {"none", "current", "away", "stale", "copying"},
			    {{MEMBER_NONE, MEMBER_CURRENT},
			     {MEMBER_NONE, MEMBER_AWAY},
			     {MEMBER_NONE, MEMBER_STALE},
			     {MEMBER_NONE, MEMBER_COPYING},
			     {MEMBER_CURRENT, MEMBER_NONE},
			     {MEMBER_CURRENT, MEMBER_AWAY},
			     {MEMBER_CURRENT, MEMBER_STALE},
			     {MEMBER_AWAY, MEMBER_NONE},
			     {MEMBER_AWAY, MEMBER_STALE},
			     {MEMBER_STALE, MEMBER_CURRENT},
			     {MEMBER_STALE, MEMBER_AWAY},
			     {MEMBER_STALE, MEMBER_NONE},
			     {MEMBER_COPYING, MEMBER_CURRENT},
			     {MEMBER_COPYING, MEMBER_AWAY},
			     {MEMBER_COPYING, MEMBER_NONE},
			     {MEMBER_AWAY, MEMBER_COPYING}}},
	[MACHINE_MOVER] = {"mover",
			   {"idle", "waits", "looks", "moves"},
			   {{MOVER_IDLE, MOVER_WAITS},
			    {MOVER_IDLE, MOVER_LOOKS},
			    {MOVER_IDLE, MOVER_MOVES},
			    {MOVER_WAITS, MOVER_IDLE},
			    {MOVER_WAITS, MOVER_LOOKS},
			    {MOVER_WAITS, MOVER_MOVES},
			    {MOVER_LOOKS, MOVER_IDLE},
			    {MOVER_LOOKS, MOVER_WAITS},
			    {MOVER_LOOKS, MOVER_MOVES},
			    {MOVER_MOVES, MOVER_IDLE},
			    {MOVER_MOVES, MOVER_WAITS},
			    {MOVER_MOVES, MOVER_LOOKS}}},
	[MACHINE_DEVICE] = {"device",
			    {"none", "online", "faulted", "missing", "offline", "resync",
			     "evacuating", "shrinking", "spare"},
			    {{DEV_NONE, DEV_ONLINE},
			     {DEV_ONLINE, DEV_FAULTED},
			     {DEV_ONLINE, DEV_OFFLINE},
			     {DEV_ONLINE, DEVICE_EVACUATING},
			     {DEV_ONLINE, DEVICE_SHRINKING},
			     {DEV_FAULTED, DEV_RESYNC},
			     {DEV_FAULTED, DEV_OFFLINE},
			     {DEV_FAULTED, DEV_NONE},
			     {DEV_MISSING, DEV_RESYNC},
			     {DEV_MISSING, DEV_OFFLINE},
			     {DEV_MISSING, DEV_NONE},
			     {DEV_OFFLINE, DEV_RESYNC},
			     {DEV_OFFLINE, DEV_NONE},
			     {DEV_RESYNC, DEV_ONLINE},
			     {DEV_RESYNC, DEV_FAULTED},
			     {DEV_RESYNC, DEV_OFFLINE},
			     {DEV_RESYNC, DEV_NONE},
			     {DEV_RESYNC, DEVICE_EVACUATING},
			     {DEV_RESYNC, DEVICE_SHRINKING},
			     {DEVICE_EVACUATING, DEV_NONE},
			     {DEVICE_EVACUATING, DEV_ONLINE},
			     {DEVICE_EVACUATING, DEV_FAULTED},
			     {DEVICE_EVACUATING, DEV_OFFLINE},
			     {DEVICE_SHRINKING, DEV_ONLINE},
			     {DEVICE_SHRINKING, DEV_FAULTED},
			     {DEVICE_SHRINKING, DEV_OFFLINE},
			     {DEVICE_SHRINKING, DEVICE_EVACUATING},
			     {DEV_NONE, DEVICE_SPARE},
			     {DEV_ONLINE, DEVICE_SPARE},
			     {DEV_RESYNC, DEVICE_SPARE},
			     {DEVICE_EVACUATING, DEVICE_SPARE},
			     {DEVICE_SPARE, DEV_ONLINE},
			     {DEVICE_SPARE, DEV_FAULTED},
			     {DEVICE_SPARE, DEV_OFFLINE},
			     {DEVICE_SPARE, DEVICE_EVACUATING}}},
	[MACHINE_VOLUME] = {"volume",
			    {"none", "live", "converting", "trash", "destroyed"},
			    {{VOLUME_NONE, VOLUME_LIVE},
			     {VOLUME_LIVE, VOLUME_CONVERTING},
			     {VOLUME_CONVERTING, VOLUME_LIVE},
			     {VOLUME_LIVE, VOLUME_TRASH},
			     {VOLUME_CONVERTING, VOLUME_TRASH},
			     {VOLUME_TRASH, VOLUME_LIVE},
			     {VOLUME_TRASH, VOLUME_CONVERTING},
			     {VOLUME_TRASH, VOLUME_DESTROYED},
			     {VOLUME_LIVE, VOLUME_DESTROYED},
			     {VOLUME_CONVERTING, VOLUME_DESTROYED},
			     {VOLUME_DESTROYED, VOLUME_NONE}}},
};

/* ---- counting ---- */

bool states_verbose;

static void trace(enum machine_id id, uint64_t key, unsigned from, unsigned to)
{
	const struct machine *m = &machine[id];
	if (!states_verbose || from == to)
		return;
	if (id == MACHINE_MEMBER)
		printf("    %s of chunk %llu at %u/%u: %s -> %s\n", m->name,
		       (unsigned long long)(key >> 32), (unsigned)(key >> 24 & 255),
		       (unsigned)(key & 0xffffff), m->state[from], m->state[to]);
	else
		printf("    %s %llu: %s -> %s\n", m->name, (unsigned long long)key, m->state[from],
		       m->state[to]);
}

static struct states_seen own, *seen = &own;

void states_share(void)
{
	void *m =
		mmap(NULL, sizeof(own), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (m == MAP_FAILED)
		abort();
	seen = m;
}

static bool allowed(const struct machine *m, unsigned from, unsigned to)
{
	for (const struct move *a = m->allowed; a->from || a->to; a++)
		if (a->from == from && a->to == to)
			return true;
	return false;
}

static const char *count(enum machine_id id, unsigned from, unsigned to)
{
	static char text[96];
	const struct machine *m = &machine[id];
	if (from == to)
		return NULL;
	__atomic_fetch_add(&seen->n[id][from][to], 1, __ATOMIC_RELAXED);
	if (allowed(m, from, to))
		return NULL;
	snprintf(text, sizeof(text), "%s: %s -> %s is no move of its table", m->name,
		 m->state[from], m->state[to]);
	return text;
}

void states_print(FILE *f)
{
	for (unsigned id = 0; id < MACHINE_COUNT; id++) {
		const struct machine *m = &machine[id];
		for (const struct move *a = m->allowed; a->from || a->to; a++) {
			uint64_t n = seen->n[id][a->from][a->to];
			fprintf(f, "%12" PRIu64 "  %s: %s -> %s%s\n", n, m->name, m->state[a->from],
				m->state[a->to], n ? "" : "  (never)");
		}
	}
}

/* ---- what is there now: things known by a key ---- */

#define THINGS_MAX 2048u
struct thing {
	uint64_t key;
	uint8_t state;
	bool here;
};
struct things {
	struct thing t[THINGS_MAX];
	unsigned count;
	bool known; /* something was seen since the last import */
};

static struct things txns, members, volumes;
static uint8_t device[POOL_DEVS_MAX];
static unsigned commit_state, mover_state;
static uint64_t steps;
static bool known;

void states_forget(void)
{
	known = txns.known = members.known = volumes.known = false;
	txns.count = members.count = volumes.count = 0;
}

/* One thing is here in this state. Things come in about the same order each time. */
static const char *meet(enum machine_id id, struct things *ts, uint64_t key, unsigned state,
			unsigned hint)
{
	struct thing *t = hint < ts->count && ts->t[hint].key == key ? &ts->t[hint] : NULL;
	for (unsigned i = 0; !t && i < ts->count; i++)
		if (ts->t[i].key == key)
			t = &ts->t[i];
	if (!t) {
		if (ts->count == THINGS_MAX)
			return NULL;
		ts->t[ts->count++] = (struct thing){key, (uint8_t)state, true};
		trace(id, key, 0, state);
		return ts->known ? count(id, 0, state) : NULL;
	}
	unsigned was = t->state;
	trace(id, key, was, state);
	t->state = (uint8_t)state;
	t->here = true;
	return count(id, was, state);
}

static const char *gone(enum machine_id id, struct things *ts)
{
	const char *bad = NULL;
	unsigned kept = 0;
	for (unsigned i = 0; i < ts->count; i++) {
		if (!ts->t[i].here) {
			const char *b = count(id, ts->t[i].state, 0);
			trace(id, ts->t[i].key, ts->t[i].state, 0);
			bad = bad ? bad : b;
			continue;
		}
		ts->t[kept] = ts->t[i];
		ts->t[kept++].here = false;
	}
	ts->count = kept;
	ts->known = true;
	return bad;
}

/* ---- looking ---- */

static const char *watch_txns(const struct pool *p)
{
	const char *bad = NULL;
	unsigned k = 0;
	for (const struct txn *t = p->oldest; t; t = t->next) {
		unsigned s = t == p->open     ? TXN_OPEN
			     : t->durable     ? TXN_HELD
			     : t->data_failed ? TXN_REDO
					      : TXN_FROZEN;
		const char *b = meet(MACHINE_TXN, &txns, t->nr, s, k++);
		bad = bad ? bad : b;
	}
	const char *b = gone(MACHINE_TXN, &txns);
	return bad ? bad : b;
}

static const char *watch_volumes(const struct pool *p)
{
	const char *bad = NULL;
	unsigned k = 0;
	for (const struct vol *v = p->vols; v; v = v->next) {
		unsigned s = v->destroying   ? VOLUME_DESTROYED
			     : v->trashed_ns ? VOLUME_TRASH
			     : v->converting ? VOLUME_CONVERTING
					     : VOLUME_LIVE;
		const char *b = meet(MACHINE_VOLUME, &volumes, v->id, s, k++);
		bad = bad ? bad : b;
	}
	const char *b = gone(MACHINE_VOLUME, &volumes);
	return bad ? bad : b;
}

static unsigned member_state(const struct pool *p, const struct chunk *c, unsigned k)
{
	const struct dev *d = &p->devs[c->m[k].dev];
	if (d->state != DEV_ONLINE && d->state != DEV_RESYNC)
		return MEMBER_AWAY;
	if (c->moving && !p->trim_withholds && c->m[k].stale_since == 1 && k + 1u == c->nmembers)
		return MEMBER_COPYING;
	return chunk_member_since(p, &c->m[k]) ? MEMBER_STALE : MEMBER_CURRENT;
}

static const char *watch_members(const struct pool *p)
{
	const char *bad = NULL;
	unsigned n = 0;
	for (size_t h = 0; h < p->chunk_hash_size; h++)
		for (const struct chunk *c = p->chunk_hash[h]; c; c = c->hash_next)
			for (unsigned k = 0; k < c->nmembers; k++) {
				uint64_t key =
					c->id << 32 | (uint64_t)c->m[k].dev << 24 | c->m[k].slot;
				const char *b = meet(MACHINE_MEMBER, &members, key,
						     member_state(p, c, k), n++);
				bad = bad ? bad : b;
			}
	const char *b = gone(MACHINE_MEMBER, &members);
	return bad ? bad : b;
}

static unsigned device_state(const struct dev *d)
{
	if (d->state != DEV_ONLINE)
		return d->state;
	return d->flags & DEV_F_EVACUATE ? DEVICE_EVACUATING
	       : d->flags & DEV_F_SPARE	 ? DEVICE_SPARE
	       : d->slots_limit		 ? DEVICE_SHRINKING
					 : DEV_ONLINE;
}

static const char *watch_devices(const struct pool *p)
{
	const char *bad = NULL;
	for (unsigned i = 0; i < POOL_DEVS_MAX; i++) {
		unsigned s = i < p->ndevs ? device_state(&p->devs[i]) : DEV_NONE;
		const char *b = known ? count(MACHINE_DEVICE, device[i], s) : NULL;
		device[i] = (uint8_t)s;
		bad = bad ? bad : b;
	}
	return bad;
}

static bool any_frozen(const struct pool *p)
{
	for (const struct txn *t = p->oldest; t != p->open; t = t->next)
		if (!t->durable)
			return true;
	return false;
}

static const char *watch_commit(const struct pool *p)
{
	unsigned s = COMMIT_IDLE, was = commit_state;
	if (p->faulted)
		s = COMMIT_SUSPENDED;
	else if (p->gate_closed)
		s = p->gate_count ? COMMIT_DRAIN : COMMIT_FREEZE;
	else if (p->commit_running)
		s = any_frozen(p) ? COMMIT_WRITE : COMMIT_FLUSH;
	commit_state = s;
	return known ? count(MACHINE_COMMIT, was, s) : NULL;
}

static const char *watch_mover(const struct pool *p, bool moving)
{
	unsigned was = mover_state;
	unsigned s = moving		? MOVER_MOVES
		     : p->mover_running ? MOVER_LOOKS
		     : p->mover_wanted	? MOVER_WAITS
					: MOVER_IDLE;
	mover_state = s;
	return known ? count(MACHINE_MOVER, was, s) : NULL;
}

static bool moving(const struct pool *p)
{
	for (size_t h = 0; h < p->chunk_hash_size; h++)
		for (const struct chunk *c = p->chunk_hash[h]; c; c = c->hash_next)
			if (c->moving)
				return true;
	return false;
}

const char *states_watch(const struct pool *p)
{
	static bool was_moving, was_resync;
	static uint64_t was_txn;
	if (!p) {
		states_forget();
		return NULL;
	}
	bool now_moving = p->mover_running && moving(p);
	const char *b[7] = {watch_txns(p), watch_volumes(p), watch_devices(p), watch_commit(p),
			    watch_mover(p, now_moving)};
	if (++steps % CHUNK_STEPS == 0 || now_moving != was_moving || !known ||
	    p->resync_running != was_resync || p->durable_txn != was_txn) {
		b[5] = watch_members(p);
		b[6] = tally_check(p);
	}
	was_moving = now_moving;
	was_resync = p->resync_running;
	was_txn = p->durable_txn;
	known = true;
	for (unsigned i = 0; i < 7; i++)
		if (b[i])
			return b[i];
	return NULL;
}
