/* rescue_log: what the intent log has on top of the commit that a view shows.
 *
 * A group names its volume, the transaction that was open when it was written, its epoch (one
 * import) and its place in the order of all groups. The groups of one transaction have all that had
 * happened to the volume in it, up to the last sync; those of the next one, too, but on top of the
 * whole transaction. So from the first group younger than the view's commit on, all are applied
 * while 1. none is missing in between; 2. they are of one epoch: another import commits what it
 * replayed; 3. no node of the volume's tree is younger than the commit and older than the group: it
 * would be of a commit in between that could not be chosen, and have more than the groups do.
 *
 * Groups are found by the scan and proven by their checksums; nothing else says where the log is.
 */
#include <string.h>
#include <unistd.h>
#include "pool/ilog_format.h"
#include "pool/rescue_impl.h"

#define GROUP_BYTES_MAX (2u << 20)
#define BLOCKS_MAX	(1ull << 51)

/* ---- the scan ---- */

static bool group_valid(const struct ilog_group_disk *h, const uint8_t *buf)
{
	return crc32c(0, buf + 8, le32_get(h->bytes) - 8) == le32_get(h->crc);
}

static int group_add(struct rescue *r, const struct ilog_group_disk *h, unsigned file, uint64_t off)
{
	struct rescue_group g = {.volume = le64_get(h->volume),
				 .seq = le64_get(h->seq),
				 .epoch = le64_get(h->epoch),
				 .txn = le64_get(h->txn),
				 .off = off,
				 .bytes = le32_get(h->bytes),
				 .crc = le32_get(h->crc),
				 .file = (uint8_t)file,
				 .pool = rescue_pool_number(r, h->pool_uuid)};
	int rc;

	if (g.pool == RESCUE_POOLS_MAX)
		return 0;
	rc = rescue_grow(&r->groups, r->ngroups, &r->cap_groups, sizeof g);
	if (!rc)
		r->groups[r->ngroups++] = g;
	return rc;
}

/* All of the group at off, or NULL: no memory, unreadable. */
static uint8_t *group_read(struct rescue *r, unsigned file, uint64_t off, uint32_t bytes)
{
	size_t len = (bytes + BLOCK_SIZE - 1) / BLOCK_SIZE * BLOCK_SIZE;
	uint8_t *buf;

	if (off + len > r->devs[file]->size_bytes)
		return NULL;
	buf = aligned_alloc(BLOCK_SIZE, len);
	if (buf && dev_read(r->devs[file], off, buf, len)) {
		free(buf);
		buf = NULL;
	}
	return buf;
}

int rescue_log_look(struct rescue *r, const uint8_t *buf, uint64_t len, unsigned file, uint64_t off)
{
	struct ilog_group_disk h;
	uint8_t *all = NULL;
	bool valid;

	memcpy(&h, buf, sizeof h);
	if (le32_get(h.magic) != ILOG_MAGIC || le32_get(h.bytes) < sizeof h ||
	    le32_get(h.bytes) > GROUP_BYTES_MAX)
		return 0;
	if (le32_get(h.bytes) > len) {
		all = group_read(r, file, off, le32_get(h.bytes));
		buf = all;
	}
	valid = buf && group_valid(&h, buf);
	free(all);
	return valid ? group_add(r, &h, file, off) : 0;
}

static int by_seq(const void *x, const void *y)
{
	const struct rescue_group *a = x, *b = y;

	if (a->pool != b->pool)
		return a->pool < b->pool ? -1 : 1;
	if (a->epoch != b->epoch)
		return a->epoch < b->epoch ? -1 : 1;
	return a->seq < b->seq ? -1 : a->seq > b->seq;
}

void rescue_log_sort(struct rescue *r)
{
	if (r->ngroups)
		qsort(r->groups, r->ngroups, sizeof *r->groups, by_seq);
}

/* ---- records ---- */

static int item_add(struct rescue_view *v, const struct ilog_rec_disk *h, const uint8_t *value)
{
	struct rescue_item i = {
		.key = {le64_get(h->object), h->key_type, le64_get(h->offset)},
		.order = v->nitems,
		.gone = h->type == ILOG_DEL,
		.len = le16_get(h->len),
		.value = value,
	};
	int rc = rescue_grow(&v->items, v->nitems, &v->cap_items, sizeof i);

	if (!rc)
		v->items[v->nitems++] = i;
	return rc;
}

static int write_add(struct rescue_view *v, uint64_t object, uint64_t first, uint64_t blocks,
		     const uint8_t *data)
{
	struct rescue_write w = {object, v->nwrites, first, blocks, data};
	int rc;

	if (first >= BLOCKS_MAX)
		return 0;
	if (w.blocks > BLOCKS_MAX - first)
		w.blocks = BLOCKS_MAX - first;
	rc = rescue_grow(&v->writes, v->nwrites, &v->cap_writes, sizeof w);
	if (!rc)
		v->writes[v->nwrites++] = w;
	return rc;
}

static int record_add(struct rescue_view *v, const struct ilog_rec_disk *h, const uint8_t *value)
{
	uint64_t object = le64_get(h->object), offset = le64_get(h->offset);
	uint16_t len = le16_get(h->len);
	le64 blocks;

	switch (h->type) {
	case ILOG_PUT:
	case ILOG_DEL:
		return len <= NODE_VALUE_MAX && h->key_type < VOL_KEY_EXTENT ? item_add(v, h, value)
									     : 0;
	case ILOG_TRIM:
		if (len != sizeof blocks)
			return 0;
		memcpy(&blocks, value, sizeof blocks);
		return write_add(v, object, offset, le64_get(blocks), NULL);
	case ILOG_DATA:
		return len == BLOCK_SIZE ? write_add(v, object, offset, 1, value) : 0;
	default:
		return 0;
	}
}

