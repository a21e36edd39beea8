/* rescue_impl: what the rescue files of pool/ share. See rescue.h.
 *
 *   rescue_scan    devices -> index of nodes, superblocks
 *   rescue_map     where chunks are: geometry, devices' numbers, claims of the map
 *   rescue_tree    roots, whole trees, views, cursors
 *   rescue_merge   views without roots: leaves by newest birth
 *   rescue_vol     volume records
 *   rescue_log     groups of the intent log
 *   rescue_data    extents: reading and proving
 */
#ifndef TARN_POOL_RESCUE_IMPL_H
#define TARN_POOL_RESCUE_IMPL_H
#include <bsd/sys/tree.h>
#include "pool/btree_page.h"
#include "pool/extent.h"
#include "pool/pool_types.h"
#include "pool/rescue.h"
#include "pool/sb.h"
#include "pool/vol_record.h"

#define RESCUE_POOLS_MAX  16u
#define RESCUE_COPIES_MAX 4u
#define RESCUE_CACHE	  256u /* nodes kept in memory */
#define RESCUE_NONE	  UINT32_MAX

struct rescue_node { /* one version of a node, in up to RESCUE_COPIES_MAX places */
	uint64_t addr, birth, tree;
	uint32_t crc;
	uint32_t next; /* in its hash chain; RESCUE_NONE: last */
	uint8_t pool, level, copies;
	uint8_t whole; /* everything below was found: 0 not known yet, 1 yes, 2 no */
	uint16_t count;
	struct key first, last;		/* keys, when count > 0 */
	uint64_t at[RESCUE_COPIES_MAX]; /* device << 48 | block */
};

struct rescue_claim { /* a map leaf says: the chunk has a member there */
	uint64_t chunk, birth;
	uint16_t dev;
	uint32_t slot;
};

struct rescue_chunk { /* what reading has shown */
	RB_ENTRY(rescue_chunk) rb;
	uint64_t id;
	uint64_t proven[RESCUE_COPIES_MAX]; /* file << 32 | slot */
	unsigned nproven, failures;
};
RB_HEAD(rescue_chunks, rescue_chunk);
static inline int rescue_chunk_cmp(const struct rescue_chunk *a, const struct rescue_chunk *b)
{
	return a->id < b->id ? -1 : a->id > b->id;
}
RB_PROTOTYPE(rescue_chunks, rescue_chunk, rb, rescue_chunk_cmp)

struct rescue_record {
	struct vol_record rec;
	uint64_t birth; /* of the leaf it stands in */
};

struct rescue_group { /* of the log, at one place */
	uint64_t volume, seq, epoch, txn;
	uint64_t off; /* bytes */
	uint32_t bytes, crc;
	uint8_t file, pool;
};

struct rescue {
	struct dev_backend **devs;
	unsigned ndevs;
	struct rescue_options o;
	struct rescue_info info;
	uint64_t done_bytes, total_bytes;

	uint8_t pools[RESCUE_POOLS_MAX][16];
	uint64_t pool_nodes[RESCUE_POOLS_MAX];
	unsigned npools;
	uint8_t pool;					  /* the chosen one */
	struct sb_disk *sb[RESCUE_POOLS_MAX];		  /* the newest, or NULL */
	int16_t own_dev[RESCUE_POOLS_MAX][POOL_DEVS_MAX]; /* of each file; -1: not known */

	struct rescue_node *nodes;
	size_t nnodes, cap_nodes;
	uint32_t *buckets;
	size_t nbuckets; /* a power of two */
	uint32_t *order; /* the chosen pool's nodes, by tree */
	size_t norder;

	uint32_t chunk_blocks;
	uint32_t slots[POOL_DEVS_MAX];	/* of each file */
	uint64_t *taken[POOL_DEVS_MAX]; /* bit per slot: nodes, or some chunk known */
	int16_t file_of[POOL_DEVS_MAX]; /* device number -> file; -1: not known */
	struct rescue_claim *claims;	/* by chunk, the newest first */
	size_t nclaims, cap_claims;
	struct rescue_chunks chunks;
	unsigned futile; /* searches of taken slots in a row that found nothing */

	struct rescue_group *groups; /* by pool, epoch, seq */
	size_t ngroups, cap_groups;
	struct rescue_record *recs; /* by volume id, the newest first */
	size_t nrecs, cap_recs;
	struct rescue_vol *vols;
	size_t nvols, cap_vols;

