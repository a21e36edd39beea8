/* sim_reactor: a reactor with a virtual clock and a seeded order of events.
 *
 * Time passes only from event to event, so an hour of timers costs nothing. Events (timers, I/O
 * completions, callbacks) are a heap ordered by time, ties and ready coroutines are ordered by the
 * seed. The wall clock is a fixed epoch plus the virtual time plus jumps. Same seed, same run.
 *
 * One OS thread. All calls but sim_reactor_run may be made from coroutines too.
 */
#ifndef TARN_TESTS_SIM_REACTOR_H
#define TARN_TESTS_SIM_REACTOR_H
#include <stdbool.h>
#include <stdint.h>
#include "base/reactor.h"

#define SIM_MS	1000000ull
#define SIM_SEC 1000000000ull

enum sim_end {
	SIM_DONE,   /* the condition came true */
	SIM_HALTED, /* sim_reactor_halt() was called */
	SIM_IDLE,   /* nothing is ready and no event is left */
	SIM_LATE,   /* the deadline passed */
};

struct reactor *sim_reactor_create(uint64_t seed);

typedef void sim_event_fn(void *arg);
void sim_reactor_at(struct reactor *r, uint64_t at_ns, sim_event_fn *fn, void *arg);

/* Run until cond(arg), asked after every step. NULL: until idle. */
typedef bool sim_cond_fn(void *arg);
enum sim_end sim_reactor_run(struct reactor *r, sim_cond_fn *cond, void *arg, uint64_t deadline_ns);
/* Run fn(arg) as a coroutine until it returns. */
enum sim_end sim_reactor_call(struct reactor *r, co_fn *fn, void *arg, uint64_t timeout_ns);

/* Called after every step, outside any coroutine: to look, not to touch. */
void sim_reactor_watch(struct reactor *r, sim_event_fn *fn, void *arg);

/* From now on coroutines run in the order in which they became ready, as on a real reactor: what
 * one of them can starve by never resting shows only so. */
void sim_reactor_in_order(struct reactor *r);

/* End sim_reactor_run before the next coroutine or event runs. */
void sim_reactor_halt(struct reactor *r);
/* Forget all coroutines and events, as a crash does. From outside any coroutine. */
void sim_reactor_crash(struct reactor *r);
/* Let time pass without running anything. */
void sim_reactor_skip(struct reactor *r, uint64_t ns);
void sim_reactor_jump_wall(struct reactor *r, int64_t ns);
/* Steps made so far, for traces. */
uint64_t sim_reactor_steps(struct reactor *r);

#endif
