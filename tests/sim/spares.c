/* spares: hot spares and classes of devices, as an administrator gives them and as the pool uses
 * them.
 *
 * The pool itself gives up a device whose place a spare took: the world notes it after the step.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "pool/chunk.h"
#include "pool/sb_format.h"
#include "tests/sim/cover.h"
#include "tests/sim/sim_reactor.h"
#include "tests/sim/spares.h"

static const char *const classes[] = {"ssd", "ssd", "ssd", "hdd", "hdd", ""};
#define CLASSES (sizeof(classes) / sizeof(classes[0]))

void spares_init(struct world *w)
{
	struct sim_rng g = rng_of(w->seed, 98); /* the histories of the others stay as they are */
	w->with_spares = rng_chance(&g, 1, 4);
	w->with_classes = rng_chance(&g, 1, 4);
	w->administered |= w->with_spares || w->with_classes;
	if (w->with_spares && w->faults == FAULTS_NONE && !w->opt.no_faults && !w->opt.canary &&
	    rng_chance(&g, 2, 3))
		w->faults = FAULTS_LOUD; /* else no spare is needed */
	for (unsigned i = 0; w->with_classes && i < WORLD_DISKS_MAX; i++)
		snprintf(w->disk_class[i], sizeof(w->disk_class[i]), "%s",
			 classes[rng_below(&g, CLASSES)]);
}

const char *spares_pick_class(struct sim_rng *g)
{
	return classes[rng_below(g, CLASSES)];
}

/* ---- what an administrator does ---- */

static const struct pool_dev_status *pick_member(struct world *w, int *ret_disk)
{
	*ret_disk = disk_pick(w);
	return *ret_disk < 0 ? NULL : disk_status(w, (unsigned)*ret_disk);
}

/* Refusals that leave everything as it was. */
static bool refused(int rc)
{
	if (rc != -ENOSPC && rc != -EBUSY && rc != -EEXIST && rc != -ENOENT)
		return false;
	cover_hit(COVER_REFUSED);
	return true;
}

void spares_make(struct world *w)
{
	struct err e = {0};
	int d;
	unsigned fewest = w->faults == FAULTS_NONE ? 1 : 2;
	const struct pool_dev_status *s = pick_member(w, &d);
	if (!w->with_spares || !s || disks_in(w) <= fewest)
		return;
	int rc = pool_dev_make_spare(w->pool, s->id, &e);
	world_log(w, "admin: disk%d becomes a spare -> %d", d, rc);
	if (refused(rc) || (rc && world_excuses(w, NULL, rc)))
		return;
	if (rc)
		world_fail(w, "pool_dev_make_spare disk%d: %d %s", d, rc, e.text);
	cover_hit(COVER_SPARES_MADE);
}

void spares_set_after(struct world *w)
{
	static const unsigned s[] = {1, 1, 3, 10, 30, 0};
	if (!w->with_spares)
		return;
	unsigned after = s[rng_below(&w->rng, 6)];
	int rc = pool_set_spare_after(w->pool, after);
	world_log(w, "admin: spares take over after %u s -> %d", after, rc);
	if (rc && !world_excuses(w, NULL, rc))
		world_fail(w, "pool_set_spare_after: %d %s", rc, err_str(rc));
}

void spares_set_class(struct world *w)
{
	struct err e = {0};
	int d;
	const struct pool_dev_status *s = pick_member(w, &d);
	if (!w->with_classes || !s || w->class_changes[d])
		return;
	const char *to = spares_pick_class(&w->rng);
	snprintf(w->other_class[d], sizeof(w->other_class[d]), "%s", to);
	w->class_changes[d] = true; /* after a crash: either */
	int rc = pool_dev_set_class(w->pool, s->id, to, &e);
	world_log(w, "admin: disk%d is of class '%s' -> %d", d, to, rc);
	if (rc && !refused(rc) && world_excuses(w, NULL, rc))
		return;
	w->class_changes[d] = false;
	if (rc && !refused(rc))
		world_fail(w, "pool_dev_set_class disk%d: %d %s", d, rc, e.text);
	if (rc)
		return;
	memcpy(w->disk_class[d], to, strlen(to) + 1);
	cover_hit(COVER_DEV_CLASSES);
}

/* ---- what the pool does ---- */

