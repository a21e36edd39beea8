/* cmd_volume: `tarn volume ...`. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tools/command.h"
#include "tools/listing.h"
#include "tools/names.h"
#include "tools/size_text.h"

static void add_string(struct json_object *o, const char *key, const char *s)
{
	json_object_object_add(o, key, json_object_new_string(s));
}

static void add_u64(struct json_object *o, const char *key, uint64_t n)
{
	json_object_object_add(o, key, json_object_new_uint64(n));
}

/* Name or number of a user. */
static int user_parse(const char *text, uint64_t *ret_uid)
{
	struct passwd *pw = getpwnam(text);
	if (!pw)
		return number_parse(text, 0, UINT32_MAX - 1, ret_uid);
	*ret_uid = pw->pw_uid;
	return 0;
}

/* First argument as POOL/VOLUME; arguments with its name. */
static int volume_args(struct call *c, struct volume_ref *ref, struct json_object **ret_args)
{
	*ret_args = NULL;
	if (volume_ref_parse(c->opt.args[0], ref, &c->e))
		return call_usage(c, "%s", c->e.text);
	*ret_args = json_object_new_object();
	add_string(*ret_args, "name", ref->volume);
	return EXIT_OK;
}

static int create_args(struct call *c, struct json_object *args)
{
	const struct options *o = &c->opt;
	const char *type = option_value(o, "type", NULL), *size = option_value(o, "size", NULL);
	const char *copies = option_value(o, "copies", "2"),
		   *owner = option_value(o, "owner", NULL);
	const char *compression = option_value(o, "compression", "lz4");
	uint64_t n;
	if (!type)
		return call_usage(c, "--type fs or --type block is needed");
	if (strcmp(type, "fs") && strcmp(type, "block"))
		return call_usage(c, "--type %s: known are fs and block", type);
	if (!strcmp(type, "block") && !size)
		return call_usage(c, "a block volume needs --size");
	add_string(args, "type", type);
	if (number_parse(copies, 1, 4, &n))
		return call_usage(c, "--copies %s: 1 to 4", copies);
	add_u64(args, "copies", n);
	if (size && (size_parse(size, &n) || n % 4096))
		return call_usage(c, "--size %s: a size like 40G (a multiple of 4K) is needed",
				  size);
	if (size)
		add_u64(args, "size_bytes", n);
	if (strcmp(compression, "lz4") && strcmp(compression, "off"))
		return call_usage(c, "--compression %s: known are lz4 and off", compression);
	add_string(args, "compression", compression);
	if (*option_value(o, "class", ""))
		add_string(args, "class", option_value(o, "class", ""));
	if (owner && user_parse(owner, &n))
		return call_usage(c, "--owner %s: there is no such user", owner);
	if (owner)
		add_u64(args, "owner_uid", n);
	return EXIT_OK;
}

static int cmd_volume_create(struct call *c)
{
	struct volume_ref ref;
	struct json_object *args;
	int r = volume_args(c, &ref, &args);
	if (r)
		return r;
	r = create_args(c, args);
	if (r) {
		json_object_put(args);
		return r;
	}
	return call_ask(c, ref.pool, "volume.create", args, NULL);
}

static void volume_row(struct table *t, const char *pool, struct json_object *v, bool exact)
{
	char a[SIZE_TEXT_MAX], b[SIZE_TEXT_MAX], d[SIZE_TEXT_MAX], f[SIZE_TEXT_MAX];
	uint64_t size = get_u64(v, "size_bytes");
	const char *on = get_string(v, "mountpoint");
	table_cell(t, "%s/%s", pool, get_string(v, "name"));
	table_cell(t, "%s", get_string(v, "type"));
	table_cell(t, "%" PRIu64, get_u64(v, "copies"));
	table_cell(t, "%s", size ? size_text(a, size, exact) : "-");
	table_cell(t, "%s", size_text(b, get_u64(v, "logical_bytes"), exact));
	table_cell(t, "%s", size_text(d, get_u64(v, "used_bytes"), exact));
	table_cell(t, "%s", size_text(f, get_u64(v, "available_bytes"), exact));
	table_cell(t, "%s", get_string(v, "compression"));
	table_cell(t, "%s", get_string(v, "health"));
	table_cell(t, "%s",
		   get_bool(v, "destroying") ? "(being destroyed)"
		   : *on		     ? on
		   : get_bool(v, "open")     ? "(open)"
					     : "-");
}

static int cmd_volume_list(struct call *c)
{
	static const struct listing volumes = {"volume.list",
					       "VOLUME,TYPE,>COPIES,>SIZE,>LOGICAL,>STORED,>"
					       "AVAILABLE,COMPRESSION,HEALTH,MOUNTED ON",
					       "no volumes", volume_row};
	return listing_show(c, &volumes, c->opt.nargs ? c->opt.args[0] : NULL, NULL);
}

