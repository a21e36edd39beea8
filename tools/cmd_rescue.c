/* cmd_rescue: `tarn rescue`: list and copy volumes of a pool that cannot be imported. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uuid/uuid.h>
#include "fs/rescue_fs.h"
#include "tools/command.h"
#include "tools/hop.h"
#include "tools/rescue_report.h"
#include "tools/size_text.h"
#include "tools/table.h"

#define EXIT_NOTHING EXIT_USAGE

struct rescuing {
	struct call *c;
	struct rescue *r;
	int (*then)(struct rescuing *g); /* exit status */
	int status;
};

static const char *const state_names[] = {"whole", "patched", "merged"};

static void add_string(struct json_object *o, const char *key, const char *s)
{
	json_object_object_add(o, key, json_object_new_string(s));
}

static void add_u64(struct json_object *o, const char *key, uint64_t n)
{
	json_object_object_add(o, key, json_object_new_uint64(n));
}

static void add_bool(struct json_object *o, const char *key, bool b)
{
	json_object_object_add(o, key, json_object_new_boolean(b));
}

/* ---- the devices ---- */

static void scan_progress(void *arg, uint64_t done, uint64_t total)
{
	(void)arg;
	rescue_progress("scanning", done, total);
}

static int with_devices(struct rescuing *g, struct dev_backend **devs, unsigned n)
{
	struct rescue_options o = {.progress = scan_progress};
	const char *text = option_value(&g->c->opt, "pool", NULL);
	uuid_t uuid;
	if (text && uuid_parse(text, uuid))
		return err_set(&g->c->e, -EINVAL,
			       "--pool %s: not a UUID, as `tarn rescue list` prints it", text);
	o.pool_uuid = text ? uuid : NULL;
	int r = rescue_open(devs, n, &o, &g->r, &g->c->e);
	rescue_progress(NULL, 0, 0);
	if (r)
		return r;
	g->status = g->then(g);
	rescue_close(g->r);
	return 0;
}

static int rescuing_co(void *arg)
{
	struct rescuing *g = arg;
	struct options *opt = &g->c->opt;
	struct dev_backend *devs[POOL_DEVS_MAX];
	unsigned n = 0;
	int r = opt->nargs > POOL_DEVS_MAX
			? err_set(&g->c->e, -E2BIG, "more than %d devices", POOL_DEVS_MAX)
			: 0;
	for (int i = 0; i < opt->nargs && !r; i++) {
		r = dev_file_open(opt->args[i], DEV_OPEN_RDONLY, &devs[n], &g->c->e);
		n += !r;
	}
	if (!r)
		r = with_devices(g, devs, n);
	while (n)
		dev_close(devs[--n]);
	return r;
}

static int rescuing_run(struct call *c, int (*then)(struct rescuing *g))
{
	struct rescuing g = {.c = c, .then = then, .status = EXIT_NOTHING};
	int r = hop_private(rescuing_co, &g);
	if (r && !c->e.code)
		err_set(&c->e, r, "%s", err_str(r));
	if (g.status == EXIT_NOTHING && c->e.code)
		fprintf(stderr, "tarn %s: %s\n", c->cmd->name, c->e.text);
	return g.status;
}

/* ---- list ---- */

static const char *vol_note(const struct rescue_vol *v)
{
	return v->gone ? "gone" : v->trashed ? "trash" : v->nameless ? "nameless" : "";
}

static struct json_object *vol_to_json(const struct rescue_vol *v)
{
	struct json_object *o = json_object_new_object();
	add_string(o, "name", v->name);
	add_u64(o, "id", v->id);
	add_string(o, "type", v->type == VOL_TYPE_FS ? "fs" : "block");
	add_u64(o, "size_bytes", v->size_bytes);
	add_u64(o, "logical_bytes", v->logical_bytes);
	add_u64(o, "created_ns", v->created_ns);
	add_string(o, "state", state_names[v->state]);
	add_u64(o, "commit", v->txn);
	add_u64(o, "lost_nodes", v->lost_nodes);
	add_u64(o, "log_groups", v->log_groups);
	add_bool(o, "gone", v->gone);
	add_bool(o, "trashed", v->trashed);
	add_bool(o, "nameless", v->nameless);
	return o;
}

