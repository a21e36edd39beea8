/* txn: one commit = one consistent state of everything; the gate operations pass; node reading.
 *
 *            enter            freeze               nodes+data on all members, flush     superblock,
 * flush [open n] -----> changes ---------> [writing n] ---------------------------------> [durable
 * n] [open n+1] takes new changes meanwhile
 *
 * Commit: 1. pre-flush: dirty data of all volumes goes to disk and into the trees, leaves are
 * checksummed ahead, gate open; 2. gate closed, operations inside drain; the rest of the dirty data
 * is placed and entered in the trees (its I/O still under way);
 * 3. freeze: volume records, frees, bitmaps and chunk records until nothing new turns dirty; seal
 * trees; 4. gate open, n+1 is open; 5. wait for data I/O of n, write nodes, flush, superblock,
 * flush; 6. n is durable.
 *
 * Invariants: 1. one commit at a time; 2. between freeze and durable no sealed node changes; 3.
 * what is acknowledged before the gate closes is in n, nothing acknowledged after is; 4. no
 * superblock is written after a data or node write of its transaction failed on every member.
 */
#ifndef TARN_POOL_TXN_H
#define TARN_POOL_TXN_H
#include "pool/pool_types.h"

/* Readers: what is freed from now on stays readable until txn_read_end. Lock held / not held
 * variants. */
struct txn *txn_read_begin_locked(struct pool *p);
/* The same for readers of the newest committed state (p->sb) instead of the open one. */
struct txn *txn_read_begin_committed_locked(struct pool *p);
void txn_read_end_locked(struct pool *p, struct txn *t);
struct txn *txn_read_begin(struct pool *p);
void txn_read_end(struct pool *p, struct txn *t);

/* Pass the gate / leave it. Yields while a commit closes it or too many nodes are dirty.
 * never_full: skip the check for room. 0, ERR_FAULTED, ERR_READONLY, -ENOSPC. */
int txn_enter(struct pool *p, bool never_full);
void txn_leave(struct pool *p);

/* Read a node into the cache, verified, repaired from another copy when bad. Concurrent reads of
 * one node share one I/O. Yields; lock not held. */
int node_read_ptr(struct pool *p, struct node_ptr ptr, uint64_t tree_id, uint8_t level);

/* Run one step function under the lock until it stops asking for nodes of bt. Yields. */
typedef int txn_step_fn(struct pool *p, void *arg);
int txn_step(struct pool *p, struct btree *bt, txn_step_fn *fn, void *arg);

/* Background work found no memory, and nothing has changed yet: there is nobody to tell, so wait
 * for better times. *tries: 0 at first. False: they did not come, or the pool is suspended. Yields.
 */
#define TXN_MEMORY_PAUSE_NS 10000000ull
bool txn_wait_memory(struct pool *p, unsigned *tries);

/* Ask for a commit; wait until everything up to now is durable. Yields. */
int txn_commit_wait(struct pool *p);
void txn_commit_request_locked(struct pool *p);
/* Wait until transaction nr is durable. Lock held on entry and exit; yields. */
int txn_wait_durable_locked(struct pool *p, uint64_t nr);
/* Something changed: start the commit timer. Lock held. */
void txn_mark_dirty_locked(struct pool *p);

/* Start / body of background work. */
int txn_init(struct pool *p, uint64_t first_nr, uint64_t durable);
void txn_fini(struct pool *p);
void txn_committer(void *pool); /* coroutine */
/* One whole commit from the caller's coroutine (committer, export). clean: mark the superblock
 * exported. */
int txn_commit_run(struct pool *p, bool clean);
extern const struct btree_ops txn_btree_ops;

#endif
