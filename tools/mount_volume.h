/* mount_volume: mount a volume's tree in the caller's mount namespace and hand it to the pool's
 * daemon. */
#ifndef TARN_TOOLS_MOUNT_VOLUME_H
#define TARN_TOOLS_MOUNT_VOLUME_H
#include <stdbool.h>
#include "base/err.h"

/* source "tank/home", dir, options as for mount -o (NULL: none). Blocking. */
int mount_volume(const char *source, const char *dir, const char *options, struct err *e);
/* Unmount dir and wait until the daemon has let go of the volume, so that it can be mounted,
 * destroyed or exported at once. force: also when in use. Blocking. */
int umount_volume(const char *dir, bool force, struct err *e);

#endif
