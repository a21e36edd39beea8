/* fsyncer: writers that fsync all the time and can prove afterwards what must have survived.
 *
 *   fsyncer init STATE            a new state file
 *   fsyncer run STATE IMAGE DIR [full]  write to the image and in the directory until the daemon
 *                                    dies; with full, until there is no space left, too
 *   fsyncer verify STATE IMAGE DIR   compare, and take what is found as the new state
 *   fsyncer cut STATE COPY COMMAND...   run the command, which takes a copy of the disks at one
 *                                    instant, while COPY is what the state is at that instant
 *
 * Exit 1: data is lost or wrong, or an operation failed and no dying daemon explains it.
 *
 * STATE lies on another file system and is mapped shared. A writer notes an operation there as
 * issued before it starts, and as acknowledged after the fsync behind it has returned. After a
 * crash each slot of an image or file, each appended byte and each file must be what was
 * acknowledged, or something issued later.
 *
 * Images and O_DIRECT files are checked for more: operations that one thread issued one after the
 * other survive as a prefix, and no write is torn. The kernel's writeback may reorder and split
 * buffered writes, so for those only the acknowledged part is exact.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAGIC	   0x6e72617463796e66u
#define SLOTS	   128
#define RECENT	   8	       /* most operations between two fsyncs */
#define REGION	   (16u << 20) /* image bytes per thread */
#define APPEND_MAX (4u << 20)
#define KEPT	   32 /* files of a create thread that stay */
#define RECORD_MAX 16384

enum kind { IMAGE_SLOTS, DIRECT_SLOTS, BUFFERED_SLOTS, APPEND, RENAME, CREATE };

static const struct plan {
	enum kind kind;
	uint32_t slot_bytes;
} plans[] = {
	{IMAGE_SLOTS, 4096},	{IMAGE_SLOTS, 512}, {IMAGE_SLOTS, 16384}, {DIRECT_SLOTS, 4096},
	{BUFFERED_SLOTS, 4096}, {APPEND, 0},	    {RENAME, 0},	  {CREATE, 0},
};
#define THREADS (sizeof(plans) / sizeof(plans[0]))

struct op {
	uint64_t seq;
	uint32_t slot, pad;
};

struct state {		    /* of one thread, in the state file */
	uint64_t seq;	    /* last operation issued */
	uint64_t acked_seq; /* last one behind which an fsync returned */
	uint64_t fsyncs;
	uint64_t base_seq;   /* CREATE: files up to here were removed */
	uint64_t generation; /* APPEND: of the file's content */
	uint64_t acked_bytes, issued_bytes;
	uint32_t resetting, nrecent;
	uint64_t acked[SLOTS];
	struct op recent[RECENT]; /* issued since the last fsync */
};

struct shared { /* the state file */
	struct state st[THREADS];
	/* Read: a writer notes something. Write: a cut, which sees whole notes, and nothing is
	 * issued before it ends. Not held over I/O, so a cut meets writes and fsyncs under way. */
	pthread_rwlock_t books;
};
static pthread_rwlock_t *books;

struct writer {
	unsigned index;
	struct state *st;
	const char *image, *dir;
	uint64_t rng;
	int fd, dir_fd;
	char *buf, *want; /* RECORD_MAX each, aligned */
	bool broken;	  /* run: ended by an error that must not happen */
	bool may_fill;	  /* run: no space left is one that may */
	unsigned lost;	  /* verify */
};

struct header {
	uint64_t magic, seq;
	uint32_t thread, slot, bytes, pad;
};

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

static uint64_t rnd(struct writer *w)
{
	return mix(w->rng++);
}

/* A record depends on nothing but its number, so it can be made again to compare. Every third
 * compresses. */
static void record_make(char *p, unsigned thread, uint32_t slot, uint64_t seq, uint32_t bytes)
{
	struct header h = {MAGIC, seq, thread, slot, bytes, 0};

	for (uint32_t i = 0; i + 8 <= bytes; i += 8) {
		uint64_t v = mix(seq * 1000003 + thread * 131 + (seq % 3 ? i : 0));

		memcpy(p + i, &v, 8);
	}
	memcpy(p, &h, sizeof(h));
}

static bool all_zero(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i])
			return false;
	return true;
}

