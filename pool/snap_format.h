/* snap_format: dead lists on disk: what a volume has let go of while a snapshot still shows it.
 *
 * A tree of its own for each volume that has snapshots; its root is in the volume's record. Key
 * (transaction that let go, type, running number in it).
 */
#ifndef TARN_POOL_SNAP_FORMAT_H
#define TARN_POOL_SNAP_FORMAT_H
#include "base/le.h"

#define SNAP_KEY_NODE	0xd0u /* a node of the volume's tree */
#define SNAP_KEY_EXTENT 0xd1u /* a reference to blocks of data */

struct snap_dead_disk { /* 24 bytes */
	le64 addr;
	le64 birth; /* snapshots from here up to before the key's transaction show it */
	le32 blocks;
	uint8_t pad[4];
};
#endif
