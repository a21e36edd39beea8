#include "tools/start.h"
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "pool/pool.h"
#include "tools/version.h"

/* tarnd next to this program, or where it is installed. */
static void daemon_path(char *buf, size_t size)
{
	char self[PATH_MAX - 16];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n > 0) {
		self[n] = 0;
		char *slash = strrchr(self, '/');
		if (slash)
			*slash = 0;
		snprintf(buf, size, "%s/tarnd", self);
		if (!access(buf, X_OK))
			return;
	}
	snprintf(buf, size, "%s/tarnd", TARN_SBINDIR);
}

/* Pass warnings on, keep the last other line as the reason. */
static void output_read(FILE *f, char *reason, size_t size)
{
	char *line = NULL;
	size_t room = 0;
	ssize_t n;
	*reason = 0;
	while ((n = getline(&line, &room, f)) > 0) {
		if (line[n - 1] == '\n')
			line[n - 1] = 0;
		const char *text = line;
		if (!strncmp(text, "tarnd: ", 7))
			text += 7;
		if (!strncmp(text, "error: ", 7))
			snprintf(reason, size, "%s", text + 7);
		else if (!strncmp(text, "warning: ", 9))
			fprintf(stderr, "tarn: %s\n", text);
		else if (!*reason)
			snprintf(reason, size, "%s", text);
	}
	free(line);
}

int start_daemon(const struct start_options *o, struct err *e)
{
	char path[PATH_MAX], reason[1024];
	const char *argv[POOL_DEVS_MAX + 16];
	unsigned n = 0;
	daemon_path(path, sizeof(path));
	argv[n++] = "tarnd";
	if (o->degraded)
		argv[n++] = "--degraded";
	if (o->force)
		argv[n++] = "--force";
	if (o->read_only)
		argv[n++] = "--read-only";
	if (o->mover_rate) {
		argv[n++] = "--mover-rate";
		argv[n++] = o->mover_rate;
	}
	if (o->record) {
		argv[n++] = "--record";
		argv[n++] = o->record;
	}
	if (!o->ndevs)
		argv[n++] = "--pool";
	argv[n++] = o->pool;
	if (o->ndevs)
		argv[n++] = "--";
	for (unsigned i = 0; i < o->ndevs && i < POOL_DEVS_MAX; i++)
		argv[n++] = o->devs[i];
	argv[n] = NULL;

	int p[2];
	if (pipe(p))
		return err_set(e, -errno, "pipe: %s", strerror(errno));
	fflush(NULL);
	pid_t pid = fork();
	if (pid < 0) {
		close(p[0]);
		close(p[1]);
		return err_set(e, -errno, "fork: %s", strerror(errno));
	}
	if (!pid) {
		dup2(p[1], STDERR_FILENO);
		close(p[0]);
		close(p[1]);
		execv(path, (char **)(uintptr_t)argv);
		fprintf(stderr, "tarnd: error: run %s: %s\n", path, strerror(errno));
		_exit(1);
	}
	close(p[1]);
	FILE *f = fdopen(p[0], "r");
	if (f) {
		output_read(f, reason, sizeof(reason));
		fclose(f);
	}
	int status = 0;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return 0;
	return err_set(e, -EIO, "%s",
		       f && *reason ? reason : "the daemon ended without saying why");
}
