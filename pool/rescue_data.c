/* rescue_data: find the blocks of an extent by trying, the likely places first, and prove each by
 * its checksum: where the chunk was found before, where the map (the newest leaf first) says it is,
 * and at last in every slot of every device.
 */
#include <lz4.h>
#include <string.h>
#include <unistd.h>
#include "pool/rescue_impl.h"

#define SEARCHES_MAX	  2u
#define FUTILE_MAX	  16u
#define PLACE(file, slot) ((uint64_t)(file) << 32 | (slot))

RB_GENERATE(rescue_chunks, rescue_chunk, rb, rescue_chunk_cmp)

struct search { /* of one extent */
	struct rescue *r;
	const struct extent *x;
	struct rescue_chunk *c;
	uint32_t bad; /* stored blocks not found yet, a bit each */
};

static struct rescue_chunk *chunk_get(struct rescue *r, uint64_t id)
{
	struct rescue_chunk want = {.id = id}, *c = RB_FIND(rescue_chunks, &r->chunks, &want);

	if (c)
		return c;
	c = calloc(1, sizeof *c);
	if (!c)
		return NULL;
	c->id = id;
	RB_INSERT(rescue_chunks, &r->chunks, c);
	return c;
}

static bool block_good(const struct search *s, unsigned i, const uint8_t *buf)
{
	return crc32c(0, buf, BLOCK_SIZE) == s->x->crc[i];
}

static void prove(struct search *s, uint64_t place)
{
	struct rescue_chunk *c = s->c;

	for (unsigned i = 0; i < c->nproven; i++)
		if (c->proven[i] == place)
			return;
	if (c->nproven < RESCUE_COPIES_MAX)
		c->proven[c->nproven++] = place;
	s->r->taken[place >> 32][(uint32_t)place / 64] |= 1ull << (uint32_t)place % 64;
}

/* Take the blocks that are right at this place and were still wanted. */
static void try_place(struct search *s, unsigned file, uint32_t slot)
{
	struct rescue *r = s->r;
	unsigned n = s->x->stored_blocks;
	uint64_t off = rescue_offset(r, file, slot, addr_block(s->x->addr), n);
	bool each, any = false;

	if (off == UINT64_MAX || off + (uint64_t)n * BLOCK_SIZE > r->devs[file]->size_bytes)
		return;
	each = dev_read(r->devs[file], off, r->scratch, (uint64_t)n * BLOCK_SIZE) != 0;
	for (unsigned i = 0; i < n; i++) {
		uint8_t *b = r->scratch + (size_t)i * BLOCK_SIZE;

		if (!(s->bad >> i & 1) ||
		    (each &&
		     dev_read(r->devs[file], off + (uint64_t)i * BLOCK_SIZE, b, BLOCK_SIZE)) ||
		    !block_good(s, i, b))
			continue;
		memcpy(r->data + (size_t)i * BLOCK_SIZE, b, BLOCK_SIZE);
		s->bad &= ~(1u << i);
		any = true;
	}
	if (any)
		prove(s, PLACE(file, slot));
}

static bool is_known(const struct rescue *r, unsigned file)
{
	for (unsigned d = 0; d < POOL_DEVS_MAX; d++)
		if (r->file_of[d] == (int)file)
			return true;
	return false;
}

static void try_claims(struct search *s)
{
	struct rescue *r = s->r;
	size_t n;
	const struct rescue_claim *c = rescue_claims(r, s->c->id, &n);

	for (size_t i = 0; i < n && s->bad; i++) {
		if (r->file_of[c[i].dev] >= 0) {
			try_place(s, (unsigned)r->file_of[c[i].dev], c[i].slot);
			continue;
		}
		for (unsigned f = 0; f < r->ndevs && s->bad; f++)
			if (!is_known(r, f))
				try_place(s, f, c[i].slot);
	}
}

static bool slot_taken(const struct rescue *r, unsigned file, uint32_t slot)
{
	return r->taken[file][slot / 64] >> slot % 64 & 1;
}

/* One block tells. taken: the slots that hold nodes or another chunk, as far as is known; else all
 * others. */
