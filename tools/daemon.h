/* daemon: one pool being served: its reactors, the pool, what is mounted from it.
 *
 * Threads: main (signals, new connections, stop), one per worker reactor, one for the background
 * reactor, one per control connection. Fields below "guarded" are under `mutex`, which is never
 * held while something yields or blocks for long; the others do not change between daemon_start and
 * daemon_stop.
 *
 * States:   STARTING -> SERVING -- pool.export --> STOPPING -- done --> EXPORTED -> main loop ends
 *                          ^---------- refused ---------'
 * SIGTERM sets `terminating` in any state and ends the main loop.
 */
#ifndef TARN_TOOLS_DAEMON_H
#define TARN_TOOLS_DAEMON_H
#include <pthread.h>
#include <stdbool.h>
#include "base/err.h"
#include "base/reactor.h"
#include "fs/fuse_session.h"
#include "pool/pool.h"
#include "tools/rate.h"
#include "tools/reactor_threads.h"
#include "tools/state_file.h"

enum daemon_state { DAEMON_STARTING, DAEMON_SERVING, DAEMON_STOPPING, DAEMON_EXPORTED };

struct session; /* sessions.h */

struct known_devices {		/* known_devices.h */
	pthread_mutex_t mutex;	/* taken before the pool's lock */
	struct state_file file; /* as it was saved last */
	char member[POOL_DEVS_MAX][sizeof(((struct pool_dev_status *)0)->path)]; /* by id */
};

struct progress { /* progress.h */
	struct rate mover, scrub, trim, resync[POOL_DEVS_MAX];
};

struct daemon {
	char name[POOL_NAME_MAX + 1];
	uid_t uid; /* may do everything, like root */
	struct reactor_threads workers, background;
	struct pool *pool;
	int wake_fd;	/* eventfd: main loop, look at state */
	bool read_only; /* the pool; constant */

	pthread_mutex_t mutex;
	pthread_cond_t changed; /* CLOCK_MONOTONIC; state, sessions or verbs changed */
	/* guarded */
	enum daemon_state state;
	bool terminating; /* SIGTERM came: whatever the state, nothing begins any more */
	unsigned verbs_active;
	struct session *sessions;
	struct progress progress;

	struct known_devices known; /* has a mutex of its own */
};

struct daemon_options {
	const char *name;
	char **devs; /* paths */
	unsigned ndevs;
	unsigned workers; /* 0: one per core */
	struct pool_options pool;
	bool no_images;
	const char *record; /* command for the history, or NULL */
	bool after_kill;    /* the daemon before was killed: it may hold devices for a moment */
};

static inline struct reactor *daemon_bg(struct daemon *d)
{
	return d->background.r[0];
}

/* Start reactors, open devices, import, save the state file, mount images (a failure of that is
 * only a warning). Blocking. On error everything is undone. */
int daemon_start(struct daemon *d, const struct daemon_options *o, struct err *e);

/* End (after SIGTERM, or after an export): waits for verbs under way, unmount what can be, cut off
 * the rest (after writing it back), export; the state file stays. Blocking, main thread.
 * false: not all of it. */
bool daemon_stop(struct daemon *d);

/* The verb pool.export: refuses while in use unless force. last (may be NULL) is called when
 * nothing but the export itself can fail any more. Afterwards state is EXPORTED and the
 * state file is gone. Blocking, a connection's thread. */
typedef void daemon_last_fn(void *arg);
int daemon_export(struct daemon *d, bool force, daemon_last_fn *last, void *arg, struct err *e);

/* Bracket every verb; false when the daemon is stopping. */
bool daemon_verb_begin(struct daemon *d);
void daemon_verb_end(struct daemon *d);

/* Wait on `changed` at most ms milliseconds; mutex held. false: timed out. */
bool daemon_wait(struct daemon *d, int64_t deadline_ms);
int64_t daemon_now_ms(void);

#endif
