// SPDX-License-Identifier: GPL-2.0
/*
 * DIRTY: which pages a view has of its own, or which of them differ in
 * content, as ranges, with a cursor.
 */
#include "snapshot.h"

#include <limits.h>

#define PAGES 5000	/* three levels of nodes */

FIXTURE(dirty) {
	int fd;
	char *view;
	bool *dirty;
};

FIXTURE_SETUP(dirty)
{
	self->fd = pool_create(_metadata, PAGES, NULL, 0);
	/* All other pages were never written. */
	pool_fill(_metadata, self->fd, 0, 70);
	self->view = view_map(_metadata, self->fd, PAGES);
	self->dirty = calloc(PAGES, 1);
}

FIXTURE_TEARDOWN(dirty)
{
	free(self->dirty);
	munmap(self->view, PAGES * PAGE);
	close(self->fd);
}

/* Ranges as pages from @view on, in a form that can be compared. */
static void expect_ranges(struct __test_metadata *_metadata,
			  const struct cowpool_range *got, int nr, char *view,
			  const size_t (*expected)[2], int nr_expected)
{
	ASSERT_EQ(nr_expected, nr);
	for (int i = 0; i < nr; i++) {
		EXPECT_EQ((uintptr_t)page_at(view, expected[i][0]), got[i].start);
		EXPECT_EQ((uintptr_t)page_at(view, expected[i][1]), got[i].end);
	}
}

#define EXPECT_RANGES(ranges, nr, ...) do { \
	const size_t wanted[][2] = { __VA_ARGS__ }; \
	expect_ranges(_metadata, ranges, nr, self->view, wanted, \
		      ARRAY_SIZE(wanted)); \
} while (0)

TEST_F(dirty, nothing)
{
	struct cowpool_range range;
	size_t next;

	EXPECT_EQ(0, dirty_try(self->fd, self->view, PAGES, 0, &range, 1, &next));
	EXPECT_EQ(PAGES, next);
	/* Reading does not count. */
	EXPECT_EQ(0, page_tag(page_at(self->view, 100)));
	EXPECT_EQ(0, dirty_try(self->fd, self->view, PAGES, 0, &range, 1, &next));
	EXPECT_EQ(PAGES, next);
	EXPECT_EQ(0, dirty_try(self->fd, page_at(self->view, 9), 1,
			       COWPOOL_DIRTY_CONTENT, &range, 1, &next));
	EXPECT_EQ(1, next);
}

/* Neighbours are joined, across nodes too. */
TEST_F(dirty, ranges)
{
	static const size_t pages[] = {
		0, 3, 4, 5, 63, 64, 127, 129, 4095, 4096, 4097, PAGES - 1,
	};
	struct cowpool_range ranges[16];
	size_t next;
	int nr;

	for (size_t i = 0; i < ARRAY_SIZE(pages); i++)
		page_set(page_at(self->view, pages[i]), TAG(1, pages[i]));
	nr = dirty_try(self->fd, self->view, PAGES, 0, ranges, 16, &next);
	EXPECT_EQ(PAGES, next);
	EXPECT_RANGES(ranges, nr, { 0, 1 }, { 3, 6 }, { 63, 65 }, { 127, 128 },
		      { 129, 130 }, { 4095, 4098 }, { PAGES - 1, PAGES });

	/* What is asked for cuts them. */
	nr = dirty_try(self->fd, page_at(self->view, 4), 60, 0, ranges, 16, &next);
	EXPECT_EQ(60, next);
	EXPECT_RANGES(ranges, nr, { 4, 6 }, { 63, 64 });
	nr = dirty_try(self->fd, page_at(self->view, 4096), 1, 0, ranges, 16, &next);
	EXPECT_RANGES(ranges, nr, { 4096, 4097 });
}