static void try_slots(struct search *s, unsigned probe, bool taken)
{
	struct rescue *r = s->r;
	uint32_t block = addr_block(s->x->addr) + probe;

	for (unsigned f = 0; f < r->ndevs && s->bad; f++)
		for (uint32_t slot = 0; slot < r->slots[f] && s->bad; slot++) {
			uint64_t off = rescue_offset(r, f, slot, block, 1);

			if (off == UINT64_MAX || off + BLOCK_SIZE > r->devs[f]->size_bytes ||
			    slot_taken(r, f, slot) != taken)
				continue;
			if (!dev_read(r->devs[f], off, r->scratch, BLOCK_SIZE) &&
			    block_good(s, probe, r->scratch))
				try_place(s, f, slot);
		}
}

/* All slots, by the first and the last block wanted. Chunks that are nowhere must not cost a search
 * for each of their extents: free slots are searched SEARCHES_MAX times in vain for a chunk, taken
 * ones FUTILE_MAX times in a row for all. */
static void search_slots(struct search *s)
{
	struct rescue *r = s->r;
	uint32_t before = s->bad;

	for (unsigned pass = 0; pass < 4 && s->bad; pass++) {
		unsigned probe = pass & 1 ? 31u - (unsigned)__builtin_clz(s->bad)
					  : (unsigned)__builtin_ctz(s->bad);
		uint32_t then = s->bad;

		if (pass > 1 && r->futile >= FUTILE_MAX)
			break;
		try_slots(s, probe, pass > 1);
		if (pass > 1)
			r->futile = s->bad == then ? r->futile + 1 : 0;
	}
	s->c->failures += s->bad == before;
}

/* Fill r->data with the stored blocks. Bits of what is not to be had; ~0 without memory. */
static uint32_t stored_read(struct rescue *r, const struct extent *x)
{
	unsigned n = x->stored_blocks;
	struct search s = {r, x, chunk_get(r, addr_chunk(x->addr)), 0};

	if (!s.c)
		return UINT32_MAX;
	s.bad = n == 32 ? UINT32_MAX : (1u << n) - 1;
	for (unsigned i = 0; i < s.c->nproven && s.bad; i++)
		try_place(&s, (unsigned)(s.c->proven[i] >> 32), (uint32_t)s.c->proven[i]);
	if (s.bad)
		try_claims(&s);
	if (s.bad && s.c->failures < SEARCHES_MAX)
		search_slots(&s);
	return s.bad;
}

/* The extent's logical blocks; *ret_bad: those not to be had. NULL: none of them. */
static const uint8_t *extent_read(struct rescue *r, const struct extent *x, uint32_t *ret_bad)
{
	int want = (int)(x->orig_blocks * BLOCK_SIZE);

	*ret_bad = stored_read(r, x);
	if (x->codec == EXTENT_RAW)
		return r->data;
	if (*ret_bad || LZ4_decompress_safe((const char *)r->data, (char *)r->unpacked,
					    (int)x->stored_bytes, want) != want)
		return NULL;
	return r->unpacked + (size_t)x->skip * BLOCK_SIZE;
}

struct copy {
	struct rescue_view *v;
	const struct rescue_write *log; /* what the log has of the object */
	size_t nlog;
	struct cover { /* the blocks that these speak of; ascending, disjoint */
		uint64_t from, to;
	} * cover;
	size_t ncover;
	int fd;
	uint64_t size;
	struct rescue_data *d;
	/* Behind every extent so far, and the age of the one that reaches there: in a merged view
	 * older extents may lie over newer ones. */
	uint64_t end, end_birth;
};

static int block_put(struct copy *c, uint64_t lblk, const uint8_t *b)
{
	uint64_t off = lblk * BLOCK_SIZE, len = BLOCK_SIZE;

	if (off + len > c->size)
		len = c->size - off;
	if (!b) {
		c->d->lost_bytes += len;
		if (c->d->lost)
			c->d->lost(c->d->arg, off, len);
		return 0;
	}
	c->d->good_bytes += len;
	for (uint64_t at = 0; at < len && c->fd >= 0;) {
		ssize_t n = pwrite(c->fd, b + at, len - at, (off_t)(off + at));

		if (n < 0 && errno != EINTR)
			return -errno;
		at += n > 0 ? (uint64_t)n : 0;
	}
	return 0;
}

