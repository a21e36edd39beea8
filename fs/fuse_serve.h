/* fuse_serve: what the parts of a session share: the session, its workers, a request, a transport.
 *
 *   fuse_dev.c, fuse_uring.c --bytes--> fuse_request.c --libfuse decodes--> fuse_ops.c | images.c
 *        ^                                                                      |
 *        +------ reply(rq, iov) <--- fuse_request.c <--- libfuse encodes -------+
 *
 * One worker per reactor; everything of a worker belongs to its thread. A request is read, run
 * (as a coroutine that may yield) and answered on the same worker.
 */
#ifndef TARN_FS_FUSE_SERVE_H
#define TARN_FS_FUSE_SERVE_H
#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <stdatomic.h>
#include <sys/uio.h>
#include "base/co.h"
#include "base/lock.h"
#include "fs/fuse_session.h"

#define SERVE_WRITE_MAX	 (1u << 20) /* payload of one request */
#define SERVE_COPY_MAX	 (1u << 30) /* of one copy_file_range */
#define SERVE_IN_BYTES	 80u	    /* fuse_in_header + fuse_write_in */
#define SERVE_RQ_BYTES	 (4096u + SERVE_WRITE_MAX + 4096u)
#define SERVE_ACTIVE_MAX 1024u /* requests of one worker being served at a time */
#define SERVE_HASH	 256u

struct serve_worker;
struct fs;
struct images;

/* One request. Its memory is one mapping, touched only as far as used:
 *   map ... | in header, op header | payload, page-aligned: input of WRITE, output of others
 */
struct fuse_rq {
	struct serve_worker *w;
	uint8_t *map;
	struct fuse_in_header *in;
	uint8_t *payload;      /* SERVE_WRITE_MAX + 4096 bytes */
	size_t len;	       /* bytes from `in` on */
	uint32_t opcode;       /* as the kernel sent it: libfuse may have been told another */
	uint32_t xattr_flags;  /* SETXATTR: FUSE_SETXATTR_* */
	struct fuse_rq *next;  /* in the worker's hash of active ones or free list */
	struct uring_ent *ent; /* it came through the ring, in memory of this entry */
	struct serve_places *places;
};

/* Of the requests that share the places of one queue of the kernel, those that wait for others. */
struct serve_places {
	_Atomic unsigned held;
	unsigned most; /* the others need the rest */
};

struct serve_transport_ops {
	const char *name;
	/* Begin to fetch requests for w and hand each to serve_request(). In a coroutine of w's
	 * reactor. */
	int (*start)(struct serve_worker *w);
	/* No serve_request() after it returned. Same coroutine; may yield. */
	void (*stop)(struct serve_worker *w);
	/* Send what libfuse encoded: iov[0] is the fuse_out_header. Bytes or a negative errno. */
	ssize_t (*reply)(struct serve_worker *w, struct fuse_rq *rq, const struct iovec *iov,
			 int n);
	/* rq's coroutine has ended: its memory is the transport's again. */
	void (*done)(struct fuse_rq *rq);
	/* Fewer than SERVE_ACTIVE_MAX again. */
	void (*resume)(struct serve_worker *w);
	/* dev only: w is parked and wanted: fetch too; or polls and is not: park. In a coroutine of
	 * its reactor. */
	void (*help)(struct serve_worker *w);
};
extern const struct serve_transport_ops serve_dev_ops;
extern const struct serve_transport_ops serve_uring_ops;

struct serve_worker {
	struct serve *s;
	struct reactor *reactor;
	unsigned index;
	int fd; /* a clone of the device, only read and written here */
	struct reactor_poll *poll;
	bool paused;  /* transport waits for resume() */
	bool company; /* the last turn found more than one request */
	unsigned lone_turns;
	int lean;			       /* towards one worker (> 0) or more */
	_Atomic bool parked, wanted, unwanted; /* does not poll; shall poll; shall park */
	unsigned active;
	struct uring_queue *queues;	  /* of the transport uring */
	unsigned armed;			  /* entries of them that are the kernel's */
	bool registered;		  /* queues were offered to the kernel */
	struct fuse_rq *hash[SERVE_HASH]; /* active requests by unique */
	struct fuse_rq *free;
	unsigned free_count;
	_Atomic uint64_t requests_total, requests_active;
};

