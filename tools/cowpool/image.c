// SPDX-License-Identifier: GPL-2.0
/*
 * The file that the demo makes a pool of.
 */
#include "image.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "command.h"
#include "term.h"

/*
 * Every machine has some of these, and the last one is this very program.
 * The largest of them is taken, as long as the demo takes seconds with it.
 */
static const char *const candidates[] = {
	"/boot/vmlinuz*", "/vmlinuz", "/usr/bin/python3*", "/usr/bin/perl",
	"/bin/bash", "/lib/*/libc.so.6", "/lib64/libc.so.6", "/proc/self/exe",
};

#define LARGEST_CANDIDATE	(16ULL << 20)

/* Makes @path the choice if it is larger than the one so far. */
static void consider(const char *path, char **chosen, uint64_t *largest)
{
	struct stat st;

	if (stat(path, &st) || !S_ISREG(st.st_mode) || access(path, R_OK))
		return;
	if ((uint64_t)st.st_size > LARGEST_CANDIDATE ||
	    (uint64_t)st.st_size <= *largest)
		return;
	free(*chosen);
	*chosen = strdup(path);
	*largest = (uint64_t)st.st_size;
}

static char *choose(void)
{
	uint64_t largest = 0;
	char *chosen = NULL;
	glob_t found;

	for (size_t i = 0; i < ARRAY_SIZE(candidates); i++) {
		if (glob(candidates[i], 0, NULL, &found))
			continue;
		for (size_t j = 0; j < found.gl_pathc; j++)
			consider(found.gl_pathv[j], &chosen, &largest);
		globfree(&found);
	}
	return chosen;
}

/* Returns what kept it from reading all of @image->length bytes, or NULL. */
static const char *read_all(struct image *image, int fd)
{
	uint64_t have = 0;

	while (have < image->length) {
		ssize_t got = read(fd, image->bytes + have,
				   image->length - have);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return strerror(errno);
		if (!got)
			return "it became shorter while it was read";
		have += (uint64_t)got;
		progress("reading the file", have, image->length);
	}
	progress_end();
	return NULL;
}

bool image_load(struct image *image, const char *path)
{
	const char *problem = NULL;
	struct stat st;
	void *bytes;
	int fd;

	memset(image, 0, sizeof(*image));
	image->page_size = (size_t)sysconf(_SC_PAGESIZE);
	image->path = path ? strdup(path) : choose();
	if (!image->path) {
		failed("no file to show copy-on-write on: give one with --image");
		return false;
	}
	fd = open(image->path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st)) {
		failed("cannot open '%s': %s", image->path, strerror(errno));
		return false;
	}
	if (!S_ISREG(st.st_mode))
		problem = "it is no regular file";
	else if (!st.st_size)
		problem = "it is empty";
	if (!problem) {
		image->length = (uint64_t)st.st_size;
		image->pages = (image->length + image->page_size - 1) /
			image->page_size;
		/* Anonymous memory is zero: so is the rest of the last page. */
		bytes = mmap(NULL, image->pages * image->page_size,
			     PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (bytes == MAP_FAILED) {
			problem = strerror(errno);
		} else {
			image->bytes = bytes;
			problem = read_all(image, fd);
		}
	}
	close(fd);
	if (problem)
		failed("cannot use '%s' as the demo's file: %s", image->path,
		       problem);
	return !problem;
}

void image_free(struct image *image)
{
	if (image->bytes)
		munmap(image->bytes, image->pages * image->page_size);
	free(image->path);
}
