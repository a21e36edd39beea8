/* tarn: the administrator's tool, and (called mount.fuse.tarn) the helper of mount(8).
 *
 * Finds the command in the tables, parses its options, runs it, prints its error.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "tools/command.h"
#include "tools/ctl_client.h"
#include "tools/ctl_proto.h"
#include "tools/mount_helper.h"
#include "tools/version.h"

static const struct command *const tables[] = {
	commands_pool,	commands_device,   commands_geometry, commands_history, commands_volume,
	commands_trash, commands_snapshot, commands_mount,    commands_dump,	commands_rescue,
};
#define NAME_COLUMNS 18 /* for the longest name of a command */
#define TABLES	     (sizeof(tables) / sizeof(tables[0]))

#define EACH_COMMAND(c)                        \
	for (size_t t_ = 0; t_ < TABLES; t_++) \
		for (const struct command *c = tables[t_]; c->name; c++)

const char *time_text(char buf[TIME_TEXT_MAX], uint64_t wall_ns)
{
	struct tm tm;
	time_t t = (time_t)(wall_ns / 1000000000u);
	localtime_r(&t, &tm);
	strftime(buf, TIME_TEXT_MAX, "%F %T", &tm);
	return buf;
}

uint64_t get_u64(struct json_object *o, const char *key)
{
	struct json_object *v;
	return json_object_object_get_ex(o, key, &v) ? json_object_get_uint64(v) : 0;
}

const char *get_string(struct json_object *o, const char *key)
{
	const char *s = ctl_get_string(o, key);
	return s ? s : "";
}

bool get_bool(struct json_object *o, const char *key)
{
	struct json_object *v;
	return json_object_object_get_ex(o, key, &v) && json_object_get_boolean(v);
}

struct json_object *get_array(struct json_object *o, const char *key)
{
	struct json_object *v;
	return json_object_object_get_ex(o, key, &v) && json_object_is_type(v, json_type_array)
		       ? v
		       : NULL;
}

int call_usage(struct call *c, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	fprintf(stderr, "tarn %s: ", c->cmd->name);
	vfprintf(stderr, fmt, ap);
	fprintf(stderr, "; see `tarn %s --help`\n", c->cmd->name);
	va_end(ap);
	return EXIT_USAGE;
}

static void print_json(struct json_object *o)
{
	int flags =
		JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE | JSON_C_TO_STRING_SPACED;
	puts(json_object_to_json_string_ext(o, flags));
}

bool call_json(struct call *c, struct json_object *o)
{
	bool json = option_given(&c->opt, "json");
	if (json)
		print_json(o);
	return json;
}

int call_ask(struct call *c, const char *pool, const char *verb, struct json_object *args,
	     struct json_object **ret_result)
{
	return ctl_ask(pool, verb, args, ret_result, &c->e) ? EXIT_FAILED : EXIT_OK;
}

static void command_help(const struct command *c)
{
	char line[512];
	snprintf(line, sizeof(line), "usage: tarn %s %s%s", c->name,
		 c->options[1].name || c->options[1].letter ? "[OPTIONS] " : "", c->args);
	text_wrapped(line, 0, 12);
	printf("\n");
	text_wrapped(c->help, 0, 0);
	if (c->details) {
		printf("\n");
		text_wrapped(c->details, 0, 0);
	}
	printf("\noptions:\n");
	options_help(c->options);
}

static void overview(void)
{
	puts("usage: tarn COMMAND [OPTIONS] [ARGUMENTS]\n\n"
	     "Pools of disks and files, with thin replicated volumes in them.\n");
	EACH_COMMAND(c)
	{
		printf("  %-*s", NAME_COLUMNS + 2, c->name);
		text_wrapped(c->help, NAME_COLUMNS + 4, NAME_COLUMNS + 4);
	}
	printf("  %-*s%s\n  %-*s%s\n\n", NAME_COLUMNS + 2, "version", "print the version",
	       NAME_COLUMNS + 2, "help [COMMAND]", "print this, or the help of a command");
	puts("`tarn COMMAND --help` and tarn(8) tell more. Sizes take K, M, G, T (by 1024).");
}

/* Edit distance, for suggestions. */
static unsigned distance(const char *a, const char *b)
{
	unsigned row[40];
	size_t n = strlen(b);
	if (n >= 40 || strlen(a) >= 40)
		return 99;
	for (unsigned j = 0; j <= n; j++)
		row[j] = j;
	for (unsigned i = 1; a[i - 1]; i++) {
		unsigned diagonal = row[0];
		row[0] = i;
		for (unsigned j = 1; j <= n; j++) {
			unsigned best = diagonal + (a[i - 1] != b[j - 1]);
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			diagonal = row[j];
			row[j] = best;
		}
	}
	return row[n];
}

