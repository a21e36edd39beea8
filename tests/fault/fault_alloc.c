/* fault_alloc: fail the n-th allocation of the pool for n = 1, 2, ... until none fires.
 *
 * Out of memory may cost an operation or suspend the pool, but never crash it, and after a
 * restart what was synced is there.
 */
#define ALLOC_HOOK_OFF
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/fault/alloc_hook.h"
#include "tests/fault/scenario.h"

static uint64_t seen, fail_at; /* fail_at 0: never */
static unsigned fail_more;     /* so many more after it */

static bool fails(void)
{
	seen++;
	return fail_at && seen >= fail_at && seen <= fail_at + fail_more;
}

void *hook_malloc(size_t size)
{
	return fails() ? NULL : malloc(size);
}

void *hook_calloc(size_t n, size_t size)
{
	return fails() ? NULL : calloc(n, size);
}

void *hook_realloc(void *p, size_t size)
{
	return fails() ? NULL : realloc(p, size);
}

void *hook_aligned_alloc(size_t align, size_t size)
{
	return fails() ? NULL : aligned_alloc(align, size);
}

int hook_co_spawn(struct reactor *r, co_fn *fn, void *arg)
{
	return fails() ? -ENOMEM : co_spawn(r, fn, arg);
}

static bool one_run(uint64_t nth, unsigned more, bool *ret_fired, unsigned *failed)
{
	static struct scenario s;
	scenario_init(&s, 2);
	seen = 0;
	fail_at = nth;
	fail_more = more;
	if (getenv("FAULT_TRACE"))
		printf("run %llu %u\n", (unsigned long long)nth, more);
	scenario_play(&s);
	*ret_fired = seen >= nth;
	fail_at = 0;
	*failed += s.failures != 0;
	if (!s.wrong[0])
		scenario_judge(&s);
	bool ok = !s.wrong[0];
	if (!ok)
		printf("fault_alloc %llu %u: %s%s%s\n", (unsigned long long)nth, more, s.wrong,
		       s.failures ? "; first error: " : "", s.first);
	scenario_fini(&s);
	return ok;
}

int main(int argc, char **argv)
{
	unsigned bad = 0, failed = 0;
	bool fired = true;
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc > 1)
		return !one_run(strtoull(argv[1], NULL, 0),
				argc > 2 ? (unsigned)strtoul(argv[2], NULL, 0) : 0, &fired,
				&failed);
	for (unsigned more = 0; more < 4; more += 3) {
		uint64_t n;
		fired = true;
		for (n = 1; fired && bad < 10; n++)
			bad += !one_run(n, more, &fired, &failed);
		printf("allocation and %u more: %llu runs, %u with an error, %u wrong\n", more,
		       (unsigned long long)n - 1, failed, bad);
	}
	return bad != 0;
}
