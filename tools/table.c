#include "tools/table.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct table {
	unsigned columns, cells, room;
	bool right[TABLE_COLUMNS_MAX];
	int width[TABLE_COLUMNS_MAX];
	char **cell;
};

/* Columns a UTF-8 text takes (one for each character). */
static int text_width(const char *s)
{
	int n = 0;
	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

static void cell_add(struct table *t, char *text)
{
	if (!text)
		return;
	if (t->cells == t->room) {
		unsigned room = t->room ? t->room * 2 : 64;
		char **p = realloc(t->cell, room * sizeof(*p));
		if (!p) {
			free(text);
			return;
		}
		t->cell = p;
		t->room = room;
	}
	/* names of files can hold anything: nothing that plays with a terminal */
	for (char *p = text; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	unsigned c = t->cells % t->columns;
	if (text_width(text) > t->width[c])
		t->width[c] = text_width(text);
	t->cell[t->cells++] = text;
}

struct table *table_create(const char *columns)
{
	struct table *t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	for (const char *p = columns;; p++) { /* count first: cell_add needs it */
		t->columns += *p == ',' || !*p;
		if (!*p)
			break;
	}
	if (t->columns > TABLE_COLUMNS_MAX)
		abort();
	for (const char *p = columns;; p++) {
		size_t len = strcspn(p, ",");
		bool right = *p == '>';
		t->right[t->cells] = right;
		cell_add(t, strndup(p + right, len - right));
		p += len;
		if (!*p)
			break;
	}
	return t;
}

void table_cell(struct table *t, const char *fmt, ...)
{
	va_list ap;
	char *text = NULL;
	if (!t)
		return;
	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	cell_add(t, text);
}

void table_print(struct table *t, int indent)
{
	for (unsigned i = 0; t && i < t->cells; i++) {
		unsigned c = i % t->columns;
		bool last = c + 1 == t->columns;
		int pad = t->width[c] - text_width(t->cell[i]);
		if (!c)
			printf("%*s", indent, "");
		if (t->right[c])
			printf("%*s%s", pad, "", t->cell[i]);
		else
			printf("%s%*s", t->cell[i], last ? 0 : pad, "");
		fputs(last ? "\n" : "  ", stdout);
	}
	for (unsigned i = 0; t && i < t->cells; i++)
		free(t->cell[i]);
	if (t)
		free(t->cell);
	free(t);
}
