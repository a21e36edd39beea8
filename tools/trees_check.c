#include "tools/trees_check.h"
#include <errno.h>
#include <stdlib.h>

#define VOLUMES_SPARE 16u /* new ones between counting and listing */

void trees_check_failed(FILE *out, struct fs_check_result *r, const struct err *e)
{
	fprintf(out, "%s\n", e->text);
	r->problems++;
	r->left++;
}

static int tree_check(struct pool *p, const struct vol_info *i, FILE *out,
		      struct fs_check_result *sum, struct err *e)
{
	struct fs_check_result one;
	struct vol *v;
	int r = vol_open(p, i->name, &v, NULL);
	if (r)
		return r == -ENOENT ? 0 : err_set(e, r, "open volume %s: %s", i->name, err_str(r));
	if (fs_check(v, i->name, out, &one, e))
		trees_check_failed(out, &one, e);
	vol_close(v);
	sum->inodes += one.inodes;
	sum->directories += one.directories;
	sum->entries += one.entries;
	sum->problems += one.problems;
	return 0;
}

int trees_check(struct pool *p, FILE *out, struct fs_check_result *ret_r, struct err *e)
{
	unsigned max = vol_list(p, NULL, 0) + VOLUMES_SPARE;
	struct vol_info *a = calloc(max, sizeof(*a));
	*ret_r = (struct fs_check_result){0};
	if (!a)
		return err_set(e, -ENOMEM, "out of memory");
	unsigned n = vol_list(p, a, max);
	int r = 0;
	for (unsigned i = 0; i < n && i < max && !r; i++)
		if (a[i].type == VOL_TYPE_FS)
			r = tree_check(p, &a[i], out, ret_r, e);
	free(a);
	return r;
}

void trees_check_to_json(const struct fs_check_result *r, struct json_object *o)
{
	struct json_object *v;
	uint64_t others =
		json_object_object_get_ex(o, "problems", &v) ? json_object_get_uint64(v) : 0;
	json_object_object_add(o, "inodes", json_object_new_uint64(r->inodes));
	json_object_object_add(o, "directories", json_object_new_uint64(r->directories));
	json_object_object_add(o, "entries", json_object_new_uint64(r->entries));
	json_object_object_add(o, "problems", json_object_new_uint64(others + r->problems));
}
