#include "tools/pid_file.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "tools/names.h"

/* Not readable by others: whoever can open a file can lock it. */
#define PID_FILE_MODE 0600

#define KILLED_POLL_MS 20
#define PF_EXITING     4u /* in the flags of /proc/PID/stat */

enum process { PROCESS_LIVES, PROCESS_DYING, PROCESS_GONE };

/* Signals that wait for a process, as a mask: "ShdPnd:\t0000000000000100". */
static uint64_t signals_pending(pid_t pid)
{
	char path[64], line[256];
	uint64_t mask = 0, m;
	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	FILE *f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "SigPnd: %" SCNx64, &m) == 1 ||
		    sscanf(line, "ShdPnd: %" SCNx64, &m) == 1)
			mask |= m;
	if (f)
		fclose(f);
	return mask;
}

static enum process process_look(pid_t pid)
{
	char path[64], text[512], *at, state;
	unsigned flags, threads;
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return PROCESS_GONE;
	ssize_t n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n > 0 ? n : 0] = 0;
	/* behind the name: state, 5 numbers, flags, 10 numbers, threads */
	at = strrchr(text, ')');
	if (!at || sscanf(at,
			  ") %c %*d %*d %*d %*d %*d %u"
			  " %*d %*d %*d %*d %*d %*d %*d %*d %*d %*d %u",
			  &state, &flags, &threads) != 3)
		return PROCESS_GONE;
	if (state == 'Z' || state == 'X') /* its other threads may still hold the files */
		return threads > 1 ? PROCESS_DYING : PROCESS_GONE;
	bool killed = signals_pending(pid) & (1ull << (SIGKILL - 1));
	return killed || flags & PF_EXITING ? PROCESS_DYING : PROCESS_LIVES;
}

/* The number in the file, or 0. */
static pid_t pid_read(int fd)
{
	char text[24] = "";
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
	text[n > 0 ? n : 0] = 0;
	long pid = strtol(text, NULL, 10);
	return pid > 0 && pid <= INT_MAX ? (pid_t)pid : 0;
}

static bool killed(int fd)
{
	pid_t pid = pid_read(fd);
	return pid && process_look(pid) != PROCESS_LIVES;
}

/* A short second try in any case: pid_file_wait() of another tool holds the lock for an instant. */
static int lock_settled(int fd)
{
	for (int waited = 0; flock(fd, LOCK_EX | LOCK_NB); waited += KILLED_POLL_MS) {
		int limit = errno == EWOULDBLOCK && killed(fd) ? PID_FILE_KILLED_MS : 100;
		if (waited >= limit)
			return errno == EWOULDBLOCK ? ERR_IN_USE : -errno;
		usleep(KILLED_POLL_MS * 1000);
	}
	return 0;
}

int pid_file_take(const char *pool, int *ret_fd, bool *ret_killed, struct err *e)
{
	char path[PATH_MAX];
	int r = folder_make(run_dir());
	if (!r)
		r = folder_make(run_path_own(path, pool, ""));
	if (r)
		return err_set(e, r, "mkdir %s/%s: %s%s", run_dir(), pool, strerror(-r),
			       run_dir_system() ? "; set XDG_RUNTIME_DIR to a folder of yours"
						: "");
	run_path_own(path, pool, "pid");
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, PID_FILE_MODE);
	if (fd < 0)
		return err_set(e, -errno, "open %s: %s", path, strerror(errno));
	r = lock_settled(fd);
	if (r) {
		pid_t pid = pid_read(fd);
		close(fd);
		return err_set(e, r, "pool %s is served already (process %d)", pool, (int)pid);
	}
	*ret_killed = killed(fd);
	*ret_fd = fd;
	return 0;
}

void pid_file_write(int fd)
{
	char text[24];
	int n = snprintf(text, sizeof(text), "%d\n", (int)getpid());
	if (ftruncate(fd, 0) || pwrite(fd, text, (size_t)n, 0) != n)
		return; /* the lock is what counts */
}

void pid_file_clear(int fd)
{
	if (ftruncate(fd, 0))
		return; /* then the next start is a little patient for nothing */
}

static int pid_file_look(const char *pool)
{
	char path[PATH_MAX];
	return open(run_path(path, pool, "pid"), O_RDONLY | O_CLOEXEC);
}

bool pid_file_killed(const char *pool)
{
	int fd = pid_file_look(pool);
	if (fd < 0)
		return false;
	bool k = killed(fd);
	close(fd);
	return k;
}

void pid_file_outlive(const char *pool)
{
	int fd = pid_file_look(pool);
	if (fd < 0)
		return;
	pid_t pid = pid_read(fd);
	close(fd);
	for (int waited = 0; pid && waited < PID_FILE_KILLED_MS; waited += KILLED_POLL_MS) {
		if (process_look(pid) != PROCESS_DYING)
			return;
		usleep(KILLED_POLL_MS * 1000);
	}
}

bool pid_file_wait(const char *pool, int ms)
{
	int fd = pid_file_look(pool);
	if (fd < 0)
		return true;
	bool free = false;
	for (int waited = 0;; waited += 20) {
		free = !flock(fd, LOCK_SH | LOCK_NB);
		if (free || waited >= ms)
			break;
		usleep(20000);
	}
	close(fd);
	return free;
}
