// SPDX-License-Identifier: GPL-2.0
/*
 * RESET: back to the pool's content, for all of a view or for a range, by
 * dropping private pages or by keeping them.
 */
#include "snapshot.h"

#define PAGES 200
#define HOLE 180	/* the pool's pages from here on were never written */

FIXTURE(reset) {
	int fd;
	char *view;
};

FIXTURE_VARIANT(reset) {
	unsigned int flags;
};

FIXTURE_VARIANT_ADD(reset, drop) { 0 };
FIXTURE_VARIANT_ADD(reset, keep) { COWPOOL_RESET_KEEP };
FIXTURE_VARIANT_ADD(reset, keep_written) { COWPOOL_RESET_KEEP | COWPOOL_RESET_WRITTEN };

FIXTURE_SETUP(reset)
{
	self->fd = pool_create(_metadata, PAGES, NULL, 0);
	pool_fill(_metadata, self->fd, 0, HOLE);
	self->view = view_map(_metadata, self->fd, PAGES);
}

FIXTURE_TEARDOWN(reset)
{
	/* Whatever happened, the pool is as it was. */
	for (size_t page = 0; page < PAGES; page++)
		EXPECT_EQ(page < HOLE ? TAG(0, page) : 0,
			  pool_page_tag(_metadata, self->fd, page));
	munmap(self->view, PAGES * PAGE);
	close(self->fd);
}

/* All pages but every fifth carry the tag of @writer. */
static bool is_written(size_t page)
{
	return page % 5;
}

static size_t written_pages(size_t first, size_t behind)
{
	size_t n = 0;

	while (first < behind)
		n += is_written(first++);
	return n;
}

static void write_some(char *view, unsigned int writer)
{
	for (size_t page = 0; page < PAGES; page++)
		if (is_written(page))
			page_set(page_at(view, page), TAG(writer, page));
}

/* From page @first to before @behind it shows the pool, else what was written. */
static void expect_reset(struct __test_metadata *_metadata, char *view,
			 unsigned int writer, size_t first, size_t behind)
{
	for (size_t page = 0; page < PAGES; page++) {
		uint64_t expected = page < HOLE ? TAG(0, page) : 0;

		if (is_written(page) && (page < first || page >= behind))
			expected = TAG(writer, page);
		EXPECT_EQ(expected, page_tag(page_at(view, page)));
	}
}

static void expect_private(struct __test_metadata *_metadata, int fd, char *view,
			   size_t pages)
{
	EXPECT_EQ(pages, private_pages(_metadata, fd, view));
	EXPECT_EQ(pages, dirty_count(_metadata, fd, view, PAGES, 0));
}

TEST_F(reset, all)
{
	size_t written = written_pages(0, PAGES);
	bool keep = variant->flags;

	for (int round = 1; round < 4; round++) {
		write_some(self->view, round);
		EXPECT_EQ((long)written,
			  reset_try(self->fd, self->view, PAGES, variant->flags));
		expect_reset(_metadata, self->view, round, 0, PAGES);
		expect_private(_metadata, self->fd, self->view, keep ? written : 0);
		EXPECT_EQ(0, dirty_count(_metadata, self->fd, self->view, PAGES,
					 COWPOOL_DIRTY_CONTENT));
		EXPECT_EQ(keep ? written : 0, stat_value(_metadata, "private_frames"));
		EXPECT_EQ(written * (keep ? 1 : round),
			  view_copies(_metadata, self->fd, self->view));
	}
	EXPECT_EQ(3, view_info(_metadata, self->fd, self->view).counters.resets);
	EXPECT_EQ(0, view_info(_metadata, self->fd, self->view).counters.reuses);
}

TEST_F(reset, nothing)
{
	EXPECT_EQ(0, reset_try(self->fd, self->view, PAGES, variant->flags));
	EXPECT_EQ(0, reset_try(self->fd, page_at(self->view, 3), 1, variant->flags));
	EXPECT_EQ(0, page_tag(page_at(self->view, HOLE)));
	EXPECT_EQ(0, reset_try(self->fd, self->view, PAGES, variant->flags));
	EXPECT_EQ(3, view_info(_metadata, self->fd, self->view).counters.resets);
	EXPECT_EQ(0, stat_value(_metadata, "nodes"));
}

