#include "pool/chunk.h"
#include <string.h>
#include "pool/chunk_list.h"
#include "pool/event.h"
#include "pool/place.h"
#include "pool/space.h"

/* ---- device slots ---- */

#define SLOTS_MAX (1u << 24)

uint64_t chunk_slot_offset(const struct pool *p, uint32_t slot)
{
	return SB_DATA_START + (uint64_t)slot * p->chunk_blocks * BLOCK_SIZE;
}

int dev_slots_init(struct pool *p, struct dev *d)
{
	uint64_t chunk_bytes = (uint64_t)p->chunk_blocks * BLOCK_SIZE;
	uint64_t usable = d->size_bytes / BLOCK_SIZE * BLOCK_SIZE;
	size_t words;

	if (usable < SB_DATA_START + SB_RING_BYTES + chunk_bytes)
		return -ENOSPC;
	usable -= SB_DATA_START + SB_RING_BYTES;
	if (usable / chunk_bytes > SLOTS_MAX)
		return -EFBIG;
	d->slots = (uint32_t)(usable / chunk_bytes);
	d->slots_free = d->slots;
	words = (d->slots + 63) / 64;
	free(d->slot_used);
	d->slot_used = calloc(2 * words, 8);
	d->slot_stale = d->slot_used ? d->slot_used + words : NULL;
	return d->slot_used ? 0 : -ENOMEM;
}

void dev_slot_release(struct dev *d, uint32_t slot)
{
	assert(bit_get(d->slot_used, slot));
	bit_clear(d->slot_used, slot);
	if (!d->slots_limit || slot < d->slots_limit)
		d->slots_free++;
}

void dev_slots_recount(struct dev *d)
{
	uint32_t end = d->slots_limit ? d->slots_limit : d->slots;

	d->slots_free = 0;
	for (uint32_t i = 0; i < end; i++)
		d->slots_free += !bit_get(d->slot_used, i);
}

/* ---- table ---- */

static size_t hash_pos(const struct pool *p, uint64_t id)
{
	return (size_t)((id * 0x9e3779b97f4a7c15ull) >> 20) & (p->chunk_hash_size - 1);
}

struct chunk *chunk_find(struct pool *p, uint64_t id)
{
	if (!p->chunk_hash_size)
		return NULL;
	for (struct chunk *c = p->chunk_hash[hash_pos(p, id)]; c; c = c->hash_next)
		if (c->id == id)
			return c;
	return NULL;
}

static void unlink_from(struct chunk **head, struct chunk *c, size_t next_off)
{
	struct chunk **pp = head;

	while (*pp && *pp != c)
		pp = (struct chunk **)((char *)*pp + next_off);
	if (*pp)
		*pp = *(struct chunk **)((char *)c + next_off);
}

static int table_grow(struct pool *p)
{
	size_t old = p->chunk_hash_size, size = old ? old * 2 : 256;
	struct chunk **was = p->chunk_hash, **now = calloc(size, sizeof *now);

	if (!now)
		return -ENOMEM;
	p->chunk_hash = now;
	p->chunk_hash_size = size;
	for (size_t i = 0; i < old; i++) {
		for (struct chunk *c = was[i], *next; c; c = next) {
			size_t at = hash_pos(p, c->id);

			next = c->hash_next;
			c->hash_next = now[at];
			now[at] = c;
		}
	}
	free(was);
	return 0;
}

static unsigned writable_members(const struct pool *p, const struct chunk *c)
{
	unsigned n = 0;

	for (unsigned i = 0; i < c->nmembers; i++)
		n += dev_writable(&p->devs[c->m[i].dev]);
	return n;
}

bool chunk_complete(const struct pool *p, const struct chunk *c)
{
	return writable_members(p, c) == c->nmembers;
}

static void leave_incomplete(struct pool *p, struct wpoint *wp)
{
	if (!wp->chunk || chunk_complete(p, wp->chunk))
		return;
	wp->chunk->is_write_point = false;
	wp->chunk = NULL;
}

void chunk_usable_update(struct pool *p)
{
	for (size_t h = 0; h < p->chunk_hash_size; h++)
		for (struct chunk *c = p->chunk_hash[h]; c; c = c->hash_next) {
			int64_t blocks = p->chunk_blocks - c->used - c->busy_count;
			bool usable = writable_members(p, c) && !c->draining;

			if (usable == c->usable)
				continue;
			chunk_count_free(p, c, -blocks);
			c->usable = usable;
			chunk_count_free(p, c, blocks);
		}
	leave_incomplete(p, &p->wp_meta);
	leave_incomplete(p, &p->wp_boot);
	for (unsigned k = 0; k < POLICIES; k++)
		leave_incomplete(p, &p->wp_data[k]);
}

