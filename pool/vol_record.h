/* vol_record: a volume in the root tree, key (volume id, 1, 0). Little-endian, fixed offsets:
 *
 *    0  u8 version (1), u8 type, u8 compression, u8 copies, u8 flags (1 destroying, 2 converting,
 * 4 damaged), u8 level of the root, u8 class (number in the superblock's table, 0 = any), 1 zero
 *    8  u8 uuid[16]     24  char name[64]     88  node_ptr root (24) 112
 * u64 size_bytes   120  u64 created_ns 128  u64 next_object   136  u64 used_blocks   144  u64
 * logical_blocks   152  u64 reserved_blocks  160  u32 owner uid, 4 zero 168  u64 trashed_ns   176
 * u64 reservation blocks   184  u64 origin of a snapshot (0: a volume)   192  u64 commit it shows
 * 200  u64 id of the tree of dead lists   208  node_ptr its root (24)   232  u8 its level
 * 233  zero to 256
 */
#ifndef TARN_POOL_VOL_RECORD_H
#define TARN_POOL_VOL_RECORD_H
#include "pool/vol_types.h"
#define VOL_RECORD_BYTES 256
void vol_record_encode(const struct vol *v, uint8_t *ret_rec);
/* Allocates a volume from an item of the root tree. ERR_FORMAT, ERR_VERSION, -ENOMEM. */
int vol_record_decode(struct pool *p, const struct btree_item *it, struct vol **ret_v);
struct vol_record { /* decoded, without a pool */
	uint64_t id;
	char name[VOL_NAME_MAX + 1];
	enum vol_type type;
	bool destroying;
	uint64_t size_bytes, logical_blocks, created_ns, trashed_ns;
	struct node_ptr root; /* ADDR_NONE: empty */
	uint8_t level;
	uint64_t origin, snap_txn; /* of a snapshot */
};
/* ERR_FORMAT, ERR_VERSION. Any thread. */
int vol_record_view(const struct btree_item *it, struct vol_record *ret_r);
void vol_record_to_text(FILE *f, const struct btree_item *it);
/* Lock held, at the freeze of nr / when a commit is durable: what fsync needs to know. */
void vol_freeze_marks(struct pool *p, uint64_t nr);
void vol_durable_marks(struct pool *p);
void vol_free(struct vol *v);
/* Insert by id, among the volumes or the snapshots. */
void vol_link(struct pool *p, struct vol *v);
/* Background: give back the space of destroyed volumes. */
void vol_reaper(void *pool);
/* Background: rewrite what lies under another policy than its volume's. */
void convert_main(void *pool);
/* Write anew what lies in chunks that are being emptied. Yields. 0, or an error where it ended:
 * -ENOSPC, or ERR_FAULTED for squeeze_must_end(). */
int convert_for_squeeze(struct vol *v);
void vol_trash_expire(struct pool *p);
/* A writer to v finds no room. Yields. False: nothing in the trash helps. */
bool vol_trash_pressure(const struct vol *v);
/* vol_open() for a change: snapshots are refused. */
int vol_open_to_change(struct pool *p, const char *name, struct vol **ret_v, struct err *e);
bool vol_name_taken(struct pool *p, const char *name);
void vol_changed_locked(struct vol *v);
#endif
