/* SPDX-License-Identifier: MIT */
/*
 * libcowpool, inside: delta files, for the library and for the command
 * cowpool. cowpool_delta(5) describes the format. Not installed.
 */
#ifndef DELTA_H
#define DELTA_H

#include <stddef.h>
#include <stdint.h>
#include <linux/cowpool.h>

#define DELTA_VERSION	1
#define DELTA_DIGEST	32	/* bytes of a SHA-256 */

/**
 * struct cowpool_delta - what a delta file says of its data
 * @page_size: ranges begin and end at multiples of it, or end at @size
 * @size: bytes of the content that the delta was made from, and of that which
 *	it leads to
 * @base: SHA-256 of the former, or zeroes if that is not known
 * @ranges: where the two differ, as offsets, ascending
 * @nr_ranges: their number
 * @nr_allocated: how many @ranges has room for
 * @data_offset: where in the file the content of the ranges begins
 * @data_size: its length
 */
struct cowpool_delta {
	uint32_t page_size;
	uint64_t size;
	uint8_t base[DELTA_DIGEST];
	struct cowpool_range *ranges;
	uint64_t nr_ranges;
	uint64_t nr_allocated;
	uint64_t data_offset;
	uint64_t data_size;
};

/* Adds a range behind the others. Returns 0, or -1 and errno. */
int cowpool_delta_add(struct cowpool_delta *delta, uint64_t start,
		      uint64_t end);

/*
 * Writes a delta file; the content of the ranges is read from @image. Returns
 * 0, or -1 and errno.
 */
int cowpool_delta_write(const struct cowpool_delta *delta, int fd, int image);

/*
 * Reads a delta file, but for its data, and checks all of it. Returns NULL, or
 * what is wrong with the file and errno as cowpool_delta_apply() has it.
 */
const char *cowpool_delta_read(struct cowpool_delta *delta, int fd);

/* Frees what cowpool_delta_add() and cowpool_delta_read() allocated. */
void cowpool_delta_release(struct cowpool_delta *delta);

/*
 * As pread(2) and write(2), but for all of @length or an error: ENODATA if
 * the file ends before.
 */
int cowpool_pread_all(int fd, void *buf, size_t length, uint64_t offset);
int cowpool_write_all(int fd, const void *buf, size_t length);

#endif /* DELTA_H */