static int table_add(struct pool *p, struct chunk *c)
{
	size_t at;

	if (p->chunk_count >= p->chunk_hash_size && table_grow(p))
		return -ENOMEM;
	at = hash_pos(p, c->id);
	c->hash_next = p->chunk_hash[at];
	p->chunk_hash[at] = c;
	chunk_list_add(p, c);
	c->usable = writable_members(p, c);
	chunk_count_free(p, c, p->chunk_blocks - c->used);
	p->chunk_count++;
	return 0;
}

static void chunk_free(struct chunk *c)
{
	free(c->bits);
	free(c->busy);
	free(c);
}

void chunk_table_free(struct pool *p)
{
	for (size_t i = 0; i < p->chunk_hash_size; i++)
		for (struct chunk *c = p->chunk_hash[i], *next; c; c = next) {
			next = c->hash_next;
			chunk_free(c);
		}
	free(p->chunk_hash);
	p->chunk_hash = NULL;
	p->chunk_hash_size = 0;
}

void chunk_mark_dirty(struct pool *p, struct chunk *c)
{
	if (c->dirty)
		return;
	c->dirty = true;
	c->dirty_next = p->dirty_chunks;
	p->dirty_chunks = c;
}

int chunk_validate(const struct chunk_disk *cd, uint64_t id, const struct pool *p, struct err *e)
{
	unsigned copies = cd->copies & 15, class = cd->copies >> 4;
	unsigned kind = cd->kind & ~CHUNK_F_SHARED;

	if (cd->version != 1)
		return err_set(e, ERR_VERSION, "chunk %llx: record version %u is not known",
			       (unsigned long long)id, cd->version);
	if (le64_get(cd->id) != id || !id)
		return err_set(e, ERR_FORMAT, "chunk %llx: record names chunk %llx",
			       (unsigned long long)id, (unsigned long long)le64_get(cd->id));
	if (kind < CHUNK_BOOT || kind > CHUNK_DATA || copies < 1 || copies > COPIES_MAX ||
	    class > CLASSES_MAX || cd->members_count < 1 || cd->members_count > SB_MEMBERS_MAX ||
	    le32_get(cd->used_blocks) > p->chunk_blocks)
		return err_set(e, ERR_FORMAT,
			       "chunk %llx: kind, copies, members or use out of bounds",
			       (unsigned long long)id);
	if (class && (kind != CHUNK_DATA || !p->classes[class][0]))
		return err_set(e, ERR_FORMAT, "chunk %llx: class %u is not known",
			       (unsigned long long)id, class);
	if (cd->kind & CHUNK_F_SHARED && (kind != CHUNK_DATA || !p->refs_used))
		return err_set(e, ERR_FORMAT, "chunk %llx: shared blocks where none can be",
			       (unsigned long long)id);
	for (unsigned i = 0; i < cd->members_count; i++) {
		unsigned d = le16_get(cd->members[i].dev_id);

		if (d >= p->ndevs || le32_get(cd->members[i].slot) >= p->devs[d].slots)
			return err_set(e, ERR_FORMAT, "chunk %llx: member %u: no device %u slot %u",
				       (unsigned long long)id, i, d, le32_get(cd->members[i].slot));
	}
	return 0;
}

int chunk_load(struct pool *p, const struct chunk_disk *cd)
{
	uint64_t id = le64_get(cd->id);
	struct chunk *c = chunk_find(p, id);
	int rc = chunk_validate(cd, id, p, NULL);

	if (rc)
		return rc;
	if (c) { /* a boot chunk, known from the superblock: refresh the count */
		uint32_t used = le32_get(cd->used_blocks);

		int64_t freed = (int64_t)c->used - used;

		c->used = used;
		chunk_count_free(p, c, freed);
		return 0;
	}
	c = calloc(1, sizeof *c);
	if (!c)
		return -ENOMEM;
	c->id = id;
	c->kind = cd->kind & (uint8_t)~CHUNK_F_SHARED;
	c->shared = cd->kind & CHUNK_F_SHARED;
	c->copies = cd->copies & 15;
	c->class = cd->copies >> 4;
	c->nmembers = cd->members_count;
	c->created_txn = le64_get(cd->created_txn);
	c->used = le32_get(cd->used_blocks);
	for (unsigned i = 0; i < c->nmembers; i++) {
		struct dev *d = &p->devs[le16_get(cd->members[i].dev_id)];

		c->m[i].dev = le16_get(cd->members[i].dev_id);
		c->m[i].slot = le32_get(cd->members[i].slot);
		c->m[i].stale_since = le64_get(cd->members[i].stale_since);
		if (bit_get(d->slot_used, c->m[i].slot)) {
			free(c);
			return ERR_FORMAT;
		}
		bit_set(d->slot_used, c->m[i].slot);
		d->slots_free--;
	}
	return table_add(p, c);
}

