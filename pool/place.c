#include "pool/place.h"
#include <string.h>
#include "pool/class.h"
#include "pool/space.h"

static int slot_take(struct dev *d)
{
	uint32_t end = d->slots_limit ? d->slots_limit : d->slots;

	for (uint32_t w = 0; w < (d->slots + 63) / 64; w++) {
		uint64_t taken = d->slot_used[w];
		uint32_t i;

		if (d->discarding && d->discarding_slot / 64 == w)
			taken |= 1ull << d->discarding_slot % 64;
		if (taken == UINT64_MAX)
			continue;
		i = w * 64 + (uint32_t)__builtin_ctzll(~taken);
		if (i >= end)
			break;
		bit_set(d->slot_used, i);
		bit_clear(d->slot_stale, i); /* what was there need not go first */
		d->slots_free--;
		return (int)i;
	}
	return -1;
}

unsigned place_devs(const struct pool *p, unsigned class)
{
	unsigned n = 0;

	for (unsigned i = 0; i < p->ndevs; i++)
		n += dev_placeable(&p->devs[i]) && class_holds(p, class, &p->devs[i]);
	return n;
}

/* ---- what is spoken for ---- */

/* Take `keep` of the free slots away, from each device its share, exactly that many in sum:
 * rounding up on each would deny what was promised when the pool is nearly full. */
static void keep_back(uint64_t *f, unsigned n, uint64_t sum, uint64_t keep)
{
	uint64_t rest;

	if (keep > sum)
		keep = sum;
	rest = keep;
	for (unsigned i = 0; i < n; i++)
		rest -= keep * f[i] / sum;
	for (unsigned i = 0; i < n; i++) {
		uint64_t share = keep * f[i] / sum;

		if (!share && rest && f[i]) { /* small devices too: nodes want several */
			share = 1;
			rest--;
		}
		f[i] -= share;
	}
	for (; rest; rest--) { /* fewer than devices */
		unsigned most = 0;

		for (unsigned i = 1; i < n; i++)
			if (f[i] > f[most])
				most = i;
		f[most]--;
	}
}

/* The slots wanted of one class, from left[] of its devices. */
static void keep_class(const struct pool *p, unsigned class, uint64_t slots, uint64_t *left)
{
	uint64_t f[POOL_DEVS_MAX], sum = 0;
	unsigned id[POOL_DEVS_MAX], n = 0;

	for (unsigned i = 0; i < p->ndevs; i++)
		if (left[i] && class_holds(p, class, &p->devs[i])) {
			id[n] = i;
			f[n++] = left[i];
			sum += left[i];
		}
	if (!sum)
		return;
	keep_back(f, n, sum, slots);
	for (unsigned i = 0; i < n; i++)
		left[id[i]] = f[i];
}

/* What is left of each device's free slots. Those that must be on certain devices come first. */
static void left_free(const struct pool *p, const struct slots_wanted *w, uint64_t *ret_left)
{
	for (unsigned i = 0; i < p->ndevs; i++)
		ret_left[i] = dev_placeable(&p->devs[i]) ? dev_slots_ready(&p->devs[i]) : 0;
	for (unsigned k = CLASSES_MAX + 1; k-- > 0;)
		if (w->n[k])
			keep_class(p, k, w->n[k], ret_left);
}

/* Without what is promised to other classes than the chunk's. */
static void left_for(const struct pool *p, const struct chunk *c, uint64_t *ret_left)
{
	struct slots_wanted w;

	space_slots_wanted(p, 0, &w);
	w.n[0] = w.n[c->class] = 0;
	left_free(p, &w, ret_left);
}

/* ---- picking ---- */

static bool domain_taken(const struct pool *p, const struct chunk *c, const struct dev *d,
			 unsigned except)
{
	for (unsigned i = 0; i < c->nmembers; i++)
		if (i != except && d->domain[0] && !strcmp(p->devs[c->m[i].dev].domain, d->domain))
			return true;
	return false;
}

