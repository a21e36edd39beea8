#include "tools/ctl_server.h"
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "tools/ctl_proto.h"
#include "tools/history.h"
#include "tools/hop.h"
#include "tools/log.h"
#include "tools/names.h"

#define CONNS_MAX	   96 /* in all */
#define CONNS_ORDINARY_MAX 48 /* of ordinary users together: the rest is root's */
#define CONNS_PER_UID_MAX  12
#define REQUEST_MS	   20000 /* a request must be complete after this */
#define REPLY_MS	   20000 /* a reply must be taken after this */
#define STACK_BYTES	   (256u << 10)

struct conn {
	struct conn *next;
	struct daemon *d;
	int sock;
	uid_t uid;
	gid_t gid;
	bool admin;
};

static pthread_mutex_t conns_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct conn *conns; /* guarded by conns_mutex */

int ctl_server_listen(const char *pool, int *ret_fd, struct err *e)
{
	char path[PATH_MAX];
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	run_path(path, pool, "control");
	if (strlen(path) >= sizeof(a.sun_path))
		return err_set(e, -ENAMETOOLONG, "%s: path too long for a socket", path);
	memcpy(a.sun_path, path, strlen(path) + 1);
	unlink(path);
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s < 0)
		return err_set(e, -errno, "socket: %s", strerror(errno));
	if (bind(s, (struct sockaddr *)&a, sizeof(a)) || chmod(path, 0666) || listen(s, 64)) {
		int r = err_set(e, -errno, "listen on %s: %s", path, strerror(errno));
		close(s);
		return r;
	}
	*ret_fd = s;
	return 0;
}

static int reply_send(int sock, struct request *q, int rc)
{
	struct json_object *m = json_object_new_object();
	json_object_object_add(m, "ok", json_object_new_boolean(!rc));
	if (rc) {
		const char *text = q->e.code ? q->e.text : err_str(rc);
		json_object_object_add(m, "code", json_object_new_string(ctl_code_name(rc)));
		json_object_object_add(m, "error", json_object_new_string(text));
	} else {
		json_object_object_add(m, "result", json_object_get(q->result));
	}
	int r = ctl_send(sock, m, -1, REPLY_MS);
	json_object_put(m);
	return r;
}

struct verb_run {
	struct request *q;
	verb_fn *fn;
	int sock;
	uint64_t sent_done;
	bool deaf; /* the client does not take progress any more */
};

static int verb_co(void *arg)
{
	struct verb_run *v = arg;
	return v->fn(v->q);
}

static void progress_tick(void *arg)
{
	struct verb_run *v = arg;
	uint64_t total = v->q->progress_total, done = v->q->progress_done;
	if (v->deaf || !total || done == v->sent_done)
		return;
	v->sent_done = done;
	struct json_object *m = json_object_new_object(), *p = json_object_new_object();
	json_object_object_add(p, "done", json_object_new_uint64(done));
	json_object_object_add(p, "total", json_object_new_uint64(total));
	json_object_object_add(m, "progress", p);
	v->deaf = ctl_send(v->sock, m, -1, 1000) != 0;
	json_object_put(m);
}

static const struct verb *verb_find(const char *name)
{
	const struct verb *v = ctl_verbs;
	while (v->name && (!name || strcmp(v->name, name)))
		v++;
	return v->name ? v : NULL;
}

static void verb_log(struct conn *c, struct request *q, const char *name, int r)
{
	const char *what = ctl_get_string(q->args, "name");
	if (!what)
		what = ctl_get_string(q->args, "device");
	const char *how = !r ? "done" : q->e.code ? q->e.text : err_str(r);
	log_info("%s%s%.300s by uid %u: %s", name, what ? " " : "", what ? what : "",
		 (unsigned)c->uid, how);
}

