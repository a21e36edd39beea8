#include "tools/ctl_proto.h"
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "base/err.h"
#include "base/le.h"

#define REST_TIMEOUT_MS 30000
#define FDS_MAX		8 /* room for surplus descriptors, so that we can close them */

static int64_t now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Wait for events until the deadline (< 0: no deadline). */
static int wait_for(int sock, short events, int64_t deadline_ms)
{
	for (;;) {
		int left = -1;
		if (deadline_ms >= 0) {
			int64_t d = deadline_ms - now_ms();
			if (d <= 0)
				return -ETIMEDOUT;
			left = (int)d;
		}
		struct pollfd p = {.fd = sock, .events = events};
		int n = poll(&p, 1, left);
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
	}
}

int ctl_send(int sock, struct json_object *msg, int fd, int timeout_ms)
{
	size_t len;
	const char *body = json_object_to_json_string_length(msg, JSON_C_TO_STRING_PLAIN, &len);
	if (!body)
		return -ENOMEM;
	if (len > CTL_REPLY_MAX)
		return -EMSGSIZE;
	int64_t deadline = timeout_ms < 0 ? -1 : now_ms() + timeout_ms;
	le32 head = le32_of((uint32_t)len);
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control;

	for (size_t sent = 0; sent < sizeof(head) + len;) {
		struct iovec iov[2];
		int n = 0;
		if (sent < sizeof(head))
			iov[n++] = (struct iovec){head.b + sent, sizeof(head) - sent};
		size_t off = sent < sizeof(head) ? 0 : sent - sizeof(head);
		iov[n++] = (struct iovec){(char *)(uintptr_t)body + off, len - off};
		struct msghdr m = {.msg_iov = iov, .msg_iovlen = (size_t)n};
		if (fd >= 0 && sent == 0) {
			memset(&control, 0, sizeof(control));
			m.msg_control = control.buf;
			m.msg_controllen = sizeof(control.buf);
			struct cmsghdr *c = CMSG_FIRSTHDR(&m);
			c->cmsg_level = SOL_SOCKET;
			c->cmsg_type = SCM_RIGHTS;
			c->cmsg_len = CMSG_LEN(sizeof(int));
			memcpy(CMSG_DATA(c), &fd, sizeof(int));
		}
		ssize_t w = sendmsg(sock, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (w >= 0) {
			sent += (size_t)w;
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN && errno != EWOULDBLOCK)
			return -errno;
		int r = wait_for(sock, POLLOUT, deadline);
		if (r)
			return r;
	}
	return 0;
}

/* Keep the first descriptor of a message in *keep when there is room, close all others. */
static void take_fds(struct msghdr *m, int *keep)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (keep && *keep < 0)
				*keep = fd;
			else
				close(fd);
		}
	}
}

