#include "pool/space.h"
#include <string.h>
#include "pool/chunk.h"
#include "pool/chunk_list.h"
#include "pool/class.h"
#include "pool/discard.h"
#include "pool/place.h"
#include "pool/refs.h"
#include "pool/snap.h"
#include "pool/squeeze.h"
#include "pool/txn.h"
#include "pool/vol_held.h"

int space_bits_alloc(struct pool *p, struct chunk *c)
{
	size_t words = (p->chunk_blocks + 63) / 64;

	c->bits = calloc(words, 8);
	c->busy = calloc(words, 8);
	if (c->bits && c->busy)
		return 0;
	free(c->bits);
	free(c->busy);
	c->bits = c->busy = NULL;
	return -ENOMEM;
}

/* ---- admission ---- */

static uint64_t div_up(uint64_t a, uint64_t b)
{
	return (a + b - 1) / b;
}

static uint64_t meta_free_blocks(const struct pool *p)
{
	return p->lists[CHUNK_META][chunk_meta_copies(p)].free_blocks;
}

void space_reserve_init(struct pool *p)
{
	uint64_t slots = 0, sets, blocks;
	unsigned mc = chunk_meta_copies(p);

	for (unsigned i = 0; i < p->ndevs; i++)
		slots += p->devs[i].flags & DEV_F_SPARE ? 0 : p->devs[i].slots;
	sets = slots / (mc ? mc : 1);
	/* 3 % for what trees need beside a full pool of 4 KiB extents, and enough for two
	 * transactions' worth of copied nodes in the smallest pools. */
	blocks = sets * p->chunk_blocks * 3 / 100;
	if (blocks < 3ull * p->chunk_blocks)
		blocks = 3ull * p->chunk_blocks;
	if (blocks > sets * p->chunk_blocks / 4)
		blocks = sets * p->chunk_blocks / 4;
	p->reserve_meta_blocks = blocks;
	p->dirty_nodes_max = blocks / NODE_BLOCKS / 4;
	if (p->dirty_nodes_max > 4096)
		p->dirty_nodes_max = 4096;
	if (p->dirty_nodes_max < 24)
		p->dirty_nodes_max = 24;
}

/* Slots that must stay free for nodes. */
static uint64_t keep_slots(const struct pool *p)
{
	uint64_t have = meta_free_blocks(p);

	if (have >= p->reserve_meta_blocks)
		return 0;
	return div_up(p->reserve_meta_blocks - have, p->chunk_blocks) * chunk_meta_copies(p);
}

void space_slots_wanted(const struct pool *p, unsigned except, struct slots_wanted *ret_w)
{
	memset(ret_w, 0, sizeof *ret_w);
	for (unsigned k = 1; k < POLICIES; k++) {
		uint64_t have = p->lists[CHUNK_DATA][k].free_blocks;

		if (k != except && p->reserved[k] > have)
			ret_w->n[policy_class(k)] +=
				div_up(p->reserved[k] - have, p->chunk_blocks) * policy_copies(k);
	}
}

uint64_t space_promised_chunks(const struct pool *p)
{
	uint64_t have = meta_free_blocks(p), n = 0;

	if (have < p->reserve_meta_blocks)
		n = div_up(p->reserve_meta_blocks - have, p->chunk_blocks);
	for (unsigned k = 1; k < POLICIES; k++) {
		have = p->lists[CHUNK_DATA][k].free_blocks;
		if (p->reserved[k] > have)
			n += div_up(p->reserved[k] - have, p->chunk_blocks);
	}
	return n;
}

bool space_can_withhold(const struct pool *p, const struct chunk *c, uint32_t blocks)
{
	uint64_t have = p->lists[c->kind][chunk_policy(c)].free_blocks;
	uint64_t need =
		c->kind == CHUNK_DATA ? p->reserved[chunk_policy(c)] : p->reserve_meta_blocks;

	return have >= need + blocks;
}

/* nodes: slots that stay for them. */
static uint64_t available(struct pool *p, unsigned policy, uint64_t nodes)
{
	uint64_t have = p->lists[CHUNK_DATA][policy].free_blocks;
	struct slots_wanted w;

	space_slots_wanted(p, policy, &w);
	w.n[0] += nodes;
	have += place_creatable(p, policy, &w) * p->chunk_blocks;
	return have > p->reserved[policy] ? have - p->reserved[policy] : 0;
}

uint64_t space_available(struct pool *p, unsigned policy)
{
	return available(p, policy, keep_slots(p));
}

