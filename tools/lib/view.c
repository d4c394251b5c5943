// SPDX-License-Identifier: MIT
/*
 * libcowpool: views, the private copy-on-write mappings of a pool.
 */
#include "cowpool.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/types.h>

void *cowpool_map(int fd, size_t length, uint64_t offset)
{
	void *addr;

	if (!length) {
		struct cowpool_info info;

		if (cowpool_info(fd, NULL, &info))
			return NULL;
		if (offset >= info.size || info.size - offset > SIZE_MAX) {
			errno = EINVAL;
			return NULL;
		}
		length = (size_t)(info.size - offset);
	}
	/*
	 * MAP_SHARED it must be: the kernel asks a driver about writes only in
	 * areas that may be shared. The sharing ends with the first write.
	 */
	addr = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		    (off_t)offset);
	return addr == MAP_FAILED ? NULL : addr;
}
