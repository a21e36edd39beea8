/* fs_hash: SipHash-1-3 (Aumasson, Bernstein 2012), a keyed hash: who does not know the volume's
 * key cannot make names collide. Any thread. Cost: about 20 ns for a short name.
 */
#ifndef TARN_FS_FS_HASH_H
#define TARN_FS_FS_HASH_H
#include <stddef.h>
#include <stdint.h>

uint64_t fs_hash(const uint8_t key[16], const void *data, size_t len);

#endif
