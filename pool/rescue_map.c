/* rescue_map: where chunks are, without the superblock and (as far as possible) without the map.
 *
 * A node in chunk block b that lies in device block p says that a slot begins at p - b; all nodes
 * together tell the chunk size. Leaves of the map, old ones too, are claims: a chunk has a member
 * on device d, slot s. A chunk with nodes found in slot s of a file and claimed for device d, slot
 * s, is a vote that the file is device d.
 */
#include <string.h>
#include "pool/rescue_impl.h"

#define CHUNK_SHIFT_MIN 8u  /* 1 MiB in blocks */
#define CHUNK_SHIFT_MAX 14u /* 64 MiB */
#define DATA_START	(SB_DATA_START / BLOCK_SIZE)

struct vote {
	uint32_t n[POOL_DEVS_MAX][POOL_DEVS_MAX]; /* device, file */
};

uint64_t rescue_offset(const struct rescue *r, unsigned file, uint32_t slot, uint32_t block,
		       uint32_t blocks)
{
	if (file >= r->ndevs || slot >= r->slots[file] || block > r->chunk_blocks ||
	    blocks > r->chunk_blocks - block)
		return UINT64_MAX;
	return SB_DATA_START + ((uint64_t)slot * r->chunk_blocks + block) * BLOCK_SIZE;
}

static bool place_fits(const struct rescue_node *n, unsigned copy, uint32_t chunk_blocks,
		       unsigned *ret_file, uint64_t *ret_slot)
{
	uint64_t p = n->at[copy] & ((1ull << 48) - 1), b = addr_block((struct addr){n->addr});

	*ret_file = (unsigned)(n->at[copy] >> 48);
	if (p < DATA_START + b || b + NODE_BLOCKS > chunk_blocks ||
	    (p - DATA_START - b) % chunk_blocks)
		return false;
	*ret_slot = (p - DATA_START - b) / chunk_blocks;
	return true;
}

static uint64_t nodes_that_fit(const struct rescue *r, uint32_t chunk_blocks)
{
	uint64_t fit = 0, slot;
	unsigned file;

	for (size_t i = 0; i < r->nnodes; i++)
		for (unsigned c = 0; c < r->nodes[i].copies; c++)
			fit += r->nodes[i].pool == r->pool &&
			       place_fits(&r->nodes[i], c, chunk_blocks, &file, &slot);
	return fit;
}

/* Each item of the space tree is a bitmap of one bit per block of a chunk. */
static uint32_t bitmaps_say(struct rescue *r)
{
	uint64_t votes[CHUNK_SHIFT_MAX + 1] = {0}, best = 0;
	uint32_t blocks = 0;

	for (uint32_t i = 0; i < r->nnodes; i++) {
		const struct rescue_node *n = &r->nodes[i];
		const uint8_t *buf;

		if (n->pool != r->pool || n->tree != TREE_SPACE || n->level || !n->count)
			continue;
		buf = rescue_node_get(r, i);
		for (unsigned s = CHUNK_SHIFT_MIN; buf && s <= CHUNK_SHIFT_MAX; s++)
			votes[s] += page_value_len(buf, 0) == 1u << (s - 3);
	}
	for (unsigned s = CHUNK_SHIFT_MIN; s <= CHUNK_SHIFT_MAX; s++)
		if (votes[s] > best) {
			best = votes[s];
			blocks = 1u << s;
		}
	return blocks;
}

static void find_chunk_size(struct rescue *r)
{
	uint64_t best = 0;

	if (r->sb[r->pool])
		r->chunk_blocks = le32_get(r->sb[r->pool]->chunk_blocks);
	else
		r->chunk_blocks = bitmaps_say(r);
	if (r->chunk_blocks)
		return;
	for (unsigned s = CHUNK_SHIFT_MIN; s <= CHUNK_SHIFT_MAX; s++) {
		uint64_t fit = nodes_that_fit(r, 1u << s);

		if (fit >= best) {
			best = fit;
			r->chunk_blocks = 1u << s;
		}
	}
}

