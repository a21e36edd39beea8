/* rig: a reactor, a few disks and at most one pool on them: what the model, fault and fuzz tests
 * stand on. No histories, no chance; see world.h for that. One OS thread. */
#ifndef TARN_TESTS_RIG_H
#define TARN_TESTS_RIG_H
#include "pool/pool.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_reactor.h"

#define RIG_DISKS_MAX 5u

struct rig {
	struct reactor *r;
	struct sim_bus bus;
	unsigned ndisks;
	struct sim_disk *disk[RIG_DISKS_MAX];
	struct pool_options opt;
	struct pool *pool;
};

void rig_init(struct rig *g, uint64_t seed, unsigned ndisks, uint64_t disk_bytes);
/* Drops a pool that is still there; frees everything. */
void rig_fini(struct rig *g);
/* Run fn(arg) as a coroutine to its end; a hang prints `what` and aborts. False: the bus froze. */
bool rig_run(struct rig *g, co_fn *fn, void *arg, const char *what);
/* Power cut: caches decided, coroutines and the pool dropped. From outside any coroutine. */
void rig_cut(struct rig *g, enum sim_cut how);

/* In a coroutine: */
int rig_create(struct rig *g, uint64_t chunk_bytes, struct err *e);
int rig_import(struct rig *g, struct err *e); /* all disks */
int rig_export(struct rig *g, struct err *e);
/* Deep check; text of the first problem in out. 0, or an error of the check itself. */
int rig_check(struct rig *g, uint64_t *ret_problems, char *out, size_t size);

#endif
