#include "tools/listing.h"
#include <stdio.h>
#include "tools/ctl_client.h"
#include "tools/state_file.h"

struct run {
	struct call *c;
	const struct listing *l;
	const char *volume;
	struct table *t;
	struct json_object *all;
	bool exact;
	int r;
};

static void list_pool(struct run *u, const char *pool)
{
	struct json_object *list = NULL, *args = NULL;
	if (u->volume) {
		args = json_object_new_object();
		json_object_object_add(args, "volume", json_object_new_string(u->volume));
	}
	u->r = call_ask(u->c, pool, u->l->verb, args, &list);
	for (size_t i = 0; !u->r && i < json_object_array_length(list); i++) {
		struct json_object *o = json_object_get(json_object_array_get_idx(list, i));
		u->l->row(u->t, pool, o, u->exact);
		json_object_object_add(o, "pool", json_object_new_string(pool));
		json_object_array_add(u->all, o);
	}
	json_object_put(list);
}

/* One whose daemon was killed lists nothing. */
static void list_running(void *arg, const char *pool)
{
	struct run *u = arg;
	if (!u->r && ctl_running(pool))
		list_pool(u, pool);
}

int listing_show(struct call *c, const struct listing *l, const char *pool, const char *volume)
{
	struct run u = {.c = c, .l = l, .volume = volume, .exact = option_given(&c->opt, "bytes")};
	u.t = table_create(l->columns);
	u.all = json_object_new_array();
	if (pool)
		list_pool(&u, pool);
	else
		running_each(list_running, &u);
	if (!u.r && !call_json(c, u.all)) {
		if (json_object_array_length(u.all))
			table_print(u.t, 0);
		else
			puts(l->none);
	}
	json_object_put(u.all);
	return u.r;
}
