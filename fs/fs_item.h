/* fs_item: decode, validate and encode the items of fs_format.h.
 *
 * Decoders validate first: they return 0, ERR_FORMAT or ERR_VERSION. Pure functions, any thread.
 */
#ifndef TARN_FS_FS_ITEM_H
#define TARN_FS_FS_ITEM_H
#include "fs/fs.h"

struct fs_dirent_view { /* name points into the item */
	uint64_t ino;
	uint8_t type;
	uint8_t name_len;
	const char *name;
};
struct fs_xattr_view {
	uint8_t pieces;
	uint8_t name_len;
	uint32_t value_len;
	const char *name;
	const uint8_t *value; /* valid when pieces is 0 */
};

static inline struct key fs_key(uint64_t object, enum fs_key_type type, uint64_t offset)
{
	return (struct key){object, (uint8_t)type, offset};
}

int fs_inode_decode(const struct btree_item *it, struct fs_attr *ret_a);
void fs_inode_encode(const struct fs_attr *a, struct fs_inode_disk *ret_d);
int fs_dirent_decode(const struct btree_item *it, struct fs_dirent_view *ret_v);
/* buf holds sizeof(struct fs_dirent_disk) + FS_NAME_MAX; returns the length of the item. */
uint16_t fs_dirent_encode(uint64_t ino, uint8_t type, const char *name, size_t name_len, void *buf);
int fs_xattr_decode(const struct btree_item *it, struct fs_xattr_view *ret_v);
/* In quotes, on one line, harmless for a terminal whatever it is. */
void fs_name_to_text(FILE *f, const char *name, size_t len);

#endif
