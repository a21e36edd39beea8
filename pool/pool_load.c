/* pool_load: the part of an import that reads trees.
 *
 * The chunk map of a large pool is thousands of nodes (160 per TiB), and reading one after the
 * other takes a device's latency each: it is read in parts at the same time, each part the chunk
 * ids of one range.
 */
#include "pool/chunk.h"
#include "pool/pool_impl.h"
#include "pool/snap.h"
#include "pool/space.h"
#include "pool/txn.h"
#include "pool/vol_record.h"

#define PARTS	 32u
#define PART_MIN 1024u /* chunk ids */

struct load {
	uint64_t next, end;
};

static int step_load_chunk(struct pool *p, void *arg)
{
	struct load *l = arg;

	for (unsigned i = 0; i < 64; i++) {
		struct btree_item it;
		int rc = btree_seek_ge(&p->map, (struct key){l->next, 0, 0}, &it);

		if (rc)
			return rc;
		if (it.key.object >= l->end)
			return -ENOENT;
		if (it.key.type != 1 || it.len != sizeof(struct chunk_disk) ||
		    it.key.object < l->next || it.key.object >= p->next_chunk_id ||
		    it.key.object >> (64 - ADDR_BLOCK_BITS) ||
		    le64_get(((const struct chunk_disk *)it.value)->id) != it.key.object)
			return ERR_FORMAT;
		rc = chunk_load(p, it.value);
		if (rc)
			return rc;
		l->next = it.key.object + 1;
	}
	return 0;
}

static int step_load_vol(struct pool *p, void *arg)
{
	struct load *l = arg;

	for (unsigned i = 0; i < 64; i++) {
		struct btree_item it;
		struct vol *v;
		int rc = btree_seek_ge(&p->root, (struct key){l->next, 0, 0}, &it);

		if (rc)
			return rc;
		if (it.key.type != 1 || it.key.object < l->next ||
		    it.key.object < TREE_VOLUME_FIRST || it.key.object >= p->next_volume_id)
			return ERR_FORMAT;
		rc = vol_record_decode(p, &it, &v);
		if (rc)
			return rc;
		if (v->tree.root.birth > p->durable_txn || v->dead.root.birth > p->durable_txn ||
		    v->reserved_blocks >> 51) {
			vol_free(v);
			return ERR_FORMAT;
		}
		vol_link(p, v);
		p->reserved[vol_policy(v)] += v->reserved_blocks;
		p->any_reservation |= v->reservation_blocks != 0;
		l->next = it.key.object + 1;
	}
	return 0;
}

/* All of [from, end). */
static int load_range(struct pool *p, struct btree *bt, txn_step_fn *fn, uint64_t from,
		      uint64_t end)
{
	struct load l = {from, end};
	int rc;

	do {
		rc = txn_step(p, bt, fn, &l);
	} while (!rc);
	return rc == -ENOENT ? 0 : rc;
}

/* ---- the chunk map, in parts ---- */

struct parts {
	struct pool *p;
	struct co *co;
	unsigned pending;
	bool waiting;
	int rc; /* the first error */
};
struct part {
	struct parts *all;
	uint64_t from, end;
};

static void part_main(void *arg)
{
	struct part *pt = arg;
	struct parts *all = pt->all;
	int rc = load_range(all->p, &all->p->map, step_load_chunk, pt->from, pt->end);

	if (rc && !all->rc)
		all->rc = rc;
	if (--all->pending == 0 && all->waiting) {
		all->waiting = false;
		co_wake(all->co);
	}
}

static int load_map(struct pool *p)
{
	struct parts all = {.p = p, .co = co_self()};
	struct part part[PARTS];
	uint64_t ids = p->next_chunk_id, size = ids / PARTS + 1;

	if (size < PART_MIN)
		size = PART_MIN;
	for (unsigned i = 0; i < PARTS && i * size < ids && !all.rc; i++) {
		part[i] = (struct part){&all, i * size,
					(i + 1) * size < ids ? (i + 1) * size : UINT64_MAX};
		all.pending++;
		if (co_spawn(reactor_current(), part_main, &part[i])) {
			all.pending--;
			all.rc = -ENOMEM;
		}
	}
	while (all.pending) {
		all.waiting = true;
		co_yield ();
	}
	return all.rc;
}

/* Bitmaps of metadata chunks are always in memory: nodes are allocated where nothing can be read.
 */
static int load_meta_bitmaps(struct pool *p)
{
	for (size_t h = 0; h < p->chunk_hash_size; h++)
		for (struct chunk *c = p->chunk_hash[h]; c; c = c->hash_next) {
			int rc = c->kind == CHUNK_DATA ? 0 : space_load(p, c->id);

			if (rc)
				return rc;
		}
	return 0;
}

int pool_load(struct pool *p, struct err *e)
{
	int rc = load_map(p);

	if (rc)
		return err_set(e, rc, "read the chunk map: %s", err_str(rc));
	rc = load_meta_bitmaps(p);
	if (rc)
		return err_set(e, rc, "read the space bitmaps: %s", err_str(rc));
	rc = load_range(p, &p->root, step_load_vol, TREE_VOLUME_FIRST, UINT64_MAX);
	if (!rc)
		rc = snap_load(p);
	return rc ? err_set(e, rc, "read the list of volumes: %s", err_str(rc)) : 0;
}
