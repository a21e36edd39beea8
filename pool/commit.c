/* commit: make the open transaction durable. See txn.h for the picture. */
#include <string.h>
#include "pool/chunk.h"
#include "pool/chunk_list.h"
#include "pool/class.h"
#include "pool/event.h"
#include "pool/flush.h"
#include "pool/ilog.h"
#include "pool/sb.h"
#include "pool/snap.h"
#include "pool/space.h"
#include "pool/txn.h"
#include "pool/vol_record.h"

struct commit {
	struct pool *p;
	struct txn *txn;
	struct node *nodes; /* sealed, to be written */
	size_t node_count;
	/* step arguments */
	struct vol *v;
	struct chunk *c;
	struct chunk *need;
	uint64_t need_id;
};

static void collect_node(void *arg, struct node *n)
{
	struct commit *cm = arg;

	n->list_next = cm->nodes;
	cm->nodes = n;
	cm->node_count++;
}

/* Every step can be run again when it found no memory: it had changed nothing. */
static bool again(struct pool *p, int rc, unsigned *tries)
{
	return rc == -ENOMEM && txn_wait_memory(p, tries);
}

static int step(struct commit *cm, struct btree *bt, txn_step_fn *fn)
{
	unsigned tries = 0;
	int rc;

	do {
		rc = txn_step(cm->p, bt, fn, cm);
	} while (again(cm->p, rc, &tries));
	return rc;
}

/* ---- freeze: everything into the trees, under a closed gate ---- */

static int step_volume(struct pool *p, void *arg)
{
	struct commit *cm = arg;
	struct vol *v = cm->v;
	uint8_t rec[VOL_RECORD_BYTES];
	struct key k = {v->id, 1, 0};
	int rc = btree_prepare(&p->root, k);

	if (rc)
		return rc;
	btree_seal(&v->tree, collect_node, cm);
	btree_seal(&v->dead, collect_node, cm);
	snap_take(v, cm->txn->nr);
	vol_record_encode(v, rec);
	rc = btree_put(&p->root, k, rec, sizeof rec);
	if (!rc)
		v->rec_dirty = false;
	return rc;
}

static int step_dead(struct pool *p, void *arg)
{
	struct commit *cm = arg;

	return snap_apply_dead(p, cm->v);
}

/* What volumes let go of and snapshots show, into the dead lists. */
static int freeze_dead(struct commit *cm)
{
	for (;;) {
		int rc;

		lock_take(&cm->p->lock);
		cm->v = snap_next_dead(cm->p);
		lock_drop(&cm->p->lock);
		if (!cm->v)
			return 0;
		rc = step(cm, &cm->v->dead, step_dead);
		if (rc)
			return rc;
	}
}

static int freeze_list(struct commit *cm, struct vol *list)
{
	for (cm->v = list; cm->v; cm->v = cm->v->next) {
		int rc;

		if (cm->v->reaped ||
		    (!cm->v->rec_dirty && !cm->v->tree.dirty && !cm->v->dead.dirty))
			continue;
		rc = step(cm, &cm->p->root, step_volume);
		if (rc)
			return rc;
	}
	return 0;
}

/* Snapshots are taken while their volumes are sealed, so they come behind. */
static int freeze_volumes(struct commit *cm)
{
	int rc = freeze_list(cm, cm->p->vols);

	return rc ? rc : freeze_list(cm, cm->p->snaps);
}

static int step_chunk_map(struct pool *p, void *arg)
{
	struct commit *cm = arg;
	struct chunk_disk cd;

	chunk_to_disk(cm->c, &cd);
	return btree_put(&p->map, (struct key){cm->c->id, 1, 0}, &cd, sizeof cd);
}

static int step_chunk_space(struct pool *p, void *arg)
{
	struct commit *cm = arg;
	uint8_t bits[(1u << ADDR_BLOCK_BITS) / 8 /
		     32]; /* bounded by NODE_VALUE_MAX: see pool_create */
	size_t words = p->chunk_blocks / 64;

	if (!cm->c->bits)
		return 0; /* only the record changed */
	assert(words * 8 <= sizeof bits);
	for (size_t w = 0; w < words; w++) {
		le64 x = le64_of(cm->c->bits[w]);

		memcpy(bits + w * 8, &x, 8);
	}
	return btree_put(&p->space, (struct key){cm->c->id, 1, 0}, bits, (uint16_t)(words * 8));
}

