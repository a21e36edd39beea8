/* sim_dev: the I/O side of a simulated disk: backends, latency, faults. See sim_disk.h. */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include "tests/sim/cover.h"
#include "tests/sim/sim_disk_impl.h"
#include "tests/sim/sim_reactor.h"

/* A cable: what the pool gets. */
struct sim_cable {
	struct dev_backend b;
	struct sim_disk *d;
	uint32_t gen;
	unsigned under_way;
};

struct sim_req {
	struct sim_cable *c;
	struct dev_io *io;
	struct sim_write *w;
	uint64_t flush_to;
	uint32_t deaths;
	bool nth_failed;
};

void sim_bus_init(struct sim_bus *bus, struct reactor *r, uint64_t seed)
{
	memset(bus, 0, sizeof(*bus));
	bus->r = r;
	bus->rng = rng_of(seed, 3);
}

void sim_bus_fail(struct sim_bus *bus, const char *fmt, ...)
{
	char text[256];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (!bus->fail) {
		fprintf(stderr, "%s\n", text);
		abort();
	}
	bus->fail(bus->fail_arg, text);
}

/* One more submission or completion; false when the machine has just been or is stopped. */
static bool bus_tick(struct sim_bus *bus)
{
	if (bus->frozen)
		return false;
	bus->ticks++;
	if (!bus->halt_at || bus->ticks < bus->halt_at)
		return true;
	bus->frozen = true;
	sim_reactor_halt(bus->r);
	return false;
}

/* ---- iovecs ---- */

static void iov_copy_out(const struct dev_io *io, uint64_t at, uint8_t *buf)
{
	uint64_t done = 0;
	for (unsigned i = 0; i < io->iovcnt && done < DEV_BLOCK; i++) {
		if (at >= io->iov[i].iov_len) {
			at -= io->iov[i].iov_len;
			continue;
		}
		uint64_t n = io->iov[i].iov_len - at;
		if (n > DEV_BLOCK - done)
			n = DEV_BLOCK - done;
		memcpy(buf + done, (uint8_t *)io->iov[i].iov_base + at, n);
		done += n;
		at = 0;
	}
}

static void iov_copy_in(const struct dev_io *io, uint64_t at, const uint8_t *buf)
{
	uint64_t done = 0;
	for (unsigned i = 0; i < io->iovcnt && done < DEV_BLOCK; i++) {
		if (at >= io->iov[i].iov_len) {
			at -= io->iov[i].iov_len;
			continue;
		}
		uint64_t n = io->iov[i].iov_len - at;
		if (n > DEV_BLOCK - done)
			n = DEV_BLOCK - done;
		memcpy((uint8_t *)io->iov[i].iov_base + at, buf + done, n);
		done += n;
		at = 0;
	}
}

static void check_request(struct sim_disk *d, const struct dev_io *io)
{
	static const char *const name[] = {"read", "write", "flush", "discard"};
	if (io->op == DEV_FLUSH)
		return;
	uint64_t sum = 0;
	for (unsigned i = 0; i < io->iovcnt; i++) {
		sum += io->iov[i].iov_len;
		if ((uintptr_t)io->iov[i].iov_base % DEV_BLOCK && io->op != DEV_DISCARD)
			sim_bus_fail(d->bus, "%s: %s buffer is not aligned", d->name, name[io->op]);
	}
	if (io->off_bytes % DEV_BLOCK || io->len_bytes % DEV_BLOCK || !io->len_bytes)
		sim_bus_fail(d->bus, "%s: %s at %llu+%llu is not aligned", d->name, name[io->op],
			     (unsigned long long)io->off_bytes, (unsigned long long)io->len_bytes);
	if (io->off_bytes > sim_disk_size(d) || io->len_bytes > sim_disk_size(d) - io->off_bytes)
		sim_bus_fail(d->bus, "%s: %s at %llu+%llu is past the end", d->name, name[io->op],
			     (unsigned long long)io->off_bytes, (unsigned long long)io->len_bytes);
	if (io->op != DEV_DISCARD && sum != io->len_bytes)
		sim_bus_fail(d->bus, "%s: %s of %llu bytes has buffers of %llu", d->name,
			     name[io->op], (unsigned long long)io->len_bytes,
			     (unsigned long long)sum);
}

/* ---- completion ---- */

static bool take_one(unsigned *counter)
{
	if (!*counter)
		return false;
	--*counter;
	return true;
}

