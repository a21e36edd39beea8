/* cmd_snapshot: `tarn snapshot create | list | destroy`. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "tools/command.h"
#include "tools/listing.h"
#include "tools/names.h"
#include "tools/size_text.h"

static int snapshot_ref(struct call *c, const char *text, struct volume_ref *ret_ref)
{
	if (volume_ref_parse(text, ret_ref, &c->e))
		return call_usage(c, "%s", c->e.text);
	if (!strchr(ret_ref->volume, '@'))
		return call_usage(c, "%s: a snapshot is written POOL/VOLUME@NAME", text);
	return EXIT_OK;
}

/* -r POOL@NAME: of all volumes of the pool. */
static int ask_all(struct call *c, const char *verb)
{
	const char *text = c->opt.args[0], *at = strchr(text, '@');
	char pool[POOL_NAME_MAX + 1];
	int len = at ? (int)(at - text) : 0;
	snprintf(pool, sizeof(pool), "%.*s", len, text);
	if (c->opt.nargs != 1 || !at || len > POOL_NAME_MAX || !pool_name_valid(pool) || !at[1])
		return call_usage(c, "with --recursive one POOL@NAME is given");
	struct json_object *args = json_object_new_object();
	json_object_object_add(args, "all", json_object_new_string(at + 1));
	return call_ask(c, pool, verb, args, NULL);
}

static int cmd_snapshot_create(struct call *c)
{
	if (option_given(&c->opt, "recursive"))
		return ask_all(c, "snapshot.create");
	struct json_object *args = json_object_new_object(), *names = json_object_new_array();
	struct volume_ref ref, first = {0};
	int r = 0;
	json_object_object_add(args, "names", names);
	for (int i = 0; !r && i < c->opt.nargs; i++) {
		r = snapshot_ref(c, c->opt.args[i], &ref);
		if (!i)
			first = ref;
		if (!r && strcmp(ref.pool, first.pool))
			r = call_usage(c, "snapshots of one moment are of one pool");
		if (!r)
			json_object_array_add(names, json_object_new_string(ref.volume));
	}
	if (r) {
		json_object_put(args);
		return r;
	}
	return call_ask(c, first.pool, "snapshot.create", args, NULL);
}

static void snapshot_row(struct table *t, const char *pool, struct json_object *s, bool exact)
{
	char size[SIZE_TEXT_MAX], data[SIZE_TEXT_MAX], when[TIME_TEXT_MAX];
	table_cell(t, "%s/%s", pool, get_string(s, "name"));
	table_cell(t, "%s", time_text(when, get_u64(s, "created_ns")));
	table_cell(t, "%s", size_text(data, get_u64(s, "logical_bytes"), exact));
	table_cell(t, "%s", size_text(size, get_u64(s, "used_bytes"), exact));
}

static int cmd_snapshot_list(struct call *c)
{
	static const struct listing snapshots = {"snapshot.list", "SNAPSHOT,TAKEN,>DATA,>STORED",
						 "no snapshots", snapshot_row};
	struct volume_ref ref;
	const char *of = c->opt.nargs ? c->opt.args[0] : NULL;
	if (!of || !strchr(of, '/'))
		return listing_show(c, &snapshots, of, NULL);
	if (volume_ref_parse(of, &ref, &c->e))
		return call_usage(c, "%s", c->e.text);
	return listing_show(c, &snapshots, ref.pool, ref.volume);
}

static int cmd_snapshot_destroy(struct call *c)
{
	if (option_given(&c->opt, "recursive"))
		return ask_all(c, "snapshot.destroy");
	struct volume_ref ref;
	int r = snapshot_ref(c, c->opt.args[0], &ref);
	if (r)
		return r;
	struct json_object *args = json_object_new_object();
	json_object_object_add(args, "name", json_object_new_string(ref.volume));
	return call_ask(c, ref.pool, "snapshot.destroy", args, NULL);
}

static const struct option_spec recursive[] = {
	OPTION_HELP,
	{"recursive", 'r', NULL, "POOL@NAME: of all volumes of the pool"},
	{0},
};
static const struct option_spec listing[] = {OPTION_HELP, OPTION_JSON, OPTION_BYTES, {0}};

const struct command commands_snapshot[] = {
	{"snapshot create", "POOL/VOLUME@NAME...", "take snapshots, all of one moment", recursive,
	 1, 64, cmd_snapshot_create,
	 "A snapshot takes no space when it is taken; it keeps what its volume overwrites or "
	 "deletes later. Mount it like a volume, read-only; of a block volume it is the file "
	 "VOLUME@NAME in the images folder."},
	{"snapshot list", "[POOL[/VOLUME]]", "list snapshots", listing, 0, 1, cmd_snapshot_list,
	 "DATA and STORED are those of the volume then; most of it is shared with the volume and "
	 "other snapshots."},
	{"snapshot destroy", "POOL/VOLUME@NAME", "destroy a snapshot", recursive, 1, 1,
	 cmd_snapshot_destroy, "What nothing else shows comes back in background."},
	{0},
};