/* Ranges that begin and end in the middle of nodes, at their ends, or in one. */
TEST_F(reset, ranges)
{
	static const size_t ranges[][2] = {
		{ 0, 1 }, { 1, 2 }, { 63, 64 }, { 64, 128 }, { 63, 65 },
		{ 10, 190 }, { 0, 64 }, { 0, 65 }, { 128, PAGES }, { 199, PAGES },
		{ 5, 6 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(ranges); i++) {
		size_t first = ranges[i][0], behind = ranges[i][1];
		size_t all = written_pages(0, PAGES), n = written_pages(first, behind);

		write_some(self->view, 1 + i);
		EXPECT_EQ((long)n, reset_try(self->fd, page_at(self->view, first),
					     behind - first, variant->flags));
		expect_reset(_metadata, self->view, 1 + i, first, behind);
		expect_private(_metadata, self->fd, self->view,
			       variant->flags ? all : all - n);
	}
}

/* A page's place in memory tells whether it was kept. */
TEST_F(reset, keeps_or_drops)
{
	struct cowpool_counters before, after;
	uint64_t frame;

	page_set(page_at(self->view, 7), TAG(1, 7));
	frame = frame_of(_metadata, page_at(self->view, 7));
	ASSERT_NE(0, frame);
	EXPECT_EQ(1, reset_try(self->fd, self->view, PAGES, variant->flags));
	EXPECT_EQ(variant->flags ? frame : 0,
		  frame_of(_metadata, page_at(self->view, 7)));
	before = view_info(_metadata, self->fd, self->view).counters;
	page_set(page_at(self->view, 7), TAG(2, 7));
	after = view_info(_metadata, self->fd, self->view).counters;
	EXPECT_EQ(variant->flags ? 0 : 1,
		  after.copies_first_touch - before.copies_first_touch);
	EXPECT_EQ(before.read_faults, after.read_faults);
	EXPECT_EQ(before.reuses, after.reuses);
	EXPECT_EQ(TAG(2, 7), page_tag(page_at(self->view, 7)));
}

/* What a relative holds too is not touched, but let go. */
TEST_F(reset, shared_with_a_child)
{
	pthread_barrier_t *barrier = barrier_new(_metadata, 2);
	size_t written = written_pages(0, PAGES);
	pid_t child;

	write_some(self->view, 1);
	child = child_fork(_metadata);
	if (!child) {
		pthread_barrier_wait(barrier);
		/* The parent has reset. */
		expect_reset(_metadata, self->view, 1, 0, 0);
		expect_private(_metadata, self->fd, self->view, written);
		write_some(self->view, 3);
		pthread_barrier_wait(barrier);
		pthread_barrier_wait(barrier);
		EXPECT_EQ((long)written,
			  reset_try(self->fd, self->view, PAGES, variant->flags));
		expect_reset(_metadata, self->view, 0, 0, PAGES);
		pthread_barrier_wait(barrier);
		_exit(0);
	}
	page_set(page_at(self->view, 11), TAG(2, 11));	/* exclusive again */
	EXPECT_EQ((long)written,
		  reset_try(self->fd, self->view, PAGES, variant->flags));
	expect_reset(_metadata, self->view, 0, 0, PAGES);
	expect_private(_metadata, self->fd, self->view, variant->flags ? 1 : 0);
	pthread_barrier_wait(barrier);
	pthread_barrier_wait(barrier);
	expect_reset(_metadata, self->view, 0, 0, PAGES);
	write_some(self->view, 4);
	pthread_barrier_wait(barrier);
	pthread_barrier_wait(barrier);
	expect_reset(_metadata, self->view, 4, 0, 0);
	child_join(_metadata, child);
}

TEST_F(reset, shared_with_a_snapshot)
{
	size_t written = written_pages(0, PAGES);
	int snapshot;

	write_some(self->view, 1);
	snapshot = snapshot_take(_metadata, self->fd, self->view);
	page_set(page_at(self->view, 11), TAG(2, 11));
	EXPECT_EQ((long)written,
		  reset_try(self->fd, self->view, PAGES, variant->flags));
	expect_reset(_metadata, self->view, 0, 0, PAGES);
	expect_private(_metadata, self->fd, self->view, variant->flags ? 1 : 0);
	write_some(self->view, 3);
	for (size_t page = 0; page < HOLE; page++)
		EXPECT_EQ(TAG(is_written(page), page),
			  pool_page_tag(_metadata, snapshot, page));
	close(snapshot);
}

/* A view of a snapshot goes back to the snapshot, not to what is below it. */
TEST_F(reset, view_of_a_snapshot)
{
	int snapshot;
	char *copy;

	write_some(self->view, 1);
	snapshot = snapshot_take(_metadata, self->fd, self->view);
	copy = view_map(_metadata, snapshot, PAGES);
	for (size_t page = 60; page < 70; page++)
		page_set(page_at(copy, page), TAG(2, page));
	EXPECT_EQ(5, reset_try(self->fd, page_at(copy, 60), 5, variant->flags));
	EXPECT_EQ(5, reset_try(self->fd, page_at(copy, 65), 135, variant->flags));
	expect_reset(_metadata, copy, 1, 0, 0);
	for (size_t page = 60; page < 70; page++)
		page_set(page_at(copy, page), TAG(3, page));
	EXPECT_EQ(10, reset_try(self->fd, copy, PAGES, variant->flags));
	expect_reset(_metadata, copy, 1, 0, 0);
	EXPECT_EQ(variant->flags ? 10 : 0, reset_try(self->fd, copy, PAGES, 0));
	expect_reset(_metadata, self->view, 1, 0, 0);
	munmap(copy, PAGES * PAGE);
	close(snapshot);
}

/* A range may be spread over VMAs, whatever their protection. */
TEST_F(reset, split_view)
{
	write_some(self->view, 1);
	ASSERT_EQ(0, mprotect(page_at(self->view, 10), 20 * PAGE, PROT_READ));
	ASSERT_EQ(0, mprotect(page_at(self->view, 30), 20 * PAGE, PROT_NONE));
	EXPECT_EQ((long)written_pages(5, 60),
		  reset_try(self->fd, page_at(self->view, 5), 55, variant->flags));
	ASSERT_EQ(0, mprotect(self->view, PAGES * PAGE, PROT_READ | PROT_WRITE));
	expect_reset(_metadata, self->view, 1, 5, 60);
}

/* What makes a range be refused; nothing is reset then. */
TEST_F(reset, bad_ranges)
{
	char *end = page_at(self->view, PAGES);
	char *private = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, self->fd, 0);
	char *room, *neighbour;

	write_some(self->view, 1);
	errno = 0;
	EXPECT_EQ(-1, reset_try(self->fd, self->view + 1, 1, variant->flags));
	EXPECT_EQ(EINVAL, errno);
	errno = 0;
	EXPECT_EQ(-1, reset_try(self->fd, self->view, 0, variant->flags));
	EXPECT_EQ(EINVAL, errno);
	errno = 0;
	EXPECT_EQ(-1, reset_try(self->fd, self->view, ~0UL / PAGE, variant->flags));
	EXPECT_EQ(EINVAL, errno);
	errno = 0;
	EXPECT_EQ(-1, reset_try(self->fd, NULL, 1, variant->flags));
	EXPECT_EQ(ENOENT, errno);
	errno = 0;
	EXPECT_EQ(-1, reset_try(self->fd, private, 1, variant->flags));
	EXPECT_EQ(ENOENT, errno);
	munmap(private, PAGE);

	/* Two views side by side are two. */
	room = mmap(NULL, 2 * PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, room);
	ASSERT_EQ(room, mremap(self->view, PAGES * PAGE, PAGES * PAGE,
			       MREMAP_MAYMOVE | MREMAP_FIXED, room));
	self->view = room;
	end = page_at(room, PAGES);
	errno = 0;
	EXPECT_EQ(-1, reset_try(self->fd, room, PAGES + 1, variant->flags));
	EXPECT_EQ(ENOENT, errno);
	neighbour = mmap(end, PAGES * PAGE, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_FIXED, self->fd, 0);
	ASSERT_EQ(end, neighbour);
	write_some(neighbour, 2);
	errno = 0;
	EXPECT_EQ(-1, reset_try(self->fd, end - PAGE, 2, variant->flags));
	EXPECT_EQ(ENOENT, errno);
	expect_reset(_metadata, neighbour, 2, 0, 0);
	expect_reset(_metadata, room, 1, 0, 0);

	/* A hole, and a part that was moved, even into order. */
	ASSERT_EQ(0, munmap(neighbour, PAGES * PAGE));
	ASSERT_EQ(end, mremap(page_at(room, 100), 10 * PAGE, 10 * PAGE,
			      MREMAP_MAYMOVE | MREMAP_FIXED, end));
	errno = 0;
	EXPECT_EQ(-1, reset_try(self->fd, page_at(room, 99), 2, variant->flags));
	EXPECT_EQ(ENOENT, errno);
	errno = 0;
	EXPECT_EQ(-1, reset_try(self->fd, page_at(room, PAGES - 1), 2, variant->flags));
	EXPECT_EQ(ENOENT, errno);
	EXPECT_EQ((long)written_pages(100, 110),
		  reset_try(self->fd, end, 10, variant->flags));
	for (size_t page = 100; page < 110; page++)
		EXPECT_EQ(TAG(0, page), page_tag(page_at(end, page - 100)));
	munmap(end, 10 * PAGE);
	EXPECT_EQ(1, view_info(_metadata, self->fd, room).counters.resets);
}

