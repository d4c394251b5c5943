// SPDX-License-Identifier: MIT
/*
 * libcowpool: large blocks of memory that are copied lazily.
 *
 * A block is a view of all of an anonymous pool whose descriptor is closed. So
 * the kernel knows all about it, and a pointer is all that it takes to find
 * the rest: there is nothing to be kept, or locked, here.
 */
#include "cowpool.h"
#include "device.h"

#include <sys/ioctl.h>
#include <sys/mman.h>

int cowpool_whole_view_open(const void *view, size_t *size)
{
	struct cowpool_range range;
	struct cowpool_dirty whole = {
		.addr = (uintptr_t)view,
		.ranges = (uintptr_t)&range,
		.nr_ranges = 1,
	};
	struct cowpool_info info;
	int fd;

	if (!view) {
		errno = ENOENT;
		return -1;
	}
	fd = device_open();
	if (fd < 0)
		return -1;
	if (cowpool_info(fd, view, &info))
		goto fail;
	/*
	 * A view is never longer than its pool. If it reaches from here as far
	 * as the pool is long, without a gap, then it starts here and is whole.
	 */
	whole.len = info.size;
	/* EIO says of a whole view that it has no content. */
	if (ioctl(fd, COWPOOL_IOC_DIRTY, &whole) < 0 && errno != EIO) {
		if (errno == ENOENT)
			errno = EINVAL;
		goto fail;
	}
	*size = (size_t)info.size;
	return fd;
fail:
	close_quietly(fd);
	return -1;
}

/* Maps all of a pool that is not needed for anything else. */
static void *map_and_close(int fd)
{
	void *block;

	if (fd < 0)
		return NULL;
	block = cowpool_map(fd, 0, 0);
	close_quietly(fd);
	return block;
}

void *cowpool_alloc(size_t size)
{
	return map_and_close(cowpool_create(NULL, size, 0));
}

void *cowpool_dup(const void *ptr)
{
	struct cowpool_snapshot snapshot = { .addr = (uintptr_t)ptr };
	size_t size;
	int fd, pool;

	fd = cowpool_whole_view_open(ptr, &size);
	if (fd < 0)
		return NULL;
	pool = ioctl(fd, COWPOOL_IOC_SNAPSHOT, &snapshot);
	close_quietly(fd);
	return map_and_close(pool);
}

int cowpool_free(void *ptr)
{
	size_t size;
	int fd;

	if (!ptr)
		return 0;
	fd = cowpool_whole_view_open(ptr, &size);
	if (fd < 0)
		return -1;
	close_quietly(fd);
	return munmap(ptr, size);
}
