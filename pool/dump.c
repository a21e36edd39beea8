/* dump: print any block of a pool. */
#include <inttypes.h>
#include <string.h>
#include "pool/btree_page.h"
#include "pool/chunk.h"
#include "pool/ilog.h"
#include "pool/journal.h"
#include "pool/refs.h"
#include "pool/sb.h"
#include "pool/snap.h"
#include "pool/space.h"
#include "pool/txn.h"
#include "pool/vol_record.h"
#include "pool/walk.h"

static void chunk_to_text(FILE *f, const struct btree_item *it)
{
	static const char *const kinds[] = {"?", "boot", "meta", "log", "data"};
	const struct chunk_disk *cd = it->value;
	unsigned kind = cd->kind & ~CHUNK_F_SHARED;

	if (it->len != sizeof *cd) {
		fprintf(f, "chunk: invalid (%u bytes)", it->len);
		return;
	}
	fprintf(f, "chunk %" PRIx64 " %s copies %u class %u used %u%s created %" PRIu64,
		le64_get(cd->id), kinds[kind <= CHUNK_DATA ? kind : 0], cd->copies & 15,
		cd->copies >> 4, le32_get(cd->used_blocks),
		cd->kind & CHUNK_F_SHARED ? " shared" : "", le64_get(cd->created_txn));
	for (unsigned i = 0; i < cd->members_count && i < SB_MEMBERS_MAX; i++) {
		fprintf(f, " dev %u slot %u", le16_get(cd->members[i].dev_id),
			le32_get(cd->members[i].slot));
		if (le64_get(cd->members[i].stale_since))
			fprintf(f, " (stale since %" PRIu64 ")",
				le64_get(cd->members[i].stale_since));
	}
}

static void item_to_text(FILE *f, uint64_t tree_id, uint8_t level, const struct btree_item *it)
{
	const uint8_t *b = it->value;

	if (level) {
		struct node_ptr ptr;

		node_ptr_from_disk(it->value, &ptr);
		fprintf(f, "child %" PRIx64 " birth %" PRIu64 " crc %08x", ptr.addr.v, ptr.birth,
			ptr.crc);
	} else if (tree_id == TREE_MAP) {
		chunk_to_text(f, it);
	} else if (tree_id == TREE_ROOT && it->key.object < TREE_VOLUME_FIRST) {
		journal_to_text(f, it);
	} else if (tree_id == TREE_ROOT) {
		vol_record_to_text(f, it);
	} else if (tree_id == TREE_SPACE && it->key.type == SPACE_KEY_REFS) {
		refs_to_text(f, it);
	} else if (tree_id == TREE_SPACE) {
		unsigned set = 0;

		for (unsigned i = 0; i < it->len; i++)
			set += (unsigned)__builtin_popcount(b[i]);
		fprintf(f, "bitmap of chunk %" PRIx64 ": %u of %u blocks used", it->key.object, set,
			it->len * 8u);
	} else if (it->key.type == SNAP_KEY_NODE || it->key.type == SNAP_KEY_EXTENT) {
		snap_dead_to_text(f, it);
	} else if (it->key.type == VOL_KEY_EXTENT) {
		extent_to_text(f, it);
	} else if (pool_dump_item_text) {
		pool_dump_item_text(f, tree_id, level, it);
	} else {
		fprintf(f, "item object %" PRIu64 " type %u offset %" PRIu64 ", %u bytes",
			it->key.object, it->key.type, it->key.offset, it->len);
	}
}

void (*pool_dump_item_text)(FILE *f, uint64_t tree_id, uint8_t level, const struct btree_item *it);

static int dump_node(void *arg, uint64_t tree_id, const struct node_ptr *ptr, uint8_t level)
{
	fprintf(arg, "node %" PRIx64 " tree %" PRIu64 " level %u birth %" PRIu64 " crc %08x\n",
		ptr->addr.v, tree_id, level, ptr->birth, ptr->crc);
	return 0;
}

static int dump_item(void *arg, uint64_t tree_id, const struct btree_item *it)
{
	fputs("  ", arg);
	item_to_text(arg, tree_id, 0, it);
	fputc('\n', arg);
	return 0;
}

static int dump_bad(void *arg, uint64_t tree_id, const struct node_ptr *ptr, uint8_t level, int rc)
{
	fprintf(arg, "node %" PRIx64 " tree %" PRIu64 " level %u: %s\n", ptr->addr.v, tree_id,
		level, err_str(rc));
	return 0;
}

/* VOLUME, VOLUME@SNAPSHOT, or VOLUME@ for what it let go of and snapshots show. */
static int find_volume_tree(struct pool *p, const char *name, uint64_t *ret_id,
			    struct node_ptr *ret_root, uint8_t *ret_level)
{
	const struct btree *bt = NULL;
	const struct vol *v = strchr(name, '@') ? snap_find(p, name) : p->vols;

