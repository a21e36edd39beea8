/* fsmeta: metadata operations on many small files, one phase per run, timed by itself.
 *
 *   fsmeta PHASE DIR [-n FILES] [-d DIRS] [-t THREADS] [-s BYTES] [-r SECONDS]
 *
 * Phases, to be run in this order on an empty directory:
 *   create   make DIRS directories with FILES files in all, BYTES in each, fsync the directories
 *   stat     stat every file, in shuffled order
 *   readdir  list every directory (one operation per entry)
 *   open     open, read and close every file, in shuffled order
 *   rename   rename every file inside its directory, fsync the directories
 *   unlink   remove every file and directory
 *   append   each thread appends BYTES to its own new file and fsyncs, for SECONDS
 *
 * Threads share the work by directory. The time of create and rename includes making them durable.
 * Prints one JSON object: {"phase": ..., "ops": ..., "seconds": ..., "bytes": ...}. Any call that
 * fails ends the run with status 1.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct job {
	const char *phase, *dir;
	unsigned files, dirs, threads;
	size_t bytes;
	double seconds;
};

struct worker {
	const struct job *job;
	unsigned index;
	uint64_t ops, bytes;
	uint64_t seed;
	char *buf;
};

typedef void phase_fn(struct worker *w);

static void die(const char *what, const char *path)
{
	fprintf(stderr, "fsmeta: %s %s: %s\n", what, path, strerror(errno));
	exit(1);
}

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t rnd(struct worker *w)
{
	w->seed ^= w->seed << 13;
	w->seed ^= w->seed >> 7;
	w->seed ^= w->seed << 17;
	return w->seed;
}

static void dir_path(const struct job *j, unsigned d, char *ret_path, size_t n)
{
	snprintf(ret_path, n, "%s/d%04u", j->dir, d);
}

/* The files of directory d are those with number % dirs == d. */
static unsigned dir_files(const struct job *j, unsigned d)
{
	return j->files / j->dirs + (d < j->files % j->dirs ? 1 : 0);
}

static void fsync_path(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY);

	if (fd < 0 || fsync(fd) != 0)
		die("fsync", path);
	close(fd);
}

static unsigned *shuffled(struct worker *w, unsigned n)
{
	unsigned *order = calloc(n ? n : 1, sizeof(*order));

	if (!order)
		die("allocate", "order");
	for (unsigned i = 0; i < n; i++)
		order[i] = i;
	for (unsigned i = n; i > 1; i--) {
		unsigned k = (unsigned)(rnd(w) % i), t = order[i - 1];

		order[i - 1] = order[k];
		order[k] = t;
	}
	return order;
}

static void create_file(struct worker *w, const char *path)
{
	int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0644);

	if (fd < 0)
		die("create", path);
	for (size_t i = 0; i + 8 <= w->job->bytes; i += 8)
		memcpy(w->buf + i, &(uint64_t){rnd(w)}, 8);
	if (w->job->bytes && write(fd, w->buf, w->job->bytes) != (ssize_t)w->job->bytes)
		die("write", path);
	if (close(fd) != 0)
		die("close", path);
	w->bytes += w->job->bytes;
}

static void phase_create(struct worker *w)
{
	char dir[4096], path[4200];

	for (unsigned d = w->index; d < w->job->dirs; d += w->job->threads) {
		dir_path(w->job, d, dir, sizeof(dir));
		if (mkdir(dir, 0755) != 0)
			die("mkdir", dir);
		for (unsigned f = 0; f < dir_files(w->job, d); f++, w->ops++) {
			snprintf(path, sizeof(path), "%s/file%06u", dir, f);
			create_file(w, path);
		}
		fsync_path(dir);
	}
}

static void phase_stat(struct worker *w)
{
	char dir[4096], path[4200];
	struct stat st;

	for (unsigned d = w->index; d < w->job->dirs; d += w->job->threads) {
		unsigned n = dir_files(w->job, d), *order = shuffled(w, n);

		dir_path(w->job, d, dir, sizeof(dir));
		for (unsigned f = 0; f < n; f++, w->ops++) {
			snprintf(path, sizeof(path), "%s/file%06u", dir, order[f]);
			if (stat(path, &st) != 0 || st.st_size != (off_t)w->job->bytes)
				die("stat", path);
		}
		free(order);
	}
}

static void phase_readdir(struct worker *w)
{
	char dir[4096];

	for (unsigned d = w->index; d < w->job->dirs; d += w->job->threads) {
		unsigned n = 0;
		DIR *h;

		dir_path(w->job, d, dir, sizeof(dir));
		h = opendir(dir);
		if (!h)
			die("opendir", dir);
		for (struct dirent *e; (e = readdir(h));)
			n += e->d_name[0] != '.';
		closedir(h);
		if (n != dir_files(w->job, d)) {
			errno = ENOENT;
			die("entries missing in", dir);
		}
		w->ops += n;
	}
}

static void phase_open(struct worker *w)
{
	char dir[4096], path[4200];

	for (unsigned d = w->index; d < w->job->dirs; d += w->job->threads) {
		unsigned n = dir_files(w->job, d), *order = shuffled(w, n);

		dir_path(w->job, d, dir, sizeof(dir));
		for (unsigned f = 0; f < n; f++, w->ops++) {
			int fd;

			snprintf(path, sizeof(path), "%s/file%06u", dir, order[f]);
			fd = open(path, O_RDONLY);
			if (fd < 0)
				die("open", path);
			if (read(fd, w->buf, w->job->bytes) != (ssize_t)w->job->bytes)
				die("read", path);
			close(fd);
			w->bytes += w->job->bytes;
		}
		free(order);
	}
}

