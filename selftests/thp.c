// SPDX-License-Identifier: GPL-2.0
/*
 * Entries that map a whole folio of a pool: where they are, by the setting of
 * transparent huge pages; and that what a view holds is not changed by anything
 * that makes one of them meet entries of single pages.
 */
#include "snapshot.h"

#define SETTING		"/sys/kernel/mm/transparent_hugepage/enabled"
#define RANGES		3
#define PAGES		(RANGES * PMD_PAGES)

FIXTURE(thp) {
	char before[32];
	int fd;
	char *view;
	char *room;	/* reserved addresses, at an offset of half a range */
};

FIXTURE_VARIANT(thp) {
	const char *setting;
};

FIXTURE_VARIANT_ADD(thp, never) { "never" };
FIXTURE_VARIANT_ADD(thp, madvise) { "madvise" };
FIXTURE_VARIANT_ADD(thp, always) { "always" };

FIXTURE_SETUP(thp)
{
	FILE *file = fopen(SETTING, "r");
	char *room;

	if (!file)
		SKIP(return, "no " SETTING);
	/* "always (madvise) never": the mode in brackets is the present one. */
	ASSERT_EQ(1, fscanf(file, "%*[^[][%31[^]]", self->before) ?:
		     (rewind(file), fscanf(file, "[%31[^]]", self->before)));
	fclose(file);
	file_write(_metadata, SETTING, variant->setting);
	self->fd = pool_filled(_metadata, PAGES);
	self->view = view_map(_metadata, self->fd, PAGES);
	room = mmap(NULL, 2 * PAGES * PAGE, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT_NE(MAP_FAILED, room);
	self->room = room + PMD_PAGES * PAGE - (uintptr_t)room % (PMD_PAGES * PAGE) +
		     PMD_PAGES / 2 * PAGE;
}

FIXTURE_TEARDOWN_PARENT(thp)
{
	if (self->before[0])
		file_write(_metadata, SETTING, self->before);
}

/* The writer of each page as it is to be, 0 for the pool. */
static unsigned char writers[1 << 12];

static void write_page(char *view, size_t page, int writer)
{
	page_set(page_at(view, page), TAG(writer, page));
	writers[page] = writer;
}

/* Looks at pages, mapped at @addr, from the last to the first or the other way. */
static void expect_pages(struct __test_metadata *_metadata, char *addr, size_t first,
			 size_t end, bool backwards)
{
	for (size_t i = 0; i < end - first; i++) {
		size_t page = backwards ? end - 1 - i : first + i;

		EXPECT_EQ(TAG(writers[page], page), page_tag(page_at(addr, page - first)))
			TH_LOG("page %zu", page);
	}
}

static void read_ranges(char *view)
{
	for (size_t range = 0; range < RANGES; range++)
		page_tag(page_at(view, range * PMD_PAGES));
}

/* How many of a view's ranges stand as one entry. */
static size_t large_entries(struct __test_metadata *_metadata, char *view)
{
	FILE *file = fopen("/proc/self/smaps", "r");
	unsigned long start, end, kib = 0, sum = 0;
	bool inside = false;
	char line[512];

	ASSERT_NE(NULL, file);
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			inside = start < (uintptr_t)view + PAGES * PAGE &&
				 (uintptr_t)view < end;
		else if (inside && sscanf(line, "FilePmdMapped: %lu kB", &kib) == 1)
			sum += kib;
	}
	fclose(file);
	return sum * 1024 / PAGE / PMD_PAGES;
}

/*
 * Ranges are mapped whole under every setting: it is about memory that the kernel
 * provides. What madvise() was told changes neither counters nor content; whether it
 * keeps entries small is up to the kernel.
 */
TEST_F(thp, mapped_whole)
{
	char *wanted = view_map(_metadata, self->fd, PAGES);
	char *unwanted = view_map(_metadata, self->fd, PAGES);

	ASSERT_EQ(0, madvise(wanted, PAGES * PAGE, MADV_HUGEPAGE));
	ASSERT_EQ(0, madvise(unwanted, PAGES * PAGE, MADV_NOHUGEPAGE));
	read_ranges(self->view);
	read_ranges(wanted);
	read_ranges(unwanted);
	EXPECT_EQ(RANGES, large_entries(_metadata, self->view));
	EXPECT_EQ(RANGES, large_entries(_metadata, wanted));
	EXPECT_EQ(RANGES, view_info(_metadata, self->fd, self->view).counters.read_faults);
	EXPECT_EQ(RANGES, view_info(_metadata, self->fd, wanted).counters.read_faults);

	/* With a page of its own, a range is not. */
	write_page(self->view, PMD_PAGES + 7, 1);
	expect_pages(_metadata, self->view, 0, PAGES, false);
	EXPECT_GE(RANGES - 1, large_entries(_metadata, self->view));
	writers[PMD_PAGES + 7] = 0;
	expect_pages(_metadata, wanted, 0, PAGES, true);
	expect_pages(_metadata, unwanted, 0, PAGES, false);
	munmap(wanted, PAGES * PAGE);
	munmap(unwanted, PAGES * PAGE);
}