static int find_slots(struct rescue *r)
{
	uint64_t chunk_bytes = (uint64_t)r->chunk_blocks * BLOCK_SIZE, slot;
	unsigned file;

	for (unsigned f = 0; f < r->ndevs; f++) {
		uint64_t size = r->devs[f]->size_bytes;
		uint64_t n = size > SB_DATA_START ? (size - SB_DATA_START) / chunk_bytes : 0;

		r->slots[f] = n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
		r->taken[f] = calloc(n / 64 + 1, 8);
		if (!r->taken[f])
			return -ENOMEM;
	}
	for (size_t i = 0; i < r->nnodes; i++)
		for (unsigned c = 0; c < r->nodes[i].copies; c++)
			if (r->nodes[i].pool == r->pool &&
			    place_fits(&r->nodes[i], c, r->chunk_blocks, &file, &slot) &&
			    slot < r->slots[file])
				r->taken[file][slot / 64] |= 1ull << slot % 64;
	return 0;
}

/* ---- claims ---- */

static int claims_of(struct rescue *r, const struct chunk_disk *cd, uint64_t birth)
{
	for (unsigned m = 0; m < cd->members_count && m < SB_MEMBERS_MAX; m++) {
		struct rescue_claim c = {le64_get(cd->id), birth, le16_get(cd->members[m].dev_id),
					 le32_get(cd->members[m].slot)};
		int rc = rescue_grow(&r->claims, r->nclaims, &r->cap_claims, sizeof c);

		if (rc)
			return rc;
		if (c.dev < POOL_DEVS_MAX)
			r->claims[r->nclaims++] = c;
	}
	return 0;
}

static int claims_of_leaf(struct rescue *r, const uint8_t *buf)
{
	uint64_t birth = le64_get(page_header_const(buf)->birth);
	int rc = 0;

	for (unsigned i = 0; i < page_count(buf) && !rc; i++)
		if (page_value_len(buf, i) == sizeof(struct chunk_disk))
			rc = claims_of(r, (const void *)page_value(buf, i), birth);
	return rc;
}

static int claim_place_cmp(const struct rescue_claim *a, const struct rescue_claim *b)
{
	if (a->chunk != b->chunk)
		return a->chunk < b->chunk ? -1 : 1;
	if (a->dev != b->dev)
		return a->dev < b->dev ? -1 : 1;
	return a->slot < b->slot ? -1 : a->slot > b->slot;
}

static int by_place(const void *x, const void *y)
{
	const struct rescue_claim *a = x, *b = y;
	int d = claim_place_cmp(a, b);

	return d ? d : a->birth > b->birth ? -1 : a->birth < b->birth;
}

static int by_chunk(const void *x, const void *y)
{
	const struct rescue_claim *a = x, *b = y;

	if (a->chunk != b->chunk)
		return a->chunk < b->chunk ? -1 : 1;
	if (a->birth != b->birth)
		return a->birth > b->birth ? -1 : 1;
	return claim_place_cmp(a, b);
}

/* One claim for each place, the newest; by chunk, the newest first. */
static void claims_sort(struct rescue *r)
{
	size_t n = 0;

	if (!r->nclaims)
		return;
	qsort(r->claims, r->nclaims, sizeof *r->claims, by_place);
	for (size_t i = 0; i < r->nclaims; i++)
		if (!n || claim_place_cmp(&r->claims[n - 1], &r->claims[i]))
			r->claims[n++] = r->claims[i];
	r->nclaims = n;
	qsort(r->claims, n, sizeof *r->claims, by_chunk);
}

const struct rescue_claim *rescue_claims(const struct rescue *r, uint64_t chunk, size_t *ret_n)
{
	size_t lo = 0, hi = r->nclaims, end;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (r->claims[mid].chunk < chunk)
			lo = mid + 1;
		else
			hi = mid;
	}
	for (end = lo; end < r->nclaims && r->claims[end].chunk == chunk; end++)
		;
	*ret_n = end - lo;
	return r->claims + lo;
}

