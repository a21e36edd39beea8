#include <sys/types.h>
#include <uuid/uuid.h>
#include "tests/sim/sim_rand.h"
#include "tests/sim/sim_rng.h"

ssize_t __wrap_getrandom(void *buf, size_t len, unsigned flags);
void __wrap_uuid_generate(uuid_t out);

static struct sim_rng rng;

void sim_rand_seed(uint64_t seed)
{
	rng = rng_of(seed, 99);
}

ssize_t __wrap_getrandom(void *buf, size_t len, unsigned flags)
{
	(void)flags;
	for (size_t i = 0; i < len; i++)
		((uint8_t *)buf)[i] = (uint8_t)rng_next(&rng);
	return (ssize_t)len;
}

void __wrap_uuid_generate(uuid_t out)
{
	__wrap_getrandom(out, sizeof(uuid_t), 0);
}
