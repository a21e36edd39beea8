#include "tests/sim/canary.h"

const char *const canary_names = "none in this program, see sim_canary";

bool canary_set(const char *name)
{
	(void)name;
	return false;
}
