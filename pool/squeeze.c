#include "pool/squeeze.h"
#include "pool/chunk.h"
#include "pool/event.h"
#include "pool/mover.h"
#include "pool/space.h"
#include "pool/task.h"
#include "pool/txn.h"
#include "pool/vol_record.h"

#define EIGHTHS_BY_ITSELF 2u
#define CHUNKS_BY_ITSELF  4u /* fewer are not worth reading all trees */
#define MARGIN_CHUNKS	  2u /* of room stay for writers */
#define PAUSE_NS	  5000000000ull
#define PAUSE_IN_VAIN_NS  60000000000ull
#define ASK_POLL_NS	  50000000ull
#define ASK_POLLS	  20u
#define ASK_MAX_NS	  60000000000ull

enum { TASK_EMPTY = 1, TASK_REBALANCE = 2 };

/* ---- what to empty ---- */

static bool can_be_emptied(const struct pool *p, const struct chunk *c)
{
	/* Writing shared data anew would give each of its owners a copy; what snapshots show stays.
	 */
	return c->created_txn > p->snap_newest && c->kind == CHUNK_DATA && c->used && c->usable &&
	       !c->draining && !c->moving && !c->condemned && !c->is_write_point && !c->shared;
}

/* Blocks for data of a policy that are free and promised to nobody, less the margin. */
static uint64_t room_for(const struct pool *p, unsigned policy)
{
	uint64_t taken = p->reserved[policy] + (uint64_t)MARGIN_CHUNKS * p->chunk_blocks;
	uint64_t have = p->lists[CHUNK_DATA][policy].free_blocks;

	return have > taken ? have - taken : 0;
}

unsigned squeeze_choose(struct pool *p, unsigned eighths, unsigned share, squeeze_fn *fn, void *arg)
{
	uint64_t room[POLICIES];
	unsigned n = 0;
	bool any = false;

	for (unsigned k = 0; k < POLICIES; k++) {
		room[k] = room_for(p, k) / share;
		any |= room[k] >= p->chunk_blocks;
	}
	if (!any)
		return 0;
	for (unsigned e = 0; e < eighths; e++)
		for (size_t h = 0; h < p->chunk_hash_size; h++)
			for (struct chunk *c = p->chunk_hash[h]; c; c = c->hash_next) {
				if (!can_be_emptied(p, c) || c->used * 8 / p->chunk_blocks != e ||
				    room[chunk_policy(c)] < p->chunk_blocks)
					continue;
				/* its own free blocks are lost for a while, and it needs others */
				room[chunk_policy(c)] -= p->chunk_blocks;
				fn(p, c, arg);
				n++;
			}
	return n;
}

static bool short_of_slots(const struct pool *p)
{
	uint64_t slots = 0, unused = 0;

	for (unsigned i = 0; i < p->ndevs; i++)
		if (dev_placeable(&p->devs[i])) {
			slots += p->devs[i].slots;
			unused += p->devs[i].slots_free;
		}
	return unused * 8 < slots;
}

bool squeeze_due(const struct pool *p)
{
	return reactor_now_ns() >= p->squeeze_next_ns && short_of_slots(p);
}

/* A device where nothing more can be placed, or nothing but nodes: only then do free slots help who
 * waits for one. */
static bool some_full(struct pool *p)
{
	uint64_t unused = 0;
	bool full = false;

	for (unsigned i = 0; i < p->ndevs; i++)
		if (dev_placeable(&p->devs[i])) {
			full |= !p->devs[i].slots_free;
			unused += p->devs[i].slots_free;
		}
	return full || unused <= space_kept_slots(p);
}

static uint8_t tasks(const struct pool *p)
{
	return (task_must_empty(p) ? TASK_EMPTY : 0) | (p->rebalancing ? TASK_REBALANCE : 0);
}

static bool resync_waits(const struct pool *p)
{
	return p->resync_wanted && reactor_now_ns() >= p->resync_after_ns;
}

bool squeeze_must_end(const struct pool *p)
{
	bool needed = p->squeeze_asked || p->squeeze_tasks & TASK_EMPTY;

	return !p->squeezing || resync_waits(p) || tasks(p) & ~p->squeeze_tasks ||
	       (p->trim.running && !needed);
}

static void count(struct pool *p, struct chunk *c, void *arg)
{
	(void)p;
	(void)c;
	(void)arg;
}

static void drain(struct pool *p, struct chunk *c, void *arg)
{
	(void)p;
	(void)arg;
	c->draining = true;
}

/* Is it time? For one that is asked for it is, unless the last one was in vain. */
static bool is_due(const struct pool *p, bool wanted)
{
	if (reactor_now_ns() < p->squeeze_next_ns && (!p->squeeze_asked || p->squeeze_in_vain))
		return false;
	return wanted || (squeeze_due(p) && !p->trim.running);
}

