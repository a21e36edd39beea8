#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "tests/sim/seeds.h"

#define FAILURES_SHOWN 20u
#define JOBS_MAX       64u
#define CHILD_SECONDS  120u /* a loop without end in the code under test */

struct job {
	pid_t pid;
	uint64_t seed;
};

static pid_t start(const struct seeds *s, seeds_fn *fn, void *arg, uint64_t seed)
{
	fflush(stdout);
	pid_t pid = fork();
	if (pid < 0) {
		perror("fork");
		exit(2);
	}
	if (pid)
		return pid;
	alarm(s->child_seconds ? s->child_seconds : CHILD_SECONDS);
	fn(arg, seed);
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
	unsigned long long seed = 0;
	for (unsigned i = 0; i < n; i++) {
		if (jobs[i].pid != pid)
			continue;
		seed = jobs[i].seed;
		jobs[i].pid = 0;
	}
	if (WIFSIGNALED(status))
		printf("seed %llu: killed by signal %d (%s)%s\n", seed, WTERMSIG(status),
		       strsignal(WTERMSIG(status)),
		       WTERMSIG(status) == SIGALRM ? ": endless loop" : "");
	else if (WEXITSTATUS(status) > 1)
		printf("seed %llu: exit status %d\n", seed, WEXITSTATUS(status));
	return status != 0;
}

double seeds_clock(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static unsigned jobs_of(const struct seeds *s)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned n = s->jobs ? s->jobs : cpus > 0 ? (unsigned)cpus : 1;
	return n < JOBS_MAX ? n : JOBS_MAX;
}

unsigned seeds_run(const struct seeds *s, seeds_fn *fn, void *arg, uint64_t *ret_done)
{
	struct job jobs[JOBS_MAX];
	unsigned busy = 0, failed = 0, most = jobs_of(s);
	double begin = seeds_clock();
	uint64_t seed = s->first;
	bool stop = false;
	memset(jobs, 0, sizeof(jobs));
	*ret_done = 0;
	while (busy || (!stop && seed <= s->last)) {
		if (!stop && seed <= s->last && busy < most) {
			unsigned i = 0;
			while (jobs[i].pid)
				i++;
			jobs[i] = (struct job){start(s, fn, arg, seed), seed};
			seed++;
			busy++;
			continue;
		}
		failed += reap(jobs, most);
		busy--;
		++*ret_done;
		stop = failed >= FAILURES_SHOWN || (failed && s->stop_at_first) ||
		       (s->limit_seconds && seeds_clock() - begin > s->limit_seconds);
	}
	return failed;
}

bool seeds_parse(const char *text, struct seeds *s)
{
	char *end;
	s->first = s->last = strtoull(text, &end, 0);
	if (!strncmp(end, "..", 2))
		s->last = strtoull(end + 2, &end, 0);
	return !*end && s->first <= s->last;
}