int space_admit(struct pool *p, unsigned policy, uint64_t blocks)
{
	uint64_t have = p->lists[CHUNK_DATA][policy].free_blocks;

	if (have < p->reserved[policy] + blocks && space_available(p, policy) < blocks &&
	    (!squeeze_give_back(p) || space_available(p, policy) < blocks)) {
		p->space_denied++;
		return -ENOSPC;
	}
	p->reserved[policy] += blocks;
	return 0;
}

/* Add (or take back) what other volumes are guaranteed and have not written yet. */
static void guarantees(const struct vol *self, bool add)
{
	struct pool *p = self->p;

	if (!p->any_reservation)
		return;
	for (const struct vol *v = p->vols; v; v = v->next) {
		uint64_t has = vol_held_least(v), n;

		if (v == self || v->destroying || v->trashed_ns || v->reservation_blocks <= has)
			continue;
		n = v->reservation_blocks - has;
		p->reserved[vol_policy(v)] += add ? n : -n;
	}
}

/* Within its own guarantee, which nodes must not eat up: like what is admitted already, it may use
 * their reserve. */
static int admit_guaranteed(struct vol *v, uint64_t blocks)
{
	unsigned policy = vol_policy(v);

	vol_held_try(v, UINT32_MAX);
	if (vol_held_most(v) + blocks > v->reservation_blocks ||
	    available(v->p, policy, 0) < blocks)
		return -ENOSPC;
	v->p->reserved[policy] += blocks;
	return 0;
}

static int admit_vol(struct vol *v, uint64_t blocks)
{
	int rc;

	guarantees(v, true);
	rc = space_admit(v->p, vol_policy(v), blocks);
	if (rc == -ENOSPC)
		rc = admit_guaranteed(v, blocks);
	guarantees(v, false);
	return rc;
}

int space_admit_vol(struct vol *v, uint64_t blocks)
{
	int rc = admit_vol(v, blocks);

	if (rc != -ENOSPC || !v->p->any_reservation)
		return rc;
	for (struct vol *o = v->p->vols; o;
	     o = o->next) /* do they hold what they are guaranteed? */
		if (o->reservation_blocks)
			vol_held_try(o, UINT32_MAX);
	return admit_vol(v, blocks);
}

uint64_t space_available_vol(struct vol *v)
{
	uint64_t n;

	guarantees(v, true);
	n = space_available(v->p, vol_policy(v));
	guarantees(v, false);
	return n;
}

void space_unadmit(struct pool *p, unsigned policy, uint64_t blocks)
{
	assert(p->reserved[policy] >= blocks);
	p->reserved[policy] -= blocks;
}

uint64_t space_kept_slots(struct pool *p)
{
	struct slots_wanted w;
	uint64_t n = keep_slots(p);

	space_slots_wanted(p, 0, &w);
	for (unsigned k = 0; k <= CLASSES_MAX; k++)
		n += w.n[k];
	return n;
}

bool space_can_complete(struct pool *p, const struct chunk *c)
{
	struct slots_wanted w;
	uint64_t slots = 0, all = 0;

	if (c->kind != CHUNK_DATA)
		return true;
	space_slots_wanted(p, 0, &w);
	for (unsigned i = 0; i < p->ndevs; i++) {
		if (!dev_placeable(&p->devs[i]))
			continue;
		all += p->devs[i].slots_free;
		if (class_holds(p, c->class, &p->devs[i]))
			slots += p->devs[i].slots_free;
	}
	return all > space_kept_slots(p) && (!c->class || slots > w.n[c->class]);
}

/* One device without room must not stop a pool where two others have some: new chunks are made with
 * fewer members then, and completed later. */
static uint64_t meta_creatable(struct pool *p)
{
	static const struct slots_wanted nothing;
	unsigned most = chunk_meta_copies(p);
	uint64_t n = 0;

	for (unsigned k = most; !n && k && k + 1 >= most; k--)
		n = place_creatable(p, k, &nothing);
	return n;
}

/* At least so much, and what the freeze will take for dead lists. */
static bool meta_left(struct pool *p, uint64_t blocks)
{
	uint64_t have = meta_free_blocks(p);

	blocks += snap_queued_nodes(p) * NODE_BLOCKS;
	return have >= blocks || have + meta_creatable(p) * p->chunk_blocks >= blocks;
}

bool space_meta_ok(struct pool *p)
{
	return meta_left(p, p->reserve_meta_blocks / 2);
}

bool space_meta_least(struct pool *p)
{
	return meta_left(p, p->reserve_meta_blocks * 3 / 8);
}