static int step_prepare_chunk(struct pool *p, void *arg)
{
	struct commit *cm = arg;

	return btree_prepare(&p->map, (struct key){cm->c->id, 1, 0});
}

static int step_prepare_space(struct pool *p, void *arg)
{
	struct commit *cm = arg;

	return btree_prepare(&p->space, (struct key){cm->c->id, 1, 0});
}

static int step_frees(struct pool *p, void *arg)
{
	struct commit *cm = arg;
	int rc = space_apply_frees(p, &cm->need);

	if (rc == ERR_NEED_NODE && cm->need) {
		cm->need_id = cm->need->id;
		return ERR_LAST;
	}
	return rc;
}

static int apply_frees(struct commit *cm)
{
	unsigned tries = 0;

	for (;;) {
		int rc = step(cm, &cm->p->space, step_frees);

		if (rc != ERR_LAST)
			return rc;
		do {
			rc = space_load(cm->p, cm->need_id);
		} while (again(cm->p, rc, &tries));
		if (rc)
			return rc;
	}
}

static bool next_dirty_chunk(struct commit *cm)
{
	struct pool *p = cm->p;

	lock_take(&p->lock);
	cm->c = p->dirty_chunks;
	lock_drop(&p->lock);
	return cm->c;
}

static int write_chunk_items(struct commit *cm)
{
	struct pool *p = cm->p;
	int rc = step(cm, &p->map, step_prepare_chunk);

	if (!rc)
		rc = step(cm, &p->space, step_prepare_space);
	if (rc)
		return rc;
	/* From here on whatever these two puts allocate marks the chunk dirty again. */
	lock_take(&p->lock);
	chunk_clear_dirty(p, cm->c);
	cm->c->new_record = false;
	lock_drop(&p->lock);
	rc = step(cm, &p->space, step_chunk_space);
	if (!rc)
		rc = step(cm, &p->map, step_chunk_map);
	return rc;
}

/* Converges: a node moves at most once per transaction, so the second visit of a chunk changes only
 * values. */
static int freeze_space(struct commit *cm)
{
	for (;;) {
		int rc = apply_frees(cm);

		if (rc)
			return rc;
		if (!next_dirty_chunk(cm))
			return 0;
		rc = write_chunk_items(cm);
		if (rc)
			return rc;
	}
}

/* ---- chunks that became empty ---- */

static int step_del_map(struct pool *p, void *arg)
{
	struct commit *cm = arg;
	int rc = btree_del(&p->map, (struct key){cm->c->id, 1, 0});

	return rc == -ENOENT ? 0 : rc;
}

static int step_del_space(struct pool *p, void *arg)
{
	struct commit *cm = arg;
	int rc = btree_del(&p->space, (struct key){cm->c->id, 1, 0});

	return rc == -ENOENT ? 0 : rc;
}

static int remove_empty_chunks(struct commit *cm)
{
	struct pool *p = cm->p;

	for (;;) {
		int rc;

		lock_take(&p->lock);
		cm->c = chunk_list_empty(p);
		if (cm->c)
			cm->c->condemned = true;
		lock_drop(&p->lock);
		if (!cm->c)
			return 0;
		rc = step(cm, &p->map, step_prepare_chunk);
		if (!rc)
			rc = step(cm, &p->space, step_del_space);
		if (!rc)
			rc = step(cm, &p->map, step_del_map);
		if (rc)
			return rc;
		lock_take(&p->lock);
		if (!cm->c->used && !cm->c->busy_count && !cm->c->is_write_point)
			chunk_remove(p, cm->c);
		else
			cm->c->condemned = false, chunk_mark_dirty(p, cm->c);
		lock_drop(&p->lock);
	}
}

/* ---- superblock of this commit ---- */

