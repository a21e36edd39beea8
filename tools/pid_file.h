/* pid_file: RUN/NAME/pid, locked (flock) for the life of a daemon: who holds the lock serves the
 * pool. */
#ifndef TARN_TOOLS_PID_FILE_H
#define TARN_TOOLS_PID_FILE_H
#include <stdbool.h>
#include "base/err.h"

/* Make RUN and RUN/NAME, open and lock. ERR_IN_USE: another daemon has it. The descriptor holds the
 * lock, also in a forked child. */
int pid_file_take(const char *pool, int *ret_fd, struct err *e);
/* Write the caller's number. */
void pid_file_write(int fd);
/* Wait until nobody holds the lock, at most ms. false: still held. */
bool pid_file_wait(const char *pool, int ms);

#endif