static int finish_read(struct sim_disk *d, const struct dev_io *io)
{
	if (take_one(&d->faults.read_errors) ||
	    rng_chance(&d->rng, d->faults.read_error_permille, 1000)) {
		cover_hit(COVER_READ_ERRORS);
		return -EIO;
	}
	uint64_t first = io->off_bytes / DEV_BLOCK;
	uint8_t fill[DEV_BLOCK];
	if (first + io->len_bytes / DEV_BLOCK > d->blocks) {
		sim_bus_fail(d->bus,
			     "%s: read of block %llu was under way when the disk was cut off",
			     d->name, (unsigned long long)first);
		return -EIO;
	}
	for (uint64_t i = 0; i < io->len_bytes / DEV_BLOCK; i++) {
		if (sim_disk_is_latent(d, first + i)) {
			cover_hit(COVER_READ_ERRORS);
			return -EIO;
		}
		const struct sim_block *b = d->view[first + i];
		if (!b)
			sim_disk_fill_unwritten(d, first + i, fill);
		iov_copy_in(io, i * DEV_BLOCK, b ? b->data : fill);
	}
	return 0;
}

/* The buffer must not have changed since the submission: the device may have read it before. */
static void check_unchanged(struct sim_disk *d, const struct dev_io *io, const struct sim_write *w)
{
	uint8_t buf[DEV_BLOCK];
	for (uint32_t i = 0; i < w->count; i++) {
		iov_copy_out(io, (uint64_t)i * DEV_BLOCK, buf);
		if (w->blk[i] && memcmp(buf, w->blk[i]->data, DEV_BLOCK))
			sim_bus_fail(d->bus,
				     "%s: buffer of a write to block %llu changed "
				     "in flight",
				     d->name, (unsigned long long)(w->first + i));
	}
}

static void maybe_destage(struct sim_disk *d)
{
	if (!d->cache.count || !rng_chance(&d->rng, d->traits.destage_permille, 1000))
		return;
	if (d->traits.destage_permille >= 1000) {
		sim_disk_flush_to(d, d->done_seq);
		return;
	}
	struct sim_write *w = d->cache.head;
	for (uint64_t n = rng_below(&d->rng, d->cache.count < 8 ? d->cache.count : 8); n; n--)
		w = w->next;
	sim_disk_destage(d, w);
}

static int finish_write(struct sim_disk *d, const struct dev_io *io, struct sim_write *w)
{
	sim_list_del(&d->flying, w);
	if (take_one(&d->faults.write_errors)) {
		cover_hit(COVER_WRITE_ERRORS);
		if (rng_chance(&d->rng, 1, 2)) {
			sim_write_free(w);
			return -EIO;
		}
		w->done_seq = ++d->done_seq;
		sim_list_add(&d->cache, w);
		sim_disk_show(d, w);
		return -EIO;
	}
	check_unchanged(d, io, w);
	if (rng_chance(&d->rng, d->faults.lost_permille, 1000)) {
		cover_hit(COVER_LOST_WRITES);
		sim_write_free(w);
		return 0;
	}
	if (rng_chance(&d->rng, d->faults.misdirect_permille, 1000)) {
		cover_hit(COVER_MISDIRECTED);
		w->first = rng_below(&d->rng, d->blocks - w->count);
	}
	w->done_seq = ++d->done_seq;
	sim_list_add(&d->cache, w);
	sim_disk_show(d, w);
	if ((io->flags & DEV_IO_FUA) && !d->faults.ignore_fua)
		sim_disk_destage(d, w);
	else
		maybe_destage(d);
	return 0;
}

static int finish_flush(struct sim_disk *d, uint64_t flush_to)
{
	if (take_one(&d->faults.flush_errors)) {
		cover_hit(COVER_FLUSH_ERRORS);
		if (rng_chance(&d->rng, 1, 2))
			sim_disk_lose_cache(d, SIM_CUT_RANDOM);
		return -EIO;
	}
	if (!d->faults.ignore_flush)
		sim_disk_flush_to(d, flush_to);
	return 0;
}

static void forget(struct sim_disk *d, const struct dev_io *io)
{
	sim_disk_discard(d, io->off_bytes / DEV_BLOCK, io->len_bytes / DEV_BLOCK);
}

static int finish(struct sim_disk *d, struct sim_req *q)
{
	struct dev_io *io = q->io;
	if (d->faults.dead || q->deaths != d->deaths || q->nth_failed) {
		if (q->w) {
			sim_list_del(&d->flying, q->w);
			sim_write_free(q->w);
		}
		return d->faults.dead ? d->faults.dead_code : -EIO;
	}
	switch (io->op) {
	case DEV_READ:
		return finish_read(d, io);
	case DEV_WRITE:
		return finish_write(d, io, q->w);
	case DEV_FLUSH:
		return finish_flush(d, q->flush_to);
	case DEV_DISCARD:
		cover_hit(COVER_DISCARDS);
		forget(d, io);
		return 0;
	}
	return -EINVAL;
}

