/* image: a small pool on simulated disks, taken at a power cut, to be mutated.
 *
 * It has volumes of both kinds with data (raw, compressed, split), items over several nodes, a
 * reservation, a destroyed volume and an intent log that was not replayed.
 */
#ifndef TARN_TESTS_IMAGE_H
#define TARN_TESTS_IMAGE_H
#include "tests/sim/rig.h"

#define IMAGE_DISKS 2u

struct image {
	struct sim_disk *disk[IMAGE_DISKS];
};

/* Once per process; the disks stay. */
const struct image *image_get(void);
/* A rig on copies of the image's disks. */
void image_rig(struct rig *g, uint64_t seed);

/* ---- what a pool does with it: nothing may crash, hang or read out of bounds ---- */
void image_exercise(struct rig *g, bool read_only);

#endif
