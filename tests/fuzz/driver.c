/* driver: runs a libFuzzer target without libFuzzer: every file of the folders and files given, and
 * after those so many random changes of them.
 *
 *   TARGET [--runs N] [--seed S] PATH...
 *
 * A run that takes longer than a minute is a hang. Before each the input is written to the file in
 * $FUZZ_LAST, when that is set.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "tests/fuzz/driver.h"
#include "tests/sim/sim_rng.h"

#define INPUT_MAX  (64u << 10)
#define INPUTS_MAX 4096u
#define HANG_S	   60u

struct input {
	uint8_t *data;
	size_t len;
};
static struct input inputs[INPUTS_MAX];
static unsigned count;

static void input_add(const char *path)
{
	FILE *f = fopen(path, "rbe");
	struct input *in = &inputs[count];
	if (!f || count == INPUTS_MAX) {
		perror(path);
		exit(2);
	}
	in->data = malloc(INPUT_MAX);
	if (!in->data)
		abort();
	in->len = fread(in->data, 1, INPUT_MAX, f);
	count++;
	fclose(f);
}

static void path_add(const char *path)
{
	struct dirent *d;
	DIR *dir = opendir(path);
	if (!dir) {
		input_add(path);
		return;
	}
	while ((d = readdir(dir))) {
		char name[4096];
		snprintf(name, sizeof(name), "%s/%s", path, d->d_name);
		if (d->d_name[0] != '.')
			input_add(name);
	}
	closedir(dir);
}

/* In a buffer of exactly its size, so that ASan sees what reads behind it. */
static void run(const uint8_t *data, size_t len)
{
	const char *last = getenv("FUZZ_LAST");
	uint8_t *exact = malloc(len ? len : 1);
	if (!exact)
		abort();
	memcpy(exact, data, len);
	if (last) {
		FILE *f = fopen(last, "wbe");
		if (f) {
			fwrite(data, 1, len, f);
			fclose(f);
		}
	}
	alarm(HANG_S);
	LLVMFuzzerTestOneInput(exact, len);
	free(exact);
}

/* Take n bytes out at `at`, put m bytes of src there. */
static size_t splice(uint8_t *buf, size_t len, size_t at, size_t n, const uint8_t *src, size_t m)
{
	if (len - n + m > INPUT_MAX)
		m = 0;
	memmove(buf + at + m, buf + at + n, len - at - n);
	memcpy(buf + at, src, m);
	return len - n + m;
}

static size_t change(struct sim_rng *g, uint8_t *buf, size_t len)
{
	const struct input *other = &inputs[rng_below(g, count)];
	size_t at = rng_below(g, len + 1), n = rng_below(g, len - at + 1);
	uint8_t byte = (uint8_t)rng_next(g), piece[64];
	size_t from = rng_below(g, other->len + 1), m = rng_below(g, other->len - from + 1);
	switch (rng_below(g, 6)) {
	case 0:
		if (at < len)
			buf[at] ^= (uint8_t)(1u << byte % 8);
		return len;
	case 1:
		if (at < len)
			buf[at] = byte;
		return len;
	case 2:
		return splice(buf, len, at, 0, &byte, 1);
	case 3:
		return splice(buf, len, at, n < 8 ? n : n % 8, &byte, 0);
	case 4:
		return splice(buf, len, at, n, other->data + from, m);
	default: /* one thing many times */
		n = n < sizeof(piece) ? n : sizeof(piece);
		memcpy(piece, buf + at, n);
		for (uint64_t i = rng_below(g, 200); i; i--)
			len = splice(buf, len, at, 0, piece, n);
		return len;
	}
}

int main(int argc, char **argv)
{
	static uint8_t buf[INPUT_MAX];
	uint64_t runs = getenv("TARN_LONG") ? 10000000 : 200000, seed = 1;
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--runs") && i + 1 < argc)
			runs = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--seed") && i + 1 < argc)
			seed = strtoull(argv[++i], NULL, 0);
		else
			path_add(argv[i]);
	}
	if (!count) {
		fprintf(stderr, "no input: name the folder of the corpus\n");
		return 2;
	}
	for (unsigned i = 0; i < count; i++)
		run(inputs[i].data, inputs[i].len);
	struct sim_rng g = rng_of(seed, 17);
	for (uint64_t k = 0; k < runs; k++) {
		const struct input *in = &inputs[rng_below(&g, count)];
		size_t len = in->len;
		memcpy(buf, in->data, len);
		for (uint64_t n = 1 + rng_below(&g, 6); n; n--)
			len = change(&g, buf, len);
		run(buf, len);
	}
	printf("%u inputs, %llu changes of them\n", count, (unsigned long long)runs);
	return 0;
}
