/* Requests: their memory, their coroutine, and the way of libfuse's replies to the transport. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include "fs/fuse_serve.h"

#define FREE_MAX       64u /* requests a worker keeps */
#define INIT_OUT_BYTES (sizeof(struct fuse_out_header) + sizeof(struct fuse_init_out))

/* Bits the older headers lack (include/uapi/linux/fuse.h). */
#define TARN_INIT2_DIRECT_IO_ALLOW_MMAP (1u << 4) /* flag 36 */
#define TARN_INIT2_ALLOW_IDMAP		(1u << 8) /* flag 40 */
#define TARN_INIT2_OVER_IO_URING	(1u << 9) /* flag 41 */

static __thread struct fuse_rq *current;

struct fuse_rq *serve_rq_current(void)
{
	return current;
}

struct fuse_rq *serve_rq_get(struct serve_worker *w)
{
	struct fuse_rq *rq = w->free;
	void *map;

	if (rq) {
		w->free = rq->next;
		w->free_count--;
		rq->in = (struct fuse_in_header *)(void *)(rq->payload - SERVE_IN_BYTES);
		return rq;
	}
	rq = calloc(1, sizeof(*rq));
	if (!rq)
		return NULL;
	map = mmap(NULL, SERVE_RQ_BYTES, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (map == MAP_FAILED) {
		free(rq);
		return NULL;
	}
	rq->w = w;
	rq->map = map;
	rq->payload = rq->map + 4096;
	rq->in = (struct fuse_in_header *)(void *)(rq->payload - SERVE_IN_BYTES);
	return rq;
}

static void rq_free(struct fuse_rq *rq)
{
	munmap(rq->map, SERVE_RQ_BYTES);
	free(rq);
}

void serve_rq_put(struct fuse_rq *rq)
{
	struct serve_worker *w = rq->w;

	if (w->free_count >= FREE_MAX) {
		rq_free(rq);
		return;
	}
	rq->next = w->free;
	w->free = rq;
	w->free_count++;
}

void serve_rq_free_all(struct serve_worker *w)
{
	while (w->free) {
		struct fuse_rq *rq = w->free;

		w->free = rq->next;
		rq_free(rq);
	}
	w->free_count = 0;
}

static struct fuse_rq **hash_slot(struct serve_worker *w, uint64_t unique)
{
	return &w->hash[(unique >> 1) % SERVE_HASH]; /* the kernel counts in steps of 2 */
}

static void rq_activate(struct fuse_rq *rq)
{
	struct serve_worker *w = rq->w;
	struct fuse_rq **p = hash_slot(w, rq->in->unique);

	rq->next = *p;
	*p = rq;
	w->active++;
	atomic_fetch_add_explicit(&w->requests_total, 1, memory_order_relaxed);
	atomic_store_explicit(&w->requests_active, w->active, memory_order_relaxed);
}

static void rq_done(struct fuse_rq *rq)
{
	struct serve_worker *w = rq->w;
	struct fuse_rq **p = hash_slot(w, rq->in->unique);

	while (*p != rq)
		p = &(*p)->next;
	*p = rq->next;
	w->active--;
	atomic_store_explicit(&w->requests_active, w->active, memory_order_relaxed);
	w->s->transport->done(rq);
	if (atomic_load_explicit(&w->s->ending, memory_order_relaxed)) {
		lock_take(&w->s->lock);
		if (!w->active)
			waitq_wake_all(&w->s->wait);
		lock_drop(&w->s->lock);
	} else if (w->paused) {
		w->s->transport->resume(w);
	}
}

static void rq_main(void *arg)
{
	struct fuse_rq *rq = arg;
	struct fuse_buf buf = {.size = rq->len, .mem = rq->in};

	current = rq;
	fuse_session_process_buf(rq->w->s->se, &buf);
	rq_done(rq);
}

void serve_request(struct fuse_rq *rq)
{
	struct serve *s = rq->w->s;

	if (rq->len < sizeof(*rq->in)) {
		serve_rq_put(rq);
		serve_end(s, SERVE_END_FAILED, -EIO);
		return;
	}
	if (rq->in->opcode == FUSE_INIT && rq->len >= sizeof(*rq->in) + 16) {
		const struct fuse_init_in *in = (const void *)(rq->in + 1);

		s->init_flags = in->flags;
		s->init_flags2 = rq->len >= sizeof(*rq->in) + sizeof(*in) ? in->flags2 : 0;
	}
	serve_decode(rq);
	rq_activate(rq);
	if (co_run(rq_main, rq)) {
		struct fuse_out_header out = {sizeof(out), -ENOMEM, rq->in->unique};
		struct iovec iov = {&out, sizeof(out)};

		s->transport->reply(rq->w, rq, &iov, 1);
		rq_done(rq);
	}
}

static struct serve_worker *worker_here(struct serve *s)
{
	struct reactor *r = reactor_current();

