#include "pool/snap.h"
#include <string.h>
#include "pool/chunk.h"
#include "pool/event.h"
#include "pool/txn.h"
#include "pool/vol_record.h"

_Static_assert(sizeof(struct snap_dead_disk) == 24, "entry of a dead list");

#define APPLY_STEP 512u /* entries under the lock at a time */
#define PER_NODE   128u /* entries; often there are twice as many */

/* ---- entries ---- */

int snap_dead_decode(const struct btree_item *it, struct snap_dead *d)
{
	const struct snap_dead_disk *s = it->value;

	if (it->len != sizeof *s ||
	    (it->key.type != SNAP_KEY_NODE && it->key.type != SNAP_KEY_EXTENT))
		return ERR_FORMAT;
	d->died = it->key.object;
	d->birth = le64_get(s->birth);
	d->addr.v = le64_get(s->addr);
	d->blocks = le32_get(s->blocks);
	d->is_node = it->key.type == SNAP_KEY_NODE;
	if (!d->blocks || d->birth >= d->died || !addr_chunk(d->addr) ||
	    (d->is_node && d->blocks != NODE_BLOCKS))
		return ERR_FORMAT;
	return 0;
}

void snap_dead_to_text(FILE *f, const struct btree_item *it)
{
	struct snap_dead d;

	if (snap_dead_decode(it, &d))
		fprintf(f, "dead: invalid (%u bytes)", it->len);
	else
		fprintf(f, "dead %s at %llx +%u birth %llu until %llu",
			d.is_node ? "node" : "extent", (unsigned long long)d.addr.v, d.blocks,
			(unsigned long long)d.birth, (unsigned long long)d.died);
}

/* ---- letting go ---- */

int snap_reserve(struct pool *p, size_t more)
{
	struct txn *t = p->open;
	size_t cap = t->dead_cap ? t->dead_cap * 2 : 256;
	struct dead_ext *d;

	if (!p->snaps_used || t->dead_cap - t->dead_count >= more)
		return 0;
	if (cap < t->dead_count + more)
		cap = t->dead_count + more;
	d = realloc(t->dead, cap * sizeof *d);
	if (!d)
		return -ENOMEM;
	t->dead = d;
	t->dead_cap = cap;
	return 0;
}

uint64_t snap_queued_nodes(const struct pool *p)
{
	return (p->open->dead_count - p->open->dead_done + PER_NODE - 1) / PER_NODE;
}

void snap_let_go(struct pool *p, uint64_t tree_id, struct addr a, uint32_t blocks, uint64_t birth,
		 bool is_node)
{
	struct txn *t = p->open;
	struct dead_ext *last = t->dead_count ? &t->dead[t->dead_count - 1] : NULL;

	if (last && t->dead_count > t->dead_done && !is_node && !last->is_node &&
	    last->tree_id == tree_id && last->birth == birth &&
	    addr_chunk(last->addr) == addr_chunk(a) &&
	    addr_block(last->addr) + last->blocks == addr_block(a)) {
		last->blocks += blocks;
		return;
	}
	if (snap_reserve(p, 1)) {
		pool_fault_locked(p, -ENOMEM, "queue what a snapshot keeps");
		return;
	}
	t->dead[t->dead_count++] = (struct dead_ext){tree_id, birth, a, blocks, is_node};
}

static struct vol *vol_by_id(struct pool *p, uint64_t id)
{
	struct vol *v = p->vols;

	while (v && v->id != id)
		v = v->next;
	return v;
}

struct vol *snap_next_dead(struct pool *p)
{
	const struct txn *t = p->open;

	return t->dead_done < t->dead_count ? vol_by_id(p, t->dead[t->dead_done].tree_id) : NULL;
}

int snap_apply_dead(struct pool *p, struct vol *v)
{
	struct txn *t = p->open;

	for (unsigned i = 0; i < APPLY_STEP && t->dead_done < t->dead_count; i++, t->dead_done++) {
		const struct dead_ext *e = &t->dead[t->dead_done];
		struct key k = {t->nr, e->is_node ? SNAP_KEY_NODE : SNAP_KEY_EXTENT, t->dead_done};
		struct snap_dead_disk d = {.addr = le64_of(e->addr.v),
					   .birth = le64_of(e->birth),
					   .blocks = le32_of(e->blocks)};
		int rc;

		if (e->tree_id != v->id)
			return 0;
		rc = btree_prepare(&v->dead, k);
		if (!rc)
			rc = btree_put(&v->dead, k, &d, sizeof d);
		if (rc)
			return rc;
		v->rec_dirty = true;
	}
	return 0;
}

/* ---- the snapshots of a volume ---- */

struct vol *snap_origin(const struct vol *s)
{
	return vol_by_id(s->p, s->origin);
}