/* Fill buf. -ENODATA: closed before the first byte. */
static int recv_all(int sock, void *buf, size_t len, int64_t *deadline_ms, int *keep_fd)
{
	size_t got = 0;
	while (got < len) {
		union {
			struct cmsghdr align;
			char buf[CMSG_SPACE(FDS_MAX * sizeof(int))];
		} control;
		struct iovec iov = {(char *)buf + got, len - got};
		struct msghdr m = {.msg_iov = &iov,
				   .msg_iovlen = 1,
				   .msg_control = control.buf,
				   .msg_controllen = sizeof(control.buf)};
		ssize_t n = recvmsg(sock, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		if (n > 0) {
			take_fds(&m, keep_fd);
			if (!got && *deadline_ms < 0)
				*deadline_ms = now_ms() + REST_TIMEOUT_MS;
			got += (size_t)n;
			continue;
		}
		if (n == 0)
			return got ? -EPROTO : -ENODATA;
		if (errno == EINTR)
			continue;
		if (errno == ECONNRESET)
			return -ENODATA;
		if (errno != EAGAIN && errno != EWOULDBLOCK)
			return -errno;
		int r = wait_for(sock, POLLIN, *deadline_ms);
		if (r)
			return r;
	}
	return 0;
}

struct json_object *ctl_parse(const char *body, size_t len)
{
	if (!len || len > CTL_REPLY_MAX)
		return NULL;
	struct json_tokener *t = json_tokener_new_ex(CTL_DEPTH_MAX);
	if (!t)
		return NULL;
	json_tokener_set_flags(t, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	struct json_object *o = json_tokener_parse_ex(t, body, (int)len);
	bool whole = json_tokener_get_error(t) == json_tokener_success &&
		     json_tokener_get_parse_end(t) == len;
	json_tokener_free(t);
	if (o && (!whole || !json_object_is_type(o, json_type_object))) {
		json_object_put(o);
		return NULL;
	}
	return o;
}

int ctl_recv(int sock, size_t max, int timeout_ms, struct json_object **ret_msg, int *ret_fd)
{
	int64_t deadline = timeout_ms < 0 ? -1 : now_ms() + timeout_ms;
	int fd = -1;
	char *body = NULL;
	le32 head;
	int r = recv_all(sock, &head, sizeof(head), &deadline, ret_fd ? &fd : NULL);
	if (r)
		goto out;
	uint32_t len = le32_get(head);
	r = len > max ? -EMSGSIZE : !len ? -EPROTO : 0;
	if (r)
		goto out;
	body = malloc(len);
	if (!body) {
		r = -ENOMEM;
		goto out;
	}
	r = recv_all(sock, body, len, &deadline, ret_fd ? &fd : NULL);
	if (r) {
		r = r == -ENODATA ? -EPROTO : r;
		goto out;
	}
	struct json_object *o = ctl_parse(body, len);
	if (!o) {
		r = -EPROTO;
		goto out;
	}
	*ret_msg = o;
	if (ret_fd)
		*ret_fd = fd;
out:
	if (r && fd >= 0)
		close(fd);
	free(body);
	return r;
}

static const struct {
	int code;
	const char *name;
} code_names[] = {
	{ERR_NEED_NODE, "ERR_NEED_NODE"}, {ERR_CSUM, "ERR_CSUM"},
	{ERR_MAGIC, "ERR_MAGIC"},	  {ERR_ADDR, "ERR_ADDR"},
	{ERR_STALE, "ERR_STALE"},	  {ERR_POOL_ID, "ERR_POOL_ID"},
	{ERR_VERSION, "ERR_VERSION"},	  {ERR_FORMAT, "ERR_FORMAT"},
	{ERR_DEV_GONE, "ERR_DEV_GONE"},	  {ERR_FAULTED, "ERR_FAULTED"},
	{ERR_IN_USE, "ERR_IN_USE"},	  {ERR_FOREIGN, "ERR_FOREIGN"},
	{ERR_NO_QUORUM, "ERR_NO_QUORUM"}, {ERR_READONLY, "ERR_READONLY"},
};

const char *ctl_code_name(int code)
{
	for (size_t i = 0; i < sizeof(code_names) / sizeof(code_names[0]); i++)
		if (code_names[i].code == code)
			return code_names[i].name;
	const char *n = code < 0 && code > ERR_BASE ? strerrorname_np(-code) : NULL;
	return n ? n : "EIO";
}

int ctl_code_value(const char *name)
{
	if (!name)
		return -EIO;
	for (size_t i = 0; i < sizeof(code_names) / sizeof(code_names[0]); i++)
		if (!strcmp(code_names[i].name, name))
			return code_names[i].code;
	for (int n = 1; n < 200; n++) {
		const char *s = strerrorname_np(n);
		if (s && !strcmp(s, name))
			return -n;
	}
	return -EIO;
}

const char *ctl_get_string(struct json_object *o, const char *key)
{
	struct json_object *v;
	if (!o || !json_object_object_get_ex(o, key, &v) ||
	    !json_object_is_type(v, json_type_string))
		return NULL;
	const char *s = json_object_get_string(v);
	return (size_t)json_object_get_string_len(v) == strlen(s) ? s : NULL;
}
