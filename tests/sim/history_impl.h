/* history_impl: shared by history.c (recording) and history_check.c (judging). */
#ifndef TARN_TESTS_HISTORY_IMPL_H
#define TARN_TESTS_HISTORY_IMPL_H
#include "tests/sim/history.h"

enum hist_kind { HIST_WRITE, HIST_ZERO, HIST_ITEMS, HIST_RESIZE };

struct hist_op {
	uint32_t seq;
	uint8_t kind, space, style;
	bool atomic; /* all of it or nothing survives */
	bool dropped;
	bool seen;	   /* while judging: some of it is in the state */
	uint64_t off, len; /* in the space */
	uint64_t size;	   /* HIST_RESIZE */
	uint64_t start, ack;
	struct hist_key *keys;
	unsigned nkeys;
};

struct hist_cell {
	struct hist_op **ops;
	unsigned count, cap;
};

enum found { FOUND_NOT, FOUND_DATA, FOUND_ZERO, FOUND_UNREADABLE };
struct hist_blk {
	struct hist_cell cell;
	uint8_t *base; /* NULL: zeros */
	uint8_t *data; /* found */
	uint8_t found; /* enum found */
	bool touched;
};
struct hist_item {
	struct hist_cell cell;
	uint32_t base, seq; /* 0: absent */
	bool found;
};

/* What may explain a piece: the base (op NULL) or an operation. */
struct hist_cand {
	const struct hist_op *op;
	bool match;
};

struct history {
	uint8_t vol;
	uint64_t *clock;
	struct hist_space space[HIST_SPACES_MAX];
	struct hist_blk *blk[HIST_SPACES_MAX];
	unsigned nspaces, nkeys;
	struct hist_item *item;
	struct hist_cell size_cell;
	uint64_t size_base, size_found;
	bool size_was_found;

	struct hist_op **ops;
	size_t nops, ops_cap;
	uint32_t next_seq;
	uint64_t synced;
	uint64_t cut; /* T of the last judgement */

	struct hist_cand *cand; /* scratch */
	unsigned cand_cap;
};

void hist_cell_clear(struct hist_cell *c);

#endif
