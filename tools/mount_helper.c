#include "tools/mount_helper.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "tools/mount_volume.h"
#include "tools/options.h"

enum { MOUNT_USAGE = 1, MOUNT_FAILED = 32 };

static const struct option_spec specs[] = {
	{NULL, 'o', "OPTIONS", "mount options"},
	{NULL, 's', NULL, "ignored: sloppy options"},
	{NULL, 'f', NULL, "fake: do not mount"},
	{NULL, 'n', NULL, "ignored: there is no mtab"},
	{NULL, 'v', NULL, "say what is done"},
	{NULL, 't', "TYPE", "ignored"},
	{NULL, 'N', "NAMESPACE", "ignored"},
	{"help", 'h', NULL, "print this help"},
	{0},
};

/* All -o values as one list. */
static int join_options(const struct options *o, char *buf, size_t size)
{
	size_t len = 0;
	*buf = 0;
	for (unsigned i = 0; i < o->n; i++) {
		if (o->spec[i]->letter != 'o')
			continue;
		int n = snprintf(buf + len, size - len, "%s%s", len ? "," : "", o->value[i]);
		if (n < 0 || (size_t)n >= size - len)
			return -E2BIG;
		len += (size_t)n;
	}
	return 0;
}

int mount_helper_main(int argc, char **argv)
{
	struct options o;
	struct err e = {0};
	char list[4096];
	int r = options_parse(specs, argc - 1, argv + 1, &o, &e);
	if (!r && option_given(&o, "help")) {
		puts("usage: mount.fuse.tarn POOL/VOLUME DIRECTORY [-sfnv] "
		     "[-o OPTIONS]\n\noptions:");
		options_help(specs);
		return 0;
	}
	if (r || o.nargs != 2 || join_options(&o, list, sizeof(list))) {
		fprintf(stderr, "mount.fuse.tarn: %s\n",
			r ? e.text : "POOL/VOLUME and DIRECTORY are needed; see tarn-mount(8)");
		return MOUNT_USAGE;
	}
	if (option_given(&o, "v"))
		printf("mount.fuse.tarn: %s on %s (%s)\n", o.args[0], o.args[1], list);
	if (option_given(&o, "f"))
		return 0;
	r = mount_volume(o.args[0], o.args[1], list, &e);
	if (r)
		fprintf(stderr, "mount.fuse.tarn: %s\n", e.code ? e.text : err_str(r));
	return r ? MOUNT_FAILED : 0;
}