	uint8_t *cache;			    /* RESCUE_CACHE nodes */
	uint32_t cached[RESCUE_CACHE];	    /* which; RESCUE_NONE */
	uint8_t *scratch, *data, *unpacked; /* EXTENT_BLOCKS_MAX blocks each */
};

struct rescue_piece { /* keys [from, to) are those of this leaf */
	struct key from, to;
	uint32_t node;
};
struct rescue_item { /* what the log says of one item */
	struct key key;
	size_t order;
	bool gone;
	uint16_t len;
	const uint8_t *value; /* in logs */
};
struct rescue_write { /* data NULL: nothing is there */
	uint64_t object;
	size_t order;
	uint64_t first, blocks;
	const uint8_t *data;
};
struct rescue_view {
	struct rescue *r;
	uint64_t tree;
	struct rescue_piece *pieces; /* ascending, disjoint */
	size_t npieces, cap_pieces;
	struct rescue_gap *gaps; /* ascending, disjoint */
	size_t ngaps, cap_gaps;
	enum rescue_state state;
	uint64_t txn;
	/* On top of that, from the log. */
	uint8_t **logs; /* groups applied */
	size_t nlogs, cap_logs;
	struct rescue_item *items; /* by key */
	size_t nitems, cap_items;
	struct rescue_write *writes; /* by object, in order */
	size_t nwrites, cap_writes;
};

/* Room for one more element; -ENOMEM. */
int rescue_grow(void *array, size_t n, size_t *cap, size_t size);

int rescue_scan(struct rescue *r, struct err *e);
/* The number of a pool, or RESCUE_POOLS_MAX when there are too many. */
uint8_t rescue_pool_number(struct rescue *r, const uint8_t *uuid);
/* After the pool was chosen: all nodes of a tree, as indexes. */
int rescue_order(struct rescue *r);
const uint32_t *rescue_tree_nodes(const struct rescue *r, uint64_t tree, size_t *ret_n);
/* Index of this version of a node, or RESCUE_NONE. */
uint32_t rescue_find(const struct rescue *r, const struct node_ptr *p, uint64_t tree,
		     uint8_t level);
/* The node's content, verified, valid until the next call; NULL when it cannot be read. Yields. */
const uint8_t *rescue_node_get(struct rescue *r, uint32_t i);

/* After the scan: chunk size, device numbers, claims. Yields. */
int rescue_map(struct rescue *r);
/* Offset on the device, or UINT64_MAX when the blocks do not lie in a slot of it. */
uint64_t rescue_offset(const struct rescue *r, unsigned file, uint32_t slot, uint32_t block,
		       uint32_t blocks);
/* The claims of a chunk. */
const struct rescue_claim *rescue_claims(const struct rescue *r, uint64_t chunk, size_t *ret_n);

int rescue_records(struct rescue *r);

/* Is everything below this node there? Yields. */
bool rescue_whole(struct rescue *r, uint32_t i);
/* The node that must be the newest root of a tree, or RESCUE_NONE when that cannot be told. */
uint32_t rescue_top(struct rescue *r, uint64_t tree);
/* View below one node; what is missing is filled from leaves not younger than it. */
int rescue_view_node(struct rescue *r, uint64_t tree, uint32_t root, struct rescue_view **ret_v);
/* View of all leaves of a tree. */
int rescue_view_leaves(struct rescue *r, uint64_t tree, struct rescue_view **ret_v);
int rescue_piece_add(struct rescue_view *v, struct key from, struct key to, uint32_t node);
/* Fill the view's gaps from leaves born up to txn. */
int rescue_merge(struct rescue_view *v, uint64_t txn);

/* Is there a log group at buf, which has len bytes of what lies at off? Then enter it. Yields. */
int rescue_log_look(struct rescue *r, const uint8_t *buf, uint64_t len, unsigned file,
		    uint64_t off);
void rescue_log_sort(struct rescue *r);
/* Take into the view what the log has on top of its commit. Yields. */
int rescue_log_apply(struct rescue_view *v);
void rescue_log_free(struct rescue_view *v);
/* What the log writes to an object, in order. / Does one of these say what is in the block? */
const struct rescue_write *rescue_log_writes(const struct rescue_view *v, uint64_t object,
					     size_t *ret_n);
bool rescue_log_covered(const struct rescue_write *w, size_t n, uint64_t lblk);

#endif