/* A small buffer serves a large view. */
TEST_F(dirty, cursor)
{
	static const unsigned int sizes[] = { 1, 2, 63, 64, 65, 1000 };
	struct cowpool_range ranges[2];
	size_t next;
	int nr;

	for (size_t page = 0; page < PAGES; page += 3)
		*(char *)page_at(self->view, page) = 1;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		dirty_map(_metadata, self->fd, self->view, PAGES, 0, sizes[i],
			  self->dirty);
		for (size_t page = 0; page < PAGES; page++)
			EXPECT_EQ(page % 3 == 0, self->dirty[page]);
	}
	/* Full: on with the next that is dirty. No more of them: to the end. */
	nr = dirty_try(self->fd, self->view, 100, 0, ranges, 2, &next);
	EXPECT_RANGES(ranges, nr, { 0, 1 }, { 3, 4 });
	EXPECT_EQ(6, next);
	nr = dirty_try(self->fd, self->view, 6, 0, ranges, 2, &next);
	EXPECT_RANGES(ranges, nr, { 0, 1 }, { 3, 4 });
	EXPECT_EQ(6, next);
	nr = dirty_try(self->fd, self->view, 5, 0, ranges, 2, &next);
	EXPECT_RANGES(ranges, nr, { 0, 1 }, { 3, 4 });
	EXPECT_EQ(5, next);
}

/* Longer than what the kernel looks at in one go, and yet one range. */
TEST_F(dirty, long_runs)
{
	struct cowpool_range ranges[4];
	size_t next;
	int nr;

	for (size_t page = 100; page < 3000; page++)
		*(char *)page_at(self->view, page) = page != 2500;
	nr = dirty_try(self->fd, self->view, PAGES, 0, ranges, 1, &next);
	EXPECT_EQ(PAGES, next);
	EXPECT_RANGES(ranges, nr, { 100, 3000 });
	nr = dirty_try(self->fd, self->view, PAGES, COWPOOL_DIRTY_CONTENT, ranges,
		       2, &next);
	EXPECT_EQ(PAGES, next);
	EXPECT_RANGES(ranges, nr, { 100, 2500 }, { 2501, 3000 });
	nr = dirty_try(self->fd, self->view, PAGES, COWPOOL_DIRTY_CONTENT, ranges,
		       1, &next);
	EXPECT_EQ(2501, next);
	EXPECT_RANGES(ranges, nr, { 100, 2500 });
}

TEST_F(dirty, content)
{
	char *page = page_at(self->view, 5), *zero = page_at(self->view, 900);
	struct cowpool_range ranges[4];
	size_t next;
	int nr;

	page_set(page, TAG(0, 5));	/* the same as before */
	memset(zero, 0, PAGE);
	nr = dirty_try(self->fd, self->view, PAGES, 0, ranges, 4, &next);
	EXPECT_RANGES(ranges, nr, { 5, 6 }, { 900, 901 });
	EXPECT_EQ(0, dirty_try(self->fd, self->view, PAGES, COWPOOL_DIRTY_CONTENT,
			       ranges, 4, &next));
	EXPECT_EQ(PAGES, next);

	/* One byte is enough, the first and the last too. */
	page[0] ^= 1;
	zero[PAGE - 1] = 1;
	nr = dirty_try(self->fd, self->view, PAGES, COWPOOL_DIRTY_CONTENT, ranges,
		       4, &next);
	EXPECT_RANGES(ranges, nr, { 5, 6 }, { 900, 901 });
	page[0] ^= 1;
	nr = dirty_try(self->fd, self->view, PAGES, COWPOOL_DIRTY_CONTENT, ranges,
		       4, &next);
	EXPECT_RANGES(ranges, nr, { 900, 901 });
	/* It only looked. */
	EXPECT_EQ(2, private_pages(_metadata, self->fd, self->view));
}

/* Thousands of pages with the same content, and one without at the end. */
TEST_F(dirty, mostly_the_same)
{
	struct cowpool_range range;
	size_t next;

	for (size_t page = 0; page < PAGES; page++) {
		volatile uint64_t *word = page_at(self->view, page);

		*word = *word;
	}
	*(char *)page_at(self->view, 4800) = 1;
	EXPECT_EQ(PAGES, dirty_count(_metadata, self->fd, self->view, PAGES, 0));
	EXPECT_EQ(1, dirty_try(self->fd, self->view, PAGES, COWPOOL_DIRTY_CONTENT,
			       &range, 1, &next));
	EXPECT_EQ(PAGES, next);
	EXPECT_EQ((uintptr_t)page_at(self->view, 4800), range.start);
	EXPECT_EQ(PAGE, range.end - range.start);
}

