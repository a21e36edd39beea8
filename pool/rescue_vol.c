/* rescue_vol: volumes, from their records, old ones too, and from nodes that no record names. */
#include <string.h>
#include "pool/rescue_impl.h"
#include "pool/snap_format.h"

static int records_of_leaf(struct rescue *r, const uint8_t *buf)
{
	uint64_t birth = le64_get(page_header_const(buf)->birth);

	for (unsigned i = 0; i < page_count(buf); i++) {
		struct rescue_record rec = {.birth = birth};
		struct btree_item it;
		int rc;

		page_item(buf, i, &it);
		if (it.key.object < TREE_VOLUME_FIRST || vol_record_view(&it, &rec.rec) ||
		    rec.rec.origin)
			continue;
		rc = rescue_grow(&r->recs, r->nrecs, &r->cap_recs, sizeof rec);
		if (rc)
			return rc;
		r->recs[r->nrecs++] = rec;
	}
	return 0;
}

static int by_id(const void *x, const void *y)
{
	const struct rescue_record *a = x, *b = y;

	if (a->rec.id != b->rec.id)
		return a->rec.id < b->rec.id ? -1 : 1;
	return a->birth > b->birth ? -1 : a->birth < b->birth;
}

static int records_read(struct rescue *r)
{
	size_t n;
	const uint32_t *all = rescue_tree_nodes(r, TREE_ROOT, &n);
	int rc = 0;

	for (size_t i = 0; i < n && !rc; i++) {
		const uint8_t *buf = r->nodes[all[i]].level ? NULL : rescue_node_get(r, all[i]);

		if (buf)
			rc = records_of_leaf(r, buf);
	}
	if (r->nrecs)
		qsort(r->recs, r->nrecs, sizeof *r->recs, by_id);
	return rc;
}

/* First record of a volume, or nrecs. */
static size_t record_first(const struct rescue *r, uint64_t id)
{
	size_t lo = 0, hi = r->nrecs;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (r->recs[mid].rec.id < id)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < r->nrecs && r->recs[lo].rec.id == id ? lo : r->nrecs;
}

/* ---- which root ----
 *
 * The newest whole tree, for it is one state of the volume. But a volume's first commits, empty or
 * small, are often whole when the newest one has a scratch: a tree that is older than more leaves
 * than it has itself gives way to the newest root there is, patched, or to a merge.
 */

struct choice {
	bool any;
	uint32_t root; /* RESCUE_NONE: an empty tree */
	uint64_t birth;
};
struct choices {
	struct choice whole, torn; /* the newest of each */
};

static void choose(struct rescue *r, struct choices *c, uint32_t root, uint64_t birth)
{
	bool whole = root == RESCUE_NONE || rescue_whole(r, root);
	struct choice *to = whole ? &c->whole : &c->torn;

	if (!to->any || birth > to->birth)
		*to = (struct choice){true, root, birth};
}

static void choose_record(struct rescue *r, struct choices *c, const struct rescue_record *rec)
{
	uint32_t root;

	if (!rec->rec.root.addr.v) {
		choose(r, c, RESCUE_NONE, rec->birth);
		return;
	}
	root = rescue_find(r, &rec->rec.root, rec->rec.id, rec->rec.level);
	if (root != RESCUE_NONE)
		choose(r, c, root, r->nodes[root].birth);
}

/* From the newest record on, up to the first whole tree; and a root that its record did not
 * outlive. */
static struct choices choose_roots(struct rescue *r, uint64_t id)
{
	struct choices c = {0};
	uint32_t top = rescue_top(r, id);
	size_t at = record_first(r, id);

	for (; at < r->nrecs && r->recs[at].rec.id == id && !c.whole.any; at++)
		choose_record(r, &c, &r->recs[at]);
	if (top != RESCUE_NONE && rescue_whole(r, top))
		choose(r, &c, top, r->nodes[top].birth);
	return c;
}

static size_t leaves_since(const struct rescue *r, uint64_t tree, uint64_t birth)
{
	size_t n, count = 0;
	const uint32_t *all = rescue_tree_nodes(r, tree, &n);

	for (size_t i = 0; i < n; i++)
		count += !r->nodes[all[i]].level && r->nodes[all[i]].birth > birth;
	return count;
}

/* The newest commit of a volume that can be shown. */
static int view_of_commit(struct rescue *r, uint64_t vol_id, struct rescue_view **ret_v)
{
	struct choices c = choose_roots(r, vol_id);
	struct rescue_view *v;
	int rc;

	if (c.whole.any) {
		rc = rescue_view_node(r, vol_id, c.whole.root, &v);
		if (rc)
			return rc;
		v->txn = c.whole.birth;
		if (leaves_since(r, vol_id, c.whole.birth) <= v->npieces) {
			*ret_v = v;
			return 0;
		}
		rescue_view_close(v);
	}
	if (c.torn.any && c.torn.birth > c.whole.birth)
		return rescue_view_node(r, vol_id, c.torn.root, ret_v);
	return rescue_view_leaves(r, vol_id, ret_v);
}

