#include "pool/event.h"
#include <stdarg.h>
#include "pool/pool_types.h"

static void emit(struct pool *p, const char *kind, const char *fmt, va_list ap)
{
	struct pool_event *ev = &p->events[p->event_seq % EVENTS_KEPT];

	ev->seq = ++p->event_seq;
	ev->wall_ns = reactor_current() ? reactor_wall_ns() : 0;
	snprintf(ev->kind, sizeof ev->kind, "%s", kind);
	vsnprintf(ev->text, sizeof ev->text, fmt, ap);
}

void event_emit_locked(struct pool *p, const char *kind, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	emit(p, kind, fmt, ap);
	va_end(ap);
}

void event_emit(struct pool *p, const char *kind, const char *fmt, ...)
{
	va_list ap;

	lock_take(&p->lock);
	va_start(ap, fmt);
	emit(p, kind, fmt, ap);
	va_end(ap);
	lock_drop(&p->lock);
}

unsigned pool_events(struct pool *p, uint64_t since_seq, struct pool_event *ret_ev, unsigned max)
{
	unsigned n = 0;
	uint64_t first;

	lock_take(&p->lock);
	first = p->event_seq > EVENTS_KEPT ? p->event_seq - EVENTS_KEPT + 1 : 1;
	if (since_seq + 1 > first)
		first = since_seq + 1;
	for (uint64_t s = first; s <= p->event_seq && n < max; s++)
		ret_ev[n++] = p->events[(s - 1) % EVENTS_KEPT];
	lock_drop(&p->lock);
	return n;
}