/* Is it the log that says what is in this block? */
static bool covered(const struct copy *c, uint64_t lblk)
{
	size_t lo = 0, hi = c->ncover;

	while (lo < hi) { /* the first range that ends behind it */
		size_t mid = (lo + hi) / 2;

		if (c->cover[mid].to <= lblk)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < c->ncover && c->cover[lo].from <= lblk;
}

static int extent_copy(struct copy *c, const struct extent *x)
{
	bool hidden = x->lblk < c->end && x->birth < c->end_birth;
	uint64_t first = hidden ? c->end - x->lblk : 0;
	uint32_t bad;
	const uint8_t *b;
	int rc = 0;

	if (x->lblk + x->blocks > c->end) {
		c->end = x->lblk + x->blocks;
		c->end_birth = x->birth;
	}
	if (x->codec == EXTENT_RESERVED || first >= x->blocks)
		return 0;
	b = extent_read(c->v->r, x, &bad);
	for (unsigned i = (unsigned)first; i < x->blocks && !rc; i++) {
		bool lost = !b || (x->codec == EXTENT_RAW && bad >> i & 1);

		if ((x->lblk + i) * BLOCK_SIZE < c->size && !covered(c, x->lblk + i))
			rc = block_put(c, x->lblk + i, lost ? NULL : b + (size_t)i * BLOCK_SIZE);
	}
	return rc;
}

/* ---- what the log has ---- */

static int by_from(const void *x, const void *y)
{
	const struct cover *a = x, *b = y;

	return a->from < b->from ? -1 : a->from > b->from;
}

static int log_begin(struct copy *c, uint64_t object)
{
	size_t n = 0;

	c->log = rescue_log_writes(c->v, object, &c->nlog);
	if (!c->nlog)
		return 0;
	c->cover = malloc(c->nlog * sizeof *c->cover);
	if (!c->cover)
		return -ENOMEM;
	for (size_t i = 0; i < c->nlog; i++)
		c->cover[i] = (struct cover){c->log[i].first, c->log[i].first + c->log[i].blocks};
	qsort(c->cover, c->nlog, sizeof *c->cover, by_from);
	for (size_t i = 0; i < c->nlog; i++) {
		if (!n || c->cover[i].from > c->cover[n - 1].to)
			c->cover[n++] = c->cover[i];
		else if (c->cover[i].to > c->cover[n - 1].to)
			c->cover[n - 1].to = c->cover[i].to;
	}
	c->ncover = n;
	return 0;
}

/* The newest version of each block. */
static int log_copy(struct copy *c)
{
	int rc = 0;

	for (size_t i = 0; i < c->nlog && !rc; i++) {
		const struct rescue_write *w = &c->log[i];

		if (w->data && w->first * BLOCK_SIZE < c->size &&
		    !rescue_log_covered(w + 1, c->nlog - i - 1, w->first))
			rc = block_put(c, w->first, w->data);
	}
	return rc;
}

int rescue_object_copy(struct rescue_view *v, uint64_t object, uint64_t size_bytes, int fd,
		       struct rescue_data *d)
{
	struct copy c = {.v = v, .fd = fd, .size = size_bytes, .d = d};
	struct rescue_cursor cur;
	struct btree_item it;
	int rc = rescue_cursor_init(&cur, v);

	if (!rc)
		rc = log_begin(&c, object);
	rescue_seek(&cur, (struct key){object, VOL_KEY_EXTENT, 0});
	while (!rc && !rescue_next(&cur, &it)) {
		struct extent x;

		if (it.key.object != object || it.key.type != VOL_KEY_EXTENT)
			break;
		if (!extent_decode(&it, &x))
			rc = extent_copy(&c, &x);
		if (d->progress)
			d->progress(d->arg, 0, d->good_bytes + d->lost_bytes);
	}
	rescue_cursor_fini(&cur);
	if (!rc)
		rc = log_copy(&c);
	free(c.cover);
	if (!rc && fd >= 0 && ftruncate(fd, (off_t)size_bytes))
		rc = -errno;
	return rc;
}
