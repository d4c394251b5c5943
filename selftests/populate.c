// SPDX-License-Identifier: GPL-2.0
/*
 * Pages brought in ahead: MAP_POPULATE, mlock(), mlockall(), MAP_LOCKED and
 * MADV_POPULATE_*. Bringing in for reading copies nothing; for writing it
 * copies each page once.
 */
#include "cowpool_test.h"

#define PAGES 700

FIXTURE(populate) {
	int fd;
};

FIXTURE_VARIANT(populate) {
	int map_flags;
	int advice;		/* 0 for none */
	bool mlock, mlockall;
	uint64_t copies;
};

FIXTURE_VARIANT_ADD(populate, map_populate) { .map_flags = MAP_POPULATE };
FIXTURE_VARIANT_ADD(populate, map_locked) { .map_flags = MAP_LOCKED };
FIXTURE_VARIANT_ADD(populate, mlock) { .mlock = true };
FIXTURE_VARIANT_ADD(populate, mlockall) { .mlockall = true };
FIXTURE_VARIANT_ADD(populate, advice_read) { .advice = MADV_POPULATE_READ };
FIXTURE_VARIANT_ADD(populate, advice_write) { .advice = MADV_POPULATE_WRITE, .copies = PAGES };

FIXTURE_SETUP(populate)
{
	self->fd = pool_filled(_metadata, PAGES);
}

FIXTURE_TEARDOWN(populate)
{
	close(self->fd);
}

TEST_F(populate, brings_in_everything)
{
	uint64_t faults;
	char *view;
	pid_t child;

	if (variant->mlockall)
		ASSERT_EQ(0, mlockall(MCL_FUTURE));
	view = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE,
		    MAP_SHARED | variant->map_flags, self->fd, 0);
	ASSERT_NE(MAP_FAILED, view);
	if (variant->mlock)
		ASSERT_EQ(0, mlock(view, PAGES * PAGE));
	if (variant->advice)
		ASSERT_EQ(0, madvise(view, PAGES * PAGE, variant->advice));

	EXPECT_EQ(variant->copies, view_copies(_metadata, self->fd, view));
	EXPECT_EQ(variant->copies, private_pages(_metadata, self->fd, view));
	faults = view_info(_metadata, self->fd, view).counters.read_faults;
	for (size_t page = 0; page < PAGES; page++) {
		EXPECT_NE(0, frame_of(_metadata, page_at(view, page)));
		EXPECT_EQ(TAG(0, page), page_tag(page_at(view, page)));
	}
	EXPECT_EQ(faults, view_info(_metadata, self->fd, view).counters.read_faults);

	/* It is a view like any other. */
	for (size_t page = 0; page < PAGES; page += 10)
		page_set(page_at(view, page), TAG(1, page));
	EXPECT_EQ(variant->copies ? PAGES : PAGES / 10,
		  private_pages(_metadata, self->fd, view));
	child = child_fork(_metadata);
	if (!child) {
		for (size_t page = 0; page < PAGES; page += 5) {
			EXPECT_EQ(TAG(page % 10 ? 0 : 1, page), page_tag(page_at(view, page)));
			page_set(page_at(view, page), TAG(2, page));
			EXPECT_EQ(TAG(2, page), page_tag(page_at(view, page)));
		}
		_exit(0);
	}
	child_join(_metadata, child);
	for (size_t page = 0; page < PAGES; page++) {
		EXPECT_EQ(TAG(page % 10 ? 0 : 1, page), page_tag(page_at(view, page)));
		EXPECT_EQ(TAG(0, page), pool_page_tag(_metadata, self->fd, page));
	}
	munlockall();
	munmap(view, PAGES * PAGE);
}

TEST_HARNESS_MAIN
