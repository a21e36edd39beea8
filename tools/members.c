#include "tools/members.h"
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/co.h"
#include "tools/hop.h"
#include "tools/names.h"
#include "tools/pid_file.h"

#define SETTLE_POLL_MS 20

struct search {
	char *const *paths;
	int n;
	struct members *m;
	struct err *e;
	struct err newer; /* the last device of a pool that a newer Tarn has written to */
	uint8_t newer_uuid[16];
};

static int member_add(struct members *m, const char *path, const struct pool_label *l,
		      struct err *e)
{
	for (unsigned i = 0; i < m->n; i++)
		if (!strcmp(m->path[i], path))
			return 0;
	if (m->n && memcmp(m->label.uuid, l->uuid, sizeof(l->uuid)))
		return err_set(e, ERR_POOL_ID,
			       "%s belongs to pool %s, %s to pool %s; "
			       "name the devices of one pool",
			       m->path[0], m->label.name, path, l->name);
	if (m->n == POOL_DEVS_MAX)
		return err_set(e, -E2BIG, "more than %d devices", POOL_DEVS_MAX);
	if (!m->n || l->txn > m->label.txn)
		m->label = *l;
	m->path[m->n] = strdup(path);
	return m->path[m->n++] ? 0 : err_set(e, -ENOMEM, "out of memory");
}

/* Is the device that of a pool whose daemon was killed a moment ago? */
static bool held_by_killed(const char *path)
{
	struct dev_backend *b;
	struct pool_label l;
	if (dev_file_open(path, DEV_OPEN_RDONLY | DEV_OPEN_FORCE, &b, NULL))
		return false;
	int r = pool_label_read(b, &l, NULL);
	dev_close(b);
	return !r && pool_name_valid(l.name) && pid_file_killed(l.name);
}

static int member_open(const char *path, struct dev_backend **ret_b, struct err *e)
{
	for (int waited = 0;; waited += SETTLE_POLL_MS) {
		memset(e, 0, sizeof(*e));
		int r = dev_file_open(path, DEV_OPEN_RDONLY, ret_b, e);
		if (r != ERR_IN_USE || waited >= PID_FILE_KILLED_MS || !held_by_killed(path))
			return r;
		co_sleep_ns(SETTLE_POLL_MS * 1000000ull);
	}
}

/* One file or device. quiet: found by looking into a directory. */
static int path_look(struct search *s, const char *given, bool quiet)
{
	char path[PATH_MAX];
	struct stat st;
	struct err e = {0};
	struct dev_backend *b;
	struct pool_label l;
	if (!realpath(given, path) || stat(path, &st))
		return err_set(s->e, -errno, "%s: %s", given, strerror(errno));
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
		if (!quiet)
			fprintf(stderr, "tarn: %s: neither a file nor a block device, left out\n",
				given);
		return 0;
	}
	int r = member_open(path, &b, &e);
	if (!r) {
		r = pool_label_read(b, &l, &e);
		dev_close(b);
		if (!r)
			return member_add(s->m, strncmp(given, "/dev/disk/", 10) ? path : given, &l,
					  s->e);
		if (r == ERR_VERSION) {
			s->newer = e;
			memcpy(s->newer_uuid, l.uuid, sizeof(s->newer_uuid));
		}
	} else if (r == ERR_IN_USE && !quiet) {
		return err_set(s->e, r,
			       "%s; when its pool is running here, give the name of "
			       "the pool",
			       e.text);
	}
	if (!quiet)
		fprintf(stderr, "tarn: %s: not a device of a pool (%s), left out\n", given,
			e.code ? e.text : err_str(r));
	return 0;
}

static int directory_look(struct search *s, const char *dir)
{
	struct dirent **list = NULL;
	int n = scandir(dir, &list, NULL, alphasort), r = 0;
	if (n < 0)
		return err_set(s->e, -errno, "%s: %s", dir, strerror(errno));
	for (int i = 0; i < n; i++) {
		char path[PATH_MAX];
		int len = snprintf(path, sizeof(path), "%s/%s", dir, list[i]->d_name);
		if (!r && list[i]->d_name[0] != '.' && len < PATH_MAX)
			r = path_look(s, path, true);
		free(list[i]);
	}
	free(list);
	return r;
}

static int search_co(void *arg)
{
	struct search *s = arg;
	int r = 0;
	for (int i = 0; !r && i < s->n; i++) {
		struct stat st;
		if (!stat(s->paths[i], &st) && S_ISDIR(st.st_mode))
			r = directory_look(s, s->paths[i]);
		else
			r = path_look(s, s->paths[i], false);
	}
	/* The others of its pool are not to be used without it. */
	if (!r && s->newer.code &&
	    (!s->m->n || !memcmp(s->m->label.uuid, s->newer_uuid, sizeof(s->newer_uuid))))
		return err_set(s->e, s->newer.code, "%s", s->newer.text);
	if (!r && !s->m->n)
		r = err_set(s->e, -ENOENT, "no device of a pool found%s",
			    s->n == 1 ? " there" : " among these");
	return r;
}

int members_find(char *const *paths, int n, struct members *ret_m, struct err *e)
{
	struct search s = {.paths = paths, .n = n, .m = ret_m, .e = e};
	ret_m->n = 0;
	int r = hop_private(search_co, &s);
	if (r) {
		members_fini(ret_m);
		if (e && !e->code)
			err_set(e, r, "start input and output: %s", err_str(r));
	}
	return r;
}

void members_fini(struct members *m)
{
	for (unsigned i = 0; i < m->n; i++)
		free(m->path[i]);
	m->n = 0;
}

struct use {
	const struct members *m;
	members_fn *fn;
	void *arg;
	struct err *e;
};

static int use_co(void *arg)
{
	struct use *u = arg;
	struct dev_backend *devs[POOL_DEVS_MAX];
	struct pool_options o = {.read_only = true, .degraded_ok = true};
	struct pool *p = NULL;
	unsigned n = 0;
	int r = 0;
	for (unsigned i = 0; !r && i < u->m->n; i++) {
		r = dev_file_open(u->m->path[i], DEV_OPEN_RDONLY, &devs[n], u->e);
		n += !r;
	}
	if (r) {
		while (n)
			dev_close(devs[--n]);
		return r;
	}
	r = pool_import(devs, n, &o, reactor_current(), &p, u->e);
	if (r)
		return r;
	r = u->fn(p, u->arg);
	pool_export(p, true, NULL);
	return r;
}

int members_use(const struct members *m, members_fn *fn, void *arg, struct err *e)
{
	struct use u = {m, fn, arg, e};
	int r = hop_private(use_co, &u);
	if (r && e && !e->code)
		err_set(e, r, "%s", err_str(r));
	return r;
}
