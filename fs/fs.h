/* fs: a POSIX tree in a volume: inodes, names, data, xattrs. Knows nothing of FUSE.
 *
 * Every change is one vol_change, vol_write or vol_punch: atomic, and ordered in the volume's
 * history (law 4). Only a truncation that a crash cuts short may leave zeros before the old end.
 * All checks are made inside that step, so that requests on several threads can run at the same
 * time. Permissions are the kernel's to check (default_permissions); what it cannot know is checked
 * here: immutable and append-only inodes, and the inheritance of ACLs.
 *
 * References: the kernel's view of an inode is a "lookup count": fs_lookup, fs_make, fs_link and
 * fs_readdir(plus) add one, fs_forget takes them back. A file's space is kept while it is open
 * (fs_file), although it has no name any more: it is then an orphan, reaped when the last fs_file
 * closes, or after a crash at the next fs_open.
 *
 * Threads: all functions but fs_forget and fs_stats yield: call them in a coroutine (or with a
 * synchronous volume, in tests). Any reactor thread. Errors: negative errno as POSIX names it,
 * ERR_FORMAT for a damaged tree, and what vol_* returns.
 */
#ifndef TARN_FS_FS_H
#define TARN_FS_FS_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/statvfs.h>
#include <time.h>
#include "base/err.h"
#include "fs/fs_format.h"
#include "pool/vol.h"

struct fs;
struct fs_file;
struct reactor;

struct fs_options {
	uint32_t root_uid, root_gid; /* owner of the root directory when it is made now */
	uint8_t seed[16];	     /* randomness for a new tree's name hash */
	bool read_only;		     /* every change is refused with -EROFS */
	bool atime;		     /* reads set atime, by the relatime rule */
	bool atime_strict;	     /* and each read does */
	bool atime_no_dirs;	     /* but not reads of directories */
	bool keep_orphans;	     /* reap nothing that a crash left (repair) */
	struct reactor *bg;	     /* where the reaper runs; NULL: reap at once */
};

struct fs_attr {
	uint64_t ino;
	uint64_t generation;
	uint32_t mode, nlink, uid, gid;
	uint32_t flags; /* FS_INODE_* */
	uint64_t rdev;
	uint64_t size;	 /* bytes */
	uint64_t parent; /* directories */
	struct timespec atime, mtime, ctime, btime;
};

/* Open the tree in v, making it when v is empty (mode 0755 root). Starts the reaping of orphans
 * left by a crash. ERR_VERSION: made by a newer program. v stays the caller's. */
int fs_open(struct vol *v, const struct fs_options *o, struct fs **ret_fs, struct err *e);
/* Close the fs_files still open, stop the reaper, free. No call may be under way. Yields. */
void fs_close(struct fs *fs);

struct fs_stats {
	uint64_t nodes, opens, orphans;
};
void fs_stats_get(struct fs *fs, struct fs_stats *ret_s);

/* ---- names ---- */

/* Find name in directory; "." and ".." too. Adds a lookup reference. */
int fs_lookup(struct fs *fs, uint64_t dir, const char *name, struct fs_attr *ret_a);
void fs_forget(struct fs *fs, uint64_t ino, uint64_t count);

struct fs_make {
	uint32_t mode;	    /* with S_IFMT: any type */
	uint32_t umask;	    /* counts where the directory has no default ACL */
	uint32_t uid, gid;  /* gid and S_ISGID are inherited from a set-gid directory */
	uint64_t rdev;	    /* S_IFCHR, S_IFBLK */
	const char *target; /* S_IFLNK */
};
/* Make a new inode under name. Adds a lookup reference, and opens it when ret_f is not NULL.
 * -EEXIST. */
int fs_make(struct fs *fs, uint64_t dir, const char *name, const struct fs_make *m,
	    struct fs_attr *ret_a, struct fs_file **ret_f);
/* A file without a name (O_TMPFILE), open; fs_link can give it one. */
int fs_make_tmpfile(struct fs *fs, uint64_t dir, const struct fs_make *m, struct fs_attr *ret_a,
		    struct fs_file **ret_f);
int fs_link(struct fs *fs, uint64_t ino, uint64_t dir, const char *name, struct fs_attr *ret_a);
int fs_unlink(struct fs *fs, uint64_t dir, const char *name);
int fs_rmdir(struct fs *fs, uint64_t dir, const char *name);
/* flags: RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT (stdio.h). uid and gid own a whiteout.
 */
int fs_rename(struct fs *fs, uint64_t dir, const char *name, uint64_t to_dir, const char *to_name,
	      unsigned flags, uint32_t uid, uint32_t gid);
/* buf holds FS_TARGET_MAX + 1 bytes. */
int fs_readlink(struct fs *fs, uint64_t ino, char *buf);

struct fs_dirent {
	uint64_t ino, cookie; /* cookie: pass to go on behind this entry */
	uint8_t type;	      /* DT_* */
	uint8_t name_len;
	char name[FS_NAME_MAX + 1];
	struct fs_attr attr; /* plus only, not for "." and ".." */
};
/* Up to max entries behind cookie (0: from the start), "." and ".." first. Cookies stay right
 * while entries come and go, and over remounts. plus: attributes, and a lookup reference for each
 * entry but "." and "..". *ret_n 0: end. */
int fs_readdir(struct fs *fs, uint64_t dir, uint64_t cookie, bool plus, struct fs_dirent *ret_d,
	       unsigned max, unsigned *ret_n);

/* ---- inodes ---- */

int fs_getattr(struct fs *fs, uint64_t ino, struct fs_attr *ret_a);
/* 512-byte sectors for st_blocks: what is mapped, before compression. O(extents). brief: there are
 * many, and the file is being written: the answer should not be asked for, or believed, more often
 * or longer than FS_BLOCKS_SEC. */
