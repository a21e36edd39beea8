/* listing: what pools list (volumes, snapshots, the trash), as one table or one JSON array. */
#ifndef TARN_TOOLS_LISTING_H
#define TARN_TOOLS_LISTING_H
#include "tools/command.h"
#include "tools/table.h"

struct listing {
	const char *verb;    /* answers an array of objects */
	const char *columns; /* of table_create() */
	const char *none;    /* printed in place of an empty table */
	/* The cells of one object. exact: numbers of bytes in full. */
	void (*row)(struct table *t, const char *pool, struct json_object *o, bool exact);
};

/* List one pool, or with NULL all that run. volume: an argument of the verb, or NULL. Takes --json
 * and --bytes from c. Exit status. */
int listing_show(struct call *c, const struct listing *l, const char *pool, const char *volume);

#endif
