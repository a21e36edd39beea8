/* fuse_session: serves one mounted FUSE file system: a volume's POSIX tree, or a pool's images.
 *
 * The names begin with serve_ because libfuse owns fuse_session_*. Owns the /dev/fuse descriptor
 * it is given and one clone of it per worker reactor; libfuse's low-level session decodes
 * requests and encodes replies; each request runs as a coroutine on the reactor that read it (law
 * 6).
 *
 * States:   STARTING --INIT--> RUNNING --unmounted, abort or serve_abort()--> ENDING --> (freed)
 *           STARTING --unmounted or abort before INIT--> ENDING
 *
 * Happy path: the mount helper mounts and hands the descriptor over (fs/mount.h) ->
 * serve_tree_start / serve_images_start -> the kernel sends INIT, requests -> umount(8) anywhere:
 * the kernel has written back everything, the descriptor reports ENODEV -> workers stop, requests
 * in flight end, the volume is synced and closed -> ended() -> memory is freed.
 *
 * Failure modes: a killed daemon leaves a dead mount ("Transport endpoint is not connected"):
 * mount_umount() cleans it. Orphans (unlinked while open) are reaped at the next serve_tree_start.
 *
 * Threads: the functions that say "yields" run in a coroutine on any reactor; serve_info_get and
 * serve_abort from any thread, until ended() was called.
 */
#ifndef TARN_FS_FUSE_SESSION_H
#define TARN_FS_FUSE_SESSION_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"
#include "base/reactor.h"
#include "pool/vol.h"

struct serve;

enum serve_transport { SERVE_AUTO, SERVE_DEV, SERVE_URING };
enum serve_state { SERVE_STARTING = 1, SERVE_RUNNING, SERVE_ENDING };

/* Why a session ended. */
enum serve_end {
	SERVE_END_UNMOUNTED = 1, /* clean: the file system was unmounted */
	SERVE_END_ABORTED,	 /* serve_abort(), or the connection was aborted through sysfs */
	SERVE_END_FAILED,	 /* an error on the descriptor; code says which */
};

/* Called once, in a coroutine on one of the session's reactors (so it may yield), when all requests
 * are finished, descriptors and volume are closed. s must not be used after it returned. */
typedef void serve_ended_fn(struct serve *s, enum serve_end why, int code, void *arg);

struct serve_options {
	int fd;				 /* mounted /dev/fuse; taken over when start succeeds */
	const char *source;		 /* copied: "tank/home"; for listings */
	const char *mountpoint;		 /* copied; as the mounter sees it; for listings */
	struct reactor *const *reactors; /* copied: worker threads, running or about to */
	unsigned reactor_count;		 /* 1..SERVE_WORKERS_MAX */
	enum serve_transport transport;	 /* SERVE_AUTO is right */
	bool read_only;			 /* refuse every change (the mount is "ro" as well) */
	bool no_writeback;		 /* trees: no kernel writeback cache */
	bool no_atime;			 /* trees: reads never set atime (else relatime) */
	bool strict_atime;		 /* trees: each read that reaches the daemon does */
	bool no_dir_atime;		 /* trees: reads of directories never do */
	uid_t root_uid; /* trees: owner of the root directory when it is made now */
	gid_t root_gid;
	uid_t mounter_uid; /* who mounted: for listings and permission to unmount */
	serve_ended_fn *ended;
	void *arg;
};
#define SERVE_WORKERS_MAX 64

struct serve_info { /* a copy */
	char source[128];
	char mountpoint[4096];
	bool images;
	bool read_only;
	enum serve_state state;
	const char *transport; /* "dev" or "uring" */
	uid_t mounter_uid;
	uint64_t open_files;	  /* open files and directories: >0 means busy */
	uint64_t requests_active; /* being served now */
	uint64_t requests_total;
	uint64_t nodes;	  /* inodes the kernel knows */
	uint64_t orphans; /* trees: files deleted and not yet reaped */
};

/* Serve volume v (type fs) at o->fd. The first start of a volume makes its root directory; starts
 * the reaping of orphans left by a crash in background. At most one session per volume: the
 * caller sees to it (the kernel's caches of two mounts would not agree; use bind mounts). On
 * success the caller's reference to v is taken over and dropped (vol_sync, vol_close) before
 * ended(). Yields. Errors: ERR_FORMAT, ERR_VERSION (tree not known here), -ENOMEM, what vol_*
 * gives; then fd and v stay the caller's. */
int serve_tree_start(struct vol *v, const struct serve_options *o, struct serve **ret_s,
		     struct err *e);

/* Serve a flat directory with one file per block volume of p. Yields. */
int serve_images_start(struct pool *p, const struct serve_options *o, struct serve **ret_s,
		       struct err *e);

void serve_info_get(struct serve *s, struct serve_info *ret_i);

/* Cut the connection: users get ENOTCONN from now on, what they have not flushed is lost (the
 * behaviour of --force), requests in flight run to their end without being answered; ended()
 * comes as usual. Returns at once. The mount point stays until mount_umount(). */
void serve_abort(struct serve *s);
/* Was the kernel's INIT answered? Any thread, until ended() was called. */
bool serve_running(struct serve *s);

#endif
