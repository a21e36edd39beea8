#include <stdlib.h>
#include <string.h>
#include "fs/rescue_impl.h"

#define SIZE_MIN 256u

static struct rescue_entry *find(const struct rescue_set *s, uint64_t n)
{
	size_t i = (size_t)((n * 0x9e3779b97f4a7c15ull) >> 20) & (s->size - 1);

	while (s->slot[i].n && s->slot[i].n != n)
		i = (i + 1) & (s->size - 1);
	return &s->slot[i];
}

bool rescue_set_has(const struct rescue_set *s, uint64_t n)
{
	return s->size && find(s, n)->n == n;
}

const char *rescue_set_text(const struct rescue_set *s, uint64_t n)
{
	return rescue_set_has(s, n) ? find(s, n)->text : NULL;
}

static int grow(struct rescue_set *s)
{
	struct rescue_set bigger = {.size = s->size ? s->size * 2 : SIZE_MIN, .count = s->count};

	bigger.slot = calloc(bigger.size, sizeof(*bigger.slot));
	if (!bigger.slot)
		return -ENOMEM;
	for (size_t i = 0; i < s->size; i++)
		if (s->slot[i].n)
			*find(&bigger, s->slot[i].n) = s->slot[i];
	free(s->slot);
	*s = bigger;
	return 0;
}

int rescue_set_add(struct rescue_set *s, uint64_t n, const char *text)
{
	struct rescue_entry *e;
	char *copy = NULL;

	if (rescue_set_has(s, n))
		return -EEXIST;
	if (s->count * 2 >= s->size && grow(s))
		return -ENOMEM;
	if (text && !(copy = strdup(text)))
		return -ENOMEM;
	e = find(s, n);
	*e = (struct rescue_entry){n, copy};
	s->count++;
	return 0;
}

void rescue_set_fini(struct rescue_set *s)
{
	for (size_t i = 0; i < s->size; i++)
		free(s->slot[i].text);
	free(s->slot);
	*s = (struct rescue_set){0};
}
