/* dev_probe: is there somebody's data on a file or block device? */
#include <blkid/blkid.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "pool/dev.h"

static const char tarn_magic[8] = "TARNSB1"; /* with its NUL; as the superblock begins */

static const char *value_of(blkid_probe pr, const char *name)
{
	const char *value;
	return blkid_probe_lookup_value(pr, name, &value, NULL) ? NULL : value;
}

static void describe(blkid_probe pr, char *ret_what, unsigned size)
{
	const char *type = value_of(pr, "TYPE");
	const char *table = value_of(pr, "PTTYPE");
	const char *usage = value_of(pr, "USAGE");
	const char *label = value_of(pr, "LABEL");
	const char *kind = usage && !strcmp(usage, "filesystem") ? "file system" : "signature";
	if (type && label)
		snprintf(ret_what, size, "%s %s (label %s)", type, kind, label);
	else if (type)
		snprintf(ret_what, size, "%s %s", type, kind);
	else if (table)
		snprintf(ret_what, size, "%s partition table", table);
	else
		snprintf(ret_what, size, "unknown data");
}

static int probe_signatures(int fd, char *ret_what, unsigned size)
{
	int ret = -ENOMEM;
	blkid_probe pr = blkid_new_probe();
	if (!pr)
		return ret;
	ret = -EIO;
	if (blkid_probe_set_device(pr, fd, 0, 0) || blkid_probe_enable_superblocks(pr, 1) ||
	    blkid_probe_set_superblocks_flags(pr, BLKID_SUBLKS_TYPE | BLKID_SUBLKS_USAGE |
							  BLKID_SUBLKS_LABEL) ||
	    blkid_probe_enable_partitions(pr, 1))
		goto out;
	switch (blkid_do_safeprobe(pr)) {
	case 0:
		describe(pr, ret_what, size);
		ret = ERR_FOREIGN;
		break;
	case 1:
		ret = 0;
		break;
	case -2:
		snprintf(ret_what, size, "signatures of several file systems");
		ret = ERR_FOREIGN;
		break;
	default:
		break;
	}
out:
	blkid_free_probe(pr);
	return ret;
}

static int probe_fd(int fd, char *ret_what, unsigned size)
{
	char magic[sizeof(tarn_magic)];
	ssize_t n = pread(fd, magic, sizeof(magic), 0);
	if (n < 0)
		return -errno;
	if (n == 0)
		return 0; /* libblkid refuses to look at an empty file */
	if (n == sizeof(magic) && !memcmp(magic, tarn_magic, sizeof(magic))) {
		snprintf(ret_what, size, "member of a Tarn pool");
		return ERR_FOREIGN;
	}
	return probe_signatures(fd, ret_what, size);
}

/* O_EXCL fails on a block device that is mounted, swapped to, or part of a RAID or LVM, and on a
 * disk one of whose partitions is. On anything else it has no meaning. */
static int open_unclaimed(const char *path)
{
	struct stat st;
	if (stat(path, &st))
		return -errno;
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return -ENOTBLK;
	int fd = open(path, O_RDONLY | O_CLOEXEC | (S_ISBLK(st.st_mode) ? O_EXCL : 0));
	if (fd < 0)
		return errno == EBUSY ? ERR_IN_USE : -errno;
	return fd;
}

int dev_probe_foreign(const char *path, char *ret_what, unsigned size, struct err *e)
{
	ret_what[0] = '\0';
	int fd = open_unclaimed(path);
	if (fd < 0)
		return err_set(e, fd, "probe %s: %s", path, err_str(fd));
	int ret = probe_fd(fd, ret_what, size);
	close(fd);
	if (ret == ERR_FOREIGN)
		return err_set(e, ret, "%s carries data: %s", path, ret_what);
	if (ret)
		return err_set(e, ret, "probe %s: %s", path, err_str(ret));
	return 0;
}
