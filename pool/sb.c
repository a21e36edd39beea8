#include "pool/sb.h"
#include <string.h>
#include "pool/chunk.h"
#include "pool/class.h"
#include "pool/event.h"

void node_ptr_from_disk(const struct node_ptr_disk *d, struct node_ptr *ptr)
{
	ptr->addr.v = le64_get(d->addr);
	ptr->birth = le64_get(d->birth);
	ptr->crc = le32_get(d->crc);
}

void node_ptr_to_disk(const struct node_ptr *ptr, struct node_ptr_disk *d)
{
	memset(d, 0, sizeof *d);
	d->addr = le64_of(ptr->addr.v);
	d->birth = le64_of(ptr->birth);
	d->crc = le32_of(ptr->crc);
}

void root_to_disk(const struct btree *bt, struct sb_root_disk *d)
{
	memset(d, 0, sizeof *d);
	node_ptr_to_disk(&bt->root, &d->ptr);
	d->level = bt->level;
}

static uint32_t sb_crc(const struct sb_disk *sb)
{
	return crc32c(0, (const uint8_t *)sb + 12, sizeof *sb - 12);
}

void sb_seal(struct sb_disk *sb, uint32_t own_dev)
{
	sb->own_dev = le32_of(own_dev);
	sb->crc = le32_of(sb_crc(sb));
}

int sb_validate(const struct sb_disk *sb, struct err *e)
{
	uint32_t blocks = le32_get(sb->chunk_blocks), ndevs = le32_get(sb->devs_count);

	if (memcmp(sb->magic, SB_MAGIC, 8))
		return err_set(e, ERR_MAGIC, "no Tarn superblock");
	if (le32_get(sb->crc) != sb_crc(sb))
		return err_set(e, ERR_CSUM, "superblock checksum mismatch");
	if (le32_get(sb->version) != SB_VERSION)
		return err_set(e, ERR_VERSION, "format version %u; this Tarn knows %u",
			       le32_get(sb->version), SB_VERSION);
	if (le64_get(sb->features_incompat) & ~SB_FEATURES_INCOMPAT)
		return err_set(e, ERR_VERSION,
			       "the pool uses features %llx this Tarn does not know",
			       (unsigned long long)le64_get(sb->features_incompat));
	if (blocks < 64 || blocks > SB_CHUNK_BLOCKS_MAX || blocks % 64 || !ndevs ||
	    ndevs > SB_DEVS_MAX || le32_get(sb->own_dev) >= ndevs ||
	    le32_get(sb->boot_count) > SB_BOOT_MAX || sb->map.level > NODE_LEVEL_MAX ||
	    sb->space.level > NODE_LEVEL_MAX || sb->root.level > NODE_LEVEL_MAX)
		return err_set(e, ERR_FORMAT,
			       "superblock: chunk size, device or boot chunk count out of bounds");
	if (!sb->pool_name[0] || memchr(sb->pool_name, 0, sizeof sb->pool_name) == NULL)
		return err_set(e, ERR_FORMAT, "superblock: pool name");
	if (class_validate(sb, e))
		return ERR_FORMAT;
	for (uint32_t i = 0; i < ndevs; i++)
		if (!memchr(sb->devs[i].domain, 0, sizeof sb->devs[i].domain) ||
		    !memchr(sb->devs[i].path, 0, sizeof sb->devs[i].path) ||
		    !memchr(sb->devs[i].class_name, 0, sizeof sb->devs[i].class_name) ||
		    le64_get(sb->devs[i].size_bytes) >> 62)
			return err_set(e, ERR_FORMAT, "superblock: device %u out of bounds", i);
	return 0;
}

void sb_to_text(FILE *f, const struct sb_disk *sb)
{
	fprintf(f, "superblock pool %s version %u txn %llu seq %llu%s\n", sb->pool_name,
		le32_get(sb->version), (unsigned long long)le64_get(sb->txn),
		(unsigned long long)le64_get(sb->seq),
		le32_get(sb->flags) & SB_FLAG_CLEAN ? " clean" : "");
	fprintf(f, "  chunk blocks %u, next chunk %llx, next volume %llu\n",
		le32_get(sb->chunk_blocks), (unsigned long long)le64_get(sb->next_chunk_id),
		(unsigned long long)le64_get(sb->next_volume_id));
	fprintf(f, "  log chunk %llx pos %u seq %llu epoch %llu\n",
		(unsigned long long)le64_get(sb->log_chunk_id), le32_get(sb->log_pos),
		(unsigned long long)le64_get(sb->log_seq),
		(unsigned long long)le64_get(sb->log_epoch));
	fprintf(f, "  map %llx level %u, space %llx level %u, root %llx level %u\n",
		(unsigned long long)le64_get(sb->map.ptr.addr), sb->map.level,
		(unsigned long long)le64_get(sb->space.ptr.addr), sb->space.level,
		(unsigned long long)le64_get(sb->root.ptr.addr), sb->root.level);
	for (unsigned i = 0; i < SB_CLASSES_MAX; i++)
		if (sb->classes[i][0])
			fprintf(f, "  class %u %s\n", i + 1, sb->classes[i]);
	for (uint32_t i = 0; i < le32_get(sb->devs_count) && i < SB_DEVS_MAX; i++) {
		fprintf(f,
			"  device %u %s %s %llu bytes stale since %llu domain '%s' class '%s' "
			"flags "
			"%u%s",
			i, dev_state_name(sb->devs[i].state), sb->devs[i].path,
			(unsigned long long)le64_get(sb->devs[i].size_bytes),
			(unsigned long long)le64_get(sb->devs[i].stale_since), sb->devs[i].domain,
			sb->devs[i].class_name, sb->devs[i].flags,
			i == le32_get(sb->own_dev) ? " (this copy)" : "");
		if (le64_get(sb->devs[i].lost_ns))
			fprintf(f, " lost since %llu ns",
				(unsigned long long)le64_get(sb->devs[i].lost_ns));
		fputc('\n', f);
	}
}

