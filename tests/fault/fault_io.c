/* fault_io: fail the n-th read, write, flush for n = 1, 2, ... until none fires.
 *
 * Two variants. One: that single request fails, on whatever device it is: with two copies
 * everything has to go on. All: from then on nothing works on any device any more: everything has
 * to end with a clean error, and after a restart what was synced is there.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/fault/scenario.h"

static const char *const op_name[] = {"read", "write", "flush", "discard"};

static bool one_run(enum dev_op op, uint64_t nth, bool all, bool *ret_fired, unsigned *failed)
{
	static struct scenario s;
	scenario_init(&s, 3);
	s.rig.bus.nth.at[op] = nth;
	s.rig.bus.nth.all_after = all;
	scenario_play(&s);
	*ret_fired = s.rig.bus.nth.fired;
	/* A single error may only refuse the creation of the pool. */
	if (!all && s.failures && s.pool_made && !s.wrong[0])
		snprintf(s.wrong, sizeof(s.wrong), "one failed %s was too much: %s", op_name[op],
			 s.first);
	*failed += s.failures != 0;
	if (!s.wrong[0])
		scenario_judge(&s);
	bool ok = !s.wrong[0];
	if (!ok)
		printf("fault_io %s %llu%s: %s%s%s\n", op_name[op], (unsigned long long)nth,
		       all ? " all" : "", s.wrong, s.failures ? "; first error: " : "", s.first);
	scenario_fini(&s);
	return ok;
}

static unsigned iterate(enum dev_op op, bool all)
{
	unsigned bad = 0, failed = 0;
	bool fired = true;
	uint64_t n;
	for (n = 1; fired && bad < 10; n++)
		bad += !one_run(op, n, all, &fired, &failed);
	printf("%s, %s: %llu runs, %u with an error, %u wrong\n", op_name[op], all ? "all" : "one",
	       (unsigned long long)n - 1, failed, bad);
	return bad;
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 4) {
		unsigned failed = 0;
		bool fired;
		for (enum dev_op op = DEV_READ; op <= DEV_FLUSH; op++)
			if (!strcmp(argv[1], op_name[op]))
				return !one_run(op, strtoull(argv[2], NULL, 0),
						!strcmp(argv[3], "all"), &fired, &failed);
		fprintf(stderr, "usage: fault_io [read|write|flush N one|all]\n");
		return 2;
	}
	unsigned bad = 0;
	for (enum dev_op op = DEV_READ; op <= DEV_FLUSH; op++)
		for (unsigned all = 0; all < 2; all++)
			bad += iterate(op, all);
	return bad != 0;
}
