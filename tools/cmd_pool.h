/* cmd_pool: handlers of `tarn pool ...` that live in files of their own. */
#ifndef TARN_TOOLS_CMD_POOL_H
#define TARN_TOOLS_CMD_POOL_H
#include "tools/command.h"

int cmd_pool_create(struct call *c);
int cmd_pool_import(struct call *c);
int cmd_pool_check(struct call *c);
int cmd_pool_status(struct call *c);
int cmd_pool_list(struct call *c);
int cmd_pool_trim(struct call *c);

/* Arguments with a device: a path becomes absolute; a number or a bare name stays for the daemon to
 * find. */
struct json_object *device_args(const char *name);

#endif