/* The number of the record in buf: 0 when it is all zero, UINT64_MAX when it is no whole record. */
static uint64_t record_seq(struct writer *w, uint32_t slot, uint32_t bytes)
{
	struct header h;

	memcpy(&h, w->buf, sizeof(h));
	if (all_zero(w->buf, bytes))
		return 0;
	if (h.magic != MAGIC || h.bytes != bytes)
		return UINT64_MAX;
	record_make(w->want, w->index, slot, h.seq, bytes);
	return memcmp(w->want, w->buf, bytes) ? UINT64_MAX : h.seq;
}

static void lost(struct writer *w, const char *what, uint64_t where, uint64_t found, uint64_t want)
{
	if (w->lost++ < 10)
		fprintf(stderr,
			"fsyncer: thread %u: %s %llu: found %lld, acknowledged %lld "
			"(issued up to %llu)\n",
			w->index, what, (unsigned long long)where, (long long)found,
			(long long)want, (unsigned long long)w->st->seq);
}

/* ---- fsync bookkeeping ---- */

/* Always false. An error is fine when the daemon is dead, which the tree's statfs tells, or when
 * the pool may get full. */
static bool failed(struct writer *w, const char *what)
{
	int e = errno;
	struct statfs sf;

	if ((w->may_fill && e == ENOSPC) || (w->dir_fd >= 0 && fstatfs(w->dir_fd, &sf) != 0))
		return false;
	fprintf(stderr, "fsyncer: thread %u: %s: %s\n", w->index, what, strerror(e));
	w->broken = true;
	return false;
}

static void acknowledged(struct writer *w)
{
	struct state *st = w->st;

	pthread_rwlock_rdlock(books);
	for (uint32_t i = 0; i < st->nrecent; i++)
		st->acked[st->recent[i].slot] = st->recent[i].seq;
	st->nrecent = 0;
	st->acked_seq = st->seq;
	st->acked_bytes = st->issued_bytes;
	st->fsyncs++;
	pthread_rwlock_unlock(books);
}

static void issued(struct writer *w, uint64_t bytes)
{
	pthread_rwlock_rdlock(books);
	w->st->seq++;
	w->st->issued_bytes += bytes;
	pthread_rwlock_unlock(books);
}

static bool sync_fd(struct writer *w, int fd)
{
	int r = rnd(w) % 2 ? fsync(fd) : fdatasync(fd);

	return r == 0 ? true : failed(w, "fsync");
}

/* ---- slots ---- */

static void path_of(struct writer *w, char *ret_path, size_t n)
{
	if (plans[w->index].kind == IMAGE_SLOTS)
		snprintf(ret_path, n, "%s", w->image);
	else
		snprintf(ret_path, n, "%s/thread%u", w->dir, w->index);
}

static bool target_open(struct writer *w)
{
	enum kind k = plans[w->index].kind;
	int flags = O_RDWR | (k == IMAGE_SLOTS ? 0 : O_CREAT);
	char path[4096];

	if (k == IMAGE_SLOTS || k == DIRECT_SLOTS)
		flags |= O_DIRECT;
	path_of(w, path, sizeof(path));
	w->fd = open(path, flags, 0644);
	w->dir_fd = open(w->dir, O_RDONLY | O_DIRECTORY);
	if (w->fd < 0 || w->dir_fd < 0)
		return failed(w, "open");
	/* The name must be durable before anything in the file can be. */
	return fsync(w->dir_fd) == 0 ? true : failed(w, "fsync of the directory");
}

static off_t slot_offset(struct writer *w, uint32_t slot)
{
	off_t base = plans[w->index].kind == IMAGE_SLOTS ? (off_t)w->index * REGION : 0;

	return base + (off_t)slot * plans[w->index].slot_bytes;
}

static bool step_slots(struct writer *w)
{
	struct state *st = w->st;
	uint32_t bytes = plans[w->index].slot_bytes, n = 1 + (uint32_t)(rnd(w) % RECENT);

	for (uint32_t i = 0; i < n; i++) {
		uint32_t slot = (uint32_t)(rnd(w) % SLOTS);

		pthread_rwlock_rdlock(books);
		st->recent[st->nrecent] = (struct op){.seq = st->seq + 1, .slot = slot};
		st->seq++;
		st->nrecent++;
		pthread_rwlock_unlock(books);
		record_make(w->buf, w->index, slot, st->seq, bytes);
		if (pwrite(w->fd, w->buf, bytes, slot_offset(w, slot)) != (ssize_t)bytes)
			return failed(w, "write");
	}
	if (!sync_fd(w, w->fd))
		return false;
	acknowledged(w);
	return true;
}

