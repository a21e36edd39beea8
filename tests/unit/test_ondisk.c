/* test_ondisk: size and offset of everything on disk, in one table, checked at compile time. */
#include <stddef.h>
#include "pool/node_format.h"

#define SIZE(type, bytes) _Static_assert(sizeof(struct type) == (bytes), "size of " #type)
#define OFFSET(type, field, bytes) \
	_Static_assert(offsetof(struct type, field) == (bytes), #type "." #field)

SIZE(key_disk, 20);
OFFSET(key_disk, object, 0);
OFFSET(key_disk, offset, 8);
OFFSET(key_disk, type, 16);
OFFSET(key_disk, pad, 17);

SIZE(node_slot_disk, 24);
OFFSET(node_slot_disk, key, 0);
OFFSET(node_slot_disk, value_off, 20);
OFFSET(node_slot_disk, value_len, 22);

SIZE(node_ptr_disk, 24);
OFFSET(node_ptr_disk, addr, 0);
OFFSET(node_ptr_disk, birth, 8);
OFFSET(node_ptr_disk, crc, 16);
OFFSET(node_ptr_disk, pad, 20);

SIZE(node_header_disk, 128);
OFFSET(node_header_disk, magic, 0);
OFFSET(node_header_disk, crc, 4);
OFFSET(node_header_disk, version, 8);
OFFSET(node_header_disk, level, 10);
OFFSET(node_header_disk, pad0, 11);
OFFSET(node_header_disk, count, 12);
OFFSET(node_header_disk, value_start, 14);
OFFSET(node_header_disk, pool_id, 16);
OFFSET(node_header_disk, addr, 32);
OFFSET(node_header_disk, birth, 40);
OFFSET(node_header_disk, tree_id, 48);
OFFSET(node_header_disk, value_bytes, 56);
OFFSET(node_header_disk, pad, 58);

int main(void)
{
	return 0;
}