/* fork, SNAPSHOT, RESET and a second view, with entries of both kinds about. */
TEST_F(thp, privacy)
{
	char *other = view_map(_metadata, self->fd, PAGES), *past;
	int snapshot;
	pid_t child;

	read_ranges(other);
	read_ranges(self->view);
	write_page(self->view, 3, 1);
	write_page(self->view, 2 * PMD_PAGES - 1, 1);
	snapshot = snapshot_take(_metadata, self->fd, self->view);
	child = child_fork(_metadata);
	if (!child) {
		/* No page table is there: neighbours come first. */
		EXPECT_EQ(TAG(0, 4), page_tag(page_at(self->view, 4)));
		expect_pages(_metadata, self->view, 0, PAGES, true);
		write_page(self->view, 2 * PMD_PAGES + 9, 2);
		write_page(self->view, 3, 2);
		expect_pages(_metadata, self->view, 0, PAGES, false);
		_exit(0);
	}
	child_join(_metadata, child);
	expect_pages(_metadata, self->view, 0, PAGES, false);

	past = view_map(_metadata, snapshot, PAGES);
	read_ranges(past);
	expect_pages(_metadata, past, 0, PAGES, true);
	page_set(page_at(past, 5), TAG(3, 5));
	expect_pages(_metadata, self->view, 0, PAGES, true);
	EXPECT_EQ(TAG(3, 5), page_tag(page_at(past, 5)));
	EXPECT_EQ(TAG(1, 3), page_tag(page_at(past, 3)));
	munmap(past, PAGES * PAGE);
	close(snapshot);

	EXPECT_EQ(2, reset_try(self->fd, self->view, PAGES, 0));
	memset(writers, 0, sizeof(writers));
	expect_pages(_metadata, self->view, 0, PAGES, false);
	expect_pages(_metadata, other, 0, PAGES, false);
	munmap(other, PAGES * PAGE);
}

/* The one that is private, at every kind of place, and the others around it. */
TEST_F(thp, one_page_private)
{
	const size_t places[] = { 0, 1, PMD_PAGES / 2, PMD_PAGES - 1 };

	for (size_t i = 0; i < ARRAY_SIZE(places) * 4; i++) {
		size_t page = PMD_PAGES + places[i / 4];
		uint64_t pool;

		/* With or without the large entry before, looking up or down after */
		if (i % 2)
			read_ranges(self->view);
		write_page(self->view, page, 1);
		expect_pages(_metadata, self->view, 0, PAGES, i & 2);
		pool = frame_of(_metadata, page_at(self->view, PMD_PAGES + 40));
		EXPECT_EQ(pool + 1, frame_of(_metadata, page_at(self->view, PMD_PAGES + 41)));
		EXPECT_NE(pool - 40 + page - PMD_PAGES,
			  frame_of(_metadata, page_at(self->view, page)));

		/* Without entries, others come back first. */
		ASSERT_EQ(0, madvise(page_at(self->view, PMD_PAGES), PMD_PAGES * PAGE,
				     MADV_DONTNEED));
		EXPECT_EQ(TAG(0, PMD_PAGES + 40),
			  page_tag(page_at(self->view, PMD_PAGES + 40)));
		expect_pages(_metadata, self->view, 0, PAGES, !(i & 2));
		EXPECT_EQ(1, reset_try(self->fd, self->view, PAGES, 0));
		writers[page] = 0;
	}
}

/*
 * What splits a large entry, or leaves a part of it: each with the entries of all
 * ranges, and again with a page private in the middle one.
 */

static void split_begin(struct __test_metadata *_metadata, char *view, bool private)
{
	memset(writers, 0, sizeof(writers));
	read_ranges(view);
	if (!private)
		return;
	write_page(view, PMD_PAGES + 3, 1);
	write_page(view, 2 * PMD_PAGES - 3, 1);
	expect_pages(_metadata, view, 0, PAGES, false);
}

