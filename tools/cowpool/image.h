/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The file that the demo makes a pool of.
 */
#ifndef IMAGE_H
#define IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/**
 * struct image - a file in memory
 * @path: where it came from; for free()
 * @bytes: its content, and zeroes up to the end of the last page
 * @length: of the file
 * @pages: how many it takes
 * @page_size: in bytes
 */
struct image {
	char *path;
	unsigned char *bytes;
	uint64_t length;
	uint64_t pages;
	size_t page_size;
};

/*
 * Reads @path, or if that is NULL a file of some MiB that this machine has.
 * False after saying what is wrong.
 */
bool image_load(struct image *image, const char *path);
void image_free(struct image *image);

#endif /* IMAGE_H */
