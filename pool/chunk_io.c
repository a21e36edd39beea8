/* chunk_io: reads and writes of virtual addresses.
 *
 * Happy path of a read: pick a current member by shortest queue -> one device I/O -> caller
 * verifies. Happy path of a write: one device I/O per member in service -> done when all have
 * answered.
 */
#include <string.h>
#include "pool/chunk.h"
#include "pool/event.h"

void chunk_batch_init(struct chunk_batch *b, struct pool *p)
{
	memset(b, 0, sizeof *b);
	b->p = p;
	b->co = co_self();
}

void chunk_batch_wait(struct chunk_batch *b)
{
	while (b->pending) {
		b->waiting = true;
		co_yield ();
	}
}

static void batch_done(struct chunk_batch *b)
{
	if (--b->pending == 0 && b->waiting) {
		b->waiting = false;
		co_wake(b->co);
	}
}

static void read_done(struct dev_io *io)
{
	struct chunk_read_io *r = io->arg;
	struct pool *p = r->batch->p;

	lock_take(&p->lock);
	r->dev->inflight--;
	r->dev->reads_inflight--;
	r->res = io->res;
	if (io->res)
		r->dev->read_errors++;
	else
		r->dev->read_bytes += io->len_bytes;
	lock_drop(&p->lock);
	batch_done(r->batch);
}

static uint64_t member_offset(const struct pool *p, const struct member *m, struct addr a)
{
	return chunk_slot_offset(p, m->slot) + (uint64_t)addr_block(a) * BLOCK_SIZE;
}

/* A current member to read from; -1 when there is none. Equal queues: alternate by address. */
static int pick_member(const struct pool *p, const struct chunk *c, struct addr a)
{
	unsigned best_queue = UINT32_MAX;
	int best = -1;

	for (unsigned k = 0; k < c->nmembers; k++) {
		unsigned i = (unsigned)((k + (a.v >> 5)) % c->nmembers);
		const struct dev *d = &p->devs[c->m[i].dev];

		if (d->state != DEV_ONLINE || c->m[i].stale_since || d->stale_since)
			continue;
		if (d->reads_inflight < best_queue) {
			best_queue = d->reads_inflight;
			best = (int)i;
		}
	}
	return best;
}

static void io_prepare(struct dev_io *io, enum dev_op op, uint64_t off, struct iovec *iov,
		       unsigned n, uint64_t len)
{
	memset(io, 0, sizeof *io);
	io->op = op;
	io->off_bytes = off;
	io->iov = iov;
	io->iovcnt = n;
	io->len_bytes = len;
}

/* Which member: one by index, one by its slot, or any current one. */
struct which {
	int index; /* -1: not by index */
	const struct chunk_slot *at;
};

static int find_slot(const struct chunk *c, const struct chunk_slot *at)
{
	for (unsigned i = 0; i < c->nmembers; i++)
		if (c->m[i].dev == at->dev && c->m[i].slot == at->slot)
			return (int)i;
	return -1;
}

static void read_start_member(struct chunk_batch *b, struct chunk_read_io *r, struct addr a,
			      uint32_t blocks, void *buf, struct which wh)
{
	struct pool *p = b->p;
	struct dev_backend *be = NULL;
	struct chunk *c;

	r->batch = b;
	r->res = ERR_DEV_GONE;
	lock_take(&p->lock);
	c = chunk_find(p, addr_chunk(a));
	if (c && addr_block(a) + blocks <= p->chunk_blocks) {
		int i = wh.index;

		if (wh.at) {
			i = find_slot(c, wh.at);
			r->res = i < 0 ? ERR_LAST : ERR_DEV_GONE;
		} else if (i < 0) {
			i = pick_member(p, c, a);
		}
		if (i >= 0 && i < c->nmembers && dev_writable(&p->devs[c->m[i].dev])) {
			r->dev = &p->devs[c->m[i].dev];
			r->dev->inflight++;
			r->dev->reads_inflight++;
			be = r->dev->backend;
			r->iov = (struct iovec){buf, (size_t)blocks * BLOCK_SIZE};
			io_prepare(&r->io, DEV_READ, member_offset(p, &c->m[i], a), &r->iov, 1,
				   (uint64_t)blocks * BLOCK_SIZE);
			r->io.done = read_done;
			r->io.arg = r;
		}
	} else {
		r->res = ERR_FORMAT;
	}
	lock_drop(&p->lock);
	if (!be)
		return;
	b->pending++;
	be->ops->submit(be, &r->io);
}

void chunk_read_start(struct chunk_batch *b, struct chunk_read_io *r, struct addr a,
		      uint32_t blocks, void *buf)
{
	read_start_member(b, r, a, blocks, buf, (struct which){-1, NULL});
}

static int read_and_wait(struct pool *p, struct addr a, uint32_t blocks, void *buf, struct which wh)
{
	struct chunk_batch b;
	struct chunk_read_io r;

	chunk_batch_init(&b, p);
	read_start_member(&b, &r, a, blocks, buf, wh);
	chunk_batch_wait(&b);
	return r.res;
}

