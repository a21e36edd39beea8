/* Who made a request: what the kernel does not send along. It gives user and group ids only with
 * requests that make inodes (since mounts can be idmapped), and never capabilities or all groups.
 * So /proc is asked; the few requests that need it are rare.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "fs/fuse_serve.h"

enum { CAP_BIT_FOWNER = 3, CAP_BIT_FSETID = 4, CAP_BIT_SYS_ADMIN = 21 };

static bool same_user_namespace(pid_t pid)
{
	char path[64], mine[64], its[64];
	ssize_t a = readlink("/proc/self/ns/user", mine, sizeof(mine)), b;

	snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
	b = readlink(path, its, sizeof(its));
	return a > 0 && a == b && !memcmp(mine, its, (size_t)a);
}

static bool list_has(const char *text, gid_t gid)
{
	char *end;

	for (;;) {
		unsigned long n = strtoul(text, &end, 10);

		if (end == text)
			return false;
		if (n == gid)
			return true;
		text = end;
	}
}

/* "Uid:" and "Gid:" have what counts for file systems last. */
static void status_line(struct serve_caller *c, const char *line, gid_t gid,
			unsigned long long *caps)
{
	unsigned long n;

	if (sscanf(line, "Uid: %*u %*u %*u %lu", &n) == 1)
		c->uid = (uint32_t)n;
	else if (sscanf(line, "Gid: %*u %*u %*u %lu", &n) == 1)
		c->in_group = n == gid;
	else if (!strncmp(line, "Groups:", 7))
		c->in_group |= list_has(line + 7, gid);
	else
		sscanf(line, "CapEff: %llx", caps);
}

struct serve_caller serve_caller_get(fuse_req_t req, gid_t gid)
{
	struct serve_caller c = {.uid = UINT32_MAX};
	pid_t pid = fuse_req_ctx(req)->pid;
	unsigned long long caps = 0;
	char name[64], *line = NULL;
	size_t size = 0;
	FILE *f;

	snprintf(name, sizeof(name), "/proc/%d/status", (int)pid);
	f = pid > 0 ? fopen(name, "re") : NULL; /* 0: of another PID namespace */
	if (!f)
		return c;
	while (getline(&line, &size, f) > 0)
		status_line(&c, line, gid, &caps);
	free(line);
	fclose(f);
	if (caps && !same_user_namespace(pid))
		caps = 0;
	c.fowner = caps >> CAP_BIT_FOWNER & 1;
	c.fsetid = caps >> CAP_BIT_FSETID & 1;
	c.sys_admin = caps >> CAP_BIT_SYS_ADMIN & 1;
	return c;
}
