#include "tools/state_file.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "tools/ctl_proto.h"
#include "tools/names.h"

#define STATE_FILE_MAX (1u << 20)

/* Whole file as text. */
static int file_read(const char *path, char **ret_text, size_t *ret_len, struct err *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return err_set(e, -errno, "open %s: %s", path, strerror(errno));
	struct stat st;
	int r = fstat(fd, &st) ? -errno : 0;
	char *text = NULL;
	size_t len = 0;
	if (!r && (!S_ISREG(st.st_mode) || st.st_size > STATE_FILE_MAX))
		r = err_set(e, ERR_FORMAT, "%s: not a state file", path);
	else if (!r && ((st.st_uid && st.st_uid != geteuid()) || (st.st_mode & 022)))
		r = err_set(e, -EPERM,
			    "%s: owned or writable by somebody else; "
			    "chown root and chmod 644 it after looking into it",
			    path);
	else if (!r && !(text = malloc((size_t)st.st_size + 1)))
		r = err_set(e, -ENOMEM, "%s: out of memory", path);
	while (!r && len < (size_t)st.st_size) {
		ssize_t n = read(fd, text + len, (size_t)st.st_size - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			r = err_set(e, -errno, "read %s: %s", path, strerror(errno));
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	close(fd);
	if (r) {
		free(text);
		return r;
	}
	text[len] = 0;
	*ret_text = text;
	*ret_len = len;
	return 0;
}

/* Members of a parsed file into s. */
static int state_decode(struct json_object *o, const char *pool, struct state_file *s)
{
	struct json_object *v;
	const char *name = ctl_get_string(o, "name"), *uuid = ctl_get_string(o, "uuid");
	if (!name || strcmp(name, pool))
		return ERR_FORMAT;
	snprintf(s->name, sizeof(s->name), "%s", name);
	snprintf(s->uuid, sizeof(s->uuid), "%s", uuid ? uuid : "");
	if (!json_object_object_get_ex(o, "version", &v) || json_object_get_int(v) != 1)
		return ERR_VERSION;
	if (!json_object_object_get_ex(o, "devices", &v) ||
	    !json_object_is_type(v, json_type_array))
		return ERR_FORMAT;
	size_t n = json_object_array_length(v);
	if (!n || n > POOL_DEVS_MAX)
		return ERR_FORMAT;
	for (size_t i = 0; i < n; i++) {
		struct json_object *d = json_object_array_get_idx(v, i);
		if (!json_object_is_type(d, json_type_string))
			return ERR_FORMAT;
		int r = state_file_add(s, json_object_get_string(d));
		if (r)
			return r;
	}
	return 0;
}

int state_file_load(const char *pool, struct state_file *ret_s, struct err *e)
{
	char path[PATH_MAX];
	char *text = NULL;
	size_t len = 0;
	int r = file_read(state_path(path, pool), &text, &len, e);
	if (r)
		return r;
	while (len && (text[len - 1] == '\n' || text[len - 1] == ' '))
		len--;
	struct json_object *o = ctl_parse(text, len);
	free(text);
	struct state_file s = {0};
	r = o ? state_decode(o, pool, &s) : ERR_FORMAT;
	json_object_put(o);
	if (r) {
		state_file_fini(&s);
		return err_set(e, r, "%s: %s; import the pool with its devices to write a new one",
			       path, err_str(r));
	}
	*ret_s = s;
	return 0;
}

int state_file_add(struct state_file *s, const char *path)
{
	for (unsigned i = 0; i < s->ndevs; i++)
		if (!strcmp(s->devs[i], path))
			return 0;
	if (s->ndevs == POOL_DEVS_MAX)
		return -ENOSPC;
	s->devs[s->ndevs] = strdup(path);
	if (!s->devs[s->ndevs])
		return -ENOMEM;
	s->ndevs++;
	return 0;
}

void state_file_fini(struct state_file *s)
{
	for (unsigned i = 0; i < s->ndevs; i++)
		free(s->devs[i]);
	s->ndevs = 0;
}

/* Write text to a new file next to path, make it durable, put it in place. */
static int file_replace(const char *path, const char *text, struct err *e)
{
	char tmp[PATH_MAX + 8];
	snprintf(tmp, sizeof(tmp), "%s.new", path);
	int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0)
		return err_set(e, -errno, "create %s: %s", tmp, strerror(errno));
	size_t len = strlen(text);
	ssize_t n = write(fd, text, len);
	int r = n < 0 ? -errno : (size_t)n != len ? -ENOSPC : 0;
	if (!r && (fchmod(fd, 0644) || fsync(fd)))
		r = -errno;
	close(fd);
	if (!r && rename(tmp, path))
		r = -errno;
	if (r) {
		unlink(tmp);
		return err_set(e, r, "write %s: %s", path, strerror(-r));
	}
	int dir = open(state_dir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir >= 0) {
		fsync(dir);
		close(dir);
	}
	return 0;
}

int state_file_save(const struct state_file *s, struct err *e)
{
	char path[PATH_MAX];
	int r = folder_make(state_dir());
	if (r)
		return err_set(e, r, "mkdir %s: %s", state_dir(), strerror(-r));
	struct json_object *o = json_object_new_object(), *a = json_object_new_array();
	json_object_object_add(o, "version", json_object_new_int(1));
	json_object_object_add(o, "name", json_object_new_string(s->name));
	json_object_object_add(o, "uuid", json_object_new_string(s->uuid));
	for (unsigned i = 0; i < s->ndevs; i++)
		json_object_array_add(a, json_object_new_string(s->devs[i]));
	json_object_object_add(o, "devices", a);
	int flags = JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE;
	r = file_replace(state_path_own(path, s->name), json_object_to_json_string_ext(o, flags),
			 e);
	json_object_put(o);
	return r;
}

int state_file_remove(const char *pool, struct err *e)
{
	char path[PATH_MAX];
	if (unlink(state_path_own(path, pool)) && errno != ENOENT)
		return err_set(e, -errno, "remove %s: %s", path, strerror(errno));
	return 0;
}

/* cb for every pool with a state file in dir (NULL: none), but not those that are in `but` too. */
static void state_files_in(const char *dir, const char *but,
			   void (*cb)(void *arg, const char *pool), void *arg)
{
	struct dirent **list = NULL;
	int n = dir ? scandir(dir, &list, NULL, alphasort) : 0;
	for (int i = 0; i < n; i++) {
		char path[PATH_MAX];
		char *dot = strrchr(list[i]->d_name, '.');
		bool other =
			but &&
			snprintf(path, sizeof(path), "%s/%s", but, list[i]->d_name) < PATH_MAX &&
			!access(path, F_OK);
		if (dot && !strcmp(dot, ".pool") && !other) {
			*dot = 0;
			if (pool_name_valid(list[i]->d_name))
				cb(arg, list[i]->d_name);
		}
		free(list[i]);
	}
	free(list);
}

void state_file_each(void (*cb)(void *arg, const char *pool), void *arg)
{
	state_files_in(state_dir(), NULL, cb, arg);
	state_files_in(state_dir_system(), state_dir(), cb, arg);
}

/* cb for every pool in dir (NULL: none) whose files run_path() takes from there. */
static void running_in(const char *dir, void (*cb)(void *arg, const char *pool), void *arg)
{
	struct dirent **list = NULL;
	int n = dir ? scandir(dir, &list, NULL, alphasort) : 0;
	for (int i = 0; i < n; i++) {
		char path[PATH_MAX];
		if (pool_name_valid(list[i]->d_name) &&
		    !strncmp(run_path(path, list[i]->d_name, "control"), dir, strlen(dir)) &&
		    path[strlen(dir)] == '/' && !access(path, F_OK))
			cb(arg, list[i]->d_name);
		free(list[i]);
	}
	free(list);
}

void running_each(void (*cb)(void *arg, const char *pool), void *arg)
{
	running_in(run_dir(), cb, arg);
	running_in(run_dir_system(), cb, arg);
}
