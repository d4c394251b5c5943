// SPDX-License-Identifier: MIT
/*
 * libcowpool: delta files, which say how some content differs from that of a
 * pool of the same size.
 *
 * A file is written from its beginning to its end, so that it may be a pipe.
 * It is read twice: the checksum first, then what it vouches for.
 */
#include "cowpool.h"
#include "delta.h"
#include "device.h"

#include <endian.h>
#include <nettle/sha2.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define CHUNK		((size_t)1 << 20)
#define RANGES		256

static const char magic[8] = { 'c', 'o', 'w', 'd', 'e', 'l', 't', 'a' };

/* The beginning of a file. All numbers in files are little-endian. */
struct header {
	char magic[sizeof(magic)];
	uint32_t version;
	uint32_t page_size;
	uint64_t size;
	uint64_t nr_ranges;
	uint8_t base[DELTA_DIGEST];
};

_Static_assert(sizeof(struct header) == 64, "the format has no padding");

int cowpool_pread_all(int fd, void *buf, size_t length, uint64_t offset)
{
	char *to = (char *)buf;

	while (length) {
		ssize_t got = pread(fd, to, length, (off_t)offset);

		if (got < 0 && errno == EINTR)
			continue;
		if (!got)
			errno = ENODATA;
		if (got <= 0)
			return -1;
		to += got;
		offset += (uint64_t)got;
		length -= (size_t)got;
	}
	return 0;
}

int cowpool_write_all(int fd, const void *buf, size_t length)
{
	const char *from = (const char *)buf;

	while (length) {
		ssize_t written = write(fd, from, length);

		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0)
			return -1;
		from += written;
		length -= (size_t)written;
	}
	return 0;
}

int cowpool_delta_add(struct cowpool_delta *delta, uint64_t start, uint64_t end)
{
	uint64_t last = delta->nr_ranges - 1;

	delta->data_size += end - start;
	if (delta->nr_ranges && delta->ranges[last].end == start) {
		delta->ranges[last].end = end;
		return 0;
	}
	if (delta->nr_ranges == delta->nr_allocated) {
		size_t nr = delta->nr_allocated ? 2 * delta->nr_allocated : 64;
		void *ranges = realloc(delta->ranges,
				       nr * sizeof(*delta->ranges));

		if (!ranges)
			return -1;
		delta->ranges = (struct cowpool_range *)ranges;
		delta->nr_allocated = nr;
	}
	delta->ranges[delta->nr_ranges].start = start;
	delta->ranges[delta->nr_ranges++].end = end;
	return 0;
}

void cowpool_delta_release(struct cowpool_delta *delta)
{
	int error = errno;

	free(delta->ranges);
	errno = error;
}

/* A file being written, and the checksum of what it has. */
struct output {
	int fd;
	struct sha256_ctx sha;
};

static int put(struct output *out, const void *buf, size_t length)
{
	sha256_update(&out->sha, length, (const uint8_t *)buf);
	return cowpool_write_all(out->fd, buf, length);
}

static int put_header(struct output *out, const struct cowpool_delta *delta)
{
	struct header header = {
		.version = htole32(DELTA_VERSION),
		.page_size = htole32(delta->page_size),
		.size = htole64(delta->size),
		.nr_ranges = htole64(delta->nr_ranges),
	};

	memcpy(header.magic, magic, sizeof(magic));
	memcpy(header.base, delta->base, sizeof(header.base));
	return put(out, &header, sizeof(header));
}

static int put_ranges(struct output *out, const struct cowpool_delta *delta)
{
	struct cowpool_range ranges[RANGES];
	size_t n = 0;

	for (uint64_t i = 0; i < delta->nr_ranges; i++) {
		ranges[n].start = htole64(delta->ranges[i].start);
		ranges[n++].end = htole64(delta->ranges[i].end);
		if (n == RANGES || i == delta->nr_ranges - 1) {
			if (put(out, ranges, n * sizeof(*ranges)))
				return -1;
			n = 0;
		}
	}
	return 0;
}