static int claims_read(struct rescue *r)
{
	const struct sb_disk *sb = r->sb[r->pool];
	int rc = 0;

	for (uint32_t i = 0; i < r->nnodes && !rc; i++) {
		const struct rescue_node *n = &r->nodes[i];
		const uint8_t *buf = NULL;

		if (n->pool == r->pool && n->tree == TREE_MAP && !n->level)
			buf = rescue_node_get(r, i);
		if (buf)
			rc = claims_of_leaf(r, buf);
	}
	for (unsigned i = 0; sb && i < le32_get(sb->boot_count) && i < SB_BOOT_MAX && !rc; i++)
		rc = claims_of(r, &sb->boot[i], le64_get(sb->txn));
	claims_sort(r);
	return rc;
}

/* ---- which file is which device ---- */

static void vote_node(struct rescue *r, const struct rescue_node *n, struct vote *v)
{
	size_t count;
	const struct rescue_claim *c = rescue_claims(r, addr_chunk((struct addr){n->addr}), &count);

	for (unsigned k = 0; k < n->copies; k++) {
		uint64_t slot;
		unsigned file;

		if (!place_fits(n, k, r->chunk_blocks, &file, &slot))
			continue;
		for (size_t i = 0; i < count && i < 64; i++)
			if (c[i].slot == slot)
				v->n[c[i].dev][file]++;
	}
}

static bool file_taken(const struct rescue *r, unsigned file)
{
	for (unsigned d = 0; d < POOL_DEVS_MAX; d++)
		if (r->file_of[d] == (int)file)
			return true;
	return false;
}

/* The strongest vote between a device and a file that are both free; 0: none left. */
static uint32_t strongest(const struct rescue *r, const struct vote *v, unsigned *ret_dev,
			  unsigned *ret_file)
{
	uint32_t best = 0;

	for (unsigned f = 0; f < r->ndevs; f++) {
		if (file_taken(r, f))
			continue;
		for (unsigned d = 0; d < POOL_DEVS_MAX; d++)
			if (r->file_of[d] < 0 && v->n[d][f] > best) {
				best = v->n[d][f];
				*ret_dev = d;
				*ret_file = f;
			}
	}
	return best;
}

static int find_devices(struct rescue *r)
{
	struct vote *v = calloc(1, sizeof *v);
	unsigned dev = 0, file = 0;

	if (!v)
		return -ENOMEM;
	memset(r->file_of, 0xff, sizeof r->file_of);
	for (unsigned f = 0; f < r->ndevs; f++) {
		int d = r->own_dev[r->pool][f];

		if (d >= 0 && d < POOL_DEVS_MAX && r->file_of[d] < 0) {
			r->file_of[d] = (int16_t)f;
			r->info.superblocks++;
		}
	}
	for (size_t i = 0; i < r->nnodes; i++)
		if (r->nodes[i].pool == r->pool)
			vote_node(r, &r->nodes[i], v);
	while (strongest(r, v, &dev, &file))
		r->file_of[dev] = (int16_t)file;
	for (unsigned f = 0; f < r->ndevs; f++)
		r->info.known += file_taken(r, f);
	free(v);
	return 0;
}

/* Where the newest claims of a chunk are, other chunks are not looked for first. */
static void claims_take(struct rescue *r)
{
	uint64_t newest = 0;

	for (size_t i = 0; i < r->nclaims; i++) {
		const struct rescue_claim *c = &r->claims[i];
		int file = r->file_of[c->dev];

		if (!i || r->claims[i - 1].chunk != c->chunk)
			newest = c->birth;
		if (file >= 0 && c->birth == newest && c->slot < r->slots[file])
			r->taken[file][c->slot / 64] |= 1ull << c->slot % 64;
	}
}

int rescue_map(struct rescue *r)
{
	int rc;

	find_chunk_size(r);
	rc = find_slots(r);
	if (!rc)
		rc = claims_read(r);
	if (!rc)
		rc = find_devices(r);
	if (!rc)
		claims_take(r);
	return rc;
}