/* What slot must hold if everything up to operation `last` took place. */
static uint64_t slot_expected(const struct state *st, uint32_t slot, uint64_t last)
{
	uint64_t seq = st->acked[slot];

	for (uint32_t i = 0; i < st->nrecent; i++)
		if (st->recent[i].slot == slot && st->recent[i].seq <= last)
			seq = st->recent[i].seq;
	return seq;
}

static bool slot_issued(const struct state *st, uint32_t slot, uint64_t seq)
{
	bool found = st->acked[slot] == seq;

	for (uint32_t i = 0; i < st->nrecent; i++)
		found |= st->recent[i].slot == slot && st->recent[i].seq == seq;
	return found;
}

static bool verify_slots(struct writer *w)
{
	struct state *st = w->st;
	uint32_t bytes = plans[w->index].slot_bytes;
	bool exact = plans[w->index].kind != BUFFERED_SLOTS;
	uint64_t found[SLOTS], last = st->acked_seq;

	for (uint32_t s = 0; s < SLOTS; s++) {
		ssize_t got = pread(w->fd, w->buf, bytes, slot_offset(w, s));

		if (got < 0) {
			w->broken = true;
			return failed(w, "read");
		}
		memset(w->buf + got, 0, bytes - (size_t)got);
		found[s] = record_seq(w, s, bytes);
		if (found[s] != UINT64_MAX && found[s] > last)
			last = found[s];
	}
	for (uint32_t s = 0; s < SLOTS; s++) {
		bool pending = slot_expected(st, s, UINT64_MAX) != st->acked[s];
		bool good = exact ? found[s] == slot_expected(st, s, last)
				  : slot_issued(st, s, found[s]) || pending;

		if (!good)
			lost(w, "slot", s, found[s], slot_expected(st, s, exact ? last : 0));
		/* A torn buffered slot that nobody was promised: make it whole again. */
		if (good && found[s] == UINT64_MAX) {
			record_make(w->buf, w->index, s, ++st->seq, bytes);
			if (pwrite(w->fd, w->buf, bytes, slot_offset(w, s)) != (ssize_t)bytes)
				return failed(w, "write");
			found[s] = st->seq;
		}
	}
	memcpy(st->acked, found, sizeof(found));
	st->acked_seq = st->seq;
	st->nrecent = 0;
	return fsync(w->fd) == 0 ? true : failed(w, "fsync");
}

/* ---- append ---- */

static void append_content(struct writer *w, uint64_t from, char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (char)(1 + mix(w->st->generation * 7919 + (from + i) / 64) % 255);
}

static bool append_reset(struct writer *w)
{
	struct state *st = w->st;

	pthread_rwlock_rdlock(books);
	st->resetting = 1;
	pthread_rwlock_unlock(books);
	if (ftruncate(w->fd, 0) != 0 || fsync(w->fd) != 0)
		return failed(w, "truncate");
	pthread_rwlock_rdlock(books);
	st->generation++;
	st->acked_bytes = st->issued_bytes = 0;
	st->resetting = 0;
	pthread_rwlock_unlock(books);
	return true;
}

static bool step_append(struct writer *w)
{
	struct state *st = w->st;
	size_t n = 1 + rnd(w) % 9000;

	if (st->issued_bytes > APPEND_MAX && !append_reset(w))
		return false;
	append_content(w, st->issued_bytes, w->buf, n);
	issued(w, n);
	if (pwrite(w->fd, w->buf, n, (off_t)(st->issued_bytes - n)) != (ssize_t)n)
		return failed(w, "append");
	if (rnd(w) % 3 == 0) {
		if (!sync_fd(w, w->fd))
			return false;
		acknowledged(w);
	}
	return true;
}

static bool verify_append(struct writer *w)
{
	struct state *st = w->st;
	struct stat sb;
	uint64_t at = 0;

	if (st->resetting)
		return append_reset(w);
	if (fstat(w->fd, &sb) != 0)
		return failed(w, "stat");
	if ((uint64_t)sb.st_size < st->acked_bytes || (uint64_t)sb.st_size > st->issued_bytes)
		lost(w, "size of appended file; bytes issued", st->issued_bytes,
		     (uint64_t)sb.st_size, st->acked_bytes);
	while (at < (uint64_t)sb.st_size && !w->lost) {
		ssize_t n = pread(w->fd, w->buf, RECORD_MAX, (off_t)at);

		if (n <= 0) {
			w->broken = true;
			return failed(w, "read");
		}
		append_content(w, at, w->want, (size_t)n);
		for (ssize_t i = 0; i < n && !w->lost; i++, at++)
			if (w->buf[i] != w->want[i] && (w->buf[i] || at < st->acked_bytes))
				lost(w, "appended byte", at, (unsigned char)w->buf[i],
				     st->acked_bytes);
	}
	if (ftruncate(w->fd, (off_t)st->acked_bytes) != 0 || fsync(w->fd) != 0)
		return failed(w, "truncate");
	st->issued_bytes = st->acked_bytes;
	return true;
}

