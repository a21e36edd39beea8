/* cmd_dump: `tarn dump`: print structures of a pool, running or from its devices. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "tools/command.h"
#include "tools/ctl_client.h"
#include "tools/dump_pool.h"
#include "tools/members.h"
#include "tools/names.h"
#include "tools/state_file.h"

struct dump {
	struct call *c;
	char what[32];
	const char *arg; /* behind the colon, or NULL */
};

static int dump_members(struct pool *p, void *arg)
{
	struct dump *d = arg;
	return dump_pool(p, d->what, d->arg, stdout, &d->c->e);
}

static int dump_running(struct dump *d, const char *pool)
{
	struct json_object *args = json_object_new_object(), *o = NULL;
	json_object_object_add(args, "what", json_object_new_string(d->what));
	if (d->arg)
		json_object_object_add(args, "arg", json_object_new_string(d->arg));
	int r = call_ask(d->c, pool, "pool.dump", args, &o);
	if (r)
		return r;
	fputs(get_string(o, "text"), stdout);
	if (get_bool(o, "text_truncated"))
		puts("... (too long; export the pool and dump its devices to see all)");
	json_object_put(o);
	return EXIT_OK;
}

static int dump_devices(struct dump *d, char *const *paths, int n)
{
	struct members m;
	int r = members_find(paths, n, &m, &d->c->e);
	if (r)
		return EXIT_FAILED;
	r = members_use(&m, dump_members, d, &d->c->e);
	members_fini(&m);
	return r ? EXIT_FAILED : EXIT_OK;
}

static bool what_known(const struct dump *d)
{
	static const char *const plain[] = {"sb", "log"}, *const with_arg[] = {"sb", "tree", "node",
									       "chunk"};
	for (size_t i = 0; !d->arg && i < 2; i++)
		if (!strcmp(plain[i], d->what))
			return true;
	for (size_t i = 0; d->arg && *d->arg && i < 4; i++)
		if (!strcmp(with_arg[i], d->what))
			return true;
	return false;
}

static int cmd_dump(struct call *c)
{
	struct dump d = {.c = c};
	const char *text = c->opt.args[0], *colon = strchr(text, ':');
	size_t len = colon ? (size_t)(colon - text) : strlen(text);
	snprintf(d.what, sizeof(d.what), "%.*s", (int)len, text);
	d.arg = colon ? colon + 1 : NULL;
	if (len >= sizeof(d.what) || !what_known(&d))
		return call_usage(
			c, "%s: known are sb, sb:INDEX, tree:NAME, node:ADDRESS, chunk:ID, log",
			text);
	const char *first = c->opt.args[1];
	struct state_file known = {0};
	if (c->opt.nargs > 2 || !pool_name_valid(first) || !access(first, F_OK))
		return dump_devices(&d, c->opt.args + 1, c->opt.nargs - 1);
	if (ctl_running(first) || state_file_load(first, &known, NULL))
		return dump_running(&d, first);
	int r = dump_devices(&d, known.devs, (int)known.ndevs);
	state_file_fini(&known);
	return r;
}

static const struct option_spec help_only[] = {OPTION_HELP, {0}};

const struct command commands_dump[] = {
	{"dump", "WHAT POOL|DEVICE...", "print structures of a pool", help_only, 2, -1, cmd_dump,
	 "WHAT is one of:\n"
	 "  sb, sb:INDEX      superblock (of one device)\n"
	 "  tree:map          where chunks are\n"
	 "  tree:space        bitmaps of free blocks\n"
	 "  tree:root         volumes\n"
	 "  tree:VOLUME       a volume's items\n"
	 "  tree:VOLUME@NAME  a snapshot's items\n"
	 "  tree:VOLUME@      what snapshots of a volume keep\n"
	 "  node:ADDRESS      one tree node, address in hexadecimal\n"
	 "  chunk:ID          one chunk and its members\n"
	 "  log               records of the intent log"},
	{0},
};
