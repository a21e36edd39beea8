/* fuzz_mount: what people type to mount and elsewhere: mount options, volumes, sizes, durations,
 * command lines. The first byte chooses: 'm' mount options, 'c' a command line (words end with a
 * newline), else the small ones. Understood within bounds, or refused with a code and a text.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include "fs/mount.h"
#include "tests/fuzz/driver.h"
#include "tools/names.h"
#include "tools/options.h"
#include "tools/size_text.h"

#define must(x)                                                            \
	do {                                                               \
		if (!(x)) {                                                \
			printf("%s:%d: not %s\n", __FILE__, __LINE__, #x); \
			abort();                                           \
		}                                                          \
	} while (0)

static void told(const struct err *e, int r)
{
	must(r <= 0 && r == e->code && !e->text[0] == !r);
}

static void mount_text(const char *s)
{
	struct mount_options o;
	struct err e = {0};
	memset(&o, 0x5a, sizeof(o));
	int r = mount_options_parse(s, &o, &e);
	told(&e, r);
	if (r) /* then nothing was touched */
		return;
	must(memchr(o.transport, 0, sizeof(o.transport)) && memchr(o.extra, 0, sizeof(o.extra)));
	must(!*o.transport || !strcmp(o.transport, "auto") || !strcmp(o.transport, "dev") ||
	     !strcmp(o.transport, "uring"));
	must(!o.allow_other || !o.allow_root);
	must(o.read_only == !!(o.flags & MS_RDONLY));
	must(!*o.extra || strlen(o.extra) <= strlen(s) + 1);
}

static void command_line(char *s)
{
	static const struct option_spec specs[] = {
		{"help", 'h', NULL, ""},
		{"options", 'o', "LIST", ""},
		{NULL, 'x', NULL, ""},
		{"long", 0, "VALUE", ""},
		{0},
	};
	static struct options o;
	static char *argv[1024];
	struct err e = {0};
	int argc = 0;
	for (char *word = s; word && argc < 1024; argc++) {
		argv[argc] = word;
		word = strchr(word, '\n');
		if (word)
			*word++ = 0;
	}
	int r = options_parse(specs, argc, argv, &o, &e);
	told(&e, r);
	must(o.nargs >= 0 && o.nargs <= argc && o.n <= OPTIONS_MAX);
	for (unsigned i = 0; i < o.n; i++)
		must(!o.spec[i]->value == !o.value[i]);
	option_given(&o, "help");
	option_value(&o, "o", "");
}

static void small_texts(const char *s)
{
	struct volume_ref ref;
	struct err e = {0};
	char buf[SIZE_TEXT_MAX];
	uint64_t n = 0;
	int r = volume_ref_parse(s, &ref, &e);
	told(&e, r);
	must(r || (pool_name_valid(ref.pool) && volume_name_valid(ref.volume)));
	r = size_parse(s, &n);
	must(r == 0 || r == -EINVAL || r == -ERANGE);
	must(r || n <= INT64_MAX);
	if (!r)
		must(strlen(size_text(buf, n, false)) < sizeof(buf));
	r = duration_parse(s, &n);
	must(r == -EINVAL || r == -ERANGE || (!r && n <= 3650ull * 86400));
	r = number_parse(s, 10, 1000, &n);
	must(r == -EINVAL || r == -ERANGE || (!r && n >= 10 && n <= 1000));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	char *s = strndup((const char *)data + 1, size - 1);
	must(s);
	if (data[0] == 'm')
		mount_text(s);
	else if (data[0] == 'c')
		command_line(s);
	else
		small_texts(s);
	free(s);
	return 0;
}
