/* node_format: the B+tree node on disk. 16 KiB = 4 blocks, little-endian.
 *
 *   0        128                                free gap                               16384
 *   | header | slot 0 | slot 1 | ... | slot n-1 |  ->   <-  | value | ... | value | value |
 *
 * Slots are sorted by key; each names its value's offset and length in the node. Values are packed
 * from the end, on disk without holes: value_start + value_bytes == 16384. In an interior node
 * (level > 0) every value is a struct node_ptr_disk, and slot i's key is <= every key below it, but
 * slot 0's counts as minus infinity (the subtree's bound is in the parent). An empty value has the
 * offset 16384. The gap between slots and values is zero on disk.
 *
 * crc covers the node from byte 8 to the end. The parent repeats birth and crc (law 7).
 */
#ifndef TARN_POOL_NODE_FORMAT_H
#define TARN_POOL_NODE_FORMAT_H
#include "base/le.h"

#define NODE_SIZE      16384u
#define NODE_BLOCKS    4u
#define NODE_MAGIC     0x31444e4eu /* "NND1" */
#define NODE_VERSION   1
#define NODE_LEVEL_MAX 12
#define NODE_VALUE_MAX 3800u /* so that four items always fit a node */

struct key_disk { /* 20 bytes; compared as (object, type, offset) */
	le64 object;
	le64 offset;
	uint8_t type;
	uint8_t pad[3]; /* zero */
};
struct node_slot_disk { /* 24 bytes */
	struct key_disk key;
	le16 value_off; /* from the start of the node */
	le16 value_len;
};
struct node_ptr_disk { /* 24 bytes */
	le64 addr;
	le64 birth; /* transaction that wrote the child */
	le32 crc;   /* the child's header.crc */
	uint8_t pad[4];
};
struct node_header_disk { /* 128 bytes */
	le32 magic;
	le32 crc; /* crc32c of bytes 8..16383 */
	le16 version;
	uint8_t level; /* 0 = leaf */
	uint8_t pad0;
	le16 count;	  /* slots */
	le16 value_start; /* lowest value offset in use */
	uint8_t pool_id[16];
	le64 addr;	  /* own address */
	le64 birth;	  /* transaction */
	le64 tree_id;	  /* TREE_* or volume id */
	le16 value_bytes; /* sum of value lengths (in memory the rest above value_start is
			     garbage from removals) */
	uint8_t pad[70];
};

#endif
