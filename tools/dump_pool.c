#include "tools/dump_pool.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include "tools/size_text.h"

/* A hexadecimal number that is not 0, with or without 0x, nothing behind it. */
static bool is_hex(const char *s)
{
	char *end;
	if (!strncmp(s, "0x", 2))
		s += 2;
	if (!isxdigit((unsigned char)*s))
		return false;
	errno = 0;
	return strtoull(s, &end, 16) && !*end && !errno;
}

static int arg_check(const char *what, const char *arg, uint64_t *ret_index, struct err *e)
{
	bool number = !strcmp(what, "node") || !strcmp(what, "chunk");
	if (number && (!arg || !is_hex(arg)))
		return err_set(e, -EINVAL,
			       "%s:%s: a hexadecimal number is needed, as other dumps "
			       "print it",
			       what, arg ? arg : "");
	if (!strcmp(what, "sb") && arg && number_parse(arg, 0, POOL_DEVS_MAX - 1, ret_index))
		return err_set(e, -EINVAL,
			       "sb:%s: the number of a device is needed, as `tarn pool "
			       "status` prints it",
			       arg);
	return 0;
}

/* The n-th part of text; each begins with a line that is not indented. */
static bool part_print(const char *text, uint64_t n, FILE *f)
{
	bool found = false;
	uint64_t parts = 0;
	for (const char *line = text; *line;) {
		size_t len = strcspn(line, "\n");
		len += line[len] == '\n';
		parts += *line != ' ';
		if (parts == n + 1) {
			fwrite(line, 1, len, f);
			found = true;
		}
		line += len;
	}
	return found;
}

static int dump_one_sb(struct pool *p, uint64_t index, FILE *f, struct err *e)
{
	char *text = NULL;
	size_t len = 0;
	FILE *all = open_memstream(&text, &len);
	if (!all)
		return err_set(e, -ENOMEM, "out of memory");
	int r = pool_dump(p, "sb", NULL, all, e);
	fclose(all);
	if (!r && !part_print(text, index, f))
		r = err_set(e, -ENOENT, "sb:%u: the pool has no such device", (unsigned)index);
	free(text);
	return r;
}

int dump_pool(struct pool *p, const char *what, const char *arg, FILE *f, struct err *e)
{
	uint64_t index = 0;
	int r = arg_check(what, arg, &index, e);
	if (r)
		return r;
	if (arg && !strcmp(what, "sb"))
		return dump_one_sb(p, index, f, e);
	/* the pool reads hexadecimal numbers without a prefix */
	return pool_dump(p, what, arg && !strncmp(arg, "0x", 2) ? arg + 2 : arg, f, e);
}
