/* chunk: the virtualisation layer: virtual addresses to device slots, redundancy, self-heal,
 * placement.
 *
 * Owns the chunk table (all records in memory), the slots of the devices, and every data-path I/O.
 * Only this file set and sb know devices (law 1).
 *
 * A member is current when neither its own nor its device's stale_since is set. Writes go to every
 * member whose device is in service (stale ones too: they only lack older blocks). Reads use
 * current members only, shortest queue first; what fails verification is read from another member
 * and written back.
 *
 * A write error takes the device out of service (DEV_FAULTED, stale since the oldest transaction
 * that is not durable), unless no other copy took the write: then the pool is suspended
 * (ERR_FAULTED).
 */
#ifndef TARN_POOL_CHUNK_H
#define TARN_POOL_CHUNK_H
#include "pool/pool_types.h"

/* ---- table; all under the lock ---- */
struct chunk *chunk_find(struct pool *p, uint64_t id);
/* Read a record from the map into the table. ERR_FORMAT when it makes no sense. */
int chunk_load(struct pool *p, const struct chunk_disk *cd);
int chunk_validate(const struct chunk_disk *cd, uint64_t id, const struct pool *p, struct err *e);
void chunk_to_disk(const struct chunk *c, struct chunk_disk *ret_cd);
/* Create a chunk with slots on different devices of its class (place.h). Fewer members than copies
 * only when fewer devices are in service, or (use_reserve) when there is no room for more; then, at
 * last, outside its class. -ENOSPC: no slots; -ENOMEM. */
int chunk_create(struct pool *p, uint8_t kind, unsigned policy, bool use_reserve,
		 struct chunk **ret_c);
void chunk_mark_dirty(struct pool *p, struct chunk *c);
void chunk_clear_dirty(struct pool *p, struct chunk *c);
/* Remove from the table; slots are freed when the open transaction is durable. */
void chunk_remove(struct pool *p, struct chunk *c);
void chunk_table_free(struct pool *p);
uint8_t chunk_meta_copies(const struct pool *p);
/* Metadata is kept on up to three devices: when their number changes, so does what its chunks
 * want. False: nothing changed. */
bool chunk_meta_copies_update(struct pool *p);
/* Give chunk members it lacks for its policy, stale from the beginning; true when one was added. */
bool chunk_add_members(struct pool *p, struct chunk *c);
/* Give the chunk one more member, stale from the beginning, instead of the one at `from` (whose
 * failure domain may be used again). Its index, or -1 when there is no place. / Take a member away;
 * its slot is free when the open transaction is durable. */
int chunk_member_add(struct pool *p, struct chunk *c, unsigned from);
void chunk_member_drop(struct pool *p, struct chunk *c, unsigned i);
/* Devices went out of or came into service: which chunks can be written, and where writing goes on.
 */
void chunk_usable_update(struct pool *p);
/* Is every member's device in service? */
bool chunk_complete(const struct pool *p, const struct chunk *c);
/* Change how many copies the chunk wants; members follow (resync adds, mover drops). */
void chunk_set_copies(struct pool *p, struct chunk *c, uint8_t copies);
void dev_slot_release(struct dev *d, uint32_t slot);
/* Recount what is free below the limit. */
void dev_slots_recount(struct dev *d);
uint64_t chunk_member_since(const struct pool *p, const struct member *m);
uint64_t chunk_slot_offset(const struct pool *p, uint32_t slot);
int dev_slots_init(struct pool *p, struct dev *d);

/* ---- I/O; no lock held ---- */
/* Start of several reads or writes that a coroutine waits for together. */
struct chunk_batch {
	struct pool *p;
	struct co *co;
	unsigned pending;
	bool waiting;
	int res; /* first error of writes */
};
void chunk_batch_init(struct chunk_batch *b, struct pool *p);
void chunk_batch_wait(struct chunk_batch *b); /* yields until nothing is pending */

struct chunk_read_io { /* caller's memory, valid until the batch is done */
	struct dev_io io;
	struct iovec iov;
	struct chunk_batch *batch;
	struct dev *dev;
	int res;
};
/* Read blocks from one current member into buf (aligned). res in r->res after the wait;
 * ERR_DEV_GONE when no member. Not verified: the caller does, and reads what is bad again with
 * chunk_read_verified. */
void chunk_read_start(struct chunk_batch *b, struct chunk_read_io *r, struct addr a,
		      uint32_t blocks, void *buf);

/* Returns 0 when buf is what should be at a. */
typedef int chunk_verify_fn(void *arg, const void *buf);
/* Read and verify, trying every member; bad copies are rewritten from a good one, counted and
 * reported with `what` (e.g. "volume home object 17 offset 4096"). Yields. 0, ERR_CSUM..., -EIO,
 * ERR_DEV_GONE. */
int chunk_read_verified(struct pool *p, struct addr a, uint32_t blocks, void *buf,
			chunk_verify_fn *verify, void *arg, const char *what);
/* Read one given member. Yields. Only where members cannot be taken away meanwhile (mover, resync,
 * import). */
int chunk_read_member(struct pool *p, struct addr a, uint32_t blocks, void *buf, unsigned member);
/* Write to one given member. Yields. */
int chunk_write_member(struct pool *p, struct addr a, uint32_t blocks, const void *buf,
		       unsigned member);

/* A member keeps its device and slot, but not its index, while the lock is not held: the mover may
 * take another one away. */
struct chunk_slot {
	uint16_t dev;
	uint32_t slot;
};
static inline struct chunk_slot chunk_slot_of(const struct member *m)
{
	return (struct chunk_slot){m->dev, m->slot};
}
/* The same by slot, anywhere. ERR_LAST: it belongs to no member any more. */
int chunk_read_slot(struct pool *p, struct addr a, uint32_t blocks, void *buf,
		    struct chunk_slot at);
int chunk_write_slot(struct pool *p, struct addr a, uint32_t blocks, const void *buf,
		     struct chunk_slot at);

struct chunk_write_io { /* caller's memory, valid until done */
	struct dev_io io[MEMBERS_MAX];
	struct dev *dev[MEMBERS_MAX];
	struct pool *p;
	unsigned nio, pending, ok;
	int res; /* 0 when at least one copy was written */
	void (*done)(struct chunk_write_io *w);
	void *arg;
};
/* Write blocks to all members; iov unchanged and valid until done(). flags: DEV_IO_FUA. done is
 * called on this thread. */
void chunk_write_start(struct pool *p, struct chunk_write_io *w, struct addr a, uint32_t blocks,
		       struct iovec *iov, unsigned iovcnt, unsigned flags);
/* The same, yields until done. */
int chunk_write(struct pool *p, struct addr a, uint32_t blocks, const void *buf, unsigned flags);
/* Flush every device in service. A failure faults the device. 0 when what is on the remaining
 * devices is complete. */
int chunk_flush_all(struct pool *p);

/* ---- device state; under the lock ---- */
void dev_fault_locked(struct pool *p, struct dev *d, int code, const char *doing);
void pool_fault_locked(struct pool *p, int code, const char *why);

#endif
