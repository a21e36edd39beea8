#include "tools/command_text.h"
#include <ctype.h>
#include <string.h>

void command_text_char(struct command_text *t, char c)
{
	if (t->len + 1 < t->size)
		t->buf[t->len++] = c;
}

void command_text_put(struct command_text *t, const char *s)
{
	while (*s)
		command_text_char(t, *s++);
}

void command_text_word(struct command_text *t, const char *s)
{
	bool plain = *s;
	for (const char *c = s; *c; c++)
		plain &= isalnum((unsigned char)*c) || strchr("/._-+:=,@%", *c);
	if (!plain)
		command_text_char(t, '\'');
	for (; *s; s++) {
		if (*s == '\'')
			command_text_put(t, "'\\''");
		else
			command_text_char(t, (unsigned char)*s < ' ' || *s == 127 ? '?' : *s);
	}
	if (!plain)
		command_text_char(t, '\'');
}

void command_text_of(const char *name, const struct options *o, char *buf, size_t size)
{
	struct command_text t = {.buf = buf, .size = size};
	command_text_put(&t, "tarn ");
	command_text_put(&t, name);
	for (int i = 0; i < o->nargs; i++) {
		command_text_char(&t, ' ');
		command_text_word(&t, o->args[i]);
	}
	for (unsigned i = 0; i < o->n; i++) {
		command_text_put(&t, o->spec[i]->name ? " --" : " -");
		if (o->spec[i]->name)
			command_text_put(&t, o->spec[i]->name);
		else
			command_text_char(&t, o->spec[i]->letter);
		if (!o->value[i])
			continue;
		command_text_char(&t, ' ');
		command_text_word(&t, o->value[i]);
	}
	t.buf[t.len] = 0;
}