/* It is relative to the view's pool: for a view of a snapshot, the snapshot. */
TEST_F(dirty, relatives)
{
	struct cowpool_range ranges[4];
	size_t next;
	pid_t child;
	char *copy;
	int nr, snapshot;

	page_set(page_at(self->view, 1), TAG(1, 1));
	page_set(page_at(self->view, 64), TAG(1, 64));
	snapshot = snapshot_take(_metadata, self->fd, self->view);
	nr = dirty_try(self->fd, self->view, PAGES, 0, ranges, 4, &next);
	EXPECT_RANGES(ranges, nr, { 1, 2 }, { 64, 65 });

	copy = view_map(_metadata, snapshot, PAGES);
	EXPECT_EQ(0, dirty_try(self->fd, copy, PAGES, 0, ranges, 4, &next));
	page_set(page_at(copy, 64), TAG(1, 64));
	page_set(page_at(copy, 66), TAG(1, 66));
	EXPECT_EQ(2, dirty_count(_metadata, self->fd, copy, PAGES, 0));
	EXPECT_EQ(1, dirty_count(_metadata, self->fd, copy, PAGES,
				 COWPOOL_DIRTY_CONTENT));
	munmap(copy, PAGES * PAGE);
	close(snapshot);

	child = child_fork(_metadata);
	if (!child) {
		page_set(page_at(self->view, 2), TAG(2, 2));
		nr = dirty_try(self->fd, self->view, PAGES, 0, ranges, 4, &next);
		EXPECT_RANGES(ranges, nr, { 1, 3 }, { 64, 65 });
		_exit(0);
	}
	child_join(_metadata, child);
	nr = dirty_try(self->fd, self->view, PAGES, 0, ranges, 4, &next);
	EXPECT_RANGES(ranges, nr, { 1, 2 }, { 64, 65 });
}

/* What it is for: carry a view's content over to another one. */
TEST_F(dirty, delta)
{
	uint64_t buffer[PAGE / sizeof(uint64_t)];
	char *other = view_map(_metadata, self->fd, PAGES);
	int snapshot;

	for (size_t page = 0; page < PAGES; page += 1 + page % 23)
		page_set(page_at(self->view, page), TAG(page % 2, page));
	dirty_map(_metadata, self->fd, self->view, PAGES, COWPOOL_DIRTY_CONTENT, 7,
		  self->dirty);
	snapshot = snapshot_take(_metadata, self->fd, self->view);
	for (size_t page = 0; page < PAGES; page++) {
		if (!self->dirty[page])
			continue;
		ASSERT_EQ((ssize_t)PAGE, pread(snapshot, buffer, PAGE, page * PAGE));
		memcpy(page_at(other, page), buffer, PAGE);
	}
	EXPECT_EQ(0, memcmp(self->view, other, PAGES * PAGE));
	munmap(other, PAGES * PAGE);
	close(snapshot);
}

TEST_F(dirty, split_view)
{
	struct cowpool_range ranges[4];
	size_t next;
	int nr;

	for (size_t page = 10; page < 50; page++)
		page_set(page_at(self->view, page), TAG(1, page));
	ASSERT_EQ(0, mprotect(page_at(self->view, 20), 10 * PAGE, PROT_NONE));
	ASSERT_EQ(0, mprotect(page_at(self->view, 30), 10 * PAGE, PROT_READ));
	nr = dirty_try(self->fd, self->view, PAGES, 0, ranges, 4, &next);
	EXPECT_RANGES(ranges, nr, { 10, 50 });
	EXPECT_EQ(PAGES, next);
	ASSERT_EQ(0, munmap(page_at(self->view, 45), PAGE));
	errno = 0;
	EXPECT_EQ(-1, dirty_try(self->fd, self->view, PAGES, 0, ranges, 4, NULL));
	EXPECT_EQ(ENOENT, errno);
	nr = dirty_try(self->fd, self->view, 45, 0, ranges, 4, &next);
	EXPECT_RANGES(ranges, nr, { 10, 45 });
	nr = dirty_try(self->fd, page_at(self->view, 46), PAGES - 46, 0, ranges, 4, &next);
	EXPECT_RANGES(ranges, nr, { 46, 50 });
}

