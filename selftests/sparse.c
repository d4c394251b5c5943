// SPDX-License-Identifier: GPL-2.0
/*
 * Pools from one page to a tebibyte: what was never written reads as zeroes
 * and takes no memory.
 */
#include "cowpool_test.h"

FIXTURE(sparse) {
	int fd;
	char *view;
};

FIXTURE_VARIANT(sparse) {
	size_t pages;
};

FIXTURE_VARIANT_ADD(sparse, one_page) { 1 };
FIXTURE_VARIANT_ADD(sparse, three_pages) { 3 };
FIXTURE_VARIANT_ADD(sparse, one_node) { 64 };
FIXTURE_VARIANT_ADD(sparse, one_node_and_a_page) { 65 };
FIXTURE_VARIANT_ADD(sparse, below_2_mib) { 511 };
FIXTURE_VARIANT_ADD(sparse, two_levels) { 64 * 64 };
FIXTURE_VARIANT_ADD(sparse, three_levels) { 64 * 64 + 1 };
FIXTURE_VARIANT_ADD(sparse, odd) { 1234567 };
FIXTURE_VARIANT_ADD(sparse, a_tebibyte) { 1UL << 28 };

FIXTURE_SETUP(sparse)
{
	self->fd = pool_create(_metadata, variant->pages, NULL, 0);
}

FIXTURE_TEARDOWN(sparse)
{
	close(self->fd);
}

/* What the pool is filled with: its last page, and each power of two. */
static bool is_filled(size_t page, size_t pages)
{
	return page == pages - 1 || (page && !(page & (page - 1)));
}

static uint64_t filled_tag(size_t page, size_t pages)
{
	return is_filled(page, pages) ? TAG(0, page) : 0;
}

TEST_F(sparse, holes)
{
	const size_t pages = variant->pages;
	uint64_t frames = stat_value(_metadata, "pool_frames");
	uint64_t private_frames = stat_value(_metadata, "private_frames");
	uint64_t nodes = stat_value(_metadata, "nodes");
	size_t filled = 1, private = 0;
	pid_t child;

	EXPECT_EQ(pages * PAGE, lseek(self->fd, 0, SEEK_END));
	EXPECT_EQ(0, pool_page_tag(_metadata, self->fd, pages - 1));
	EXPECT_EQ(frames, stat_value(_metadata, "pool_frames"));

	pool_fill(_metadata, self->fd, pages - 1, 1);
	for (size_t page = 1; page < pages - 1; page <<= 1) {
		pool_fill(_metadata, self->fd, page, 1);
		filled++;
	}
	EXPECT_EQ(filled, pool_info(_metadata, self->fd).filled_pages);
	frames = stat_value(_metadata, "pool_frames");

	/* Both sides of each page that is filled */
	self->view = view_map(_metadata, self->fd, pages);
	for (size_t bit = 1; bit < 2 * pages; bit <<= 1) {
		for (size_t page = bit - 1; page <= bit + 1 && page < pages; page++) {
			uint64_t expected = filled_tag(page, pages);

			EXPECT_EQ(expected, page_tag(page_at(self->view, page)))
				TH_LOG("page %zu", page);
			EXPECT_EQ(expected, pool_page_tag(_metadata, self->fd, page))
				TH_LOG("page %zu", page);
		}
	}
	EXPECT_EQ(filled_tag(pages - 1, pages), page_tag(page_at(self->view, pages - 1)));
	EXPECT_EQ(frames, stat_value(_metadata, "pool_frames"));
	EXPECT_EQ(private_frames, stat_value(_metadata, "private_frames"));
	EXPECT_EQ(nodes, stat_value(_metadata, "nodes"));

	/* Write at every second power of two, and behind it: a hole mostly. */
	for (size_t bit = 1; bit < pages; bit <<= 2) {
		for (size_t page = bit; page <= bit + 1 && page < pages; page++) {
			*(uint64_t *)page_at(self->view, page) = page;
			private++;
		}
	}
	child = child_fork(_metadata);
	for (size_t bit = 1; bit < pages; bit <<= 2) {
		for (size_t page = bit; page <= bit + 1 && page < pages; page++) {
			uint64_t *words = page_at(self->view, page);
			uint64_t expected = filled_tag(page, pages);

			EXPECT_EQ(page, words[0]);
			EXPECT_EQ(expected ? expected + 511 : 0, words[511]);
			EXPECT_EQ(expected, pool_page_tag(_metadata, self->fd, page));
		}
	}
	if (!child)
		_exit(0);
	child_join(_metadata, child);
	EXPECT_EQ(private, private_pages(_metadata, self->fd, self->view));
	EXPECT_EQ(private_frames + private, stat_value(_metadata, "private_frames"));
	/* A path of at most six nodes each */
	EXPECT_GE(nodes + 6 * private, stat_value(_metadata, "nodes"));
	munmap(self->view, pages * PAGE);
	EXPECT_EQ(private_frames, stat_value(_metadata, "private_frames"));
	EXPECT_EQ(nodes, stat_value(_metadata, "nodes"));
}

