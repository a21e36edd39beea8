/* command: the commands of the tarn tool, as tables, and what their handlers share. */
#ifndef TARN_TOOLS_COMMAND_H
#define TARN_TOOLS_COMMAND_H
#include <json-c/json.h>
#include "base/err.h"
#include "tools/options.h"

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

struct command;
struct call { /* one use of a command */
	const struct command *cmd;
	struct options opt;
	struct err e;
};

struct command {
	const char *name; /* "pool create" */
	const char *args; /* "POOL DEVICE..." */
	const char *help; /* one line */
	const struct option_spec *options;
	int min_args, max_args;	    /* max < 0: any number */
	int (*run)(struct call *c); /* exit status; EXIT_FAILED with text in c->e is printed */
	const char *details;	    /* more lines for --help, or NULL */
};

/* Tables, each ends with a NULL name. */
extern const struct command commands_pool[], commands_device[], commands_geometry[];
extern const struct command commands_history[];
extern const struct command commands_volume[], commands_trash[], commands_snapshot[];
extern const struct command commands_mount[], commands_dump[];
extern const struct command commands_rescue[];

/* c->e has the text: EXIT_FAILED. Or print an error about the use: EXIT_USAGE. */
int call_usage(struct call *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Ask the daemon of a pool. EXIT_OK, or EXIT_FAILED with text. args is taken over. */
int call_ask(struct call *c, const char *pool, const char *verb, struct json_object *args,
	     struct json_object **ret_result);
/* Is --json given? Then print o. */
bool call_json(struct call *c, struct json_object *o);

/* "2026-11-01 12:00:00" in local time. Returns buf. */
#define TIME_TEXT_MAX 32
const char *time_text(char buf[TIME_TEXT_MAX], uint64_t wall_ns);

/* Members of JSON objects: 0, "" and false when absent. */
uint64_t get_u64(struct json_object *o, const char *key);
const char *get_string(struct json_object *o, const char *key);
bool get_bool(struct json_object *o, const char *key);
struct json_object *get_array(struct json_object *o, const char *key); /* NULL when absent */

#define OPTION_HELP                                  \
	{                                            \
		"help", 'h', NULL, "print this help" \
	}
#define OPTION_JSON                             \
	{                                       \
		"json", 'j', NULL, "print JSON" \
	}
#define OPTION_BYTES                                                        \
	{                                                                   \
		"bytes", 'b', NULL, "print sizes as exact numbers of bytes" \
	}

#endif
