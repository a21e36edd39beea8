/* extent_format: a run of an object's blocks on disk. Item of a volume's tree,
 * key (object, VOL_KEY_EXTENT, first block).
 *
 * RAW: blocks i of the run is block i at addr; crc[i] is its checksum.
 * LZ4: orig_blocks logical blocks were compressed to stored_bytes in stored_blocks blocks at addr,
 * crc[i] is the checksum of stored block i; the item covers `blocks` of them from logical block
 * `skip` on (partial overwrites leave pieces; the stored blocks are freed with the last piece,
 * found among the neighbours). RESERVED: promised space, reads as zero; no addr, no crc.
 */
#ifndef TARN_POOL_EXTENT_FORMAT_H
#define TARN_POOL_EXTENT_FORMAT_H
#include "base/le.h"

#define EXTENT_BLOCKS_MAX     32u
#define EXTENT_LZ4_BLOCKS_MAX 16u
enum { EXTENT_RAW = 0, EXTENT_LZ4 = 1, EXTENT_RESERVED = 2 };

struct extent_disk { /* 32 bytes + 4 per stored block */
	le64 addr;
	le64 birth;
	le16 blocks;
	le16 stored_blocks;
	le16 skip;
	le16 orig_blocks;
	le32 stored_bytes;
	uint8_t codec;
	uint8_t version; /* 1 */
	uint8_t pad[2];
	le32 crc[];
};
#endif