bool snap_any_of(const struct vol *v)
{
	for (const struct vol *s = v->p->snaps; s; s = s->next)
		if (s->origin == v->id)
			return true;
	for (const struct vol *s = v->p->snaps_pending; s; s = s->next)
		if (s->origin == v->id)
			return true;
	return false;
}

void snap_full_name(const struct vol *s, char ret_name[VOL_NAME_MAX + 1])
{
	const struct vol *v = snap_origin(s);

	snprintf(ret_name, VOL_NAME_MAX + 1, "%.*s@%.*s", SNAP_NAME_MAX, v ? v->name : "?",
		 SNAP_NAME_MAX, s->name);
}

bool snap_is_there(const struct vol *s)
{
	return !s->destroying && s->snap_txn <= s->p->durable_txn;
}

struct vol *snap_named(struct vol *list, const struct vol *v, const char *part)
{
	struct vol *s = list;

	while (s && (s->origin != v->id || s->destroying || strcmp(s->name, part)))
		s = s->next;
	return s;
}

struct vol *snap_origin_named(struct pool *p, const char *name)
{
	size_t len = strcspn(name, "@");
	struct vol *v = p->vols;

	while (v && (v->destroying || v->trashed_ns || strlen(v->name) != len ||
		     memcmp(v->name, name, len)))
		v = v->next;
	return v;
}

struct vol *snap_find(struct pool *p, const char *name)
{
	const struct vol *v = snap_origin_named(p, name);
	const char *at = strchr(name, '@');
	struct vol *s = v && at ? snap_named(p->snaps, v, at + 1) : NULL;

	return s && snap_is_there(s) ? s : NULL;
}

/* The newest commit that a snapshot of v shows. */
static void pin(struct vol *v)
{
	struct pool *p = v->p;

	v->tree.pinned = 0;
	for (const struct vol *s = p->snaps; s; s = s->next)
		if (s->origin == v->id && !s->destroying && s->snap_txn > v->tree.pinned)
			v->tree.pinned = s->snap_txn;
	p->snap_newest = 0;
	for (const struct vol *x = p->vols; x; x = x->next)
		if (x->tree.pinned > p->snap_newest)
			p->snap_newest = x->tree.pinned;
}

int snap_load(struct pool *p)
{
	for (struct vol *s = p->snaps; s; s = s->next) {
		const struct vol *v = snap_origin(s);

		if (!v || !v->dead_id || s->snap_txn > p->durable_txn || s->id <= v->id ||
		    s->tree.root.birth > s->snap_txn)
			return ERR_FORMAT;
	}
	for (struct vol *v = p->vols; v; v = v->next)
		if (v->dead_id)
			pin(v);
	return 0;
}

int snap_refuse_end(const struct vol *v, struct err *e)
{
	return err_set(e, -EBUSY,
		       "volume '%s' has snapshots, or some are being destroyed; `tarn snapshot "
		       "list` shows them",
		       v->name);
}

/* ---- taking ---- */

void snap_take(struct vol *v, uint64_t txn)
{
	struct pool *p = v->p;
	struct vol **pp = &p->snaps_pending;

	while (*pp) {
		struct vol *s = *pp;

		if (s->origin != v->id) {
			pp = &s->next;
			continue;
		}
		*pp = s->next;
		if (!v->dead_id) {
			v->dead_id = p->next_volume_id++;
			btree_init(&v->dead, &txn_btree_ops, p, p->cache, p->uuid, v->dead_id,
				   (struct node_ptr){ADDR_NONE, 0, 0}, 0);
		}
		s->tree.root = v->tree.root;
		s->tree.level = v->tree.level;
		s->used_blocks = v->used_blocks;
		s->logical_blocks = v->logical_blocks;
		s->size_bytes = v->size_bytes;
		s->next_object = v->next_object;
		s->copies = v->copies;
		s->class = v->class;
		s->snap_txn = txn;
		s->rec_dirty = true;
		p->snaps_used = true;
		vol_link(p, s);
		v->tree.pinned = p->snap_newest = txn; /* nothing is newer */
	}
}

/* Its tree is forgotten at once; what only it shows is given back by the reaper. */
void snap_destroy_locked(struct vol *s)
{
	s->destroying = true;
	s->tree.root = (struct node_ptr){ADDR_NONE, 0, 0};
	s->tree.level = 0;
	s->rec_dirty = true;
	pin(snap_origin(s));
	s->p->reap_wanted = true;
	txn_mark_dirty_locked(s->p);
}

void snap_give_up(struct pool *p, uint64_t txn)
{
	for (struct vol *s = p->snaps; s; s = s->next)
		if (s->snap_txn == txn && !s->destroying) {
			s->given_up = true;
			snap_destroy_locked(s);
		}
}
