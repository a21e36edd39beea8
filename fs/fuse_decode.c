/* Requests that libfuse 3.14 does not know. Each of them resembles one that it does know; so it is
 * given that one to decode, and the operation asks the request what it was:
 *
 *   TMPFILE   = CREATE, whose name means nothing
 *   STATX     = GETATTR, whose structure its own begins with
 *   SETXATTR  in its longer form, agreed on by FUSE_SETXATTR_EXT: flags of its own follow what the
 *             shorter form has, before the name
 */
#include "fs/fuse_serve.h"

#define SETXATTR_SHORT 8u

/* Take the flags out: what lies before them moves up. */
static void setxattr_shorten(struct fuse_rq *rq)
{
	size_t head = sizeof(*rq->in) + SETXATTR_SHORT;
	size_t more = sizeof(struct fuse_setxattr_in) - SETXATTR_SHORT;
	const struct fuse_setxattr_in *in = (const void *)(rq->in + 1);
	uint8_t *to = (uint8_t *)rq->in + more;

	if (rq->len < head + more)
		return;
	rq->xattr_flags = in->setxattr_flags;
	memmove(to, rq->in, head);
	rq->in = (struct fuse_in_header *)(void *)to;
	rq->len -= more;
	rq->in->len -= (uint32_t)more;
}

void serve_decode(struct fuse_rq *rq)
{
	const struct serve *s = rq->w->s;

	rq->opcode = rq->in->opcode;
	rq->xattr_flags = 0;
	if (s->images)
		return;
	switch (rq->opcode) {
	case FUSE_TMPFILE:
		rq->in->opcode = FUSE_CREATE;
		break;
	case SERVE_STATX:
		rq->in->opcode = FUSE_GETATTR;
		break;
	case FUSE_SETXATTR:
		if (s->setxattr_ext)
			setxattr_shorten(rq);
		break;
	}
}
