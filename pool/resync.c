#include "pool/resync.h"
#include <string.h>
#include "pool/chunk.h"
#include "pool/event.h"
#include "pool/sb.h"
#include "pool/space.h"
#include "pool/txn.h"
#include "pool/vol_damage.h"
#include "pool/walk.h"

#define RETRY_NS	5000000000ull
#define READERS_POLL_NS 50000000ull
#define UNREAD_TRIES	3u /* runs, before what cannot be read counts as lost */

struct resync {
	struct pool *p;
	uint64_t since; /* oldest gap */
	uint64_t until; /* the commit walked */
	uint8_t *buf;
	bool devs[POOL_DEVS_MAX]; /* being brought up to date */
	unsigned generation[POOL_DEVS_MAX];
	uint64_t bytes;
	uint64_t skipped;	     /* a device is away that may have it */
	uint64_t unread, lost_nodes; /* no device can read it; none has it right */
};

/* Members of the chunk of `a` that lack a block of that birth. */
static unsigned stale_members(struct resync *r, struct addr a, uint64_t birth)
{
	struct pool *p = r->p;
	struct chunk *c;
	unsigned mask = 0;

	lock_take(&p->lock);
	c = chunk_find(p, addr_chunk(a));
	for (unsigned i = 0; c && i < c->nmembers; i++) {
		uint64_t since = chunk_member_since(p, &c->m[i]);

		if (since && since <= birth && r->devs[c->m[i].dev] &&
		    dev_writable(&p->devs[c->m[i].dev]))
			mask |= 1u << i;
	}
	lock_drop(&p->lock);
	return mask;
}

static int copy_to(struct resync *r, struct addr a, uint32_t blocks, unsigned mask)
{
	struct pool *p = r->p;

	for (unsigned m = 0; m < MEMBERS_MAX; m++) {
		struct chunk *c;
		int rc;

		if (!(mask & 1u << m))
			continue;
		rc = chunk_write_member(p, a, blocks, r->buf, m);
		if (rc)
			return rc;
		r->bytes += (uint64_t)blocks * BLOCK_SIZE;
		lock_take(&p->lock);
		c = chunk_find(p, addr_chunk(a));
		if (c)
			p->devs[c->m[m].dev].resync_done += (uint64_t)blocks * BLOCK_SIZE;
		lock_drop(&p->lock);
	}
	return 0;
}

struct node_check {
	struct resync *r;
	const struct node_ptr *ptr;
	uint64_t tree;
	uint8_t level;
};

static int verify_node(void *arg, const void *buf)
{
	const struct node_check *nc = arg;

	return node_validate(buf, nc->ptr, nc->r->p->uuid, nc->tree, nc->level, false, NULL);
}

static bool stopped(struct resync *r)
{
	bool s;

	lock_take(&r->p->lock);
	s = r->p->stopping || r->p->faulted;
	lock_drop(&r->p->lock);
	return s;
}

/* Is a member of the chunk out of service? It may have what the others have not. */
static bool member_away(struct resync *r, struct addr a)
{
	struct pool *p = r->p;
	struct chunk *c;
	bool away = false;

	lock_take(&p->lock);
	c = chunk_find(p, addr_chunk(a));
	for (unsigned i = 0; c && i < c->nmembers; i++)
		away |= !dev_writable(&p->devs[c->m[i].dev]);
	lock_drop(&p->lock);
	return away;
}

/* A node that no device can give: what is lost is passed over, for there is nothing to copy. */
static int miss_node(struct resync *r, struct addr a, int rc)
{
	if (rc == ERR_FAULTED || rc == -ENOMEM)
		return rc;
	if (!vol_damage_is(rc) || member_away(r, a))
		r->skipped++;
	else if (rc == -EIO)
		r->unread++;
	else
		r->lost_nodes++;
	return 0;
}