static int disk_of(const struct world *w, const struct dev *d)
{
	char path[64];
	for (unsigned i = 0; i < w->ndisks; i++) {
		snprintf(path, sizeof(path), "/sim/%s", sim_disk_name(w->disk[i]));
		if (!strcmp(d->path, path))
			return (int)i;
	}
	return -1;
}

/* Chunks that no other device has a current copy of. */
static unsigned only_there(const struct pool *p, unsigned dev)
{
	unsigned n = 0;
	for (size_t h = 0; h < p->chunk_hash_size; h++)
		for (const struct chunk *c = p->chunk_hash[h]; c; c = c->hash_next) {
			bool there = false, others = false;
			for (unsigned k = 0; k < c->nmembers; k++) {
				there |= c->m[k].dev == dev;
				others |= c->m[k].dev != dev &&
					  p->devs[c->m[k].dev].state == DEV_ONLINE &&
					  !chunk_member_since(p, &c->m[k]);
			}
			n += there && !others && c->used;
		}
	return n;
}

static unsigned members_on(const struct pool *p, unsigned dev)
{
	unsigned n = 0;
	for (size_t h = 0; h < p->chunk_hash_size; h++)
		for (const struct chunk *c = p->chunk_hash[h]; c; c = c->hash_next)
			for (unsigned k = 0; k < c->nmembers; k++)
				n += c->m[k].dev == dev;
	return n;
}

/* ---- how long devices are lost ---- */

#define NOTED_AT_LAST_NS (120 * SIM_SEC)

static bool counts_as_lost(const struct dev *d)
{
	return (d->state == DEV_MISSING || d->state == DEV_FAULTED) &&
	       !(d->flags & (DEV_F_EVACUATE | DEV_F_SPARE));
}

static void begin_loss(struct world *w, struct wloss *l, bool first_look)
{
	/* Nobody watches an import. */
	uint64_t now = first_look ? w->boot_ns : w->r->ops->wall_ns(w->r);
	if (!l->since_ns)
		l->boot = w->boots;
	if (!l->since_ns || l->since_ns > now) /* the clock was set back */
		l->since_ns = now;
}

static void watch_loss(struct world *w, const struct dev *d, unsigned disk, bool first_look)
{
	struct wloss *l = &w->loss[disk];
	const struct pool *p = w->pool;
	if (d->state != DEV_MISSING && d->state != DEV_FAULTED)
		l->since_ns = 0;
	else
		begin_loss(w, l, first_look);
	if (first_look || !counts_as_lost(d))
		l->seen_ns = w->r->ops->now_ns(w->r);
	l->noted_ns =
		d->id < le32_get(p->sb->devs_count) ? le64_get(p->sb->devs[d->id].lost_ns) : 0;
	if (counts_as_lost(d) && !l->noted_ns && !p->commit_running && !p->faulted &&
	    w->r->ops->now_ns(w->r) - l->seen_ns > NOTED_AT_LAST_NS)
		world_fail(w, "disk%u is lost, and no superblock says since when", disk);
}

/* It goes on over a restart, unless the device was back in between. */
static void check_noted(struct world *w, const struct dev *d, unsigned disk)
{
	struct wloss *l = &w->loss[disk];
	if (d->state != DEV_MISSING)
		l->since_ns = 0;
	if (d->state != DEV_MISSING || !l->noted_ns)
		return;
	bool lost_before = l->since_ns && l->since_ns <= l->noted_ns && l->boot != w->boots;
	if (lost_before && counts_as_lost(d) && (!d->lost_ns || d->lost_ns > l->noted_ns))
		world_fail(w, "after an import disk%u is lost since %llu, not %llu", disk,
			   (unsigned long long)d->lost_ns, (unsigned long long)l->noted_ns);
	if (!l->since_ns || l->since_ns > l->noted_ns)
		l->since_ns = l->noted_ns; /* a return that was not durable */
}

/* ---- takeovers ---- */

static void check_due(struct world *w, const struct dev *d, int disk, uint64_t at_ns)
{
	const struct wloss *l = &w->loss[disk];
	uint64_t after = w->pool->spare_after_s;
	uint64_t lost = at_ns > l->since_ns ? at_ns - l->since_ns : 0;
	if (!w->with_spares)
		world_fail(w, "a spare takes over from disk%d, and there is none", disk);
	if (!l->since_ns)
		world_fail(w, "a spare takes over from disk%d, which is %s", disk,
			   dev_state_name(d->state));
	if (after == SPARE_NEVER || lost / SIM_SEC < after)
		world_fail(w,
			   "a spare takes over from disk%d, which is lost for %llu ms, not %llu s",
			   disk, (unsigned long long)(lost / SIM_MS), (unsigned long long)after);
}