bool space_pressed(struct pool *p)
{
	uint64_t have;

	lock_take(&p->lock);
	have = meta_free_blocks(p) + meta_creatable(p) * p->chunk_blocks;
	lock_drop(&p->lock);
	return have < p->reserve_meta_blocks / 2;
}

/* ---- allocation ---- */

static bool is_free(const struct chunk *c, uint32_t i)
{
	return !bit_get(c->bits, i) && !bit_get(c->busy, i);
}

/* First free block at or after i, skipping full words. */
static uint32_t next_free(const struct pool *p, const struct chunk *c, uint32_t i)
{
	while (i < p->chunk_blocks) {
		uint64_t taken = (c->bits[i / 64] | c->busy[i / 64]) | ((1ull << (i % 64)) - 1);

		if (taken != UINT64_MAX) {
			i = i / 64 * 64 + (uint32_t)__builtin_ctzll(~taken);
			return i;
		}
		i = i / 64 * 64 + 64;
	}
	return p->chunk_blocks;
}

static void take_blocks(struct pool *p, struct chunk *c, uint32_t first, uint32_t n)
{
	for (uint32_t i = first; i < first + n; i++)
		bit_set(c->bits, i);
	c->used += n;
	chunk_count_free(p, c, -(int64_t)n);
	chunk_mark_dirty(p, c);
}

static void wp_set(struct wpoint *wp, struct chunk *c)
{
	if (wp->chunk)
		wp->chunk->is_write_point = false;
	wp->chunk = c;
	wp->cursor = 0;
	if (c)
		c->is_write_point = true;
}

/* Next chunk for a data stream: a new one while there are slots to spare, else the emptiest. What
 * was admitted must find a place even when a device has left since: then from the reserve, at last
 * with fewer copies. */
static int next_data_chunk(struct pool *p, unsigned policy, struct chunk **ret_c)
{
	struct chunk *c = chunk_list_emptiest(p, CHUNK_DATA, policy, 1), *n = NULL;
	bool good = c && chunk_complete(p, c);
	struct slots_wanted keep = {{0}};
	int rc = -ENOSPC;

	if (good && chunk_free_blocks(p, c) >= p->chunk_blocks / 4) {
		*ret_c = c;
		return 0;
	}
	keep.n[0] = keep_slots(p);
	if (place_creatable(p, policy, &keep))
		rc = chunk_create(p, CHUNK_DATA, policy, false, &n);
	if (rc && !c)
		rc = chunk_create(p, CHUNK_DATA, policy, true, &n);
	*ret_c = n ? n : c;
	return *ret_c ? 0 : rc;
}

int space_alloc_data(struct pool *p, unsigned policy, uint32_t want, struct addr *ret_addr,
		     uint32_t *ret_blocks, struct chunk **ret_need)
{
	struct wpoint *wp = &p->wp_data[policy];

	for (unsigned tries = 0; tries < 4; tries++) {
		uint32_t i, n = 0;

		if (wp->chunk && !wp->chunk->usable)
			wp_set(wp, NULL);
		if (wp->chunk && !wp->chunk->bits) {
			*ret_need = wp->chunk;
			return ERR_NEED_NODE;
		}
		i = wp->chunk ? next_free(p, wp->chunk, wp->cursor) : p->chunk_blocks;
		if (i >= p->chunk_blocks) {
			struct chunk *c;
			int rc = next_data_chunk(p, policy, &c);

			if (rc)
				return rc;
			wp_set(wp, c);
			continue;
		}
		while (n < want && i + n < p->chunk_blocks && is_free(wp->chunk, i + n))
			n++;
		take_blocks(p, wp->chunk, i, n);
		wp->cursor = i + n;
		*ret_addr = addr_make(wp->chunk->id, i);
		*ret_blocks = n;
		return 0;
	}
	return -ENOSPC;
}

static bool node_slot_free(const struct chunk *c, uint32_t i)
{
	return is_free(c, i) && is_free(c, i + 1) && is_free(c, i + 2) && is_free(c, i + 3);
}

