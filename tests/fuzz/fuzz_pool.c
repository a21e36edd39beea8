/* fuzz_pool: a pool image with any mutation is either imported, with every error reported, or
 * refused; never a crash, a hang or an access out of bounds (run it with ASan).
 *
 *   fuzz_pool [--seeds A..B] [--seconds N]    random scripts, each in a process of its own
 *   fuzz_pool --seed S                        one, in this process
 *   fuzz_pool FILE...                         scripts from files (tests/fuzz/corpus)
 *
 * Built with clang and -fsanitize=fuzzer (-DFUZZ_LIBFUZZER) it is a libFuzzer target over scripts.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/fuzz/image.h"
#include "tests/fuzz/mutate.h"
#include "tests/sim/seeds.h"
#include "tests/sim/sim_rand.h"

const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=512";
}

static void ignore(void *arg, const char *text)
{
	(void)arg;
	printf("device interface: %s\n", text);
	abort();
}

static void run_script(const uint8_t *script, size_t len, bool read_only)
{
	static struct rig g;
	sim_rand_seed(len);
	image_rig(&g, 1);
	g.bus.fail = ignore;
	mutate(&g, script, len);
	image_exercise(&g, read_only);
	rig_fini(&g);
}

#ifdef FUZZ_LIBFUZZER
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > 1)
		run_script(data + 1, size - 1, data[0] & 1);
	return 0;
}
#else
static void one_seed(void *arg, uint64_t seed)
{
	uint8_t script[MUTATE_STEP * MUTATE_STEPS_MAX];
	size_t len = mutate_script(seed, script);
	(void)arg;
	run_script(script, len, seed % 2);
}

/* First byte of a file: 1 for a read-only import. */
static void one_file(const char *path)
{
	uint8_t data[1 + MUTATE_STEP * MUTATE_STEPS_MAX];
	FILE *f = fopen(path, "rbe");
	if (!f) {
		perror(path);
		exit(2);
	}
	size_t n = fread(data, 1, sizeof(data), f);
	fclose(f);
	if (n > 1)
		run_script(data + 1, n - 1, data[0] & 1);
}

int main(int argc, char **argv)
{
	struct seeds s = {.first = 1, .last = 1500, .child_seconds = 60};
	bool one = false, files = false;
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (getenv("TARN_LONG"))
		s.last = 200000;
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--seed") && i + 1 < argc) {
			one = seeds_parse(argv[++i], &s);
		} else if (!strcmp(argv[i], "--seeds") && i + 1 < argc) {
			seeds_parse(argv[++i], &s);
		} else if (!strcmp(argv[i], "--seconds") && i + 1 < argc) {
			s.limit_seconds = (unsigned)strtoul(argv[++i], NULL, 0);
		} else {
			one_file(argv[i]);
			files = true;
		}
	}
	image_get();
	if (one)
		one_seed(NULL, s.first);
	if (one || files)
		return 0;
	uint64_t done;
	unsigned failed = seeds_run(&s, one_seed, NULL, &done);
	printf("%llu mutations, %u failed\n", (unsigned long long)done, failed);
	return failed != 0;
}
#endif
