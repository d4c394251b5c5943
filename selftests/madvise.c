// SPDX-License-Identifier: GPL-2.0
/*
 * madvise(): advice may be taken or refused, but it never changes what a view
 * holds or who shares it. MADV_DONTNEED takes only the entries away.
 */
#include "cowpool_test.h"

/* What the C library's headers may lack */
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif

#define PAGES 1100

static const struct advice {
	const char *name;
	int value;
	int refusal;		/* errno, 0 if taken, -1 if that is the kernel's business */
} advices[] = {
	{ "NORMAL", MADV_NORMAL, 0 },
	{ "RANDOM", MADV_RANDOM, 0 },
	{ "SEQUENTIAL", MADV_SEQUENTIAL, 0 },
	{ "WILLNEED", MADV_WILLNEED, 0 },
	{ "DONTNEED", MADV_DONTNEED, 0 },
	{ "DONTNEED_LOCKED", MADV_DONTNEED_LOCKED, 0 },
	{ "COLD", MADV_COLD, 0 },
	{ "PAGEOUT", MADV_PAGEOUT, 0 },
	{ "HUGEPAGE", MADV_HUGEPAGE, 0 },
	{ "NOHUGEPAGE", MADV_NOHUGEPAGE, 0 },
	{ "COLLAPSE", MADV_COLLAPSE, -1 },
	{ "MERGEABLE", MADV_MERGEABLE, -1 },
	{ "UNMERGEABLE", MADV_UNMERGEABLE, -1 },
	{ "DONTDUMP", MADV_DONTDUMP, 0 },
	{ "DODUMP", MADV_DODUMP, -1 },
	{ "POPULATE_READ", MADV_POPULATE_READ, 0 },
	/* What would throw content away is refused. */
	{ "FREE", MADV_FREE, EINVAL },
	{ "REMOVE", MADV_REMOVE, ENODEV },
	{ "WIPEONFORK", MADV_WIPEONFORK, EINVAL },
};

FIXTURE(madvise) {
	int fd;
	char *other;	/* a second view, with entries for everything */
};

FIXTURE_VARIANT(madvise) {
	size_t first, pages;
};

FIXTURE_VARIANT_ADD(madvise, all) { 0, PAGES };
FIXTURE_VARIANT_ADD(madvise, part_of_a_large_entry) { 10, 20 };
FIXTURE_VARIANT_ADD(madvise, across_large_entries) { 500, 100 };
FIXTURE_VARIANT_ADD(madvise, a_page) { 600, 1 };

FIXTURE_SETUP(madvise)
{
	self->fd = pool_filled(_metadata, PAGES);
	self->other = view_map(_metadata, self->fd, PAGES);
	for (size_t page = 0; page < PAGES; page++)
		page_tag(page_at(self->other, page));
}

FIXTURE_TEARDOWN(madvise)
{
	munmap(self->other, PAGES * PAGE);
	close(self->fd);
}

/* The view of a parent that has written every 100th page. */
static void expect_pages(struct __test_metadata *_metadata, char *view,
			 int writer, const char *name)
{
	for (size_t page = 0; page < PAGES; page += 25) {
		EXPECT_EQ(TAG(page % 100 ? 0 : writer, page), page_tag(page_at(view, page)))
			TH_LOG("%s, page %zu", name, page);
	}
}

TEST_F(madvise, changes_nothing)
{
	for (size_t i = 0; i < ARRAY_SIZE(advices); i++) {
		const struct advice *advice = &advices[i];
		char *view = view_map(_metadata, self->fd, PAGES);
		struct cowpool_counters before, after;
		pid_t child;
		int ret;

		/* Mapped by large entries, private pages, and a part untouched. */
		page_tag(page_at(view, 600));
		for (size_t page = 0; page < PAGES; page += 100)
			page_set(page_at(view, page), TAG(1, page));
		before = view_info(_metadata, self->fd, view).counters;

		errno = 0;
		ret = madvise(page_at(view, variant->first), variant->pages * PAGE,
			      advice->value);
		if (advice->refusal >= 0) {
			EXPECT_EQ(advice->refusal ? -1 : 0, ret)
				TH_LOG("%s: %s", advice->name, strerror(errno));
			EXPECT_EQ(advice->refusal, errno) TH_LOG("%s", advice->name);
		}
		expect_pages(_metadata, view, 1, advice->name);

		/* What was private is written in place, whatever happened. */
		for (size_t page = 0; page < PAGES; page += 100)
			page_set(page_at(view, page), TAG(2, page));
		after = view_info(_metadata, self->fd, view).counters;
		EXPECT_EQ(before.copies_first_touch, after.copies_first_touch)
			TH_LOG("%s", advice->name);
		EXPECT_EQ(before.copies_after_read, after.copies_after_read)
			TH_LOG("%s", advice->name);
		EXPECT_EQ(0, after.reuses) TH_LOG("%s", advice->name);
		EXPECT_EQ(before.private_pages, after.private_pages)
			TH_LOG("%s", advice->name);

		child = child_fork(_metadata);
		if (!child) {
			madvise(page_at(view, variant->first),
				variant->pages * PAGE, advice->value);
			expect_pages(_metadata, view, 2, advice->name);
			for (size_t page = 0; page < PAGES; page += 100)
				page_set(page_at(view, page), TAG(3, page));
			madvise(page_at(view, variant->first),
				variant->pages * PAGE, advice->value);
			expect_pages(_metadata, view, 3, advice->name);
			_exit(0);
		}
		child_join(_metadata, child);
		expect_pages(_metadata, view, 2, advice->name);
		munmap(view, PAGES * PAGE);
	}
	for (size_t page = 0; page < PAGES; page++)
		EXPECT_EQ(TAG(0, page), page_tag(page_at(self->other, page)));
}

TEST_HARNESS_MAIN