TEST_F(reset, bad_requests)
{
	struct cowpool_reset arg = {
		.addr = (uintptr_t)self->view,
		.len = PAGES * PAGE,
		.flags = variant->flags | 4,
	};

	write_some(self->view, 1);
	errno = 0;
	EXPECT_EQ(-1, ioctl(self->fd, COWPOOL_IOC_RESET, &arg));
	EXPECT_EQ(EINVAL, errno);
	arg.flags = COWPOOL_RESET_WRITTEN;
	errno = 0;
	EXPECT_EQ(-1, ioctl(self->fd, COWPOOL_IOC_RESET, &arg));
	EXPECT_EQ(EINVAL, errno);
	arg.flags = variant->flags;
	arg.reserved = 1;
	errno = 0;
	EXPECT_EQ(-1, ioctl(self->fd, COWPOOL_IOC_RESET, &arg));
	EXPECT_EQ(EINVAL, errno);
	errno = 0;
	EXPECT_EQ(-1, ioctl(self->fd, COWPOOL_IOC_RESET, NULL));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(0, view_info(_metadata, self->fd, self->view).counters.resets);
	expect_reset(_metadata, self->view, 1, 0, 0);
}

/* With WRITTEN it copies what was written since the last time, and nothing else. */

#define KEEP_WRITTEN	(COWPOOL_RESET_KEEP | COWPOOL_RESET_WRITTEN)

