#include "tools/mount_volume.h"
#include <errno.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "fs/mount.h"
#include "tools/command.h"
#include "tools/ctl_client.h"
#include "tools/names.h"

#define LEAVE_MS 60000

/* Before anything is mounted: would the daemon serve it, and can it be changed? What another owner
 * may have put there as root of a user namespace of his is not to count here: no set-ids and device
 * nodes, unless they are asked for. */
static int prepare(int sock, const struct volume_ref *ref, struct mount_options *mo, struct err *e)
{
	struct json_object *args = json_object_new_object(), *o = NULL;
	json_object_object_add(args, "volume", json_object_new_string(ref->volume));
	int r = ctl_call(sock, "mount.prepare", args, -1, NULL, NULL, &o, e);
	if (!r && !mo->trust_owner && get_u64(o, "owner_uid"))
		mo->flags |= (MS_NOSUID | MS_NODEV) & ~mo->asked;
	if (!r && get_bool(o, "read_only"))
		mount_options_read_only(mo);
	json_object_put(o);
	return r;
}

static int hand_over(int sock, const struct volume_ref *ref, const char *dir, int fd,
		     const struct mount_options *mo, struct err *e)
{
	struct json_object *args = json_object_new_object();
	json_object_object_add(args, "volume", json_object_new_string(ref->volume));
	json_object_object_add(args, "mountpoint", json_object_new_string(dir));
	json_object_object_add(args, "read_only", json_object_new_boolean(mo->read_only));
	json_object_object_add(args, "no_writeback", json_object_new_boolean(mo->no_writeback));
	json_object_object_add(args, "no_atime", json_object_new_boolean(mo->no_atime));
	json_object_object_add(args, "strict_atime", json_object_new_boolean(mo->strict_atime));
	json_object_object_add(args, "no_dir_atime", json_object_new_boolean(mo->no_dir_atime));
	/* who we are where this mount is: root in a user namespace */
	json_object_object_add(args, "self_uid", json_object_new_int64(geteuid()));
	json_object_object_add(args, "self_gid", json_object_new_int64(getegid()));
	if (*mo->transport)
		json_object_object_add(args, "transport", json_object_new_string(mo->transport));
	return ctl_call(sock, "mount", args, fd, NULL, NULL, NULL, e);
}

int mount_volume(const char *source, const char *dir, const char *options, struct err *e)
{
	struct volume_ref ref;
	struct mount_options mo;
	char full[PATH_MAX];
	int sock, fd;
	int r = volume_ref_parse(source, &ref, e);
	if (!r)
		r = mount_options_parse(options, &mo, e);
	if (r)
		return r;
	if (mount_probe(dir, NULL, 0) == 2)
		mount_umount(dir, true, NULL); /* left by a killed daemon */
	if (!realpath(dir, full))
		return err_set(e, -errno, "%s: %s", dir, strerror(errno));
	r = ctl_connect(ref.pool, &sock, e);
	if (r)
		return r;
	r = prepare(sock, &ref, &mo, e);
	if (!r)
		r = mount_fuse(full, &mo, false, source, &fd, e);
	if (!r) {
		r = hand_over(sock, &ref, full, fd, &mo, e);
		close(fd);
		if (r)
			mount_umount(full, true, NULL);
	}
	close(sock);
	return r;
}

/* Does the daemon still serve this source on this directory? */
static bool still_served(const char *pool, const char *source, const char *dir)
{
	struct json_object *list = NULL;
	bool found = false;
	if (ctl_ask(pool, "mount.list", NULL, &list, NULL))
		return false;
	for (size_t i = 0; !found && i < json_object_array_length(list); i++) {
		struct json_object *m = json_object_array_get_idx(list, i);
		found = !strcmp(get_string(m, "source"), source) &&
			!strcmp(get_string(m, "mountpoint"), dir);
	}
	json_object_put(list);
	return found;
}

int umount_volume(const char *dir, bool force, struct err *e)
{
	char source[POOL_NAME_MAX + VOL_NAME_MAX + 2] = "", full[PATH_MAX];
	struct volume_ref ref;
	struct stat st;
	if (lstat(dir, &st) && errno == ENOENT)
		return err_set(e, -ENOENT, "%s does not exist", dir);
	int kind = mount_probe(dir, source, sizeof(source));
	if (!realpath(dir, full)) /* fails on a dead mount: take it as it is */
		strncpy(full, dir, sizeof(full) - 1)[sizeof(full) - 1] = 0;
	int r = mount_umount(kind == 2 ? dir : full, force, e);
	if (r || kind != 1 || volume_ref_parse(source, &ref, NULL))
		return r;
	for (int ms = 0; ms < LEAVE_MS && still_served(ref.pool, source, full); ms += 20) {
		if (force && ms > 1000)
			break; /* detached: users may keep it as long as they like */
		usleep(20000);
	}
	return 0;
}
