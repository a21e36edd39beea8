/* alloc_hook: put before every file of the pool library of the allocation fault test: its
 * allocations go through a counter that can fail one of them. */
#ifndef TARN_TESTS_ALLOC_HOOK_H
#define TARN_TESTS_ALLOC_HOOK_H
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include "base/co.h"

void *hook_malloc(size_t size);
void *hook_calloc(size_t n, size_t size);
void *hook_realloc(void *p, size_t size);
void *hook_aligned_alloc(size_t align, size_t size);
int hook_co_spawn(struct reactor *r, co_fn *fn, void *arg);

#ifndef ALLOC_HOOK_OFF
#define malloc	      hook_malloc
#define calloc	      hook_calloc
#define realloc	      hook_realloc
#define aligned_alloc hook_aligned_alloc
#define co_spawn      hook_co_spawn
#endif

#endif
