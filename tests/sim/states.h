/* states: the state machines of the engine as they can be seen from outside between two steps:
 * which moves were taken, how often, which never.
 *
 * The engine is only looked at. Two moves within one step look like one; the tables name those
 * that happen. A move that no table names is a bug, here or there.
 */
#ifndef TARN_TESTS_STATES_H
#define TARN_TESTS_STATES_H
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum machine_id {
	MACHINE_COMMIT, /* the committer */
	MACHINE_TXN,	/* one transaction */
	MACHINE_MEMBER, /* one member of a chunk */
	MACHINE_MOVER,
	MACHINE_DEVICE,
	MACHINE_VOLUME,
	MACHINE_COUNT
};
#define STATES_MAX 10u

struct states_seen {
	uint64_t n[MACHINE_COUNT][STATES_MAX][STATES_MAX];
};
/* Counters of this process, or shared with children forked later. */
void states_share(void);
void states_print(FILE *f);

/* Print every move. */
extern bool states_verbose;

struct pool;
/* After a step. p NULL: nothing is running. Returns the text of a move no table names, or NULL. */
const char *states_watch(const struct pool *p);
/* The pool is gone (crash, export): what is seen next is no move. */
void states_forget(void);

#endif
