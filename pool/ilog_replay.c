/* ilog_replay: making, reading and applying the intent log. */
#include <string.h>
#include "pool/chunk.h"
#include "pool/event.h"
#include "pool/ilog.h"
#include "pool/txn.h"
#include "pool/vol_damage.h"

#define FORMAT_STEP 256u

int ilog_format_chunk(struct pool *p)
{
	uint32_t step = FORMAT_STEP < p->chunk_blocks ? FORMAT_STEP : p->chunk_blocks;
	uint8_t *zero = aligned_alloc(BLOCK_SIZE, step * BLOCK_SIZE);
	int rc = 0;

	if (!zero)
		return -ENOMEM;
	memset(zero, 0, step * BLOCK_SIZE);
	for (uint32_t at = 0; at < p->chunk_blocks && !rc; at += step)
		rc = chunk_write(p, addr_make(p->log_chunk->id, at),
				 at + step > p->chunk_blocks ? p->chunk_blocks - at : step, zero,
				 0);
	free(zero);
	return rc;
}

/* ---- reading ---- */

struct cursor {
	uint32_t pos;
	uint64_t seq, epoch;
};

static bool header_ok(const struct pool *p, const struct ilog_group_disk *h, const struct cursor *c)
{
	uint32_t bytes = le32_get(h->bytes);

	return le32_get(h->magic) == ILOG_MAGIC && !memcmp(h->pool_uuid, p->uuid, 16) &&
	       le64_get(h->seq) == c->seq && le64_get(h->epoch) == c->epoch &&
	       le32_get(h->pos) == c->pos && bytes >= sizeof *h &&
	       (uint64_t)c->pos * BLOCK_SIZE + bytes <= (uint64_t)p->chunk_blocks * BLOCK_SIZE;
}

/* The valid group at the cursor, from any member. NULL in *ret_buf when there is none. */
static int read_group(struct pool *p, const struct cursor *c, uint8_t **ret_buf)
{
	uint8_t *head = aligned_alloc(BLOCK_SIZE, BLOCK_SIZE), *buf = NULL;
	struct addr a = addr_make(p->log_chunk->id, c->pos);

	*ret_buf = NULL;
	if (!head)
		return -ENOMEM;
	for (unsigned m = 0; m < p->log_chunk->nmembers; m++) {
		struct ilog_group_disk h;
		uint32_t blocks;

		if (chunk_read_member(p, a, 1, head, m))
			continue;
		memcpy(&h, head, sizeof h);
		if (!header_ok(p, &h, c))
			continue;
		blocks = (le32_get(h.bytes) + BLOCK_SIZE - 1) / BLOCK_SIZE;
		buf = aligned_alloc(BLOCK_SIZE, (size_t)blocks * BLOCK_SIZE);
		if (!buf) {
			free(head);
			return -ENOMEM;
		}
		if (!chunk_read_member(p, a, blocks, buf, m) && !memcmp(buf, head, sizeof h) &&
		    crc32c(0, buf + 8, le32_get(h.bytes) - 8) == le32_get(h.crc)) {
			*ret_buf = buf;
			break;
		}
		free(buf);
	}
	free(head);
	return 0;
}

/* Next group: at the cursor, else at the start of the ring. Moves the cursor behind it. */
static int next_group(struct pool *p, struct cursor *c, uint8_t **ret_buf)
{
	int rc = read_group(p, c, ret_buf);

	if (!rc && !*ret_buf && c->pos) {
		struct cursor wrapped = {0, c->seq, c->epoch};

		rc = read_group(p, &wrapped, ret_buf);
		if (*ret_buf)
			c->pos = 0;
	}
	if (!rc && *ret_buf) {
		const struct ilog_group_disk *h = (const void *)*ret_buf;

		c->seq++;
		c->pos = (c->pos + (le32_get(h->bytes) + BLOCK_SIZE - 1) / BLOCK_SIZE) %
			 p->chunk_blocks;
	}
	return rc;
}

/* ---- applying ---- */

struct item_change {
	uint8_t type;
	struct key k;
	const void *value;
	uint16_t len;
};

static int apply_item(struct vol *v, void *arg)
{
	struct item_change *ic = arg;
	int rc = vol_prepare(v, ic->k);

	if (rc)
		return rc;
	if (ic->type == ILOG_PUT)
		return vol_put(v, ic->k, ic->value, ic->len);
	rc = vol_del(v, ic->k);
	return rc == -ENOENT ? 0 : rc;
}

static bool record_valid(const struct ilog_rec_disk *r)
{
	uint64_t offset = le64_get(r->offset);
	uint16_t len = le16_get(r->len);

	switch (r->type) {
	case ILOG_PUT:
	case ILOG_DEL:
		return len <= NODE_VALUE_MAX && r->key_type < VOL_KEY_EXTENT;
	case ILOG_TRIM:
		return len == 8 && offset < 1ull << 51;
	case ILOG_DATA:
		return len == BLOCK_SIZE && offset < 1ull << 51;
	default:
		return false;
	}
}

