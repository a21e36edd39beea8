/* rescue_report: what `tarn rescue copy` found damaged: told line by line, or kept for JSON. */
#ifndef TARN_TOOLS_RESCUE_REPORT_H
#define TARN_TOOLS_RESCUE_REPORT_H
#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include "pool/rescue.h"

#define RESCUE_REPORT_MAX 10000u /* entries kept or told */

struct rescue_report {
	struct json_object *list; /* NULL: print */
	uint64_t count;
	uint64_t off_bytes, len; /* of a block volume: the range being collected */
};
void rescue_report_init(struct rescue_report *r, bool json);
/* path "" : a block volume. len 0: not about data. */
void rescue_report_add(struct rescue_report *r, const char *path, uint64_t ino, const char *what,
		       uint64_t off_bytes, uint64_t len);
/* As rescue_data.lost; the last range is told by rescue_report_end. */
void rescue_report_block(void *report, uint64_t off_bytes, uint64_t len);
/* Adds the gaps of the view's metadata too. */
void rescue_report_end(struct rescue_report *r, const struct rescue_view *v);

/* "\rscanning: 12 %" on a terminal, at most once a second; total 0: bytes so far. NULL: clear. */
void rescue_progress(const char *doing, uint64_t done, uint64_t total);

#endif
