/* ilog_format: the intent log on disk. A ring of blocks in the log chunk.
 *
 * A group is what one volume needs to be durable: [header 96 bytes | records ... | zero to a block
 * boundary]. It is valid as a whole or not at all (one checksum). A group does not wrap: one that
 * does not fit before the end starts at block 0. Groups follow each other by seq without a gap; the
 * first one after a commit is named by its superblock.
 *
 *   record: u8 type, u8 key type, u16 value length, u32 zero, u64 object, u64 offset, value
 *     PUT   item (object, key type, offset) = value          DEL   remove the item
 *     TRIM  offset = first block, value = u64 blocks         DATA  offset = block, value = u16-free
 * 4096 bytes
 */
#ifndef TARN_POOL_ILOG_FORMAT_H
#define TARN_POOL_ILOG_FORMAT_H
#include "base/le.h"
#define ILOG_MAGIC 0x31474c54u /* "TLG1" */
enum { ILOG_PUT = 1, ILOG_DEL = 2, ILOG_TRIM = 3, ILOG_DATA = 4 };
struct ilog_group_disk { /* 96 bytes */
	le32 magic;
	le32 crc; /* of bytes 8 .. bytes-1 */
	uint8_t pool_uuid[16];
	le64 seq;
	le64 epoch;
	le64 txn;
	le64 volume;
	le32 pos;   /* own block in the log chunk */
	le32 bytes; /* header and records */
	le32 records;
	uint8_t pad[28];
};
struct ilog_rec_disk { /* 24 bytes, then the value */
	uint8_t type, key_type;
	le16 len;
	uint8_t pad[4];
	le64 object;
	le64 offset;
};
#endif
