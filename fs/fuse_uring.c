/* The transport that takes requests from the kernel through io_uring (Linux 6.14).
 *
 * The kernel has one queue per possible CPU and puts a request into the queue of the CPU it was
 * made on. A worker serves the queues q with q % workers == its index, on its reactor's ring, the
 * one that the disks use as well, and stays on these CPUs. A queue has `depth` entries: memory for
 * one request and one command that circulates:
 *
 *   REGISTER -> (kernel holds it) -> completion: a request lies in the entry -> coroutine
 *            -> COMMIT_AND_FETCH with the reply in the same memory -> (kernel holds it) -> ...
 *
 * An entry's memory. The kernel knows two pieces of it, headers and payload; what libfuse decodes
 * must be in one piece, so the two headers, at most 168 bytes, are copied to where the payload
 * begins. Neither the data of a write nor that of a read into the payload is copied.
 *   map: headers (288 bytes) ... | in header, op header | payload, page-aligned
 *
 * INIT, FORGET and INTERRUPT come from /dev/fuse, and everything does until all queues of all CPUs
 * are registered; so fuse_dev.c runs along. If the kernel refuses a queue, it stays that way.
 *
 * The end: unmounting or an abort makes the kernel complete every command with an error. If we end
 * by ourselves, the connection is aborted before stop(): only that, or the end of the ring, gets
 * commands back. No entry is freed, and no worker ends, before all of its commands came back.
 */
#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "fs/fuse_serve.h"

/* ---- the kernel's interface, absent from older headers (include/uapi/linux/fuse.h) ---- */

enum { CMD_REGISTER = 1, CMD_COMMIT_AND_FETCH = 2 };

struct ent_headers {
	union {
		struct fuse_in_header in;
		struct fuse_out_header out;
		uint8_t in_out[128];
	};
	uint8_t op[128];
	uint64_t flags;
	uint64_t commit_id;
	uint32_t payload_bytes;
	uint32_t padding;
	uint64_t reserved;
};
_Static_assert(sizeof(struct ent_headers) == 288, "the kernel's layout");

struct cmd_area {
	uint64_t flags;
	uint64_t commit_id;
	uint16_t queue;
	uint8_t padding[6];
};
_Static_assert(sizeof(struct cmd_area) == sizeof(((struct reactor_cmd *)0)->area), "fits");

/* ---- */

#define QUEUES_MAX     4096u
#define DEPTH_MAX      32u
#define DEPTH_MIN      16u
#define ENTRIES_WANTED 512u /* of all queues together */
#define FOR_WRITES     4u   /* that requests which wait for a write-back leave it */
_Static_assert(DEPTH_MIN - FOR_WRITES >= SERVE_WRITE_BACKS_MAX, "else none but them may ask");
#define PARAM "/sys/module/fuse/parameters/enable_uring"

struct uring_ent {
	struct fuse_rq rq;
	struct uring_queue *q;
	struct reactor_io io;
	struct reactor_cmd cmd;
	struct iovec iov[2];
	bool replied;
};

struct uring_queue {
	struct uring_queue *next; /* of the same worker */
	uint8_t *map;
	uint16_t number;
	unsigned depth;
	struct serve_places places;
	struct uring_ent ent[];
};

static struct ent_headers *ent_headers(struct uring_ent *e)
{
	return (struct ent_headers *)(void *)e->rq.map;
}

static void ent_submit(struct uring_ent *e, uint32_t op)
{
	struct serve_worker *w = e->rq.w;
	struct cmd_area a = {.commit_id = ent_headers(e)->commit_id, .queue = e->q->number};

	if (op == CMD_REGISTER)
		a.commit_id = 0;
	memcpy(e->cmd.area, &a, sizeof(a));
	e->cmd.op = op;
	w->armed++;
	reactor_io_submit(w->reactor, &e->io);
}

/* The entry is not the kernel's any more, and will not be again. */
static void ent_retire(struct uring_ent *e)
{
	struct serve *s = e->rq.w->s;

	if (!atomic_load(&s->ending) || e->rq.w->armed)
		return;
	lock_take(&s->lock);
	waitq_wake_all(&s->wait);
	lock_drop(&s->lock);
}

/* Not told apart here: unmounted, aborted, refused. The first two are seen on /dev/fuse, too. */
static void ent_failed(struct uring_ent *e, int code)
{
	struct serve *s = e->rq.w->s;

	if (e->cmd.op == CMD_REGISTER) {
		atomic_store(&s->uring_failed, true);
	} else if (code == -ENOMEM && !atomic_load(&s->ending)) {
		ent_submit(e, e->cmd.op); /* the reply did not reach the kernel */
		return;
	} else if (code != -ENOTCONN && code != -ECONNABORTED && code != -ENODEV &&
		   code != -ENOENT && code != -ECANCELED) {
		serve_end(s, SERVE_END_FAILED, code);
	}
	ent_retire(e);
}