	for (unsigned i = 0; i < s->worker_count; i++)
		if (s->worker[i].reactor == r)
			return &s->worker[i];
	return NULL;
}

/* libfuse 3.14 does not know all the flags we want: add them to its INIT reply. */
static void init_patch(struct serve *s, struct fuse_init_out *o)
{
	o->flags |= s->init_flags & FUSE_ABORT_ERROR;
	if (!s->images) {
		o->flags |= s->init_flags & (FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT);
		if (o->flags & FUSE_HANDLE_KILLPRIV_V2)
			o->flags &= ~(uint32_t)FUSE_HANDLE_KILLPRIV;
		s->setxattr_ext = (o->flags & FUSE_SETXATTR_EXT) != 0;
	}
	if (s->init_flags & FUSE_INIT_EXT) {
		o->flags |= FUSE_INIT_EXT;
		o->flags2 |= s->init_flags2 & TARN_INIT2_DIRECT_IO_ALLOW_MMAP;
		if (!s->images)
			o->flags2 |= s->init_flags2 & TARN_INIT2_ALLOW_IDMAP;
		if (s->transport == &serve_uring_ops)
			o->flags2 |= s->init_flags2 & TARN_INIT2_OVER_IO_URING;
	}
}

static ssize_t reply_init(struct serve_worker *w, struct fuse_rq *rq, const struct iovec *iov,
			  int n)
{
	struct {
		struct fuse_out_header h;
		struct fuse_init_out o;
	} out = {0};
	struct iovec one = {&out, 0};
	ssize_t r;

	for (int i = 0; i < n; i++) {
		if (one.iov_len + iov[i].iov_len > sizeof(out))
			return w->s->transport->reply(w, rq, iov, n);
		memcpy((uint8_t *)&out + one.iov_len, iov[i].iov_base, iov[i].iov_len);
		one.iov_len += iov[i].iov_len;
	}
	if (!out.h.error && one.iov_len == sizeof(out))
		init_patch(w->s, &out.o);
	r = w->s->transport->reply(w, rq, &one, 1);
	if (r >= 0 && out.o.flags2 & TARN_INIT2_OVER_IO_URING)
		serve_uring_agreed(w->s); /* from now on the kernel waits for our queues */
	if (r >= 0 && !out.h.error)
		atomic_store(&w->s->running, true);
	return r;
}

static ssize_t send_notify(struct serve *s, const struct iovec *iov, int n)
{
	ssize_t r = -ENOENT;

	lock_take(&s->lock);
	if (!atomic_load(&s->ending))
		r = serve_dev_ops.reply(&s->worker[0], NULL, iov, n);
	lock_drop(&s->lock);
	return r;
}

static ssize_t send_reply(struct serve *s, const struct fuse_out_header *out,
			  const struct iovec *iov, int n)
{
	struct serve_worker *w = worker_here(s);
	struct fuse_rq *rq;

	assert(w); /* replies come from the request's own coroutine */
	if (atomic_load_explicit(&s->ending, memory_order_relaxed))
		return -ENOENT; /* nobody is waiting any more */
	for (rq = *hash_slot(w, out->unique); rq && rq->in->unique != out->unique;)
		rq = rq->next;
	if (!rq)
		return -ENOENT;
	if (rq->in->opcode == FUSE_INIT)
		return reply_init(w, rq, iov, n);
	return s->transport->reply(w, rq, iov, n);
}

static ssize_t io_writev(int fd, struct iovec *iov, int n, void *userdata)
{
	const struct fuse_out_header *out = iov[0].iov_base;
	struct serve *s = userdata;
	ssize_t r;

	(void)fd;
	r = out->unique ? send_reply(s, out, iov, n) : send_notify(s, iov, n);
	if (r >= 0)
		return r;
	errno = r == -ENODEV || r == -ECONNABORTED ? ENOENT : (int)-r; /* else libfuse prints */
	return -1;
}

static ssize_t io_read(int fd, void *buf, size_t len, void *userdata)
{
	(void)fd;
	(void)buf;
	(void)len;
	(void)userdata;
	errno = ENOSYS; /* we read ourselves */
	return -1;
}

const struct fuse_custom_io serve_custom_io = {.writev = io_writev, .read = io_read};

void serve_inval_attr(struct serve *s, uint64_t ino)
{
	/* A negative offset: attributes only, which never waits for a request to us. */
	if (atomic_load(&s->running))
		fuse_lowlevel_notify_inval_inode(s->se, ino, -1, 0);
}