FIXTURE(keep) {
	int fd;
	char *view;
	uint64_t copies;	/* so far */
};

FIXTURE_SETUP(keep)
{
	self->fd = pool_filled(_metadata, PAGES);
	self->view = view_map(_metadata, self->fd, PAGES);
	write_some(self->view, 1);
}

FIXTURE_TEARDOWN(keep)
{
	munmap(self->view, PAGES * PAGE);
	close(self->fd);
}

/* Resets, and tells how many pages were copied. */
static uint64_t keep_copies(struct __test_metadata *_metadata, int fd, char *view,
			    uint64_t *copies)
{
	uint64_t before = *copies;

	EXPECT_EQ((long)written_pages(0, PAGES),
		  reset_try(fd, view, PAGES, KEEP_WRITTEN));
	for (size_t page = 0; page < PAGES; page++)
		EXPECT_EQ(TAG(0, page), page_tag(page_at(view, page)));
	*copies = view_info(_metadata, fd, view).counters.copies_reset;
	return *copies - before;
}

TEST_F(keep, copies_what_was_written)
{
	EXPECT_EQ(written_pages(0, PAGES),
		  keep_copies(_metadata, self->fd, self->view, &self->copies));
	EXPECT_EQ(0, keep_copies(_metadata, self->fd, self->view, &self->copies));
	for (size_t page = 51; page < 55; page++)
		page_set(page_at(self->view, page), TAG(2, page));
	EXPECT_EQ(4, keep_copies(_metadata, self->fd, self->view, &self->copies));
	EXPECT_EQ(0, keep_copies(_metadata, self->fd, self->view, &self->copies));
	/* In a page that no entry stands for any more */
	page_set(page_at(self->view, 51), TAG(2, 51));
	ASSERT_EQ(0, madvise(self->view, PAGES * PAGE, MADV_DONTNEED));
	EXPECT_EQ(1, keep_copies(_metadata, self->fd, self->view, &self->copies));
	EXPECT_EQ(0, keep_copies(_metadata, self->fd, self->view, &self->copies));
	/* A few of them are not worth asking for. */
	EXPECT_EQ(4, reset_try(self->fd, page_at(self->view, 51), 4, KEEP_WRITTEN));
	EXPECT_EQ(self->copies + 4,
		  view_info(_metadata, self->fd, self->view).counters.copies_reset);
}

