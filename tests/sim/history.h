/* history: what was done to one volume, and whether a state of it can be explained (law 4).
 *
 * Every operation has an interval on one clock: from its submission to its acknowledgement
 * (never, if none came). x is before y when x was acknowledged before y was submitted; otherwise
 * they overlap and either order is right. A state after a crash is right when a cut of the
 * history explains it:
 *
 *   T = the latest submission among: operations seen in the state, syncs that returned 0
 *   every operation acknowledged before T must be there; everything else may be there or not
 *
 * so a piece of data written by w is wrong when some j over it came after w (acknowledged(w) <
 * submitted(j)) and j must be there: acknowledged(j) < T, or j is atomic and was seen elsewhere.
 * A read in operation is the same with T = the read's own submission.
 *
 * Cells: 4 KiB blocks of data (cut in segments where operations begin and end), items (keys), the
 * size. Pure memory, one thread.
 */
#ifndef TARN_TESTS_HISTORY_H
#define TARN_TESTS_HISTORY_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "tests/sim/stamp.h"

#define HIST_BLOCK	4096u
#define HIST_SPACES_MAX 4
#define HIST_ITEM_MAX	3800u
#define HIST_NEVER	UINT64_MAX

struct history;
struct hist_op;

/* A window of an object: bytes [base, base + blocks * 4 KiB). */
struct hist_space {
	uint64_t object, base, blocks;
};
struct hist_key {
	uint16_t key;
	bool put;
};

/* clock: shared by all volumes of a run. */
struct history *hist_create(uint8_t vol, uint64_t *clock, const struct hist_space *spaces,
			    unsigned nspaces, unsigned keys, uint64_t size);
void hist_destroy(struct history *h);
const struct hist_space *hist_space(const struct history *h, unsigned space);
unsigned hist_spaces(const struct history *h);
unsigned hist_keys(const struct history *h);

/* Begin an operation: submitted now. Offsets are relative to the space's base. */
struct hist_op *hist_write(struct history *h, unsigned space, uint64_t off, uint64_t len,
			   enum stamp_style style);
struct hist_op *hist_zero(struct history *h, unsigned space, uint64_t off, uint64_t len);
struct hist_op *hist_items(struct history *h, const struct hist_key *keys, unsigned n);
struct hist_op *hist_resize(struct history *h, uint64_t size);
/* The same atomic step also changes items. */
void hist_add_items(struct history *h, struct hist_op *op, const struct hist_key *keys, unsigned n);
/* What a write writes. */
void hist_fill(const struct history *h, const struct hist_op *op, uint8_t *buf);
uint32_t hist_seq(const struct hist_op *op);

void hist_ack(struct history *h, struct hist_op *op);
void hist_drop(struct history *h, struct hist_op *op); /* failed cleanly: did not happen */
/* Anything acknowledged before `since` is durable. */
void hist_synced(struct history *h, uint64_t since);
uint64_t hist_now(struct history *h); /* a fresh point on the clock */
uint64_t hist_ops_open(const struct history *h);

/* Value of a key as written by op seq; returns its length. */
uint16_t hist_item_make(const struct history *h, unsigned key, uint32_t seq, uint8_t *buf);
/* Whose value is this? false: nobody's. */
bool hist_item_parse(const struct history *h, unsigned key, const void *buf, size_t len,
		     uint32_t *ret_seq);

/* Is what a read submitted at `since` returned right? false: why says what is wrong. */
bool hist_check_read(struct history *h, unsigned space, uint64_t off, uint64_t len,
		     const uint8_t *buf, uint64_t since, char *why, size_t why_size);
bool hist_check_item(struct history *h, unsigned key, uint32_t seq, uint64_t since, char *why,
		     size_t why_size);
bool hist_check_size(struct history *h, uint64_t size, uint64_t since, char *why, size_t why_size);

/* ---- after a crash: tell what is there, judge, take it as the new beginning ---- */

/* Blocks anything was ever done to. */
bool hist_touched(const struct history *h, unsigned space, uint64_t block);
void hist_found_begin(struct history *h);
void hist_found_block(struct history *h, unsigned space, uint64_t block, const uint8_t *data);
void hist_found_unreadable(struct history *h, unsigned space, uint64_t block);
void hist_found_item(struct history *h, unsigned key, uint32_t seq); /* 0: absent */
void hist_found_size(struct history *h, uint64_t size);
/* complete: nothing acknowledged may be missing (no crash happened). */
bool hist_judge(struct history *h, bool complete, char *why, size_t why_size);
/* Then either go on as if nobody had looked, or take what was found as the new beginning. */
void hist_judge_end(struct history *h);
struct hist_tally {
	uint64_t kept, lost;
}; /* unsynced operations */
void hist_rebase(struct history *h, struct hist_tally *ret_t);

#endif
