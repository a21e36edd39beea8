/* verbs: what a daemon can be asked; each checks its own arguments.
 *
 * Read-only verbs are open to all users. Handlers run in a coroutine on the background reactor but
 * for the blocking ones (verbs.c has the table).
 */
#ifndef TARN_TOOLS_VERBS_H
#define TARN_TOOLS_VERBS_H
#include "tools/ctl_server.h"

verb_fn verb_pool_status, verb_pool_events, verb_pool_dump, verb_pool_export;
verb_fn verb_pool_check, verb_volume_check;
verb_fn verb_pool_offline, verb_pool_online, verb_pool_add, verb_pool_remove;
verb_fn verb_pool_class, verb_pool_spare, verb_pool_trim;
verb_fn verb_pool_shrink_device, verb_pool_grow_device, verb_pool_rebalance, verb_pool_scrub;
verb_fn verb_volume_create, verb_volume_list, verb_volume_status, verb_volume_set;
verb_fn verb_volume_destroy, verb_volume_resize, verb_volume_rename;
verb_fn verb_pool_set, verb_pool_history, verb_trash_list, verb_trash_restore, verb_trash_empty;
verb_fn verb_snapshot_create, verb_snapshot_list, verb_snapshot_destroy;
verb_fn verb_mount_prepare, verb_mount, verb_mount_list;

/* Arguments: 0, or -EINVAL with a text that names the key. Absent optional ones leave *ret as it
 * is. */
enum arg_need { ARG_REQUIRED, ARG_OPTIONAL };
int arg_string(struct request *q, const char *key, enum arg_need need, size_t max,
	       const char **ret_s);
int arg_u64(struct request *q, const char *key, enum arg_need need, uint64_t min, uint64_t max,
	    uint64_t *ret_n);
int arg_bool(struct request *q, const char *key, bool *ret_b);
/* A valid name of a volume or snapshot. */
int arg_volume(struct request *q, const char *key, const char **ret_name);

/* A member by number, path, or the last part of a path when that is unique. -ENOENT with text. */
int device_find(struct request *q, const char *name, struct pool_dev_status *ret_s);

/* The volume that came into the trash last under this name, or NULL. */
struct json_object *trashed_newest(struct request *q, const char *name);

void add_u64(struct json_object *o, const char *key, uint64_t n);
void add_string(struct json_object *o, const char *key, const char *s);

/* A memory file of at most max bytes; what comes behind is dropped. Closes with capped_close. */
struct capped;
struct capped *capped_open(size_t max, FILE **ret_f);
/* Add the text as {key, key_truncated} to o and free. */
void capped_close(struct capped *c, FILE *f, struct json_object *o, const char *key);

#endif
