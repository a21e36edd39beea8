#include "tools/new_device.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "tools/names.h"

int new_device_prepare(const char *arg, uint64_t size, struct new_device *before, unsigned n,
		       struct new_device *ret_d, struct err *e)
{
	struct new_device *d = ret_d;
	struct stat st;
	if (stat(arg, &st)) {
		if (errno != ENOENT)
			return err_set(e, -errno, "%s: %s", arg, strerror(errno));
		if (!size)
			return err_set(e, -ENOENT, "%s does not exist; give --size to have it made",
				       arg);
		int r = dev_file_make_sparse(arg, size, e);
		if (r)
			return r;
		d->made = true;
	}
	if (!realpath(arg, d->path) || stat(d->path, &st))
		return err_set(e, -errno, "%s: %s", arg, strerror(errno));
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_set(e, -EINVAL, "%s is neither a file nor a block device", arg);
	d->dev = st.st_dev;
	d->ino = st.st_ino;
	for (unsigned i = 0; i < n; i++)
		if (before[i].dev == d->dev && before[i].ino == d->ino)
			return err_set(e, -EINVAL, "%s and %s are the same device", before[i].path,
				       arg);
	return 0;
}

void new_device_undo(struct new_device *d)
{
	if (d->made)
		unlink(d->path);
	d->made = false;
}

int new_device_probe(const char *path, bool force, struct err *e)
{
	char what[256] = "";
	struct err probe = {0};
	int r = dev_probe_foreign(path, what, sizeof(what), &probe);
	if (!r || (r == ERR_FOREIGN && force))
		return 0;
	if (r != ERR_FOREIGN)
		return err_set(e, r, "%s", probe.code ? probe.text : err_str(r));
	return err_set(e, r, "%s carries data: %s; use --force to destroy it", path, what);
}

int new_device_label(struct dev_backend *b, bool force, struct err *e)
{
	struct pool_label *l = calloc(1, sizeof(*l));
	struct err why = {0};
	int look = l ? pool_label_read(b, l, &why) : -ENOMEM, r = 0;
	if (force)
		r = 0;
	else if (look == -ENOMEM || look == -EIO) /* whose it is is not known */
		r = err_set(e, look, "%s: %s", b->path, why.code ? why.text : err_str(look));
	else if (!look || look == ERR_VERSION)
		r = err_set(e, ERR_FOREIGN,
			    "%s belongs to pool %s; "
			    "use --force to destroy what is there",
			    b->path, l->name);
	free(l);
	return r;
}

bool new_device_word(const char *text, size_t max)
{
	return strlen(text) <= max && pool_name_valid(text);
}

const char *new_device_class(const struct dev_backend *b)
{
	if (!b->is_block)
		return "";
	return b->nvme ? "nvme" : b->rotational ? "hdd" : "ssd";
}