/* Find and run the verb of a request. */
static int request_run(struct conn *c, struct json_object *msg, struct request *q)
{
	const char *name = ctl_get_string(msg, "verb");
	const struct verb *v = verb_find(name);
	if (!v)
		return err_set(&q->e, -ENOSYS,
			       "this daemon does not know the request %.64s; "
			       "is it older than the tool? restart it",
			       name ? name : "(none)");
	if (!v->open_to_all && !c->admin)
		return err_set(&q->e, -EPERM, "%s: only root may do this", name);
	if (!json_object_object_get_ex(msg, "args", &q->args) ||
	    !json_object_is_type(q->args, json_type_object))
		return err_set(&q->e, -EINVAL, "%s: arguments are missing", name);
	struct verb_run run = {.q = q, .fn = v->fn, .sock = c->sock};
	int r = v->blocking ? v->fn(q)
			    : hop_run(daemon_bg(c->d), verb_co, &run, progress_tick, &run);
	if (c->admin && !v->open_to_all) {
		verb_log(c, q, name, r);
		history_record(q, name, r);
	}
	return r;
}

/* Receive, run, answer. false: the connection is over. */
static bool request_serve(struct conn *c)
{
	struct json_object *msg = NULL;
	struct request q = {.d = c->d, .uid = c->uid, .gid = c->gid, .admin = c->admin, .fd = -1};
	int r = ctl_recv(c->sock, CTL_REQUEST_MAX, REQUEST_MS, &msg, &q.fd);
	if (r == -ENODATA || r == -ETIMEDOUT)
		return false;
	bool usable = !r;
	if (r) {
		err_set(&q.e, r, "request refused: %s", err_str(r));
		reply_send(c->sock, &q, r);
	} else if (!daemon_verb_begin(c->d)) {
		r = err_set(&q.e, ERR_IN_USE, "pool %s is being stopped", c->d->name);
		reply_send(c->sock, &q, r);
	} else {
		r = request_run(c, msg, &q);
		usable = !reply_send(c->sock, &q, r);
		daemon_verb_end(c->d); /* after the reply: the daemon may end now */
	}
	json_object_put(msg);
	json_object_put(q.result);
	if (q.fd >= 0)
		close(q.fd);
	return usable;
}

static void conn_free(struct conn *c)
{
	pthread_mutex_lock(&conns_mutex);
	for (struct conn **p = &conns; *p; p = &(*p)->next) {
		if (*p == c) {
			*p = c->next;
			break;
		}
	}
	pthread_mutex_unlock(&conns_mutex);
	close(c->sock);
	free(c);
}

static void *conn_main(void *arg)
{
	struct conn *c = arg;
	while (request_serve(c))
		;
	conn_free(c);
	return NULL;
}

/* Is there room for one more connection of this user? Inserts it. */
static bool conn_admit(struct conn *c)
{
	unsigned all = 0, ordinary = 0, same = 0;
	pthread_mutex_lock(&conns_mutex);
	for (struct conn *o = conns; o; o = o->next) {
		all++;
		ordinary += !o->admin;
		same += o->uid == c->uid;
	}
	bool ok = all < CONNS_MAX &&
		  (c->admin || (ordinary < CONNS_ORDINARY_MAX && same < CONNS_PER_UID_MAX));
	if (ok) {
		c->next = conns;
		conns = c;
	}
	pthread_mutex_unlock(&conns_mutex);
	return ok;
}

static int conn_thread(struct conn *c)
{
	pthread_attr_t attr;
	pthread_t t;
	sigset_t all, old;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int r = pthread_create(&t, &attr, conn_main, c);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return r;
}

void ctl_server_accept(struct daemon *d, int listen_fd)
{
	int s = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (s < 0)
		return;
	struct ucred cred;
	socklen_t len = sizeof(cred);
	struct conn *c = calloc(1, sizeof(*c));
	if (!c || getsockopt(s, SOL_SOCKET, SO_PEERCRED, &cred, &len)) {
		close(s);
		free(c);
		return;
	}
	*c = (struct conn){.d = d,
			   .sock = s,
			   .uid = cred.uid,
			   .gid = cred.gid,
			   .admin = cred.uid == 0 || cred.uid == d->uid};
	if (!conn_admit(c)) {
		struct request q = {.fd = -1};
		int r = err_set(&q.e, -EAGAIN, "too many connections; try again later");
		struct json_object *m = json_object_new_object();
		json_object_object_add(m, "ok", json_object_new_boolean(false));
		json_object_object_add(m, "code", json_object_new_string(ctl_code_name(r)));
		json_object_object_add(m, "error", json_object_new_string(q.e.text));
		ctl_send(s, m, -1, 0);
		json_object_put(m);
		close(s);
		free(c);
		return;
	}
	if (conn_thread(c))
		conn_free(c);
}