int chunk_read_member(struct pool *p, struct addr a, uint32_t blocks, void *buf, unsigned member)
{
	return read_and_wait(p, a, blocks, buf, (struct which){(int)member, NULL});
}

int chunk_read_slot(struct pool *p, struct addr a, uint32_t blocks, void *buf, struct chunk_slot at)
{
	return read_and_wait(p, a, blocks, buf, (struct which){-1, &at});
}

/* ---- writes ---- */

static void write_done(struct dev_io *io)
{
	struct chunk_write_io *w = io->arg;
	struct pool *p = w->p;
	struct dev *d = w->dev[io - w->io];
	bool last;

	lock_take(&p->lock);
	d->inflight--;
	if (io->res) {
		d->write_errors++;
		w->res = io->res;
		dev_fault_locked(p, d, io->res, "write");
	} else {
		d->write_bytes += io->len_bytes;
		w->ok++;
	}
	last = --w->pending == 0;
	if (last && w->ok)
		w->res = 0;
	lock_drop(&p->lock);
	if (last)
		w->done(w);
}

static unsigned write_prepare(struct pool *p, struct chunk_write_io *w, struct addr a,
			      uint32_t blocks, struct iovec *iov, unsigned iovcnt, unsigned flags,
			      struct which only, struct dev_backend **be)
{
	struct chunk *c = chunk_find(p, addr_chunk(a));
	unsigned n = 0;

	w->res = ERR_DEV_GONE;
	if (!c || addr_block(a) + blocks > p->chunk_blocks)
		return 0;
	if (only.at) {
		only.index = find_slot(c, only.at);
		if (only.index < 0) {
			w->res = ERR_LAST;
			return 0;
		}
	}
	for (unsigned i = 0; i < c->nmembers; i++) {
		struct dev *d = &p->devs[c->m[i].dev];

		if (!dev_writable(d) || (only.index >= 0 && only.index != (int)i))
			continue;
		d->inflight++;
		w->dev[n] = d;
		be[n] = d->backend;
		io_prepare(&w->io[n], DEV_WRITE, member_offset(p, &c->m[i], a), iov, iovcnt,
			   (uint64_t)blocks * BLOCK_SIZE);
		w->io[n].flags = flags;
		w->io[n].done = write_done;
		w->io[n].arg = w;
		n++;
	}
	return n;
}

static void write_start(struct pool *p, struct chunk_write_io *w, struct addr a, uint32_t blocks,
			struct iovec *iov, unsigned iovcnt, unsigned flags, struct which only)
{
	struct dev_backend *be[MEMBERS_MAX];
	unsigned n;

	w->p = p;
	w->ok = 0;
	lock_take(&p->lock);
	n = p->read_only ? 0 : write_prepare(p, w, a, blocks, iov, iovcnt, flags, only, be);
	w->nio = w->pending = n;
	lock_drop(&p->lock);
	if (!n) {
		w->done(w);
		return;
	}
	for (unsigned i = 0; i < n; i++)
		be[i]->ops->submit(be[i], &w->io[i]);
}

void chunk_write_start(struct pool *p, struct chunk_write_io *w, struct addr a, uint32_t blocks,
		       struct iovec *iov, unsigned iovcnt, unsigned flags)
{
	write_start(p, w, a, blocks, iov, iovcnt, flags, (struct which){-1, NULL});
}

struct write_wait {
	struct co *co;
	bool done, waiting;
};

static void write_wait_done(struct chunk_write_io *w)
{
	struct write_wait *ww = w->arg;

	ww->done = true;
	if (ww->waiting)
		co_wake(ww->co);
}

static int write_and_wait(struct pool *p, struct addr a, uint32_t blocks, const void *buf,
			  unsigned flags, struct which only)
{
	struct write_wait ww = {.co = co_self()};
	struct chunk_write_io w = {.done = write_wait_done, .arg = &ww};
	struct iovec iov = {(void *)buf, (size_t)blocks * BLOCK_SIZE};

	write_start(p, &w, a, blocks, &iov, 1, flags, only);
	if (!ww.done) {
		ww.waiting = true;
		co_yield ();
	}
	return w.res;
}

int chunk_write(struct pool *p, struct addr a, uint32_t blocks, const void *buf, unsigned flags)
{
	return write_and_wait(p, a, blocks, buf, flags, (struct which){-1, NULL});
}

int chunk_write_member(struct pool *p, struct addr a, uint32_t blocks, const void *buf,
		       unsigned member)
{
	return write_and_wait(p, a, blocks, buf, 0, (struct which){(int)member, NULL});
}

int chunk_write_slot(struct pool *p, struct addr a, uint32_t blocks, const void *buf,
		     struct chunk_slot at)
{
	return write_and_wait(p, a, blocks, buf, 0, (struct which){-1, &at});
}

/* ---- verified reads with repair ---- */

#define TRIES_MAX (2 * MEMBERS_MAX) /* members may come and go meanwhile */

struct tries {
	struct chunk_slot at[TRIES_MAX];
	int why[TRIES_MAX]; /* 0: right */
	unsigned n;
};

