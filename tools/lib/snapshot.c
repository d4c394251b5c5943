// SPDX-License-Identifier: MIT
/*
 * libcowpool: freezing, resetting and comparing views.
 */
#include "cowpool.h"
#include "device.h"

#include <sys/ioctl.h>

/* A request on an address needs no more of a descriptor than its device. */
static int view_ioctl(unsigned long request, void *argument)
{
	int fd = device_open();
	int result;

	if (fd < 0)
		return -1;
	result = ioctl(fd, request, argument);
	close_quietly(fd);
	return result;
}

int cowpool_snapshot(const void *addr)
{
	struct cowpool_snapshot snapshot = { .addr = (uintptr_t)addr };

	return view_ioctl(COWPOOL_IOC_SNAPSHOT, &snapshot);
}

int64_t cowpool_reset(void *addr, size_t len, unsigned int flags)
{
	struct cowpool_reset reset = {
		.addr = (uintptr_t)addr,
		.len = len,
		.flags = flags,
	};

	if (view_ioctl(COWPOOL_IOC_RESET, &reset))
		return -1;
	return (int64_t)reset.pages;
}

int cowpool_dirty(const void *addr, size_t len, struct cowpool_range *ranges,
		  unsigned int nr, unsigned int flags, void **next)
{
	struct cowpool_dirty dirty = {
		.addr = (uintptr_t)addr,
		.len = len,
		.ranges = (uintptr_t)ranges,
		.nr_ranges = nr,
		.flags = flags,
	};
	int stored = view_ioctl(COWPOOL_IOC_DIRTY, &dirty);

	if (stored >= 0)
		*next = (void *)(uintptr_t)dirty.next;
	return stored;
}
