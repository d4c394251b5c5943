/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Evidence from /proc: what stands in the page table of this process, and how
 * often a page frame is mapped.
 */
#ifndef PAGEMAP_H
#define PAGEMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Bits of an entry of /proc/PID/pagemap (Documentation/admin-guide/mm). */
#define PAGEMAP_PRESENT	(1ULL << 63)
#define PAGEMAP_FRAME	((1ULL << 55) - 1)

/* /proc/self/pagemap of the calling process, or -1 and errno. */
int pagemap_open(void);

/*
 * The entry of the page at @addr; 0 if there is none or it cannot be read.
 * Without CAP_SYS_ADMIN the kernel hides the frame number: it reads as 0.
 */
uint64_t pagemap_entry(int pagemap, const void *addr);

/* How many page table entries map the frame; -1 if that cannot be known. */
long pagemap_mapcount(uint64_t frame);

/*
 * The line of /proc/PID/maps for the area that begins at @addr, without the
 * newline; false if there is none.
 */
bool maps_line(pid_t pid, const void *addr, char *line, size_t size);

#endif /* PAGEMAP_H */
