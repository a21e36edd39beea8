#include "fs/mount.h"
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define TYPE	    "fuse.tarn"
#define MESSAGE_MAX 512

enum option_kind { OPT_FLAG, OPT_CLEAR, OPT_IGNORE, OPT_BOOL, OPT_TRANSPORT, OPT_KERNEL };

struct option {
	const char *name; /* ends in '=': takes a value */
	enum option_kind kind;
	unsigned long flag; /* OPT_FLAG, OPT_CLEAR */
	size_t offset;	    /* OPT_BOOL: of a bool in struct mount_options */
};
#define BOOL(field) OPT_BOOL, 0, offsetof(struct mount_options, field)

static const struct option options[] = {
	{"ro", OPT_FLAG, MS_RDONLY, 0},
	{"rw", OPT_CLEAR, MS_RDONLY, 0},
	{"nosuid", OPT_FLAG, MS_NOSUID, 0},
	{"suid", OPT_CLEAR, MS_NOSUID, 0},
	{"nodev", OPT_FLAG, MS_NODEV, 0},
	{"dev", OPT_CLEAR, MS_NODEV, 0},
	{"noexec", OPT_FLAG, MS_NOEXEC, 0},
	{"exec", OPT_CLEAR, MS_NOEXEC, 0},
	{"noatime", OPT_FLAG, MS_NOATIME, 0},
	{"atime", OPT_CLEAR, MS_NOATIME, 0},
	{"sync", OPT_FLAG, MS_SYNCHRONOUS, 0},
	{"async", OPT_CLEAR, MS_SYNCHRONOUS, 0},
	{"dirsync", OPT_FLAG, MS_DIRSYNC, 0},
	{"nosymfollow", OPT_FLAG, 256 /* MS_NOSYMFOLLOW */, 0},
	{"nodiratime", OPT_FLAG, MS_NODIRATIME, 0},
	{"diratime", OPT_CLEAR, MS_NODIRATIME, 0},
	{"relatime", OPT_IGNORE, 0, 0},
	{"norelatime", OPT_IGNORE, 0, 0},
	{"strictatime", OPT_FLAG, MS_STRICTATIME, 0},
	{"nostrictatime", OPT_CLEAR, MS_STRICTATIME, 0},
	{"lazytime", OPT_IGNORE, 0, 0},
	{"allow_other", BOOL(allow_other)},
	{"allow_root", BOOL(allow_root)},
	{"noallow_other", BOOL(has_allow)},
	{"nowriteback", BOOL(no_writeback)},
	{"trust_owner", BOOL(trust_owner)},
	{"transport=", OPT_TRANSPORT, 0, 0},
	{"context=", OPT_KERNEL, 0, 0},
	{"fscontext=", OPT_KERNEL, 0, 0},
	{"defcontext=", OPT_KERNEL, 0, 0},
	{"rootcontext=", OPT_KERNEL, 0, 0},
	{"defaults", OPT_IGNORE, 0, 0},
	{"auto", OPT_IGNORE, 0, 0},
	{"noauto", OPT_IGNORE, 0, 0},
	{"user", OPT_IGNORE, 0, 0},
	{"users", OPT_IGNORE, 0, 0},
	{"nouser", OPT_IGNORE, 0, 0},
	{"owner", OPT_IGNORE, 0, 0},
	{"group", OPT_IGNORE, 0, 0},
	{"nofail", OPT_IGNORE, 0, 0},
	{"_netdev", OPT_IGNORE, 0, 0},
	{"default_permissions", OPT_IGNORE, 0, 0},
	{"user=", OPT_IGNORE, 0, 0},
	{"comment=", OPT_IGNORE, 0, 0},
	{"uhelper=", OPT_IGNORE, 0, 0},
	{"helper=", OPT_IGNORE, 0, 0},
};

static const struct option *option_find(const char *text)
{
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		size_t n = strlen(options[i].name);
		bool value = options[i].name[n - 1] == '=';

		if (value ? !strncmp(text, options[i].name, n) : !strcmp(text, options[i].name))
			return &options[i];
	}
	return NULL;
}

static int option_transport(const char *value, struct mount_options *o, struct err *e)
{
	if (strcmp(value, "auto") && strcmp(value, "dev") && strcmp(value, "uring"))
		return err_set(e, -EINVAL, "mount option transport=%s: auto, dev or uring", value);
	snprintf(o->transport, sizeof(o->transport), "%s", value);
	return 0;
}

