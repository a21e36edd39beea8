/* hop: run a function as a coroutine on a reactor and wait for it, from an ordinary thread.
 *
 * Pool and volume calls yield, so they run on reactors; tools and connection threads hop there.
 * Never from a reactor thread (it would wait for itself).
 */
#ifndef TARN_TOOLS_HOP_H
#define TARN_TOOLS_HOP_H
#include "base/reactor.h"

typedef int hop_fn(void *arg);
typedef void hop_tick_fn(void *arg);

/* fn's result, or -ENOMEM when it could not be started. tick (may be NULL) is called on this thread
 * about five times a second while waiting. */
int hop_run(struct reactor *r, hop_fn *fn, void *arg, hop_tick_fn *tick, void *tick_arg);

/* For tools without a daemon: run fn(arg) to its end on a reactor of its own, on this thread. fn
 * finds the reactor by reactor_current(). fn's result, or why there is no reactor (-ENOSYS, -EPERM,
 * ...). */
int hop_private(hop_fn *fn, void *arg);

#endif
