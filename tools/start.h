/* start: start a pool's daemon and wait until it serves. Blocking. */
#ifndef TARN_TOOLS_START_H
#define TARN_TOOLS_START_H
#include <stdbool.h>
#include "base/err.h"

struct start_options {
	const char *pool;
	const char *const *devs; /* paths; ndevs 0: from the state file */
	unsigned ndevs;
	bool degraded, force, read_only;
	const char *mover_rate; /* as tarnd takes it, or NULL */
	const char *record;	/* command for the history, or NULL */
};
/* Warnings of the daemon go to stderr; its error comes back as text. */
int start_daemon(const struct start_options *o, struct err *e);

#endif
