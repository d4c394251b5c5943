// SPDX-License-Identifier: GPL-2.0
/*
 * mprotect(): permissions come and go, the content and the counts stay, and a
 * view in several areas is still one view. Never executable.
 */
#include "snapshot.h"

#include <sys/personality.h>

#define PAGES 1100

FIXTURE(mprotect) {
	int fd;
	char *view;
};

FIXTURE_SETUP(mprotect)
{
	self->fd = pool_filled(_metadata, PAGES);
	self->view = view_map(_metadata, self->fd, PAGES);
}

FIXTURE_TEARDOWN(mprotect)
{
	munmap(self->view, PAGES * PAGE);
	close(self->fd);
}

/* What is left after each change, of pages in every state. */
TEST_F(mprotect, there_and_back)
{
	const struct {
		int prot, load, store;
	} rows[] = {
		{ PROT_READ, 0, SIGSEGV },
		{ PROT_NONE, SIGSEGV, SIGSEGV },
		{ PROT_READ, 0, SIGSEGV },
		{ PROT_READ | PROT_WRITE, 0, 0 },
	};
	const struct {
		size_t first, pages;
	} ranges[] = { { 0, PAGES }, { 0, 1 }, { 500, 100 }, { 512, 512 }, { PAGES - 1, 1 } };

	for (size_t i = 0; i < ARRAY_SIZE(ranges); i++) {
		size_t first = ranges[i].first, last = first + ranges[i].pages - 1;
		char *view = view_map(_metadata, self->fd, PAGES);
		uint64_t id = view_info(_metadata, self->fd, view).view_id;

		/* Private, and read, and in longer ranges untouched. */
		page_set(page_at(view, first), TAG(1, first));
		page_tag(page_at(view, (first + last) / 2));
		for (size_t r = 0; r < ARRAY_SIZE(rows); r++) {
			uint64_t copies = view_copies(_metadata, self->fd, view);

			ASSERT_EQ(0, mprotect(page_at(view, first),
					      ranges[i].pages * PAGE, rows[r].prot));
			EXPECT_EQ(rows[r].load, access_byte(page_at(view, first), LOAD));
			EXPECT_EQ(rows[r].store, access_byte(page_at(view, first), STORE));
			EXPECT_EQ(rows[r].load, access_byte(page_at(view, last), LOAD));
			if (!rows[r].load)
				EXPECT_EQ(TAG(1, first), page_tag(page_at(view, first)));
			/* The page was private all the time: in place. */
			EXPECT_EQ(copies, view_copies(_metadata, self->fd, view));
			EXPECT_EQ(rows[r].store, access_byte(page_at(view, last), STORE));
			EXPECT_EQ(id, view_info(_metadata, self->fd, page_at(view, last)).view_id);
		}
		EXPECT_EQ(first == last ? 1 : 2, private_pages(_metadata, self->fd, view));
		EXPECT_EQ(0, view_info(_metadata, self->fd, view).counters.reuses);
		EXPECT_EQ(TAG(1, first), page_tag(page_at(view, first)));
		munmap(view, PAGES * PAGE);
	}
	for (size_t page = 0; page < PAGES; page++)
		EXPECT_EQ(TAG(0, page), page_tag(page_at(self->view, page)));
}

TEST_F(mprotect, never_executable)
{
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, self->fd, 0));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, self->fd, 0));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(-1, mprotect(self->view, PAGES * PAGE, PROT_READ | PROT_EXEC));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(-1, mprotect(self->view, PAGE, PROT_EXEC));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(TAG(0, 0), page_tag(self->view));
}

/* Nor by a personality that would have all memory be so. */
TEST_F(mprotect, never_executable_for_old_programs)
{
	const int flags[] = { MAP_SHARED, MAP_PRIVATE };

	ASSERT_LE(0, personality(READ_IMPLIES_EXEC));
	/* This one the program asks for itself. */
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_EXEC, MAP_SHARED, self->fd, 0));
	EXPECT_EQ(EPERM, errno);
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		char *view = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, flags[i], self->fd, 0);
		char line[512], expected[] = "rw-s";
		char access[5];

		ASSERT_NE(MAP_FAILED, view);
		if (flags[i] == MAP_PRIVATE)
			expected[3] = 'p';
		maps_line(_metadata, view, line, sizeof(line));
		ASSERT_EQ(1, sscanf(line, "%*x-%*x %4s", access));
		EXPECT_STREQ(expected, access);
		EXPECT_EQ(TAG(0, 0), page_tag(view));
		page_set(view, TAG(1, 0));
		EXPECT_EQ(0, mprotect(view, PAGE, PROT_READ));
		EXPECT_EQ(TAG(1, 0), page_tag(view));
		munmap(view, PAGE);
	}
}

