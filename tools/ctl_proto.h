/* ctl_proto: messages on a pool's control socket, for both ends.
 *
 *   +0  u32 length of the body, little-endian, 1..max
 *   +4  body: one JSON object, UTF-8
 *
 *   request   {"verb":"volume.create","args":{...}}       may carry one descriptor (SCM_RIGHTS)
 *   progress  {"progress":{"done":5,"total":9}}           any number, only for long work
 *   reply     {"ok":true,"result":...}
 *         or  {"ok":false,"code":"ENOENT","error":"what: why; what to do"}
 *
 * Everything received is untrusted: sizes are bounded before memory is taken, a message has a
 * deadline as a whole (a peer that sends one byte a second gains nothing), surplus descriptors are
 * closed, the body must be exactly one object of bounded depth.
 *
 * Threads: any, one per socket at a time. Blocking up to the deadline.
 */
#ifndef TARN_TOOLS_CTL_PROTO_H
#define TARN_TOOLS_CTL_PROTO_H
#include <json-c/json.h>
#include <stddef.h>

#define CTL_REQUEST_MAX (256u << 10)
#define CTL_REPLY_MAX	(16u << 20)
#define CTL_DEPTH_MAX	8

/* Send one message; fd -1: none. -ETIMEDOUT, -EPIPE, -EMSGSIZE, or what sendmsg gave. */
int ctl_send(int sock, struct json_object *msg, int fd, int timeout_ms);

/* Receive one message of at most max bytes. timeout_ms < 0: wait for ever for the first byte (then
 * 30 s for the rest). ret_fd NULL: descriptors that come along are closed; else -1 or the first
 * one. -ENODATA: the peer closed between messages; -ETIMEDOUT; -EMSGSIZE; -EPROTO. */
int ctl_recv(int sock, size_t max, int timeout_ms, struct json_object **ret_msg, int *ret_fd);

/* Check a body: one JSON object, nothing behind it. NULL when it is not. */
struct json_object *ctl_parse(const char *body, size_t len);

/* "ENOENT", "ERR_IN_USE": names of codes on the wire, and back (unknown names: -EIO). */
const char *ctl_code_name(int code);
int ctl_code_value(const char *name);

/* A string member without embedded zero bytes, or NULL. Valid as long as o. */
const char *ctl_get_string(struct json_object *o, const char *key);

#endif
