/* pool_create: write a new pool: wipe what identifies older content, log chunk, empty trees, first
 * commit. */
#include <string.h>
#include <uuid/uuid.h>
#include "pool/chunk.h"
#include "pool/chunk_list.h"
#include "pool/event.h"
#include "pool/ilog.h"
#include "pool/pool_impl.h"
#include "pool/sb.h"
#include "pool/space.h"
#include "pool/txn.h"

_Static_assert(sizeof(struct sb_disk) == SB_SIZE, "superblock");
_Static_assert(sizeof(struct heartbeat_disk) == 4096, "heartbeat");
_Static_assert(sizeof(struct chunk_disk) == 120, "chunk record");
_Static_assert(offsetof(struct sb_disk, devs) == 488, "superblock devices");

#define CHUNK_BYTES_MIN (1u << 20)
#define CHUNK_BYTES_MAX (SB_CHUNK_BLOCKS_MAX * BLOCK_SIZE)

/* A power of two such that the smallest device has at least 64 slots, within 1..64 MiB. */
static uint64_t chunk_bytes_for(uint64_t smallest)
{
	uint64_t c = CHUNK_BYTES_MAX;

	while (c > CHUNK_BYTES_MIN && smallest / c < 64)
		c /= 2;
	return c;
}

static int check_args(const char *name, struct pool_create_dev *devs, unsigned n,
		      uint64_t chunk_bytes, struct err *e)
{
	uint64_t need;

	if (!name[0] || strlen(name) > POOL_NAME_MAX)
		return err_set(e, -EINVAL, "pool name must have 1 to %u characters", POOL_NAME_MAX);
	if (!n || n > POOL_DEVS_MAX)
		return err_set(e, -EINVAL, "a pool has 1 to %u devices", POOL_DEVS_MAX);
	if (chunk_bytes & (chunk_bytes - 1) || chunk_bytes < CHUNK_BYTES_MIN ||
	    chunk_bytes > CHUNK_BYTES_MAX)
		return err_set(e, -EINVAL, "chunk size must be a power of two from 1M to 64M");
	need = SB_DATA_START + SB_RING_BYTES + 8 * chunk_bytes;
	for (unsigned i = 0; i < n; i++)
		if (devs[i].backend->size_bytes < need)
			return err_set(e, -ENOSPC,
				       "%s: too small; a device needs at least %llu MiB here",
				       devs[i].backend->path,
				       (unsigned long long)(need + (1u << 20) - 1) >> 20);
	return 0;
}

int pool_wipe(struct dev_backend *b, struct err *e)
{
	uint8_t *zero = aligned_alloc(BLOCK_SIZE, 1u << 20);
	uint64_t end = b->size_bytes / BLOCK_SIZE * BLOCK_SIZE;
	int rc = -ENOMEM;

	if (zero) {
		memset(zero, 0, 1u << 20);
		rc = dev_write(b, 0, zero, 1u << 20, 0);
		if (!rc)
			rc = dev_write(b, end - (1u << 20), zero, 1u << 20, 0);
		if (!rc)
			rc = dev_flush(b);
	}
	free(zero);
	return rc ? err_set(e, rc, "%s: clear both ends: %s", b->path, err_str(rc)) : 0;
}

static int add_devs(struct pool *p, struct pool_create_dev *devs, unsigned n, struct err *e)
{
	for (unsigned i = 0; i < n; i++) {
		struct dev *d = &p->devs[i];
		int rc;

		d->id = i;
		d->state = DEV_ONLINE;
		d->backend = devs[i].backend;
		d->size_bytes = d->backend->size_bytes;
		snprintf(d->domain, sizeof d->domain, "%s", devs[i].domain);
		snprintf(d->class_name, sizeof d->class_name, "%s", devs[i].class_name);
		snprintf(d->path, sizeof d->path, "%.*s", (int)sizeof d->path - 1,
			 d->backend->path);
		uuid_generate(d->uuid);
		p->ndevs = i + 1;
		rc = dev_slots_init(p, d);
		if (rc)
			return err_set(e, rc, "%s: %s", d->path, err_str(rc));
		rc = pool_wipe(d->backend, e);
		if (rc)
			return rc;
	}
	return 0;
}

static int format(struct pool *p, const struct pool_create_note *note, struct err *e)
{
	int rc = txn_init(p, 1, 0);

	if (rc)
		return err_set(e, rc, "out of memory");
	pool_trees_init(p, NULL);
	lock_take(&p->lock);
	space_reserve_init(p);
	p->next_chunk_id = 1;
	p->next_volume_id = TREE_VOLUME_FIRST;
	rc = chunk_create(p, CHUNK_LOG, chunk_meta_copies(p), true, &p->log_chunk);
	if (!rc) { /* all of it is in use, always */
		for (uint32_t i = 0; i < p->chunk_blocks; i++)
			bit_set(p->log_chunk->bits, i);
		p->log_chunk->used = p->chunk_blocks;
		chunk_count_free(p, p->log_chunk, -(int64_t)p->chunk_blocks);
		p->log_epoch = 1;
		p->log_seq = 1;
	}
	lock_drop(&p->lock);
	if (rc)
		return err_set(e, rc, "place the intent log: %s", err_str(rc));
	rc = ilog_format_chunk(p);
	if (rc)
		return err_set(e, rc, "write the intent log: %s", err_str(rc));
	if (note)
		rc = pool_history_add(p, note->uid, 0, note->command);
	if (rc)
		return err_set(e, rc, "begin the history: %s", err_str(rc));
	rc = txn_commit_run(p, true);
	return rc ? err_set(e, rc, "first commit: %s", err_str(rc)) : 0;
}

int pool_create(const char *name, struct pool_create_dev *devs, unsigned n, uint64_t chunk_bytes,
		struct err *e)
{
	return pool_create_noted(name, devs, n, chunk_bytes, NULL, e);
}

int pool_create_noted(const char *name, struct pool_create_dev *devs, unsigned n,
		      uint64_t chunk_bytes, const struct pool_create_note *note, struct err *e)
{
	struct pool_options o = {.cache_bytes = 8u << 20, .delta_bytes = 1u << 20};
	uint64_t smallest = UINT64_MAX;
	struct pool *p;
	int rc;

	for (unsigned i = 0; i < n; i++)
		if (devs[i].backend->size_bytes < smallest)
			smallest = devs[i].backend->size_bytes;
	if (!chunk_bytes)
		chunk_bytes = chunk_bytes_for(smallest);
	rc = check_args(name, devs, n, chunk_bytes, e);
	if (rc)
		return err_wrap(e, "create pool %s", name);
	p = pool_alloc(&o);
	if (!p)
		return err_set(e, -ENOMEM, "create pool %s: out of memory", name);
	snprintf(p->name, sizeof p->name, "%s", name);
	uuid_generate(p->uuid);
	p->chunk_blocks = (uint32_t)(chunk_bytes / BLOCK_SIZE);
	rc = add_devs(p, devs, n, e);
	if (!rc)
		rc = format(p, note, e);
	if (!rc && p->faulted)
		rc = err_set(e, p->fault_code, "a device failed");
	for (unsigned i = 0; !rc && i < p->ndevs; i++)
		if (p->devs[i].state != DEV_ONLINE)
			rc = err_set(e, -EIO, "%s failed while the pool was written",
				     p->devs[i].path);
	for (unsigned i = 0; i < p->ndevs; i++)
		p->devs[i].backend = NULL; /* the caller's */
	pool_free(p);
	return rc ? err_wrap(e, "create pool %s", name) : 0;
}
