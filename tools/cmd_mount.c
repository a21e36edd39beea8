/* cmd_mount: `tarn mount` and `tarn umount`. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "tools/command.h"
#include "tools/mount_volume.h"

static int cmd_mount(struct call *c)
{
	char list[4096] = "";
	size_t len = 0;
	for (unsigned i = 0; i < c->opt.n; i++) {
		if (c->opt.spec[i]->letter != 'o')
			continue;
		int n = snprintf(list + len, sizeof(list) - len, "%s%s", len ? "," : "",
				 c->opt.value[i]);
		if (n < 0 || (size_t)n >= sizeof(list) - len)
			return call_usage(c, "option list too long");
		len += (size_t)n;
	}
	int r = mount_volume(c->opt.args[0], c->opt.args[1], list, &c->e);
	if (r && !c->e.code)
		err_set(&c->e, r, "%s", err_str(r));
	return r ? EXIT_FAILED : EXIT_OK;
}

static int cmd_umount(struct call *c)
{
	bool force = option_given(&c->opt, "force");
	for (int i = 0; i < c->opt.nargs; i++) {
		int r = umount_volume(c->opt.args[i], force, &c->e);
		if (r && !c->e.code)
			err_set(&c->e, r, "%s: %s", c->opt.args[i], err_str(r));
		if (r)
			return EXIT_FAILED;
	}
	return EXIT_OK;
}

static const struct option_spec mount_specs[] = {
	OPTION_HELP,
	{"options", 'o', "LIST", "comma-separated mount options, see tarn-mount(8)"},
	{0},
};
static const struct option_spec umount_specs[] = {
	OPTION_HELP,
	{"force", 'f', NULL, "detach at once, also when in use"},
	{0},
};

const struct command commands_mount[] = {
	{"mount", "POOL/VOLUME DIRECTORY", "mount a file system volume", mount_specs, 2, 2,
	 cmd_mount,
	 "Mounts in the mount namespace of the caller. Root may mount every volume, other users "
	 "those they own (with fusermount3)."},
	{"umount", "DIRECTORY...", "unmount, and clean dead mounts", umount_specs, 1, -1,
	 cmd_umount, "A mount whose daemon was killed is always cleaned."},
	{0},
};
