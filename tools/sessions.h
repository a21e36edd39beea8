/* sessions: what is mounted from a daemon's pool: at most one tree per volume, and one images
 * folder.
 *
 * Life of an entry:
 *   session_start: inserted (reserves the source) -> serve_*_start in a coroutine -> served
 *   ended (any time after the insert): removed, freed, `changed` is signalled
 * Invariant: while d->mutex is held and an entry has `s`, ended() has not run to its end, so
 * serve_info_get and serve_abort may be called.
 */
#ifndef TARN_TOOLS_SESSIONS_H
#define TARN_TOOLS_SESSIONS_H
#include <json-c/json.h>
#include "tools/daemon.h"

struct session_options {
	const char *volume; /* NULL: images */
	const char *mountpoint;
	int fd; /* mounted /dev/fuse; taken over when it succeeds */
	enum serve_transport transport;
	bool read_only, no_writeback;
	bool held;				   /* not a mount: session_hold() */
	bool no_atime, strict_atime, no_dir_atime; /* as of struct serve_options */
	uid_t mounter_uid;
	uid_t self_uid; /* the mounter's numbers in the mount's own user namespace */
	gid_t self_gid;
};

/* Serve a mount that was just made. Yields. ERR_IN_USE: this volume is mounted already. */
int session_start(struct daemon *d, const struct session_options *o, struct err *e);

/* Keep a volume from being mounted, and the pool from being exported, for `what` ("a repair"),
 * until let go (NULL is fine). ERR_IN_USE. Any thread. */
struct session;
int session_hold(struct daemon *d, const char *volume, const char *what, struct session **ret_x,
		 struct err *e);
void session_let_go(struct session *x);

/* Array of {source, mountpoint, images, state, transport, uid, open_files, requests...}. Any
 * thread. */
struct json_object *sessions_to_json(struct daemon *d);

/* Who holds the pool: "tank/home on /mnt/home, ..." (images count only with open files). Number of
 * holders. Waits a moment for sessions whose mount is gone already to end. Blocking. */
unsigned sessions_busy(struct daemon *d, char *ret_text, size_t size);

/* A volume's mount as "on /mnt/home", or false. Waits like sessions_busy. */
bool session_of_volume(struct daemon *d, const char *volume, char *ret_text, size_t size);

/* ERR_IN_USE with a text when the volume has a session that does not end. Blocking. */
int session_refuse(struct daemon *d, const char *volume, struct err *e);

/* Mount the images folder and serve it. Blocking. */
int sessions_mount_images(struct daemon *d, struct err *e);

/* Unmount everything of this pool in this namespace and wait for the sessions to end. force: what
 * is in use is written back, then cut off. Not force: only images, ERR_IN_USE when somebody uses
 * them. Blocking. */
int sessions_unmount(struct daemon *d, bool force, struct err *e);

/* Unmount dead mounts that an earlier life of this daemon left in this namespace. Blocking. */
void sessions_clean_dead(const char *pool);

#endif
