/* sim: runs seeds of the simulator, each in a process of its own, and reports what happened.
 *
 *   sim                       seeds 1..1000
 *   sim --seeds A..B          these
 *   sim --seed S [--verbose]  one, in this process; the same every time
 */
#include <getopt.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/sim/canary.h"
#include "tests/sim/cover.h"
#include "tests/sim/seeds.h"
#include "tests/sim/sim_rand.h"
#include "tests/sim/states.h"
#include "tests/sim/world.h"

struct run {
	struct sim_opts opt;
	struct seeds seeds;
	double rate; /* operations an hour, in millions, that must be reached */
	bool one;
};

/* An abandoned run leaves its memory to the end of the process. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}

static void one_seed(void *arg, uint64_t seed)
{
	const struct run *r = arg;
	sim_rand_seed(seed);
	run_seed(seed, &r->opt);
}

static void usage(FILE *f)
{
	fprintf(f,
		"usage: sim [options]\n"
		"  --seed S        one seed, in this process\n"
		"  --seeds A..B    these seeds (default 1..1000)\n"
		"  --ops N         operations per seed (default 160)\n"
		"  --seconds N     begin no new seed after N seconds\n"
		"  --rate N        fail below N million operations an hour\n"
		"  --jobs N        processes at a time (default: processors)\n"
		"  --first         stop at the first failure\n"
		"  --verbose       print every operation; --trace: every I/O too; --moves: every\n"
		"                  move of a state machine\n"
		"  --no-faults     power cuts only\n"
		"  --fill          every seed fills its pool\n"
		"  --no-single     at least two copies of everything\n"
		"  --canary X      a planted bug, has to be found: disks that lie (no-flush,\n"
		"                  no-fua, lost-writes) or code that does (%s)\n",
		canary_names);
}

static void parse(int argc, char **argv, struct run *r)
{
	static const struct option opts[] = {
		{"seed", 1, NULL, 's'},	     {"seeds", 1, NULL, 'S'},	  {"ops", 1, NULL, 'o'},
		{"seconds", 1, NULL, 't'},   {"jobs", 1, NULL, 'j'},	  {"first", 0, NULL, 'f'},
		{"verbose", 0, NULL, 'v'},   {"trace", 0, NULL, 'T'},	  {"moves", 0, NULL, 'm'},
		{"no-faults", 0, NULL, 'n'}, {"no-single", 0, NULL, '2'}, {"fill", 0, NULL, 'F'},
		{"rate", 1, NULL, 'r'},	     {"canary", 1, NULL, 'c'},	  {"help", 0, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	bool ok = true;
	for (int c; (c = getopt_long(argc, argv, "", opts, NULL)) != -1;) {
		switch (c) {
		case 's':
			ok &= seeds_parse(optarg, &r->seeds);
			r->one = true;
			break;
		case 'S':
			ok &= seeds_parse(optarg, &r->seeds);
			break;
		case 'o':
			r->opt.ops = strtoull(optarg, NULL, 0);
			break;
		case 't':
			r->seeds.limit_seconds = (unsigned)strtoul(optarg, NULL, 0);
			break;
		case 'j':
			r->seeds.jobs = (unsigned)strtoul(optarg, NULL, 0);
			break;
		case 'f':
			r->seeds.stop_at_first = true;
			break;
		case 'v':
			r->opt.verbose = true;
			break;
		case 'T':
			r->opt.verbose = r->opt.trace = true;
			break;
		case 'm':
			r->opt.verbose = states_verbose = true;
			break;
		case 'n':
			r->opt.no_faults = true;
			break;
		case '2':
			r->opt.no_single = true;
			break;
		case 'r':
			r->rate = strtod(optarg, NULL);
			break;
		case 'F':
			r->opt.fill = true;
			break;
		case 'c':
			r->opt.canary = optarg;
			break;
		case 'h':
			usage(stdout);
			exit(0);
		default:
			ok = false;
			break;
		}
	}
	if (r->opt.canary && !canary_set(r->opt.canary) && !world_canary_known(r->opt.canary)) {
		fprintf(stderr, "sim: no canary '%s' in this program\n", r->opt.canary);
		ok = false;
	}
	if (!ok || optind < argc) {
		usage(stderr);
		exit(2);
	}
}

int main(int argc, char **argv)
{
	struct run r = {.opt = {.ops = 160}, .seeds = {.first = 1, .last = 1000}};
	/* Memory given back is taken again at the next import: keep it. */
	mallopt(M_MMAP_THRESHOLD, 1 << 28);
	mallopt(M_TRIM_THRESHOLD, 1 << 30);
	mallopt(M_TOP_PAD, 1 << 24);
	setvbuf(stdout, NULL, _IOLBF, 0);
	parse(argc, argv, &r);
	if (r.one) {
		one_seed(&r, r.seeds.first);
		printf("seed %llu: ok\n", (unsigned long long)r.seeds.first);
		return 0;
	}
	cover_share();
	states_share();
	uint64_t done = 0;
	double begin = seeds_clock();
	unsigned failed = seeds_run(&r.seeds, one_seed, &r, &done);
	cover_print(stdout);
	states_print(stdout);
	double took = seeds_clock() - begin, rate = (double)cover->n[COVER_OPS] / took * 3600 / 1e6;
	printf("total: %llu seeds, %llu operations in %.1f s, %u failed; %.1f million an hour\n",
	       (unsigned long long)done, (unsigned long long)cover->n[COVER_OPS], took, failed,
	       rate);
	printf("total: ");
	cover_print_faults(stdout);
	bool slow = rate < r.rate;
	if (slow)
		printf("fewer than %.1f million\n", r.rate);
	if (failed)
		printf("replay one: sim --seed S --ops %llu --verbose\n",
		       (unsigned long long)r.opt.ops);
	if (r.opt.canary)
		return failed ? 0 : 1;
	return failed || slow ? 1 : 0;
}