TEST_F(dirty, bad_input)
{
	struct cowpool_range range;
	char *private = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, self->fd, 0);
	const struct cowpool_dirty good = {
		.addr = (uintptr_t)self->view,
		.len = PAGES * PAGE,
		.ranges = (uintptr_t)&range,
		.nr_ranges = 1,
	};
	struct {
		struct cowpool_dirty arg;
		int error;
	} rows[] = {
		{ good, EINVAL }, { good, EINVAL }, { good, EINVAL }, { good, EINVAL },
		{ good, EINVAL }, { good, EINVAL }, { good, EINVAL }, { good, EINVAL },
		{ good, ENOENT }, { good, ENOENT }, { good, ENOENT }, { good, EFAULT },
	};

	ASSERT_NE(MAP_FAILED, private);
	page_set(self->view, TAG(1, 0));
	rows[0].arg.addr++;
	rows[1].arg.len++;
	rows[2].arg.len = 0;
	rows[3].arg.len = -PAGE;
	rows[4].arg.nr_ranges = 0;
	rows[5].arg.nr_ranges = 1U + INT_MAX;
	rows[6].arg.flags = 2;
	rows[7].arg.reserved = 1;
	rows[8].arg.len += PAGE;
	rows[9].arg.addr = (uintptr_t)private;
	rows[9].arg.len = PAGE;
	rows[10].arg.addr = 0;
	rows[11].arg.ranges = 1;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		errno = 0;
		EXPECT_EQ(-1, ioctl(self->fd, COWPOOL_IOC_DIRTY, &rows[i].arg));
		EXPECT_EQ(rows[i].error, errno) TH_LOG("row %zu", i);
	}
	errno = 0;
	EXPECT_EQ(-1, ioctl(self->fd, COWPOOL_IOC_DIRTY, NULL));
	EXPECT_EQ(EFAULT, errno);
	munmap(private, PAGE);
}

struct writer {
	atomic_bool stop;
	atomic_uint passes;	/* over all pages */
	char *view;
};

static void *write_on(void *arg)
{
	struct writer *writer = arg;

	while (!writer->stop) {
		for (size_t page = 0; page < PAGES; page += 2)
			*(volatile char *)page_at(writer->view, page) = 1;
		writer->passes++;
	}
	return NULL;
}

static void writer_goes_on(struct writer *writer, unsigned int passes)
{
	passes += writer->passes;
	while ((int)(writer->passes - passes) < 0)
		sched_yield();
}

/* While a thread dirties pages: never one that it does not write, and all that it has. */
TEST_F(dirty, while_written)
{
	struct writer writer = { .view = self->view };
	pthread_t thread;

	ASSERT_EQ(0, pthread_create(&thread, NULL, write_on, &writer));
	for (int i = 0; i < 20; i++) {
		dirty_map(_metadata, self->fd, self->view, PAGES,
			  i % 2 ? COWPOOL_DIRTY_CONTENT : 0, 100, self->dirty);
		for (size_t page = 1; page < PAGES; page += 2)
			EXPECT_FALSE(self->dirty[page]);
		if (i % 5 == 4)
			EXPECT_LE(0, reset_try(self->fd, self->view, PAGES, 0));
		/* One pass may have begun before. */
		writer_goes_on(&writer, 2);
		dirty_map(_metadata, self->fd, self->view, PAGES, 0, 100, self->dirty);
		for (size_t page = 0; page < PAGES; page++)
			EXPECT_EQ(page % 2 == 0, self->dirty[page]);
	}
	writer.stop = true;
	pthread_join(thread, NULL);
}

TEST_HARNESS_MAIN