/* Put the request into one piece; false: it is none. */
static bool ent_assemble(struct uring_ent *e)
{
	const struct ent_headers *h = ent_headers(e);
	size_t op_bytes = (size_t)h->in.len - sizeof(h->in) - h->payload_bytes;
	uint8_t *at = e->rq.payload - op_bytes;

	if (h->in.len < sizeof(h->in) || h->payload_bytes > h->in.len - sizeof(h->in) ||
	    h->payload_bytes > SERVE_WRITE_MAX || op_bytes > sizeof(h->op))
		return false;
	memcpy(at, h->op, op_bytes);
	at -= sizeof(h->in);
	memcpy(at, &h->in, sizeof(h->in));
	e->rq.in = (struct fuse_in_header *)(void *)at;
	e->rq.len = h->in.len;
	return true;
}

static void ent_done(struct reactor_io *io)
{
	struct uring_ent *e = (void *)((char *)io - offsetof(struct uring_ent, io));
	struct serve *s = e->rq.w->s;

	e->rq.w->armed--;
	if (io->res < 0) {
		ent_failed(e, io->res);
	} else if (atomic_load_explicit(&s->ending, memory_order_relaxed)) {
		ent_retire(e);
	} else if (ent_assemble(e)) {
		e->replied = false;
		serve_request(&e->rq);
	} else {
		serve_end(s, SERVE_END_FAILED, -EIO);
		ent_retire(e);
	}
}

static ssize_t uring_reply(struct serve_worker *w, struct fuse_rq *rq, const struct iovec *iov,
			   int n)
{
	struct ent_headers *h;
	size_t bytes = 0, at;

	if (!rq->ent)
		return serve_dev_ops.reply(w, rq, iov, n);
	for (int i = 1; i < n; i++)
		bytes += iov[i].iov_len;
	if (bytes > SERVE_WRITE_MAX || iov[0].iov_len != sizeof(h->out))
		return -EINVAL;
	/* from the end: what lies in the payload already only moves up */
	at = bytes;
	for (int i = n - 1; i > 0; i--) {
		at -= iov[i].iov_len;
		if (iov[i].iov_len && iov[i].iov_base != rq->payload + at)
			memmove(rq->payload + at, iov[i].iov_base, iov[i].iov_len);
	}
	h = ent_headers(rq->ent);
	memcpy(&h->out, iov[0].iov_base, sizeof(h->out));
	h->payload_bytes = (uint32_t)bytes;
	rq->ent->replied = true;
	return (ssize_t)(sizeof(h->out) + bytes);
}

/* Only now, for the kernel overwrites the entry with the next request. */
static void uring_done(struct fuse_rq *rq)
{
	struct uring_ent *e = rq->ent;
	struct ent_headers *h;

	if (!e) {
		serve_rq_put(rq);
		return;
	}
	if (atomic_load_explicit(&rq->w->s->ending, memory_order_relaxed)) {
		ent_retire(e);
		return;
	}
	if (!e->replied) { /* what needs no reply does not come this way; do not lose the entry */
		h = ent_headers(e);
		h->out = (struct fuse_out_header){sizeof(h->out), -EIO, h->commit_id};
		h->payload_bytes = 0;
	}
	ent_submit(e, CMD_COMMIT_AND_FETCH);
}

static int uring_start(struct serve_worker *w)
{
	return serve_dev_ops.start(w);
}

static void uring_resume(struct serve_worker *w)
{
	serve_dev_ops.resume(w);
}

static void uring_stop(struct serve_worker *w)
{
	struct serve *s = w->s;

	serve_dev_ops.stop(w);
	lock_take(&s->lock);
	while (w->armed)
		waitq_wait(&s->wait, &s->lock);
	lock_drop(&s->lock);
}

const struct serve_transport_ops serve_uring_ops = {
	.name = "uring",
	.start = uring_start,
	.stop = uring_stop,
	.reply = uring_reply,
	.done = uring_done,
	.resume = uring_resume,
};

/* ---- queues ---- */

void serve_uring_register(struct serve_worker *w)
{
	w->registered = true;
	for (struct uring_queue *q = w->queues; q; q = q->next)
		for (unsigned i = 0; i < q->depth; i++) {
			q->ent[i].io.fd = w->fd;
			ent_submit(&q->ent[i], CMD_REGISTER);
		}
}

