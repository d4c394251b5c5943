/* SPDX-License-Identifier: GPL-2.0 */
/*
 * As much of the kernel's headers as module/tree.c needs, in user space. The
 * test is single-threaded, so atomics are plain variables; memory comes from
 * malloc(), so that the sanitizer sees every use after free and leak.
 */
#ifndef KERNEL_SHIM_H
#define KERNEL_SHIM_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t u64;
typedef unsigned int gfp_t;

#define GFP_KERNEL		0U
#define SLAB_ACCOUNT		0U
#define BIT(n)			(1UL << (n))
#define BIT_ULL(n)		(1ULL << (n))
#define GENMASK_ULL(h, l)	(~0ULL >> (63 - (h)) & ~0ULL << (l))
#define __ffs64(x)		((unsigned int)__builtin_ctzll(x))
#define ARRAY_SIZE(array)	(sizeof(array) / sizeof((array)[0]))
#define BUILD_BUG_ON(cond)	_Static_assert(!(cond), #cond)
#define ENOMEM			12

#define min(a, b) ({ typeof(a) a_ = (a), b_ = (b); a_ < b_ ? a_ : b_; })
#define max(a, b) ({ typeof(a) a_ = (a), b_ = (b); a_ > b_ ? a_ : b_; })

struct page {
	unsigned long private;
};

typedef struct { long counter; } atomic_long_t;
typedef struct { int counter; } refcount_t;

#define atomic_long_set(v, i)		((v)->counter = (i))
#define atomic_long_read(v)		((v)->counter)
#define atomic_long_read_acquire(v)	((v)->counter)
#define atomic_long_inc(v)		((void)(v)->counter++)
#define atomic_long_dec(v)		((void)(v)->counter--)
#define smp_acquire__after_ctrl_dep()	do { } while (0)
#define cond_resched()			do { } while (0)

static inline bool atomic_long_dec_and_test(atomic_long_t *v)
{
	assert(v->counter > 0);
	return !--v->counter;
}

#define refcount_set(r, i)	((r)->counter = (i))
#define refcount_read(r)	((r)->counter)

static inline void refcount_inc(refcount_t *r)
{
	assert(r->counter > 0);
	r->counter++;
}

static inline bool refcount_dec_and_test(refcount_t *r)
{
	assert(r->counter > 0);
	return !--r->counter;
}

struct kmem_cache {
	size_t size;
};

/* How many more allocations succeed. */
extern unsigned long shim_allocations_left;

static inline struct kmem_cache *kmem_cache_create(const char *name,
						   size_t size, size_t align,
						   unsigned int flags,
						   void (*ctor)(void *))
{
	struct kmem_cache *cache = malloc(sizeof(*cache));

	cache->size = size;
	return cache;
}

#define kmem_cache_destroy(cache)	free(cache)

/* With anything in it but what might be taken for nothing. */
static inline void *kmem_cache_alloc(struct kmem_cache *cache, gfp_t gfp)
{
	if (!shim_allocations_left)
		return NULL;
	shim_allocations_left--;
	return memset(malloc(cache->size), 0x5a, cache->size);
}

static inline void kmem_cache_free(struct kmem_cache *cache, void *p)
{
	free(p);
}

#endif
