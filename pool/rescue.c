/* rescue: scan, choose the pool, rebuild. */
#include "pool/rescue.h"
#include <string.h>
#include "pool/rescue_impl.h"

static struct rescue *rescue_new(struct dev_backend **devs, unsigned n,
				 const struct rescue_options *o)
{
	struct rescue *r = calloc(1, sizeof *r);

	if (!r)
		return NULL;
	r->devs = devs;
	r->ndevs = n;
	r->o = *o;
	r->info.devices = n;
	RB_INIT(&r->chunks);
	memset(r->own_dev, 0xff, sizeof r->own_dev);
	memset(r->cached, 0xff, sizeof r->cached);
	r->cache = aligned_alloc(BLOCK_SIZE, (size_t)RESCUE_CACHE * NODE_SIZE);
	r->scratch = aligned_alloc(BLOCK_SIZE, EXTENT_BLOCKS_MAX * BLOCK_SIZE);
	r->data = malloc(EXTENT_BLOCKS_MAX * BLOCK_SIZE);
	r->unpacked = malloc(EXTENT_BLOCKS_MAX * BLOCK_SIZE);
	if (r->cache && r->scratch && r->data && r->unpacked)
		return r;
	rescue_close(r);
	return NULL;
}

void rescue_close(struct rescue *r)
{
	struct rescue_chunk *c, *next;

	if (!r)
		return;
	RB_FOREACH_SAFE (c, rescue_chunks, &r->chunks, next) {
		RB_REMOVE(rescue_chunks, &r->chunks, c);
		free(c);
	}
	for (unsigned i = 0; i < RESCUE_POOLS_MAX; i++)
		free(r->sb[i]);
	for (unsigned i = 0; i < POOL_DEVS_MAX; i++)
		free(r->taken[i]);
	free(r->nodes);
	free(r->buckets);
	free(r->order);
	free(r->claims);
	free(r->groups);
	free(r->recs);
	free(r->vols);
	free(r->cache);
	free(r->scratch);
	free(r->data);
	free(r->unpacked);
	free(r);
}

/* The pool asked for, or the one with the most nodes. */
static int choose_pool(struct rescue *r, struct err *e)
{
	uint64_t best = 0;

	for (unsigned i = 0; i < r->npools; i++) {
		bool wanted = !r->o.pool_uuid || !memcmp(r->o.pool_uuid, r->pools[i], 16);

		if (wanted && r->pool_nodes[i] > best) {
			best = r->pool_nodes[i];
			r->pool = (uint8_t)i;
		}
		r->info.other_pools += r->pool_nodes[i] != 0;
	}
	if (!best)
		return err_set(e, -ENOENT,
			       "no tree node of %s found on these devices; there is nothing to "
			       "rescue from",
			       r->o.pool_uuid ? "that pool" : "a pool");
	r->info.other_pools--;
	r->info.nodes = best;
	memcpy(r->info.uuid, r->pools[r->pool], 16);
	if (r->sb[r->pool])
		memcpy(r->info.name, r->sb[r->pool]->pool_name, sizeof r->info.name);
	return 0;
}

static int by_tree(const void *x, const void *y, void *arg)
{
	const struct rescue_node *n = arg;
	uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;

	if (n[a].tree != n[b].tree)
		return n[a].tree < n[b].tree ? -1 : 1;
	return a < b ? -1 : a > b;
}

int rescue_order(struct rescue *r)
{
	r->order = malloc((r->nnodes + 1) * sizeof *r->order);
	if (!r->order)
		return -ENOMEM;
	for (uint32_t i = 0; i < r->nnodes; i++) {
		if (r->nodes[i].pool != r->pool)
			continue;
		r->order[r->norder++] = i;
		if (r->nodes[i].birth > r->info.newest_txn)
			r->info.newest_txn = r->nodes[i].birth;
	}
	qsort_r(r->order, r->norder, sizeof *r->order, by_tree, r->nodes);
	return 0;
}

/* First position in the order whose tree is not below `tree`. */
static size_t order_bound(const struct rescue *r, uint64_t tree)
{
	size_t lo = 0, hi = r->norder;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (r->nodes[r->order[mid]].tree < tree)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

const uint32_t *rescue_tree_nodes(const struct rescue *r, uint64_t tree, size_t *ret_n)
{
	size_t from = order_bound(r, tree);

	*ret_n = (tree == UINT64_MAX ? r->norder : order_bound(r, tree + 1)) - from;
	return r->order + from;
}

int rescue_open(struct dev_backend **devs, unsigned n, const struct rescue_options *o,
		struct rescue **ret_r, struct err *e)
{
	struct rescue *r;
	int rc;

	if (!n || n > POOL_DEVS_MAX)
		return err_set(e, -EINVAL, "1 to %d devices", POOL_DEVS_MAX);
	r = rescue_new(devs, n, o);
	rc = r ? rescue_scan(r, e) : -ENOMEM;
	if (!rc)
		rc = choose_pool(r, e);
	if (!rc)
		rc = rescue_order(r);
	if (!rc)
		rc = rescue_map(r);
	if (!rc)
		rc = rescue_records(r);
	if (rc) {
		rescue_close(r);
		return e && e->code ? rc : err_set(e, rc, "rescue: %s", err_str(rc));
	}
	r->info.chunk_bytes = (uint64_t)r->chunk_blocks * BLOCK_SIZE;
	*ret_r = r;
	return 0;
}

void rescue_info_get(const struct rescue *r, struct rescue_info *ret_i)
{
	*ret_i = r->info;
}

const struct rescue_vol *rescue_vols(const struct rescue *r, unsigned *ret_n)
{
	*ret_n = (unsigned)r->nvols;
	return r->vols;
}
