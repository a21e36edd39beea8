/* check: verify everything reachable from the newest committed state, read-only.
 *
 * Walks all trees, marks every block met in a map of its own, then compares with the bitmaps of the
 * same commit. Problems are one line each; a block met more or less often than its count of
 * references says (once, unless it is shared), met but free, or used and never met is a problem. */
#include <stdarg.h>
#include <string.h>
#include "pool/check_dead.h"
#include "pool/chunk.h"
#include "pool/event.h"
#include "pool/refs.h"
#include "pool/sb.h"
#include "pool/space.h"
#include "pool/txn.h"
#include "pool/vol_record.h"
#include "pool/walk.h"

struct seen { /* what one chunk has been met with */
	uint64_t id;
	uint32_t used; /* by its record */
	bool recorded, log;
	uint64_t *met;	/* references */
	uint64_t *bits; /* bitmap of the commit */
	bool shared;	/* by its record */
	uint32_t *more; /* references still to be met beyond the first; NULL: none */
	struct seen *next;
};

#define SEEN_HASH 1024

struct check {
	struct pool *p;
	bool deep;
	FILE *out;
	pool_progress_fn *progress;
	void *progress_arg;
	uint64_t done, total;
	struct pool_check_result *r;
	struct seen *hash[SEEN_HASH];
	uint8_t *buf;
	uint64_t vol_id;
	enum walk_kind kind; /* of the tree being walked */
	struct check_dead dead;
	bool new_tree;
	struct {
		struct addr addr;
		uint64_t start;
	} lz4[EXTENT_LZ4_BLOCKS_MAX]; /* whose pieces may follow */
	unsigned lz4_next;
	uint64_t last_object, last_end;
};

