/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Pages and their content, for tests with the harness and without.
 */
#ifndef COWPOOL_TEST_PAGES_H
#define COWPOOL_TEST_PAGES_H

#define _GNU_SOURCE
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

/* Asked for once: it is what inner loops count to. */
static inline size_t page_size(void)
{
	static size_t size;

	if (!size)
		size = sysconf(_SC_PAGESIZE);
	return size;
}

#define PAGE		page_size()
/* Pages that one PMD entry maps */
#define PMD_PAGES	(PAGE / sizeof(uint64_t))

/*
 * Content. Word i of a page that carries tag t is t + i, so a torn page, or
 * one at the wrong place, cannot go unnoticed. Tags tell who wrote the page;
 * writer 0 is whoever filled the pool.
 */
#define TAG(writer, page)	(((uint64_t)(writer) << 48) | (((uint64_t)(page) + 1) << 16))
#define TAG_TORN		UINT64_MAX

static inline void *page_at(void *base, size_t page)
{
	return (char *)base + page * PAGE;
}

static inline void page_set(void *addr, uint64_t tag)
{
	volatile uint64_t *word = addr;

	for (size_t i = 0; i < PAGE / sizeof(*word); i++)
		word[i] = tag + i;
}

static inline void pages_set(void *base, size_t first, size_t pages,
			     unsigned int writer)
{
	for (size_t page = first; page < first + pages; page++)
		page_set(page_at(base, page), TAG(writer, page));
}

/* The tag that all of a page carries; 0 for a page of zeroes. */
static inline uint64_t page_tag(const void *addr)
{
	const volatile uint64_t *word = addr;
	uint64_t tag = word[0];

	for (size_t i = 1; i < PAGE / sizeof(*word); i++)
		if (word[i] != (tag ? tag + i : 0))
			return TAG_TORN;
	return tag;
}

#endif /* COWPOOL_TEST_PAGES_H */
