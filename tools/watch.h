/* watch: wait for something that a daemon does in background, with progress on a terminal. */
#ifndef TARN_TOOLS_WATCH_H
#define TARN_TOOLS_WATCH_H
#include "tools/command.h"

#define EXIT_INTERRUPTED 130

struct watch_progress {
	uint64_t done, left, bytes_per_s, seconds_left;
};

/* Look at a pool's status. true: go on waiting; false: it is over, *ret_exit says how (with text in
 * the call's err). */
typedef bool watch_fn(void *arg, struct json_object *status, struct watch_progress *ret_p,
		      int *ret_exit);

/* Ask for the status until fn is content. doing: "scrub", for the progress line; stop: what ends
 * it, told on Ctrl-C. Exit status. */
int watch(struct call *c, const char *pool, const char *doing, const char *stop, watch_fn *fn,
	  void *arg);

/* "1.2G of 3.4G (35 %), 120M/s, about 20 s left" in buf. */
const char *watch_text(char *buf, size_t size, const struct watch_progress *p, bool exact);
/* The members bytes_per_s and seconds_left of o, with a prefix. */
void watch_rate(struct json_object *o, const char *prefix, struct watch_progress *p);

#endif