int space_alloc_node(struct pool *p, bool boot, struct addr *ret_addr)
{
	struct wpoint *wp = boot ? &p->wp_boot : &p->wp_meta;
	uint8_t kind = boot ? CHUNK_BOOT : CHUNK_META;
	unsigned copies = chunk_meta_copies(p);

	for (unsigned tries = 0; tries < 4; tries++) {
		uint32_t i = wp->chunk ? wp->cursor : p->chunk_blocks;
		struct chunk *c;
		int rc = -ENOSPC;

		for (; i + NODE_BLOCKS <= p->chunk_blocks; i += NODE_BLOCKS) {
			i = next_free(p, wp->chunk, i);
			i = (i + NODE_BLOCKS - 1) / NODE_BLOCKS * NODE_BLOCKS;
			if (i + NODE_BLOCKS > p->chunk_blocks)
				break;
			if (node_slot_free(wp->chunk, i))
				break;
		}
		if (wp->chunk && i + NODE_BLOCKS <= p->chunk_blocks) {
			take_blocks(p, wp->chunk, i, NODE_BLOCKS);
			wp->cursor = i + NODE_BLOCKS;
			*ret_addr = addr_make(wp->chunk->id, i);
			return 0;
		}
		c = chunk_list_emptiest(p, kind, copies, p->chunk_blocks / 4);
		if (!c && (kind != CHUNK_BOOT || p->lists[CHUNK_BOOT][copies].count < SB_BOOT_MAX))
			rc = chunk_create(p, kind, copies, true, &c);
		if (!c)
			c = chunk_list_emptiest(p, kind, copies, NODE_BLOCKS);
		if (!c)
			return rc;
		wp_set(wp, c);
	}
	return -ENOSPC;
}

/* ---- free ---- */

int space_free_reserve(struct pool *p, size_t more)
{
	struct txn *t = p->open;
	size_t cap = t->frees_cap ? t->frees_cap * 2 : 256;
	struct free_ext *f;

	if (snap_reserve(p, more))
		return -ENOMEM;
	if (t->frees_cap - t->frees_count >= more)
		return 0;
	if (cap < t->frees_count + more)
		cap = t->frees_count + more;
	f = realloc(t->frees, cap * sizeof *f);
	if (!f)
		return -ENOMEM;
	t->frees = f;
	t->frees_cap = cap;
	return 0;
}

/* Does it go on where the newest change of the queue ends, or end where that begins? */
static bool merge_free(struct txn *t, struct addr a, uint32_t blocks, uint32_t kind)
{
	struct free_ext *f = &t->frees[t->frees_count - 1];

	if (t->frees_count == t->frees_done || f->kind != kind || kind == FREE_DONE || !f->blocks ||
	    addr_chunk(f->addr) != addr_chunk(a))
		return false;
	if (addr_block(f->addr) + f->blocks != addr_block(a)) {
		if (addr_block(a) + blocks != addr_block(f->addr))
			return false;
		f->addr = a;
	}
	f->blocks += blocks;
	return true;
}

/* Counts of references of c will change: the groups of a chunk lie together, so it is a few nodes
 * at most, however many changes there are. */
static void expect_refs(struct pool *p, struct chunk *c)
{
	if (c->refs_txn == p->open->nr)
		return;
	c->refs_txn = p->open->nr;
	p->open->refs_nodes += 1 + p->chunk_blocks / (REFS_GROUP * 8);
}

static int txn_add_free(struct pool *p, struct chunk *c, struct addr a, uint32_t blocks,
			uint32_t kind)
{
	struct txn *t = p->open;
	int rc = space_free_reserve(p, 1);

	if (rc || merge_free(t, a, blocks, kind))
		return rc;
	t->frees[t->frees_count++] = (struct free_ext){a, blocks, kind};
	if (kind == FREE_REF || (kind == FREE_ONE && c->shared))
		expect_refs(p, c);
	return 0;
}

void space_free(struct pool *p, struct addr a, uint32_t blocks, bool unwritten)
{
	struct chunk *c = chunk_find(p, addr_chunk(a));

	if (!c || addr_block(a) + blocks > p->chunk_blocks || c->kind == CHUNK_LOG) {
		pool_fault_locked(
			p, ERR_FORMAT,
			"free blocks of no chunk: the pool is damaged, run `tarn pool check`");
		return;
	}
	if (unwritten && c->bits) {
		for (uint32_t i = addr_block(a); i < addr_block(a) + blocks; i++) {
			assert(bit_get(c->bits, i));
			bit_clear(c->bits, i);
		}
		c->used -= blocks;
		chunk_count_free(p, c, blocks);
		chunk_mark_dirty(p, c);
		return;
	}
	if (txn_add_free(p, c, a, blocks, FREE_ONE))
		pool_fault_locked(p, -ENOMEM, "queue freed blocks");
}

void space_ref(struct pool *p, struct addr a, uint32_t blocks)
{
	struct chunk *c = chunk_find(p, addr_chunk(a));

	assert(c && c->kind == CHUNK_DATA);
	if (txn_add_free(p, c, a, blocks, FREE_REF))
		pool_fault_locked(p, -ENOMEM, "queue references");
}

