/* new_device: a file or block device that is to become a member of a pool: made, looked at, refused
 * when it is somebody's. For `pool create` and `pool add`. Blocking but for new_device_label. */
#ifndef TARN_TOOLS_NEW_DEVICE_H
#define TARN_TOOLS_NEW_DEVICE_H
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"
#include "pool/pool.h"

struct new_device {
	char path[PATH_MAX]; /* absolute */
	bool made;	     /* by new_device_prepare: new_device_undo removes it */
	dev_t dev;
	ino_t ino;
};

/* What is at arg, or a sparse file of size bytes made there now (size 0: then it must exist).
 * Refused when it is one of the n devices `before`. */
int new_device_prepare(const char *arg, uint64_t size, struct new_device *before, unsigned n,
		       struct new_device *ret_d, struct err *e);
void new_device_undo(struct new_device *d);

/* Refuse what is mounted or in use; what carries data, unless force. */
int new_device_probe(const char *path, bool force, struct err *e);
/* The same for a label of a pool that libblkid does not see, on an open device. Yields. */
int new_device_label(struct dev_backend *b, bool force, struct err *e);

/* Is text the name of a failure domain or class: letters, digits and _ - . + ; at most max? */
bool new_device_word(const char *text, size_t max);

/* The class of a device when none is given: nvme, ssd or hdd; "" for files. */
const char *new_device_class(const struct dev_backend *b);

#endif
