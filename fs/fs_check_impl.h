/* fs_check_impl: what the check (fs_check.c) finds and the repair (fs_repair.c) does about it. */
#ifndef TARN_FS_FS_CHECK_IMPL_H
#define TARN_FS_FS_CHECK_IMPL_H
#include "fs/fs_check.h"
#include "fs/fs_item.h"

enum fs_fix_kind {
	FS_FIX_NONE,	   /* said, and left */
	FS_FIX_NLINK,	   /* value: the right link count */
	FS_FIX_SIZE,	   /* value: the right size */
	FS_FIX_PARENT,	   /* value: the directory it is in */
	FS_FIX_FLAGS,	   /* value: the right flags */
	FS_FIX_ENTRY_DEL,  /* ino: the directory; value: slot */
	FS_FIX_ENTRY_TYPE, /* ino: the directory; value: slot */
	FS_FIX_ENTRY_MOVE, /* ino: the directory; value: slot, which is not one of its name */
	FS_FIX_ORPHAN_DEL,
	FS_FIX_INODE, /* value: mode of a new inode for what is there */
	FS_FIX_ADOPT, /* link into lost+found; value: 1 when it must lose its name first */
};
struct fs_fix {
	enum fs_fix_kind kind;
	uint64_t ino, value;
};

struct fs_seen { /* one inode: what it says, and what is said of it */
	uint64_t ino;
	uint64_t size, parent; /* its own words */
	uint64_t named_by;     /* the last directory with an entry for it */
	uint64_t slot;	       /* that entry */
	uint64_t dir_size;     /* of its entries */
	uint64_t data_end;     /* bytes; behind its last data */
	uint32_t mode, nlink, flags;
	uint32_t names, subdirs;
	uint32_t pieces, pieces_wanted, bytes, bytes_wanted; /* of attribute values */
	uint16_t inline_len;
	uint8_t entry_type; /* of the last entry */
	uint8_t walk; /* search for loops: 0 not yet, 1 on the way, 2 below the root or said */
	bool inode, orphan, inlined, xattrs, extents, entries;
	bool damaged;	   /* its inode item */
	bool newer;	   /* its inode item is of a newer program */
	bool kept;	   /* directory with several names: the one that stays was met */
	bool types_differ; /* its entries are not of one type */
};

struct fs_check {
	const char *name;
	FILE *out;
	struct fs_check_result *r;
	struct fs_seen *table; /* open addressing; ino 0: free */
	size_t size, count;
	uint8_t hash_key[16];
	struct fs_fix *fix; /* for the problems found, when wanted */
	size_t fixes, fix_max;
	bool want_fixes;
	bool look;  /* entries must be looked at again */
	bool blind; /* some nodes could not be read */
	bool newer; /* some items are of a newer program */
	bool made;  /* there is a super item */
	bool empty; /* no items at all: never mounted */
	unsigned breath;
	int rc; /* -ENOMEM */
};

/* NULL: never met. */
struct fs_seen *fs_check_seen(struct fs_check *c, uint64_t ino);

/* Everything; the caller frees with fs_check_fini. */
int fs_check_run(struct vol *v, struct fs_check *c);
/* Only made and empty. */
int fs_check_look(struct vol *v, struct fs_check *c);
void fs_check_fini(struct fs_check *c);

#endif