/* buf is the view's from now on. */
static int group_apply(struct rescue_view *v, uint8_t *buf, uint32_t bytes)
{
	const uint8_t *at = buf + sizeof(struct ilog_group_disk), *end = buf + bytes;
	int rc = rescue_grow(&v->logs, v->nlogs, &v->cap_logs, sizeof *v->logs);

	if (rc) {
		free(buf);
		return rc;
	}
	v->logs[v->nlogs++] = buf;
	while (!rc && at + sizeof(struct ilog_rec_disk) <= end) {
		struct ilog_rec_disk h;

		memcpy(&h, at, sizeof h);
		at += sizeof h;
		if (le16_get(h.len) > end - at)
			break;
		rc = record_add(v, &h, at);
		at += le16_get(h.len);
	}
	return rc;
}

/* ---- which groups ---- */

/* The first commit after the view's that has left a node of the tree. */
static uint64_t next_birth(const struct rescue_view *v)
{
	uint64_t least = UINT64_MAX;
	size_t n;
	const uint32_t *all = rescue_tree_nodes(v->r, v->tree, &n);

	for (size_t i = 0; i < n; i++) {
		uint64_t birth = v->r->nodes[all[i]].birth;

		if (birth > v->txn && birth < least)
			least = birth;
	}
	return least;
}

/* One of the copies at g[0..n). NULL: none can be read any more. */
static uint8_t *copy_read(struct rescue *r, const struct rescue_group *g, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint8_t *buf = group_read(r, g[i].file, g[i].off, g[i].bytes);
		struct ilog_group_disk h;

		if (!buf)
			continue;
		memcpy(&h, buf, sizeof h);
		if (le32_get(h.bytes) == g[i].bytes && le32_get(h.crc) == g[i].crc &&
		    group_valid(&h, buf))
			return buf;
		free(buf);
	}
	return NULL;
}

/* Groups from..; how many copies of the first there are. */
static size_t copies_of(const struct rescue *r, size_t from)
{
	size_t n = 1;

	while (from + n < r->ngroups && !by_seq(&r->groups[from], &r->groups[from + n]))
		n++;
	return n;
}

static bool is_next(const struct rescue_group *a, const struct rescue_group *b)
{
	return a->pool == b->pool && a->epoch == b->epoch && a->seq + 1 == b->seq;
}

static int by_key(const void *x, const void *y)
{
	const struct rescue_item *a = x, *b = y;
	int d = key_cmp(a->key, b->key);

	return d ? d : a->order < b->order ? -1 : a->order > b->order;
}

/* Of several changes of one item the last counts. */
static void items_settle(struct rescue_view *v)
{
	size_t n = 0;

	if (!v->nitems)
		return;
	qsort(v->items, v->nitems, sizeof *v->items, by_key);
	for (size_t i = 0; i < v->nitems; i++) {
		if (n && !key_cmp(v->items[n - 1].key, v->items[i].key))
			n--;
		v->items[n++] = v->items[i];
	}
	v->nitems = n;
}

static int by_object(const void *x, const void *y)
{
	const struct rescue_write *a = x, *b = y;

	if (a->object != b->object)
		return a->object < b->object ? -1 : 1;
	return a->order < b->order ? -1 : a->order > b->order;
}

int rescue_log_apply(struct rescue_view *v)
{
	struct rescue *r = v->r;
	uint64_t before = next_birth(v);
	size_t n, first = r->ngroups;
	int rc = 0;

	for (size_t i = 0; i < r->ngroups && first == r->ngroups; i++)
		if (r->groups[i].pool == r->pool && r->groups[i].volume == v->tree &&
		    r->groups[i].txn > v->txn)
			first = i;
	for (size_t i = first; i < r->ngroups && !rc; i += n) {
		const struct rescue_group *g = &r->groups[i];
		uint8_t *buf;

		n = copies_of(r, i);
		if (g->volume == v->tree) {
			buf = g->txn > before ? NULL : copy_read(r, g, n);
			if (!buf)
				break;
			rc = group_apply(v, buf, g->bytes);
		}
		if (i + n < r->ngroups && !is_next(g, &r->groups[i + n]))
			break;
	}
	items_settle(v);
	if (v->nwrites)
		qsort(v->writes, v->nwrites, sizeof *v->writes, by_object);
	return rc;
}

void rescue_log_free(struct rescue_view *v)
{
	for (size_t i = 0; i < v->nlogs; i++)
		free(v->logs[i]);
	free(v->logs);
	free(v->items);
	free(v->writes);
}

/* ---- data ---- */

const struct rescue_write *rescue_log_writes(const struct rescue_view *v, uint64_t object,
					     size_t *ret_n)
{
	size_t lo = 0, hi = v->nwrites, end;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (v->writes[mid].object < object)
			lo = mid + 1;
		else
			hi = mid;
	}
	for (end = lo; end < v->nwrites && v->writes[end].object == object; end++)
		;
	*ret_n = end - lo;
	return v->writes + lo;
}

bool rescue_log_covered(const struct rescue_write *w, size_t n, uint64_t lblk)
{
	for (size_t i = 0; i < n; i++)
		if (lblk >= w[i].first && lblk - w[i].first < w[i].blocks)
			return true;
	return false;
}