static struct json_object *info_to_json(const struct rescue_info *i)
{
	struct json_object *o = json_object_new_object();
	char uuid[37];
	uuid_unparse_lower(i->uuid, uuid);
	add_string(o, "uuid", uuid);
	add_string(o, "pool", i->name);
	add_u64(o, "chunk_bytes", i->chunk_bytes);
	add_u64(o, "devices", i->devices);
	add_u64(o, "devices_known", i->known);
	add_u64(o, "superblocks", i->superblocks);
	add_u64(o, "nodes", i->nodes);
	add_u64(o, "newest_commit", i->newest_txn);
	add_u64(o, "read_errors", i->read_errors);
	add_u64(o, "other_pools", i->other_pools);
	return o;
}

static void list_print(struct call *c, const struct rescue_info *i, const struct rescue_vol *v,
		       unsigned n)
{
	bool exact = option_given(&c->opt, "bytes");
	char uuid[37], size[SIZE_TEXT_MAX], data[SIZE_TEXT_MAX];
	uuid_unparse_lower(i->uuid, uuid);
	printf("pool %s%s%s: %u devices, %u of them recognised, %u with a superblock; %" PRIu64
	       " nodes, newest commit %" PRIu64 "\n",
	       i->name, *i->name ? " " : "", uuid, i->devices, i->known, i->superblocks, i->nodes,
	       i->newest_txn);
	if (i->read_errors)
		printf("%" PRIu64 " blocks could not be read\n", i->read_errors);
	if (i->other_pools)
		printf("%u other pools have left nodes here; --pool UUID chooses\n",
		       i->other_pools);
	struct table *t =
		table_create("NAME,>ID,TYPE,>SIZE,>DATA,STATE,>COMMIT,>LOG,>LOST NODES,NOTE");
	for (unsigned k = 0; t && k < n; k++) {
		table_cell(t, "%s", v[k].name);
		table_cell(t, "%" PRIu64, v[k].id);
		table_cell(t, "%s", v[k].type == VOL_TYPE_FS ? "fs" : "block");
		table_cell(t, "%s", size_text(size, v[k].size_bytes, exact));
		table_cell(t, "%s", size_text(data, v[k].logical_bytes, exact));
		table_cell(t, "%s", state_names[v[k].state]);
		table_cell(t, "%" PRIu64, v[k].txn);
		table_cell(t, "%" PRIu64, v[k].log_groups);
		table_cell(t, "%" PRIu64, v[k].lost_nodes);
		table_cell(t, "%s", vol_note(&v[k]));
	}
	if (t)
		table_print(t, 0);
}

static int list(struct rescuing *g)
{
	struct rescue_info i;
	unsigned n;
	const struct rescue_vol *v = rescue_vols(g->r, &n);
	rescue_info_get(g->r, &i);
	struct json_object *o = info_to_json(&i), *vols = json_object_new_array();
	for (unsigned k = 0; k < n; k++)
		json_object_array_add(vols, vol_to_json(&v[k]));
	json_object_object_add(o, "volumes", vols);
	if (!call_json(g->c, o))
		list_print(g->c, &i, v, n);
	json_object_put(o);
	return n ? EXIT_OK : EXIT_NOTHING;
}

static int cmd_list(struct call *c)
{
	return rescuing_run(c, list);
}

/* ---- copy ---- */

struct copy {
	struct call *c;
	struct rescue_report rep;
	const struct rescue_vol *vol;
	struct rescue_fs_result res;
};

static void copy_lost(void *arg, uint64_t off, uint64_t len)
{
	rescue_report_block(&((struct copy *)arg)->rep, off, len);
}

static void copy_damage(void *arg, const char *path, uint64_t ino, const char *what, uint64_t off,
			uint64_t len)
{
	rescue_report_add(&((struct copy *)arg)->rep, path, ino, what, off, len);
}

