/* sim: runs seeds of the simulator, each in a process of its own, and reports what happened.
 *
 *   sim                       seeds 1..1000
 *   sim --seeds A..B          these
 *   sim --seed S [--verbose]  one, in this process; the same every time
 */
#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "tests/sim/cover.h"
#include "tests/sim/sim_rand.h"
#include "tests/sim/world.h"

#define FAILURES_SHOWN 20u
#define JOBS_MAX 64u
#define CHILD_SECONDS 120u    /* real time: a loop without end in the code under test */

struct range { uint64_t first, last; };
struct run {
	struct sim_opts opt;
	struct range seeds;
	unsigned jobs, limit_seconds;
	bool one, stop_at_first;
};
struct job { pid_t pid; uint64_t seed; };

/* An abandoned run leaves its memory to the end of the process. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}

static void one_seed(const struct run *r, uint64_t seed)
{
	sim_rand_seed(seed);
	run_seed(seed, &r->opt);
}

static pid_t start(const struct run *r, uint64_t seed)
{
	fflush(stdout);
	pid_t pid = fork();
	if (pid < 0) {
		perror("fork");
		exit(2);
	}
	if (pid)
		return pid;
	alarm(CHILD_SECONDS);
	one_seed(r, seed);
	fflush(stdout);
	_exit(0);
}

/* Wait for one child; true when it failed. */
static bool reap(struct job *jobs, unsigned n)
{
	int status;
	pid_t pid = wait(&status);
	if (pid < 0) {
		perror("wait");
		exit(2);
	}
	uint64_t seed = 0;
	for (unsigned i = 0; i < n; i++) {
		if (jobs[i].pid != pid)
			continue;
		seed = jobs[i].seed;
		jobs[i].pid = 0;
	}
	if (WIFSIGNALED(status))
		printf("seed %llu: killed by signal %d (%s)%s\n", (unsigned long long)seed,
		       WTERMSIG(status), strsignal(WTERMSIG(status)),
		       WTERMSIG(status) == SIGALRM ? ": endless loop" : "");
	else if (WEXITSTATUS(status) > 1)
		printf("seed %llu: exit status %d\n", (unsigned long long)seed,
		       WEXITSTATUS(status));
	return status != 0;
}

static double seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static unsigned run_all(const struct run *r, uint64_t *ret_done)
{
	struct job jobs[JOBS_MAX];
	unsigned busy = 0, failed = 0;
	double begin = seconds();
	memset(jobs, 0, sizeof(jobs));
	uint64_t seed = r->seeds.first;
	bool stop = false;
	while (busy || (!stop && seed <= r->seeds.last)) {
		if (!stop && seed <= r->seeds.last && busy < r->jobs) {
			unsigned i = 0;
			while (jobs[i].pid)
				i++;
			jobs[i] = (struct job){ start(r, seed), seed };
			seed++;
			busy++;
			continue;
		}
		failed += reap(jobs, r->jobs);
		busy--;
		++*ret_done;
		stop = failed >= FAILURES_SHOWN || (failed && r->stop_at_first) ||
		       (r->limit_seconds && seconds() - begin > r->limit_seconds);
	}
	return failed;
}

static void usage(FILE *f)
{
	fprintf(f,
		"usage: sim [options]\n"
		"  --seed S        one seed, in this process\n"
		"  --seeds A..B    these seeds (default 1..1000)\n"
		"  --ops N         operations per seed (default 160)\n"
		"  --seconds N     begin no new seed after N seconds\n"
		"  --jobs N        processes at a time (default: processors)\n"
		"  --first         stop at the first failure\n"
		"  --verbose       print every operation; --trace: every I/O too\n"
		"  --no-faults     power cuts only\n"
		"  --no-single     at least two copies of everything\n"
		"  --canary X      disks that lie, must be found: no-flush, no-fua, lost-writes\n");
}

static bool parse_range(const char *text, struct range *ret)
{
	char *end;
	ret->first = ret->last = strtoull(text, &end, 0);
	if (!strncmp(end, "..", 2))
		ret->last = strtoull(end + 2, &end, 0);
	return !*end && ret->first <= ret->last;
}

static void parse(int argc, char **argv, struct run *r)
{
	static const struct option opts[] = {
		{ "seed", 1, NULL, 's' }, { "seeds", 1, NULL, 'S' }, { "ops", 1, NULL, 'o' },
		{ "seconds", 1, NULL, 't' }, { "jobs", 1, NULL, 'j' }, { "first", 0, NULL, 'f' },
		{ "verbose", 0, NULL, 'v' }, { "trace", 0, NULL, 'T' },
		{ "no-faults", 0, NULL, 'n' }, { "no-single", 0, NULL, '2' },
		{ "canary", 1, NULL, 'c' }, { "help", 0, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	bool ok = true;
	for (int c; (c = getopt_long(argc, argv, "", opts, NULL)) != -1;) {
		switch (c) {
		case 's': ok &= parse_range(optarg, &r->seeds); r->one = true; break;
		case 'S': ok &= parse_range(optarg, &r->seeds); break;
		case 'o': r->opt.ops = strtoull(optarg, NULL, 0); break;
		case 't': r->limit_seconds = (unsigned)strtoul(optarg, NULL, 0); break;
		case 'j': r->jobs = (unsigned)strtoul(optarg, NULL, 0); break;
		case 'f': r->stop_at_first = true; break;
		case 'v': r->opt.verbose = true; break;
		case 'T': r->opt.verbose = r->opt.trace = true; break;
		case 'n': r->opt.no_faults = true; break;
		case '2': r->opt.no_single = true; break;
		case 'c': r->opt.canary = optarg; break;
		case 'h': usage(stdout); exit(0);
		default: ok = false; break;
		}
	}
	if (r->jobs < 1 || r->jobs > JOBS_MAX)
		r->jobs = r->jobs < 1 ? 1 : JOBS_MAX;
	if (!ok || optind < argc) {
		usage(stderr);
		exit(2);
	}
}

int main(int argc, char **argv)
{
	struct run r = { .opt = { .ops = 160 }, .seeds = { 1, 1000 } };
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	r.jobs = cpus > 0 ? (unsigned)cpus : 1;
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
	uint64_t done = 0;
	double begin = seconds();
	unsigned failed = run_all(&r, &done);
	cover_print(stdout);
	printf("%llu seeds in %.1f s, %u failed\n", (unsigned long long)done, seconds() - begin,
	       failed);
	if (failed)
		printf("replay one: sim --seed S --ops %llu --verbose\n",
		       (unsigned long long)r.opt.ops);
	if (r.opt.canary)
		return failed ? 0 : 1;
	return failed ? 1 : 0;
}
