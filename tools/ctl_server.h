/* ctl_server: the control socket of a daemon: who may ask what, one thread per connection.
 *
 * A slow or hostile client costs a thread with a small stack until its deadline; how many there may
 * be at once, in all and for one ordinary user, is limited, with places that only root gets.
 * Requests are checked by ctl_proto (size, form) and by each verb (arguments).
 *
 * Rights: root and the user the daemon runs as may do everything; others what a verb's
 * `open_to_all` says, with further checks in the verb (mount: own volumes only).
 */
#ifndef TARN_TOOLS_CTL_SERVER_H
#define TARN_TOOLS_CTL_SERVER_H
#include <json-c/json.h>
#include <stdatomic.h>
#include "tools/daemon.h"

/* One request while it is served. */
struct request {
	struct daemon *d;
	uid_t uid;
	gid_t gid;
	bool admin; /* root or the daemon's user */
	struct json_object *args;
	int fd;			    /* came with the request, or -1; a verb that keeps it sets -1 */
	struct json_object *result; /* set by the verb */
	struct err e;
	/* written by the coroutine, sent by the connection's thread */
	_Atomic uint64_t progress_done, progress_total;
};

/* 0, or a code with text in q->e. */
typedef int verb_fn(struct request *q);

struct verb {
	const char *name;
	verb_fn *fn;
	bool open_to_all;
	bool blocking; /* runs on the connection's thread and hops itself; else in a coroutine */
};
extern const struct verb ctl_verbs[]; /* ends with a NULL name (verbs.c) */

/* Create the listening socket (removes a stale one: the caller holds the pid file's lock). */
int ctl_server_listen(const char *pool, int *ret_fd, struct err *e);
/* Take one waiting connection and give it a thread. */
void ctl_server_accept(struct daemon *d, int listen_fd);

#endif
