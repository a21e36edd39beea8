/* sb_format: the superblock and the heartbeat block on disk, and where they and the chunk slots lie
 * on a device.
 *
 *   0          64K        68K      1M                                  size-64K    size
 *   | sb ring  | heartbeat | unused | slot 0 | slot 1 | ... | slot n-1 |  | sb ring  |
 *
 * Each ring has SB_RING_SLOTS superblocks of 16 KiB; superblock number `seq` is written to slot seq
 * % SB_RING_SLOTS at both ends of every device in service. A superblock holds the roots of one
 * commit, the device table and the boot chunks (the chunks the chunk map itself lives in).
 */
#ifndef TARN_POOL_SB_FORMAT_H
#define TARN_POOL_SB_FORMAT_H
#include "base/le.h"
#include "pool/node_format.h"

#define SB_SIZE		 16384u
#define SB_RING_SLOTS	 4u
#define SB_RING_BYTES	 (SB_SIZE * SB_RING_SLOTS)
#define SB_HEARTBEAT_OFF SB_RING_BYTES
#define SB_DATA_START	 (1u << 20)
#define SB_MAGIC	 "TARNSB1" /* 8 bytes with the final NUL */
#define SB_VERSION	 1
#define SB_DEVS_MAX	 64
#define SB_BOOT_MAX	 20
#define SB_MEMBERS_MAX	 6 /* 4 copies, and members on their way */
#define SB_CLASSES_MAX	 7 /* device classes that policies name */

#define SB_CHUNK_BLOCKS_MAX (1u << 14) /* 64 MiB; a bitmap must fit an item of a tree */

#define SB_FEATURE_CLASSES 1ull /* chunks and volumes name device classes */
#define SB_FEATURE_REFS	   2ull /* blocks have counts of references: refs_format.h */
#define SB_FEATURE_SNAPS   4ull /* volumes have snapshots and dead lists: snap_format.h */
/* An unknown bit refuses the import, also where an older superblock without it is left / allows it
 * read-only. */
#define SB_FEATURES_INCOMPAT  (SB_FEATURE_CLASSES | SB_FEATURE_REFS | SB_FEATURE_SNAPS)
#define SB_FEATURES_RO_COMPAT 0ull

enum { SB_FLAG_CLEAN = 1, SB_FLAG_REBALANCE = 2 };
/* exported: no log to replay, nobody has it */
/* TAKEN: with EVACUATE: a spare has taken the place of this one, which was lost */
enum { DEV_F_EVACUATE = 1, DEV_F_SPARE = 2, DEV_F_TAKEN = 4 };
enum { CHUNK_BOOT = 1, CHUNK_META = 2, CHUNK_LOG = 3, CHUNK_DATA = 4 };
#define CHUNK_F_SHARED 0x80u /* beside the kind: some block has more than one reference */

struct sb_root_disk { /* 32 bytes: a tree */
	struct node_ptr_disk ptr;
	uint8_t level;
	uint8_t pad[7];
};
struct chunk_member_disk { /* 16 bytes */
	le16 dev_id;
	uint8_t pad[2];
	le32 slot;
	le64 stale_since; /* transaction, 0 = current */
};
struct chunk_disk { /* 120 bytes: item of the chunk map, key (chunk id, 1, 0) */
	uint8_t version;
	uint8_t kind;	/* CHUNK_* and CHUNK_F_SHARED */
	uint8_t copies; /* what the policy wants; high 4 bits: class, 1..7 in the table, 0 = any */
	uint8_t members_count;
	le32 used_blocks;
	le64 id;
	le64 created_txn;
	struct chunk_member_disk members[SB_MEMBERS_MAX];
};
struct sb_dev_disk { /* 208 bytes */
	uint8_t uuid[16];
	le64 size_bytes;
	le64 stale_since; /* transaction, 0 = current */
	uint8_t state;	  /* enum dev_state; 0 = no such device */
	uint8_t flags;	  /* DEV_F_* */
	uint8_t pad[2];
	le32 slots_limit; /* slots from here on are being emptied; 0 = no limit */
	char domain[32];
	char class_name[16];
	char path[112];
	le64 lost_ns; /* wall clock: missing or faulted since; 0 = in service, or unknown */
};
struct sb_disk { /* 16384 bytes */
	char magic[8];
	le32 crc; /* crc32c of bytes 12..16383 */
	le32 version;
	le64 features_incompat;
	le64 features_ro_compat;
	le64 features_compat;
	uint8_t pool_uuid[16];
	char pool_name[32];
	le64 seq; /* every write of a superblock counts */
	le64 txn; /* the commit these roots belong to */
	le64 wall_ns;
	le32 flags;
	le32 own_dev; /* which device this copy was written to */
	le32 chunk_blocks;
	le32 devs_count;
	le64 next_chunk_id;
	le64 next_volume_id;
	le64 log_chunk_id;
	le64 log_seq; /* first log group after this commit */
	le32 log_pos; /* its block in the log chunk */
	le32 boot_count;
	le64 log_epoch; /* groups of another epoch are not replayed */
	struct sb_root_disk map, space, root;
	le64 seq_all; /* every device listed as online has at least this superblock */
	char classes[SB_CLASSES_MAX][16]; /* names; "" = free */
	uint8_t pad[96];
	struct sb_dev_disk devs[SB_DEVS_MAX];
	struct chunk_disk boot[SB_BOOT_MAX];
	uint8_t pad2[184];
};
struct heartbeat_disk { /* 4096 bytes */
	char magic[8];	/* "TARNHB1" */
	le32 crc;	/* of bytes 12..4095 */
	le32 pid;
	uint8_t pool_uuid[16];
	uint8_t boot_id[40]; /* text of the kernel's boot id */
	char host[64];
	le64 seq;
	le64 wall_ns;
	uint8_t pad[3944];
};

#endif
