/* SPDX-License-Identifier: MIT */
/*
 * libcowpool, inside: the device, and views as a whole. Not installed.
 */
#ifndef DEVICE_H
#define DEVICE_H

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <unistd.h>
#include <linux/cowpool.h>

static inline int device_open(void)
{
	return open(COWPOOL_DEVICE, O_RDWR | O_CLOEXEC);
}

/* close() may set errno too: keep the one that the caller must hear of. */
static inline void close_quietly(int fd)
{
	int error = errno;

	close(fd);
	errno = error;
}

/*
 * Opens the device for work on the view of a whole pool that starts at @view,
 * and tells its size. Returns -1 and errno as cowpool_dup() has it if @view is
 * anything else.
 */
int cowpool_whole_view_open(const void *view, size_t *size);

#endif /* DEVICE_H */
