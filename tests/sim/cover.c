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

void cover_print(FILE *f)
{
	static const char *const text[] = {
#define COVER_TEXT(id, text) text,
		COVER_LIST(COVER_TEXT)
#undef COVER_TEXT
	};
	for (unsigned i = 0; i < COVER_MAX; i++)
		fprintf(f, "%12" PRIu64 "  %s%s\n", cover->n[i], text[i],
			cover->n[i] ? "" : "  (never)");
}