int rescue_view_open(struct rescue *r, uint64_t vol_id, struct rescue_view **ret_v)
{
	struct rescue_view *v;
	int rc = view_of_commit(r, vol_id, &v);

	if (!rc)
		rc = rescue_log_apply(v);
	else
		return rc;
	if (rc)
		rescue_view_close(v);
	else
		*ret_v = v;
	return rc;
}

/* ---- the list ---- */

/* Type and size of a volume without a record, from its items. -ENOENT: it is none. */
static int guess(struct rescue *r, struct rescue_vol *v, struct rescue_view *view)
{
	struct rescue_cursor c;
	struct btree_item it;
	struct extent x;
	int rc = rescue_cursor_init(&c, view);

	(void)r;
	snprintf(v->name, sizeof v->name, "volume-%llu", (unsigned long long)v->id);
	v->nameless = true;
	v->type = VOL_TYPE_BLOCK;
	if (rc)
		return rc;
	rescue_seek(&c, KEY_MIN);
	while (!rescue_next(&c, &it)) {
		if (it.key.type == SNAP_KEY_NODE || it.key.type == SNAP_KEY_EXTENT) {
			rc = -ENOENT; /* a dead list */
			break;
		}
		if (it.key.type < VOL_KEY_EXTENT)
			v->type = VOL_TYPE_FS; /* block volumes have no other items */
		else if (!extent_decode(&it, &x) && it.key.object == VOL_BLOCK_OBJECT)
			v->size_bytes = (x.lblk + x.blocks) * BLOCK_SIZE;
		if (v->type == VOL_TYPE_FS)
			break;
	}
	if (v->type == VOL_TYPE_FS)
		v->size_bytes = 0;
	rescue_cursor_fini(&c);
	return rc;
}

static int vol_add(struct rescue *r, uint64_t id, const struct rescue_record *rec)
{
	struct rescue_vol v = {.id = id, .gone = true};
	struct rescue_view *view;
	int rc = rescue_grow(&r->vols, r->nvols, &r->cap_vols, sizeof v);

	if (!rc)
		rc = rescue_view_open(r, id, &view);
	if (rc)
		return rc;
	v.state = view->state;
	v.txn = view->txn;
	v.lost_nodes = view->ngaps;
	v.log_groups = view->nlogs;
	if (rec) {
		memcpy(v.name, rec->rec.name, sizeof v.name);
		v.type = rec->rec.type;
		v.size_bytes = rec->rec.size_bytes;
		v.logical_bytes = rec->rec.logical_blocks * BLOCK_SIZE;
		v.created_ns = rec->rec.created_ns;
		v.trashed = rec->rec.trashed_ns || rec->rec.destroying;
	} else {
		rc = guess(r, &v, view);
	}
	rescue_view_close(view);
	if (!rc)
		r->vols[r->nvols++] = v;
	return rc == -ENOENT ? 0 : rc;
}

static int vol_cmp(const void *x, const void *y)
{
	const struct rescue_vol *a = x, *b = y;

	return a->id < b->id ? -1 : a->id > b->id;
}

/* Not "gone" is who is in the newest list of volumes. */
static int mark_current(struct rescue *r)
{
	uint32_t top = rescue_top(r, TREE_ROOT);
	struct rescue_view *view;
	struct rescue_cursor c;
	struct btree_item it;
	int rc;

	if (top != RESCUE_NONE && rescue_whole(r, top))
		rc = rescue_view_node(r, TREE_ROOT, top, &view);
	else
		rc = rescue_view_leaves(r, TREE_ROOT, &view);
	if (rc)
		return rc;
	rc = rescue_cursor_init(&c, view);
	for (size_t i = 0; i < r->nvols && !rc; i++)
		r->vols[i].gone = rescue_get(&c, (struct key){r->vols[i].id, 1, 0}, &it) != 0;
	rescue_cursor_fini(&c);
	rescue_view_close(view);
	return rc;
}

int rescue_records(struct rescue *r)
{
	int rc = records_read(r);

	for (size_t i = 0; i < r->nrecs && !rc; i++)
		if (!i || r->recs[i].rec.id != r->recs[i - 1].rec.id)
			rc = vol_add(r, r->recs[i].rec.id, &r->recs[i]);
	for (size_t i = 0; i < r->norder && !rc; i++) {
		uint64_t tree = r->nodes[r->order[i]].tree;

		if (tree >= TREE_VOLUME_FIRST && (!i || r->nodes[r->order[i - 1]].tree != tree) &&
		    record_first(r, tree) == r->nrecs)
			rc = vol_add(r, tree, NULL);
	}
	if (!rc && r->nvols)
		qsort(r->vols, r->nvols, sizeof *r->vols, vol_cmp);
	return rc ? rc : mark_current(r);
}