static int put_data(struct output *out, const struct cowpool_delta *delta,
		    int image, void *chunk)
{
	for (uint64_t i = 0; i < delta->nr_ranges; i++) {
		uint64_t at = delta->ranges[i].start, end = delta->ranges[i].end;

		while (at < end) {
			size_t n = end - at < CHUNK ? (size_t)(end - at) : CHUNK;

			if (cowpool_pread_all(image, chunk, n, at) ||
			    put(out, chunk, n))
				return -1;
			at += n;
		}
	}
	return 0;
}

int cowpool_delta_write(const struct cowpool_delta *delta, int fd, int image)
{
	struct output out = { .fd = fd };
	uint8_t digest[DELTA_DIGEST];
	void *chunk = malloc(CHUNK);
	int result = -1, error;

	if (!chunk)
		return -1;
	sha256_init(&out.sha);
	if (!put_header(&out, delta) && !put_ranges(&out, delta) &&
	    !put_data(&out, delta, image, chunk)) {
		sha256_digest(&out.sha, sizeof(digest), digest);
		result = cowpool_write_all(fd, digest, sizeof(digest));
	}
	error = errno;
	free(chunk);
	errno = error;
	return result;
}

/* Does the file's end tell the SHA-256 of what is before it? */
static int checksum_holds(int fd, uint64_t length, bool *holds)
{
	uint8_t told[DELTA_DIGEST], digest[DELTA_DIGEST];
	uint64_t at = 0, end = length - sizeof(told);
	void *chunk = malloc(CHUNK);
	struct sha256_ctx sha;
	int result = -1, error;

	if (!chunk)
		return -1;
	sha256_init(&sha);
	while (at < end) {
		size_t n = end - at < CHUNK ? (size_t)(end - at) : CHUNK;

		if (cowpool_pread_all(fd, chunk, n, at))
			goto out;
		sha256_update(&sha, n, (const uint8_t *)chunk);
		at += n;
	}
	if (cowpool_pread_all(fd, told, sizeof(told), end))
		goto out;
	sha256_digest(&sha, sizeof(digest), digest);
	*holds = !memcmp(told, digest, sizeof(digest));
	result = 0;
out:
	error = errno;
	free(chunk);
	errno = error;
	return result;
}

static bool range_is_good(const struct cowpool_delta *delta, uint64_t start,
			  uint64_t end)
{
	uint64_t mask = delta->page_size - 1;

	if (delta->nr_ranges &&
	    start < delta->ranges[delta->nr_ranges - 1].end)
		return false;
	return start < end && end <= delta->size && !(start & mask) &&
		(!(end & mask) || end == delta->size);
}

/* Reads @nr ranges; with @good false there is one that cannot be. */
static int read_ranges(struct cowpool_delta *delta, int fd, uint64_t nr,
		       bool *good)
{
	struct cowpool_range ranges[RANGES];
	uint64_t offset = sizeof(struct header);

	while (nr) {
		size_t n = nr < RANGES ? (size_t)nr : RANGES;

		if (cowpool_pread_all(fd, ranges, n * sizeof(*ranges), offset))
			return -1;
		for (size_t i = 0; i < n; i++) {
			uint64_t start = le64toh(ranges[i].start);
			uint64_t end = le64toh(ranges[i].end);

			*good = range_is_good(delta, start, end);
			if (!*good)
				return 0;
			if (cowpool_delta_add(delta, start, end))
				return -1;
		}
		offset += n * sizeof(*ranges);
		nr -= n;
	}
	return 0;
}

static const char *fail(int error, const char *problem)
{
	errno = error;
	return problem;
}

static const char bad[] =
	"it is truncated or corrupted: its checksum does not match";
static const char malformed[] = "its parts contradict each other";