static int on_node(void *arg, uint64_t tree_id, const struct node_ptr *ptr, uint8_t level)
{
	struct resync *r = arg;
	unsigned mask = stale_members(r, ptr->addr, ptr->birth);
	struct node_check nc = {r, ptr, tree_id, level};
	int rc;

	if (stopped(r))
		return ERR_FAULTED;
	if (!mask)
		return 0;
	rc = chunk_read_verified(r->p, ptr->addr, NODE_BLOCKS, r->buf, verify_node, &nc,
				 "resync of a node");
	return rc ? miss_node(r, ptr->addr, rc) : copy_to(r, ptr->addr, NODE_BLOCKS, mask);
}

struct ext_check {
	const struct extent *x;
};

static int verify_ext(void *arg, const void *buf)
{
	const struct ext_check *ec = arg;

	for (unsigned i = 0; i < ec->x->stored_blocks; i++)
		if (crc32c(0, (const uint8_t *)buf + i * BLOCK_SIZE, BLOCK_SIZE) != ec->x->crc[i])
			return ERR_CSUM;
	return 0;
}

static int on_item(void *arg, uint64_t tree_id, const struct btree_item *it)
{
	struct resync *r = arg;
	struct extent x;
	struct ext_check ec = {&x};
	char what[96];
	unsigned mask;
	int rc;

	if (tree_id < TREE_VOLUME_FIRST || it->key.type != VOL_KEY_EXTENT ||
	    extent_decode(it, &x) || x.codec == EXTENT_RESERVED || x.birth < r->since)
		return 0;
	mask = stale_members(r, x.addr, x.birth);
	if (!mask)
		return 0;
	snprintf(what, sizeof what, "resync of volume %llu object %llu offset %llu",
		 (unsigned long long)tree_id, (unsigned long long)it->key.object,
		 (unsigned long long)x.lblk * BLOCK_SIZE);
	rc = chunk_read_verified(r->p, x.addr, x.stored_blocks, r->buf, verify_ext, &ec, what);
	if (rc == ERR_CSUM) /* lost already: nothing to copy, reported */
		return 0;
	if (rc) {
		r->unread += rc == -EIO;
		r->skipped += rc != -EIO;
		return rc == ERR_FAULTED || rc == -ENOMEM ? rc : 0;
	}
	return copy_to(r, x.addr, x.stored_blocks, mask);
}

static int on_bad(void *arg, uint64_t tree_id, const struct node_ptr *ptr, uint8_t level, int rc)
{
	(void)tree_id, (void)level;
	return miss_node(arg, ptr->addr, rc);
}

/* Lock held: which devices, since when; chunks short of members get them. False: nothing to do. */
static bool plan(struct resync *r)
{
	struct pool *p = r->p;

	r->since = UINT64_MAX;
	for (unsigned i = 0; i < p->ndevs; i++) {
		struct dev *d = &p->devs[i];

		r->devs[i] = dev_writable(d);
		r->generation[i] = d->generation;
		if (d->state == DEV_RESYNC && d->stale_since < r->since)
			r->since = d->stale_since;
	}
	for (size_t h = 0; h < p->chunk_hash_size; h++)
		for (struct chunk *c = p->chunk_hash[h]; c; c = c->hash_next) {
			if (c->nmembers < c->copies && space_can_complete(p, c))
				chunk_add_members(p, c);
			for (unsigned i = 0; i < c->nmembers; i++)
				if (c->m[i].stale_since && r->devs[c->m[i].dev] &&
				    c->m[i].stale_since < r->since)
					r->since = c->m[i].stale_since;
		}
	return r->since != UINT64_MAX;
}

