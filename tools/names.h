/* names: pool and volume names as users give them, and where a pool keeps its files.
 *
 *   /run/tarn/NAME/        control (socket), pid, log, images (mount point)
 *   /var/lib/tarn/NAME.pool   device list for the next start
 *
 * An ordinary user's own pools have them in $XDG_RUNTIME_DIR/tarn (/run/user/UID/tarn) and
 * $XDG_STATE_HOME/tarn (~/.local/state/tarn); those of the system can be looked at as well, where
 * no pool of the user's own has the same name. $TARN_RUN_DIR and $TARN_STATE_DIR replace the two
 * folders for everybody (a second set of pools); then there is nothing else. Names are checked
 * before they become part of a path: no '/', no leading '.' or '-'.
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

/* The caller's own folders; they need not exist. */
const char *run_dir(void);
const char *state_dir(void);
/* The system's folders, when the caller may look at those as well; else NULL. */
const char *run_dir_system(void);
const char *state_dir_system(void);
/* mkdir -p; what lies between is for the caller alone. 0 or -errno. */
int folder_make(const char *path);

/* RUN/NAME/leaf; leaf "" gives the folder. Of the caller's own pool when its daemon lives or was
 * killed, else of the system's when it is served, else own. Returns buf (PATH_MAX). */
const char *run_path(char *buf, const char *pool, const char *leaf);
/* The same, always own: for what is about to be made. */
const char *run_path_own(char *buf, const char *pool, const char *leaf);
const char *state_path(char *buf, const char *pool);
const char *state_path_own(char *buf, const char *pool);

#endif
