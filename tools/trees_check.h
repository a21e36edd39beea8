/* trees_check: check the file system of every fs volume of a pool; used by the daemon and, for a
 * pool that does not run, by the tool. Yields; reads only. */
#ifndef TARN_TOOLS_TREES_CHECK_H
#define TARN_TOOLS_TREES_CHECK_H
#include <json-c/json.h>
#include "fs/fs_check.h"
#include "pool/pool.h"

/* One line for each problem to out; counts of all trees together. 0 also when there are problems.
 * A volume that goes away meanwhile is passed by, a tree that cannot be checked is a problem. */
int trees_check(struct pool *p, FILE *out, struct fs_check_result *ret_r, struct err *e);
/* The check or repair itself failed, as e says: one more problem, and one more line. */
void trees_check_failed(FILE *out, struct fs_check_result *r, const struct err *e);
/* The counts as members of o. problems are added to those that are there already. */
void trees_check_to_json(const struct fs_check_result *r, struct json_object *o);

#endif