static void by_store(__attribute__((unused)) struct __test_metadata *_metadata, char *page,
		     const uint64_t *content)
{
	memcpy(page, content, PAGE);
}

static void by_process_vm_writev(struct __test_metadata *_metadata, char *page,
				 const uint64_t *content)
{
	struct iovec from = { (void *)content, PAGE }, to = { page, PAGE };

	EXPECT_EQ((ssize_t)PAGE, process_vm_writev(getpid(), &from, 1, &to, 1, 0));
}

static void by_proc_mem(struct __test_metadata *_metadata, char *page,
			const uint64_t *content)
{
	int mem = open("/proc/self/mem", O_RDWR | O_CLOEXEC);

	EXPECT_EQ((ssize_t)PAGE, pwrite(mem, content, PAGE, (uintptr_t)page));
	close(mem);
}

static void by_read(struct __test_metadata *_metadata, char *page, const uint64_t *content)
{
	int file = memfd_create("reset", MFD_CLOEXEC);

	ASSERT_EQ((ssize_t)PAGE, write(file, content, PAGE));
	EXPECT_EQ((ssize_t)PAGE, pread(file, page, PAGE, 0));
	close(file);
}

static void by_store_and_mprotect(struct __test_metadata *_metadata, char *page,
				  const uint64_t *content)
{
	char *view = page - 51 * PAGE;

	memcpy(page, content, PAGE);
	ASSERT_EQ(0, mprotect(view, PAGES * PAGE, PROT_NONE));
	ASSERT_EQ(0, mprotect(view, PAGES * PAGE, PROT_READ | PROT_WRITE));
}

static void by_store_between_mprotects(struct __test_metadata *_metadata, char *page,
				       const uint64_t *content)
{
	char *view = page - 51 * PAGE;

	ASSERT_EQ(0, mprotect(view, PAGES * PAGE, PROT_READ));
	ASSERT_EQ(0, mprotect(view, PAGES * PAGE, PROT_READ | PROT_WRITE));
	memcpy(page, content, PAGE);
}

static void by_store_before_mremap(struct __test_metadata *_metadata, char *page,
				   const uint64_t *content)
{
	char *view = page - 51 * PAGE, *away;

	memcpy(page, content, PAGE);
	away = mmap(NULL, PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, away);
	ASSERT_EQ(away, mremap(view, PAGES * PAGE, PAGES * PAGE,
			       MREMAP_MAYMOVE | MREMAP_FIXED, away));
	ASSERT_EQ(view, mremap(away, PAGES * PAGE, PAGES * PAGE,
			       MREMAP_MAYMOVE | MREMAP_FIXED, view));
}

static const struct {
	const char *name;
	void (*write)(struct __test_metadata *_metadata, char *page, const uint64_t *content);
} writings[] = {
	{ "store", by_store },
	{ "process_vm_writev", by_process_vm_writev },
	{ "/proc/self/mem", by_proc_mem },
	{ "read", by_read },
	{ "store, then mprotect", by_store_and_mprotect },
	{ "store between mprotects", by_store_between_mprotects },
	{ "store, then mremap", by_store_before_mremap },
};

TEST_F(keep, notices_every_way_to_write)
{
	uint64_t *content = malloc(PAGE);

	page_set(content, TAG(2, 51));
	keep_copies(_metadata, self->fd, self->view, &self->copies);
	for (size_t i = 0; i < ARRAY_SIZE(writings); i++) {
		char *page = page_at(self->view, 51);

		writings[i].write(_metadata, page, content);
		EXPECT_EQ(TAG(2, 51), page_tag(page));
		EXPECT_EQ(1, keep_copies(_metadata, self->fd, self->view, &self->copies))
			TH_LOG("%s", writings[i].name);
	}
	free(content);
}

