/* log: tarnd's log: lines with time to one descriptor, and syslog. Any thread. */
#ifndef TARN_TOOLS_LOG_H
#define TARN_TOOLS_LOG_H
#include <stdbool.h>

/* name: what lines begin with in syslog ("tarnd[tank]"); use_syslog: send them there too. Lines go
 * to stderr until log_to(); bare: without time and name (a supervisor adds both). */
void log_open(const char *pool, bool use_syslog, bool bare);
/* Send lines to fd from now on (not closed). */
void log_to(int fd);
/* Send every line to fd as well, with its time; -1 ends that. */
void log_also_to(int fd);

void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
