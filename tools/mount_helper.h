/* mount_helper: this program as mount.fuse.tarn, called by mount(8):  mount.fuse.tarn SRC DIR
 * [-sfnv] [-o opts] */
#ifndef TARN_TOOLS_MOUNT_HELPER_H
#define TARN_TOOLS_MOUNT_HELPER_H

/* Exit status as mount(8) wants it: 0, 1 wrong use, 2 system error, 32 mount failure. */
int mount_helper_main(int argc, char **argv);

#endif
