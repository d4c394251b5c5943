// SPDX-License-Identifier: MIT
/*
 * libcowpool: making, finding, filling and describing pools.
 */
#include "cowpool.h"
#include "device.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/*
 * Whether a name is legal is the module's business; here it only has to fit.
 * NULL becomes the empty string, which the module takes for "no name".
 */
static int copy_name(char to[COWPOOL_NAME_SIZE], const char *name)
{
	size_t length = name ? strlen(name) : 0;

	if ((name && !length) || length >= COWPOOL_NAME_SIZE) {
		errno = EINVAL;
		return -1;
	}
	memset(to, 0, COWPOOL_NAME_SIZE);
	memcpy(to, name ? name : "", length);
	return 0;
}

int cowpool_create(const char *name, uint64_t size, unsigned int mode)
{
	uint64_t mask = (uint64_t)sysconf(_SC_PAGESIZE) - 1;
	struct cowpool_create create = { .mode = mode };
	int fd;

	if (size > UINT64_MAX - mask) {
		errno = EINVAL;
		return -1;
	}
	create.size = (size + mask) & ~mask;
	if (copy_name(create.name, name))
		return -1;
	fd = device_open();
	if (fd < 0)
		return -1;
	if (ioctl(fd, COWPOOL_IOC_CREATE, &create)) {
		close_quietly(fd);
		return -1;
	}
	return fd;
}

int cowpool_open(const char *name)
{
	struct cowpool_attach attach = { 0 };
	int fd;

	if (copy_name(attach.name, name ? name : COWPOOL_DEFAULT_NAME))
		return -1;
	fd = device_open();
	if (fd < 0)
		return -1;
	/* Also for the default pool, so that its absence is found out here. */
	if (ioctl(fd, COWPOOL_IOC_ATTACH, &attach)) {
		close_quietly(fd);
		return -1;
	}
	return fd;
}

int cowpool_fill(int fd, uint64_t offset, const void *buf, size_t length)
{
	const char *from = (const char *)buf;

	while (length) {
		ssize_t written = pwrite(fd, from, length, (off_t)offset);

		if (written < 0) {
			if (errno == EINTR)
				continue;
			return -1;
		}
		from += written;
		offset += (uint64_t)written;
		length -= (size_t)written;
	}
	return 0;
}

int64_t cowpool_fill_from(int fd, int src)
{
	const size_t chunk = 1 << 20;
	char *buf = (char *)malloc(chunk);
	int64_t total = 0;
	int error = 0;

	if (!buf)
		return -1;
	for (;;) {
		ssize_t got = read(src, buf, chunk);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 ||
		    (got && cowpool_fill(fd, (uint64_t)total, buf, (size_t)got)))
			error = errno;
		if (got <= 0 || error)
			break;
		total += got;
	}
	free(buf);
	if (error) {
		errno = error;
		return -1;
	}
	return total;
}

int cowpool_seal(int fd)
{
	return ioctl(fd, COWPOOL_IOC_SEAL);
}

int cowpool_destroy(int fd)
{
	return ioctl(fd, COWPOOL_IOC_DESTROY);
}

int cowpool_info(int fd, const void *addr, struct cowpool_info *info)
{
	memset(info, 0, sizeof(*info));
	if (addr) {
		info->addr = (uintptr_t)addr;
		info->flags = COWPOOL_INFO_VIEW;
	}
	return ioctl(fd, COWPOOL_IOC_INFO, info);
}

int cowpool_stats(int fd, const void *addr, struct cowpool_counters *counters)
{
	struct cowpool_info info;

	if (cowpool_info(fd, addr, &info))
		return -1;
	*counters = info.counters;
	return 0;
}
