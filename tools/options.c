#include "tools/options.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define COLUMNS	    80
#define HELP_INDENT 24

static bool spec_end(const struct option_spec *s)
{
	return !s->name && !s->letter;
}

static const struct option_spec *find_long(const struct option_spec *t, const char *s, size_t len)
{
	for (; !spec_end(t); t++)
		if (t->name && strlen(t->name) == len && !strncmp(t->name, s, len))
			return t;
	return NULL;
}

static const struct option_spec *find_short(const struct option_spec *t, char c)
{
	for (; !spec_end(t); t++)
		if (t->letter && t->letter == c)
			return t;
	return NULL;
}

static int given_add(struct options *o, const struct option_spec *s, const char *value,
		     struct err *e)
{
	if (o->n == OPTIONS_MAX)
		return err_set(e, -E2BIG, "more than %d options", OPTIONS_MAX);
	o->spec[o->n] = s;
	o->value[o->n++] = value;
	return 0;
}

/* argv[*i] is "--...". */
static int parse_long(const struct option_spec *table, int argc, char **argv, int *i,
		      struct options *o, struct err *e)
{
	const char *name = argv[*i] + 2, *eq = strchr(name, '=');
	size_t len = eq ? (size_t)(eq - name) : strlen(name);
	const struct option_spec *s = find_long(table, name, len);
	if (!s)
		return err_set(e, -EINVAL, "unknown option --%.*s", (int)len, name);
	if (!s->value)
		return eq ? err_set(e, -EINVAL, "option --%s takes no value", s->name)
			  : given_add(o, s, NULL, e);
	if (eq)
		return given_add(o, s, eq + 1, e);
	if (*i + 1 >= argc)
		return err_set(e, -EINVAL, "option --%s needs a value (%s)", s->name, s->value);
	return given_add(o, s, argv[++*i], e);
}

/* argv[*i] is "-x...". */
static int parse_short(const struct option_spec *table, int argc, char **argv, int *i,
		       struct options *o, struct err *e)
{
	for (const char *p = argv[*i] + 1; *p; p++) {
		const struct option_spec *s = find_short(table, *p);
		if (!s)
			return err_set(e, -EINVAL, "unknown option -%c", *p);
		int r;
		if (!s->value) {
			r = given_add(o, s, NULL, e);
			if (r)
				return r;
			continue;
		}
		if (p[1])
			return given_add(o, s, p + 1, e);
		if (*i + 1 >= argc)
			return err_set(e, -EINVAL, "option -%c needs a value (%s)", *p, s->value);
		return given_add(o, s, argv[++*i], e);
	}
	return 0;
}

int options_parse(const struct option_spec *table, int argc, char **argv, struct options *ret_o,
		  struct err *e)
{
	*ret_o = (struct options){.args = argv};
	bool ended = false;
	for (int i = 0; i < argc; i++) {
		char *a = argv[i];
		int r = 0;
		if (ended || a[0] != '-' || !a[1])
			argv[ret_o->nargs++] = a; /* never ahead of i */
		else if (!strcmp(a, "--"))
			ended = true;
		else if (a[1] == '-')
			r = parse_long(table, argc, argv, &i, ret_o, e);
		else
			r = parse_short(table, argc, argv, &i, ret_o, e);
		if (r)
			return r;
	}
	return 0;
}

static bool spec_is(const struct option_spec *s, const char *name)
{
	return (s->name && !strcmp(s->name, name)) ||
	       (s->letter && name[0] == s->letter && !name[1]);
}

bool option_given(const struct options *o, const char *name)
{
	for (unsigned i = 0; i < o->n; i++)
		if (spec_is(o->spec[i], name))
			return true;
	return false;
}

const char *option_value(const struct options *o, const char *name, const char *fallback)
{
	for (unsigned i = o->n; i-- > 0;)
		if (spec_is(o->spec[i], name))
			return o->value[i];
	return fallback;
}

void text_wrapped(const char *text, unsigned first_column, unsigned indent)
{
	unsigned column = first_column;
	bool start = true;
	while (*text) {
		if (*text == '\n') {
			putchar('\n');
			printf("%*s", (int)indent, "");
			column = indent;
			start = true;
			text++;
			continue;
		}
		unsigned len = (unsigned)strcspn(text, " \n");
		if (!start && column + 1 + len > COLUMNS) {
			printf("\n%*s", (int)indent, "");
			column = indent;
			start = true;
		}
		column += (unsigned)printf("%s%.*s", start ? "" : " ", (int)len, text);
		start = false;
		text += len;
		text += *text == ' ';
	}
	putchar('\n');
}

void options_help(const struct option_spec *table)
{
	for (const struct option_spec *s = table; !spec_end(s); s++) {
		char left[64];
		int n = snprintf(left, sizeof(left), "  ");
		if (s->letter)
			n += snprintf(left + n, sizeof(left) - (size_t)n, "-%c%s", s->letter,
				      s->name ? ", " : "");
		if (s->name)
			n += snprintf(left + n, sizeof(left) - (size_t)n, "--%s", s->name);
		if (s->value)
			n += snprintf(left + n, sizeof(left) - (size_t)n, " %s", s->value);
		if (n + 2 > HELP_INDENT)
			printf("%s\n%*s", left, HELP_INDENT, "");
		else
			printf("%-*s", HELP_INDENT, left);
		text_wrapped(s->help, HELP_INDENT, HELP_INDENT);
	}
}