/* How much of the data is stored as the policy says. */
static void compliance_print(struct json_object *v, bool exact)
{
	struct json_object *o;
	char a[SIZE_TEXT_MAX], b[SIZE_TEXT_MAX];
	if (!json_object_object_get_ex(v, "compliance", &o))
		return;
	uint64_t convert = get_u64(o, "other_policy_bytes");
	printf("compliant    %s\n", size_text(a, get_u64(o, "compliant_bytes"), exact));
	printf("degraded     %s\n", size_text(a, get_u64(o, "degraded_bytes"), exact));
	printf("to convert   %s", size_text(a, convert, exact));
	if (convert)
		printf(", needs up to %s of raw space",
		       size_text(b, get_u64(o, "needed_bytes"), exact));
	printf("\n");
}

static void status_print(const struct volume_ref *ref, struct json_object *v, bool exact)
{
	static const struct {
		const char *label, *key;
	} sizes[] = {
		{"size", "size_bytes"},
		{"logical", "logical_bytes"},
		{"stored", "used_bytes"},
		{"reserved", "reserved_bytes"},
		{"dirty", "delta_bytes"},
		{"available", "available_bytes"},
		{"reservation", "reservation_bytes"},
	};
	char buf[SIZE_TEXT_MAX], when[TIME_TEXT_MAX], path[PATH_MAX];
	printf("volume       %s/%s (%s)\n", ref->pool, ref->volume, get_string(v, "uuid"));
	printf("type         %s\n", get_string(v, "type"));
	printf("health       %s\n", get_string(v, "health"));
	printf("copies       %" PRIu64 "\n", get_u64(v, "copies"));
	printf("class        %s\n", *get_string(v, "class") ? get_string(v, "class") : "any");
	printf("compression  %s\n", get_string(v, "compression"));
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		if (i || get_u64(v, "size_bytes"))
			printf("%-12s %s\n",
			       i || strcmp(get_string(v, "type"), "fs") ? sizes[i].label : "quota",
			       size_text(buf, get_u64(v, sizes[i].key), exact));
	printf("owner        %" PRIu64 "\n", get_u64(v, "owner_uid"));
	printf("created      %s\n", time_text(when, get_u64(v, "created_ns")));
	compliance_print(v, exact);
	if (*get_string(v, "mountpoint"))
		printf("mounted on   %s\n", get_string(v, "mountpoint"));
	if (!strcmp(get_string(v, "type"), "block"))
		printf("image        %s/%s\n", run_path(path, ref->pool, "images"), ref->volume);
}

static int cmd_volume_status(struct call *c)
{
	struct volume_ref ref;
	struct json_object *args, *v = NULL;
	int r = volume_args(c, &ref, &args);
	if (r)
		return r;
	json_object_object_add(args, "compliance", json_object_new_boolean(true));
	r = call_ask(c, ref.pool, "volume.status", args, &v);
	if (r)
		return r;
	if (!call_json(c, v))
		status_print(&ref, v, option_given(&c->opt, "bytes"));
	json_object_put(v);
	return EXIT_OK;
}

static int resize(struct call *c, const struct volume_ref *ref, struct json_object *args,
		  const char *text)
{
	uint64_t n;
	if (size_parse(text, &n) || n % 4096) {
		json_object_put(args);
		return call_usage(c, "%s: a size like 40G (a multiple of 4K) is needed", text);
	}
	add_u64(args, "size_bytes", n);
	json_object_object_add(args, "allow_shrink",
			       json_object_new_boolean(option_given(&c->opt, "shrink")));
	return call_ask(c, ref->pool, "volume.resize", args, NULL);
}

/* One KEY=VALUE. */
static int set_one(struct call *c, const char *assignment)
{
	struct volume_ref ref;
	struct json_object *args;
	const char *eq = strchr(assignment, '=');
	char key[32];
	if (!eq || eq == assignment || (size_t)(eq - assignment) >= sizeof(key))
		return call_usage(c, "%s: PROPERTY=VALUE is needed", assignment);
	snprintf(key, sizeof(key), "%.*s", (int)(eq - assignment), assignment);
	int r = volume_args(c, &ref, &args);
	if (r)
		return r;
	if (!strcmp(key, "size"))
		return resize(c, &ref, args, eq + 1);
	uint64_t n = 0;
	add_string(args, "key", key);
	if (!strcmp(key, "owner")) {
		if (user_parse(eq + 1, &n)) {
			json_object_put(args);
			return call_usage(c, "owner=%s: there is no such user", eq + 1);
		}
		add_u64(args, "value", n);
	} else if (eq[1] || strcmp(key, "class")) { /* class=: any */
		add_string(args, "value", eq + 1);
	}
	struct json_object *o = NULL;
	r = call_ask(c, ref.pool, "volume.set", args, &o);
	if (!r && get_bool(o, "converting"))
		printf("data of %s/%s is rewritten with %s in background; "
		       "`tarn volume status %s/%s` shows how far it is\n",
		       ref.pool, ref.volume, assignment, ref.pool, ref.volume);
	json_object_put(o);
	return r;
}