static void copy_progress(void *arg, uint64_t inodes, uint64_t bytes)
{
	(void)arg;
	(void)inodes;
	rescue_progress("copying", bytes, 0);
}

static int copy_image(struct copy *k, struct rescue_view *v, const char *to)
{
	struct rescue_data d = {.lost = copy_lost, .arg = k};
	int fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_set(&k->c->e, -errno, "%s: %s", to, strerror(errno));
	d.progress = copy_progress;
	int r = rescue_object_copy(v, VOL_BLOCK_OBJECT, k->vol->size_bytes, fd, &d);
	if (!r && fsync(fd))
		r = -errno;
	if (close(fd) && !r)
		r = -errno;
	k->res.good_bytes = d.good_bytes;
	k->res.lost_bytes = d.lost_bytes;
	return r ? err_set(&k->c->e, r, "write %s: %s", to, err_str(r)) : 0;
}

static int copy_tree(struct copy *k, struct rescue_view *v, const char *to)
{
	struct rescue_fs_report rep = {copy_damage, copy_progress, k};
	int fd = -1;
	if (!mkdir(to, 0700) || errno == EEXIST)
		fd = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_set(&k->c->e, -errno, "%s: %s", to, strerror(errno));
	int r = rescue_fs_copy(v, fd, &rep, &k->res, &k->c->e);
	if (!r && syncfs(fd))
		r = err_set(&k->c->e, -errno, "write %s: %s", to, strerror(errno));
	close(fd);
	return r;
}

/* By name, one that is not gone before others; else by number. */
static const struct rescue_vol *vol_find(struct rescue *r, const char *name)
{
	unsigned n;
	uint64_t id;
	const struct rescue_vol *v = rescue_vols(r, &n), *best = NULL;
	for (unsigned i = 0; i < n; i++)
		if (!strcmp(v[i].name, name) && (!best || v[i].gone < best->gone ||
						 (v[i].gone == best->gone && v[i].txn > best->txn)))
			best = &v[i];
	if (best || number_parse(name, 0, INT64_MAX, &id))
		return best;
	for (unsigned i = 0; i < n && !best; i++)
		if (v[i].id == id)
			best = &v[i];
	return best;
}

static struct json_object *result_to_json(const struct copy *k)
{
	struct json_object *o = vol_to_json(k->vol);
	add_u64(o, "found_bytes", k->res.good_bytes);
	add_u64(o, "lost_bytes", k->res.lost_bytes);
	if (k->vol->type == VOL_TYPE_FS) {
		add_u64(o, "files", k->res.files);
		add_u64(o, "directories", k->res.directories);
		add_u64(o, "links", k->res.links);
		add_u64(o, "special_files", k->res.others);
		add_u64(o, "damaged_files", k->res.damaged);
		add_u64(o, "lost_found", k->res.lost_found);
		add_u64(o, "attributes_refused", k->res.unset);
	}
	json_object_object_add(o, "damage", json_object_get(k->rep.list));
	add_u64(o, "damage_count", k->rep.count);
	return o;
}

static void result_print(const struct copy *k, bool exact)
{
	char good[SIZE_TEXT_MAX], lost[SIZE_TEXT_MAX];
	const struct rescue_fs_result *s = &k->res;
	if (k->rep.count > RESCUE_REPORT_MAX)
		printf("... and %" PRIu64 " more\n", k->rep.count - RESCUE_REPORT_MAX);
	printf("%s: %s, commit %" PRIu64, k->vol->name, state_names[k->vol->state], k->vol->txn);
	if (k->vol->log_groups)
		printf(" and %" PRIu64 " group%s of the intent log after it", k->vol->log_groups,
		       k->vol->log_groups == 1 ? "" : "s");
	printf(": %s found and proven, %s lost", size_text(good, s->good_bytes, exact),
	       size_text(lost, s->lost_bytes, exact));
	if (k->vol->type == VOL_TYPE_FS)
		printf("; %" PRIu64 " files, %" PRIu64 " directories, %" PRIu64 " links, %" PRIu64
		       " special files; %" PRIu64 " damaged, %" PRIu64 " in lost+found, %" PRIu64
		       " attributes refused by the target",
		       s->files, s->directories, s->links, s->others, s->damaged, s->lost_found,
		       s->unset);
	putchar('\n');
}