/* Done: members and devices are current. */
static void finish(struct resync *r)
{
	struct pool *p = r->p;

	lock_take(&p->lock);
	p->resync_unread = 0;
	if (r->lost_nodes || r->unread)
		event_emit_locked(p, "resync-lost",
				  "resync passed over %llu nodes that no device has right and %llu "
				  "pieces that none can read; `tarn pool check` says where",
				  (unsigned long long)r->lost_nodes, (unsigned long long)r->unread);
	for (unsigned i = 0; i < p->ndevs; i++)
		r->devs[i] &= r->generation[i] ==
			      p->devs[i].generation; /* else it missed something since */
	for (size_t h = 0; h < p->chunk_hash_size; h++)
		for (struct chunk *c = p->chunk_hash[h]; c; c = c->hash_next)
			for (unsigned i = 0; i < c->nmembers; i++)
				if (c->m[i].stale_since && r->devs[c->m[i].dev] &&
				    dev_writable(&p->devs[c->m[i].dev])) {
					c->m[i].stale_since = 0;
					chunk_mark_dirty(p, c);
				}
	for (unsigned i = 0; i < p->ndevs; i++) {
		struct dev *d = &p->devs[i];

		if (!r->devs[i] || d->state != DEV_RESYNC)
			continue;
		d->state = DEV_ONLINE;
		d->stale_since = 0;
		event_emit_locked(p, "resync-done",
				  "device %u (%s) is up to date; %llu bytes copied", d->id, d->path,
				  (unsigned long long)d->resync_done);
	}
	lock_drop(&p->lock);
}

/* What was freed before the walk came by was not copied, but readers of older states may still ask
 * for it: members become current when these readers are done. */
static int wait_readers(struct resync *r)
{
	struct pool *p = r->p;
	bool wait = true;
	uint64_t walked;

	lock_take(&p->lock);
	walked = p->durable_txn;
	lock_drop(&p->lock);
	while (wait) {
		lock_take(&p->lock);
		wait = p->oldest->nr <= walked && !p->stopping && !p->faulted;
		lock_drop(&p->lock);
		if (wait)
			co_sleep_ns(READERS_POLL_NS);
	}
	return stopped(r) ? ERR_FAULTED : 0;
}

/* Members given to existing chunks must not be taken for current by a reader of older records: they
 * are marked stale in the same commit that names them. The log chunk needs no copying: its groups
 * are short-lived and read from any member. */
static int run(struct resync *r)
{
	struct pool *p = r->p;
	const struct walk_ops ops = {NULL, on_node, on_item, on_bad};
	int rc;

	walk_exact(p, true);
	rc = txn_commit_wait(p); /* all older changes on disk, new members recorded */
	if (!rc)
		rc = walk_live(p, r->since, &ops, r);
	walk_exact(p, false);
	if (!rc && (r->skipped || (r->unread && ++p->resync_unread < UNREAD_TRIES)))
		rc = -EIO; /* what could not be read now may be readable later */
	if (!rc)
		rc = wait_readers(r);
	if (!rc)
		rc = chunk_flush_all(p);
	return rc;
}

static void resync_main(void *arg)
{
	struct pool *p = arg;
	struct resync r = {.p = p};
	bool todo;
	int rc = 0;

	r.buf = aligned_alloc(BLOCK_SIZE, EXTENT_BLOCKS_MAX * BLOCK_SIZE);
	lock_take(&p->lock);
	todo = r.buf && plan(&r);
	for (unsigned i = 0; i < p->ndevs; i++)
		p->devs[i].resync_done = 0;
	lock_drop(&p->lock);
	if (todo) {
		rc = run(&r);
		if (!rc) {
			finish(&r);
			rc = txn_commit_wait(p);
		}
		if (rc)
			event_emit(p, "resync-stopped", "resync stopped: %s; it is tried again",
				   err_str(rc));
	}
	free(r.buf);
	lock_take(&p->lock);
	if (rc || !r.buf) {
		p->resync_wanted = true;
		p->resync_after_ns = reactor_now_ns() + RETRY_NS;
	}
	p->resync_running = false;
	p->bg_count--;
	waitq_wake_all(&p->bg_waiters);
	lock_drop(&p->lock);
}

void resync_start_wanted(struct pool *p)
{
	bool start;

	lock_take(&p->lock);
	start = p->resync_wanted && !p->resync_running && !p->mover_running && !p->stopping &&
		!p->faulted && reactor_now_ns() >= p->resync_after_ns;
	if (start) {
		p->resync_wanted = false;
		p->resync_running = true;
		p->bg_count++;
	}
	lock_drop(&p->lock);
	if (start && co_spawn(p->bg, resync_main, p)) {
		lock_take(&p->lock);
		p->resync_running = false;
		p->resync_wanted = true;
		p->bg_count--;
		lock_drop(&p->lock);
	}
}
