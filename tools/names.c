#include "tools/names.h"
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

/* VOLUME, or VOLUME@NAME of a snapshot. */
bool volume_name_valid(const char *name)
{
	char volume[VOL_NAME_MAX + 1];
	const char *at = name ? strchr(name, '@') : NULL;
	if (!at)
		return name_valid(name, VOL_NAME_MAX);
	if (strlen(name) > VOL_NAME_MAX || !at[1])
		return false;
	memcpy(volume, name, (size_t)(at - name));
	volume[at - name] = 0;
	for (const char *c = at + 1; *c; c++)
		if ((unsigned char)*c >= 0x80 ||
		    (!isalnum((unsigned char)*c) && !strchr("_-.:", *c)))
			return false;
	return name_valid(volume, VOL_NAME_MAX);
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

/* ---- folders ---- */

#define SYSTEM_RUN_DIR	 "/run/tarn"
#define SYSTEM_STATE_DIR "/var/lib/tarn"
#define DIR_MAX		 (PATH_MAX - 256)

static struct {
	char run[DIR_MAX], state[DIR_MAX];
	bool also_system_run, also_system_state; /* an ordinary user sees those as well */
} dirs;
static pthread_once_t dirs_once = PTHREAD_ONCE_INIT;

/* An environment variable that must be an absolute path to count. */
static const char *env_path(const char *name)
{
	const char *d = getenv(name);
	return d && *d == '/' ? d : NULL;
}

static void dir_set(char *buf, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void dir_set(char *buf, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(buf, DIR_MAX, fmt, ap);
	va_end(ap);
	if (n >= DIR_MAX)
		abort(); /* only an absurd environment gets here */
}

static void run_dir_find(void)
{
	const char *own = env_path("TARN_RUN_DIR"), *runtime = env_path("XDG_RUNTIME_DIR");
	dirs.also_system_run = !own && geteuid();
	if (own || !geteuid())
		dir_set(dirs.run, "%s", own ? own : SYSTEM_RUN_DIR);
	else if (runtime)
		dir_set(dirs.run, "%s/tarn", runtime);
	else
		dir_set(dirs.run, "/run/user/%u/tarn", (unsigned)geteuid());
}

static void state_dir_find(void)
{
	const char *own = env_path("TARN_STATE_DIR"), *state = env_path("XDG_STATE_HOME");
	const char *home = env_path("HOME");
	const struct passwd *pw = home ? NULL : getpwuid(geteuid());
	dirs.also_system_state = !own && geteuid();
	if (own || !geteuid())
		dir_set(dirs.state, "%s", own ? own : SYSTEM_STATE_DIR);
	else if (state)
		dir_set(dirs.state, "%s/tarn", state);
	else
		dir_set(dirs.state, "%s/.local/state/tarn", home ? home : pw ? pw->pw_dir : "");
}

static void dirs_find(void)
{
	run_dir_find();
	state_dir_find();
}

const char *run_dir(void)
{
	pthread_once(&dirs_once, dirs_find);
	return dirs.run;
}

const char *run_dir_system(void)
{
	run_dir();
	return dirs.also_system_run ? SYSTEM_RUN_DIR : NULL;
}

const char *state_dir(void)
{
	pthread_once(&dirs_once, dirs_find);
	return dirs.state;
}

const char *state_dir_system(void)
{
	state_dir();
	return dirs.also_system_state ? SYSTEM_STATE_DIR : NULL;
}

int folder_make(const char *path)
{
	char part[PATH_MAX];
	size_t n = strlen(path);
	if (n >= sizeof(part))
		return -ENAMETOOLONG;
	memcpy(part, path, n + 1);
	for (char *p = strchr(part + 1, '/'); p; p = strchr(p + 1, '/')) {
		*p = 0;
		if (mkdir(part, 0700) && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	return mkdir(part, 0755) && errno != EEXIST ? -errno : 0;
}

static const char *join(char *buf, const char *dir, const char *name, const char *tail)
{
	int n = snprintf(buf, PATH_MAX, "%s/%s%s", dir, name, tail);
	if (n >= PATH_MAX)
		abort(); /* names are checked; only an absurd environment gets here */
	return buf;
}

const char *run_path_own(char *buf, const char *pool, const char *leaf)
{
	char tail[64];
	snprintf(tail, sizeof(tail), "%s%s", *leaf ? "/" : "", leaf);
	return join(buf, run_dir(), pool, tail);
}

const char *run_path(char *buf, const char *pool, const char *leaf)
{
	const char *system = run_dir_system();
	struct stat st;
	char tail[64];
	/* our own daemon lives, or was killed: its number is in the file until a clean end */
	if (!system || (!stat(run_path_own(buf, pool, "pid"), &st) && st.st_size > 0))
		return run_path_own(buf, pool, leaf);
	if (access(join(buf, system, pool, "/control"), F_OK))
		return run_path_own(buf, pool, leaf);
	snprintf(tail, sizeof(tail), "%s%s", *leaf ? "/" : "", leaf);
	return join(buf, system, pool, tail);
}

const char *state_path_own(char *buf, const char *pool)
{
	return join(buf, state_dir(), pool, ".pool");
}

const char *state_path(char *buf, const char *pool)
{
	const char *system = state_dir_system();
	if (system && access(state_path_own(buf, pool), F_OK) &&
	    !access(join(buf, system, pool, ".pool"), F_OK))
		return buf;
	return state_path_own(buf, pool);
}
