/* fs_clone: copy_file_range: the target shares the source's blocks where it can. */
#include <errno.h>
#include <sys/stat.h>
#include "fs/fs_file.h"
#include "fs/fs_xattr.h"

struct clone {
	struct fs_file *f;
	uint64_t off, done; /* of the target; bytes */
};

/* With every step: size and times. Set-ids were cleared by the kernel's file_modified(). */
static int clone_fn(struct vol *v, void *arg)
{
	struct clone *c = arg;
	struct fs_tx_inode *i;
	struct fs_tx t;
	int r;

	(void)v;
	fs_tx_init(&t, c->f->fs);
	r = fs_tx_inode(&t, c->f->node->ino, &i);
	if (!r && i->a.flags & FS_INODE_IMMUTABLE)
		r = -EPERM;
	if (!r)
		r = fs_xattr_tx_drop_caps(&t, i);
	if (r)
		return r;
	if (c->off + c->done > i->a.size)
		i->a.size = c->off + c->done;
	fs_tx_touch(&t, i);
	return fs_tx_commit(&t);
}

/* What lies in the tree with its inode is small, and has no blocks; what follows is a hole. */
static int copy_small(struct fs_file *in, uint64_t off_in, struct fs_file *out, uint64_t off_out,
		      uint64_t len, uint64_t *ret_len)
{
	uint8_t buf[FS_INLINE_MAX];
	uint32_t got;
	uint64_t most = sizeof buf - off_in;
	int r = fs_read(in, off_in, (uint32_t)(len < most ? len : most), buf, &got);

	if (!r && got)
		r = fs_write(out, off_out, got, buf, 0);
	*ret_len = r ? 0 : got;
	return r;
}

int fs_clone_range(struct fs_file *in, uint64_t off_in, struct fs_file *out, uint64_t off_out,
		   uint64_t len, uint64_t *ret_len)
{
	uint64_t size = atomic_load_explicit(&in->node->size, memory_order_relaxed);
	struct clone c = {.f = out, .off = off_out};
	int r;

	*ret_len = 0;
	if (out->fs->o.read_only)
		return -EROFS;
	if (!S_ISREG(in->node->attr.mode) || !S_ISREG(out->node->attr.mode))
		return S_ISDIR(in->node->attr.mode) || S_ISDIR(out->node->attr.mode) ? -EISDIR
										     : -EINVAL;
	if (off_in >= size)
		return 0;
	if (len > size - off_in)
		len = size - off_in;
	if (off_out > (uint64_t)VOL_OBJECT_BYTES_MAX - len)
		return -EFBIG;
	if (!len)
		return 0;
	if (off_in < FS_INLINE_MAX &&
	    atomic_load_explicit(&in->node->is_inline, memory_order_relaxed))
		return copy_small(in, off_in, out, off_out, len, ret_len);
	r = fs_file_leave_inline(out);
	if (!r)
		r = vol_clone_range(in->fs->vol, in->node->ino, off_in, out->fs->vol,
				    out->node->ino, off_out, len, clone_fn, &c, &c.done);
	*ret_len = c.done;
	return c.done ? 0 : r;
}
