#include "tools/ctl_client.h"
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "tools/ctl_proto.h"
#include "tools/names.h"

#define SEND_TIMEOUT_MS 30000

int ctl_connect(const char *pool, int *ret_sock, struct err *e)
{
	char path[PATH_MAX];
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	run_path(path, pool, "control");
	if (strlen(path) >= sizeof(a.sun_path))
		return err_set(e, -ENAMETOOLONG, "%s: path too long for a socket", path);
	memcpy(a.sun_path, path, strlen(path) + 1);

	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (s < 0)
		return err_set(e, -errno, "socket: %s", strerror(errno));
	if (connect(s, (struct sockaddr *)&a, sizeof(a))) {
		int r = -errno;
		close(s);
		if (r == -ENOENT || r == -ECONNREFUSED || r == -ENOTDIR)
			return err_set(e, -ENOENT,
				       "pool %s is not running here; "
				       "`tarn pool import DEVICE...` or `systemctl start tarnd@%s`",
				       pool, pool);
		return err_set(e, r, "connect to %s: %s", path, strerror(-r));
	}
	*ret_sock = s;
	return 0;
}

bool ctl_running(const char *pool)
{
	int s;
	if (ctl_connect(pool, &s, NULL))
		return false;
	close(s);
	return true;
}

/* Take a reply apart. Returns 1 for a progress message. */
static int reply_read(struct json_object *m, ctl_progress_fn *progress, void *arg,
		      struct json_object **ret_result, struct err *e)
{
	struct json_object *v, *x;
	if (json_object_object_get_ex(m, "progress", &v)) {
		uint64_t done = 0, total = 0;
		if (json_object_object_get_ex(v, "done", &x))
			done = json_object_get_uint64(x);
		if (json_object_object_get_ex(v, "total", &x))
			total = json_object_get_uint64(x);
		if (progress)
			progress(arg, done, total);
		return 1;
	}
	if (json_object_object_get_ex(m, "ok", &v) && json_object_get_boolean(v)) {
		if (ret_result) {
			if (!json_object_object_get_ex(m, "result", &x))
				x = NULL;
			*ret_result = json_object_get(x);
		}
		return 0;
	}
	const char *text = ctl_get_string(m, "error");
	int code = ctl_code_value(ctl_get_string(m, "code"));
	return err_set(e, code, "%s",
		       text && *text ? text : "the daemon refused without saying why");
}

int ctl_call(int sock, const char *verb, struct json_object *args, int fd,
	     ctl_progress_fn *progress, void *arg, struct json_object **ret_result, struct err *e)
{
	struct json_object *q = json_object_new_object();
	json_object_object_add(q, "verb", json_object_new_string(verb));
	json_object_object_add(q, "args", args ? args : json_object_new_object());
	int r = ctl_send(sock, q, fd, SEND_TIMEOUT_MS);
	json_object_put(q);
	/* the daemon may have refused (with a reply) before it read the request: look for it */
	if (r && r != -EPIPE && r != -ECONNRESET)
		return err_set(e, r, "send request: %s", err_str(r));
	do {
		struct json_object *m = NULL;
		r = ctl_recv(sock, CTL_REPLY_MAX, -1, &m, NULL);
		if (r == -ENODATA)
			return err_set(e, -ECONNRESET,
				       "the daemon went away before it answered; "
				       "look into its log (%s/POOL/log)",
				       run_dir());
		if (r)
			return err_set(e, r, "read reply: %s", err_str(r));
		r = reply_read(m, progress, arg, ret_result, e);
		json_object_put(m);
	} while (r == 1);
	return r;
}

int ctl_ask(const char *pool, const char *verb, struct json_object *args,
	    struct json_object **ret_result, struct err *e)
{
	int s;
	int r = ctl_connect(pool, &s, e);
	if (r) {
		json_object_put(args);
		return r;
	}
	r = ctl_call(s, verb, args, -1, NULL, NULL, ret_result, e);
	close(s);
	return r;
}
