#include <assert.h>
#include <string.h>
#include "base/co_impl.h"
#include "base/reactor.h"

/* Resumes before I/O and timers get their turn again, however many coroutines stay ready. */
#define REACTOR_RUN_MAX 1024u

static __thread struct reactor *current;

/* noinline: as for sched_self() in co.c */
__attribute__((noinline)) struct reactor *reactor_current(void)
{
	struct reactor *r = current;
	__asm__ volatile("" : "+r"(r));
	return r;
}

void reactor_enter(struct reactor *r)
{
	assert(!current);
	r->thread = pthread_self();
	current = r;
}

void reactor_leave(void)
{
	assert(current);
	current = NULL;
}

void reactor_init(struct reactor *r, const struct reactor_ops *ops)
{
	memset(r, 0, sizeof(*r));
	r->ops = ops;
	lock_init(&r->remote_lock);
}

void reactor_fini(struct reactor *r)
{
	co_abandon_all(r);
	co_flush_idle(r);
	lock_fini(&r->remote_lock);
}

void reactor_destroy(struct reactor *r)
{
	if (r)
		r->ops->destroy(r);
}

static void list_append(struct co **head, struct co **tail, struct co *c)
{
	c->next = NULL;
	if (*tail)
		(*tail)->next = c;
	else
		*head = c;
	*tail = c;
}

void reactor_make_ready(struct reactor *r, struct co *c)
{
	if (reactor_current() == r) {
		list_append(&r->ready_head, &r->ready_tail, c);
		return;
	}
	lock_take(&r->remote_lock);
	bool first = !r->remote_head;
	list_append(&r->remote_head, &r->remote_tail, c);
	/* Under the lock: once c can run, it may end the reactor's life. Only for the first: the
	 * reactor takes the whole list, and was already told. */
	if (first)
		r->ops->notify(r);
	lock_drop(&r->remote_lock);
}

void reactor_take_remote(struct reactor *r)
{
	lock_take(&r->remote_lock);
	if (r->remote_head) {
		if (r->ready_tail)
			r->ready_tail->next = r->remote_head;
		else
			r->ready_head = r->remote_head;
		r->ready_tail = r->remote_tail;
		r->remote_head = r->remote_tail = NULL;
	}
	lock_drop(&r->remote_lock);
}

bool reactor_run_one(struct reactor *r)
{
	if (!r->ready_head)
		reactor_take_remote(r);
	struct co *c = r->ready_head;
	if (!c)
		return false;
	r->ready_head = c->next;
	if (!r->ready_head)
		r->ready_tail = NULL;
	c->next = NULL;
	co_resume(c);
	return true;
}

bool reactor_run_ready(struct reactor *r)
{
	unsigned n = 0;
	reactor_take_remote(r);
	while (n < REACTOR_RUN_MAX && reactor_run_one(r))
		n++;
	return n > 0;
}

unsigned reactor_ready_count(struct reactor *r)
{
	unsigned n = 0;
	reactor_take_remote(r);
	for (struct co *c = r->ready_head; c; c = c->next)
		n++;
	return n;
}

void reactor_rotate_ready(struct reactor *r, unsigned n)
{
	for (; n && r->ready_head != r->ready_tail; n--) {
		struct co *c = r->ready_head;
		r->ready_head = c->next;
		list_append(&r->ready_head, &r->ready_tail, c);
	}
}
