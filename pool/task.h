/* task: what the mover has to do, how much that is and how far it is: devices and parts of devices
 * that are being emptied, and the plan of a rebalance.
 *
 * Total is what there was to move when the tasks began: the used blocks of every member that must
 * leave its slot, unless others suffice without it. It is what a dry run says. Done is total less
 * what is left now, and never goes back: members that are dropped, shrink or vanish count as moved,
 * and new data that comes to a chunk which has yet to move does not take back what was done. So it
 * ends at total.
 *
 * A rebalance is planned in whole when it begins (and at import, when one was under way): members
 * are moved on paper, with the mover's own choice of targets, until none would gain. The mover then
 * moves those that still gain; it ends when none is left.
 *
 * Everything under the pool's lock; pure memory.
 */
#ifndef TARN_POOL_TASK_H
#define TARN_POOL_TASK_H
#include "pool/pool_types.h"

/* Is something being emptied? / Must this member leave its slot? */
bool task_must_empty(const struct pool *p);
bool task_must_leave(const struct pool *p, const struct member *m);
/* Current members of c without the one at index k. */
unsigned task_current_without(const struct pool *p, const struct chunk *c, unsigned k);
/* Would this member be better off elsewhere? */
bool task_gains(struct pool *p, const struct chunk *c, unsigned k);
/* A task has been entered in the device table, or is over (called again and again meanwhile). */
void task_begin(struct pool *p);
void task_update(struct pool *p);
/* Mark the members that a rebalance moves / none any more. */
void task_plan_rebalance(struct pool *p);
void task_end_rebalance(struct pool *p);

#endif
