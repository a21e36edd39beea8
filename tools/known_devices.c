#include "tools/known_devices.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uuid/uuid.h>
#include "tools/log.h"

/* Is path the one the pool knows as member, of which it keeps a part only? */
static bool same_path(const char *path, const char *member)
{
	size_t kept = sizeof(((struct pool_dev_status *)0)->path) - 1;
	return *member && !strncmp(path, member, kept);
}

static bool is_known(const struct known_devices *k, const char *member)
{
	for (unsigned i = 0; i < k->file.ndevs; i++)
		if (same_path(k->file.devs[i], member))
			return true;
	return false;
}

static void forget(struct known_devices *k, const char *member)
{
	unsigned n = 0;
	for (unsigned i = 0; i < k->file.ndevs; i++) {
		if (same_path(k->file.devs[i], member))
			free(k->file.devs[i]);
		else
			k->file.devs[n++] = k->file.devs[i];
	}
	k->file.ndevs = n;
}

static void save(struct known_devices *k, int r)
{
	struct err e = {0};
	if (r)
		err_set(&e, r, "%s", err_str(r));
	else
		r = state_file_save(&k->file, &e);
	if (r)
		log_warn("the next start will not find its devices by itself: %s", e.text);
}

/* Members as they are now. */
static void members_take(struct known_devices *k, const struct pool_status *s)
{
	memset(k->member, 0, sizeof(k->member));
	for (unsigned i = 0; i < s->ndevs && i < POOL_DEVS_MAX; i++)
		if (s->devs[i].id < POOL_DEVS_MAX)
			memcpy(k->member[s->devs[i].id], s->devs[i].path, sizeof(k->member[0]));
}

static int members_add(struct known_devices *k, bool *ret_changed)
{
	int r = 0;
	for (unsigned i = 0; !r && i < POOL_DEVS_MAX; i++) {
		if (k->member[i][0] != '/' || is_known(k, k->member[i]))
			continue;
		r = state_file_add(&k->file, k->member[i]);
		*ret_changed = true;
	}
	return r;
}

void known_devices_start(struct daemon *d, char *const *devs, unsigned n)
{
	struct known_devices *k = &d->known;
	struct pool_status *s = calloc(1, sizeof(*s));
	bool changed;
	int r = s ? 0 : -ENOMEM;
	pthread_mutex_lock(&k->mutex);
	if (s) {
		pool_status_get(d->pool, s);
		snprintf(k->file.name, sizeof(k->file.name), "%s", d->name);
		uuid_unparse_lower(s->uuid, k->file.uuid);
		members_take(k, s);
	}
	for (unsigned i = 0; !r && i < n; i++)
		r = state_file_add(&k->file, devs[i]);
	if (!r)
		r = members_add(k, &changed);
	save(k, r);
	pthread_mutex_unlock(&k->mutex);
	free(s);
}

void known_devices_add(struct daemon *d, const char *path)
{
	pthread_mutex_lock(&d->known.mutex);
	save(&d->known, state_file_add(&d->known.file, path));
	pthread_mutex_unlock(&d->known.mutex);
}

static void sync_locked(struct known_devices *k, const struct pool_status *s)
{
	char(*before)[sizeof(k->member[0])] = malloc(sizeof(k->member));
	bool changed = false;
	if (!before)
		return; /* again next time */
	memcpy(before, k->member, sizeof(k->member));
	members_take(k, s);
	for (unsigned i = 0; i < POOL_DEVS_MAX; i++) {
		bool stays = !before[i][0];
		for (unsigned j = 0; !stays && j < POOL_DEVS_MAX; j++)
			stays = !strcmp(k->member[j], before[i]);
		if (stays)
			continue;
		forget(k, before[i]);
		changed = true;
	}
	int r = members_add(k, &changed);
	if (changed)
		save(k, r);
	free(before);
}

void known_devices_sync(struct daemon *d, const struct pool_status *s)
{
	struct pool_status *own = s ? NULL : calloc(1, sizeof(*own));
	if (!s && !own)
		return;
	pthread_mutex_lock(&d->known.mutex);
	if (own)
		pool_status_get(d->pool, own);
	sync_locked(&d->known, s ? s : own);
	pthread_mutex_unlock(&d->known.mutex);
	free(own);
}
