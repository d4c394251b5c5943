// SPDX-License-Identifier: GPL-2.0
/*
 * What memory held before it became the module's is never seen: not in the
 * rest of a page that was written in part, nor of a large folio, nor of a
 * private page, nor in what ioctls return.
 *
 * Free memory is made dirty first, unless the kernel does it (page_poison=1). That
 * tells something only where the kernel does not clear all memory that it allocates
 * (init_on_alloc=0).
 */
#include "snapshot.h"

#include <stddef.h>

#define PAST	0xfadedfadedfadedfULL

FIXTURE(fresh) {
	int fd;
	size_t pages;
};

FIXTURE_VARIANT(fresh) {
	size_t pages;
};

FIXTURE_VARIANT_ADD(fresh, one_page) { 1 };
FIXTURE_VARIANT_ADD(fresh, small_folios) { 15 };
FIXTURE_VARIANT_ADD(fresh, below_2_mib) { 511 };
FIXTURE_VARIANT_ADD(fresh, one_2_mib_folio) { 512 };
FIXTURE_VARIANT_ADD(fresh, folios_of_all_sizes) { 1023 };
FIXTURE_VARIANT_ADD(fresh, several_2_mib_folios) { 2048 };

/*
 * Free memory holds the past now, in small pages and in large ones: several times
 * as much as a test of @pages pages allocates, and that is what it gets first.
 */
static void dirty_free_memory(struct __test_metadata *_metadata, size_t pages)
{
	const size_t size = (4 << 20) + 4 * pages * PAGE;
	FILE *file = fopen("/proc/cmdline", "r");
	char parameters[4096] = "";

	ASSERT_NE(NULL, file);
	ASSERT_NE(NULL, fgets(parameters, sizeof(parameters), file));
	fclose(file);
	if (strstr(parameters, "page_poison=1"))
		return;
	for (int advice = MADV_HUGEPAGE; advice <= MADV_NOHUGEPAGE; advice++) {
		uint64_t *words = mmap(NULL, size, PROT_READ | PROT_WRITE,
				       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		ASSERT_NE(MAP_FAILED, (void *)words);
		madvise(words, size, advice);
		for (size_t i = 0; i < size / sizeof(*words); i++)
			words[i] = PAST;
		munmap(words, size);
	}
}

FIXTURE_SETUP(fresh)
{
	dirty_free_memory(_metadata, variant->pages);
	self->pages = variant->pages;
	self->fd = pool_create(_metadata, self->pages, NULL, 0);
}

FIXTURE_TEARDOWN(fresh)
{
	close(self->fd);
}

/* Every byte is 0, but for those of @marks pages that hold one 'x' at @offset. */
static void expect_marks(struct __test_metadata *_metadata, const char *content,
			 size_t pages, size_t every, size_t offset)
{
	for (size_t page = 0; page < pages; page++) {
		const char *bytes = content + page * PAGE;

		for (size_t i = 0; i < PAGE; i += sizeof(uint64_t)) {
			uint64_t word;

			memcpy(&word, bytes + i, sizeof(word));
			if (!(page % every) && offset / 8 == i / 8)
				word ^= (uint64_t)'x' << offset % 8 * 8;
			if (word) {
				EXPECT_EQ(0, word) TH_LOG("page %zu, byte %zu", page, i);
				return;
			}
		}
	}
}

/* However it is looked at. */
TEST_F(fresh, pool_written_in_parts)
{
	const size_t every = 7, offset = 1234, size = self->pages * PAGE;
	char *buffer = malloc(size), *view;
	int snapshot;

	for (size_t page = 0; page < self->pages; page += every)
		ASSERT_EQ(1, pwrite(self->fd, "x", 1, page * PAGE + offset));
	ASSERT_EQ((ssize_t)size, pread(self->fd, buffer, size, 0));
	expect_marks(_metadata, buffer, self->pages, every, offset);

	view = view_map(_metadata, self->fd, self->pages);
	expect_marks(_metadata, view, self->pages, every, offset);
	snapshot = snapshot_take(_metadata, self->fd, view);
	munmap(view, size);
	ASSERT_EQ((ssize_t)size, pread(snapshot, buffer, size, 0));
	expect_marks(_metadata, buffer, self->pages, every, offset);
	close(snapshot);

	view = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, self->fd, 0);
	ASSERT_NE(MAP_FAILED, view);
	expect_marks(_metadata, view, self->pages, every, offset);
	munmap(view, size);
	free(buffer);
}

/* A source that ends in the middle of a page. */
TEST_F(fresh, write_that_fails_halfway)
{
	char *source = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *buffer = malloc(self->pages * PAGE);

	ASSERT_NE(MAP_FAILED, source);
	ASSERT_EQ(0, munmap(source + PAGE, PAGE));
	source[PAGE - 1] = 'x';
	EXPECT_EQ(100, pwrite(self->fd, source + PAGE - 100, self->pages * PAGE, 0));
	EXPECT_EQ(-1, pwrite(self->fd, source + PAGE, 1, (self->pages - 1) * PAGE));
	EXPECT_EQ(EFAULT, errno);
	ASSERT_EQ((ssize_t)(self->pages * PAGE),
		  pread(self->fd, buffer, self->pages * PAGE, 0));
	expect_marks(_metadata, buffer, self->pages, self->pages, 99);
	munmap(source, PAGE);
	free(buffer);
}

/* Copies of what was never filled, in a view, its child and its snapshot. */
TEST_F(fresh, private_pages)
{
	const size_t every = 3, offset = 77, size = self->pages * PAGE;
	char *view = view_map(_metadata, self->fd, self->pages);
	char *buffer = malloc(size);
	int snapshot;
	pid_t child;

	for (size_t page = 0; page < self->pages; page += every)
		*(volatile char *)(view + page * PAGE + offset) = 'x';
	expect_marks(_metadata, view, self->pages, every, offset);
	child = child_fork(_metadata);
	if (!child) {
		for (size_t page = 0; page < self->pages; page++)
			*(volatile char *)(view + page * PAGE + 8) = 0;
		expect_marks(_metadata, view, self->pages, every, offset);
		_exit(0);
	}
	child_join(_metadata, child);
	snapshot = snapshot_take(_metadata, self->fd, view);
	ASSERT_EQ((ssize_t)size, pread(snapshot, buffer, size, 0));
	expect_marks(_metadata, buffer, self->pages, every, offset);
	close(snapshot);
	munmap(view, size);
	free(buffer);
}

/* What INFO returns is all from the description of the pool. */
TEST_F(fresh, info)
{
	struct cowpool_create create = { .size = PAGE, .name = "x" };
	struct cowpool_info info = {}, expected = { .size = PAGE, .page_size = PAGE, .name = "x" };
	int fd = device_open(_metadata);

	ASSERT_EQ(0, ioctl(fd, COWPOOL_IOC_CREATE, &create));
	/* The ioctl does not read it. */
	memset(&info.state, 0xff, offsetof(struct cowpool_info, reserved) -
				  offsetof(struct cowpool_info, state));
	ASSERT_EQ(0, ioctl(fd, COWPOOL_IOC_INFO, &info));
	expected.pool_id = info.pool_id;
	EXPECT_EQ(0, memcmp(&expected, &info, sizeof(info)));
	EXPECT_EQ(0, ioctl(fd, COWPOOL_IOC_DESTROY));
	close(fd);
}

TEST_HARNESS_MAIN
