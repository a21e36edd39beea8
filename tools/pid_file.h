/* pid_file: RUN/NAME/pid, locked (flock) for the life of a daemon: who holds the lock serves the
 * pool. */
#ifndef TARN_TOOLS_PID_FILE_H
#define TARN_TOOLS_PID_FILE_H
#include <stdbool.h>
#include "base/err.h"

/* What a killed daemon held, it holds for a moment longer: the kernel closes the files of io_uring
 * when the process is gone already. So long is that waited for. */
#define PID_FILE_KILLED_MS 2000

/* Make RUN and RUN/NAME, open and lock. ERR_IN_USE: another daemon has it; one that was killed is
 * waited for. The descriptor holds the lock, also in a forked child. ret_killed: the daemon before
 * ended without pid_file_clear(): it was killed, or crashed. */
int pid_file_take(const char *pool, int *ret_fd, bool *ret_killed, struct err *e);
/* Write the caller's number. */
void pid_file_write(int fd);
/* At a clean end. */
void pid_file_clear(int fd);
/* Is the last daemon of the pool gone without pid_file_clear(), or on its way there (killed)? What
 * is found in use then may be free in a moment. */
bool pid_file_killed(const char *pool);
/* Wait until a killed daemon's process is gone; no other is waited for. At most
 * PID_FILE_KILLED_MS. */
void pid_file_outlive(const char *pool);
/* Wait until nobody holds the lock, at most ms. false: still held. */
bool pid_file_wait(const char *pool, int ms);

#endif