static bool tried(const struct tries *t, const struct member *m)
{
	for (unsigned i = 0; i < t->n; i++)
		if (t->at[i].dev == m->dev && t->at[i].slot == m->slot)
			return true;
	return false;
}

static void repair_one(struct pool *p, struct addr a, uint32_t blocks, const void *buf,
		       struct chunk_slot at, int why, const char *what)
{
	int rc = p->read_only ? ERR_READONLY : chunk_write_slot(p, a, blocks, buf, at);
	struct member m = {.dev = at.dev, .slot = at.slot};
	struct dev *d = &p->devs[at.dev];

	if (rc == ERR_LAST) /* no member any more: nothing to repair */
		return;
	lock_take(&p->lock);
	d->checksum_errors += why < ERR_BASE + 20 && why > ERR_BASE;
	d->repaired += !rc;
	event_emit_locked(p, rc ? "read-error" : "repaired",
			  "%s: %s on device %u (%s) at byte %llu; %s", what, err_str(why), d->id,
			  d->path, (unsigned long long)member_offset(p, &m, a),
			  rc ? "read from another copy" : "repaired from another copy");
	lock_drop(&p->lock);
}

/* Which member to try next; -1: none. A current one; as a last resort one that is not: it may still
 * hold this block, the checksum tells. */
static int next_try(const struct pool *p, const struct chunk *c, struct addr a,
		    const struct tries *t)
{
	int m = pick_member(p, c, a);

	if (m >= 0 && !tried(t, &c->m[m]))
		return m;
	for (unsigned i = 0; i < c->nmembers; i++)
		if (!tried(t, &c->m[i]) && p->devs[c->m[i].dev].state == DEV_ONLINE &&
		    !chunk_member_since(p, &c->m[i]))
			return (int)i;
	for (unsigned i = 0; i < c->nmembers; i++)
		if (!tried(t, &c->m[i]) && dev_writable(&p->devs[c->m[i].dev]))
			return (int)i;
	return -1;
}

int chunk_read_verified(struct pool *p, struct addr a, uint32_t blocks, void *buf,
			chunk_verify_fn *verify, void *arg, const char *what)
{
	struct tries t = {.n = 0};
	int rc = ERR_DEV_GONE;

	while (t.n < TRIES_MAX) {
		struct chunk *c;
		int m;

		lock_take(&p->lock);
		c = chunk_find(p, addr_chunk(a));
		m = c ? next_try(p, c, a, &t) : -1;
		if (m >= 0)
			t.at[t.n] = chunk_slot_of(&c->m[m]);
		lock_drop(&p->lock);
		rc = c ? rc : ERR_FORMAT;
		if (m < 0)
			break;
		rc = chunk_read_slot(p, a, blocks, buf, t.at[t.n]);
		if (!rc)
			rc = verify(arg, buf);
		t.why[t.n++] = rc;
		if (!rc)
			break;
	}
	if (rc) {
		event_emit(p, "data-lost", "%s: no readable copy of address %llx: %s", what,
			   (unsigned long long)a.v, err_str(rc));
		return rc;
	}
	for (unsigned i = 0; i < t.n; i++)
		if (t.why[i] && t.why[i] != ERR_LAST)
			repair_one(p, a, blocks, buf, t.at[i], t.why[i], what);
	return 0;
}

/* ---- flush ---- */

struct flush_io {
	struct dev_io io;
	struct dev *dev;
	struct chunk_batch *batch;
};

static void flush_done(struct dev_io *io)
{
	struct flush_io *f = io->arg;
	struct pool *p = f->batch->p;

	lock_take(&p->lock);
	f->dev->inflight--;
	if (io->res) {
		f->dev->write_errors++;
		dev_fault_locked(p, f->dev, io->res, "flush");
	}
	lock_drop(&p->lock);
	batch_done(f->batch);
}

int chunk_flush_all(struct pool *p)
{
	struct flush_io *f = calloc(POOL_DEVS_MAX, sizeof *f);
	struct dev_backend *be[POOL_DEVS_MAX];
	struct chunk_batch b;
	unsigned n = 0;
	int rc;

	if (!f)
		return -ENOMEM;
	chunk_batch_init(&b, p);
	lock_take(&p->lock);
	for (unsigned i = 0; i < p->ndevs; i++) {
		struct dev *d = &p->devs[i];

		if (!dev_writable(d))
			continue;
		f[n].dev = d;
		f[n].batch = &b;
		f[n].io = (struct dev_io){.op = DEV_FLUSH, .done = flush_done, .arg = &f[n]};
		d->inflight++;
		be[n++] = d->backend;
	}
	lock_drop(&p->lock);
	b.pending = n;
	for (unsigned i = 0; i < n; i++)
		be[i]->ops->submit(be[i], &f[i].io);
	chunk_batch_wait(&b);
	free(f);
	lock_take(&p->lock);
	rc = p->faulted ? ERR_FAULTED : 0;
	lock_drop(&p->lock);
	return rc;
}
