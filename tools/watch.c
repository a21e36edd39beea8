#include "tools/watch.h"
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "tools/ctl_client.h"
#include "tools/size_text.h"

#define STEP_NS 300000000L

static volatile sig_atomic_t interrupted;

static void on_signal(int nr)
{
	(void)nr;
	interrupted = 1;
}

/* "2 h 5 min", "40 s" */
static const char *duration_text(char *buf, size_t size, uint64_t seconds)
{
	if (seconds >= 48 * 3600)
		snprintf(buf, size, "%" PRIu64 " days", seconds / 86400);
	else if (seconds >= 3600)
		snprintf(buf, size, "%" PRIu64 " h %" PRIu64 " min", seconds / 3600,
			 seconds / 60 % 60);
	else if (seconds >= 120)
		snprintf(buf, size, "%" PRIu64 " min", seconds / 60);
	else
		snprintf(buf, size, "%" PRIu64 " s", seconds);
	return buf;
}

const char *watch_text(char *buf, size_t size, const struct watch_progress *p, bool exact)
{
	char done[SIZE_TEXT_MAX], all[SIZE_TEXT_MAX], rate[SIZE_TEXT_MAX], time[32], tail[96] = "";
	uint64_t total = p->done + p->left;
	unsigned percent = total ? (unsigned)((double)p->done * 100 / (double)total) : 0;
	if (p->bytes_per_s && p->seconds_left)
		snprintf(tail, sizeof(tail), ", %s/s, about %s left",
			 size_text(rate, p->bytes_per_s, exact),
			 duration_text(time, sizeof(time), p->seconds_left));
	snprintf(buf, size, "%s of %s (%u %%)%s", size_text(done, p->done, exact),
		 size_text(all, total, exact), percent, tail);
	return buf;
}

void watch_rate(struct json_object *o, const char *prefix, struct watch_progress *p)
{
	char key[40];
	snprintf(key, sizeof(key), "%sbytes_per_s", prefix);
	p->bytes_per_s = get_u64(o, key);
	snprintf(key, sizeof(key), "%sseconds_left", prefix);
	p->seconds_left = get_u64(o, key);
}

static bool on_terminal(void)
{
	return isatty(STDERR_FILENO);
}

static void line_show(const char *doing, const struct watch_progress *p)
{
	char text[160];
	if (on_terminal())
		fprintf(stderr, "\r%s: %s\033[K", doing, watch_text(text, sizeof(text), p, false));
}

static void line_clear(void)
{
	if (on_terminal())
		fprintf(stderr, "\r\033[K");
}

static int gave_up(struct call *c, const char *pool, const char *doing, const char *stop)
{
	fprintf(stderr,
		"tarn %s: the %s goes on in background; `tarn pool status %s` shows how "
		"far it is, `%s` stops it\n",
		c->cmd->name, doing, pool, stop);
	return EXIT_INTERRUPTED;
}

int watch(struct call *c, const char *pool, const char *doing, const char *stop, watch_fn *fn,
	  void *arg)
{
	const struct timespec step = {.tv_nsec = STEP_NS};
	const struct sigaction sa = {.sa_handler = on_signal};
	int sock, ret = EXIT_FAILED, r = ctl_connect(pool, &sock, &c->e);
	if (r)
		return EXIT_FAILED;
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	for (;;) {
		struct json_object *o = NULL;
		struct watch_progress p = {0};
		r = ctl_call(sock, "pool.status", NULL, -1, NULL, NULL, &o, &c->e);
		if (r) {
			err_wrap(&c->e,
				 "while waiting for the %s, which goes on when the pool is "
				 "served again",
				 doing);
			break;
		}
		bool wait = fn(arg, o, &p, &ret);
		json_object_put(o);
		if (!wait)
			break;
		line_show(doing, &p);
		if (!interrupted)
			nanosleep(&step, NULL);
		if (interrupted) {
			line_clear();
			close(sock);
			return gave_up(c, pool, doing, stop);
		}
	}
	line_clear();
	close(sock);
	return r ? EXIT_FAILED : ret;
}
