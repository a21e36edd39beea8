#include "tools/names.h"
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

static bool name_valid(const char *name, size_t max)
{
	size_t len = name ? strlen(name) : 0;
	if (!len || len > max || !isalnum((unsigned char)*name))
		return false;
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)name[i];
		if (c >= 0x80 || (!isalnum(c) && !strchr("_-.+", c)))
			return false;
	}
	return true;
}

bool pool_name_valid(const char *name)
{
	return name_valid(name, POOL_NAME_MAX);
}

bool volume_name_valid(const char *name)
{
	return name_valid(name, VOL_NAME_MAX);
}

int volume_ref_parse(const char *text, struct volume_ref *ret_ref, struct err *e)
{
	const char *slash = strchr(text, '/');
	if (!slash)
		return err_set(e, -EINVAL, "%s: a volume is written POOL/VOLUME, as in tank/home",
			       text);
	size_t plen = (size_t)(slash - text);
	struct volume_ref r = {0};
	if (plen > POOL_NAME_MAX || strlen(slash + 1) > VOL_NAME_MAX)
		return err_set(e, -EINVAL, "%s: name too long (pool %d, volume %d characters)",
			       text, POOL_NAME_MAX, VOL_NAME_MAX);
	memcpy(r.pool, text, plen);
	memcpy(r.volume, slash + 1, strlen(slash + 1));
	if (!pool_name_valid(r.pool) || !volume_name_valid(r.volume))
		return err_set(e, -EINVAL,
			       "%s: names are letters, digits and _ - . +, "
			       "and start with a letter or digit",
			       text);
	*ret_ref = r;
	return 0;
}

const char *run_dir(void)
{
	const char *d = getenv("TARN_RUN_DIR");
	return d && *d == '/' ? d : "/run/tarn";
}

const char *state_dir(void)
{
	const char *d = getenv("TARN_STATE_DIR");
	return d && *d == '/' ? d : "/var/lib/tarn";
}

const char *run_path(char *buf, const char *pool, const char *leaf)
{
	int n = snprintf(buf, PATH_MAX, "%s/%s%s%s", run_dir(), pool, *leaf ? "/" : "", leaf);
	if (n >= PATH_MAX)
		abort(); /* names are checked; only an absurd environment gets here */
	return buf;
}

const char *state_path(char *buf, const char *pool)
{
	int n = snprintf(buf, PATH_MAX, "%s/%s.pool", state_dir(), pool);
	if (n >= PATH_MAX)
		abort();
	return buf;
}