static void split_end(struct __test_metadata *_metadata, char *addr, size_t first,
		      size_t end)
{
	pid_t child;

	expect_pages(_metadata, addr, first, end, true);
	child = child_fork(_metadata);
	if (!child) {
		expect_pages(_metadata, addr, first, end, false);
		write_page(page_at(addr, -first), end - 1, 2);
		write_page(page_at(addr, -first), first, 2);
		expect_pages(_metadata, addr, first, end, true);
		_exit(0);
	}
	child_join(_metadata, child);
	write_page(page_at(addr, -first), (first + end) / 2, 3);
	expect_pages(_metadata, addr, first, end, false);
}

TEST_F(thp, mremap_by_half)
{
	const size_t half = PMD_PAGES / 2;
	/* From where to where, in halves of ranges; the room begins at a half. */
	const struct {
		size_t first, pages, to;
	} moves[] = {
		{ 0, PAGES, 0 }, { 0, PAGES, half },
		{ half, PMD_PAGES, 0 }, { half, PMD_PAGES, half },
		{ PMD_PAGES, half, 0 }, { PMD_PAGES, half, half },
		{ PMD_PAGES + half, half + 1, half },
	};

	for (size_t i = 0; i < ARRAY_SIZE(moves) * 2; i++) {
		size_t first = moves[i / 2].first, end = first + moves[i / 2].pages;
		char *view = view_map(_metadata, self->fd, PAGES);
		char *to = page_at(self->room, moves[i / 2].to);

		split_begin(_metadata, view, i % 2);
		ASSERT_EQ(to, mremap(page_at(view, first), (end - first) * PAGE,
				     (end - first) * PAGE,
				     MREMAP_MAYMOVE | MREMAP_FIXED, to));
		EXPECT_EQ(SIGSEGV, access_byte(page_at(view, first), LOAD));
		expect_pages(_metadata, view, 0, first, true);
		expect_pages(_metadata, page_at(view, end), end, PAGES, false);
		split_end(_metadata, to, first, end);
		munmap(view, PAGES * PAGE);
		munmap(to, (end - first) * PAGE);
	}
}

TEST_F(thp, munmap_half)
{
	const size_t half = PMD_PAGES / 2;

	for (size_t i = 0; i < 4; i++) {
		char *view = view_map(_metadata, self->fd, PAGES);
		/* The first half of the middle range, or the second */
		size_t gone = PMD_PAGES + (i < 2 ? 0 : half);
		size_t left = PMD_PAGES + (i < 2 ? half : 0);

		split_begin(_metadata, view, i % 2);
		ASSERT_EQ(0, munmap(page_at(view, gone), half * PAGE));
		EXPECT_EQ(SIGSEGV, access_byte(page_at(view, gone), LOAD));
		EXPECT_EQ(SIGSEGV, access_byte(page_at(view, gone + half - 1), STORE));
		EXPECT_EQ(i % 2, private_pages(_metadata, self->fd, view));
		expect_pages(_metadata, view, 0, PMD_PAGES, false);
		split_end(_metadata, page_at(view, left), left, left + half);
		expect_pages(_metadata, page_at(view, 2 * PMD_PAGES), 2 * PMD_PAGES, PAGES,
			     true);
		munmap(view, PAGES * PAGE);
	}
}

TEST_F(thp, mprotect_part)
{
	const struct {
		size_t first, pages;
	} parts[] = {
		{ PMD_PAGES, PMD_PAGES / 2 }, { PMD_PAGES + 3, 1 },
		{ PMD_PAGES - 5, PMD_PAGES + 10 }, { 2 * PMD_PAGES - 3, 10 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(parts) * 2; i++) {
		char *view = view_map(_metadata, self->fd, PAGES);
		char *part = page_at(view, parts[i / 2].first);
		size_t pages = parts[i / 2].pages;

		split_begin(_metadata, view, i % 2);
		ASSERT_EQ(0, mprotect(part, pages * PAGE, PROT_READ));
		expect_pages(_metadata, view, 0, PAGES, true);
		EXPECT_EQ(SIGSEGV, access_byte(part, STORE));
		EXPECT_EQ(SIGSEGV, access_byte(page_at(part, pages - 1), STORE));
		write_page(view, parts[i / 2].first + pages, 4);
		expect_pages(_metadata, view, 0, PAGES, false);
		ASSERT_EQ(0, mprotect(part, pages * PAGE, PROT_NONE));
		EXPECT_EQ(SIGSEGV, access_byte(part, LOAD));
		ASSERT_EQ(0, mprotect(part, pages * PAGE, PROT_READ | PROT_WRITE));
		write_page(view, parts[i / 2].first, 5);
		split_end(_metadata, view, 0, PAGES);
		munmap(view, PAGES * PAGE);
	}
}

TEST_HARNESS_MAIN
