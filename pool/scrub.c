/* scrub: read every copy of everything that is in use, verify it, repair what is wrong from a right
 * copy.
 *
 * Walks the live trees; a node or extent is verified on each current member in turn. Counts per
 * device; what could not be repaired stays in the counters and in the events. Throttled like the
 * mover; stops with the pool and then starts from the beginning.
 */
#include <string.h>
#include "pool/chunk.h"
#include "pool/event.h"
#include "pool/scrub.h"
#include "pool/txn.h"
#include "pool/vol_damage.h"
#include "pool/walk.h"

struct scrub {
	struct pool *p;
	uint8_t *buf;
	const uint64_t *only; /* NULL, or the chunks that are meant */
	unsigned only_count;
	bool missed; /* a node: what lies below it was not verified */
	bool blind;  /* of the pool's own trees */
};

static bool meant(const struct scrub *s, struct addr a)
{
	for (unsigned i = 0; i < s->only_count; i++)
		if (s->only[i] == addr_chunk(a))
			return true;
	return !s->only;
}

/* Current members; for the mover also those that are being copied. */
static unsigned pick_members(const struct scrub *s, struct addr a, struct chunk_slot *t)
{
	struct pool *p = s->p;
	struct chunk *c;
	unsigned n = 0;

	lock_take(&p->lock);
	c = chunk_find(p, addr_chunk(a));
	for (unsigned i = 0; c && i < c->nmembers; i++)
		if (p->devs[c->m[i].dev].state == DEV_ONLINE &&
		    (!chunk_member_since(p, &c->m[i]) ||
		     (s->only && c->m[i].stale_since == 1 && !p->devs[c->m[i].dev].stale_since)))
			t[n++] = chunk_slot_of(&c->m[i]);
	lock_drop(&p->lock);
	return n;
}

static void count(struct pool *p, uint32_t dev, uint32_t blocks, bool bad, bool repaired)
{
	lock_take(&p->lock);
	p->scrub.done_bytes += (uint64_t)blocks * BLOCK_SIZE;
	p->scrub.dev_bytes[dev] += (uint64_t)blocks * BLOCK_SIZE;
	p->scrub.dev_errors[dev] += bad;
	p->scrub.repaired += repaired;
	p->scrub.unrepaired += bad && !repaired;
	lock_drop(&p->lock);
}

/* One copy: read and verify; if it is bad, read a right one and write it back. */
static int scrub_copy(struct scrub *s, struct addr a, uint32_t blocks, struct chunk_slot at,
		      chunk_verify_fn *fn, void *arg, const char *what)
{
	struct pool *p = s->p;
	uint64_t start = reactor_now_ns(), took;
	int rc = chunk_read_slot(p, a, blocks, s->buf, at), fixed = -EIO;

	if (rc == ERR_LAST) /* moved away meanwhile */
		return 0;
	if (!rc)
		rc = fn(arg, s->buf);
	if (rc) {
		int why = rc;

		fixed = chunk_read_verified(p, a, blocks, s->buf, fn, arg, what);
		if (!fixed)
			fixed = chunk_write_slot(p, a, blocks, s->buf, at);
		event_emit(p, fixed ? "scrub-bad" : "scrub-repaired", "%s: %s on device %u; %s",
			   what, err_str(why), at.dev,
			   fixed ? "no right copy to repair it from" : "repaired");
		if (fixed == ERR_FAULTED)
			return fixed;
	}
	if (!s->only)
		count(p, at.dev, blocks, rc, rc && !fixed);
	took = reactor_now_ns() - start;
	if (took > 20000)
		co_sleep_ns(took);
	return (!s->only && p->scrub.stop) || p->stopping || p->faulted ? ERR_FAULTED : 0;
}

static int scrub_run(struct scrub *s, struct addr a, uint32_t blocks, chunk_verify_fn *fn,
		     void *arg, const char *what)
{
	struct chunk_slot t[MEMBERS_MAX];
	unsigned n = meant(s, a) ? pick_members(s, a, t) : 0;
	int rc = 0;

	for (unsigned i = 0; i < n && !rc; i++)
		rc = scrub_copy(s, a, blocks, t[i], fn, arg, what);
	return rc;
}

struct node_arg {
	struct pool *p;
	const struct node_ptr *ptr;
	uint64_t tree;
	uint8_t level;
};

static int verify_node(void *arg, const void *buf)
{
	const struct node_arg *na = arg;

	return node_validate(buf, na->ptr, na->p->uuid, na->tree, na->level, false, NULL);
}

static int on_node(void *arg, uint64_t tree_id, const struct node_ptr *ptr, uint8_t level)
{
	struct scrub *s = arg;
	struct node_arg na = {s->p, ptr, tree_id, level};
	char what[64];

	uint64_t bad = s->p->scrub.unrepaired;
	int rc;

	snprintf(what, sizeof what, "tree %llu node %llx", (unsigned long long)tree_id,
		 (unsigned long long)ptr->addr.v);
	rc = scrub_run(s, ptr->addr, NODE_BLOCKS, verify_node, &na, what);
	if (!s->only && s->p->scrub.unrepaired != bad) { /* it is in memory only */
		lock_take(&s->p->lock);
		vol_damage_note(s->p, tree_id, ERR_CSUM);
		lock_drop(&s->p->lock);
	}
	return rc;
}