/* ---- reading ---- */

static uint64_t ring_off(const struct dev_backend *b, unsigned copy, unsigned slot)
{
	uint64_t end = b->size_bytes / BLOCK_SIZE * BLOCK_SIZE;

	return (copy ? end - SB_RING_BYTES : 0) + slot * SB_SIZE;
}

bool sb_newer(const struct sb_disk *a, const struct sb_disk *b)
{
	uint64_t ta = le64_get(a->txn), tb = le64_get(b->txn);

	return ta != tb ? ta > tb : le64_get(a->seq) > le64_get(b->seq);
}

int sb_read_newest(struct dev_backend *b, struct sb_disk *ret_sb, struct err *e)
{
	struct sb_disk *buf;
	bool found = false;
	struct err first = {0}, newest = {0};

	if (b->size_bytes < SB_DATA_START + SB_RING_BYTES)
		return err_set(e, ERR_MAGIC, "%s: too small to be a device of a pool", b->path);
	buf = aligned_alloc(BLOCK_SIZE, SB_SIZE);
	if (!buf)
		return err_set(e, -ENOMEM, "out of memory");
	for (unsigned i = 0; i < 2 * SB_RING_SLOTS; i++) {
		struct err one = {0};
		int rc = dev_read(b, ring_off(b, i / SB_RING_SLOTS, i % SB_RING_SLOTS), buf,
				  SB_SIZE);

		if (rc)
			err_set(&one, rc, "read superblock: %s", err_str(rc));
		else
			rc = sb_validate(buf, &one);
		/* One whose features are not known here is the newest all the same: the pool has
		 * gone on from what older ones say. */
		if ((!rc || rc == ERR_VERSION) && (!found || sb_newer(buf, ret_sb))) {
			found = true;
			memcpy(ret_sb, buf, SB_SIZE);
			newest = one;
		}
		/* Report the most telling reason: anything else before "no magic". */
		if (rc && (!first.code || first.code == ERR_MAGIC))
			first = one;
	}
	free(buf);
	if (found && !newest.code)
		return 0;
	if (found)
		first = newest;
	err_set(e, first.code, "%s: %s", b->path, first.text);
	return first.code;
}

/* ---- writing ---- */

struct sb_io {
	struct dev_io io;
	struct iovec iov;
	struct dev *dev;
	struct chunk_batch *batch;
};

static void sb_io_done(struct dev_io *io)
{
	struct sb_io *s = io->arg;
	struct chunk_batch *b = s->batch;
	struct pool *p = b->p;

	lock_take(&p->lock);
	s->dev->inflight--;
	if (io->res) {
		s->dev->write_errors++;
		dev_fault_locked(p, s->dev, io->res, "write superblock");
		b->res = io->res;
	} else {
		s->dev->write_bytes += SB_SIZE;
	}
	lock_drop(&p->lock);
	if (--b->pending == 0 && b->waiting) {
		b->waiting = false;
		co_wake(b->co);
	}
}

static void fill_dev(struct sb_dev_disk *s, const struct dev *d, enum dev_state state)
{
	memcpy(s->uuid, d->uuid, 16);
	s->size_bytes = le64_of(d->size_bytes);
	s->stale_since = le64_of(d->stale_since);
	s->state = (uint8_t)state;
	s->flags = d->flags;
	s->slots_limit = le32_of(d->slots_limit);
	s->lost_ns = le64_of(d->lost_ns);
	snprintf(s->class_name, sizeof s->class_name, "%s", d->class_name);
	snprintf(s->domain, sizeof s->domain, "%s", d->domain);
	snprintf(s->path, sizeof s->path, "%.*s", (int)sizeof s->path - 1, d->path);
}

static void fill_devs(struct pool *p, struct sb_disk *sb)
{
	memset(sb->devs, 0, sizeof sb->devs);
	sb->devs_count = le32_of(p->ndevs);
	for (unsigned i = 0; i < p->ndevs; i++)
		fill_dev(&sb->devs[i], &p->devs[i], p->devs[i].state);
}