static int cmd_volume_set(struct call *c)
{
	int r = EXIT_OK;
	for (int i = 1; !r && i < c->opt.nargs; i++)
		r = set_one(c, c->opt.args[i]);
	return r;
}

/* The value of one property as `volume set` takes it, or NULL. */
static const char *property_text(struct json_object *v, const char *name, bool exact,
				 char buf[SIZE_TEXT_MAX])
{
	static const char *const sizes[] = {"size",	 "used",	"logical", "reserved",
					    "available", "reservation", "quota"};
	char key[64];
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		if (strcmp(sizes[i], name))
			continue;
		snprintf(key, sizeof(key), "%s_bytes", name);
		return size_text(buf, get_u64(v, key), exact);
	}
	if (!strcmp(name, "copies") || !strcmp(name, "owner")) {
		snprintf(buf, SIZE_TEXT_MAX, "%" PRIu64,
			 get_u64(v, *name == 'o' ? "owner_uid" : "copies"));
		return buf;
	}
	if (!strcmp(name, "type") || !strcmp(name, "compression") || !strcmp(name, "class"))
		return get_string(v, name);
	return NULL;
}

static int cmd_volume_get(struct call *c)
{
	static const char *const all[] = {"type",	 "size",      "copies",	     "class",
					  "compression", "owner",     "used",	     "logical",
					  "reserved",	 "available", "reservation", "quota"};
	struct volume_ref ref;
	struct json_object *args, *v = NULL, *out = json_object_new_object();
	int r = volume_args(c, &ref, &args);
	if (!r)
		r = call_ask(c, ref.pool, "volume.status", args, &v);
	int n = c->opt.nargs > 1 ? c->opt.nargs - 1 : (int)(sizeof(all) / sizeof(all[0]));
	for (int i = 0; !r && i < n; i++) {
		const char *name = c->opt.nargs > 1 ? c->opt.args[i + 1] : all[i];
		char buf[SIZE_TEXT_MAX];
		bool json = option_given(&c->opt, "json");
		const char *text =
			property_text(v, name, json || option_given(&c->opt, "bytes"), buf);
		if (!text)
			r = call_usage(c, "%s: no such property", name);
		else if (json)
			add_string(out, name, text);
		else if (c->opt.nargs == 2)
			puts(text);
		else
			printf("%-12s %s\n", name, text);
	}
	if (!r)
		call_json(c, out);
	json_object_put(v);
	json_object_put(out);
	return r;
}

static int cmd_volume_destroy(struct call *c)
{
	struct volume_ref ref;
	struct json_object *args;
	int r = volume_args(c, &ref, &args);
	if (r)
		return r;
	struct json_object *o = NULL;
	char until[TIME_TEXT_MAX];
	bool now = option_given(&c->opt, "now");
	json_object_object_add(args, "now", json_object_new_boolean(now));
	r = call_ask(c, ref.pool, "volume.destroy", args, &o);
	if (!r && !now)
		printf("%s/%s is in the trash until %s; `tarn trash restore %s/%s` brings it "
		       "back\n",
		       ref.pool, ref.volume, time_text(until, get_u64(o, "expires_ns")), ref.pool,
		       ref.volume);
	json_object_put(o);
	return r;
}

static int cmd_volume_resize(struct call *c)
{
	struct volume_ref ref;
	struct json_object *args;
	int r = volume_args(c, &ref, &args);
	return r ? r : resize(c, &ref, args, c->opt.args[1]);
}

static int cmd_volume_rename(struct call *c)
{
	struct volume_ref ref, to;
	struct json_object *args;
	int r = volume_args(c, &ref, &args);
	if (r)
		return r;
	const char *name = c->opt.args[1];
	if (strchr(name, '/')) { /* POOL/NEW is fine when the pool is the same */
		if (volume_ref_parse(name, &to, &c->e) || strcmp(to.pool, ref.pool)) {
			json_object_put(args);
			return call_usage(c, "%s: a volume stays in its pool", name);
		}
		name = to.volume;
	}
	add_string(args, "to", name);
	return call_ask(c, ref.pool, "volume.rename", args, NULL);
}