/* "pool" alone: its commands. Otherwise the nearest command. */
static int unknown_command(const char *word, const char *second)
{
	char typed[64];
	bool one = !second || *second == '-';
	snprintf(typed, sizeof(typed), "%.30s%s%.30s", word, one ? "" : " ", one ? "" : second);
	size_t len = strlen(word);
	bool group = false;
	if (!second || *second == '-') { /* the name of a group */
		EACH_COMMAND(c)
		{
			if (strncmp(c->name, word, len) || c->name[len] != ' ')
				continue;
			if (!group)
				printf("usage: tarn %s COMMAND ...\n\n", word);
			group = true;
			printf("  %-*s%s\n", NAME_COLUMNS + 2, c->name, c->help);
		}
		if (group)
			return second ? EXIT_OK : EXIT_USAGE;
	}
	const char *best = NULL;
	unsigned best_distance = 4;
	EACH_COMMAND(c)
	{
		bool pair = strchr(c->name, ' ') && second && *second != '-';
		unsigned d = distance(pair ? typed : word, c->name);
		if (d < best_distance) {
			best_distance = d;
			best = c->name;
		}
	}
	if (distance(word, "pool") < 2 && !best)
		best = "pool";
	else if (distance(word, "volume") < 3 && !best)
		best = "volume";
	fprintf(stderr, "tarn: there is no command `%s`", typed);
	if (best)
		fprintf(stderr, "; did you mean `tarn %s`?\n", best);
	else
		fprintf(stderr, "; `tarn help` lists them\n");
	return EXIT_USAGE;
}

/* The command that the words begin with; *ret_used words belong to its name. */
static const struct command *command_find(char **words, int n, int *ret_used)
{
	EACH_COMMAND(c)
	{
		const char *space = strchr(c->name, ' ');
		size_t len = space ? (size_t)(space - c->name) : strlen(c->name);
		if (n < 1 || strlen(words[0]) != len || strncmp(words[0], c->name, len))
			continue;
		if (space && (n < 2 || strcmp(words[1], space + 1)))
			continue;
		*ret_used = space ? 2 : 1;
		return c;
	}
	return NULL;
}

static int command_run(const struct command *cmd, int argc, char **argv)
{
	static struct call c;
	c.cmd = cmd;
	if (options_parse(cmd->options, argc, argv, &c.opt, &c.e))
		return call_usage(&c, "%s", c.e.text);
	if (option_given(&c.opt, "help")) {
		command_help(cmd);
		return EXIT_OK;
	}
	if (c.opt.nargs < cmd->min_args)
		return call_usage(&c, "%s is needed", cmd->args);
	if (cmd->max_args >= 0 && c.opt.nargs > cmd->max_args)
		return call_usage(&c, "too many arguments");
	int r = cmd->run(&c);
	if (r == EXIT_FAILED && c.e.code)
		fprintf(stderr, "tarn %s: %s\n", cmd->name, c.e.text);
	return r;
}

static int help_command(int argc, char **argv)
{
	int used;
	if (!argc) {
		overview();
		return EXIT_OK;
	}
	const struct command *c = command_find(argv, argc, &used);
	if (!c)
		return unknown_command(argv[0], argc > 1 ? argv[1] : "--help");
	command_help(c);
	return EXIT_OK;
}

int main(int argc, char **argv)
{
	const char *self = strrchr(argv[0], '/');
	self = self ? self + 1 : argv[0];
	signal(SIGPIPE, SIG_IGN);
	if (!strncmp(self, "mount.", 6))
		return mount_helper_main(argc, argv);
	argc--;
	argv++;
	if (!argc || !strcmp(argv[0], "--help") || !strcmp(argv[0], "-h"))
		return help_command(0, NULL) + (argc ? EXIT_OK : EXIT_USAGE);
	if (!strcmp(argv[0], "help"))
		return help_command(argc - 1, argv + 1);
	if (!strcmp(argv[0], "version") || !strcmp(argv[0], "--version") ||
	    !strcmp(argv[0], "-V")) {
		printf("tarn %s\n", TARN_VERSION);
		return EXIT_OK;
	}
	int used;
	const struct command *c = command_find(argv, argc, &used);
	if (!c)
		return unknown_command(argv[0], argc > 1 ? argv[1] : NULL);
	int r = command_run(c, argc - used, argv + used);
	if (fflush(stdout) || ferror(stdout))
		r = r ? r : EXIT_FAILED;
	return r;
}