/* The newest that all devices in service have. */
static uint64_t seq_all(const struct pool *p)
{
	uint64_t seq = p->sb_seq;

	for (unsigned i = 0; i < p->ndevs; i++)
		if (p->devs[i].state == DEV_ONLINE && p->devs[i].sb_seq < seq)
			seq = p->devs[i].sb_seq;
	return seq;
}

int sb_write_first(struct pool *p, struct dev *d, struct dev_backend *b)
{
	struct sb_disk *sb = aligned_alloc(BLOCK_SIZE, SB_SIZE);
	unsigned slot;
	int rc = 0;

	if (!sb)
		return -ENOMEM;
	lock_take(&p->lock);
	memcpy(sb, p->sb, SB_SIZE);
	slot = (unsigned)(le64_get(sb->seq) % SB_RING_SLOTS);
	d->sb_seq = le64_get(sb->seq);
	if (d->id >= le32_get(sb->devs_count))
		sb->devs_count = le32_of(d->id + 1);
	fill_dev(&sb->devs[d->id], d, DEV_ONLINE);
	sb_seal(sb, d->id);
	lock_drop(&p->lock);
	for (unsigned copy = 0; copy < 2 && !rc; copy++)
		rc = dev_write(b, ring_off(b, copy, slot), sb, SB_SIZE, DEV_IO_FUA);
	free(sb);
	return rc;
}

/* Both copies are there: the device has it. */
static void note_written(struct pool *p, const struct sb_io *ios, unsigned n, uint64_t seq)
{
	lock_take(&p->lock);
	for (unsigned i = 0; i < n; i += 2)
		if (!ios[i].io.res && !ios[i + 1].io.res && ios[i].dev->sb_seq < seq)
			ios[i].dev->sb_seq = seq;
	lock_drop(&p->lock);
}

uint64_t sb_stale_since(const struct sb_disk *own, uint64_t since)
{
	uint64_t txn = le64_get(own->txn);
	uint32_t id = le32_get(own->own_dev);

	if (!since || txn + 1 < since)
		return txn + 1;
	/* Of the commit it left in it may have the superblock, of no later one. */
	return txn > since && own->devs[id].state == DEV_ONLINE ? 1 : since;
}

static int write_once(struct pool *p, struct sb_disk *sb, uint8_t *images, struct sb_io *ios)
{
	struct dev_backend *be[2 * POOL_DEVS_MAX];
	struct chunk_batch b;
	unsigned n = 0, slot;

	chunk_batch_init(&b, p);
	lock_take(&p->lock);
	sb->seq_all = le64_of(seq_all(p));
	sb->seq = le64_of(++p->sb_seq);
	slot = (unsigned)(p->sb_seq % SB_RING_SLOTS);
	fill_devs(p, sb);
	for (unsigned i = 0; i < p->ndevs; i++) {
		struct dev *d = &p->devs[i];
		struct sb_disk *img = (struct sb_disk *)(images + (size_t)i * SB_SIZE);

		if (!dev_writable(d))
			continue;
		memcpy(img, sb, SB_SIZE);
		sb_seal(img, i);
		for (unsigned copy = 0; copy < 2; copy++, n++) {
			struct sb_io *s = &ios[n];

			*s = (struct sb_io){.iov = {img, SB_SIZE}, .dev = d, .batch = &b};
			s->io = (struct dev_io){.op = DEV_WRITE,
						.flags = DEV_IO_FUA,
						.off_bytes = ring_off(d->backend, copy, slot),
						.len_bytes = SB_SIZE,
						.iov = &s->iov,
						.iovcnt = 1,
						.done = sb_io_done,
						.arg = s};
			d->inflight++;
			be[n] = d->backend;
		}
	}
	lock_drop(&p->lock);
	b.pending = n;
	for (unsigned i = 0; i < n; i++)
		be[i]->ops->submit(be[i], &ios[i].io);
	chunk_batch_wait(&b);
	note_written(p, ios, n, le64_get(sb->seq));
	return n ? b.res : ERR_DEV_GONE;
}

int sb_write_all(struct pool *p, struct sb_disk *sb)
{
	uint8_t *images = aligned_alloc(BLOCK_SIZE, (size_t)POOL_DEVS_MAX * SB_SIZE);
	struct sb_io *ios = calloc(2 * POOL_DEVS_MAX, sizeof *ios);
	int rc = images && ios ? 0 : -ENOMEM;

	while (!rc) {
		bool faulted;

		rc = write_once(p, sb, images, ios);
		lock_take(&p->lock);
		faulted = p->faulted;
		lock_drop(&p->lock);
		if (!rc || faulted)
			break;
		if (rc != ERR_DEV_GONE)
			rc = 0; /* again, to the devices that are left */
	}
	free(images);
	free(ios);
	return rc;
}