/* How many chunks are to be emptied now. Lock held. */
static unsigned begin(struct pool *p, bool wanted)
{
	unsigned eighths, n;

	wanted = (wanted && some_full(p)) || p->squeeze_asked;
	eighths = wanted ? SQUEEZE_EIGHTHS_WANTED : EIGHTHS_BY_ITSELF;
	if (p->faulted || p->stopping || resync_waits(p) || !is_due(p, wanted))
		return 0;
	/* Half of the room: writers must not meet ENOSPC because of this. */
	n = squeeze_choose(p, eighths, 2, count, NULL);
	if (n < (wanted ? 1 : CHUNKS_BY_ITSELF)) {
		p->squeeze_next_ns = reactor_now_ns() + PAUSE_NS;
		p->squeeze_asked = false;
		return 0;
	}
	squeeze_choose(p, eighths, 2, drain, NULL);
	chunk_usable_update(p);
	p->squeezing = true;
	p->squeeze_tasks = tasks(p);
	return n;
}

/* ---- emptying ---- */

/* The next volume by id, pinned. Lock held. */
static struct vol *next_volume(struct pool *p, uint64_t after)
{
	struct vol *v = p->vols;

	while (v && (v->id <= after || v->destroying))
		v = v->next;
	if (v)
		v->pins++;
	return v;
}

static int drain_volumes(struct pool *p)
{
	uint64_t id = 0;
	int rc = 0;

	while (!rc) {
		struct vol *v;

		lock_take(&p->lock);
		v = next_volume(p, id);
		lock_drop(&p->lock);
		if (!v)
			return 0;
		rc = convert_for_squeeze(v);
		id = v->id;
		lock_take(&p->lock);
		if (v->destroying)
			rc = 0;
		v->pins--;
		waitq_wake_all(&p->data_waiters);
		lock_drop(&p->lock);
	}
	return rc;
}

/* Three commits: what was written anew, the frees that follows from it, the slots of what is empty.
 */
static int settle(struct pool *p)
{
	int rc = 0;

	for (unsigned i = 0; i < 3 && !rc; i++) {
		lock_take(&p->lock);
		txn_mark_dirty_locked(p);
		lock_drop(&p->lock);
		rc = txn_commit_wait(p);
	}
	return rc;
}

/* What could not be emptied takes data again. Lock held. */
static void end(struct pool *p)
{
	p->squeeze_left = 0;
	for (size_t h = 0; h < p->chunk_hash_size; h++)
		for (struct chunk *c = p->chunk_hash[h]; c; c = c->hash_next) {
			p->squeeze_left += c->draining;
			c->draining = false;
		}
	p->squeezing = false;
	chunk_usable_update(p);
}

static void turn_over(struct pool *p, unsigned n, bool in_vain)
{
	p->squeeze_in_vain = in_vain;
	p->squeeze_next_ns = reactor_now_ns() + (in_vain ? PAUSE_IN_VAIN_NS : PAUSE_NS);
	p->squeeze_asked = false;
	p->squeeze_turns++;
	if (p->squeeze_left < n)
		event_emit_locked(p, "squeezed", "%u chunks that held little were emptied",
				  n - p->squeeze_left);
}

bool squeeze_turn(struct pool *p, bool wanted)
{
	unsigned n;
	bool interrupted;

	lock_take(&p->lock);
	n = begin(p, wanted);
	lock_drop(&p->lock);
	if (!n)
		return false;
	/* What older flushes have under way may still land there. */
	if (!txn_commit_wait(p) && !drain_volumes(p))
		settle(p);
	lock_take(&p->lock);
	interrupted = p->squeezing && squeeze_must_end(p);
	if (p->squeezing)
		end(p);
	turn_over(p, n, p->squeeze_left >= n && !interrupted);
	wanted = p->squeeze_left < n;
	lock_drop(&p->lock);
	return wanted;
}

/* ---- those who find no room ---- */

bool squeeze_give_back(struct pool *p)
{
	if (!p->squeezing)
		return false;
	end(p);
	return p->squeeze_left;
}

/* Can a pass help? Then there will be one. */
static bool ask(struct pool *p)
{
	if (p->faulted || p->stopping || !p->running)
		return false;
	if (!p->squeezing) {
		if (reactor_now_ns() < p->squeeze_next_ns && p->squeeze_in_vain)
			return false;
		if (!squeeze_choose(p, SQUEEZE_EIGHTHS_WANTED, 2, count, NULL))
			return false;
	}
	p->squeeze_asked = true;
	mover_wake_locked(p);
	return true;
}

bool squeeze_wait(struct pool *p, uint64_t *until_ns)
{
	uint64_t turns;
	bool over;

	lock_take(&p->lock);
	if (!*until_ns)
		*until_ns = reactor_now_ns() + ASK_MAX_NS;
	over = reactor_now_ns() >= *until_ns || !ask(p);
	turns = p->squeeze_turns;
	lock_drop(&p->lock);
	if (over)
		return false;
	for (unsigned i = 0; i < ASK_POLLS && !over; i++) {
		co_sleep_ns(ASK_POLL_NS);
		lock_take(&p->lock);
		over = p->squeeze_turns != turns || p->stopping || p->faulted;
		lock_drop(&p->lock);
	}
	return true;
}
