/* cmd_trash: `tarn trash list | restore | empty`. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "tools/command.h"
#include "tools/listing.h"
#include "tools/names.h"
#include "tools/size_text.h"

static void add_string(struct json_object *o, const char *key, const char *s)
{
	json_object_object_add(o, key, json_object_new_string(s));
}

/* --id as an argument. */
static int add_id(struct call *c, struct json_object *args)
{
	const char *text = option_value(&c->opt, "id", NULL);
	uint64_t id;
	if (!text)
		return EXIT_OK;
	if (number_parse(text, 1, INT64_MAX, &id))
		return call_usage(c, "--id %s: a number of `tarn trash list` is needed", text);
	json_object_object_add(args, "id", json_object_new_uint64(id));
	return EXIT_OK;
}

static void trash_row(struct table *t, const char *pool, struct json_object *v, bool exact)
{
	char size[SIZE_TEXT_MAX], from[TIME_TEXT_MAX], until[TIME_TEXT_MAX];
	table_cell(t, "%s/%s", pool, get_string(v, "name"));
	table_cell(t, "%" PRIu64, get_u64(v, "id"));
	table_cell(t, "%s", get_string(v, "type"));
	table_cell(t, "%s", size_text(size, get_u64(v, "used_bytes"), exact));
	table_cell(t, "%s", time_text(from, get_u64(v, "trashed_ns")));
	table_cell(t, "%s", time_text(until, get_u64(v, "expires_ns")));
}

static int cmd_trash_list(struct call *c)
{
	static const struct listing trash = {"trash.list",
					     "VOLUME,>ID,TYPE,>STORED,DESTROYED,KEPT UNTIL",
					     "the trash is empty", trash_row};
	return listing_show(c, &trash, c->opt.nargs ? c->opt.args[0] : NULL, NULL);
}

static int cmd_trash_restore(struct call *c)
{
	struct volume_ref ref, to;
	const char *as = option_value(&c->opt, "as", NULL);
	if (volume_ref_parse(c->opt.args[0], &ref, &c->e))
		return call_usage(c, "%s", c->e.text);
	if (as && strchr(as, '/')) { /* POOL/NAME is fine when the pool is the same */
		if (volume_ref_parse(as, &to, &c->e) || strcmp(to.pool, ref.pool))
			return call_usage(c, "--as %s: a volume stays in its pool", as);
		as = to.volume;
	}
	struct json_object *args = json_object_new_object();
	add_string(args, "name", ref.volume);
	if (as)
		add_string(args, "to", as);
	int r = add_id(c, args);
	if (r) {
		json_object_put(args);
		return r;
	}
	r = call_ask(c, ref.pool, "trash.restore", args, NULL);
	if (!r)
		printf("%s/%s is back\n", ref.pool, as ? as : ref.volume);
	return r;
}

static int cmd_trash_empty(struct call *c)
{
	struct json_object *args = json_object_new_object(), *o = NULL;
	if (c->opt.nargs > 1)
		add_string(args, "name", c->opt.args[1]);
	int r = add_id(c, args);
	if (r) {
		json_object_put(args);
		return r;
	}
	r = call_ask(c, c->opt.args[0], "trash.empty", args, &o);
	if (r)
		return r;
	uint64_t n = get_u64(o, "count");
	if (n)
		printf("%" PRIu64 " volume%s destroyed; the space comes back in background\n", n,
		       n == 1 ? "" : "s");
	else
		puts("the trash is empty");
	json_object_put(o);
	return EXIT_OK;
}

static const struct option_spec listing[] = {OPTION_HELP, OPTION_JSON, OPTION_BYTES, {0}};
static const struct option_spec restore[] = {
	OPTION_HELP,
	{"id", 'i', "N", "the one with this number in the list, of several of that name"},
	{"as", 0, "NAME", "give it another name"},
	{0},
};
static const struct option_spec empty[] = {
	OPTION_HELP,
	{"id", 'i', "N", "only the one with this number in the list"},
	{0},
};

const struct command commands_trash[] = {
	{"trash list", "[POOL]", "list destroyed volumes that can come back", listing, 0, 1,
	 cmd_trash_list,
	 "The oldest comes first. On a full pool they leave early, the oldest first, when a "
	 "writer needs the space."},
	{"trash restore", "POOL/VOLUME", "bring a destroyed volume back", restore, 1, 1,
	 cmd_trash_restore, "Of several of that name the one destroyed last is taken."},
	{"trash empty", "POOL [VOLUME]", "destroy what is in the trash for good", empty, 1, 2,
	 cmd_trash_empty, "With VOLUME only what had that name."},
	{0},
};