static void problem(struct check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void problem(struct check *c, const char *fmt, ...)
{
	va_list ap;

	c->r->problems++;
	if (!c->out)
		return;
	va_start(ap, fmt);
	vfprintf(c->out, fmt, ap);
	va_end(ap);
	fputc('\n', c->out);
}

static struct seen *seen_get(struct check *c, uint64_t id)
{
	struct seen **h = &c->hash[id % SEEN_HASH], *s = *h;

	while (s && s->id != id)
		s = s->next;
	if (s)
		return s;
	s = calloc(1, sizeof *s);
	if (s) {
		s->id = id;
		s->met = calloc((c->p->chunk_blocks + 63) / 64, 8);
		if (!s->met) {
			free(s);
			return NULL;
		}
		s->next = *h;
		*h = s;
	}
	return s;
}

/* The chunk that blocks lie in. NULL: in none, which is a problem. */
static int seen_at(struct check *c, struct addr a, uint32_t blocks, const char *what,
		   struct seen **ret_s)
{
	*ret_s = NULL;
	if (!addr_chunk(a) || addr_block(a) + blocks > c->p->chunk_blocks) {
		problem(c, "%s: address %llx is outside every chunk", what,
			(unsigned long long)a.v);
		return 0;
	}
	*ret_s = seen_get(c, addr_chunk(a));
	return *ret_s ? 0 : -ENOMEM;
}

/* ret_fresh: blocks that were not met before; they alone count. */
static int meet(struct check *c, struct addr a, uint32_t blocks, const char *what,
		uint32_t *ret_fresh)
{
	uint32_t fresh = 0;
	struct seen *s;
	int rc = seen_at(c, a, blocks, what, &s);

	*ret_fresh = 0;
	if (rc || !s)
		return rc;
	for (uint32_t i = addr_block(a); i < addr_block(a) + blocks; i++) {
		fresh += !bit_get(s->met, i);
		if (bit_get(s->met, i) && s->more && s->more[i])
			s->more[i]--;
		else if (bit_get(s->met, i))
			problem(c, "%s: block %llx is referenced %s", what,
				(unsigned long long)addr_make(s->id, i).v,
				s->more ? "more often than counted" : "twice");
		bit_set(s->met, i);
	}
	/* The state that is checked holds back what is freed meanwhile. */
	if (!c->p->read_only && space_pressed(c->p))
		return -ENOSPC;
	*ret_fresh = fresh;
	c->done += fresh;
	if (c->progress && c->done % 4096 < fresh)
		c->progress(c->progress_arg, c->done * BLOCK_SIZE, c->total * BLOCK_SIZE);
	return 0;
}

/* What a snapshot shows belongs to its volume, or to its dead list. */
static int meet_again(struct check *c, struct addr a, uint32_t blocks, const char *what)
{
	uint32_t first = addr_block(a), missing = 0;
	struct seen *s;
	int rc = seen_at(c, a, blocks, what, &s);

	if (rc || !s)
		return rc;
	for (uint32_t i = first; i < first + blocks; i++)
		missing += !bit_get(s->met, i);
	if (missing)
		problem(c, "%s: a snapshot shows %u blocks at %llx that nothing keeps", what,
			missing, (unsigned long long)a.v);
	return 0;
}

/* Read every current member of a block run and verify. */
static void verify_members(struct check *c, struct addr a, uint32_t blocks, chunk_verify_fn *fn,
			   void *arg, const char *what)
{
	struct pool *p = c->p;
	unsigned n = 0;
	struct chunk_slot todo[MEMBERS_MAX];
	struct chunk *ch;

	lock_take(&p->lock);
	ch = chunk_find(p, addr_chunk(a));
	for (unsigned i = 0; ch && i < ch->nmembers; i++) {
		const struct dev *d = &p->devs[ch->m[i].dev];

		if (d->backend && d->state == DEV_ONLINE && !chunk_member_since(p, &ch->m[i]))
			todo[n++] = chunk_slot_of(&ch->m[i]);
	}
	lock_drop(&p->lock);
	if (!n)
		problem(c, "%s: no device with a current copy is here", what);
	for (unsigned i = 0; i < n; i++) {
		int rc = chunk_read_slot(p, a, blocks, c->buf, todo[i]);

		if (rc == ERR_LAST) /* moved away meanwhile */
			continue;
		if (!rc)
			rc = fn(arg, c->buf);
		if (rc)
			problem(c, "%s: copy on device %u at %llx: %s", what, todo[i].dev,
				(unsigned long long)a.v, err_str(rc));
	}
}

/* ---- nodes and items ---- */

struct node_arg {
	struct check *c;
	const struct node_ptr *ptr;
	uint64_t tree;
	uint8_t level;
};

static int verify_node(void *arg, const void *buf)
{
	const struct node_arg *na = arg;

	return node_validate(buf, na->ptr, na->c->p->uuid, na->tree, na->level, false, NULL);
}

static int on_node(void *arg, uint64_t tree_id, const struct node_ptr *ptr, uint8_t level)
{
	struct check *c = arg;
	struct node_arg na = {c, ptr, tree_id, level};
	uint32_t fresh;
	char what[80];

	snprintf(what, sizeof what, "tree %llu node %llx", (unsigned long long)tree_id,
		 (unsigned long long)ptr->addr.v);
	c->r->nodes++;
	if (c->deep)
		verify_members(c, ptr->addr, NODE_BLOCKS, verify_node, &na, what);
	if (c->kind == WALK_SNAPSHOT)
		return meet_again(c, ptr->addr, NODE_BLOCKS, what);
	return meet(c, ptr->addr, NODE_BLOCKS, what, &fresh);
}

static int on_bad(void *arg, uint64_t tree_id, const struct node_ptr *ptr, uint8_t level, int rc)
{
	struct check *c = arg;

	problem(c, "tree %llu node %llx level %u: %s; what lies below it was not checked",
		(unsigned long long)tree_id, (unsigned long long)ptr->addr.v, level, err_str(rc));
	return 0;
}

static int map_item(struct check *c, const struct btree_item *it)
{
	const struct chunk_disk *cd = it->value;
	struct err e = {0};
	struct seen *s;

	if (it->key.type != 1 || it->len != sizeof *cd) {
		problem(c, "chunk map: item of type %u, %u bytes", it->key.type, it->len);
		return 0;
	}
	if (chunk_validate(cd, it->key.object, c->p, &e)) {
		problem(c, "%s", e.text);
		return 0;
	}
	s = seen_get(c, it->key.object);
	if (!s)
		return -ENOMEM;
	s->recorded = true;
	s->used = le32_get(cd->used_blocks);
	s->log = cd->kind == CHUNK_LOG;
	s->shared = cd->kind & CHUNK_F_SHARED;
	c->total += s->used;
	return 0;
}

static int refs_item(struct check *c, const struct btree_item *it, struct seen *s)
{
	uint32_t count[REFS_GROUP];
	uint64_t first = it->key.offset * REFS_GROUP;

	if (it->key.offset >= c->p->chunk_blocks / REFS_GROUP || refs_decode(it, count)) {
		problem(c, "references of chunk %llx: invalid", (unsigned long long)it->key.object);
		return 0;
	}
	if (!s->shared)
		problem(c, "chunk %llx has shared blocks, but its record does not say so",
			(unsigned long long)s->id);
	if (!s->more)
		s->more = calloc(c->p->chunk_blocks, sizeof *s->more);
	if (!s->more)
		return -ENOMEM;
	for (unsigned i = 0; i < REFS_GROUP; i++)
		s->more[first + i] = count[i] - 1;
	return 0;
}

static int space_item(struct check *c, const struct btree_item *it)
{
	struct seen *s = seen_get(c, it->key.object);
	size_t words = c->p->chunk_blocks / 64;

	if (!s)
		return -ENOMEM;
	if (it->key.type == SPACE_KEY_REFS)
		return refs_item(c, it, s);
	if (it->len != words * 8) {
		problem(c, "bitmap of chunk %llx: %u bytes", (unsigned long long)it->key.object,
			it->len);
		return 0;
	}
	if (!s->bits)
		s->bits = calloc(words, 8);
	if (!s->bits)
		return -ENOMEM;
	for (size_t w = 0; w < words; w++) {
		le64 v;

		memcpy(&v, (const uint8_t *)it->value + w * 8, 8);
		s->bits[w] = le64_get(v);
	}
	return 0;
}

static int verify_extent(void *arg, const void *buf)
{
	const struct extent *x = arg;

	for (unsigned i = 0; i < x->stored_blocks; i++)
		if (crc32c(0, (const uint8_t *)buf + i * BLOCK_SIZE, BLOCK_SIZE) != x->crc[i])
			return ERR_CSUM;
	return 0;
}

/* Is x a further piece of a compressed extent met before? Others may lie between its pieces. */
static bool lz4_met(struct check *c, const struct extent *x)
{
	for (unsigned i = 0; i < EXTENT_LZ4_BLOCKS_MAX; i++)
		if (c->lz4[i].addr.v == x->addr.v && c->lz4[i].start == x->lblk - x->skip)
			return true;
	c->lz4[c->lz4_next].addr = x->addr;
	c->lz4[c->lz4_next].start = x->lblk - x->skip;
	c->lz4_next = (c->lz4_next + 1) % EXTENT_LZ4_BLOCKS_MAX;
	return false;
}

static int extent_item(struct check *c, uint64_t tree_id, const struct btree_item *it)
{
	struct extent x;
	uint32_t fresh;
	char what[96];
	int rc = extent_decode(it, &x);

	snprintf(what, sizeof what, "volume %llu object %llu offset %llu",
		 (unsigned long long)tree_id, (unsigned long long)it->key.object,
		 (unsigned long long)it->key.offset * BLOCK_SIZE);
	if (rc) {
		problem(c, "%s: invalid extent", what);
		return 0;
	}
	c->r->extents++;
	if (c->new_tree || c->vol_id != tree_id || c->last_object != it->key.object) {
		c->vol_id = tree_id;
		c->new_tree = false;
		c->last_object = it->key.object;
		c->last_end = 0;
		memset(c->lz4, 0, sizeof c->lz4);
	}
	if (x.lblk < c->last_end)
		problem(c, "%s: overlaps the extent before it", what);
	c->last_end = x.lblk + x.blocks;
	if (x.codec == EXTENT_RESERVED)
		return 0;
	if (x.codec == EXTENT_LZ4) {
		if (lz4_met(c, &x))
			return 0;
	}
	fresh = 1;
	if (c->kind == WALK_SNAPSHOT)
		rc = meet_again(c, x.addr, x.stored_blocks, what);
	else
		rc = meet(c, x.addr, x.stored_blocks, what, &fresh);
	c->r->data_blocks += c->kind == WALK_SNAPSHOT ? 0 : fresh;
	if (!rc && c->deep && fresh)
		verify_members(c, x.addr, x.stored_blocks, verify_extent, &x, what);
	return rc;
}

static int dead_item(struct check *c, uint64_t tree_id, const struct btree_item *it)
{
	struct snap_dead d;
	uint32_t fresh;
	char what[96];
	int rc;

	snprintf(what, sizeof what, "dead list %llu of transaction %llu",
		 (unsigned long long)tree_id, (unsigned long long)it->key.object);
	if (snap_dead_decode(it, &d)) {
		problem(c, "%s: invalid entry", what);
		return 0;
	}
	if (!check_dead_shown(&c->dead, tree_id, &d))
		problem(c, "%s: no snapshot shows what was born in %llu and died in %llu", what,
			(unsigned long long)d.birth, (unsigned long long)d.died);
	rc = meet(c, d.addr, d.blocks, what, &fresh);
	c->r->data_blocks += d.is_node ? 0 : fresh;
	return rc;
}

static void on_tree(void *arg, uint64_t tree_id, enum walk_kind kind)
{
	struct check *c = arg;

	(void)tree_id;
	c->kind = kind;
	c->new_tree = true;
}

static int record_item(struct check *c, const struct btree_item *it)
{
	struct vol *v;
	int rc = vol_record_decode(c->p, it, &v);

	if (!rc) {
		rc = check_dead_record(&c->dead, v);
		vol_free(v);
	} else if (rc != -ENOMEM) {
		problem(c, "volume record %llu is invalid", (unsigned long long)it->key.object);
		rc = 0;
	}
	return rc;
}

static int on_item(void *arg, uint64_t tree_id, const struct btree_item *it)
{
	struct check *c = arg;

	if (tree_id == TREE_MAP)
		return map_item(c, it);
	if (tree_id == TREE_SPACE)
		return space_item(c, it);
	if (tree_id == TREE_ROOT && it->key.object < TREE_VOLUME_FIRST)
		return 0;
	if (tree_id == TREE_ROOT)
		return record_item(c, it);
	if (c->kind == WALK_DEAD)
		return dead_item(c, tree_id, it);
	return it->key.type == VOL_KEY_EXTENT ? extent_item(c, tree_id, it) : 0;
}

/* ---- comparison ---- */

static void compare_chunk(struct check *c, struct seen *s)
{
	uint32_t set = 0, leaked = 0, unmarked = 0, missing = 0;

	if (!s->recorded) {
		problem(c, "chunk %llx is referenced but not in the chunk map",
			(unsigned long long)s->id);
		return;
	}
	if (!s->bits) {
		problem(c, "chunk %llx has no bitmap", (unsigned long long)s->id);
		return;
	}
	for (uint32_t i = 0; i < c->p->chunk_blocks; i++) {
		bool bit = bit_get(s->bits, i), met = s->log || bit_get(s->met, i);

		set += bit;
		leaked += bit && !met;
		unmarked += met && !bit;
		missing += s->more && s->more[i];
	}
	if (leaked)
		problem(c, "chunk %llx: %u blocks are marked used but nothing refers to them",
			(unsigned long long)s->id, leaked);
	if (unmarked)
		problem(c, "chunk %llx: %u blocks are in use but marked free",
			(unsigned long long)s->id, unmarked);
	if (missing)
		problem(c, "chunk %llx: %u blocks are referenced less often than counted",
			(unsigned long long)s->id, missing);
	if (set != s->used)
		problem(c, "chunk %llx: record says %u blocks used, bitmap %u",
			(unsigned long long)s->id, s->used, set);
}

static void seen_free(struct check *c)
{
	for (unsigned i = 0; i < SEEN_HASH; i++)
		for (struct seen *s = c->hash[i], *next; s; s = next) {
			next = s->next;
			free(s->met);
			free(s->bits);
			free(s->more);
			free(s);
		}
}

int pool_check(struct pool *p, bool deep, FILE *out, pool_progress_fn *progress, void *arg,
	       struct pool_check_result *r, struct err *e)
{
	const struct walk_ops ops = {on_tree, on_node, on_item, on_bad};
	struct check *c = calloc(1, sizeof *c);
	struct sb_disk *sb = malloc(sizeof *sb);
	struct txn *t;
	int rc = -ENOMEM;

	memset(r, 0, sizeof *r);
	if (c && sb)
		c->buf = aligned_alloc(BLOCK_SIZE, EXTENT_BLOCKS_MAX * BLOCK_SIZE);
	if (c && sb && c->buf) {
		c->p = p;
		c->deep = deep;
		c->out = out;
		c->progress = progress;
		c->progress_arg = arg;
		c->r = r;
		lock_take(&p->lock);
		t = txn_read_begin_committed_locked(p);
		memcpy(sb, p->sb, sizeof *sb);
		lock_drop(&p->lock);
		rc = walk_all(p, sb, 0, &ops, c);
		txn_read_end(p, t);
		for (unsigned i = 0; i < SEEN_HASH && !rc; i++)
			for (struct seen *s = c->hash[i]; s; s = s->next)
				compare_chunk(c, s);
	}
	if (c) {
		seen_free(c);
		check_dead_fini(&c->dead);
		free(c->buf);
	}
	free(c);
	free(sb);
	if (rc == -ENOSPC)
		return err_set(e, rc,
			       "check pool %s: it is too full to be checked while it is used; free "
			       "some space, or export it and check it then",
			       p->name);
	return rc ? err_set(e, rc, "check pool %s: %s", p->name, err_str(rc)) : 0;
}
