#include "pool/txn.h"
#include <string.h>
#include "pool/chunk.h"
#include "pool/event.h"
#include "pool/snap.h"
#include "pool/space.h"
#include "pool/vol_damage.h"

/* ---- what trees ask of the transaction ---- */

static int op_alloc_node(void *ctx, struct btree *bt, struct addr *ret_addr)
{
	return space_alloc_node(ctx, bt->tree_id == TREE_MAP, ret_addr);
}

static void op_free_node(void *ctx, struct btree *bt, struct addr a, uint64_t birth)
{
	struct pool *p = ctx;

	if (snap_shows(bt, birth))
		snap_let_go(p, bt->tree_id, a, NODE_BLOCKS, birth, true);
	else
		space_free(p, a, NODE_BLOCKS, birth == p->open->nr);
}

static uint64_t op_txn(void *ctx)
{
	return ((struct pool *)ctx)->open->nr;
}

const struct btree_ops txn_btree_ops = {op_alloc_node, op_free_node, op_txn};

/* ---- readers ---- */

struct txn *txn_read_begin_locked(struct pool *p)
{
	p->open->readers++;
	return p->open;
}

/* The transaction after the committed one may be frozen already: what it freed is still in the
 * committed trees. */
struct txn *txn_read_begin_committed_locked(struct pool *p)
{
	p->oldest->readers++;
	return p->oldest;
}

void txn_read_end_locked(struct pool *p, struct txn *t)
{
	assert(t->readers);
	if (--t->readers == 0 && t == p->oldest)
		space_release(p);
}

struct txn *txn_read_begin(struct pool *p)
{
	struct txn *t;

	lock_take(&p->lock);
	t = txn_read_begin_locked(p);
	lock_drop(&p->lock);
	return t;
}

void txn_read_end(struct pool *p, struct txn *t)
{
	lock_take(&p->lock);
	txn_read_end_locked(p, t);
	lock_drop(&p->lock);
}

/* ---- reading nodes ---- */

struct node_verify {
	struct pool *p;
	const struct node_ptr *ptr;
	uint64_t tree_id;
	uint8_t level;
};

static int verify_node(void *arg, const void *buf)
{
	const struct node_verify *v = arg;

	return node_validate(buf, v->ptr, v->p->uuid, v->tree_id, v->level, false, NULL);
}

static struct node_reading *find_reading(struct pool *p, struct addr a)
{
	struct node_reading *r = p->reading;

	while (r && !addr_eq(r->addr, a))
		r = r->next;
	return r;
}

static void reading_done(struct pool *p, struct node_reading *me)
{
	struct node_reading **pp = &p->reading;

	while (*pp != me)
		pp = &(*pp)->next;
	*pp = me->next;
	waitq_wake_all(&me->waiters);
}

int node_read_ptr(struct pool *p, struct node_ptr ptr, uint64_t tree_id, uint8_t level)
{
	struct node_verify v = {p, &ptr, tree_id, level};
	struct node_reading me = {.addr = ptr.addr}, *other;
	struct node *cached;
	char what[64];
	uint8_t *buf;
	int rc;

	lock_take(&p->lock);
	cached = node_cache_find(p->cache, ptr.addr);
	if (cached && cached->birth == ptr.birth) {
		lock_drop(&p->lock);
		return 0;
	}
	other = find_reading(p, ptr.addr);
	if (other) { /* the caller looks again when woken */
		waitq_wait(&other->waiters, &p->lock);
		rc = p->faulted ? ERR_FAULTED : 0;
		lock_drop(&p->lock);
		return rc;
	}
	me.next = p->reading;
	p->reading = &me;
	node_cache_trim(p->cache);
	lock_drop(&p->lock);

	buf = node_buf_alloc();
	snprintf(what, sizeof what, "tree %llu node %llx", (unsigned long long)tree_id,
		 (unsigned long long)ptr.addr.v);
	rc = buf ? chunk_read_verified(p, ptr.addr, NODE_BLOCKS, buf, verify_node, &v, what)
		 : -ENOMEM;
	lock_take(&p->lock);
	if (!rc && !node_cache_insert(p->cache, ptr.addr, ptr.birth, buf))
		rc = -ENOMEM;
	else if (rc && buf)
		node_buf_free(buf);
	if (vol_damage_is(rc))
		vol_damage_note(p, tree_id, rc);
	reading_done(p, &me);
	lock_drop(&p->lock);
	return rc;
}

int txn_step(struct pool *p, struct btree *bt, txn_step_fn *fn, void *arg)
{
	for (;;) {
		struct node_ptr need;
		uint8_t level;
		int rc;

		lock_take(&p->lock);
		rc = fn(p, arg);
		need = bt->need;
		level = bt->need_level;
		lock_drop(&p->lock);
		if (rc != ERR_NEED_NODE)
			return rc;
		rc = node_read_ptr(p, need, bt->tree_id, level);
		if (rc)
			return rc;
	}
}

