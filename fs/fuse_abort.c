/* Aborting a connection from inside the daemon. Closing the descriptors does not always do:
 * commands that wait in the kernel hold the device open, and so does a request of ours that waits
 * for the kernel.
 *
 * The file is N/abort in fusectl, where N is the connection's number, which the device tells in
 * its fdinfo (Linux 6.16), or mountinfo with the mount point does. Where fusectl is not mounted, we
 * mount an instance nobody else sees. Once open, the file belongs to this connection only: it does
 * nothing when the connection is gone, even if the number is in use again.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>
#include "fs/fuse_serve.h"

#define FUSECTL "/sys/fs/fuse/connections"

/* The connection of fd by its fdinfo, or 0. */
static unsigned number_by_fd(int fd)
{
	char path[64], line[128];
	unsigned n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	f = fopen(path, "re");
	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f) && sscanf(line, "fuse_connection: %u", &n) != 1)
		;
	fclose(f);
	return n;
}

/* The same by the newest mount at mountpoint in this namespace, or 0. */
static unsigned number_by_mount(const char *mountpoint)
{
	char *line = NULL, where[4096];
	unsigned major, minor, n = 0;
	size_t size = 0;
	FILE *f = fopen("/proc/self/mountinfo", "re");

	if (!f)
		return 0;
	while (getline(&line, &size, f) > 0)
		if (sscanf(line, "%*u %*u %u:%u / %4095s", &major, &minor, where) == 3 &&
		    !strcmp(where, mountpoint) && strstr(line, " - fuse"))
			n = major << 20 | minor; /* a dev_t as the kernel has it */
	free(line);
	fclose(f);
	return n;
}

static int private_fusectl(void)
{
	int fs = fsopen("fusectl", FSOPEN_CLOEXEC), m = -1;

	if (fs < 0)
		return -1;
	if (!fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		m = fsmount(fs, FSMOUNT_CLOEXEC, 0);
	close(fs);
	return m;
}

int serve_abort_open(int fd, const char *mountpoint)
{
	unsigned n = number_by_fd(fd);
	char path[96];
	int dir, r;

	if (!n)
		n = number_by_mount(mountpoint);
	if (!n)
		return -ENOENT;
	snprintf(path, sizeof(path), FUSECTL "/%u/abort", n);
	r = open(path, O_WRONLY | O_CLOEXEC);
	if (r >= 0)
		return r;
	dir = private_fusectl();
	if (dir < 0)
		return -ENOENT;
	snprintf(path, sizeof(path), "%u/abort", n);
	r = openat(dir, path, O_WRONLY | O_CLOEXEC);
	r = r < 0 ? -errno : r;
	close(dir);
	return r;
}

void serve_abort_now(struct serve *s)
{
	ssize_t n = s->abort_fd < 0 ? 0 : write(s->abort_fd, "1", 1);

	(void)n; /* it fails when the connection is gone */
}
