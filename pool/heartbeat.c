/* heartbeat: a block every device in service carries, renewed every two seconds, so that no second
 * host takes a pool that is served. On one host the device locks (flock, O_EXCL) do that at once,
 * so a heartbeat of this same boot is not waited for.
 */
#include <string.h>
#include <unistd.h>
#include "pool/chunk.h"
#include "pool/event.h"
#include "pool/sb.h"

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

void heartbeat_write(struct pool *p)
{
	struct heartbeat_disk *h = aligned_alloc(BLOCK_SIZE, sizeof *h);

	if (!h)
		return;
	memset(h, 0, sizeof *h);
	memcpy(h->magic, hb_magic, 8);
	h->pid = le32_of((uint32_t)getpid());
	memcpy(h->pool_uuid, p->uuid, 16);
	heartbeat_host((char *)h->boot_id, sizeof h->boot_id, h->host, sizeof h->host);
	h->wall_ns = le64_of(reactor_wall_ns());
	for (unsigned i = 0; i < p->ndevs; i++) {
		struct dev *d = &p->devs[i];
		struct dev_backend *b;
		int rc;

		lock_take(&p->lock);
		b = dev_writable(d) ? d->backend : NULL;
		if (b)
			d->inflight++;
		h->seq = le64_of(++p->hb_seq);
		lock_drop(&p->lock);
		if (!b)
			continue;
		h->crc = le32_of(hb_crc(h));
		rc = dev_write(b, SB_HEARTBEAT_OFF, h, sizeof *h, 0);
		lock_take(&p->lock);
		d->inflight--;
		if (rc) {
			d->write_errors++;
			dev_fault_locked(p, d, rc, "write heartbeat");
		}
		lock_drop(&p->lock);
	}
	free(h);
}

static bool hb_read(struct dev_backend *b, const uint8_t *pool_uuid, struct heartbeat_disk *h)
{
	return !dev_read(b, SB_HEARTBEAT_OFF, h, sizeof *h) && !memcmp(h->magic, hb_magic, 8) &&
	       le32_get(h->crc) == hb_crc(h) && !memcmp(h->pool_uuid, pool_uuid, 16) &&
	       memchr(h->boot_id, 0, sizeof h->boot_id) && memchr(h->host, 0, sizeof h->host);
}

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