static bool directory_empty(const char *path)
{
	struct dirent *d;
	DIR *dir = opendir(path);
	bool empty = dir != NULL;
	while (empty && (d = readdir(dir)))
		empty = !strcmp(d->d_name, ".") || !strcmp(d->d_name, "..");
	if (dir)
		closedir(dir);
	return empty;
}

/* Nothing there, or for a tree an empty directory. */
static bool target_free(const char *to, bool tree)
{
	struct stat st;
	if (lstat(to, &st))
		return errno == ENOENT;
	return tree && S_ISDIR(st.st_mode) && directory_empty(to);
}

static int copy(struct rescuing *g)
{
	struct call *c = g->c;
	const char *name = option_value(&c->opt, "volume", ""),
		   *to = option_value(&c->opt, "to", "");
	struct copy k = {.c = c, .vol = vol_find(g->r, name)};
	struct rescue_view *v;
	if (!k.vol) {
		err_set(&c->e, -ENOENT,
			"no volume %s found; `tarn rescue list` shows which there are", name);
		return EXIT_NOTHING;
	}
	bool tree = k.vol->type == VOL_TYPE_FS;
	if (!target_free(to, tree)) {
		err_set(&c->e, -EEXIST, "%s exists; nothing is overwritten, name a new %s", to,
			tree ? "directory" : "file");
		return EXIT_NOTHING;
	}
	int r = rescue_view_open(g->r, k.vol->id, &v);
	if (r) {
		err_set(&c->e, r, "%s: %s", name, err_str(r));
		return EXIT_NOTHING;
	}
	rescue_report_init(&k.rep, option_given(&c->opt, "json"));
	r = tree ? copy_tree(&k, v, to) : copy_image(&k, v, to);
	rescue_report_end(&k.rep, v);
	rescue_view_close(v);
	rescue_progress(NULL, 0, 0);
	struct json_object *o = result_to_json(&k);
	if (!call_json(c, o))
		result_print(&k, option_given(&c->opt, "bytes"));
	json_object_put(o);
	json_object_put(k.rep.list);
	return r || k.rep.count || k.vol->state != RESCUE_WHOLE ? EXIT_FAILED : EXIT_OK;
}

static int cmd_copy(struct call *c)
{
	if (!*option_value(&c->opt, "volume", "") || !*option_value(&c->opt, "to", ""))
		return call_usage(c, "--volume NAME and --to PATH are needed");
	return rescuing_run(c, copy);
}

#define OPTION_POOL                                                           \
	{                                                                     \
		"pool", 0, "UUID", "when several pools have left traces here" \
	}
static const struct option_spec list_specs[] = {
	OPTION_HELP, OPTION_JSON, OPTION_BYTES, OPTION_POOL, {0}};
static const struct option_spec copy_specs[] = {
	OPTION_HELP,
	OPTION_JSON,
	OPTION_BYTES,
	OPTION_POOL,
	{"volume", 0, "NAME", "the volume, by name or number"},
	{"to", 0, "PATH", "the file (block) or directory (fs) to make"},
	{0},
};

const struct command commands_rescue[] = {
	{"rescue list", "DEVICE...", "find volumes of a pool that cannot be imported", list_specs,
	 1, -1, cmd_list,
	 "Reads all of the devices and never writes to them. Needs neither superblocks nor the "
	 "chunk map. State: whole (as that commit left it), patched (lost parts filled from older "
	 "nodes) or merged (no root found)."},
	{"rescue copy", "DEVICE... --volume NAME --to PATH",
	 "copy a volume out of a destroyed pool", copy_specs, 1, -1, cmd_copy,
	 "A block volume becomes a sparse file, a file system a directory tree; what no directory "
	 "names any more goes to PATH/lost+found. All data is proven by checksum; what has no "
	 "right "
	 "copy is left as a hole and told. Exit status: 0 all is there, 1 something is lost or "
	 "old, "
	 "2 nothing was copied."},
	{0},
};
