/* mutate: changes to an image that know its structure.
 *
 * A script is a list of 12-byte steps; the same script does the same to every copy of a block on
 * all disks. Steps on superblocks, nodes and log groups repair the checksums afterwards: a node's
 * own, the one its parent (node, volume record or superblock) has of it, and so on up to the
 * superblock.
 *
 *   step: u8 kind, u8 width/operation, u16 which, u16 where, u16 spare, u32 value
 */
#ifndef TARN_TESTS_MUTATE_H
#define TARN_TESTS_MUTATE_H
#include "tests/sim/rig.h"

#define MUTATE_STEP	 12u
#define MUTATE_STEPS_MAX 16u

void mutate(struct rig *g, const uint8_t *script, size_t len);
/* A random script; returns its length. */
size_t mutate_script(uint64_t seed, uint8_t out[MUTATE_STEP * MUTATE_STEPS_MAX]);

#endif