static int option_apply(const struct option *op, const char *text, struct mount_options *o,
			struct err *e)
{
	size_t used = strlen(o->extra);

	switch (op->kind) {
	case OPT_FLAG:
		o->asked |= op->flag;
		o->flags |= op->flag;
		return 0;
	case OPT_CLEAR:
		o->asked |= op->flag;
		o->flags &= ~op->flag;
		return 0;
	case OPT_BOOL:
		*(bool *)((char *)o + op->offset) = true;
		return 0;
	case OPT_TRANSPORT:
		return option_transport(text + strlen(op->name), o, e);
	case OPT_KERNEL:
		if (used + strlen(text) + 2 > sizeof(o->extra))
			return err_set(e, -EINVAL, "mount options too long");
		snprintf(o->extra + used, sizeof(o->extra) - used, ",%s", text);
		return 0;
	case OPT_IGNORE:
		return 0;
	}
	return 0;
}

int mount_options_parse(const char *text, struct mount_options *ret_o, struct err *e)
{
	struct mount_options o = {0};
	char *copy = strdup(text ? text : ""), *save = NULL;
	int r = 0;

	if (!copy)
		return err_set(e, -ENOMEM, "out of memory");
	for (char *t = strtok_r(copy, ",", &save); t && !r; t = strtok_r(NULL, ",", &save)) {
		const struct option *op = option_find(t);

		if (op)
			r = option_apply(op, t, &o, e);
		else if (strncmp(t, "x-", 2) && strncmp(t, "X-", 2))
			r = err_set(e, -EINVAL, "unknown mount option \"%s\"", t);
	}
	free(copy);
	if (r)
		return r;
	if (o.allow_other && o.allow_root)
		return err_set(e, -EINVAL, "allow_other and allow_root exclude each other");
	o.has_allow |= o.allow_other || o.allow_root;
	o.read_only = o.flags & MS_RDONLY;
	o.no_atime = o.flags & MS_NOATIME;
	o.no_dir_atime = o.flags & MS_NODIRATIME;
	o.strict_atime = o.flags & MS_STRICTATIME;
	*ret_o = o;
	return 0;
}

void mount_options_read_only(struct mount_options *o)
{
	o->flags |= MS_RDONLY;
	o->read_only = true;
}

static int mountpoint_check(const char *mountpoint, struct err *e)
{
	struct stat st;

	if (!stat(mountpoint, &st))
		return S_ISDIR(st.st_mode)
			       ? 0
			       : err_set(e, -ENOTDIR, "%s is not a directory", mountpoint);
	if (errno == ENOTCONN)
		return err_set(e, -EBUSY, "a mount whose daemon is gone lies on %s; unmount it",
			       mountpoint);
	return err_set(e, -errno, "%s: %s", mountpoint, strerror(errno));
}