static void fill_sb(struct pool *p, struct sb_disk *sb, uint64_t txn, bool clean)
{
	unsigned boot = 0;

	memset(sb, 0, sizeof *sb);
	memcpy(sb->magic, SB_MAGIC, 8);
	sb->version = le32_of(SB_VERSION);
	memcpy(sb->pool_uuid, p->uuid, 16);
	snprintf(sb->pool_name, sizeof sb->pool_name, "%s", p->name);
	sb->txn = le64_of(txn);
	sb->wall_ns = le64_of(reactor_wall_ns());
	sb->flags = le32_of((clean ? SB_FLAG_CLEAN : 0) | (p->rebalancing ? SB_FLAG_REBALANCE : 0));
	sb->chunk_blocks = le32_of(p->chunk_blocks);
	sb->next_chunk_id = le64_of(p->next_chunk_id);
	sb->next_volume_id = le64_of(p->next_volume_id);
	sb->log_chunk_id = le64_of(p->log_chunk->id);
	sb->log_seq = le64_of(p->log_seq);
	sb->log_pos = le32_of(p->log_pos);
	sb->log_epoch = le64_of(p->log_epoch);
	root_to_disk(&p->map, &sb->map);
	root_to_disk(&p->space, &sb->space);
	root_to_disk(&p->root, &sb->root);
	class_to_sb(p, sb);
	sb->features_incompat =
		le64_of(le64_get(sb->features_incompat) | (p->refs_used ? SB_FEATURE_REFS : 0) |
			(p->snaps_used ? SB_FEATURE_SNAPS : 0));
	for (unsigned k = 1; k <= COPIES_MAX; k++)
		for (unsigned f = 0; f < CHUNK_FREE_CLASSES; f++)
			for (struct chunk *c = p->lists[CHUNK_BOOT][k].by_free[f]; c;
			     c = c->list_next)
				if (boot < SB_BOOT_MAX)
					chunk_to_disk(c, &sb->boot[boot++]);
	sb->boot_count = le32_of(boot);
}

static int freeze(struct commit *cm, bool clean)
{
	struct pool *p = cm->p;
	struct txn *next;
	unsigned tries = 0;
	int rc = remove_empty_chunks(cm);

	if (!rc)
		rc = freeze_dead(cm);
	if (!rc)
		rc = freeze_volumes(cm);
	if (!rc)
		rc = freeze_space(cm);
	do {
		next = calloc(1, sizeof *next);
	} while (!next && again(p, -ENOMEM, &tries));
	if (!rc && !next)
		rc = -ENOMEM;
	if (rc) {
		free(next);
		return rc;
	}
	lock_take(&p->lock);
	btree_seal(&p->root, collect_node, cm);
	btree_seal(&p->space, collect_node, cm);
	btree_seal(&p->map, collect_node, cm);
	fill_sb(p, p->sb_next, cm->txn->nr, clean);
	vol_freeze_marks(p, cm->txn->nr);
	ilog_frozen_locked(p);
	next->nr = cm->txn->nr + 1;
	cm->txn->next = next;
	p->open = next;
	p->commit_wanted = false;
	p->dirty_since_ns = 0;
	lock_drop(&p->lock);
	return 0;
}

/* ---- writing nodes ---- */

#define NODE_WRITES_MAX 32

struct node_writer {
	struct pool *p;
	struct co *co;
	unsigned pending;
	bool waiting;
	int res;
};
struct node_write {
	struct chunk_write_io w;
	struct iovec iov[16];
	struct node_writer *nw;
};

static void node_write_done(struct chunk_write_io *w)
{
	struct node_write *n = w->arg;
	struct node_writer *nw = n->nw;

	if (w->res)
		nw->res = w->res;
	nw->pending--;
	free(n);
	if (nw->waiting) {
		nw->waiting = false;
		co_wake(nw->co);
	}
}

static int cmp_addr(const void *a, const void *b)
{
	const struct node *x = *(struct node *const *)a, *y = *(struct node *const *)b;

	return x->addr.v < y->addr.v ? -1 : x->addr.v > y->addr.v;
}

static void writer_wait(struct node_writer *nw, unsigned most)
{
	while (nw->pending > most) {
		nw->waiting = true;
		co_yield ();
	}
}

