#include "pool/snap.h"
#include <string.h>
#include "pool/chunk.h"
#include "pool/event.h"
#include "pool/space.h"
#include "pool/txn.h"
#include "pool/vol_record.h"

_Static_assert(sizeof(struct snap_dead_disk) == 24, "entry of a dead list");

#define REAP_STEP 64u

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

	for (; t->dead_done < t->dead_count; t->dead_done++) {
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

struct vol *snap_find(struct pool *p, const char *name)
{
	char full[VOL_NAME_MAX + 1];

	for (struct vol *s = p->snaps; s; s = s->next) {
		if (!s->origin || s->destroying)
			continue;
		snap_full_name(s, full);
		if (!strcmp(full, name))
			return s;
	}
	return NULL;
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
		const struct vol *v = s->origin ? snap_origin(s) : NULL;

		if (s->origin && (!v || v->origin || !v->dead_id || s->snap_txn > p->durable_txn ||
				  s->id <= v->id || s->tree.root.birth > s->snap_txn))
			return ERR_FORMAT;
	}
	for (struct vol *v = p->vols; v; v = v->next)
		if (!v->origin && v->dead_id)
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
		pin(v);
	}
}

/* Its tree is forgotten at once; what only it shows is given back by the reaper. */
static void destroy_locked(struct vol *s)
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
		if (s->origin && s->snap_txn == txn && !s->destroying)
			destroy_locked(s);
}

/* ---- giving back ---- */

struct reap {
	struct vol *s, *v;
	uint64_t before, behind; /* commits of the snapshots next to it; 0, UINT64_MAX: none */
	struct key at;
	bool done;
};

static void neighbours(struct reap *r)
{
	r->before = 0;
	r->behind = UINT64_MAX;
	for (const struct vol *s = r->s->p->snaps; s; s = s->next) {
		if (s->origin != r->v->id || s->destroying)
			continue;
		if (s != r->s && s->snap_txn <= r->s->snap_txn && s->snap_txn > r->before)
			r->before = s->snap_txn;
		if (s->snap_txn > r->s->snap_txn && s->snap_txn < r->behind)
			r->behind = s->snap_txn;
	}
}

static int reap_one(struct reap *r, const struct btree_item *it)
{
	struct pool *p = r->s->p;
	struct snap_dead d;
	struct key k = it->key;
	int rc = snap_dead_decode(it, &d);

	if (!rc && d.birth > r->before && d.birth <= r->s->snap_txn) {
		rc = btree_prepare(&r->v->dead, k);
		if (!rc)
			rc = space_free_reserve(p, SPACE_FREES_SPARE);
		if (!rc)
			rc = btree_del(&r->v->dead, k);
		if (rc)
			return rc;
		space_free(p, d.addr, d.blocks, false);
		r->v->rec_dirty = true;
		txn_mark_dirty_locked(p);
	}
	if (!rc)
		r->at = (struct key){k.object, k.type, k.offset + 1};
	return rc;
}

static int reap_step(struct pool *p, void *arg)
{
	struct reap *r = arg;

	if (p->faulted)
		return ERR_FAULTED;
	neighbours(r);
	for (unsigned i = 0; i < REAP_STEP; i++) {
		struct btree_item it;
		int rc = btree_seek_ge(&r->v->dead, r->at, &it);

		if (rc == -ENOENT || (!rc && it.key.object > r->behind)) {
			r->done = true;
			return 0;
		}
		if (!rc)
			rc = reap_one(r, &it);
		if (rc)
			return rc;
	}
	return 0;
}

int snap_reap(struct vol *s)
{
	struct pool *p = s->p;
	struct reap r = {.s = s, .at = {s->snap_txn + 1, 0, 0}};
	int rc;

	lock_take(&p->lock);
	r.v = snap_origin(s);
	rc = p->faulted ? ERR_FAULTED : txn_wait_durable_locked(p, p->open->nr);
	lock_drop(&p->lock);
	while (!rc && !r.done && !p->stopping) {
		rc = txn_enter(p, true);
		if (rc)
			break;
		rc = txn_step(p, &r.v->dead, reap_step, &r);
		txn_leave(p);
	}
	return rc ? rc : r.done ? 0 : ERR_FAULTED;
}

/* ---- what is called from above ---- */

