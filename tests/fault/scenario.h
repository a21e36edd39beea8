/* scenario: a fixed story of a pool that faults are injected into, and the judgement afterwards.
 *
 *   create -> import -> volume -> write, sync -> items -> write, punch -> commit -> write, sync ->
 *   export -> import -> read back -> check -> export
 *
 * Every step reports an error or succeeds; after a failed step the story goes on as far as it
 * can. At the end comes a power cut, then an import without faults: the pool must open, what was
 * synced must be there and the check must be clean.
 */
#ifndef TARN_TESTS_SCENARIO_H
#define TARN_TESTS_SCENARIO_H
#include "pool/vol.h"
#include "tests/sim/history.h"
#include "tests/sim/rig.h"

struct scenario {
	struct rig rig;
	uint64_t clock;
	struct history *h;
	struct vol *v;
	bool pool_made, volume_made; /* acknowledged */
	unsigned failures;	     /* steps that reported an error */
	char first[160];	     /* the first of them */
	char wrong[512];	     /* a broken promise: not empty is a failed test */
};

void scenario_init(struct scenario *s, unsigned ndisks);
void scenario_fini(struct scenario *s);
/* The story, up to its end or a step without which nothing follows. */
void scenario_play(struct scenario *s);
/* Power cut, import, judgement. `wrong` says what is broken. */
void scenario_judge(struct scenario *s);

#endif
