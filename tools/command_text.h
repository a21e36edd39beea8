/* command_text: commands as a user would type them, for the history. Cut off where the buffer ends;
 * no errors, no threads. */
#ifndef TARN_TOOLS_COMMAND_TEXT_H
#define TARN_TOOLS_COMMAND_TEXT_H
#include <stddef.h>
#include "tools/options.h"

#define COMMAND_TEXT_MAX 1000 /* what the history keeps */

struct command_text {
	char *buf;
	size_t len, size;
};

void command_text_char(struct command_text *t, char c);
void command_text_put(struct command_text *t, const char *s);
/* A word for a shell: quoted when it has to be. Control characters become '?'. */
void command_text_word(struct command_text *t, const char *s);
/* Into buf: "tarn NAME ARGUMENTS OPTIONS". */
void command_text_of(const char *name, const struct options *o, char *buf, size_t size);

#endif