static void take_bits(struct pool *p, struct chunk *c, uint32_t first, uint32_t blocks)
{
	for (uint32_t i = first; i < first + blocks; i++) {
		bit_clear(c->bits, i);
		bit_set(c->busy, i);
	}
	c->used -= blocks;
	c->busy_count += blocks;
	chunk_mark_dirty(p, c);
}

void space_freed(struct pool *p, struct chunk *c, uint32_t first, uint32_t blocks)
{
	take_bits(p, c, first, blocks);
	if (txn_add_free(p, c, addr_make(c->id, first), blocks, FREE_DONE))
		pool_fault_locked(p, -ENOMEM, "queue freed blocks");
}

static int apply_plain(struct pool *p, struct chunk *c, uint32_t first, uint32_t blocks)
{
	for (uint32_t i = first; i < first + blocks; i++)
		if (!bit_get(c->bits, i) || bit_get(c->busy, i)) {
			pool_fault_locked(p, ERR_FORMAT,
					  "free a free block: the pool is damaged, run `tarn pool "
					  "check`");
			return ERR_FAULTED;
		}
	take_bits(p, c, first, blocks);
	return 0;
}

int space_apply_frees(struct pool *p, struct chunk **ret_need)
{
	struct txn *t = p->open;

	*ret_need = NULL;
	for (; t->frees_done < t->frees_count; t->frees_done++) {
		struct free_ext f = t->frees[t->frees_done];
		struct chunk *c = chunk_find(p, addr_chunk(f.addr));
		int rc;

		if (f.kind == FREE_DONE)
			continue;
		if (!c->bits) {
			*ret_need = c;
			return ERR_NEED_NODE;
		}
		rc = f.kind == FREE_REF || c->shared
			     ? refs_apply(p, c, t->frees_done)
			     : apply_plain(p, c, addr_block(f.addr), f.blocks);
		if (rc)
			return rc;
	}
	return 0;
}

static void release_txn(struct pool *p, struct txn *t)
{
	for (size_t k = 0; k < t->frees_count; k++) {
		struct free_ext *f = &t->frees[k];
		struct chunk *c = chunk_find(p, addr_chunk(f->addr));
		uint32_t first = addr_block(f->addr);

		if (!f->blocks) /* a reference went, the blocks stay */
			continue;
		for (uint32_t i = first; i < first + f->blocks; i++) {
			assert(bit_get(c->busy, i));
			bit_clear(c->busy, i);
		}
		c->busy_count -= f->blocks;
		chunk_count_free(p, c, f->blocks);
	}
	for (size_t k = 0; k < t->slots_count; k++) {
		struct dev *d = &p->devs[t->slots[k].dev];

		if (d->state == DEV_NONE || d->joined != t->slots[k].since)
			continue;
		d->slots_leaving--;
		dev_slot_release(d, t->slots[k].slot);
		discard_slot(p, d, t->slots[k].slot);
	}
}

void space_release(struct pool *p)
{
	while (p->oldest != p->open && p->oldest->durable && !p->oldest->readers) {
		struct txn *t = p->oldest;

		release_txn(p, t);
		p->oldest = t->next;
		free(t->frees);
		free(t->dead);
		free(t->slots);
		free(t);
	}
}

/* ---- loading bitmaps ---- */

static int load_step(struct pool *p, void *arg)
{
	uint64_t id = *(uint64_t *)arg;
	struct chunk *c = chunk_find(p, id);
	struct btree_item it;
	size_t bytes = p->chunk_blocks / 8;
	uint32_t used = 0;
	int rc;

	if (!c || c->bits)
		return 0;
	rc = btree_get(&p->space, (struct key){id, SPACE_KEY_BITMAP, 0}, &it);
	if (rc)
		return rc == -ENOENT ? ERR_FORMAT : rc;
	if (it.len != bytes)
		return ERR_FORMAT;
	rc = space_bits_alloc(p, c);
	if (rc)
		return rc;
	for (size_t w = 0; w < bytes / 8; w++) {
		le64 v;

		memcpy(&v, (const uint8_t *)it.value + w * 8, 8);
		c->bits[w] = le64_get(v);
		used += (uint32_t)__builtin_popcountll(c->bits[w]);
	}
	if (used == c->used)
		return 0;
	free(c->bits);
	free(c->busy);
	c->bits = c->busy = NULL;
	return ERR_FORMAT;
}

int space_load(struct pool *p, uint64_t chunk_id)
{
	return txn_step(p, &p->space, load_step, &chunk_id);
}
