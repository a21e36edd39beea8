/* options: command-line options, described by tables that also print the help.
 *
 * --name, --name VALUE, --name=VALUE, -x, -xVALUE, -x VALUE, -xyz; anywhere on the line; "--" ends
 * them.
 */
#ifndef TARN_TOOLS_OPTIONS_H
#define TARN_TOOLS_OPTIONS_H
#include <stdbool.h>
#include "base/err.h"

struct option_spec {
	const char *name;  /* without dashes; NULL: short only, or the end of a table (letter 0) */
	char letter;	   /* 0: none */
	const char *value; /* what the value is called in the help; NULL: a flag */
	const char *help;
};

#define OPTIONS_MAX 512

struct options {
	const struct option_spec *spec[OPTIONS_MAX]; /* given options in order ... */
	const char *value[OPTIONS_MAX];		     /* ... and their values (NULL for flags) */
	unsigned n;
	char **args; /* the rest, permuted to the front of argv */
	int nargs;
};

/* Parse argv[0..argc) (no program name). -EINVAL with a text that names the option. */
int options_parse(const struct option_spec *table, int argc, char **argv, struct options *ret_o,
		  struct err *e);
/* Was it given? By long name (or letter as a one-character string). */
bool option_given(const struct options *o, const char *name);
/* Value of its last occurrence, or fallback. */
const char *option_value(const struct options *o, const char *name, const char *fallback);
/* Lines for --help, at most 80 columns. */
void options_help(const struct option_spec *table);
/* Print text wrapped to 80 columns, every line indented. */
void text_wrapped(const char *text, unsigned first_column, unsigned indent);

#endif