int fs_blocks(struct fs *fs, const struct fs_attr *a, uint64_t *ret_sectors, bool *ret_brief);
#define FS_BLOCKS_SEC 1u
/* At a sync: has f a writer, and is it time that its blocks are asked for again? */
bool fs_file_blocks_due(struct fs_file *f);

enum fs_set {
	FS_SET_MODE = 1,
	FS_SET_UID = 2,
	FS_SET_GID = 4,
	FS_SET_SIZE = 8,
	FS_SET_ATIME = 16,
	FS_SET_MTIME = 32,
	FS_SET_CTIME = 64,
	FS_SET_ATIME_NOW = 128,
	FS_SET_MTIME_NOW = 256,
	FS_SET_KILL_PRIV = 512, /* clear set-uid, set-gid as a user's write does */
	FS_SET_FLAGS = 1024,
	FS_SET_KILL_SGID = 2048, /* as above, and set-gid although the group may not run it */
	FS_SET_KILL_CAPS = 4096, /* only file capabilities */
};
struct fs_setattr {
	unsigned set; /* FS_SET_* */
	uint32_t mode, uid, gid;
	uint32_t flags; /* FS_INODE_USER */
	uint64_t size;
	struct timespec atime, mtime, ctime;
};
/* A mode changes the access ACL as well. File capabilities (security.capability) go with a new
 * owner, a new size and FS_SET_KILL_PRIV. -EPERM: immutable or append-only. */
int fs_setattr(struct fs *fs, uint64_t ino, const struct fs_setattr *sa, struct fs_attr *ret_a);

int fs_statfs(struct fs *fs, struct statvfs *ret_st);

/* ---- data ---- */

/* Keeps the inode and its data. Directories may be opened too. */
int fs_file_open(struct fs *fs, uint64_t ino, struct fs_file **ret_f);
/* May it be opened with these O_* flags? -EPERM: immutable, or append-only and not O_APPEND. */
int fs_file_may_open(struct fs_file *f, int flags);
/* May the inode have file capabilities, which the next write must clear? */
bool fs_file_may_have_caps(struct fs_file *f);
void fs_file_close(struct fs_file *f);
uint64_t fs_file_ino(const struct fs_file *f);
/* f was opened with these O_* flags; O_DIRECT: it passes the cache above by (but its mappings do
 * not). Once, before its use. */
void fs_file_set_flags(struct fs_file *f, int flags);
/* Some open file of the same inode writes: the cache above may hold newer data. */
bool fs_file_has_writer(struct fs_file *f);
/* f passes the cache by, and other open files do not: data in the cache may lie behind our size. */
bool fs_file_may_be_longer(struct fs_file *f);
/* *ret_len < len at the end of the file. */
int fs_read(struct fs_file *f, uint64_t off, uint32_t len, void *buf, uint32_t *ret_len);
enum fs_write_flags {
	FS_WRITE_CACHED = 1,	/* from the kernel's writeback cache: it keeps the times */
	FS_WRITE_KILL_PRIV = 2, /* by an ordinary user: clear set-uid and set-gid */
	FS_WRITE_KILL_SGID = 4, /* by one who is not in its group: although it may not run it */
};
/* All or nothing; len <= VOL_WRITE_MAX. */
int fs_write(struct fs_file *f, uint64_t off, uint32_t len, const void *buf, unsigned flags);
/* copy_file_range: out gets [off_in, off_in + len) of in, up to its end, at off_out, sharing the
 * blocks where it can (vol_clone_range). in and out may be of two trees of one pool; ranges of one
 * file may not overlap: -EINVAL. *ret_len: how much; less than asked for at the end of in, or when
 * an error follows. */
int fs_clone_range(struct fs_file *in, uint64_t off_in, struct fs_file *out, uint64_t off_out,
		   uint64_t len, uint64_t *ret_len);
/* mode: FALLOC_FL_* : 0, KEEP_SIZE, PUNCH_HOLE|KEEP_SIZE, ZERO_RANGE[|KEEP_SIZE]; else -EOPNOTSUPP.
 */
int fs_fallocate(struct fs_file *f, int mode, uint64_t off, uint64_t len);
/* whence: SEEK_DATA or SEEK_HOLE. */
int fs_seek(struct fs_file *f, uint64_t off, int whence, uint64_t *ret_off);
int fs_sync(struct fs *fs);

/* ---- extended attributes; names with their namespace prefix ---- */

enum { FS_XATTR_KILL_SGID = 0x100 }; /* an access ACL: clear set-gid */

/* flags: XATTR_CREATE, XATTR_REPLACE, FS_XATTR_KILL_SGID. -ENODATA, -EEXIST, -E2BIG; -EPERM:
 * immutable or append-only; -EOPNOTSUPP: neither an ACL nor of the namespaces user, trusted,
 * security. An access ACL sets the mode, and is not kept when it says no more than that. */
int fs_xattr_set(struct fs *fs, uint64_t ino, const char *name, const void *value, size_t len,
		 int flags);
/* size 0: only *ret_len. -ERANGE, -ENODATA. */
int fs_xattr_get(struct fs *fs, uint64_t ino, const char *name, void *buf, size_t size,
		 size_t *ret_len);
/* Names, each ended by a zero. trusted: also those of the trusted namespace. */
int fs_xattr_list(struct fs *fs, uint64_t ino, bool trusted, char *buf, size_t size,
		  size_t *ret_len);
int fs_xattr_remove(struct fs *fs, uint64_t ino, const char *name);

#endif