/* What was written before it was shared is not what the pool holds. */
TEST_F(keep, remembers_what_was_written_before_a_snapshot)
{
	size_t written = written_pages(0, PAGES);
	int snapshot;

	keep_copies(_metadata, self->fd, self->view, &self->copies);
	write_some(self->view, 2);
	snapshot = snapshot_take(_metadata, self->fd, self->view);
	close(snapshot);
	/* Only one of them is written again. */
	page_set(page_at(self->view, 51), TAG(3, 51));
	EXPECT_EQ(written, keep_copies(_metadata, self->fd, self->view, &self->copies));
	EXPECT_EQ(0, keep_copies(_metadata, self->fd, self->view, &self->copies));

	/* Copies of what the snapshot has, as no store has changed them. */
	write_some(self->view, 2);
	snapshot = snapshot_take(_metadata, self->fd, self->view);
	for (size_t page = 0; page < PAGES; page++)
		if (is_written(page))
			__atomic_fetch_add((char *)page_at(self->view, page), 0,
					   __ATOMIC_SEQ_CST);
	EXPECT_EQ(written, keep_copies(_metadata, self->fd, self->view, &self->copies));
	EXPECT_EQ(0, keep_copies(_metadata, self->fd, self->view, &self->copies));
	close(snapshot);
}

/* Who holds on to a page may write to it at any time. */
TEST_F(keep, copies_what_is_held)
{
	struct iovec iovec = { page_at(self->view, 51), PAGE };
	int pipe_fds[2];

	keep_copies(_metadata, self->fd, self->view, &self->copies);
	ASSERT_EQ(0, pipe(pipe_fds));
	ASSERT_EQ((ssize_t)PAGE, vmsplice(pipe_fds[1], &iovec, 1, 0));
	EXPECT_EQ(1, keep_copies(_metadata, self->fd, self->view, &self->copies));
	EXPECT_EQ(1, keep_copies(_metadata, self->fd, self->view, &self->copies));
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	/* Once more, for what he wrote until he let go */
	EXPECT_EQ(1, keep_copies(_metadata, self->fd, self->view, &self->copies));
	EXPECT_EQ(0, keep_copies(_metadata, self->fd, self->view, &self->copies));
}

/* MADV_DONTNEED takes all entries away; from 6.14 on their page tables, too. */
TEST_F(keep, notices_what_no_page_table_knows)
{
	const size_t LARGE = 3 * PMD_PAGES, STEP = 8;
	int fd = pool_filled(_metadata, LARGE), snapshot;
	char *view = view_map(_metadata, fd, LARGE);
	uint64_t copies;

	for (size_t page = 0; page < LARGE; page += STEP)
		page_set(page_at(view, page), TAG(1, page));
	EXPECT_EQ(LARGE / STEP, reset_try(fd, view, LARGE, KEEP_WRITTEN));
	copies = view_info(_metadata, fd, view).counters.copies_reset;
	for (size_t page = 0; page < LARGE; page += 2 * STEP)
		page_set(page_at(view, page), TAG(2, page));
	ASSERT_EQ(0, madvise(view, LARGE * PAGE, MADV_DONTNEED));
	EXPECT_EQ(LARGE / STEP, reset_try(fd, view, LARGE, KEEP_WRITTEN));
	EXPECT_EQ(copies + LARGE / STEP / 2,
		  view_info(_metadata, fd, view).counters.copies_reset);
	for (size_t page = 0; page < LARGE; page++)
		EXPECT_EQ(TAG(0, page), page_tag(page_at(view, page)));

	for (size_t page = 0; page < LARGE; page += STEP)
		page_set(page_at(view, page), TAG(3, page));
	ASSERT_EQ(0, madvise(view, LARGE * PAGE, MADV_DONTNEED));
	snapshot = snapshot_take(_metadata, fd, view);
	for (size_t page = 0; page < LARGE; page += STEP) {
		page_set(page_at(view, page), TAG(4, page));
		EXPECT_EQ(TAG(3, page), pool_page_tag(_metadata, snapshot, page));
	}
	close(snapshot);
	munmap(view, LARGE * PAGE);
	close(fd);
}

TEST_F(keep, copies_all_without_the_flag)
{
	size_t written = written_pages(0, PAGES);

	for (int i = 1; i < 4; i++) {
		EXPECT_EQ((long)written,
			  reset_try(self->fd, self->view, PAGES, COWPOOL_RESET_KEEP));
		EXPECT_EQ(i * written,
			  view_info(_metadata, self->fd, self->view).counters.copies_reset);
	}
}