static int mount_as_root(const char *mountpoint, const struct mount_options *o, const char *source,
			 int *ret_fd, struct err *e)
{
	bool private = o->has_allow && !o->allow_other;
	char data[512];
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC), r;

	if (fd < 0)
		return err_set(e, -errno, "open /dev/fuse: %s%s", strerror(errno),
			       errno == ENOENT || errno == ENODEV ? " (modprobe fuse)" : "");
	/* root's mounts are for all users, as any file system's; permissions are checked by the
	 * kernel */
	snprintf(data, sizeof(data),
		 "fd=%d,rootmode=40000,user_id=%u,group_id=%u,default_permissions%s%s", fd,
		 getuid(), getgid(), private ? "" : ",allow_other", o->extra);
	if (mount(source, mountpoint, TYPE, o->flags, data)) {
		r = err_set(e, -errno, "mount %s: %s", mountpoint, strerror(errno));
		close(fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

/* ---- fusermount3 ---- */

static int receive_fd(int sock)
{
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = {&byte, 1};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = control,
			   .msg_controllen = sizeof(control)};
	struct cmsghdr *c;
	ssize_t n;
	int fd;

	do {
		n = recvmsg(sock, &m, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	c = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;
	if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
		return -EIO;
	memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return fd;
}

static void read_message(int fd, char *buf, size_t size)
{
	size_t used = 0;
	ssize_t n;

	while (used < size - 1 && (n = read(fd, buf + used, size - 1 - used)) != 0) {
		if (n < 0 && errno != EINTR)
			break;
		if (n > 0)
			used += (size_t)n;
	}
	buf[used] = 0;
	while (used && isspace((unsigned char)buf[used - 1]))
		buf[--used] = 0;
}

/* Run fusermount3 with argv; its error output goes to message. comm: the socket it sends the
 * descriptor to (closed here), or -1. Returns its exit status or a negative errno. */
static int run_fusermount(char *const argv[], int comm, char *message)
{
	char number[16];
	int pipefd[2], status;
	pid_t pid;

	if (pipe2(pipefd, O_CLOEXEC)) {
		if (comm >= 0)
			close(comm);
		return -EMFILE;
	}
	pid = fork();
	if (pid < 0) {
		close(pipefd[0]);
		close(pipefd[1]);
		if (comm >= 0)
			close(comm);
		return -EAGAIN;
	}
	if (!pid) {
		dup2(pipefd[1], 2);
		if (comm >= 0) {
			fcntl(comm, F_SETFD, 0);
			snprintf(number, sizeof(number), "%d", comm);
			setenv("_FUSE_COMMFD", number, 1);
		}
		execvp(argv[0], argv);
		dprintf(2, "cannot run fusermount3: %s", strerror(errno));
		_exit(127);
	}
	close(pipefd[1]);
	if (comm >= 0)
		close(comm);
	read_message(pipefd[0], message, MESSAGE_MAX);
	close(pipefd[0]);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static void fusermount_options(const struct mount_options *o, const char *source, char *buf,
			       size_t size)
{
	static const struct {
		unsigned long flag;
		const char *name;
	} names[] = {
		{MS_RDONLY, "ro"},	  {MS_NOEXEC, "noexec"},   {MS_NOATIME, "noatime"},
		{MS_SYNCHRONOUS, "sync"}, {MS_DIRSYNC, "dirsync"},
	};
	/* fusermount3 adds nosuid and nodev by itself; ',' in a source must be escaped */
	size_t used = (size_t)snprintf(buf, size, "subtype=tarn,default_permissions,fsname=");

	for (; *source && used < size - 3; source++) {
		if (*source == ',' || *source == '\\')
			buf[used++] = '\\';
		buf[used++] = *source;
	}
	buf[used] = 0;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (o->flags & names[i].flag && used < size)
			used += (size_t)snprintf(buf + used, size - used, ",%s", names[i].name);
	if (used < size && (o->allow_other || o->allow_root))
		snprintf(buf + used, size - used, ",allow_other");
}

static int mount_as_user(const char *mountpoint, const struct mount_options *o, const char *source,
			 int *ret_fd, struct err *e)
{
	char opts[512], message[MESSAGE_MAX];
	char *argv[] = {(char *)"fusermount3", (char *)"-o",	   opts,
			(char *)"--",	       (char *)mountpoint, NULL};
	int sv[2], r, fd;

	fusermount_options(o, source, opts, sizeof(opts));
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv))
		return err_set(e, -errno, "socketpair: %s", strerror(errno));
	r = run_fusermount(argv, sv[0], message);
	if (r) {
		close(sv[1]);
		return err_set(e, r < 0 ? r : -EIO, "%s",
			       *message ? message : "fusermount3 failed");
	}
	fd = receive_fd(sv[1]);
	close(sv[1]);
	if (fd < 0)
		return err_set(e, -EIO, "fusermount3 sent no descriptor");
	*ret_fd = fd;
	return 0;
}

int mount_fuse(const char *mountpoint, const struct mount_options *o, bool images,
	       const char *source, int *ret_fd, struct err *e)
{
	int r = mountpoint_check(mountpoint, e);

	(void)images; /* the kernel sees no difference */
	if (r)
		return r;
	if (geteuid() == 0)
		return mount_as_root(mountpoint, o, source, ret_fd, e);
	return mount_as_user(mountpoint, o, source, ret_fd, e);
}

/* ---- looking at and undoing mounts ---- */

/* Undo the \ooo escapes of mountinfo in place. */
static void unescape(char *s)
{
	char *to = s;

	while (*s) {
		unsigned v;

		if (*s == '\\' && sscanf(s + 1, "%3o", &v) == 1) {
			*to++ = (char)v;
			s += 4;
		} else {
			*to++ = *s++;
		}
	}
	*to = 0;
}

/* "36 35 98:0 /root /point opts [fields] - type source superopts" */
static bool mountinfo_parse(char *line, char **ret_point, char **ret_type, char **ret_source)
{
	char *field[5], *save = NULL, *dash = strstr(line, " - ");

	if (!dash)
		return false;
	*dash = 0;
	for (int i = 0; i < 5; i++) {
		field[i] = strtok_r(i ? NULL : line, " ", &save);
		if (!field[i])
			return false;
	}
	*ret_point = field[4];
	*ret_type = strtok_r(dash + 3, " ", &save);
	*ret_source = strtok_r(NULL, " ", &save);
	if (!*ret_type || !*ret_source)
		return false;
	unescape(*ret_point);
	unescape(*ret_source);
	return true;
}

int mount_list(const char *prefix, mount_list_fn *cb, void *arg)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char *line = NULL, *point, *type, *source;
	size_t size = 0;

	if (!f)
		return -errno;
	while (getline(&line, &size, f) > 0) {
		line[strcspn(line, "\n")] = 0;
		if (mountinfo_parse(line, &point, &type, &source) && !strcmp(type, TYPE) &&
		    !strncmp(source, prefix, strlen(prefix)))
			cb(arg, point, source);
	}
	free(line);
	fclose(f);
	return 0;
}

struct probe {
	const char *point;
	char *source;
	size_t size;
	bool found;
};

static void probe_cb(void *arg, const char *mountpoint, const char *source)
{
	struct probe *p = arg;

	if (strcmp(mountpoint, p->point))
		return;
	p->found = true;
	if (p->source)
		snprintf(p->source, p->size, "%s", source);
}

/* Absolute and without links, but without touching the mount itself: only its parent is resolved.
 */
static char *mountpoint_resolve(const char *mountpoint)
{
	char *copy = strdup(mountpoint), *base, *parent = NULL, *full = NULL;
	size_t n;

	if (!copy)
		return NULL;
	for (n = strlen(copy); n > 1 && copy[n - 1] == '/';)
		copy[--n] = 0;
	base = strrchr(copy, '/');
	if (!strcmp(copy, "/") || !strcmp(copy, ".") || !strcmp(copy, "..") ||
	    (base && (!strcmp(base, "/.") || !strcmp(base, "/..")))) {
		full = realpath(copy, NULL);
	} else {
		if (base)
			*base++ = 0;
		parent = realpath(!base ? "." : *copy ? copy : "/", NULL);
		if (parent && asprintf(&full, "%s/%s", strcmp(parent, "/") ? parent : "",
				       base ? base : copy) < 0)
			full = NULL;
	}
	free(parent);
	free(copy);
	return full;
}

static int probe_resolved(const char *point, char *ret_source, size_t size)
{
	struct probe p = {point, ret_source, size, false};
	struct statfs st;
	int r = mount_list("", probe_cb, &p);

	if (r)
		return r;
	if (!p.found)
		return 0;
	return statfs(point, &st) && (errno == ENOTCONN || errno == ECONNABORTED) ? 2 : 1;
}

int mount_probe(const char *mountpoint, char *ret_source, size_t size)
{
	char *full = mountpoint_resolve(mountpoint), *link;
	int r;

	if (!full)
		return -errno;
	r = probe_resolved(full, ret_source, size);
	link = r ? NULL : realpath(mountpoint, NULL);
	if (link) { /* the last part may be a link to a mount point */
		r = probe_resolved(link, ret_source, size);
		free(link);
	}
	free(full);
	return r;
}

int mount_umount(const char *mountpoint, bool force, struct err *e)
{
	char message[MESSAGE_MAX], *full;
	int state = mount_probe(mountpoint, NULL, 0), r;
	bool lazy = force || state == 2;
	char *argv[] = {(char *)"fusermount3", (char *)(lazy ? "-uz" : "-u"), (char *)"--",
			(char *)mountpoint, NULL};

	if (state < 0)
		return err_set(e, state, "%s: %s", mountpoint, strerror(-state));
	if (!state)
		return err_set(e, -EINVAL, "no Tarn file system is mounted on %s", mountpoint);
	if (geteuid()) {
		r = run_fusermount(argv, -1, message);
		if (!r)
			return 0;
		return err_set(e, strstr(message, "busy") ? -EBUSY : -EPERM, "%s", message);
	}
	full = mountpoint_resolve(mountpoint);
	r = umount2(full ? full : mountpoint, lazy ? MNT_DETACH : 0) ? -errno : 0;
	free(full);
	if (r == -EBUSY)
		return err_set(e, r,
			       "%s is in use (open files or working directories; "
			       "fuser -vm %s shows whose)",
			       mountpoint, mountpoint);
	return r ? err_set(e, r, "unmount %s: %s", mountpoint, strerror(-r)) : 0;
}
