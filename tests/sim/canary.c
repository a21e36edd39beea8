#include <string.h>
#include "pool/chunk.h"
#include "pool/resync.h"
#include "pool/space.h"
#include "tests/sim/canary.h"

int __real_chunk_flush_all(struct pool *p);
int __wrap_chunk_flush_all(struct pool *p);
void __real_space_free(struct pool *p, struct addr a, uint32_t blocks, bool unwritten);
void __wrap_space_free(struct pool *p, struct addr a, uint32_t blocks, bool unwritten);
void __real_resync_start_wanted(struct pool *p);
void __wrap_resync_start_wanted(struct pool *p);

static enum { NONE, NO_BARRIER, EARLY_REUSE, NO_RESYNC } planted;

const char *const canary_names = "no-barrier, early-reuse, no-resync";

bool canary_set(const char *name)
{
	if (!strcmp(name, "no-barrier"))
		planted = NO_BARRIER;
	else if (!strcmp(name, "early-reuse"))
		planted = EARLY_REUSE;
	else if (!strcmp(name, "no-resync"))
		planted = NO_RESYNC;
	return planted != NONE;
}

/* The barrier between the blocks of a commit and its superblock is missing. */
int __wrap_chunk_flush_all(struct pool *p)
{
	return planted == NO_BARRIER ? 0 : __real_chunk_flush_all(p);
}

/* A freed block can be handed out although the durable state still refers to it. */
void __wrap_space_free(struct pool *p, struct addr a, uint32_t blocks, bool unwritten)
{
	__real_space_free(p, a, blocks, unwritten || planted == EARLY_REUSE);
}

/* A device that was away is read as if it had missed nothing. */
void __wrap_resync_start_wanted(struct pool *p)
{
	if (planted != NO_RESYNC) {
		__real_resync_start_wanted(p);
		return;
	}
	lock_take(&p->lock);
	for (unsigned i = 0; p->resync_wanted && i < p->ndevs; i++) {
		if (p->devs[i].state != DEV_RESYNC)
			continue;
		p->devs[i].state = DEV_ONLINE;
		p->devs[i].stale_since = 0;
	}
	p->resync_wanted = false;
	lock_drop(&p->lock);
}
