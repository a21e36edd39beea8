#include <inttypes.h>
#include <stdlib.h>
#include <sys/mman.h>
#include "tests/sim/cover.h"

static struct cover own;
struct cover *cover = &own;

void cover_share(void)
{
	void *m = mmap(NULL, sizeof(struct cover), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (m == MAP_FAILED)
		abort();
	cover = m;
}

static const char *const text[] = {
#define COVER_TEXT(id, text) text,
	COVER_LIST(COVER_TEXT)
#undef COVER_TEXT
};

void cover_print(FILE *f)
{
	for (unsigned i = 0; i < COVER_MAX; i++)
		fprintf(f, "%12" PRIu64 "  %s%s\n", cover->n[i], text[i],
			cover->n[i] ? "" : "  (never)");
}

void cover_print_faults(FILE *f)
{
	static const enum cover_id faults[] = {
		COVER_CRASHES,
		COVER_CRASH_IN_IMPORT,
		COVER_CRASH_IN_VERIFY,
		COVER_WRITE_TORN,
		COVER_DEV_DEATHS,
		COVER_DEV_OFFLINE,
		COVER_DEV_HANGS,
		COVER_READ_ERRORS,
		COVER_WRITE_ERRORS,
		COVER_FLUSH_ERRORS,
		COVER_ROT,
		COVER_LOST_WRITES,
		COVER_MISDIRECTED,
		COVER_BLIPS,
		COVER_NOMEM,
		COVER_TAKEOVERS,
	};
	for (unsigned i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
		fprintf(f, "%s%" PRIu64 " %s", i ? ", " : "", cover->n[faults[i]], text[faults[i]]);
	fprintf(f, "\n");
}
