#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "base/err.h"

struct err_entry {
	int code;
	int sys; /* positive errno shown to the kernel */
	const char *text;
};

static const struct err_entry err_table[] = {
	{ERR_NEED_NODE, EAGAIN, "node not cached"},
	{ERR_CSUM, EIO, "checksum mismatch"},
	{ERR_MAGIC, EIO, "not the kind of block expected"},
	{ERR_ADDR, EIO, "block carries another address (misdirected write)"},
	{ERR_STALE, EIO, "block is older than expected (lost write)"},
	{ERR_POOL_ID, EIO, "block belongs to another pool"},
	{ERR_VERSION, EOPNOTSUPP, "format version or feature not supported"},
	{ERR_FORMAT, EIO, "structure inconsistent"},
	{ERR_DEV_GONE, EIO, "no usable device left"},
	{ERR_FAULTED, EIO, "pool suspended after an unrecoverable I/O error"},
	{ERR_IN_USE, EBUSY, "in use"},
	{ERR_FOREIGN, EEXIST, "device carries other data"},
	{ERR_NO_QUORUM, ENXIO, "not enough devices to prove the newest state"},
	{ERR_READONLY, EROFS, "pool is open read-only"},
};

_Static_assert(sizeof(err_table) / sizeof(err_table[0]) == ERR_LAST - ERR_BASE - 1,
	       "every private code has an entry");

static const struct err_entry *err_find(int code)
{
	for (unsigned i = 0; i < sizeof(err_table) / sizeof(err_table[0]); i++)
		if (err_table[i].code == code)
			return &err_table[i];
	return NULL;
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
	if (!e)
		return code;
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
	e->code = code;
	return code;
}

int err_wrap(struct err *e, const char *fmt, ...)
{
	if (!e || !e->code)
		return 0;
	char inner[sizeof(e->text)];
	memcpy(inner, e->text, sizeof(inner));
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
	if (n < 0)
		n = 0;
	size_t used = (size_t)n;
	if (used < sizeof(e->text) - 1) /* else the prefix alone fills it: truncated */
		snprintf(e->text + used, sizeof(e->text) - used, "%s%s", used ? ": " : "", inner);
	return e->code;
}

const char *err_str(int code)
{
	if (!code)
		return "success";
	const struct err_entry *t = err_find(code);
	if (t)
		return t->text;
	/* strerrordesc_np: constant text in the C locale, safe in any thread, NULL when unknown */
	const char *s = strerrordesc_np(code < 0 ? -code : code);
	return s ? s : "unknown error";
}

int err_errno(int code)
{
	if (!code)
		return 0;
	const struct err_entry *t = err_find(code);
	if (t)
		return t->sys;
	int sys = code < 0 ? -code : code;
	return sys < -ERR_BASE ? sys : EIO;
}
