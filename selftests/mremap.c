// SPDX-License-Identifier: GPL-2.0
/*
 * mremap(): a view can shrink and move, whole or in part, and keeps what it
 * has. It cannot grow, and no page of it can appear at two addresses.
 */
#include "cowpool_test.h"

#define PAGES 1100

FIXTURE(mremap) {
	int fd;
	char *view;
	char *room;	/* reserved addresses, at an odd offset from 2 MiB */
};

FIXTURE_SETUP(mremap)
{
	self->fd = pool_filled(_metadata, PAGES);
	self->view = view_map(_metadata, self->fd, PAGES);
	self->room = mmap(NULL, 2 * PAGES * PAGE, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT_NE(MAP_FAILED, self->room);
	self->room += (uintptr_t)self->room / PAGE % 2 ? 0 : PAGE;
}

FIXTURE_TEARDOWN(mremap)
{
	close(self->fd);
}

static uint64_t expected_tag(size_t page)
{
	return TAG(page % 50 ? 0 : 1, page);
}

static void write_some(char *view)
{
	for (size_t page = 0; page < PAGES; page += 50)
		page_set(page_at(view, page), expected_tag(page));
}

static void expect_pages(struct __test_metadata *_metadata, char *addr,
			 size_t first, size_t pages)
{
	for (size_t page = first; page < first + pages; page++) {
		EXPECT_EQ(expected_tag(page), page_tag(page_at(addr, page - first)))
			TH_LOG("page %zu", page);
	}
}

TEST_F(mremap, moves)
{
	const struct {
		size_t first, pages, to;
	} moves[] = {
		{ 0, PAGES, 0 },	/* all of it */
		{ 0, 600, 3 },
		{ 300, 600, 512 },
		{ 511, 2, 7 },
		{ PAGES - 1, 1, 1 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(moves) * 2; i++) {
		size_t first = moves[i / 2].first, pages = moves[i / 2].pages;
		char *view = view_map(_metadata, self->fd, PAGES), *moved;
		uint64_t id = view_info(_metadata, self->fd, view).view_id;
		uint64_t copies;
		pid_t child;

		write_some(view);
		/* With entries to move, and with none. */
		for (size_t page = 0; i % 2 && page < PAGES; page++)
			page_tag(page_at(view, page));
		copies = view_copies(_metadata, self->fd, view);
		moved = mremap(page_at(view, first), pages * PAGE, pages * PAGE,
			       MREMAP_MAYMOVE | MREMAP_FIXED,
			       page_at(self->room, moves[i / 2].to));
		ASSERT_EQ(page_at(self->room, moves[i / 2].to), (void *)moved);
		EXPECT_EQ(id, view_info(_metadata, self->fd, moved).view_id);
		expect_pages(_metadata, moved, first, pages);
		expect_pages(_metadata, view, 0, first);
		expect_pages(_metadata, page_at(view, first + pages), first + pages,
			     PAGES - first - pages);
		EXPECT_EQ(SIGSEGV, access_byte(page_at(view, first), LOAD));

		/* What was private is written in place. */
		for (size_t page = first; page < first + pages; page++) {
			if (page % 50 == 0)
				page_set(page_at(moved, page - first), expected_tag(page));
		}
		EXPECT_EQ(copies, view_copies(_metadata, self->fd, moved));

		child = child_fork(_metadata);
		if (!child) {
			expect_pages(_metadata, moved, first, pages);
			page_set(moved, TAG(2, first));
			EXPECT_EQ(TAG(2, first), page_tag(moved));
			_exit(0);
		}
		child_join(_metadata, child);
		expect_pages(_metadata, moved, first, pages);
		munmap(view, PAGES * PAGE);
		munmap(moved, pages * PAGE);
	}
}

TEST_F(mremap, shrinks)
{
	const size_t sizes[] = { PAGES - 1, 513, 512, 511, 1 };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		char *view = view_map(_metadata, self->fd, PAGES);

		write_some(view);
		ASSERT_EQ(view, mremap(view, PAGES * PAGE, sizes[i] * PAGE, 0));
		expect_pages(_metadata, view, 0, sizes[i]);
		EXPECT_EQ(SIGSEGV, access_byte(page_at(view, sizes[i]), LOAD));
		munmap(view, sizes[i] * PAGE);
	}
}

/* Each is refused, and leaves the view as it was. */
TEST_F(mremap, refusals)
{
	const size_t size = PAGES * PAGE;
	const struct {
		const char *what;
		size_t old, new;
		int flags, error;
	} rows[] = {
		{ "growing", size, size + PAGE, MREMAP_MAYMOVE, EFAULT },
		{ "growing a lot", size, 1ULL << 40, MREMAP_MAYMOVE, EFAULT },
		{ "a second address", 0, size, MREMAP_MAYMOVE, EFAULT },
		{ "a second address for one page", 0, PAGE, MREMAP_MAYMOVE, EFAULT },
		{ "leaving the old one mapped", size, size,
		  MREMAP_MAYMOVE | MREMAP_DONTUNMAP, EINVAL },
	};
	char *short_one = view_map(_metadata, self->fd, PAGES);

	/* There is room behind it. */
	ASSERT_EQ(short_one, mremap(short_one, size, size - PAGE, 0));
	EXPECT_EQ(MAP_FAILED, mremap(short_one, size - PAGE, size, 0));
	EXPECT_EQ(EFAULT, errno);
	munmap(short_one, size - PAGE);

	write_some(self->view);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		EXPECT_EQ(MAP_FAILED, mremap(self->view, rows[i].old, rows[i].new,
					     rows[i].flags))
			TH_LOG("%s", rows[i].what);
		EXPECT_EQ(rows[i].error, errno) TH_LOG("%s: %s", rows[i].what, strerror(errno));
	}
	expect_pages(_metadata, self->view, 0, PAGES);
	EXPECT_EQ(1, pool_info(_metadata, self->fd).views);
}

/* remap_file_pages() cannot rearrange a view or show other pages of it. */
TEST_F(mremap, remap_file_pages)
{
	write_some(self->view);
	EXPECT_NE(0, syscall(SYS_remap_file_pages, self->view, 2 * PAGE, 0, 4, 0));
	expect_pages(_metadata, self->view, 0, PAGES);
}

TEST_HARNESS_MAIN