void chunk_to_disk(const struct chunk *c, struct chunk_disk *cd)
{
	memset(cd, 0, sizeof *cd);
	cd->version = 1;
	cd->kind = (uint8_t)(c->kind | (c->shared ? CHUNK_F_SHARED : 0));
	cd->copies = (uint8_t)(c->copies | c->class << 4);
	cd->members_count = c->nmembers;
	cd->used_blocks = le32_of(c->used);
	cd->id = le64_of(c->id);
	cd->created_txn = le64_of(c->created_txn);
	for (unsigned i = 0; i < c->nmembers; i++) {
		cd->members[i].dev_id = le16_of(c->m[i].dev);
		cd->members[i].slot = le32_of(c->m[i].slot);
		cd->members[i].stale_since = le64_of(c->m[i].stale_since);
	}
}

/* ---- placement ---- */

uint8_t chunk_meta_copies(const struct pool *p)
{
	unsigned n = 0;

	for (unsigned i = 0; i < p->ndevs; i++)
		n += p->devs[i].state != DEV_NONE &&
		     !(p->devs[i].flags & (DEV_F_EVACUATE | DEV_F_SPARE));
	return (uint8_t)(n < 3 ? n ? n : 1 : 3);
}

static void give_back(struct pool *p, struct chunk *c)
{
	for (unsigned i = 0; i < c->nmembers; i++)
		dev_slot_release(&p->devs[c->m[i].dev], c->m[i].slot);
	chunk_free(c);
}

/* Members on different devices. use_reserve: fewer are better than none, which is completed when
 * there is room; and outside the class is better than nowhere. */
static bool place_all(struct pool *p, struct chunk *c, bool use_reserve)
{
	unsigned want = place_devs(p, c->class);

	if (want > c->copies)
		want = c->copies;
	while (c->nmembers < want)
		if (place_member(p, c, MEMBERS_MAX, use_reserve ? PLACE_ANYHOW : PLACE_SPARING, 0) <
		    0)
			break;
	if (!use_reserve)
		return want && c->nmembers == want;
	want = place_devs(p, 0) < c->copies ? place_devs(p, 0) : c->copies;
	for (bool none = !c->nmembers; none && c->nmembers < want;)
		if (place_member(p, c, MEMBERS_MAX, PLACE_OUTSIDE, 0) < 0)
			break;
	return c->nmembers;
}

int chunk_create(struct pool *p, uint8_t kind, unsigned policy, bool use_reserve,
		 struct chunk **ret_c)
{
	struct chunk *c = calloc(1, sizeof *c);
	int rc = 0;

	if (!c)
		return -ENOMEM;
	c->id = p->next_chunk_id;
	c->kind = kind;
	c->copies = (uint8_t)policy_copies(policy);
	c->class = (uint8_t)policy_class(policy);
	c->created_txn = p->open ? p->open->nr : 1;
	c->new_record = true;
	if (!place_all(p, c, use_reserve))
		rc = -ENOSPC;
	else if (space_bits_alloc(p, c) || table_add(p, c))
		rc = -ENOMEM;
	if (rc) {
		give_back(p, c);
		return rc;
	}
	p->next_chunk_id++;
	chunk_mark_dirty(p, c);
	*ret_c = c;
	return 0;
}

bool chunk_add_members(struct pool *p, struct chunk *c)
{
	bool added = false;

	while (c->nmembers < c->copies && place_member(p, c, MEMBERS_MAX, PLACE_ANYHOW, 1) >= 0) {
		chunk_count_raw(p, c);
		chunk_mark_dirty(p, c);
		added = true;
	}
	return added;
}

void chunk_clear_dirty(struct pool *p, struct chunk *c)
{
	unlink_from(&p->dirty_chunks, c, offsetof(struct chunk, dirty_next));
	c->dirty_next = NULL;
	c->dirty = false;
}

int chunk_member_add(struct pool *p, struct chunk *c, unsigned from)
{
	int i = place_member(p, c, from, PLACE_ANYHOW, 1);

	if (i >= 0) {
		chunk_count_raw(p, c);
		chunk_mark_dirty(p, c);
	}
	return i;
}

