// SPDX-License-Identifier: MIT
/*
 * A fuzzer of the parser of delta files, for libFuzzer.
 *
 * A checksum stands at the end of each file, which no fuzzer guesses: with an
 * even number of bytes the right one is put there. What is accepted must hold
 * what the rest of the library relies on.
 */
#include "delta.h"

#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition, const char *what)
{
	if (condition)
		return;
	fprintf(stderr, "accepted, although not %s\n", what);
	abort();
}

static void check(const struct cowpool_delta *delta, uint64_t size)
{
	uint64_t sum = 0, last = 0;

	for (uint64_t i = 0; i < delta->nr_ranges; i++) {
		const struct cowpool_range *range = &delta->ranges[i];

		require(range->start < range->end, "a range");
		require(!i || range->start > last, "ascending and apart");
		require(range->end <= delta->size, "inside");
		require(!(range->start % delta->page_size), "at a page");
		last = range->end;
		sum += range->end - range->start;
	}
	require(sum == delta->data_size, "as much as there is");
	require(delta->data_offset <= size && delta->data_size <= size - delta->data_offset,
		"in the file");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cowpool_delta delta;
	uint8_t digest[DELTA_DIGEST];
	struct sha256_ctx sha;
	int fd = memfd_create("delta", 0);

	if (fd < 0 || write(fd, data, size) != (ssize_t)size)
		abort();
	if (!(size % 2) && size >= sizeof(digest)) {
		sha256_init(&sha);
		sha256_update(&sha, size - sizeof(digest), data);
		sha256_digest(&sha, sizeof(digest), digest);
		if (pwrite(fd, digest, sizeof(digest), (off_t)(size - sizeof(digest))) < 0)
			abort();
	}
	if (!cowpool_delta_read(&delta, fd))
		check(&delta, size);
	cowpool_delta_release(&delta);
	close(fd);
	return 0;
}