FIXTURE(sizes) {
};

FIXTURE_SETUP(sizes)
{
}

FIXTURE_TEARDOWN(sizes)
{
}

static void use_both_ends(struct __test_metadata *_metadata, size_t pages)
{
	int fd = pool_create(_metadata, pages, NULL, 0);
	char *view, *last;
	pid_t child;

	pool_fill(_metadata, fd, pages - 1, 1);
	EXPECT_EQ(1, pool_info(_metadata, fd).filled_pages);
	view = view_map(_metadata, fd, pages);
	last = page_at(view, pages - 1);
	EXPECT_EQ(TAG(0, pages - 1), page_tag(last)) TH_LOG("%zu pages", pages);
	page_set(last, TAG(1, pages - 1));
	page_set(view, TAG(2, 0));
	EXPECT_EQ(pages > 1 ? TAG(1, pages - 1) : TAG(2, 0), page_tag(last));
	child = child_fork(_metadata);
	if (!child) {
		EXPECT_EQ(TAG(2, 0), page_tag(view)) TH_LOG("%zu pages", pages);
		page_set(last, TAG(3, pages - 1));
		_exit(0);
	}
	child_join(_metadata, child);
	EXPECT_EQ(TAG(2, 0), page_tag(view)) TH_LOG("%zu pages", pages);
	EXPECT_EQ(pages > 1 ? TAG(1, pages - 1) : TAG(2, 0), page_tag(last))
		TH_LOG("%zu pages", pages);
	EXPECT_EQ(TAG(0, pages - 1), pool_page_tag(_metadata, fd, pages - 1))
		TH_LOG("%zu pages", pages);
	EXPECT_EQ(pages > 1 ? 2 : 1, private_pages(_metadata, fd, view));
	/* Behind it there is nothing. */
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, pages * PAGE));
	EXPECT_EQ(EINVAL, errno);
	munmap(view, pages * PAGE);
	EXPECT_EQ(-1, pwrite(fd, "", 1, pages * PAGE));
	EXPECT_EQ(ENOSPC, errno);
	close(fd);
}

/* Around each power of two: every shape that an index and a store can have. */
TEST_F(sizes, every_shape)
{
	const size_t most = 1UL << 28;
	uint64_t nodes = stat_value(_metadata, "nodes");

	for (size_t middle = 2; middle <= most; middle <<= 1)
		for (size_t pages = middle - 1; pages <= middle + 1 && pages <= most; pages++)
			use_both_ends(_metadata, pages);
	EXPECT_EQ(nodes, stat_value(_metadata, "nodes"));
}

FIXTURE(holes) {
	int fd;
	char *view;
};

#define HOLES 64

FIXTURE_SETUP(holes)
{
	self->fd = pool_create(_metadata, HOLES, NULL, 0);
	self->view = view_map(_metadata, self->fd, HOLES);
}

FIXTURE_TEARDOWN(holes)
{
	munmap(self->view, HOLES * PAGE);
	close(self->fd);
}

/* So that none of them gets more references than can be counted. */
TEST_F(holes, neighbours_are_different_frames)
{
	uint64_t frames[HOLES];

	for (size_t i = 0; i < HOLES; i++) {
		EXPECT_EQ(0, page_tag(page_at(self->view, i)));
		frames[i] = frame_of(_metadata, page_at(self->view, i));
		EXPECT_NE(0, frames[i]);
		for (size_t k = 0; k < i; k++) {
			EXPECT_NE(frames[k], frames[i])
				TH_LOG("holes %zu and %zu", k, i);
		}
	}
}

TEST_HARNESS_MAIN
