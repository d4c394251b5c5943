// SPDX-License-Identifier: GPL-2.0
/*
 * munmap() of parts of a view: what is left works as before, what is gone is
 * gone with its copies, and the view ends with its last part, whichever that is.
 */
#include "cowpool_test.h"
#include "rounds.h"

#define PAGES 1200	/* 2 MiB entries, and a part of one */

FIXTURE(munmap) {
	int fd;
	char *view;
};

FIXTURE_SETUP(munmap)
{
	self->fd = pool_filled(_metadata, PAGES);
	self->view = view_map(_metadata, self->fd, PAGES);
}

FIXTURE_TEARDOWN(munmap)
{
	munmap(self->view, PAGES * PAGE);
	close(self->fd);
}

/* Every 50th page is written. */
static uint64_t expected_tag(size_t page)
{
	return TAG(page % 50 ? 0 : 1, page);
}

static void write_some(char *view)
{
	for (size_t page = 0; page < PAGES; page += 50)
		page_set(page_at(view, page), expected_tag(page));
}

struct part {
	size_t first, pages;
};

static bool in_part(const struct part *part, size_t page)
{
	return page >= part->first && page < part->first + part->pages;
}

TEST_F(munmap, parts)
{
	const struct part parts[] = {
		{ 0, 1 },			/* head */
		{ PAGES - 1, 1 },		/* tail */
		{ 600, 1 },			/* the middle */
		{ 511, 2 },			/* across two 2 MiB entries */
		{ 512, 512 },			/* a whole one */
		{ 0, 600 },
		{ 100, PAGES - 100 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		const struct part *part = &parts[i];
		char *view = view_map(_metadata, self->fd, PAGES);
		uint64_t views = stat_value(_metadata, "views"), id;

		write_some(view);
		for (size_t page = 0; page < PAGES; page += 7)
			page_tag(page_at(view, page));
		id = view_info(_metadata, self->fd, view).view_id;
		ASSERT_EQ(0, munmap(page_at(view, part->first), part->pages * PAGE));
		EXPECT_EQ(views, stat_value(_metadata, "views"));
		for (size_t page = 0; page < PAGES; page += 25) {
			char *addr = page_at(view, page);

			if (in_part(part, page)) {
				EXPECT_EQ(SIGSEGV, access_byte(addr, LOAD));
				continue;
			}
			EXPECT_EQ(expected_tag(page), page_tag(addr))
				TH_LOG("part %zu, page %zu", i, page);
			EXPECT_EQ(id, view_info(_metadata, self->fd, addr).view_id);
			page_set(addr, TAG(2, page));
			EXPECT_EQ(TAG(2, page), page_tag(addr));
		}
		munmap(view, PAGES * PAGE);
		EXPECT_EQ(views - 1, stat_value(_metadata, "views"));
	}
	for (size_t page = 0; page < PAGES; page++)
		EXPECT_EQ(TAG(0, page), page_tag(page_at(self->view, page)));
}

/* Three parts in every order: the last takes the view and its copies along. */
TEST_F(munmap, last_part_ends_the_view)
{
	const struct part parts[] = { { 0, 300 }, { 300, 500 }, { 800, PAGES - 800 } };
	const size_t orders[][3] = {
		{ 0, 1, 2 }, { 0, 2, 1 }, { 1, 0, 2 }, { 1, 2, 0 }, { 2, 0, 1 }, { 2, 1, 0 },
	};
	uint64_t frames = stat_value(_metadata, "private_frames");
	uint64_t views = stat_value(_metadata, "views");

	for (size_t i = 0; i < ARRAY_SIZE(orders); i++) {
		char *view = view_map(_metadata, self->fd, PAGES);

		write_some(view);
		EXPECT_EQ(frames + PAGES / 50, stat_value(_metadata, "private_frames"));
		for (size_t n = 0; n < 3; n++) {
			const struct part *part = &parts[orders[i][n]];

			EXPECT_EQ(views + 1, stat_value(_metadata, "views"));
			ASSERT_EQ(0, munmap(page_at(view, part->first), part->pages * PAGE));
		}
		EXPECT_EQ(views, stat_value(_metadata, "views"));
		EXPECT_EQ(frames, stat_value(_metadata, "private_frames"));
	}
}

/* A new view where the old one was knows nothing of it. */
TEST_F(munmap, mapping_over)
{
	const size_t first = 500, pages = 100;
	char *addr = page_at(self->view, first), *over;
	uint64_t id = view_info(_metadata, self->fd, self->view).view_id;

	write_some(self->view);
	over = mmap(addr, pages * PAGE, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_FIXED, self->fd, first * PAGE);
	ASSERT_EQ(addr, over);
	EXPECT_NE(id, view_info(_metadata, self->fd, over).view_id);
	EXPECT_EQ(0, private_pages(_metadata, self->fd, over));
	for (size_t page = 0; page < PAGES; page += 25) {
		EXPECT_EQ(page >= first && page < first + pages ?
			  TAG(0, page) : expected_tag(page),
			  page_tag(page_at(self->view, page)));
	}
	page_set(over, TAG(3, first));
	EXPECT_EQ(TAG(3, first), page_tag(over));
	EXPECT_EQ(1, private_pages(_metadata, self->fd, over));
}

/* The copies of a part go with it, and no others; mremap() takes them along. */
TEST_F(munmap, copies_of_a_part)
{
	uint64_t frames = stat_value(_metadata, "private_frames");
	char *view = self->view, *moved;

	for (size_t page = 0; page < PAGES; page++)
		page_set(page_at(view, page), TAG(1, page));
	ASSERT_EQ(0, munmap(page_at(view, 100), 600 * PAGE));
	EXPECT_EQ(PAGES - 600, private_pages(_metadata, self->fd, view));
	EXPECT_EQ(frames + PAGES - 600, stat_value(_metadata, "private_frames"));
	for (size_t page = 0; page < PAGES; page++)
		if (page < 100 || page >= 700)
			EXPECT_EQ(TAG(1, page), page_tag(page_at(view, page)));

	/* The hole is where there is room. */
	moved = mremap(page_at(view, 800), 200 * PAGE, 200 * PAGE,
		       MREMAP_MAYMOVE | MREMAP_FIXED, page_at(view, 300));
	ASSERT_EQ(page_at(view, 300), moved);
	EXPECT_EQ(PAGES - 600, private_pages(_metadata, self->fd, view));
	for (size_t page = 0; page < 200; page++)
		EXPECT_EQ(TAG(1, 800 + page), page_tag(page_at(moved, page)));
	ASSERT_EQ(0, munmap(moved, 50 * PAGE));
	EXPECT_EQ(PAGES - 650, private_pages(_metadata, self->fd, view));
	for (size_t page = 50; page < 200; page++)
		EXPECT_EQ(TAG(1, 800 + page), page_tag(page_at(moved, page)));
	for (size_t page = 1000; page < PAGES; page++)
		EXPECT_EQ(TAG(1, page), page_tag(page_at(view, page)));
	EXPECT_EQ(frames + PAGES - 650, stat_value(_metadata, "private_frames"));
}

/* The child's parts are no business of the parent's. */
TEST_F(munmap, in_a_child)
{
	pid_t child;

	write_some(self->view);
	child = child_fork(_metadata);
	if (!child) {
		ASSERT_EQ(0, munmap(page_at(self->view, 50), 700 * PAGE));
		EXPECT_EQ(TAG(1, 0), page_tag(self->view));
		EXPECT_EQ(TAG(1, 1000), page_tag(page_at(self->view, 1000)));
		page_set(page_at(self->view, 1000), TAG(2, 1000));
		_exit(0);
	}
	child_join(_metadata, child);
	for (size_t page = 0; page < PAGES; page += 25)
		EXPECT_EQ(expected_tag(page), page_tag(page_at(self->view, page)));
}

/*
 * Very many parts, most of which go in one call. It takes no time to speak of; if each
 * were looked for among the others, it would have no end.
 * So too after one has moved.
 */
TEST_F_TIMEOUT(munmap, many_parts, test_timeout() / 3)
{
	const size_t parts = 24000 / one_in() / 200 * 200, half = parts / 2, last = parts - 1;
	int fd = pool_create(_metadata, parts, NULL, 0);
	char *view = view_map(_metadata, fd, parts);
	char *room = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (size_t page = 99; page < parts; page += 100)
		page_set(page_at(view, page), TAG(1, page));
	ASSERT_NE(MAP_FAILED, room);
	ASSERT_EQ(room, mremap(page_at(view, last), PAGE, PAGE,
			       MREMAP_MAYMOVE | MREMAP_FIXED, room));
	for (size_t page = 0; page < last; page += 2) {
		ASSERT_EQ(0, mprotect(page_at(view, page), PAGE, PROT_READ))
			TH_LOG("page %zu: %s", page, strerror(errno));
	}
	ASSERT_EQ(0, munmap(view, half * PAGE));
	EXPECT_EQ(half / 100, private_pages(_metadata, fd, room));
	for (size_t page = half + 99; page < last; page += 100)
		EXPECT_EQ(TAG(1, page), page_tag(page_at(view, page)));
	/* Another mapping takes their place. */
	ASSERT_EQ(page_at(view, half),
		  mmap(page_at(view, half), (last - half) * PAGE, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	EXPECT_EQ(1, private_pages(_metadata, fd, room));
	EXPECT_EQ(TAG(1, last), page_tag(room));
	munmap(room, PAGE);
	munmap(view, parts * PAGE);
	close(fd);
}

TEST_HARNESS_MAIN