static int verify_extent(void *arg, const void *buf)
{
	const struct extent *x = arg;

	for (unsigned i = 0; i < x->stored_blocks; i++)
		if (crc32c(0, (const uint8_t *)buf + i * BLOCK_SIZE, BLOCK_SIZE) != x->crc[i])
			return ERR_CSUM;
	return 0;
}

static int on_item(void *arg, uint64_t tree_id, const struct btree_item *it)
{
	struct scrub *s = arg;
	struct extent x;
	char what[96];

	if (tree_id < TREE_VOLUME_FIRST || it->key.type != VOL_KEY_EXTENT ||
	    extent_decode(it, &x) || x.codec == EXTENT_RESERVED)
		return 0;
	snprintf(what, sizeof what, "volume %llu object %llu offset %llu",
		 (unsigned long long)tree_id, (unsigned long long)it->key.object,
		 (unsigned long long)x.lblk * BLOCK_SIZE);
	return scrub_run(s, x.addr, x.stored_blocks, verify_extent, &x, what);
}

static int on_bad(void *arg, uint64_t tree_id, const struct node_ptr *ptr, uint8_t level, int rc)
{
	struct scrub *s = arg;

	(void)ptr, (void)level;
	s->missed = true;
	s->blind |= tree_id < TREE_VOLUME_FIRST;
	lock_take(&s->p->lock);
	s->p->scrub.unrepaired += !s->only;
	lock_drop(&s->p->lock);
	return rc == ERR_FAULTED || rc == -ENOMEM ? rc : 0;
}

int scrub_chunks(struct pool *p, const uint64_t *ids, unsigned n)
{
	const struct walk_ops ops = {NULL, on_node, on_item, on_bad};
	struct scrub s = {.p = p, .only = ids, .only_count = n};
	int rc;

	s.buf = aligned_alloc(BLOCK_SIZE, EXTENT_BLOCKS_MAX * BLOCK_SIZE);
	if (!s.buf)
		return -ENOMEM;
	walk_exact(p, true);
	rc = txn_commit_wait(p);
	if (!rc)
		rc = walk_live(p, 0, &ops, &s);
	walk_exact(p, false);
	free(s.buf);
	return !rc && s.missed ? -EIO : rc;
}

static void scrub_main(void *arg)
{
	const struct walk_ops ops = {NULL, on_node, on_item, on_bad};
	struct pool *p = arg;
	struct scrub s = {.p = p};
	int rc = -ENOMEM;

	s.buf = aligned_alloc(BLOCK_SIZE, EXTENT_BLOCKS_MAX * BLOCK_SIZE);
	if (s.buf)
		rc = walk_live(p, 0, &ops, &s);
	free(s.buf);
	lock_take(&p->lock);
	p->scrub.running = false;
	p->scrub.complete = !rc;
	p->scrub.ended_ns = reactor_wall_ns();
	if (!rc && !s.blind)
		vol_damage_scrub_end(p);
	event_emit_locked(p, rc ? "scrub-stopped" : "scrub-done",
			  "scrub %s: %llu bytes read, %llu repaired, %llu not",
			  rc ? "stopped" : "complete", (unsigned long long)p->scrub.done_bytes,
			  (unsigned long long)p->scrub.repaired,
			  (unsigned long long)p->scrub.unrepaired);
	p->bg_count--;
	waitq_wake_all(&p->bg_waiters);
	lock_drop(&p->lock);
}

static uint64_t bytes_on_devices(const struct pool *p)
{
	uint64_t blocks = 0;

	for (size_t h = 0; h < p->chunk_hash_size; h++)
		for (const struct chunk *c = p->chunk_hash[h]; c; c = c->hash_next)
			if (c->kind != CHUNK_LOG)
				blocks += (uint64_t)c->used * c->nmembers;
	return blocks * BLOCK_SIZE;
}

int pool_scrub_start(struct pool *p, struct err *e)
{
	int rc = 0;

	lock_take(&p->lock);
	if (p->scrub.running)
		rc = -EBUSY;
	else if (p->faulted)
		rc = ERR_FAULTED;
	else if (p->read_only || p->stopping)
		rc = ERR_READONLY;
	if (!rc) {
		memset(&p->scrub, 0, sizeof p->scrub);
		vol_damage_scrub_begin(p);
		p->scrub.running = true;
		p->scrub.started_ns = reactor_wall_ns();
		p->scrub.total_bytes = bytes_on_devices(p);
		p->bg_count++;
	}
	lock_drop(&p->lock);
	if (rc)
		return err_set(
			e, rc,
			rc == -EBUSY ? "a scrub is running; `tarn pool status` shows how far it is"
				     : "the pool cannot be scrubbed now: %s",
			err_str(rc));
	if (!co_spawn(p->bg, scrub_main, p))
		return 0;
	lock_take(&p->lock);
	p->scrub.running = false;
	p->bg_count--;
	lock_drop(&p->lock);
	return err_set(e, -ENOMEM, "out of memory");
}

void pool_scrub_stop(struct pool *p)
{
	lock_take(&p->lock);
	p->scrub.stop = true;
	lock_drop(&p->lock);
}

void pool_scrub_status_get(struct pool *p, struct pool_scrub_status *ret_s)
{
	lock_take(&p->lock);
	*ret_s = p->scrub;
	lock_drop(&p->lock);
}
