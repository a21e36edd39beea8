/* verbs_mount: take over a mounted /dev/fuse descriptor and serve a volume on it; list what is
 * mounted. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include "tools/hop.h"
#include "tools/names.h"
#include "tools/sessions.h"
#include "tools/verbs.h"

static int fd_check(struct request *q)
{
	struct stat st;
	if (q->fd < 0)
		return err_set(&q->e, -EBADF, "the request carries no descriptor");
	if (fstat(q->fd, &st) || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(10, 229))
		return err_set(&q->e, -EBADF, "the descriptor that came along is not /dev/fuse");
	return 0;
}

static int transport_parse(struct request *q, enum serve_transport *ret_t)
{
	const char *text = "auto";
	int r = arg_string(q, "transport", ARG_OPTIONAL, 8, &text);
	if (r)
		return r;
	if (!strcmp(text, "auto"))
		*ret_t = SERVE_AUTO;
	else if (!strcmp(text, "dev"))
		*ret_t = SERVE_DEV;
	else if (!strcmp(text, "uring"))
		*ret_t = SERVE_URING;
	else
		return err_set(&q->e, -EINVAL, "transport=%s: known are auto, dev and uring", text);
	return 0;
}

struct mount_call {
	struct request *q;
	struct session_options o;
	uint32_t owner_uid;
};

/* A volume's tree may be mounted by root and by its owner. Sets owner_uid, and read_only where
 * nothing can change. */
static int volume_check(struct request *q, const char *name, struct mount_call *c)
{
	struct vol *v;
	struct vol_info *i = calloc(1, sizeof(*i));
	if (!i)
		return err_set(&q->e, -ENOMEM, "out of memory");
	int r = vol_open(q->d->pool, name, &v, &q->e);
	if (r) {
		free(i);
		return r;
	}
	vol_info_get(v, i);
	vol_close(v);
	if (!q->admin && i->owner_uid != q->uid)
		r = err_set(&q->e, -EPERM,
			    "volume %s/%s is not yours; root can give it to you with "
			    "`tarn volume set %s/%s owner=USER`",
			    q->d->name, name, q->d->name, name);
	else if (i->type != VOL_TYPE_FS)
		r = err_set(&q->e, -EINVAL,
			    "%s/%s is a block volume; it is the file %s/%s/images/%s", q->d->name,
			    name, run_dir(), q->d->name, name);
	c->owner_uid = i->owner_uid;
	c->o.read_only |= i->snapshot || q->d->read_only;
	free(i);
	return r;
}

static int mount_co(void *arg)
{
	struct mount_call *c = arg;
	int r = volume_check(c->q, c->o.volume, c);
	return r ? r : session_start(c->q->d, &c->o, &c->q->e);
}

static int prepare_co(void *arg)
{
	struct mount_call *c = arg;
	return volume_check(c->q, c->o.volume, c);
}

/* Asked before the mount is made: would it be served? Lets a session that is ending go first. */
int verb_mount_prepare(struct request *q)
{
	struct mount_call c = {.q = q};
	int r = arg_volume(q, "volume", &c.o.volume);
	if (!r)
		r = hop_run(q->d->workers.r[0], prepare_co, &c, NULL, NULL);
	if (!r)
		r = session_refuse(q->d, c.o.volume, &q->e);
	if (r)
		return r;
	q->result = json_object_new_object();
	add_u64(q->result, "owner_uid", c.owner_uid);
	json_object_object_add(q->result, "read_only", json_object_new_boolean(c.o.read_only));
	return 0;
}

int verb_mount(struct request *q)
{
	struct mount_call c = {.q = q, .o = {.fd = q->fd, .mounter_uid = q->uid}};
	uint64_t uid = q->uid, gid = q->gid;
	int r = fd_check(q);
	if (!r)
		r = arg_volume(q, "volume", &c.o.volume);
	if (!r)
		r = arg_string(q, "mountpoint", ARG_REQUIRED, PATH_MAX - 1, &c.o.mountpoint);
	if (!r)
		r = arg_bool(q, "read_only", &c.o.read_only);
	if (!r)
		r = arg_bool(q, "no_writeback", &c.o.no_writeback);
	if (!r)
		r = arg_bool(q, "no_atime", &c.o.no_atime);
	if (!r)
		r = arg_bool(q, "strict_atime", &c.o.strict_atime);
	if (!r)
		r = arg_bool(q, "no_dir_atime", &c.o.no_dir_atime);
	if (!r)
		r = arg_u64(q, "self_uid", ARG_OPTIONAL, 0, UINT32_MAX - 1, &uid);
	if (!r)
		r = arg_u64(q, "self_gid", ARG_OPTIONAL, 0, UINT32_MAX - 1, &gid);
	if (!r)
		r = transport_parse(q, &c.o.transport);
	if (r)
		return r;
	c.o.self_uid = (uid_t)uid;
	c.o.self_gid = (gid_t)gid;
	r = hop_run(q->d->workers.r[0], mount_co, &c, NULL, NULL);
	if (!r)
		q->fd = -1;
	return r;
}

int verb_mount_list(struct request *q)
{
	q->result = sessions_to_json(q->d);
	return 0;
}