const char *cowpool_delta_read(struct cowpool_delta *delta, int fd)
{
	struct header header = { 0 };
	bool good = true;
	uint64_t length, nr;
	struct stat st;

	memset(delta, 0, sizeof(*delta));
	if (fstat(fd, &st))
		return strerror(errno);
	if (!S_ISREG(st.st_mode))
		return fail(ESPIPE, "it is no regular file");
	length = (uint64_t)st.st_size;
	if (cowpool_pread_all(fd, &header, length < sizeof(header) ?
			      (size_t)length : sizeof(header), 0))
		return strerror(errno);
	if (memcmp(header.magic, magic, sizeof(magic)))
		return fail(EINVAL, "it is no delta file");
	if (length < sizeof(header) + DELTA_DIGEST)
		return fail(EBADMSG, bad);
	if (le32toh(header.version) != DELTA_VERSION)
		return fail(EINVAL, "its version is not known here");
	if (checksum_holds(fd, length, &good))
		return strerror(errno);
	if (!good)
		return fail(EBADMSG, bad);

	/* It is as it was written. By whom, is another question. */
	delta->page_size = le32toh(header.page_size);
	delta->size = le64toh(header.size);
	memcpy(delta->base, header.base, sizeof(delta->base));
	length -= sizeof(header) + DELTA_DIGEST;
	nr = le64toh(header.nr_ranges);
	if (!delta->page_size || delta->page_size & (delta->page_size - 1) ||
	    nr > length / sizeof(struct cowpool_range))
		return fail(EBADMSG, malformed);
	if (read_ranges(delta, fd, nr, &good))
		return strerror(errno);
	length -= nr * sizeof(struct cowpool_range);
	if (!good || length != delta->data_size)
		return fail(EBADMSG, malformed);
	delta->data_offset = sizeof(header) + nr * sizeof(struct cowpool_range);
	return NULL;
}

/* Adds what DIRTY tells of the view, which has @delta->size bytes. */
static int add_dirty(struct cowpool_delta *delta, const char *view,
		     unsigned int flags)
{
	struct cowpool_range ranges[RANGES];
	const char *end = view + delta->size;
	void *at = (void *)view;

	while (at != end) {
		int n = cowpool_dirty(at, (size_t)(end - (char *)at), ranges,
				      RANGES, flags, &at);

		if (n < 0)
			return -1;
		for (int i = 0; i < n; i++)
			if (cowpool_delta_add(delta,
					      ranges[i].start - (uintptr_t)view,
					      ranges[i].end - (uintptr_t)view))
				return -1;
	}
	return 0;
}

int cowpool_delta_save(const void *view, int fd, unsigned int flags)
{
	struct cowpool_delta delta = { 0 };
	int result = -1, image;
	size_t size;
	int device;

	device = cowpool_whole_view_open(view, &size);
	if (device < 0)
		return -1;
	close_quietly(device);
	delta.size = size;
	delta.page_size = (uint32_t)sysconf(_SC_PAGESIZE);
	/* In this order: what is dirty later is a superset of what was. */
	image = cowpool_snapshot(view);
	if (image < 0)
		return -1;
	if (!add_dirty(&delta, (const char *)view, flags))
		result = cowpool_delta_write(&delta, fd, image);
	close_quietly(image);
	cowpool_delta_release(&delta);
	return result;
}

/* The kernel writes to the view: what goes wrong there is no signal then. */
static int write_to_view(const struct cowpool_delta *delta, char *view, int fd)
{
	uint64_t offset = delta->data_offset;

	for (uint64_t i = 0; i < delta->nr_ranges; i++) {
		uint64_t start = delta->ranges[i].start;
		size_t length = (size_t)(delta->ranges[i].end - start);

		if (cowpool_pread_all(fd, view + start, length, offset))
			return -1;
		offset += length;
	}
	return 0;
}

int cowpool_delta_apply(void *view, int fd)
{
	struct cowpool_delta delta = { 0 };
	int result = -1;
	size_t size;
	int device;

	device = cowpool_whole_view_open(view, &size);
	if (device < 0)
		return -1;
	close_quietly(device);
	if (!cowpool_delta_read(&delta, fd)) {
		if (delta.size == size)
			result = write_to_view(&delta, (char *)view, fd);
		else
			errno = ERANGE;
	}
	cowpool_delta_release(&delta);
	return result;
}
