/* history: administrative requests as the commands a user would type, kept in the pool.
 *
 * Which verbs are recorded, and how their arguments read, is a table in history.c. Requests of
 * users without the right to make them are not recorded, nor are those that change nothing.
 */
#ifndef TARN_TOOLS_HISTORY_H
#define TARN_TOOLS_HISTORY_H
#include "tools/ctl_server.h"

/* The command of a verb with these arguments into buf; false when it is not one to record. */
bool history_text(const char *pool, const char *verb, struct json_object *args, char *buf,
		  size_t size);

/* Record what became of a request. Connection's thread; waits for the pool. */
void history_record(struct request *q, const char *verb, int result);

/* Record the command that started the daemon. Main thread; waits for the pool. */
void history_record_start(struct daemon *d, const char *text);

#endif
