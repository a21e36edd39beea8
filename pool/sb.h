/* sb: reading and writing superblocks and heartbeats.
 *
 * Written to both rings of every device in service, after everything the roots reach is durable.
 * Yields; no lock held.
 */
#ifndef TARN_POOL_SB_H
#define TARN_POOL_SB_H
#include "pool/pool_types.h"

/* 0 or ERR_*; e says what is wrong. Untrusted input. */
int sb_validate(const struct sb_disk *sb, struct err *e);
void sb_to_text(FILE *f, const struct sb_disk *sb);
void sb_seal(struct sb_disk *sb, uint32_t own_dev);
/* Is a newer than b? By transaction first: two lives of a pool that parted (a device missed an
 * import) count seq alike, but every import skips transactions. */
bool sb_newer(const struct sb_disk *a, const struct sb_disk *b);
/* The newest superblock of one device. ERR_MAGIC when there is none at all, else what is wrong with
 * all of them; ERR_VERSION: a newer Tarn wrote the newest, which is in ret_sb, for its name. Rotten
 * ones are passed over. */
int sb_read_newest(struct dev_backend *b, struct sb_disk *ret_sb, struct err *e);
/* From which transaction on must a device be brought up to date that returns with `own`, and that
 * the pool did without since `since` (0: it does not know)? It cannot know more than its own
 * superblock says. 1, everything: it was in service after that, in another life of the pool. */
uint64_t sb_stale_since(const struct sb_disk *own, uint64_t since);
/* Fill the device table and write sb (seq advanced) to all devices in service, durably. Devices
 * that fail are faulted and it is written again to the others, so that the newest superblock always
 * lists who missed it. */
int sb_write_all(struct pool *p, struct sb_disk *sb);
/* A device that is about to join gets the newest durable superblock, with itself in the table:
 * a crash in the commit that takes it in leaves no device in service that cannot say what it is.
 * d: its entry, not in service yet. Yields. */
int sb_write_first(struct pool *p, struct dev *d, struct dev_backend *b);
void root_to_disk(const struct btree *bt, struct sb_root_disk *ret_d);
void node_ptr_from_disk(const struct node_ptr_disk *d, struct node_ptr *ret_p);
void node_ptr_to_disk(const struct node_ptr *ptr, struct node_ptr_disk *ret_d);

/* Heartbeats: a background coroutine that writes one to every device, each on its own. Somebody
 * else's over ours: the pool is suspended (ERR_IN_USE). */
void heartbeat_main(void *pool);
/* Is somebody else alive on this pool? Waits for up to three beats unless the last writer was this
 * boot of this host. */
int heartbeat_check(struct dev_backend **devs, unsigned n, const uint8_t *pool_uuid, struct err *e);
void heartbeat_host(char *ret_boot_id, unsigned bsize, char *ret_host, unsigned hsize);
#define HEARTBEAT_NS 2000000000ull

#endif