/* No entries are cleaned then. */
TEST_F(keep, copies_all_of_a_view_in_parts)
{
	size_t written = written_pages(0, PAGES);

	keep_copies(_metadata, self->fd, self->view, &self->copies);
	ASSERT_EQ(0, mprotect(page_at(self->view, 10), PAGE, PROT_READ));
	EXPECT_EQ(written, keep_copies(_metadata, self->fd, self->view, &self->copies));
}

/*
 * Somebody got hold of a page while it was shared, and the other owner is gone: what he
 * holds is what he was given, whatever becomes of the view's page.
 */
TEST_F(reset, page_held_by_a_pipe)
{
	uint64_t held[PAGE / sizeof(uint64_t)];
	int pipe_fd;

	write_some(self->view, 1);
	pipe_fd = child_held(_metadata, self->view, PAGES, 1);
	EXPECT_EQ((long)written_pages(0, PAGES),
		  reset_try(self->fd, self->view, PAGES, variant->flags));
	ASSERT_EQ((ssize_t)PAGE, read(pipe_fd, held, PAGE));
	EXPECT_EQ(TAG(1, 1), page_tag(held));
	expect_reset(_metadata, self->view, 1, 0, PAGES);
	close(pipe_fd);
}

struct busy {
	char *view;
	atomic_uint pauses, paused;	/* how many were asked for, and made */
	atomic_bool stop;
};

/* Writes all the time, in user mode only, but for pauses. */
static void *be_busy(void *arg)
{
	struct busy *busy = arg;

	while (!busy->stop) {
		for (size_t page = 0; page < PAGES; page++)
			if (is_written(page))
				page_set(page_at(busy->view, page), TAG(2, page));
		busy->paused = busy->pauses;
		while (busy->paused % 2 && busy->pauses % 2 && !busy->stop)
			;
	}
	return NULL;
}

/* Has it pause, or go on. */
static void busy_turn(struct busy *busy)
{
	busy->pauses++;
	while (busy->paused != busy->pauses)
		sched_yield();
}

/* What another processor writes after a reset is noticed by the next one. */
TEST_F(keep, notices_other_processors)
{
	struct busy busy = { .view = self->view };
	pthread_t thread;

	ASSERT_EQ(0, pthread_create(&thread, NULL, be_busy, &busy));
	for (int i = 0; i < 50; i++) {
		/* It reaches each page by what its TLB has, as far as that may be. */
		EXPECT_LE(0, reset_try(self->fd, self->view, PAGES, KEEP_WRITTEN));
		/* Hands dirty bits on, too */
		if (i % 2)
			close(snapshot_take(_metadata, self->fd, self->view));
		busy_turn(&busy);
		keep_copies(_metadata, self->fd, self->view, &self->copies);
		busy_turn(&busy);
	}
	busy.stop = true;
	pthread_join(thread, NULL);
}

struct writer {
	atomic_bool stop;
	char *view;
	unsigned long rounds;
};

static void *write_on(void *arg)
{
	struct writer *writer = arg;

	for (; !writer->stop; writer->rounds++)
		for (size_t page = 0; page < PAGES; page++)
			*(volatile uint64_t *)page_at(writer->view, page) =
				page < HOLE ? TAG(0, page) : 0;
	return NULL;
}

/*
 * While a thread writes what the pool holds anyway, whatever is reset, no page
 * shows anything else. A reset that lets go of a page too early would show.
 */
TEST_F(reset, while_written)
{
	struct writer writer = { .view = self->view };
	char *other = view_map(_metadata, self->fd, PAGES);
	pthread_t thread;

	ASSERT_EQ(0, pthread_create(&thread, NULL, write_on, &writer));
	for (int i = 0; i < 60; i++) {
		size_t first = i * 7 % PAGES, nr = 1 + i * 13 % (PAGES - first);

		/* So that freed pages soon hold something else */
		write_some(other, 1 + i);
		EXPECT_LE(0, reset_try(self->fd, page_at(self->view, first), nr,
				       variant->flags));
		for (size_t page = 0; page < PAGES; page++)
			EXPECT_EQ(page < HOLE ? TAG(0, page) : 0,
				  page_tag(page_at(self->view, page)));
		if (i % 16 == 0)
			reset_try(self->fd, other, PAGES, 0);
	}
	writer.stop = true;
	pthread_join(thread, NULL);
	EXPECT_LT(0, writer.rounds);
	munmap(other, PAGES * PAGE);
}

TEST_HARNESS_MAIN