/* ---- whole files: replaced by rename, or created and removed ---- */

static bool file_write(struct writer *w, const char *name, uint64_t seq)
{
	uint32_t bytes = 64 + (uint32_t)(mix(seq) % 16000) / 8 * 8;
	int fd = openat(w->dir_fd, name, O_CREAT | O_TRUNC | O_WRONLY, 0644);
	bool good;

	if (fd < 0)
		return failed(w, "create");
	record_make(w->buf, w->index, 0, seq, bytes);
	good = write(fd, w->buf, bytes) == (ssize_t)bytes ? true : failed(w, "write");
	if (good)
		good = sync_fd(w, fd);
	close(fd);
	return good;
}

/* Number of the record in a file; UINT64_MAX: not whole; 0: no such file. */
static uint64_t file_seq(struct writer *w, const char *name)
{
	int fd = openat(w->dir_fd, name, O_RDONLY);
	ssize_t n;

	if (fd < 0)
		return errno == ENOENT ? 0 : UINT64_MAX;
	n = read(fd, w->buf, RECORD_MAX);
	close(fd);
	if (n < (ssize_t)sizeof(struct header))
		return UINT64_MAX;
	uint64_t seq = record_seq(w, 0, (uint32_t)n);

	return seq == 0 ? UINT64_MAX : seq;
}

static bool step_rename(struct writer *w)
{
	char name[64], tmp[64];

	snprintf(name, sizeof(name), "replaced%u", w->index);
	snprintf(tmp, sizeof(tmp), "replaced%u.new", w->index);
	issued(w, 0);
	if (!file_write(w, tmp, w->st->seq))
		return false;
	if (renameat(w->dir_fd, tmp, w->dir_fd, name) != 0)
		return failed(w, "rename");
	if (rnd(w) % 2 == 0) {
		if (fsync(w->dir_fd) != 0)
			return failed(w, "fsync of the directory");
		acknowledged(w);
	}
	return true;
}

static bool verify_rename(struct writer *w)
{
	char name[64];
	uint64_t seq;

	snprintf(name, sizeof(name), "replaced%u", w->index);
	seq = file_seq(w, name);
	if (seq < w->st->acked_seq || seq > w->st->seq)
		lost(w, "replaced file of thread", w->index, seq, w->st->acked_seq);
	w->st->acked_seq = seq;
	return true;
}

static void created_name(struct writer *w, uint64_t seq, char *ret_name, size_t n)
{
	snprintf(ret_name, n, "created%u.%llu", w->index, (unsigned long long)seq);
}

static bool step_create(struct writer *w)
{
	struct state *st = w->st;
	char name[64];

	created_name(w, st->seq + 1, name, sizeof(name));
	issued(w, 0);
	if (!file_write(w, name, st->seq))
		return false;
	if (fsync(w->dir_fd) != 0)
		return failed(w, "fsync of the directory");
	acknowledged(w);
	if (st->seq <= st->base_seq + KEPT)
		return true;
	created_name(w, st->seq - KEPT, name, sizeof(name));
	return unlinkat(w->dir_fd, name, 0) == 0 ? true : failed(w, "unlink");
}

static bool verify_create(struct writer *w)
{
	struct state *st = w->st;
	char name[64];

	for (uint64_t seq = st->base_seq + 1; seq <= st->seq; seq++) {
		uint64_t found;
		bool kept = seq <= st->acked_seq && seq + KEPT > st->acked_seq;
		bool gone = seq + KEPT < st->acked_seq;

		created_name(w, seq, name, sizeof(name));
		found = file_seq(w, name);
		if ((kept && found != seq) || (gone && found != 0))
			lost(w, kept ? "created file" : "removed file", seq, found, kept ? seq : 0);
		if (found != 0 && unlinkat(w->dir_fd, name, 0) != 0)
			return failed(w, "unlink");
	}
	if (fsync(w->dir_fd) != 0)
		return failed(w, "fsync of the directory");
	st->base_seq = st->acked_seq = st->seq;
	return true;
}