static int apply_record(struct vol *v, const struct ilog_rec_disk *r, const uint8_t *value)
{
	uint64_t object = le64_get(r->object), offset = le64_get(r->offset);
	struct item_change ic = {r->type, {object, r->key_type, offset}, value, le16_get(r->len)};
	le64 blocks;

	switch (r->type) {
	case ILOG_PUT:
	case ILOG_DEL:
		return vol_change(v, true, apply_item, &ic);
	case ILOG_TRIM:
		memcpy(&blocks, value, 8);
		return vol_punch(v, object, offset * BLOCK_SIZE,
				 le64_get(blocks) >= 1ull << 51 ? UINT64_MAX - offset * BLOCK_SIZE
								: le64_get(blocks) * BLOCK_SIZE,
				 NULL, NULL);
	default:
		return vol_write(v, object, offset * BLOCK_SIZE, BLOCK_SIZE, value, NULL, NULL);
	}
}

static struct vol *vol_by_id(struct pool *p, uint64_t id)
{
	struct vol *v;

	lock_take(&p->lock);
	for (v = p->vols; v && v->id != id; v = v->next)
		;
	lock_drop(&p->lock);
	return v;
}

/* What the volume's tree cannot take any more keeps nothing else from being replayed. */
static void skipped(struct vol *v, uint64_t seq, unsigned n, int rc)
{
	lock_take(&v->p->lock);
	vol_damage_note(v->p, v->id, rc);
	v->losses++;
	event_emit_locked(v->p, "replay-skipped",
			  "volume %s: %u changes of group %llu of the intent log, synced before, "
			  "belong into a damaged part of it and are lost: %s",
			  v->name, n, (unsigned long long)seq, err_str(rc));
	lock_drop(&v->p->lock);
}

static int apply_group(struct pool *p, const uint8_t *buf, struct err *e)
{
	const struct ilog_group_disk *h = (const void *)buf;
	const uint8_t *at = buf + sizeof *h, *end = buf + le32_get(h->bytes);
	struct vol *v = vol_by_id(p, le64_get(h->volume));
	unsigned lost = 0;
	int why = 0;

	if (!v || v->destroying) /* destroyed since: its commit came later than this group */
		return 0;
	while (at + sizeof(struct ilog_rec_disk) <= end) {
		struct ilog_rec_disk r;
		int rc;

		memcpy(&r, at, sizeof r);
		at += sizeof r;
		if (at + le16_get(r.len) > end || !record_valid(&r))
			return err_set(e, ERR_FORMAT,
				       "log group %llu: record of type %u is invalid",
				       (unsigned long long)le64_get(h->seq), r.type);
		v->commit_only = true;
		rc = apply_record(v, &r, at);
		v->commit_only = false;
		if (vol_damage_is(rc)) {
			lost++;
			why = rc;
		} else if (rc) {
			return err_set(e, rc, "log group %llu of volume %s: record type %u: %s",
				       (unsigned long long)le64_get(h->seq), v->name, r.type,
				       err_str(rc));
		}
		at += le16_get(r.len);
	}
	if (lost)
		skipped(v, le64_get(h->seq), lost, why);
	return 0;
}

int ilog_replay(struct pool *p, uint64_t *ret_groups, struct err *e)
{
	struct cursor c = {le32_get(p->sb->log_pos), le64_get(p->sb->log_seq),
			   le64_get(p->sb->log_epoch)};
	uint64_t groups = 0;
	uint8_t *buf;
	int rc;

	if (c.pos >= p->chunk_blocks)
		return err_set(e, ERR_FORMAT, "log position %u is behind the log", c.pos);
	for (;;) {
		/* A commit may come in between (resync, memory): it takes what was applied so far
		 * and has to name the rest, so that the next import replays it. Applying a group
		 * twice does no harm. */
		lock_take(&p->lock);
		p->log_pos = p->log_tail = p->log_frozen = c.pos;
		p->log_seq = c.seq;
		lock_drop(&p->lock);
		rc = next_group(p, &c, &buf);
		if (rc || !buf)
			break;
		rc = apply_group(p, buf, e);
		free(buf);
		if (rc)
			break;
		groups++;
	}
	lock_take(&p->lock);
	p->log_pos = p->log_tail = p->log_frozen = c.pos;
	p->log_seq = c.seq + (1u << 20);
	lock_drop(&p->lock);
	*ret_groups = groups;
	return rc;
}

int ilog_dump(struct pool *p, FILE *f)
{
	struct cursor c = {le32_get(p->sb->log_pos), le64_get(p->sb->log_seq),
			   le64_get(p->sb->log_epoch)};
	static const char *const names[] = {"?", "put", "del", "trim", "data"};
	uint8_t *buf;
	int rc;

	for (;;) {
		const struct ilog_group_disk *h;
		const uint8_t *at, *end;

		rc = next_group(p, &c, &buf);
		if (rc || !buf)
			return rc;
		h = (const void *)buf;
		fprintf(f, "log group %llu at %u: volume %llu txn %llu, %u bytes\n",
			(unsigned long long)le64_get(h->seq), le32_get(h->pos),
			(unsigned long long)le64_get(h->volume),
			(unsigned long long)le64_get(h->txn), le32_get(h->bytes));
		at = buf + sizeof *h;
		end = buf + le32_get(h->bytes);
		while (at + sizeof(struct ilog_rec_disk) <= end) {
			struct ilog_rec_disk r;

			memcpy(&r, at, sizeof r);
			fprintf(f, "  %s object %llu type %u offset %llu, %u bytes\n",
				r.type <= ILOG_DATA ? names[r.type] : "?",
				(unsigned long long)le64_get(r.object), r.key_type,
				(unsigned long long)le64_get(r.offset), le16_get(r.len));
			at += sizeof r + le16_get(r.len);
		}
		free(buf);
	}
}
