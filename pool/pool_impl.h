/* pool_impl: shared by pool_*.c: building, starting and tearing down the pool structure. */
#ifndef TARN_POOL_POOL_IMPL_H
#define TARN_POOL_POOL_IMPL_H
#include "pool/pool_types.h"
/* Empty pool with defaults filled in. NULL: out of memory. */
struct pool *pool_alloc(const struct pool_options *o);
/* Free memory; devices closed. Nothing may be running. */
void pool_free(struct pool *p);
/* Background coroutines on p->bg. */
int pool_bg_start(struct pool *p);
void pool_bg_stop(struct pool *p);
/* Zero both ends of a device, so that nothing older is found there. Yields. */
int pool_wipe(struct dev_backend *b, struct err *e);
/* What the trees say, into memory: chunks, bitmaps of metadata, volumes (pool_load.c). Yields. */
int pool_load(struct pool *p, struct err *e);
/* ---- pool_dev.c; lock held ---- */
/* The devices that count have changed: so does what metadata chunks want. */
void pool_meta_copies_update(struct pool *p);
/* May d be emptied? -ENOSPC with what `doing` needs. */
int pool_leave_check(struct pool *p, const struct dev *d, const char *doing,
		     struct pool_move_plan *ret_plan, struct err *e);
void pool_trees_init(struct pool *p, const struct sb_disk *sb);
#endif