static bool dev_taken(const struct chunk *c, const struct dev *d, unsigned except)
{
	for (unsigned i = 0; i < c->nmembers; i++)
		if (i != except && c->m[i].dev == d->id)
			return true;
	return false;
}

/* Is d a better place than best? One that is up to date first: on another, nothing but a device
 * that may fail again would say that the chunk is current. Then another domain, then the largest
 * free share. */
static bool better(const struct dev *d, bool other, const struct dev *best, bool best_other)
{
	bool online = d->state == DEV_ONLINE;

	if (!best)
		return true;
	if (online != (best->state == DEV_ONLINE))
		return online;
	if (other != best_other)
		return other;
	return (uint64_t)d->slots_free * best->slots > (uint64_t)best->slots_free * d->slots;
}

/* left: what may be taken of each device; NULL: all that is free. */
static struct dev *pick(struct pool *p, const struct chunk *c, unsigned except, unsigned class,
			const uint64_t *left)
{
	struct dev *best = NULL;
	bool best_other = false;

	for (unsigned i = 0; i < p->ndevs; i++) {
		struct dev *d = &p->devs[i];
		bool other;

		if (!dev_placeable(d) || !(left ? left[i] : dev_slots_ready(d)) ||
		    dev_taken(c, d, except) || !class_holds(p, class, d))
			continue;
		other = !domain_taken(p, c, d, except);
		if (better(d, other, best, best_other)) {
			best = d;
			best_other = other;
		}
	}
	return best;
}

static struct dev *find(struct pool *p, const struct chunk *c, unsigned except, enum place_how how)
{
	uint64_t left[POOL_DEVS_MAX];
	struct dev *d;

	left_for(p, c, left);
	d = pick(p, c, except, c->class, left);
	if (!d && how != PLACE_SPARING)
		d = pick(p, c, except, c->class, NULL);
	if (!d && how == PLACE_OUTSIDE)
		d = pick(p, c, except, 0, NULL);
	return d;
}

struct dev *place_find(struct pool *p, const struct chunk *c, unsigned except)
{
	return find(p, c, except, PLACE_ANYHOW);
}

int place_member(struct pool *p, struct chunk *c, unsigned except, enum place_how how,
		 uint64_t stale_since)
{
	struct dev *d = c->nmembers < MEMBERS_MAX ? find(p, c, except, how) : NULL;

	if (!d)
		return -1;
	c->m[c->nmembers] = (struct member){
		.dev = (uint16_t)d->id, .slot = (uint32_t)slot_take(d), .stale_since = stale_since};
	p->misplaced |= class_misplaced(p, c, &c->m[c->nmembers]);
	return c->nmembers++;
}

/* ---- how many ---- */

/* The largest m with sum(min(free_i, m)) >= want * m. */
static uint64_t sets_of(const uint64_t *f, unsigned n, unsigned want, uint64_t most)
{
	uint64_t lo = 0, hi = most / want;

	while (lo < hi) {
		uint64_t mid = (lo + hi + 1) / 2, have = 0;

		for (unsigned i = 0; i < n; i++)
			have += f[i] < mid ? f[i] : mid;
		if (have >= want * mid)
			lo = mid;
		else
			hi = mid - 1;
	}
	return lo;
}

uint64_t place_creatable(struct pool *p, unsigned policy, const struct slots_wanted *keep)
{
	uint64_t f[POOL_DEVS_MAX], left[POOL_DEVS_MAX], sum = 0;
	unsigned n = 0, want = place_devs(p, policy_class(policy));

	if (want > policy_copies(policy))
		want = policy_copies(policy);
	left_free(p, keep, left);
	for (unsigned i = 0; i < p->ndevs; i++) {
		const struct dev *d = &p->devs[i];

		if (!dev_placeable(d) || !d->slots_free || !class_holds(p, policy_class(policy), d))
			continue;
		f[n] = left[i];
		sum += f[n++];
	}
	return !want || n < want ? 0 : sets_of(f, n, want, sum);
}
