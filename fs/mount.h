/* mount: mount and unmount FUSE file systems from a tool, in the caller's mount namespace.
 *
 * Happy path as root: open /dev/fuse, mount(2) type "fuse.tarn". As an ordinary user: fusermount3
 * mounts and sends the descriptor over a socket pair. The descriptor then goes to tarnd
 * (SCM_RIGHTS), which serves it.
 *
 * Blocking calls; for tools, never on a reactor. Thread: any (fork/exec inside for fusermount3).
 */
#ifndef TARN_FS_MOUNT_H
#define TARN_FS_MOUNT_H
#include <stdbool.h>
#include <stddef.h>
#include "base/err.h"

/* What the options mean for the daemon. */
struct mount_options {
	bool read_only;
	bool no_writeback; /* -o nowriteback */
	bool trust_owner;  /* -o trust_owner: set-ids and devices of others than root count */
	bool no_atime, strict_atime, no_dir_atime;
	char transport[8];   /* -o transport=auto|dev|uring; "" when not given */
	unsigned long flags; /* MS_* */
	unsigned long asked; /* flags that were set or cleared in so many words */
	bool allow_other, allow_root;
	bool has_allow;	 /* user gave either */
	char extra[256]; /* handed to the kernel as they are (context=...) */
};

/* Parse a comma-separated option list as mount(8), fstab and `tarn mount -o` give it ("" or NULL:
 * none). x-*, comment=, _netdev, nofail, auto, noauto, user, users, owner, group and defaults are
 * accepted and ignored. -EINVAL and a text that names the option otherwise. */
int mount_options_parse(const char *text, struct mount_options *ret_o, struct err *e);

/* As if "ro" had been given last: what is mounted cannot be changed anyway. */
void mount_options_read_only(struct mount_options *o);

/* Mount at mountpoint, which must be a directory. images: an image directory, not a tree. source
 * "tank/home" is what /proc/mounts shows. *ret_fd is the descriptor for the daemon. Errors:
 * -ENOENT, -ENOTDIR, -EBUSY (dead mount there; run mount_umount), -EPERM, -EIO (fusermount3
 * failed; its message is in e). */
int mount_fuse(const char *mountpoint, const struct mount_options *o, bool images,
	       const char *source, int *ret_fd, struct err *e);

/* Unmount. -EBUSY with a text when in use, unless force: then detached at once (lazy). A dead
 * mount is always cleaned. -EINVAL: nothing of ours is mounted there. */
int mount_umount(const char *mountpoint, bool force, struct err *e);

/* Is there a mount of type fuse.tarn at mountpoint? 1: yes, alive; 2: yes, dead; 0: no; -errno.
 * source (may be NULL) gets what /proc/self/mountinfo names. Never blocks on a hung server: looks
 * at mountinfo first and uses statfs only with AT_NO_AUTOMOUNT semantics. */
int mount_probe(const char *mountpoint, char *ret_source, size_t size);

/* Mount points of type fuse.tarn in this namespace whose source starts with prefix ("tank/" or
 * ""); cb for each. */
typedef void mount_list_fn(void *arg, const char *mountpoint, const char *source);
int mount_list(const char *prefix, mount_list_fn *cb, void *arg);

#endif
