/* SPDX-License-Identifier: GPL-2.0 */
/*
 * SNAPSHOT, RESET and DIRTY for the tests of those.
 */
#ifndef COWPOOL_TEST_SNAPSHOT_H
#define COWPOOL_TEST_SNAPSHOT_H

#include "cowpool_test.h"

/* A snapshot's descriptor, or -1 with errno. */
static inline int snapshot_try(int fd, void *addr)
{
	struct cowpool_snapshot arg = { .addr = (uintptr_t)addr };

	return ioctl(fd, COWPOOL_IOC_SNAPSHOT, &arg);
}

static inline int snapshot_take(struct __test_metadata *_metadata, int fd,
				void *addr)
{
	int snapshot = snapshot_try(fd, addr);

	ASSERT_LE(0, snapshot) TH_LOG("SNAPSHOT: %s", strerror(errno));
	return snapshot;
}

/* The number of pages that differed, or -1 with errno. */
static inline long reset_try(int fd, void *addr, size_t pages, unsigned int flags)
{
	struct cowpool_reset arg = {
		.addr = (uintptr_t)addr,
		.len = pages * PAGE,
		.flags = flags,
	};

	return ioctl(fd, COWPOOL_IOC_RESET, &arg) ? -1 : (long)arg.pages;
}

/* The number of ranges; the cursor in *@next as a page from @addr. */
static inline int dirty_try(int fd, void *addr, size_t pages, unsigned int flags,
			    struct cowpool_range *ranges, unsigned int nr,
			    size_t *next)
{
	struct cowpool_dirty arg = {
		.addr = (uintptr_t)addr,
		.len = pages * PAGE,
		.ranges = (uintptr_t)ranges,
		.nr_ranges = nr,
		.flags = flags,
	};
	int found = ioctl(fd, COWPOOL_IOC_DIRTY, &arg);

	if (next)
		*next = (arg.next - arg.addr) / PAGE;
	return found;
}

/* Marks the dirty pages in @dirty, asking for @at_a_time ranges a call. */
static inline void dirty_map(struct __test_metadata *_metadata, int fd,
			     char *addr, size_t pages, unsigned int flags,
			     unsigned int at_a_time, bool *dirty)
{
	struct cowpool_range *ranges = calloc(at_a_time, sizeof(*ranges));
	size_t at = 0, next;
	int found;

	memset(dirty, 0, pages);
	while (at < pages) {
		found = dirty_try(fd, page_at(addr, at), pages - at, flags, ranges,
				  at_a_time, &next);
		ASSERT_LE(0, found) TH_LOG("DIRTY: %s", strerror(errno));
		for (int i = 0; i < found; i++)
			for (uint64_t p = ranges[i].start; p < ranges[i].end; p += PAGE)
				dirty[(p - (uintptr_t)addr) / PAGE] = true;
		ASSERT_LT(0, next);
		at += next;
	}
	EXPECT_EQ(pages, at);
	free(ranges);
}

static inline size_t dirty_count(struct __test_metadata *_metadata, int fd,
				 char *addr, size_t pages, unsigned int flags)
{
	bool *dirty = calloc(pages, 1);
	size_t count = 0;

	dirty_map(_metadata, fd, addr, pages, flags, 16, dirty);
	for (size_t i = 0; i < pages; i++)
		count += dirty[i];
	free(dirty);
	return count;
}

#endif
