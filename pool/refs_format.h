/* refs_format: how often blocks of data are referred to, on disk. Items of the space tree, beside
 * the bitmaps: key (chunk id, SPACE_KEY_REFS, group of REFS_GROUP blocks).
 *
 * The value is runs that cover the group from its first block to its last; count is how many
 * references their blocks have. No item: every block of the group that is in use has one. There is
 * none for a group without a block that has more, and the record of a chunk with such a group says
 * so (CHUNK_F_SHARED).
 */
#ifndef TARN_POOL_REFS_FORMAT_H
#define TARN_POOL_REFS_FORMAT_H
#include "base/le.h"

#define SPACE_KEY_BITMAP 1u
#define SPACE_KEY_REFS	 2u
#define REFS_GROUP	 256u /* blocks; chunks are a multiple of it */

struct refs_run_disk { /* 8 bytes */
	le16 blocks;
	uint8_t pad[2];
	le32 count; /* 1: one reference, or free */
};
#endif
