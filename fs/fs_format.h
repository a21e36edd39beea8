/* fs_format: the items of a file-system volume in its tree. Little-endian, fixed width.
 *
 * Key = (object, type, offset). Object = inode number, but for FS_OBJ_META.
 *
 *   object       type              offset               value
 *   1 (root)...  FS_KEY_INODE      0                    struct fs_inode_disk
 *   inode        FS_KEY_INLINE     byte offset          data of a small file (at 0); a symlink's
 *                                                       target (2 pieces when > FS_LINK_CHUNK)
 *   inode        FS_KEY_XATTR      slot << 5            struct fs_xattr_disk, name [, value]
 *   inode        FS_KEY_XATTR_DATA slot << 5 | piece    piece of a value too large for the above
 *   directory    FS_KEY_DIRENT     slot                 struct fs_dirent_disk, name
 *   2            FS_KEY_SUPER      0                    struct fs_super_disk
 *   2            FS_KEY_ORPHAN     inode                struct fs_orphan_disk
 *
 * POSIX ACLs are xattrs of the kernel's form.
 *
 * slot is the keyed hash of the name, or when that is taken the next free number within
 * FS_HASH_WINDOW. Types from VOL_KEY_EXTENT on are the volume's.
 *
 * Invariants (fs_item_validate checks what one item shows):
 *  1. FS_INODE_INLINE set: no extents below the inode; its data is the INLINE item (at most
 *     FS_INLINE_MAX bytes; may be missing), followed by zeros up to size.
 *  2. FS_INODE_XATTR clear: no XATTR items.
 *  3. Every directory entry names an existing inode; nlink of a file = number of entries that name
 *     it; nlink of a directory = 2 + number of subdirectories.
 *  4. nlink 0: an ORPHAN item exists.
 *  5. size of a directory = sum of FS_DIRENT_WEIGHT + name length over its entries.
 */
#ifndef TARN_FS_FS_FORMAT_H
#define TARN_FS_FS_FORMAT_H
#include <stdio.h>
#include "base/err.h"
#include "base/le.h"
#include "pool/btree.h"

#define FS_OBJ_ROOT 1u
#define FS_OBJ_META 2u

enum fs_key_type { /* permanent numbers */
		   FS_KEY_INODE = 1,
		   FS_KEY_INLINE = 2,
		   FS_KEY_XATTR = 3,
		   FS_KEY_XATTR_DATA = 4,
		   FS_KEY_ORPHAN = 6,
		   FS_KEY_SUPER = 7,
		   FS_KEY_DIRENT = 16,
};

#define FS_VERSION	   1
#define FS_NAME_MAX	   255u
#define FS_LINK_MAX	   0x7fffffffu /* hard links to one inode */
#define FS_INLINE_MAX	   2048u
#define FS_LINK_CHUNK	   3800u /* bytes of a symlink target per INLINE item */
#define FS_TARGET_MAX	   4095u
#define FS_XATTR_NAME_MAX  255u
#define FS_XATTR_VALUE_MAX 65536u
#define FS_XATTR_CHUNK	   3800u
#define FS_XATTR_PIECES	   18u /* ceil(65536 / 3800) */
#define FS_HASH_WINDOW	   32u
#define FS_DIRENT_WEIGHT   24u
/* Cookies 1 and 2 are "." and ".."; slots must be positive as a signed 64-bit offset. */
#define FS_SLOT_MIN 64u
#define FS_SLOT_MAX ((uint64_t)INT64_MAX - FS_HASH_WINDOW)

enum fs_inode_flags { /* permanent bits */
		      FS_INODE_INLINE = 1u << 0,
		      FS_INODE_XATTR = 1u << 1,
		      /* set by users; programs that do not know them refuse the inode */
		      FS_INODE_IMMUTABLE = 1u << 8,
		      FS_INODE_APPEND = 1u << 9,
		      FS_INODE_NODUMP = 1u << 10,
		      FS_INODE_NOATIME = 1u << 11,
		      FS_INODE_USER = 15u << 8,
		      FS_INODE_INHERIT = FS_INODE_NODUMP | FS_INODE_NOATIME,
		      FS_INODE_KNOWN = FS_INODE_INLINE | FS_INODE_XATTR | FS_INODE_USER,
};

struct fs_time_disk { /* 12 bytes */
	le64 sec;     /* signed, since 1970 */
	le32 nsec;    /* < 1e9 */
};

struct fs_inode_disk {	 /* 128 bytes */
	uint8_t version; /* FS_VERSION */
	uint8_t pad0[3]; /* zero */
	le32 flags;	 /* FS_INODE_* */
	le32 mode;	 /* S_IFMT and permissions */
	le32 uid, gid;
	le32 nlink;
	le64 rdev;
	le64 size;   /* bytes */
	le64 parent; /* directories: inode of ".."; else 0 */
	le64 generation;
	struct fs_time_disk atime, mtime, ctime, btime;
	uint8_t pad1[24]; /* zero */
};

struct fs_dirent_disk { /* 12 bytes, then the name without a terminating zero */
	uint8_t version;
	uint8_t type;	  /* DT_* */
	uint8_t name_len; /* 1..255 */
	uint8_t pad;
	le64 inode;
};

struct fs_xattr_disk { /* 8 bytes, then the name, then the value when it fits */
	uint8_t version;
	uint8_t name_len; /* 1..255 */
	uint8_t pieces;	  /* 0: value follows here; else number of XATTR_DATA items */
	uint8_t pad;
	le32 value_len;
};

struct fs_orphan_disk {
	uint8_t version;
	uint8_t pad[3];
};

struct fs_super_disk { /* 64 bytes */
	uint8_t version;
	uint8_t pad0[3];
	le32 features;	      /* unknown bit: ERR_VERSION */
	uint8_t hash_key[16]; /* of names */
	struct fs_time_disk created;
	uint8_t pad1[28];
};

/* Is this item well formed by itself? 0, ERR_FORMAT or ERR_VERSION. Untrusted: never reads
 * outside the value. Types of the volume's own are taken as good. */
int fs_item_validate(const struct btree_item *it);

/* One line of text for any item, malformed ones too. Never reads outside the value. */
void fs_item_to_text(FILE *f, const struct btree_item *it);

#endif
