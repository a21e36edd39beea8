/* names: pool and volume names as users give them, and where a pool keeps its files.
 *
 *   /run/tarn/NAME/        control (socket), pid, log, images (mount point)
 *   /var/lib/tarn/NAME.pool   device list for the next start
 *
 * $TARN_RUN_DIR and $TARN_STATE_DIR replace the two folders (a second set of pools, ordinary
 * users). Names are checked before they become part of a path: no '/', no leading '.' or '-'.
 */
#ifndef TARN_TOOLS_NAMES_H
#define TARN_TOOLS_NAMES_H
#include <stdbool.h>
#include <stddef.h>
#include "base/err.h"
#include "pool/pool.h"
#include "pool/vol.h"

/* Letters, digits, '_', '-', '.', '+'; starts with a letter or digit. */
bool pool_name_valid(const char *name);
bool volume_name_valid(const char *name);

struct volume_ref {
	char pool[POOL_NAME_MAX + 1];
	char volume[VOL_NAME_MAX + 1];
};
/* "tank/home" -> parts. -EINVAL with text. */
int volume_ref_parse(const char *text, struct volume_ref *ret_ref, struct err *e);

const char *run_dir(void);
const char *state_dir(void);
/* RUN/NAME/leaf; leaf "" gives the folder. Returns buf (PATH_MAX). */
const char *run_path(char *buf, const char *pool, const char *leaf);
const char *state_path(char *buf, const char *pool);

#endif