static int part_check(const char *part, struct err *e)
{
	size_t n = strlen(part);

	if (!n || n > SNAP_NAME_MAX)
		return err_set(e, -EINVAL, "the name of a snapshot has 1 to %u characters",
			       SNAP_NAME_MAX);
	if (strspn(part, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:") != n)
		return err_set(e, -EINVAL,
			       "snapshot name '%s': only letters, digits and _ - . : are allowed",
			       part);
	return 0;
}

static struct vol *origin_by_name(struct pool *p, const char *name, size_t len)
{
	struct vol *v = p->vols;

	while (v && (v->origin || v->destroying || v->trashed_ns || strlen(v->name) != len ||
		     memcmp(v->name, name, len)))
		v = v->next;
	return v;
}

static bool is_asked_for(const struct vol *v, const char *part)
{
	const struct vol *s = v->p->snaps_pending;

	while (s && (s->origin != v->id || strcmp(s->name, part)))
		s = s->next;
	return s;
}

/* Gate held. One more that the freeze is to take. */
static int ask_locked(struct pool *p, const char *name, struct err *e)
{
	const char *at = strchr(name, '@');
	struct vol *v = origin_by_name(p, name, (size_t)(at - name)), *s;

	if (!v)
		return err_set(e, -ENOENT, "no volume '%.*s' in this pool", (int)(at - name), name);
	if (strlen(v->name) > SNAP_NAME_MAX)
		return err_set(e, -EINVAL,
			       "volume names of over %u characters leave no room for "
			       "names of snapshots; rename it",
			       SNAP_NAME_MAX);
	if (snap_find(p, name) || is_asked_for(v, at + 1))
		return err_set(e, -EEXIST, "snapshot '%s' exists already", name);
	s = calloc(1, sizeof *s);
	if (!s)
		return err_set(e, -ENOMEM, "out of memory");
	if (!v->dead_id) {
		v->dead_id = p->next_volume_id++;
		btree_init(&v->dead, &txn_btree_ops, p, p->cache, p->uuid, v->dead_id,
			   (struct node_ptr){ADDR_NONE, 0, 0}, 0);
	}
	s->p = p;
	s->id = p->next_volume_id++;
	s->origin = v->id;
	snprintf(s->name, sizeof s->name, "%s", at + 1);
	s->type = v->type;
	s->compression = v->compression;
	s->copies = v->copies;
	s->owner_uid = v->owner_uid;
	s->created_ns = reactor_wall_ns();
	memcpy(s->uuid, v->uuid, sizeof s->uuid);
	for (unsigned i = 0; i < 8; i++)
		s->uuid[8 + i] ^= (uint8_t)(s->id >> (8 * i));
	RB_INIT(&s->active);
	RB_INIT(&s->flushing);
	btree_init(&s->tree, &txn_btree_ops, p, p->cache, p->uuid, v->id,
		   (struct node_ptr){ADDR_NONE, 0, 0}, 0);
	s->next = p->snaps_pending;
	p->snaps_pending = s;
	v->rec_dirty = true;
	txn_mark_dirty_locked(p);
	return 0;
}

static void forget_pending(struct pool *p, const struct vol *until)
{
	while (p->snaps_pending != until) {
		struct vol *s = p->snaps_pending;

		p->snaps_pending = s->next;
		vol_free(s);
	}
}

int vol_snapshot_create(struct pool *p, const char *const *names, unsigned n, struct err *e)
{
	struct vol *was;
	int rc = 0;

	for (unsigned i = 0; i < n && !rc; i++)
		rc = strchr(names[i], '@')
			     ? part_check(strchr(names[i], '@') + 1, e)
			     : err_set(e, -EINVAL, "'%s' is not VOLUME@NAME", names[i]);
	if (rc)
		return rc;
	rc = txn_enter(p, false);
	if (rc)
		return err_set(e, rc, "snapshot: %s", err_str(rc));
	lock_take(&p->lock);
	was = p->snaps_pending;
	for (unsigned i = 0; i < n && !rc; i++)
		rc = ask_locked(p, names[i], e);
	if (rc)
		forget_pending(p, was);
	lock_drop(&p->lock);
	txn_leave(p);
	if (rc)
		return rc;
	rc = txn_commit_wait(p);
	if (rc)
		return err_set(e, rc, "snapshot: commit: %s", err_str(rc));
	lock_take(&p->lock);
	for (unsigned i = 0; i < n && !rc; i++)
		if (!snap_find(p, names[i]))
			rc = err_set(e, -EIO,
				     "snapshot %s: a device failed while it was taken; take it "
				     "again",
				     names[i]);
	lock_drop(&p->lock);
	return rc;
}

int vol_snapshot_destroy(struct pool *p, const char *name, struct err *e)
{
	struct vol *s;
	int rc = txn_enter(p, true);

	if (rc)
		return err_set(e, rc, "snapshot %s: %s", name, err_str(rc));
	lock_take(&p->lock);
	s = snap_find(p, name);
	if (!s)
		rc = err_set(e, -ENOENT,
			     "no snapshot '%s' in this pool; `tarn snapshot list` shows what "
			     "there is",
			     name);
	else if (s->refs)
		rc = err_set(e, ERR_IN_USE, "snapshot '%s' is in use; unmount it first", name);
	else
		destroy_locked(s);
	lock_drop(&p->lock);
	txn_leave(p);
	if (rc)
		return rc;
	rc = txn_commit_wait(p);
	return rc ? err_set(e, rc, "snapshot %s: commit: %s", name, err_str(rc)) : 0;
}

unsigned vol_snapshot_list(struct pool *p, const char *volume, struct vol_snapshot_info *ret_i,
			   unsigned max)
{
	unsigned n = 0;

	lock_take(&p->lock);
	for (const struct vol *s = p->snaps; s; s = s->next) {
		const struct vol *v = s->origin ? snap_origin(s) : NULL;

		if (!v || s->destroying || (volume && strcmp(v->name, volume)))
			continue;
		if (n < max) {
			struct vol_snapshot_info *i = &ret_i[n];

			*i = (struct vol_snapshot_info){.id = s->id,
							.created_ns = s->created_ns,
							.txn = s->snap_txn,
							.used_bytes = s->used_blocks * BLOCK_SIZE,
							.logical_bytes =
								s->logical_blocks * BLOCK_SIZE,
							.open = s->refs != 0};
			snap_full_name(s, i->name);
		}
		n++;
	}
	lock_drop(&p->lock);
	return n;
}