static bool queue_slot(struct pool *p, uint16_t dev, uint32_t slot)
{
	struct txn *t = p->open;

	if (t->slots_count == t->slots_cap) {
		size_t cap = t->slots_cap ? t->slots_cap * 2 : 64;
		struct slot_free *s = realloc(t->slots, cap * sizeof *s);

		if (!s)
			return false;
		t->slots = s;
		t->slots_cap = cap;
	}
	t->slots[t->slots_count++] = (struct slot_free){dev, slot, p->devs[dev].joined};
	p->devs[dev].slots_leaving++;
	return true;
}

void chunk_member_drop(struct pool *p, struct chunk *c, unsigned i)
{
	/* Without memory the slot stays taken until the next import: no harm but space. */
	queue_slot(p, c->m[i].dev, c->m[i].slot);
	memmove(&c->m[i], &c->m[i + 1], (c->nmembers - i - 1) * sizeof c->m[0]);
	c->nmembers--;
	chunk_count_raw(p, c);
	chunk_mark_dirty(p, c);
}

void chunk_remove(struct pool *p, struct chunk *c)
{
	assert(!c->used && !c->busy_count && !c->is_write_point);
	unlink_from(&p->chunk_hash[hash_pos(p, c->id)], c, offsetof(struct chunk, hash_next));
	unlink_from(&p->dirty_chunks, c, offsetof(struct chunk, dirty_next));
	chunk_count_free(p, c, -(int64_t)p->chunk_blocks);
	chunk_list_remove(p, c);
	p->chunk_count--;
	for (unsigned i = 0; i < c->nmembers; i++)
		queue_slot(p, c->m[i].dev, c->m[i].slot);
	chunk_free(c);
}

void chunk_set_copies(struct pool *p, struct chunk *c, uint8_t copies)
{
	int64_t free_blocks = chunk_free_blocks(p, c);

	chunk_count_free(p, c, -free_blocks);
	chunk_list_remove(p, c);
	c->copies = copies;
	chunk_list_add(p, c);
	chunk_count_free(p, c, free_blocks);
	chunk_mark_dirty(p, c);
}

bool chunk_meta_copies_update(struct pool *p)
{
	uint8_t want = chunk_meta_copies(p);
	bool any = false;

	for (size_t h = 0; h < p->chunk_hash_size; h++)
		for (struct chunk *c = p->chunk_hash[h]; c; c = c->hash_next)
			if (c->kind != CHUNK_DATA && c->copies != want) {
				chunk_set_copies(p, c, want);
				any = true;
			}
	return any;
}

uint64_t chunk_member_since(const struct pool *p, const struct member *m)
{
	uint64_t d = p->devs[m->dev].stale_since;

	if (!d || !m->stale_since)
		return d | m->stale_since;
	return d < m->stale_since ? d : m->stale_since;
}

/* ---- device state ---- */

void pool_fault_locked(struct pool *p, int code, const char *why)
{
	if (p->faulted)
		return;
	p->faulted = true;
	p->fault_code = code;
	event_emit_locked(p, "pool-faulted", "pool suspended: %s: %s", why, err_str(code));
	waitq_wake_all(&p->gate_waiters);
	waitq_wake_all(&p->commit_waiters);
	waitq_wake_all(&p->log_waiters);
	waitq_wake_all(&p->arena.waiters);
	waitq_wake_all(&p->committer_waiters);
	waitq_wake_all(&p->data_waiters);
}

void dev_fault_locked(struct pool *p, struct dev *d, int code, const char *doing)
{
	unsigned others = 0;

	if (d->state != DEV_ONLINE && d->state != DEV_RESYNC)
		return;
	for (unsigned i = 0; i < p->ndevs; i++)
		others += i != d->id && p->devs[i].state == DEV_ONLINE &&
			  !(p->devs[i].flags & DEV_F_SPARE); /* a spare serves nothing */
	if (!others && !(d->flags & DEV_F_SPARE) && d->state == DEV_ONLINE) {
		pool_fault_locked(p, code, "the last device failed");
		return;
	}
	d->state = DEV_FAULTED;
	p->failed_devs |= 1ull << d->id;
	d->generation++;
	chunk_usable_update(p);
	if (!d->stale_since)
		d->stale_since = p->durable_txn + 1;
	event_emit_locked(p, "device-faulted",
			  "device %u (%s): %s: %s; out of service since transaction %llu", d->id,
			  d->path, doing, err_str(code), (unsigned long long)d->stale_since);
	if (!p->dirty_since_ns)
		p->dirty_since_ns = reactor_now_ns();
}
