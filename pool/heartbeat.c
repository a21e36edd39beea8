/* heartbeat: a block every device in service carries, renewed every two seconds, so that no second
 * host takes a pool that is served, and read before: who was taken over by force stops. On one host
 * the device locks (flock, O_EXCL) do that at once, so a heartbeat of this same boot is not waited
 * for.
 */
#include <string.h>
#include <unistd.h>
#include "pool/chunk.h"
#include "pool/event.h"
#include "pool/sb.h"

#define STEP_NS 100000000ull

static const char hb_magic[8] = "TARNHB1";

void heartbeat_host(char *ret_boot_id, unsigned bsize, char *ret_host, unsigned hsize)
{
	FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");

	memset(ret_boot_id, 0, bsize);
	if (f) {
		if (fgets(ret_boot_id, (int)bsize, f))
			ret_boot_id[strcspn(ret_boot_id, "\n")] = 0;
		fclose(f);
	}
	memset(ret_host, 0, hsize);
	if (gethostname(ret_host, hsize - 1))
		snprintf(ret_host, hsize, "unknown");
}

static uint32_t hb_crc(const struct heartbeat_disk *h)
{
	return crc32c(0, (const uint8_t *)h + 12, sizeof *h - 12);
}

static bool hb_read(struct dev_backend *b, const uint8_t *pool_uuid, struct heartbeat_disk *h)
{
	return !dev_read(b, SB_HEARTBEAT_OFF, h, sizeof *h) && !memcmp(h->magic, hb_magic, 8) &&
	       le32_get(h->crc) == hb_crc(h) && !memcmp(h->pool_uuid, pool_uuid, 16) &&
	       memchr(h->boot_id, 0, sizeof h->boot_id) && memchr(h->host, 0, sizeof h->host);
}

/* ---- beating ---- */

struct beat {				/* of one device */
	struct heartbeat_disk h, found; /* aligned for the device */
	struct pool *p;
	struct dev *d;
	struct dev_backend *b;
	bool first; /* since the device came: what is there is not ours */
};
#define BEAT_BYTES ((sizeof(struct beat) + BLOCK_SIZE - 1) / BLOCK_SIZE * BLOCK_SIZE)

static void fill(struct pool *p, struct heartbeat_disk *h)
{
	memset(h, 0, sizeof *h);
	memcpy(h->magic, hb_magic, 8);
	h->pid = le32_of((uint32_t)getpid());
	memcpy(h->pool_uuid, p->uuid, 16);
	heartbeat_host((char *)h->boot_id, sizeof h->boot_id, h->host, sizeof h->host);
	h->wall_ns = le64_of(reactor_wall_ns());
	h->seq = le64_of(++p->hb_seq);
	h->crc = le32_of(hb_crc(h));
}

/* Somebody else has written one over ours. */
static bool taken_over(struct beat *bt)
{
	return !bt->first && hb_read(bt->b, bt->p->uuid, &bt->found) &&
	       (le32_get(bt->found.pid) != le32_get(bt->h.pid) ||
		memcmp(bt->found.boot_id, bt->h.boot_id, sizeof bt->h.boot_id));
}

static void beat_run(void *arg)
{
	struct beat *bt = arg;
	struct pool *p = bt->p;
	struct dev *d = bt->d;
	char text[160];
	bool taken = taken_over(bt);
	int rc = taken ? 0 : dev_write(bt->b, SB_HEARTBEAT_OFF, &bt->h, sizeof bt->h, 0);

	lock_take(&p->lock);
	d->inflight--;
	d->beating = false;
	if (taken) {
		snprintf(text, sizeof text, "host %s (pid %u) serves it now", bt->found.host,
			 le32_get(bt->found.pid));
		pool_fault_locked(p, ERR_IN_USE, text);
	} else if (rc) {
		d->write_errors++;
		dev_fault_locked(p, d, rc, "write heartbeat");
	} else {
		d->beat_generation = d->generation + 1;
	}
	p->bg_count--;
	waitq_wake_all(&p->bg_waiters);
	lock_drop(&p->lock);
	free(bt);
}

/* Nobody waits for it: a device that hangs must not keep the others from beating. */
static void beat_start(struct pool *p, struct dev *d)
{
	struct beat *bt = aligned_alloc(BLOCK_SIZE, BEAT_BYTES);
	bool go = false;

	if (!bt)
		return;
	lock_take(&p->lock);
	if (dev_writable(d) && d->backend && !d->changing && !d->beating && !p->faulted &&
	    !p->stopping) {
		bt->p = p;
		bt->d = d;
		bt->b = d->backend;
		bt->first = d->beat_generation != d->generation + 1;
		fill(p, &bt->h);
		d->beating = go = true;
		d->inflight++;
		p->bg_count++;
	}
	lock_drop(&p->lock);
	if (go && !co_spawn(p->bg, beat_run, bt))
		return;
	free(bt);
	if (!go)
		return;
	lock_take(&p->lock);
	d->beating = false;
	d->inflight--;
	p->bg_count--;
	lock_drop(&p->lock);
}

void heartbeat_main(void *arg)
{
	struct pool *p = arg;

	lock_take(&p->lock);
	while (!p->stopping) {
		lock_drop(&p->lock);
		for (unsigned i = 0; i < p->ndevs; i++)
			beat_start(p, &p->devs[i]);
		lock_take(&p->lock);
		for (uint64_t ns = 0; ns < HEARTBEAT_NS && !p->stopping; ns += STEP_NS) {
			lock_drop(&p->lock);
			co_sleep_ns(STEP_NS);
			lock_take(&p->lock);
		}
	}
	p->bg_count--;
	waitq_wake_all(&p->bg_waiters);
	lock_drop(&p->lock);
}

/* ---- before an import ---- */

int heartbeat_check(struct dev_backend **devs, unsigned n, const uint8_t *pool_uuid, struct err *e)
{
	char boot[40], host[64];
	struct heartbeat_disk *h = aligned_alloc(BLOCK_SIZE, sizeof *h);
	uint64_t seq[POOL_DEVS_MAX] = {0};
	bool foreign = false;
	int rc = 0;

	if (!h)
		return err_set(e, -ENOMEM, "out of memory");
	heartbeat_host(boot, sizeof boot, host, sizeof host);
	for (unsigned i = 0; i < n; i++)
		if (hb_read(devs[i], pool_uuid, h)) {
			seq[i] = le64_get(h->seq);
			foreign |= strcmp((char *)h->boot_id, boot) != 0;
		}
	if (foreign) {
		co_sleep_ns(3 * HEARTBEAT_NS);
		for (unsigned i = 0; i < n && !rc; i++)
			if (hb_read(devs[i], pool_uuid, h) && le64_get(h->seq) != seq[i])
				rc = err_set(
					e, ERR_IN_USE,
					"the pool is served by host %s (pid %u); export it there "
					"first, or --force if that host cannot write any more",
					h->host, le32_get(h->pid));
	}
	free(h);
	return rc;
}