static void phase_rename(struct worker *w)
{
	char dir[4096], from[4200], to[4200];

	for (unsigned d = w->index; d < w->job->dirs; d += w->job->threads) {
		dir_path(w->job, d, dir, sizeof(dir));
		for (unsigned f = 0; f < dir_files(w->job, d); f++, w->ops++) {
			snprintf(from, sizeof(from), "%s/file%06u", dir, f);
			snprintf(to, sizeof(to), "%s/renamed%06u", dir, f);
			if (rename(from, to) != 0)
				die("rename", from);
		}
		fsync_path(dir);
	}
}

static void phase_unlink(struct worker *w)
{
	char dir[4096], path[4200];

	for (unsigned d = w->index; d < w->job->dirs; d += w->job->threads) {
		dir_path(w->job, d, dir, sizeof(dir));
		for (unsigned f = 0; f < dir_files(w->job, d); f++, w->ops++) {
			snprintf(path, sizeof(path), "%s/renamed%06u", dir, f);
			if (unlink(path) != 0)
				die("unlink", path);
		}
		if (rmdir(dir) != 0)
			die("rmdir", dir);
	}
}

static void phase_append(struct worker *w)
{
	double end = now_s() + w->job->seconds;
	char path[4200];
	int fd;

	snprintf(path, sizeof(path), "%s/append%u", w->job->dir, w->index);
	fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_APPEND, 0644);
	if (fd < 0)
		die("create", path);
	for (size_t i = 0; i + 8 <= w->job->bytes; i += 8)
		memcpy(w->buf + i, &(uint64_t){rnd(w)}, 8);
	for (; now_s() < end; w->ops++) {
		memcpy(w->buf, &w->ops, sizeof(w->ops));
		if (write(fd, w->buf, w->job->bytes) != (ssize_t)w->job->bytes)
			die("append to", path);
		if (fsync(fd) != 0)
			die("fsync", path);
		w->bytes += w->job->bytes;
	}
	close(fd);
	if (unlink(path) != 0)
		die("unlink", path);
}

static const struct {
	const char *name;
	phase_fn *fn;
} phases[] = {
	{"create", phase_create}, {"stat", phase_stat},	    {"readdir", phase_readdir},
	{"open", phase_open},	  {"rename", phase_rename}, {"unlink", phase_unlink},
	{"append", phase_append},
};

static phase_fn *phase_find(const char *name)
{
	for (size_t i = 0; i < sizeof(phases) / sizeof(phases[0]); i++)
		if (!strcmp(phases[i].name, name))
			return phases[i].fn;
	fprintf(stderr, "fsmeta: unknown phase %s\n", name);
	exit(2);
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;

	phase_find(w->job->phase)(w);
	return NULL;
}

static struct job job_parse(int argc, char **argv)
{
	struct job j = {.files = 20000, .dirs = 20, .threads = 1, .bytes = 4096, .seconds = 5};
	int opt;

	while ((opt = getopt(argc, argv, "n:d:t:s:r:")) != -1) {
		switch (opt) {
		case 'n':
			j.files = (unsigned)atoi(optarg);
			break;
		case 'd':
			j.dirs = (unsigned)atoi(optarg);
			break;
		case 't':
			j.threads = (unsigned)atoi(optarg);
			break;
		case 's':
			j.bytes = (size_t)atol(optarg);
			break;
		case 'r':
			j.seconds = atof(optarg);
			break;
		default:
			exit(2);
		}
	}
	if (argc - optind != 2 || !j.dirs || !j.threads || j.threads > 64 || j.bytes < 8) {
		fprintf(stderr, "usage: fsmeta [-n FILES] [-d DIRS] [-t THREADS] [-s BYTES] "
				"[-r SECONDS] PHASE DIR\n");
		exit(2);
	}
	j.phase = argv[optind];
	j.dir = argv[optind + 1];
	phase_find(j.phase);
	return j;
}

int main(int argc, char **argv)
{
	struct job j = job_parse(argc, argv);
	pthread_t threads[64];
	struct worker workers[64];
	uint64_t ops = 0, bytes = 0;
	double start = now_s(), took;

	for (unsigned i = 0; i < j.threads; i++) {
		workers[i] = (struct worker){.job = &j, .index = i, .seed = 88172645463325252u + i};
		workers[i].buf = malloc(j.bytes);
		if (!workers[i].buf || pthread_create(&threads[i], NULL, worker_main, &workers[i]))
			die("start", "worker");
	}
	for (unsigned i = 0; i < j.threads; i++) {
		pthread_join(threads[i], NULL);
		ops += workers[i].ops;
		bytes += workers[i].bytes;
		free(workers[i].buf);
	}
	fsync_path(j.dir);
	took = now_s() - start;
	printf("{\"phase\": \"%s\", \"ops\": %llu, \"seconds\": %.6f, \"bytes\": %llu}\n", j.phase,
	       (unsigned long long)ops, took, (unsigned long long)bytes);
	return 0;
}