static void trace(struct sim_disk *d, const struct dev_io *io, const char *what)
{
	static const char *const name[] = {"read", "write", "flush", "discard"};
	printf("  %llu %s %s %s %llu+%llu%s res %d\n", (unsigned long long)d->bus->ticks, d->name,
	       what, name[io->op], (unsigned long long)(io->off_bytes / DEV_BLOCK),
	       (unsigned long long)(io->len_bytes / DEV_BLOCK),
	       io->flags & DEV_IO_FUA ? " fua" : "", io->res);
}

static void complete(void *arg)
{
	struct sim_req *q = arg;
	struct sim_cable *c = q->c;
	struct sim_disk *d = c->d;
	if (!bus_tick(d->bus))
		return; /* the machine stops right before: the write stays in flight */
	struct dev_io *io = q->io;
	io->res = finish(d, q);
	if (d->bus->trace)
		trace(d, io, "done");
	c->under_way--;
	free(q);
	io->done(io);
}

/* ---- submission ---- */

static uint64_t latency(struct sim_disk *d, const struct dev_io *io)
{
	uint64_t mean = d->traits.latency_ns;
	uint64_t ns = mean / 4 + rng_below(&d->rng, mean + mean / 2 + 1);
	if (io->op == DEV_FLUSH)
		ns *= 4;
	ns += io->len_bytes / 2; /* 2 GB/s */
	if (rng_chance(&d->rng, d->traits.slow_permille, 1000))
		ns *= 100;
	if (d->faults.slow_factor && d->bus->r->ops->now_ns(d->bus->r) < d->faults.slow_until_ns)
		ns *= d->faults.slow_factor;
	return ns;
}

static struct sim_write *write_new(const struct dev_io *io)
{
	uint32_t n = (uint32_t)(io->len_bytes / DEV_BLOCK);
	struct sim_write *w = malloc(sizeof(*w) + n * sizeof(w->blk[0]));
	if (!w)
		abort();
	w->first = io->off_bytes / DEV_BLOCK;
	w->count = n;
	w->done_seq = 0;
	for (uint32_t i = 0; i < n; i++) {
		w->blk[i] = sim_block_new();
		iov_copy_out(io, (uint64_t)i * DEV_BLOCK, w->blk[i]->data);
	}
	return w;
}

static bool nth_fails(struct sim_disk *d, enum dev_op op)
{
	struct sim_nth *n = &d->bus->nth;
	if (n->only && n->only != d)
		return false;
	n->seen[op]++;
	if (n->fired)
		return n->all_after;
	if (!n->at[op] || n->seen[op] != n->at[op])
		return false;
	n->fired = true;
	return true;
}

static void submit(struct dev_backend *b, struct dev_io *io)
{
	struct sim_cable *c = (struct sim_cable *)(void *)b;
	struct sim_disk *d = c->d;
	if (c->gen != d->gen || !bus_tick(d->bus))
		return; /* the machine has stopped: nothing happens any more */
	if (!reactor_current())
		sim_bus_fail(d->bus, "%s: I/O outside a reactor", d->name);
	check_request(d, io);
	struct sim_req *q = calloc(1, sizeof(*q));
	if (!q)
		abort();
	q->c = c;
	q->io = io;
	q->flush_to = d->done_seq;
	q->deaths = d->deaths;
	q->nth_failed = nth_fails(d, io->op);
	if (io->op == DEV_WRITE) {
		q->w = write_new(io);
		sim_list_add(&d->flying, q->w);
	}
	/* The content may be gone from now on; at the latest it is at completion, together with
	 * what was written meanwhile. */
	if (io->op == DEV_DISCARD && rng_chance(&d->rng, 1, 2))
		forget(d, io);
	c->under_way++;
	io->res = 0;
	if (d->bus->trace)
		trace(d, io, "submit");
	struct reactor *r = d->bus->r;
	uint64_t at = r->ops->now_ns(r) + latency(d, io);
	if (at < d->faults.hang_until_ns)
		at = d->faults.hang_until_ns + latency(d, io);
	sim_reactor_at(r, at, complete, q);
}

static void cable_close(struct dev_backend *b)
{
	struct sim_cable *c = (struct sim_cable *)(void *)b;
	if (c->gen == c->d->gen && c->under_way && !c->d->bus->frozen)
		sim_bus_fail(c->d->bus, "%s: closed with %u I/Os under way", c->d->name,
			     c->under_way);
	free(c);
}

static const struct dev_backend_ops cable_ops = {.submit = submit, .close = cable_close};

struct dev_backend *sim_disk_open(struct sim_disk *d)
{
	struct sim_cable *c = calloc(1, sizeof(*c));
	if (!c)
		abort();
	c->b.ops = &cable_ops;
	c->b.size_bytes = sim_disk_size(d);
	c->b.is_block = true;
	c->b.direct = true;
	snprintf(c->b.path, sizeof(c->b.path), "/sim/%s", d->name);
	c->d = d;
	c->gen = d->gen;
	return &c->b;
}
