/* walk_impl: one tree being walked; for walk.c and walk_live.c. */
#ifndef TARN_POOL_WALK_IMPL_H
#define TARN_POOL_WALK_IMPL_H
#include "pool/walk.h"

struct walk {
	struct pool *p;
	struct btree bt;
	struct btree_cursor cur;
	const struct walk_ops *ops;
	void *arg;
	uint64_t birth_min;
	uint8_t *leaf; /* copy of the leaf of this step */
	bool bad;      /* a node could not be read */
	struct btree_path path;
};
/* NULL: out of memory. The caller sets bt, and does so again for a newer root. */
struct walk *walk_new(struct pool *p, uint64_t birth_min, const struct walk_ops *ops, void *arg);
void walk_free(struct walk *w);
/* The next node or leaf, or what is said of a bad one, behind which it goes on. -ENOENT: the end.
 * Yields. */
int walk_step(struct walk *w);
/* bt->need cannot be had: what `bad` says to that. */
int walk_report_bad(const struct walk_ops *ops, void *arg, const struct btree *bt, int rc);

#endif
