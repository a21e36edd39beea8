/* state_file: what a pool's next start needs to know: /var/lib/tarn/NAME.pool.
 *
 *   { "version": 1, "name": "tank", "uuid": "…", "devices": ["/srv/a.img", …] }
 *
 * Written by tarnd after a successful import, replaced atomically, removed by export. Readable by
 * everybody, writable by its owner only; a file others can write is refused. Blocking, any thread.
 */
#ifndef TARN_TOOLS_STATE_FILE_H
#define TARN_TOOLS_STATE_FILE_H
#include <stdint.h>
#include "base/err.h"
#include "pool/pool.h"

struct state_file {
	char name[POOL_NAME_MAX + 1];
	char uuid[37];
	unsigned ndevs;
	char *devs[POOL_DEVS_MAX];
};

/* -ENOENT when there is none. The caller frees with state_file_fini. */
int state_file_load(const char *pool, struct state_file *ret_s, struct err *e);
int state_file_save(const struct state_file *s, struct err *e);
int state_file_remove(const char *pool, struct err *e);
/* Add a device path unless it is there already or there is no room. 0 or -ENOMEM / -ENOSPC. */
int state_file_add(struct state_file *s, const char *path);
void state_file_fini(struct state_file *s);

/* Call cb for every known pool (state files); an ordinary user's own first. */
void state_file_each(void (*cb)(void *arg, const char *pool), void *arg);
/* Call cb for every pool that has a control socket (its daemon runs, or was killed). */
void running_each(void (*cb)(void *arg, const char *pool), void *arg);

#endif
