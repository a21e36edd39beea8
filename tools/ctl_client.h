/* ctl_client: ask a pool's daemon. Blocking; for the command line. */
#ifndef TARN_TOOLS_CTL_CLIENT_H
#define TARN_TOOLS_CTL_CLIENT_H
#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"

/* Connect. -ENOENT with a text that says how to start the pool when no daemon answers. */
int ctl_connect(const char *pool, int *ret_sock, struct err *e);
/* Is a daemon serving this pool? */
bool ctl_running(const char *pool);

typedef void ctl_progress_fn(void *arg, uint64_t done, uint64_t total);

/* One request and its reply. args is taken over (may be NULL). fd -1: none. progress may be NULL.
 * ret_result (may be NULL) is the caller's. Errors of the daemon come back with their code and
 * text. */
int ctl_call(int sock, const char *verb, struct json_object *args, int fd,
	     ctl_progress_fn *progress, void *arg, struct json_object **ret_result, struct err *e);

/* Connect, call, close. */
int ctl_ask(const char *pool, const char *verb, struct json_object *args,
	    struct json_object **ret_result, struct err *e);

#endif
