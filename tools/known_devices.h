/* known_devices: keeps a pool's state file in step with its members while it is served: devices
 * come (add, online under a new path) and go (removed). Blocking; any thread, inside
 * daemon_verb_begin and _end once the pool is served. A failure is a warning in the log. */
#ifndef TARN_TOOLS_KNOWN_DEVICES_H
#define TARN_TOOLS_KNOWN_DEVICES_H
#include "tools/daemon.h"

/* Write the file: what was given at the start, and members that are missing now. */
void known_devices_start(struct daemon *d, char *const *devs, unsigned n);
/* A member was opened by this path (the pool keeps only the first 255 bytes of it). */
void known_devices_add(struct daemon *d, const char *path);
/* Compare members with the last time, save when they changed. s NULL: asks the pool itself. */
void known_devices_sync(struct daemon *d, const struct pool_status *s);

#endif