/* Mapped for reading only, made writable later. */
TEST_F(mprotect, read_only_first)
{
	char *view = mmap(NULL, PAGES * PAGE, PROT_READ, MAP_SHARED, self->fd, 0);

	ASSERT_NE(MAP_FAILED, view);
	EXPECT_EQ(TAG(0, 5), page_tag(page_at(view, 5)));
	EXPECT_EQ(SIGSEGV, access_byte(page_at(view, 5), STORE));
	EXPECT_EQ(SIGSEGV, access_byte(page_at(view, 6), STORE));
	EXPECT_EQ(0, private_pages(_metadata, self->fd, view));
	ASSERT_EQ(0, mprotect(view, PAGES * PAGE, PROT_READ | PROT_WRITE));
	page_set(page_at(view, 5), TAG(1, 5));
	page_set(page_at(view, 1000), TAG(1, 1000));
	EXPECT_EQ(TAG(1, 5), page_tag(page_at(view, 5)));
	EXPECT_EQ(TAG(1, 1000), page_tag(page_at(view, 1000)));
	EXPECT_EQ(TAG(0, 5), page_tag(page_at(self->view, 5)));
	EXPECT_EQ(TAG(0, 1000), page_tag(page_at(self->view, 1000)));
	munmap(view, PAGES * PAGE);
}

/*
 * Write access that mprotect() gives back must not undo what SNAPSHOT or fork
 * took away: of all of a view, before or after that.
 */
TEST_F(mprotect, around_snapshot)
{
	char *view = self->view;

	for (size_t round = 0; round < 4; round++) {
		bool before = round & 1, after = round & 2;
		int snapshot;

		for (size_t page = 3; page < 10; page += 2)
			page_set(page_at(view, page), TAG(2 * round + 1, page));
		if (before)
			ASSERT_EQ(0, mprotect(view, PAGES * PAGE, PROT_READ));
		snapshot = snapshot_take(_metadata, self->fd, view);
		if (after)
			ASSERT_EQ(0, mprotect(view, PAGES * PAGE, PROT_READ));
		ASSERT_EQ(0, mprotect(view, PAGES * PAGE, PROT_READ | PROT_WRITE));
		for (size_t page = 3; page < 10; page += 2) {
			page_set(page_at(view, page), TAG(2 * round + 2, page));
			EXPECT_EQ(TAG(2 * round + 1, page),
				  pool_page_tag(_metadata, snapshot, page));
		}
		close(snapshot);
	}
}

FIXTURE(mprotect_fork) {
	int fd;
	char *view;
};

FIXTURE_VARIANT(mprotect_fork) {
	size_t first, pages;
};

FIXTURE_VARIANT_ADD(mprotect_fork, part) { 1, 2 };
FIXTURE_VARIANT_ADD(mprotect_fork, all) { 0, PAGES };

FIXTURE_SETUP(mprotect_fork)
{
	self->fd = pool_filled(_metadata, PAGES);
	self->view = view_map(_metadata, self->fd, PAGES);
}

FIXTURE_TEARDOWN(mprotect_fork)
{
	munmap(self->view, PAGES * PAGE);
	close(self->fd);
}

TEST_F(mprotect_fork, diverge)
{
	char *addr = page_at(self->view, variant->first);
	size_t length = variant->pages * PAGE;
	pthread_barrier_t *barrier = barrier_new(_metadata, 2);
	pid_t child;

	for (size_t page = 0; page < 4; page++)
		page_set(page_at(self->view, page), TAG(1, page));
	ASSERT_EQ(0, mprotect(addr, length, PROT_READ));
	child = child_fork(_metadata);
	ASSERT_EQ(0, mprotect(addr, length, PROT_READ | PROT_WRITE));
	for (size_t page = child ? 0 : 1; page < 4; page += 2)
		page_set(page_at(self->view, page), TAG(child ? 2 : 3, page));
	pthread_barrier_wait(barrier);
	for (size_t page = 0; page < 4; page++) {
		bool mine = page % 2 == (child ? 0 : 1);

		EXPECT_EQ(TAG(mine ? child ? 2 : 3 : 1, page),
			  page_tag(page_at(self->view, page)));
	}
	pthread_barrier_wait(barrier);
	if (!child)
		_exit(0);
	child_join(_metadata, child);
}

TEST_HARNESS_MAIN
