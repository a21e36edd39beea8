#include <errno.h>
#include "tests/sim/item_key.h"

int item_query_fn(struct vol *vol, void *arg)
{
	struct item_query *q = arg;
	struct btree_item it;
	int rc = vol_get(vol, item_key(q->key), &it);
	q->seq = 0;
	q->foreign = false;
	if (rc == -ENOENT)
		return 0;
	if (rc)
		return rc;
	q->foreign = !hist_item_parse(q->h, q->key, it.value, it.len, &q->seq);
	return 0;
}

int item_change_fn(struct vol *vol, void *arg)
{
	static uint8_t value[HIST_ITEM_MAX + 1];
	struct item_change *c = arg;
	bool there[ITEM_KEYS_MAX];
	for (unsigned i = 0; i < c->n; i++) {
		struct btree_item it;
		int rc = vol_get(vol, item_key(c->keys[i].key), &it);
		if (rc && rc != -ENOENT)
			return rc;
		there[i] = !rc;
		rc = vol_prepare(vol, item_key(c->keys[i].key));
		if (rc)
			return rc;
	}
	if (c->want_object)
		c->new_object = vol_new_object(vol);
	for (unsigned i = 0; i < c->n; i++) {
		struct key k = item_key(c->keys[i].key);
		int rc = 0;
		if (c->keys[i].put) {
			uint16_t len = hist_item_make(c->h, c->keys[i].key, c->seq, value);
			rc = vol_put(vol, k, value, len);
		} else if (there[i]) {
			rc = vol_del(vol, k);
		}
		if (rc)
			return rc;
	}
	return 0;
}
