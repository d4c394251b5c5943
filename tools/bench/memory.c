// SPDX-License-Identifier: GPL-2.0
/*
 * The memory that is measured: an image, as a view, as a private mapping of a
 * memfd, or copied into anonymous memory.
 */
#include "bench.h"

#include <fcntl.h>
#include <linux/cowpool.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define CHUNK	MIB(2)

/* Pages @first and following, as the image has them. */
static void image_pages(char *to, size_t first, size_t pages)
{
	size_t i;

	for (i = 0; i < pages; i++)
		*(uint64_t *)(to + i * PAGE) = first + i;
}

/**
 * image_make() - make the image that a worker works on
 * @job: the worker's; image_map() maps it
 * @size: its size in bytes, a multiple of 2 MiB
 */
void image_make(struct job *job, size_t size)
{
	struct cowpool_create create = { .size = size };
	size_t done;
	char *chunk;

	job->pages = size / PAGE;
	switch (job->kind) {
	case VIEW:
		job->fd = open(COWPOOL_DEVICE, O_RDWR | O_CLOEXEC);
		expect(job->fd >= 0, "open " COWPOOL_DEVICE);
		expect(!ioctl(job->fd, COWPOOL_IOC_CREATE, &create), "CREATE");
		break;
	case MEMFD:
		job->fd = memfd_create("bench", MFD_CLOEXEC);
		expect(job->fd >= 0, "memfd_create");
		break;
	case ANON:
		return;
	}
	chunk = calloc(1, CHUNK);
	expect(chunk, "calloc");
	for (done = 0; done < size; done += CHUNK) {
		image_pages(chunk, done / PAGE, CHUNK / PAGE);
		expect(write(job->fd, chunk, CHUNK) == CHUNK, "write");
	}
	free(chunk);
}

/**
 * image_map() - map a worker's image
 * @job: the worker's
 *
 * Return: the address.
 */
char *image_map(const struct job *job)
{
	size_t size = job->pages * PAGE;
	size_t room = size + 2 * CHUNK;
	char *mem, *reserved;

	/* Find the place first, then use it. */
	reserved = mmap(NULL, room, PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	expect(reserved != MAP_FAILED, "mmap");
	mem = (char *)(((uintptr_t)reserved + CHUNK - 1) & ~(CHUNK - 1)) + job->shift;
	expect(!munmap(reserved, room), "munmap");

	mem = mmap(mem, size, PROT_READ | PROT_WRITE,
		   MAP_FIXED_NOREPLACE |
		   (job->kind == VIEW ? MAP_SHARED : MAP_PRIVATE) |
		   (job->kind == ANON ? MAP_ANONYMOUS : 0), job->fd, 0);
	expect(mem != MAP_FAILED, "mmap");
	if (job->kind == ANON)
		image_pages(mem, 0, job->pages);
	return mem;
}

/**
 * image_unmap() - undo image_map()
 * @job: the worker's
 * @mem: the address
 */
void image_unmap(const struct job *job, char *mem)
{
	expect(!munmap(mem, job->pages * PAGE), "munmap");
}

/**
 * image_shuffle() - put a worker's page numbers into random order
 * @job: the worker's. The same order each time
 */
void image_shuffle(struct job *job)
{
	uint64_t random = 1;
	size_t i;

	job->order = malloc(job->pages * sizeof(*job->order));
	expect(job->order, "malloc");
	for (i = 0; i < job->pages; i++) {
		size_t j;

		random = random * 6364136223846793005 + 1442695040888963407;
		j = (random >> 33) % (i + 1);
		job->order[i] = job->order[j];
		job->order[j] = i;
	}
}

/**
 * read_all() - read a word of each page, and see whether it is the image's
 * @job: the worker's
 * @mem: where it is mapped; pages of it may have been written by write_pages()
 */
void read_all(const struct job *job, const char *mem)
{
	const char *end = mem + job->pages * PAGE;
	uint64_t sum = 0;

	for (; mem < end; mem += PAGE)
		sum += *(const volatile uint64_t *)mem;
	expect(sum == job->pages * (job->pages - 1) / 2, "the image's content");
}

/**
 * write_pages() - write to pages, but not to the word that read_all() reads
 * @job: the worker's
 * @mem: where it is mapped
 * @step: write to every how-manieth page
 */
void write_pages(const struct job *job, char *mem, size_t step)
{
	const char *end = mem + job->pages * PAGE;

	for (; mem < end; mem += step * PAGE)
		((volatile uint64_t *)mem)[1] = step;
}
