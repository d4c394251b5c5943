// SPDX-License-Identifier: GPL-2.0
/*
 * What kcov tells: the places of the module that a task came by.
 *
 * kcov has a device for each task. Those of a sequence take one after the other
 * of a few that were opened beforehand; who finds none left goes without. The
 * module alone is instrumented, but for nothing else to be taken for it, only
 * addresses in it count.
 *
 * New is what was never reached before, and what was never reached directly
 * after the place before it.
 */
#include "fuzz.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/kcov.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define DEVICES		6
#define WORDS		(1UL << 15)
#define STEPS		(1UL << 18)

static struct device {
	int fd;
	volatile uint64_t *area;	/* [0]: how many follow */
} devices[DEVICES];

static uint64_t text, text_size;
static uint8_t *reached, *steps;
static unsigned int nr_reached;
static __thread int mine = -1;

static uint64_t number_in(const char *path, int base)
{
	char line[32] = {};
	FILE *file = fopen(path, "r");

	if (!file || !fgets(line, sizeof(line), file))
		die(path);
	fclose(file);
	return strtoull(line, NULL, base);
}

static bool device_open(struct device *device)
{
	device->fd = open("/sys/kernel/debug/kcov", O_RDWR | O_CLOEXEC);
	if (device->fd < 0)
		return false;
	device->fd = own_fd(device->fd);
	if (ioctl(device->fd, KCOV_INIT_TRACE, WORDS))
		die("KCOV_INIT_TRACE");
	return true;
}

/**
 * cover_setup() - get ready, as root
 *
 * Return: false if the kernel cannot do it.
 */
bool cover_setup(void)
{
	for (size_t i = 0; i < DEVICES; i++)
		if (!device_open(&devices[i]))
			return false;
	text = number_in("/sys/module/cowpool/sections/.text", 16);
	text_size = number_in("/sys/module/cowpool/coresize", 10);
	return true;
}

/**
 * cover_map() - get ready, as the worker
 */
void cover_map(void)
{
	for (size_t i = 0; i < DEVICES; i++)
		devices[i].area = worker_memory(WORDS * sizeof(uint64_t), devices[i].fd);
	reached = worker_memory(text_size, -1);
	steps = worker_memory(STEPS, -1);
}

/**
 * cover_reset() - forget all, before a sequence
 */
void cover_reset(void)
{
	for (size_t i = 0; i < DEVICES; i++)
		devices[i].area[0] = 0;
	shared->covers = 0;
}

/**
 * cover_begin() - from here on the calling task is watched
 *
 * It may have inherited a device from another one, which it then has no more.
 */
void cover_begin(void)
{
	unsigned int n = atomic_fetch_add(&shared->covers, 1);

	mine = -1;
	if (n < DEVICES && !ioctl(devices[n].fd, KCOV_ENABLE, KCOV_TRACE_PC))
		mine = n;
}

/**
 * cover_end() - undo cover_begin()
 */
void cover_end(void)
{
	if (mine >= 0)
		ioctl(devices[mine].fd, KCOV_DISABLE, 0);
	mine = -1;
}

/**
 * cover_collect() - see what a sequence has reached
 *
 * Return: true if some of it is new.
 */
bool cover_collect(void)
{
	bool new = false;

	for (size_t i = 0; i < DEVICES; i++) {
		uint64_t nr = devices[i].area[0], last = 0;

		for (uint64_t j = 1; j <= nr && j < WORDS; j++) {
			uint64_t at = devices[i].area[j] - text;
			uint64_t step = (last * 31 + at) % STEPS;

			if (at >= text_size)
				continue;
			if (!reached[at]) {
				reached[at] = 1;
				nr_reached++;
				new = true;
			}
			if (!steps[step]) {
				steps[step] = 1;
				new = true;
			}
			last = at;
		}
	}
	return new;
}

/**
 * cover_reached() - tell how many places were reached until now
 */
unsigned int cover_reached(void)
{
	return nr_reached;
}

/**
 * cover_save() - write down which places were reached
 * @fd: where to. A line for each, with the offset in the module's code at which
 *	objdump shows the call of kcov; that returns four bytes behind it
 */
void cover_save(int fd)
{
	FILE *file = fdopen(fd, "w");

	if (!file)
		die("fdopen");
	for (uint64_t at = 0; at < text_size; at++)
		if (reached[at])
			fprintf(file, "%" PRIx64 "\n", at - 4);
	fclose(file);
}
