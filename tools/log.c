#include "tools/log.h"
#include <stdarg.h>
#include <stdio.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

static char ident[64] = "tarnd";
static bool to_syslog, without_time;
static int log_fd = STDERR_FILENO, also_fd = -1;

void log_open(const char *pool, bool use_syslog, bool bare)
{
	snprintf(ident, sizeof(ident), "tarnd[%s]", pool);
	to_syslog = use_syslog;
	without_time = bare;
	if (use_syslog)
		openlog(ident, LOG_PID, LOG_DAEMON);
}

void log_to(int fd)
{
	log_fd = fd;
}

void log_also_to(int fd)
{
	also_fd = fd;
}

static void log_line(int priority, const char *word, const char *fmt, va_list ap)
{
	char text[1400], line[1600], when[32];
	vsnprintf(text, sizeof(text), fmt, ap);
	for (char *p = text; *p; p++) /* one event, one line; nothing that plays with a terminal */
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = ' ';
	struct tm tm;
	time_t now = time(NULL);
	localtime_r(&now, &tm);
	strftime(when, sizeof(when), "%F %T ", &tm);
	int n = snprintf(line, sizeof(line), "%s%s%s\n", when, word, text);
	bool lost = also_fd >= 0 && write(also_fd, line, (size_t)n) < 0;
	if (without_time)
		n = snprintf(line, sizeof(line), "tarnd: %s%s\n", word, text);
	lost |= write(log_fd, line, (size_t)n) < 0;
	if (to_syslog)
		syslog(priority, "%s%s", word, text);
	else if (lost)
		return; /* nowhere left to say it */
}

void log_info(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	log_line(LOG_INFO, "", fmt, ap);
	va_end(ap);
}

void log_warn(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	log_line(LOG_WARNING, "warning: ", fmt, ap);
	va_end(ap);
}

void log_error(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	log_line(LOG_ERR, "error: ", fmt, ap);
	va_end(ap);
}