static int write_sorted(struct pool *p, struct node **sorted, size_t count)
{
	struct node_writer nw = {.p = p, .co = co_self()};

	for (size_t i = 0; i < count && !nw.res;) {
		struct node_write *n = malloc(sizeof *n);
		struct addr first = sorted[i]->addr;
		unsigned k = 0;

		if (!n) {
			nw.res = -ENOMEM;
			break;
		}
		n->nw = &nw;
		n->w.done = node_write_done;
		n->w.arg = n;
		while (i < count && k < 16 &&
		       addr_eq(sorted[i]->addr, addr_add(first, k * NODE_BLOCKS)))
			n->iov[k++] = (struct iovec){sorted[i++]->buf, NODE_SIZE};
		nw.pending++;
		chunk_write_start(p, &n->w, first, k * NODE_BLOCKS, n->iov, k, 0);
		writer_wait(&nw, NODE_WRITES_MAX);
	}
	writer_wait(&nw, 0);
	return nw.res;
}

static int write_nodes(struct commit *cm)
{
	struct node **sorted = malloc((cm->node_count + 1) * sizeof(struct node *));
	size_t i = 0;
	int rc;

	if (!sorted)
		return -ENOMEM;
	for (struct node *n = cm->nodes; n; n = n->list_next)
		sorted[i++] = n;
	qsort(sorted, cm->node_count, sizeof sorted[0], cmp_addr);
	rc = write_sorted(cm->p, sorted, cm->node_count);
	free(sorted);
	return rc;
}

/* ---- the whole ---- */

static void gate_close(struct pool *p)
{
	lock_take(&p->lock);
	p->gate_closed = true;
	p->gate_closed_ns = reactor_now_ns();
	while (p->gate_count && !p->faulted)
		waitq_wait(&p->drain_waiters, &p->lock);
	while (p->flush_jobs && !p->faulted)
		waitq_wait(&p->data_waiters, &p->lock);
	lock_drop(&p->lock);
}

static void gate_open(struct pool *p)
{
	lock_take(&p->lock);
	p->gate_closed = false;
	p->commit_gate_ns = reactor_now_ns() - p->gate_closed_ns;
	waitq_wake_all(&p->gate_waiters);
	waitq_wake_all(&p->data_waiters);
	lock_drop(&p->lock);
}

static int wait_data(struct pool *p, struct txn *t)
{
	int rc;

	lock_take(&p->lock);
	while (t->data_io && !p->faulted)
		waitq_wait(&p->data_waiters, &p->lock);
	rc = p->faulted ? ERR_FAULTED : 0;
	lock_drop(&p->lock);
	return rc;
}

/* The nodes are on disk, whatever becomes of the transaction. */
static void nodes_written_locked(struct commit *cm)
{
	struct pool *p = cm->p;

	for (struct node *n = cm->nodes, *next; n; n = next) {
		next = n->list_next;
		if (n->freed)
			node_cache_drop(p->cache, n);
		else
			node_cache_clean(p->cache, n);
	}
	cm->nodes = NULL;
	node_cache_trim(p->cache);
}

static void durable(struct commit *cm)
{
	struct pool *p = cm->p;
	struct sb_disk *old;

	lock_take(&p->lock);
	for (struct txn *t = p->oldest; t->nr <= cm->txn->nr; t = t->next)
		t->durable = true;
	p->durable_txn = cm->txn->nr;
	p->commits++;
	old = p->sb;
	p->sb = p->sb_next;
	p->sb_next = old;
	nodes_written_locked(cm);
	ilog_durable_locked(p);
	vol_durable_marks(p);
	space_release(p);
	/* The next commit gives their slots back, also when nobody writes. */
	if (chunk_list_empty(p))
		txn_mark_dirty_locked(p);
	lock_drop(&p->lock);
}

static uint64_t dirty_blocks(struct pool *p)
{
	uint64_t n = 0;

	lock_take(&p->lock);
	for (struct vol *v = p->vols; v; v = v->next)
		n += v->active_blocks;
	lock_drop(&p->lock);
	return n;
}

/* What is dirty when the gate closes is entered in the trees while writers wait, some microseconds
 * a block: it is flushed until so little is left, unless they are faster: what a pass leaves behind
 * is what they wrote meanwhile, and no other makes it less. */
