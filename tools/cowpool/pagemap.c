// SPDX-License-Identifier: GPL-2.0
/*
 * Evidence from /proc.
 */
#include "pagemap.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int pagemap_open(void)
{
	return open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
}

uint64_t pagemap_entry(int pagemap, const void *addr)
{
	uint64_t page = (uintptr_t)addr / (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t entry;

	if (pread(pagemap, &entry, sizeof(entry),
		  (off_t)(page * sizeof(entry))) != sizeof(entry))
		return 0;
	return entry;
}

long pagemap_mapcount(uint64_t frame)
{
	int fd = open("/proc/kpagecount", O_RDONLY | O_CLOEXEC);
	uint64_t count;
	ssize_t got;

	if (fd < 0)
		return -1;
	got = pread(fd, &count, sizeof(count), (off_t)(frame * sizeof(count)));
	close(fd);
	return got == sizeof(count) ? (long)count : -1;
}

bool maps_line(pid_t pid, const void *addr, char *line, size_t size)
{
	char path[64];
	bool found = false;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	file = fopen(path, "re");
	if (!file)
		return false;
	while (!found && fgets(line, (int)size, file)) {
		line[strcspn(line, "\n")] = 0;
		found = strtoull(line, NULL, 16) == (uintptr_t)addr;
	}
	fclose(file);
	/* The kernel pads the line to make columns: not needed for one. */
	if (found) {
		char *to = line;

		for (const char *from = line; *from; from++)
			if (*from != ' ' || from[1] != ' ')
				*to++ = *from;
		*to = 0;
	}
	return found;
}