static void taken(struct world *w, const struct dev *d, int disk, uint64_t at_ns)
{
	if (disk < 0 || w->disk_state[disk] != WDISK_IN)
		return;
	check_due(w, d, disk, at_ns);
	world_log(w, "a spare takes the place of disk%d, %s", disk, dev_state_name(d->state));
	w->disk_state[disk] = WDISK_LEAVING;
	w->loss[disk].taken = true;
	cover_hit(COVER_TAKEOVERS);
	cover_hit(d->state == DEV_FAULTED ? COVER_TAKEN_FAILED : COVER_TAKEN_VANISHED);
	cover_add(COVER_TAKEN_LATER, w->loss[disk].boot != w->boots);
}

/* One whose place is taken may come in only to give away what nobody else has. */
static void watch_taken(struct world *w, const struct dev *d, int disk, enum dev_state was)
{
	taken(w, d, disk, w->r->ops->wall_ns(w->r));
	if (d->state != DEV_RESYNC || was == DEV_RESYNC || was == DEV_ONLINE)
		return;
	if (!only_there(w->pool, d->id))
		world_fail(w, "device %u is back although a spare has its place", d->id);
	cover_hit(COVER_TAKEN_LET_IN);
}

struct spare_seen {
	bool known, spare;
	int disk;
	enum dev_state state;
	uint32_t used;
};

static uint32_t slots_used(const struct dev *d)
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < (d->slots + 63) / 64; i++)
		n += (uint32_t)__builtin_popcountll(d->slot_used[i]);
	return n;
}

static void watch_device(struct world *w, const struct dev *d, struct spare_seen *seen)
{
	struct spare_seen now = {.known = true, .disk = seen->disk, .state = d->state};
	if (!seen->known)
		now.disk = disk_of(w, d);
	if (now.disk >= 0 && w->with_spares)
		watch_loss(w, d, (unsigned)now.disk, !seen->known);
	if (d->flags & DEV_F_TAKEN)
		watch_taken(w, d, now.disk, seen->state);
	if (d->flags & DEV_F_SPARE) {
		now.spare = true;
		now.used = slots_used(d);
		if (seen->spare && now.used > seen->used)
			world_fail(w, "spare %u was given a chunk", d->id);
	}
	*seen = now;
}

void spares_watch(struct world *w)
{
	static struct spare_seen seen[POOL_DEVS_MAX];
	static const struct pool *last;
	const struct pool *p = w->pool;
	if (p != last)
		memset(seen, 0, sizeof(seen));
	last = p;
	for (unsigned i = 0; p && i < p->ndevs; i++) {
		if (p->devs[i].state != DEV_NONE)
			watch_device(w, &p->devs[i], &seen[i]);
		else
			seen[i].known = seen[i].spare = false;
	}
}

/* ---- after an import, and at the end ---- */

void spares_boot(struct world *w)
{
	uint64_t now = w->r->ops->wall_ns(w->r);
	if (!w->boot_cut_short)
		w->boot_last_ns = 0;
	if (!w->boot_cut_short || w->boot_ns > now)
		w->boot_ns = now;
	w->boot_cut_short = true;
}

/* The pool's own counter may be ahead of the entries, by those that were not made in the end; after
 * a restart it is not. */
void spares_joins(struct world *w, unsigned disk)
{
	static struct pool_history_entry e;
	memset(&w->loss[disk], 0, sizeof(w->loss[disk]));
	for (e.seq = 0; !pool_history_next(w->pool, e.seq, &e);)
		continue;
	w->loss[disk].joined = e.seq;
}

static void read_entry(struct world *w, const struct pool_history_entry *e)
{
	static const char text[] = "takes the place of device";
	char path[64];
	const char *at = strstr(e->text, text);
	for (unsigned i = 0; at && i < w->ndisks; i++) {
		snprintf(path, sizeof(path), "(/sim/%s)", sim_disk_name(w->disk[i]));
		if (e->seq <= w->loss[i].joined || !strstr(at, path))
			continue;
		w->loss[i].told = true;
		w->loss[i].told_ns = e->wall_ns;
	}
}