/* ---- the gate ---- */

/* What the commit will have to write, with what queued references and dead lists are going to
 * change. */
static uint64_t dirty_nodes(struct pool *p)
{
	struct node_cache_stats s;

	node_cache_stats(p->cache, &s);
	return s.dirty_nodes + p->open->refs_nodes + snap_queued_nodes(p);
}

int txn_enter(struct pool *p, bool never_full)
{
	int rc = 0;

	lock_take(&p->lock);
	for (;;) {
		if (p->faulted)
			rc = ERR_FAULTED;
		else if (p->read_only || p->stopping)
			rc = ERR_READONLY;
		if (rc)
			break;
		if (p->gate_closed) {
			waitq_wait(&p->gate_waiters, &p->lock);
			continue;
		}
		if (dirty_nodes(p) > p->dirty_nodes_max) {
			txn_commit_request_locked(p);
			waitq_wait(&p->commit_waiters, &p->lock);
			continue;
		}
		if (!never_full && !space_meta_ok(p)) {
			rc = -ENOSPC;
			break;
		}
		if (dirty_nodes(p) > p->dirty_nodes_max / 2)
			txn_commit_request_locked(p);
		p->gate_count++;
		break;
	}
	lock_drop(&p->lock);
	return rc;
}

void txn_leave(struct pool *p)
{
	lock_take(&p->lock);
	assert(p->gate_count);
	if (--p->gate_count == 0)
		waitq_wake_all(&p->drain_waiters);
	lock_drop(&p->lock);
}

/* ---- short of memory ---- */

#define MEMORY_TRIES 1000u

bool txn_wait_memory(struct pool *p, unsigned *tries)
{
	bool go_on;

	lock_take(&p->lock);
	go_on = !p->faulted && ++*tries <= MEMORY_TRIES;
	if (go_on && *tries == 1)
		event_emit_locked(p, "memory-short",
				  "out of memory while data is written; it is tried again");
	lock_drop(&p->lock);
	if (go_on)
		co_sleep_ns(TXN_MEMORY_PAUSE_NS);
	return go_on;
}

/* ---- asking for commits ---- */

void txn_mark_dirty_locked(struct pool *p)
{
	if (!p->dirty_since_ns)
		p->dirty_since_ns = reactor_now_ns();
}

void txn_commit_request_locked(struct pool *p)
{
	p->commit_wanted = true;
	waitq_wake_all(&p->committer_waiters);
}

int txn_wait_durable_locked(struct pool *p, uint64_t nr)
{
	while (p->durable_txn < nr && !p->faulted && !(p->stopping && !p->bg_count)) {
		if (p->stopping && !p->commit_running) { /* the committer is gone or going */
			lock_drop(&p->lock);
			txn_commit_run(p, false);
			lock_take(&p->lock);
			continue;
		}
		if (p->open->nr <= nr || !p->commit_running)
			txn_commit_request_locked(p);
		waitq_wait(&p->commit_waiters, &p->lock);
	}
	return p->durable_txn >= nr ? 0 : ERR_FAULTED;
}

int txn_commit_wait(struct pool *p)
{
	int rc;

	lock_take(&p->lock);
	rc = txn_wait_durable_locked(p, p->open->nr);
	lock_drop(&p->lock);
	return rc;
}

int pool_commit(struct pool *p)
{
	return txn_commit_wait(p);
}

int txn_init(struct pool *p, uint64_t first_nr, uint64_t durable)
{
	p->open = calloc(1, sizeof *p->open);
	if (!p->open)
		return -ENOMEM;
	p->open->nr = first_nr;
	p->oldest = p->open;
	p->durable_txn = durable;
	return 0;
}

void txn_fini(struct pool *p)
{
	for (struct txn *t = p->oldest, *next; t; t = next) {
		next = t->next;
		free(t->frees);
		free(t->dead);
		free(t->slots);
		free(t);
	}
	p->open = p->oldest = NULL;
}

/* ---- the committer ---- */

void txn_committer(void *arg)
{
	struct pool *p = arg;

	lock_take(&p->lock);
	while (!p->stopping) {
		bool due = p->commit_wanted;

		if (!due || p->faulted) {
			waitq_wait(&p->committer_waiters, &p->lock);
			continue;
		}
		lock_drop(&p->lock);
		txn_commit_run(p, false);
		lock_take(&p->lock);
	}
	p->bg_count--;
	waitq_wake_all(&p->bg_waiters);
	lock_drop(&p->lock);
}