struct serve {
	struct fuse_session *se;
	const struct serve_transport_ops *transport;
	char *source, *mountpoint;
	serve_ended_fn *ended;
	void *arg;
	bool read_only, no_writeback;
	uid_t mounter_uid;
	struct fs *fs; /* a tree, or: */
	struct images *images;
	struct vol *vol;      /* of the tree */
	_Atomic bool running; /* INIT was answered */
	_Atomic bool ending;
	/* guarded by lock */
	struct lock lock;
	struct waitq wait; /* start, end and idle: few waiters, all woken */
	enum serve_end why;
	int code;
	bool go; /* start decided: workers may serve, or give up */
	unsigned workers_started, workers_left;
	int start_error;
	uint32_t init_flags; /* of the kernel's INIT request */
	uint32_t init_flags2;
	bool writeback, setxattr_ext; /* agreed on */
	bool uring_agreed;	      /* in INIT: workers register their queues */
	_Atomic bool uring_failed;    /* the kernel refused a queue and stays with /dev/fuse */
	int abort_fd;		      /* of the connection in fusectl, or why there is none */
	unsigned write_backs;	      /* under way; guarded by lock */
	struct waitq write_back_wait; /* for one's turn */
	struct serve_places places;   /* of requests through /dev/fuse */
	unsigned worker_count;
	unsigned leader; /* the worker that always polls */
	struct serve_worker worker[];
};

/* ---- fuse_request.c ---- */
/* A request with room for the transport to fill in; NULL: out of memory. */
struct fuse_rq *serve_rq_get(struct serve_worker *w);
void serve_rq_put(struct fuse_rq *rq);
void serve_rq_free_all(struct serve_worker *w);
/* rq->len bytes were filled in: run it as a coroutine. From an event callback of the worker's
 * reactor. */
void serve_request(struct fuse_rq *rq);
/* The request whose handler was just entered; ask before the first yield. */
struct fuse_rq *serve_rq_current(void);
extern const struct fuse_custom_io serve_custom_io;
/* Tell the kernel to forget the attributes of ino. Any thread. */
void serve_inval_attr(struct serve *s, uint64_t ino);
/* For rq: have the kernel write the dirty pages of ino back to us, now; a few at a time, others
 * wait their turn. Yields. -EBUSY: so many ask that they could take all the places in a queue of
 * the kernel, and what it writes got none. */
int serve_write_back(struct fuse_rq *rq, uint64_t ino);
#define SERVE_WRITE_BACKS_MAX 8u

/* ---- fuse_decode.c ---- */
#define SERVE_STATX 52u /* FUSE_STATX, which older headers lack */
/* Make a request that libfuse 3.14 does not know look like one that it knows. Remembers in rq what
 * it was. */
void serve_decode(struct fuse_rq *rq);

/* ---- fuse_caller.c ---- */
struct serve_caller {
	uint32_t uid;	/* the file system's; UINT32_MAX: not known */
	bool in_group;	/* is a member of the group asked for */
	bool sys_admin; /* CAP_SYS_ADMIN and so on, in this daemon's user namespace */
	bool fowner, fsetid;
};
/* The thread that made the request, while it waits for us. */
struct serve_caller serve_caller_get(fuse_req_t req, gid_t gid);

/* ---- fuse_uring.c ---- */
/* Make ready to offer the ring to the kernel. Errors say what is missing. */
int serve_uring_prepare(struct serve *s, struct err *e);
/* INIT was answered so: workers begin. */
void serve_uring_agreed(struct serve *s);
/* After that: register w's queues. In a coroutine of w's reactor. */
void serve_uring_register(struct serve_worker *w);
void serve_uring_free(struct serve *s);

/* ---- fuse_abort.c ---- */
/* A descriptor that aborts the connection mounted at mountpoint with the device fd when written to,
 * or -errno. */
int serve_abort_open(int fd, const char *mountpoint);
/* Abort the connection, if there is a way and it is still there. */
void serve_abort_now(struct serve *s);

/* ---- fuse_session.c ---- */
/* First call wins; any thread. */
void serve_end(struct serve *s, enum serve_end why, int code);

/* ---- fuse_ops.c, fuse_readdir.c, fuse_xattr.c, fuse_ioctl.c, images.c ---- */
extern const struct fuse_lowlevel_ops serve_tree_ops;
void serve_tree_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
			struct fuse_file_info *fi);
void serve_tree_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
			    struct fuse_file_info *fi);
void serve_tree_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
			 size_t size, int flags);
void serve_tree_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void serve_tree_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);
void serve_tree_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);
void serve_tree_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned cmd, void *arg,
		      struct fuse_file_info *fi, unsigned flags, const void *in, size_t in_size,
		      size_t out_size);
extern const struct fuse_lowlevel_ops serve_images_ops;
int images_create(struct pool *p, struct serve *s, struct images **ret_i);
/* Close what is still open. Yields. */
void images_stop(struct images *i);
void images_destroy(struct images *i);
uint64_t images_open_count(struct images *i);

#endif