/* A takeover that nobody has seen, in an import that was cut short. */
static void find_taken(struct world *w, const struct dev *d)
{
	int disk = disk_of(w, d);
	if (disk < 0)
		return;
	struct wloss *l = &w->loss[disk];
	check_noted(w, d, (unsigned)disk);
	if (!(d->flags & DEV_F_TAKEN)) {
		if (l->told)
			world_fail(w, "the history says that a spare has the place of disk%d",
				   disk);
		l->taken = false;
		return;
	}
	if (w->disk_state[disk] == WDISK_IN) {
		begin_loss(w, l, true);
		taken(w, d, disk, l->told_ns);
	}
	l->taken = true;
}

void spares_read_history(struct world *w)
{
	static struct pool_history_entry e;
	int rc = 0;
	w->boot_cut_short = false;
	if (!w->with_spares)
		return;
	for (unsigned i = 0; i < w->ndisks; i++)
		w->loss[i].told = false;
	for (e.seq = 0; !rc;) {
		rc = pool_history_next(w->pool, e.seq, &e);
		if (!rc)
			read_entry(w, &e);
	}
	if (rc != -ENOENT)
		world_fail(w, "pool_history_next: %d %s", rc, err_str(rc));
	for (unsigned i = 0; i < w->pool->ndevs; i++)
		if (w->pool->devs[i].state != DEV_NONE)
			find_taken(w, &w->pool->devs[i]);
	for (unsigned i = 0; i < w->ndisks; i++)
		if (w->loss[i].taken && disk_is_member(w, i) && !w->loss[i].told)
			world_fail(w,
				   "a spare has the place of disk%u, and the history has no word "
				   "of it",
				   i);
}

void spares_sync(struct world *w, unsigned disk, const struct pool_dev_status *s)
{
	if (w->class_changes[disk] && !strcmp(s->class_name, w->other_class[disk]))
		snprintf(w->disk_class[disk], sizeof(w->disk_class[disk]), "%s", s->class_name);
	w->class_changes[disk] = false;
	if (strcmp(s->class_name, w->disk_class[disk]))
		world_fail(w, "after an import disk%u is of class '%s', not '%s'", disk,
			   s->class_name, w->disk_class[disk]);
}

bool spares_busy(const struct world *w)
{
	const struct pool *p = w->pool;
	for (unsigned i = 0; i < p->ndevs; i++)
		if (p->devs[i].state != DEV_NONE && p->devs[i].flags & DEV_F_SPARE &&
		    slots_used(&p->devs[i]))
			return true;
	return p->misplaced;
}

static void check_chunk(struct world *w, const struct chunk *c)
{
	const struct pool *p = w->pool;
	for (unsigned k = 0; k < c->nmembers; k++) {
		const struct dev *d = &p->devs[c->m[k].dev];
		if (c->class && strcmp(p->classes[c->class], d->class_name))
			world_fail(w, "chunk %llu of class %s lies on device %u of class '%s'",
				   (unsigned long long)c->id, p->classes[c->class], d->id,
				   d->class_name);
	}
}

static void check_volume(struct world *w, const struct wvol *v)
{
	struct vol_compliance r;
	struct vol_info info;
	vol_info_get(v->v, &info);
	int rc = vol_compliance_get(v->v, &r);
	if (rc && !world_excuses(w, v, rc))
		world_fail(w, "vol_compliance_get %s: %d %s", v->name, rc, err_str(rc));
	if (!rc && r.other_policy_bytes && !world_may_lose(w, v))
		world_fail(w, "%s has settled, and %llu bytes do not have %u copies of class '%s'",
			   v->name, (unsigned long long)r.other_policy_bytes, info.copies,
			   info.class_name);
	cover_add(COVER_CLASS_CHECKED, !rc && info.class_name[0]);
}

void spares_check_settled(struct world *w)
{
	const struct pool *p = w->pool;
	for (unsigned i = 0; i < p->ndevs; i++)
		if (p->devs[i].state != DEV_NONE && p->devs[i].flags & DEV_F_SPARE &&
		    members_on(p, i))
			world_fail(w, "spare %u has settled, and holds chunks", i);
	for (size_t h = 0; h < p->chunk_hash_size; h++)
		for (const struct chunk *c = p->chunk_hash[h]; c; c = c->hash_next)
			check_chunk(w, c);
	for (unsigned i = 0; i < WORLD_VOLS_MAX; i++)
		if (w->vol[i].v)
			check_volume(w, &w->vol[i]);
}
