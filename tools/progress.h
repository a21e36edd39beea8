/* progress: how fast evacuation, scrub, trim and resync go in a served pool, and when they end.
 *
 * Sampled once a second by the main loop and by whoever asks. Any thread, inside daemon_verb_begin
 * and _end.
 */
#ifndef TARN_TOOLS_PROGRESS_H
#define TARN_TOOLS_PROGRESS_H
#include <json-c/json.h>
#include "tools/daemon.h"

void progress_sample(struct daemon *d, const struct pool_status *s);
/* Add "mover", "scrub" and "trim" to o. */
void progress_to_json(struct daemon *d, struct json_object *o);
/* Add to the object of one device. */
void progress_dev_to_json(struct daemon *d, const struct pool_dev_status *s, struct json_object *o);

#endif
