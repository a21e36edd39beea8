/* event: the pool's recent events, a ring in memory. Takes the pool's lock itself unless _locked.
 */
#ifndef TARN_POOL_EVENT_H
#define TARN_POOL_EVENT_H
struct pool;
void event_emit(struct pool *p, const char *kind, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void event_emit_locked(struct pool *p, const char *kind, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
#endif