#define GATE_BLOCKS    16u
#define FLUSH_PASSES   5u
#define MANY_BLOCKS    128u
#define READY_PAUSE_NS 20000u

/* Most of the work of sealing, before the gate closes. The pauses let those in who wait for the
 * lock: it is not fair. */
static void make_ready(struct pool *p)
{
	uint64_t pos = 0;
	bool more;

	do {
		lock_take(&p->lock);
		more = node_cache_make_ready(p->cache, &pos);
		lock_drop(&p->lock);
		if (more)
			co_sleep_ns(READY_PAUSE_NS);
	} while (more);
}

/* Older programs take the newest superblock that they understand: when a pool begins to use a
 * feature that they must refuse, none of the others may be left. */
static int superblocks_write(struct pool *p)
{
	uint64_t has = le64_get(p->sb_next->features_incompat);
	bool all = has & ~le64_get(p->sb->features_incompat);
	unsigned tries = 0;
	int rc = 0;

	for (unsigned i = 0; i < (all ? SB_RING_SLOTS : 1) && !rc; i++)
		do {
			rc = sb_write_all(p, p->sb_next);
		} while (again(p, rc, &tries));
	return rc;
}

static int flush_open(struct pool *p, unsigned passes)
{
	uint64_t before = UINT64_MAX, n;
	int rc = 0;

	for (; !rc && passes && (n = dirty_blocks(p)) > GATE_BLOCKS; passes--) {
		if (n > MANY_BLOCKS && n > before / 2)
			break;
		before = n;
		rc = flush_all(p, false);
	}
	return rc;
}

static int commit_once(struct pool *p, bool clean)
{
	struct commit cm = {.p = p};
	unsigned tries = 0;
	int rc = flush_open(p, FLUSH_PASSES);

	make_ready(p);
	if (!rc)
		rc = flush_open(p, 2);
	gate_close(p);
	if (!rc)
		rc = flush_all(p, true);
	lock_take(&p->lock);
	cm.txn = p->open;
	lock_drop(&p->lock);
	if (!rc)
		rc = freeze(&cm, clean);
	if (rc) { /* trees may be sealed half-way: nobody may change them any more */
		lock_take(&p->lock);
		pool_fault_locked(p, rc, "commit");
		lock_drop(&p->lock);
	}
	gate_open(p);
	if (rc)
		return rc;
	rc = wait_data(p, cm.txn);
	if (!rc)
		do {
			rc = write_nodes(&cm);
		} while (again(p, rc, &tries));
	if (!rc && cm.txn->data_failed) {
		/* Some of its data found no device and is dirty again: only the next one is a state
		 * to come back to. */
		lock_take(&p->lock);
		nodes_written_locked(&cm);
		snap_give_up(p, cm.txn->nr);
		lock_drop(&p->lock);
		return ERR_LAST;
	}
	if (!rc)
		do {
			rc = chunk_flush_all(p);
		} while (again(p, rc, &tries));
	if (!rc)
		rc = superblocks_write(p);
	if (!rc)
		durable(&cm);
	return rc;
}

int txn_commit_run(struct pool *p, bool clean)
{
	int rc;

	lock_take(&p->lock);
	while (p->commit_running && !p->faulted)
		waitq_wait(&p->commit_waiters, &p->lock);
	rc = p->faulted ? ERR_FAULTED : p->read_only ? ERR_READONLY : 0;
	if (rc) {
		lock_drop(&p->lock);
		return rc;
	}
	p->commit_running = true;
	p->commit_begun_ns = reactor_wall_ns();
	lock_drop(&p->lock);
	for (unsigned tries = 0; tries < 5; tries++) {
		rc = commit_once(p, clean);
		if (rc != ERR_LAST)
			break;
	}
	lock_take(&p->lock);
	p->commit_running = false;
	p->commit_ended_ns = reactor_wall_ns();
	if (rc)
		pool_fault_locked(p, rc, "commit");
	waitq_wake_all(&p->commit_waiters);
	lock_drop(&p->lock);
	return rc;
}