static int cmd_volume_check(struct call *c)
{
	bool repair = option_given(&c->opt, "repair");
	struct json_object *args, *o;
	struct volume_ref ref;
	int r = volume_args(c, &ref, &args);
	if (r)
		return r;
	json_object_object_add(args, "repair", json_object_new_boolean(repair));
	r = call_ask(c, ref.pool, "volume.check", args, &o);
	if (r)
		return r;
	uint64_t problems = get_u64(o, "problems"), left = get_u64(o, "left");
	if (!call_json(c, o)) {
		fputs(get_string(o, "text"), stdout);
		if (get_bool(o, "text_truncated"))
			puts("... (more problems than fit here)");
		printf("checked %" PRIu64 " inodes, %" PRIu64 " entries: ", get_u64(o, "inodes"),
		       get_u64(o, "entries"));
		if (!problems)
			puts("no problem found");
		else if (repair)
			printf("%" PRIu64 " repaired, %" PRIu64 " left\n", get_u64(o, "repaired"),
			       left);
		else
			printf("%" PRIu64 " problem%s\n", problems, problems == 1 ? "" : "s");
	}
	json_object_put(o);
	return left ? EXIT_FAILED : EXIT_OK;
}

static const struct option_spec help_only[] = {OPTION_HELP, {0}};
static const struct option_spec listing[] = {OPTION_HELP, OPTION_JSON, OPTION_BYTES, {0}};
static const struct option_spec shrink[] = {
	OPTION_HELP,
	{"shrink", 0, NULL, "allow a smaller size; the data behind it is lost"},
	{0},
};
static const struct option_spec check[] = {
	OPTION_HELP,
	OPTION_JSON,
	{"repair", 0, NULL, "repair what is found; the volume must not be mounted"},
	{0},
};
static const struct option_spec destroy[] = {
	OPTION_HELP,
	{"now", 0, NULL, "for good, and give the space back at once"},
	{0},
};
static const struct option_spec create[] = {
	OPTION_HELP,
	{"type", 't', "TYPE", "fs: a file system to mount; block: a raw image"},
	{"size", 's', "SIZE", "block: size of the device; fs: most data it may hold"},
	{"copies", 'c', "N", "copies of the data on different devices, 1 to 4 (default 2)"},
	{"class", 0, "NAME", "keep the data on devices of this class (default: any)"},
	{"compression", 0, "NAME", "lz4 (default) or off"},
	{"owner", 'o', "USER", "may mount it without being root (default: root, or the pool's)"},
	{0},
};

const struct command commands_volume[] = {
	{"volume create", "POOL/VOLUME", "make a thin volume", create, 1, 1, cmd_volume_create,
	 "Volumes take space as they are written, so their sizes may add up to more than the pool "
	 "has."},
	{"volume list", "[POOL]", "list volumes", listing, 0, 1, cmd_volume_list, NULL},
	{"volume status", "POOL/VOLUME", "show one volume", listing, 1, 1, cmd_volume_status, NULL},
	{"volume set", "POOL/VOLUME PROPERTY=VALUE...", "change properties", shrink, 2, -1,
	 cmd_volume_set,
	 "Properties: compression=lz4|off (for new data), copies=N and class=NAME (older data is "
	 "rewritten in background; class= is any), owner=USER, reservation=SIZE (kept free for "
	 "this volume), quota=SIZE (fs: most data it may hold; 0: no limit), size=SIZE (block)."},
	{"volume get", "POOL/VOLUME [PROPERTY...]", "print properties", listing, 1, -1,
	 cmd_volume_get,
	 "Properties: type, size, copies, class, compression, owner, used, logical, "
	 "reserved, available, reservation, quota."},
	{"volume check", "POOL/VOLUME", "verify the file system in a volume", check, 1, 1,
	 cmd_volume_check,
	 "Link counts, entries, orphans, sizes, attributes; also while it is mounted. `tarn pool "
	 "check` does this for all volumes. --repair discards nothing that holds data: what has no "
	 "name any more is in /lost+found afterwards."},
	{"volume destroy", "POOL/VOLUME", "put a volume into the trash, or destroy it", destroy, 1,
	 1, cmd_volume_destroy,
	 "`tarn trash restore` brings it back for 24 hours (`tarn pool set POOL "
	 "trash-retention=TIME`), or until a full pool needs the space. Refused while it is "
	 "mounted or its image is open."},
	{"volume resize", "POOL/VOLUME SIZE", "change the size of a volume", shrink, 2, 2,
	 cmd_volume_resize, NULL},
	{"volume rename", "POOL/VOLUME NEW", "give a volume another name", help_only, 2, 2,
	 cmd_volume_rename, NULL},
	{0},
};
