#include "tools/pid_file.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "tools/names.h"

/* Not readable by others: whoever can open a file can lock it. */
#define PID_FILE_MODE 0600

int pid_file_take(const char *pool, int *ret_fd, struct err *e)
{
	char path[PATH_MAX];
	if (mkdir(run_dir(), 0755) && errno != EEXIST)
		return err_set(e, -errno, "mkdir %s: %s", run_dir(), strerror(errno));
	run_path(path, pool, "");
	if (mkdir(path, 0755) && errno != EEXIST)
		return err_set(e, -errno, "mkdir %s: %s", path, strerror(errno));
	run_path(path, pool, "pid");
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, PID_FILE_MODE);
	if (fd < 0)
		return err_set(e, -errno, "open %s: %s", path, strerror(errno));
	/* a short second try: pid_file_wait() of another tool holds the lock for an instant */
	if (flock(fd, LOCK_EX | LOCK_NB) && (usleep(100000), flock(fd, LOCK_EX | LOCK_NB))) {
		int r = errno == EWOULDBLOCK ? ERR_IN_USE : -errno;
		char pid[24] = "";
		ssize_t n = pread(fd, pid, sizeof(pid) - 1, 0);
		pid[n > 0 ? n : 0] = 0;
		close(fd);
		return err_set(e, r, "pool %s is served already (process %.*s)", pool,
			       (int)strcspn(pid, "\n"), pid);
	}
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

bool pid_file_wait(const char *pool, int ms)
{
	char path[PATH_MAX];
	int fd = open(run_path(path, pool, "pid"), O_RDONLY | O_CLOEXEC);
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