void serve_uring_agreed(struct serve *s)
{
	lock_take(&s->lock);
	s->uring_agreed = true;
	waitq_wake_all(&s->wait);
	lock_drop(&s->lock);
}

static void ent_init(struct uring_ent *e, struct uring_queue *q, struct serve_worker *w,
		     uint8_t *map)
{
	e->q = q;
	e->rq.ent = e;
	e->rq.places = &q->places;
	e->rq.w = w;
	e->rq.map = map;
	e->rq.payload = map + 4096;
	e->iov[0] = (struct iovec){map, sizeof(struct ent_headers)};
	e->iov[1] = (struct iovec){e->rq.payload, SERVE_WRITE_MAX};
	e->io = (struct reactor_io){
		.op = REACTOR_IO_CMD, .iov = e->iov, .iovcnt = 2, .cmd = &e->cmd, .done = ent_done};
}

static int queue_create(struct serve_worker *w, uint16_t number, unsigned depth)
{
	struct uring_queue *q = calloc(1, sizeof(*q) + depth * sizeof(q->ent[0]));

	if (!q)
		return -ENOMEM;
	q->map = mmap(NULL, depth * (size_t)SERVE_RQ_BYTES, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (q->map == MAP_FAILED) {
		free(q);
		return -ENOMEM;
	}
	q->number = number;
	q->depth = depth;
	q->places.most = depth - FOR_WRITES;
	for (unsigned i = 0; i < depth; i++)
		ent_init(&q->ent[i], q, w, q->map + i * (size_t)SERVE_RQ_BYTES);
	q->next = w->queues;
	w->queues = q;
	return 0;
}

void serve_uring_free(struct serve *s)
{
	for (unsigned i = 0; i < s->worker_count; i++) {
		struct serve_worker *w = &s->worker[i];

		assert(!w->armed);
		while (w->queues) {
			struct uring_queue *q = w->queues;

			w->queues = q->next;
			munmap(q->map, q->depth * (size_t)SERVE_RQ_BYTES);
			free(q);
		}
	}
}

static int queues_create(struct serve *s, unsigned count)
{
	unsigned depth = ENTRIES_WANTED / count;
	int r = 0;

	depth = depth > DEPTH_MAX ? DEPTH_MAX : depth < DEPTH_MIN ? DEPTH_MIN : depth;
	for (unsigned q = 0; q < count && !r; q++)
		r = queue_create(&s->worker[q % s->worker_count], (uint16_t)q, depth);
	return r;
}

/* ---- is it there? ---- */

/* 'Y', 'N', or 0 when there is no such thing. */
static char param_read(void)
{
	FILE *f = fopen(PARAM, "re");
	int c;

	if (!f)
		return 0;
	c = getc(f);
	fclose(f);
	return c == 'Y' || c == '1' ? 'Y' : 'N';
}

/* CPUs that could ever exist: "0-3,8-11" is 8. 0: unknown. */
static unsigned possible_cpus(void)
{
	FILE *f = fopen("/sys/devices/system/cpu/possible", "re");
	unsigned n = 0, from, to;
	int got;

	if (!f)
		return 0;
	while ((got = fscanf(f, "%u-%u", &from, &to)) >= 1) {
		n += got == 2 && to >= from ? to - from + 1 : 1;
		if (getc(f) != ',')
			break;
	}
	fclose(f);
	return n;
}

static int available(struct serve *s, struct err *e)
{
	char p = param_read();

	if (!p)
		return err_set(e, -EOPNOTSUPP,
			       "this kernel has no FUSE over io_uring (Linux 6.14)");
	if (p != 'Y')
		return err_set(e, -EOPNOTSUPP, "disabled; echo Y > " PARAM);
	for (unsigned i = 0; i < s->worker_count; i++)
		if (!reactor_has_cmd(s->worker[i].reactor))
			return err_set(e, -EOPNOTSUPP, "io_uring without 128-byte entries");
	return 0;
}

int serve_uring_prepare(struct serve *s, struct err *e)
{
	unsigned count = possible_cpus();
	int r = available(s, e);

	if (r)
		return r;
	if (!count || count > QUEUES_MAX)
		return err_set(e, -EOPNOTSUPP, "%u possible CPUs", count);
	if (s->abort_fd < 0)
		return err_set(e, s->abort_fd, "open the connection in fusectl: %s",
			       err_str(s->abort_fd));
	r = queues_create(s, count);
	if (r) {
		serve_uring_free(s);
		return err_set(e, r, "memory for %u queues: %s", count, err_str(r));
	}
	return 0;
}