	for (; !strchr(name, '@') && v && strcmp(v->name, name); v = v->next)
		;
	if (v)
		bt = &v->tree;
	else if (strchr(name, '@') && !strchr(name, '@')[1] && (v = snap_origin_named(p, name)))
		bt = &v->dead;
	if (!bt)
		return -ENOENT;
	*ret_id = bt->tree_id;
	*ret_root = bt->root;
	*ret_level = bt->level;
	return 0;
}

static int find_tree(struct pool *p, const char *name, uint64_t *ret_id, struct node_ptr *ret_root,
		     uint8_t *ret_level)
{
	static const char *const fixed[] = {"map", "space", "root"};
	const struct sb_root_disk *r[3] = {&p->sb->map, &p->sb->space, &p->sb->root};

	for (unsigned i = 0; i < 3; i++)
		if (!strcmp(name, fixed[i])) {
			*ret_id = TREE_MAP + i;
			node_ptr_from_disk(&r[i]->ptr, ret_root);
			*ret_level = r[i]->level;
			return 0;
		}
	return find_volume_tree(p, name, ret_id, ret_root, ret_level);
}

static int dump_tree(struct pool *p, const char *name, FILE *f, struct err *e)
{
	const struct walk_ops ops = {NULL, dump_node, dump_item, dump_bad};
	struct node_ptr root;
	uint64_t id;
	uint8_t level;
	struct txn *t;
	int rc;

	if (!p->read_only) { /* what is on disk is what is printed */
		rc = txn_commit_wait(p);
		if (rc)
			return err_set(e, rc, "dump: commit: %s", err_str(rc));
	}
	lock_take(&p->lock);
	rc = find_tree(p, name, &id, &root, &level);
	t = txn_read_begin_committed_locked(p);
	lock_drop(&p->lock);
	if (!rc)
		rc = walk_tree(p, id, root, level, 0, &ops, f);
	else
		err_set(e, rc,
			"no tree '%s'; there are map, space, root, the volumes and snapshots",
			name);
	txn_read_end(p, t);
	return rc;
}

static int dump_one_node(struct pool *p, const char *arg, FILE *f, struct err *e)
{
	struct addr a = {strtoull(arg, NULL, 16)};
	uint8_t *buf = node_buf_alloc();
	bool good = false;
	int rc = -EIO;

	if (!buf)
		return err_set(e, -ENOMEM, "out of memory");
	for (unsigned m = 0; m < MEMBERS_MAX && !good; m++) {
		struct err one = {0};
		struct node_ptr ptr = {a, 0, 0};
		int r = chunk_read_member(p, a, NODE_BLOCKS, buf, m);

		if (r)
			continue;
		rc = node_validate(buf, &ptr, p->uuid, 0, 0xff, true, &one);
		if (rc)
			fprintf(f, "member %u: %s\n", m, one.text);
		good = !rc;
	}
	if (good)
		node_to_text(f, buf, item_to_text);
	node_buf_free(buf);
	return good ? 0 : err_set(e, rc, "no valid node at %s: %s", arg, err_str(rc));
}

static int dump_sb(struct pool *p, FILE *f, struct err *e)
{
	struct sb_disk *sb = aligned_alloc(BLOCK_SIZE, SB_SIZE);

	if (!sb)
		return err_set(e, -ENOMEM, "out of memory");
	for (unsigned i = 0; i < p->ndevs; i++) {
		struct err one = {0};

		if (!p->devs[i].backend)
			fprintf(f, "device %u: not here\n", i);
		else if (sb_read_newest(p->devs[i].backend, sb, &one))
			fprintf(f, "device %u: %s\n", i, one.text);
		else
			sb_to_text(f, sb);
	}
	free(sb);
	return 0;
}

static int dump_chunk(struct pool *p, const char *arg, FILE *f, struct err *e)
{
	struct chunk *c;
	struct chunk_disk cd;

	lock_take(&p->lock);
	c = chunk_find(p, strtoull(arg, NULL, 16));
	if (c)
		chunk_to_disk(c, &cd);
	lock_drop(&p->lock);
	if (!c)
		return err_set(e, -ENOENT, "no chunk %s", arg);
	chunk_to_text(f, &(struct btree_item){.value = &cd, .len = sizeof cd});
	fputc('\n', f);
	return 0;
}

int pool_dump(struct pool *p, const char *what, const char *arg, FILE *f, struct err *e)
{
	if (!strcmp(what, "sb"))
		return dump_sb(p, f, e);
	if (!strcmp(what, "log"))
		return ilog_dump(p, f);
	if (!arg || !arg[0])
		return err_set(e, -EINVAL, "dump %s: an argument is missing", what);
	if (!strcmp(what, "tree"))
		return dump_tree(p, arg, f, e);
	if (!strcmp(what, "node"))
		return dump_one_node(p, arg, f, e);
	if (!strcmp(what, "chunk"))
		return dump_chunk(p, arg, f, e);
	return err_set(e, -EINVAL, "dump: '%s' is none of sb, tree, node, chunk, log", what);
}
