/* err: Tarn's private error codes and the text an operator reads.
 *
 * Functions return 0 or a negative code. A code is either a negative errno (failures the
 * kernel reported, or that mean exactly what errno says: -ENOENT, -ENOSPC, -EIO, ...) or one of the
 * private codes below, which become an errno only at the edge (FUSE, CLI, protocol): err_errno().
 *
 * Administrative paths also carry a `struct err`: the place that fails calls err_set(), each caller
 * wraps outward with err_wrap(), so that the text reads
 *   "import pool tank: read superblock of /dev/sdb: checksum mismatch".
 * Request paths pass codes only.
 *
 * Threads: plain data, owned by the caller. Cost: formatting only when something failed.
 */
#ifndef TARN_BASE_ERR_H
#define TARN_BASE_ERR_H
#include <errno.h>

enum err_code {
	ERR_BASE = -4096,
	ERR_NEED_NODE, /* tree code met a node that is not cached; read it and start again */
	ERR_CSUM,      /* checksum mismatch */
	ERR_MAGIC,     /* not the kind of block expected */
	ERR_ADDR,      /* block carries another address: misdirected */
	ERR_STALE,     /* block is older than its parent says: lost write */
	ERR_POOL_ID,   /* block belongs to another pool */
	ERR_VERSION,   /* format version or an incompatible feature is not known here */
	ERR_FORMAT,    /* structure out of bounds or inconsistent */
	ERR_DEV_GONE,  /* no usable member left */
	ERR_FAULTED,   /* pool suspended after unrecoverable I/O error */
	ERR_IN_USE,    /* device, pool or volume in use */
	ERR_FOREIGN,   /* device carries somebody's data */
	ERR_NO_QUORUM, /* not enough devices to witness the newest state */
	ERR_READONLY,  /* pool opened read-only */
	ERR_LAST,
};

struct err {
	int code; /* 0 when nothing was set */
	char text[1024];
};

/* Set code and text; returns code. A NULL e is allowed and only returns the code. */
int err_set(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Prefix the text with "fmt: "; returns e->code (0 stays 0). */
int err_wrap(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Short text for any code, private or errno. Never NULL. */
const char *err_str(int code);
/* The positive errno to hand to the kernel or a user for any code. */
int err_errno(int code);

#endif
