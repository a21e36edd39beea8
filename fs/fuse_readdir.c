/* readdir and readdirplus: entries in the kernel's format. */
#include <errno.h>
#include <stdlib.h>
#include "fs/fuse_reply.h"

#define BATCH 64u

struct out {
	uint8_t *buf;
	size_t size, used;
};

static bool put_dirent(struct out *o, const struct fs_dirent *d)
{
	size_t len = FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + d->name_len);
	struct fuse_dirent *e = (void *)(o->buf + o->used);

	if (len > o->size - o->used)
		return false;
	memset(o->buf + o->used + len - 8, 0, 8); /* padding */
	*e = (struct fuse_dirent){d->ino, d->cookie, d->name_len, d->type};
	memcpy(e->name, d->name, d->name_len);
	o->used += len;
	return true;
}

static bool put_plus(struct out *o, const struct fs_dirent *d, bool dot, uint64_t sectors,
		     bool brief)
{
	size_t head = offsetof(struct fuse_direntplus, dirent), at = o->used;
	struct fuse_direntplus *p = (void *)(o->buf + at);

	if (o->size - at <= head)
		return false;
	o->used += head;
	if (!put_dirent(o, d)) {
		o->used = at;
		return false;
	}
	if (dot) /* nodeid 0: the kernel takes the name only, and no reference */
		memset(&p->entry_out, 0, sizeof(p->entry_out));
	else
		reply_entry_fill(&p->entry_out, &d->attr, sectors);
	if (brief)
		p->entry_out.attr_valid = FS_BLOCKS_SEC;
	return true;
}

static int put_entry(struct fs *fs, struct out *o, const struct fs_dirent *d, bool plus,
		     bool *ret_fit)
{
	bool dot = d->cookie <= 2;
	uint64_t sectors = 0;
	bool brief = false;
	int r = plus && !dot ? fs_blocks(fs, &d->attr, &sectors, &brief) : 0;

	if (!r)
		*ret_fit = plus ? put_plus(o, d, dot, sectors, brief) : put_dirent(o, d);
	return r;
}

/* Give back the references of entries the kernel does not get. */
static void forget_rest(struct fs *fs, const struct fs_dirent *d, unsigned from, unsigned n,
			bool plus)
{
	for (; plus && from < n; from++)
		if (d[from].cookie > 2)
			fs_forget(fs, d[from].ino, 1);
}

static int fill(struct fs *fs, struct out *o, uint64_t dir, uint64_t cookie, bool plus,
		struct fs_dirent *d)
{
	size_t least = FUSE_NAME_OFFSET + 16 + (plus ? sizeof(struct fuse_entry_out) : 0);
	bool fit = true;
	unsigned n, i;
	int r;

	while (fit) {
		size_t room = (o->size - o->used) / least + 1;

		r = fs_readdir(fs, dir, cookie, plus, d, room < BATCH ? (unsigned)room : BATCH, &n);
		if (r || !n)
			return o->used ? 0 : r;
		for (i = 0; i < n && fit; i++) {
			r = put_entry(fs, o, &d[i], plus, &fit);
			if (r || !fit)
				break;
			cookie = d[i].cookie;
		}
		forget_rest(fs, d, i, n, plus);
		if (r)
			return o->used ? 0 : r;
	}
	return 0;
}

/* The reply was not heard: no entry in it was taken. */
static void forget_sent(struct fs *fs, const struct out *o)
{
	size_t at = 0;

	while (at < o->used) {
		const struct fuse_direntplus *p = (const void *)(o->buf + at);

		if (p->entry_out.nodeid)
			fs_forget(fs, p->entry_out.nodeid, 1);
		at += FUSE_DIRENTPLUS_SIZE(p);
	}
}

static void readdir_any(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, bool plus)
{
	struct fs *fs = fs_of(req);
	struct out o = {.buf = serve_rq_current()->payload,
			.size = size < SERVE_WRITE_MAX ? size : SERVE_WRITE_MAX};
	struct fs_dirent *d = malloc(BATCH * sizeof(*d));
	int r = d ? fill(fs, &o, ino, (uint64_t)off, plus, d) : -ENOMEM;

	if (r)
		reply_err(req, r);
	else if (fuse_reply_buf(req, (const char *)o.buf, o.used) && plus)
		forget_sent(fs, &o);
	free(d);
}

void serve_tree_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
			struct fuse_file_info *fi)
{
	(void)fi;
	readdir_any(req, ino, size, off, false);
}

void serve_tree_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
			    struct fuse_file_info *fi)
{
	(void)fi;
	readdir_any(req, ino, size, off, true);
}