/* ---- threads ---- */

typedef bool step_fn(struct writer *w);

static step_fn *const steps[] = {
	[IMAGE_SLOTS] = step_slots, [DIRECT_SLOTS] = step_slots, [BUFFERED_SLOTS] = step_slots,
	[APPEND] = step_append,	    [RENAME] = step_rename,	 [CREATE] = step_create,
};
static step_fn *const verifiers[] = {
	[IMAGE_SLOTS] = verify_slots,	 [DIRECT_SLOTS] = verify_slots,
	[BUFFERED_SLOTS] = verify_slots, [APPEND] = verify_append,
	[RENAME] = verify_rename,	 [CREATE] = verify_create,
};

static void *run_main(void *arg)
{
	struct writer *w = arg;

	if (target_open(w))
		while (steps[plans[w->index].kind](w))
			;
	return NULL;
}

static void *verify_main(void *arg)
{
	struct writer *w = arg;

	w->broken = !target_open(w) || !verifiers[plans[w->index].kind](w) || w->broken;
	return NULL;
}

static void books_init(struct shared *sh)
{
	pthread_rwlockattr_t a;

	pthread_rwlockattr_init(&a);
	pthread_rwlockattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
	pthread_rwlock_init(&sh->books, &a);
	pthread_rwlockattr_destroy(&a);
}

static struct state *state_map(const char *path, bool create)
{
	size_t n = sizeof(struct shared);
	int fd = open(path, O_RDWR | (create ? O_CREAT | O_TRUNC : 0), 0644);
	struct shared *sh;

	if (fd < 0 || (create && ftruncate(fd, (off_t)n) != 0)) {
		perror(path);
		exit(2);
	}
	sh = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (sh == MAP_FAILED) {
		perror("mmap");
		exit(2);
	}
	close(fd);
	if (create)
		books_init(sh);
	books = &sh->books;
	return sh->st;
}

/* argv: cut STATE COPY COMMAND... */
static int cut(char **argv)
{
	struct state *st = state_map(argv[2], false);
	pthread_rwlock_t *live = books;
	struct state *copy = state_map(argv[3], true);
	int status = -1;
	pid_t pid;

	pthread_rwlock_wrlock(live);
	memcpy(copy, st, THREADS * sizeof(*st));
	pid = fork();
	if (pid == 0) {
		execvp(argv[4], &argv[4]);
		perror(argv[4]);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		perror("cut");
	pthread_rwlock_unlock(live);
	return status == 0 ? 0 : 1;
}

static int threads_run(struct state *st, char **argv, bool may_fill, void *(*fn)(void *))
{
	struct writer writers[THREADS] = {0};
	pthread_t threads[THREADS];
	unsigned lost_count = 0;
	bool broken = false;
	uint64_t fsyncs = 0;

	for (unsigned i = 0; i < THREADS; i++) {
		struct writer *w = &writers[i];

		*w = (struct writer){.index = i, .st = &st[i], .image = argv[3], .dir = argv[4]};
		w->may_fill = may_fill;
		w->rng = mix((uint64_t)time(NULL) * 64 + i + ((uint64_t)getpid() << 32));
		w->buf = aligned_alloc(4096, RECORD_MAX);
		w->want = aligned_alloc(4096, RECORD_MAX);
		if (!w->buf || !w->want || pthread_create(&threads[i], NULL, fn, w)) {
			fprintf(stderr, "fsyncer: cannot start\n");
			return 2;
		}
	}
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		lost_count += writers[i].lost;
		broken |= writers[i].broken;
		fsyncs += st[i].fsyncs;
	}
	printf("%llu fsyncs acknowledged so far, %u losses\n", (unsigned long long)fsyncs,
	       lost_count);
	return lost_count || broken ? 1 : 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "init")) {
		state_map(argv[2], true);
		return 0;
	}
	if ((argc == 5 || (argc == 6 && !strcmp(argv[5], "full"))) && !strcmp(argv[1], "run"))
		return threads_run(state_map(argv[2], false), argv, argc == 6, run_main);
	if (argc == 5 && !strcmp(argv[1], "verify"))
		return threads_run(state_map(argv[2], false), argv, false, verify_main);
	if (argc > 4 && !strcmp(argv[1], "cut"))
		return cut(argv);
	fprintf(stderr, "usage: fsyncer init STATE | run STATE IMAGE DIR [full] | "
			"verify STATE IMAGE DIR | cut STATE COPY COMMAND...\n");
	return 2;
}
