#include "tools/rescue_report.h"
#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>
#include "tools/size_text.h"

void rescue_progress(const char *doing, uint64_t done, uint64_t total)
{
	static time_t last;
	char size[SIZE_TEXT_MAX];
	if (!isatty(STDERR_FILENO) || (doing && time(NULL) == last))
		return;
	if (!doing)
		fprintf(stderr, "\r\033[K");
	else if (total)
		fprintf(stderr, "\r%s: %" PRIu64 " %%  ", doing,
			done >= total ? 100 : done / ((total + 99) / 100));
	else
		fprintf(stderr, "\r%s: %s  ", doing, size_text(size, done, false));
	last = doing ? time(NULL) : 0;
}

void rescue_report_init(struct rescue_report *r, bool json)
{
	*r = (struct rescue_report){.list = json ? json_object_new_array() : NULL};
}

/* Names are bytes: what is not text is shown as \xNN, so that neither JSON nor a terminal suffers.
 */
static void path_text(const char *path, char *buf, size_t size)
{
	size_t n = 0;
	for (const unsigned char *p = (const unsigned char *)path; *p && n + 5 < size; p++) {
		if (*p < 0x20 || *p >= 0x7f || *p == '\\')
			n += (size_t)snprintf(buf + n, size - n, "\\x%02x", *p);
		else
			buf[n++] = (char)*p;
	}
	buf[n] = 0;
}

static void add_json(struct rescue_report *r, const char *path, uint64_t ino, const char *what,
		     uint64_t off, uint64_t len)
{
	struct json_object *o = json_object_new_object();
	if (*path) {
		json_object_object_add(o, "path", json_object_new_string(path));
		json_object_object_add(o, "inode", json_object_new_uint64(ino));
	}
	json_object_object_add(o, "what", json_object_new_string(what));
	if (len) {
		json_object_object_add(o, "offset", json_object_new_uint64(off));
		json_object_object_add(o, "bytes", json_object_new_uint64(len));
	}
	json_object_array_add(r->list, o);
}

void rescue_report_add(struct rescue_report *r, const char *path, uint64_t ino, const char *what,
		       uint64_t off_bytes, uint64_t len)
{
	char text[4096];
	if (++r->count > RESCUE_REPORT_MAX)
		return;
	path_text(path, text, sizeof(text));
	if (r->list) {
		add_json(r, text, ino, what, off_bytes, len);
		return;
	}
	rescue_progress(NULL, 0, 0);
	printf("%s%s%s", text, *text ? ": " : "", what);
	if (len)
		printf(": %" PRIu64 " bytes at %" PRIu64, len, off_bytes);
	putchar('\n');
}

static void flush_range(struct rescue_report *r)
{
	if (r->len)
		rescue_report_add(r, "", 0, "data lost", r->off_bytes, r->len);
	r->len = 0;
}

void rescue_report_block(void *report, uint64_t off_bytes, uint64_t len)
{
	struct rescue_report *r = report;
	if (r->len && r->off_bytes + r->len == off_bytes) {
		r->len += len;
		return;
	}
	flush_range(r);
	r->off_bytes = off_bytes;
	r->len = len;
}

void rescue_report_end(struct rescue_report *r, const struct rescue_view *v)
{
	size_t n;
	const struct rescue_gap *g = rescue_gaps(v, &n);
	char text[160];
	flush_range(r);
	for (size_t i = 0; i < n; i++) {
		snprintf(text, sizeof(text),
			 "tree nodes lost: objects %" PRIu64 " to %" PRIu64
			 " may miss parts or have old ones",
			 g[i].from.object, g[i].to.object);
		rescue_report_add(r, "", 0, text, 0, 0);
	}
}
