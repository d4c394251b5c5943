// SPDX-License-Identifier: GPL-2.0
/*
 * Pages that the hardware has destroyed: SIGBUS or EIO for those who touch
 * one, nothing for those who do not, no copy of it, and no second life for its
 * frame.
 *
 * MADV_HWPOISON says of a page that it is destroyed. Its bytes are still
 * there, so an entry that stands goes on to work; a real memory error would
 * raise a machine check, which is SIGBUS, too. The frames that are poisoned
 * here stay unused until the machine is booted again: a few pages, and a few
 * folios of 2 MiB.
 */
#include "snapshot.h"

/* Bits of /proc/kpageflags */
#define KPF_BUDDY		(1ULL << 10)
#define KPF_COMPOUND_TAIL	(1ULL << 16)
#define KPF_HWPOISON		(1ULL << 19)

#define PAGES	1024
/* The page that is destroyed, in the middle of a 2 MiB folio if there is one. */
#define LOST	300

FIXTURE(poison) {
	int fd;
	char *view;
};

FIXTURE_SETUP(poison)
{
	if (madvise(NULL, 0, MADV_HWPOISON))
		SKIP(return, "MADV_HWPOISON: %s", strerror(errno));
	self->fd = pool_filled(_metadata, PAGES);
	self->view = view_map(_metadata, self->fd, PAGES);
}

FIXTURE_TEARDOWN(poison)
{
	munmap(self->view, PAGES * PAGE);
	close(self->fd);
}

static uint64_t frame_flags(struct __test_metadata *_metadata, uint64_t frame)
{
	int fd = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	uint64_t flags;

	ASSERT_LE(0, fd);
	ASSERT_EQ((ssize_t)sizeof(flags),
		  pread(fd, &flags, sizeof(flags), frame * sizeof(flags)));
	close(fd);
	return flags;
}

/*
 * Destroys the page at @addr, which is mapped. The kernel reports EBUSY: it
 * knows of nothing that it could do about a page that is on no list of its own.
 * Returns the frame.
 */
static uint64_t page_poison(struct __test_metadata *_metadata, void *addr)
{
	uint64_t frame = frame_of(_metadata, addr);

	ASSERT_NE(0, frame);
	madvise(addr, PAGE, MADV_HWPOISON);
	ASSERT_TRUE(frame_flags(_metadata, frame) & KPF_HWPOISON);
	return frame;
}

/* @lost cannot be touched; its neighbours, near and far, are what they were. */
static void expect_lost(struct __test_metadata *_metadata, char *view, size_t lost)
{
	madvise(page_at(view, lost), PAGE, MADV_DONTNEED);
	EXPECT_EQ(SIGBUS, access_byte(page_at(view, lost), LOAD));
	EXPECT_EQ(SIGBUS, access_byte(page_at(view, lost), BLIND_STORE));
	EXPECT_EQ(-1, madvise(page_at(view, lost), PAGE, MADV_POPULATE_READ));
	EXPECT_EQ(EHWPOISON, errno);
	EXPECT_EQ(-1, madvise(page_at(view, lost), PAGE, MADV_POPULATE_WRITE));
	EXPECT_EQ(EHWPOISON, errno);
	for (size_t page = 0; page < PAGES; page++) {
		if (page == lost)
			continue;
		EXPECT_EQ(TAG(0, page), page_tag(page_at(view, page)))
			TH_LOG("page %zu", page);
	}
}

static void expect_unreadable(struct __test_metadata *_metadata, int fd, size_t lost)
{
	static char buffer[1 << 16];

	EXPECT_EQ(-1, pread(fd, buffer, 1, lost * PAGE + 5));
	EXPECT_EQ(EIO, errno);
	/* As far as it goes */
	EXPECT_EQ((ssize_t)PAGE, pread(fd, buffer, 3 * PAGE, (lost - 1) * PAGE));
	EXPECT_EQ(TAG(0, lost - 1), page_tag(buffer));
	EXPECT_EQ(TAG(0, lost + 1), pool_page_tag(_metadata, fd, lost + 1));
}

/* All who share the pool meet the same. */
TEST_F(poison, page_of_the_pool)
{
	char *other = view_map(_metadata, self->fd, PAGES);
	char *private = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE,
			     self->fd, 0);
	struct cowpool_range range[2];
	int snapshot;
	size_t next;
	pid_t child;

	ASSERT_NE(MAP_FAILED, private);
	ASSERT_EQ(TAG(0, LOST), page_tag(page_at(self->view, LOST)));
	/* One view has its copy in time. */
	page_set(page_at(other, LOST), TAG(2, LOST));
	page_poison(_metadata, page_at(self->view, LOST));

	expect_lost(_metadata, self->view, LOST);
	expect_lost(_metadata, private, LOST);
	expect_unreadable(_metadata, self->fd, LOST);
	EXPECT_EQ(0, view_copies(_metadata, self->fd, self->view));
	page_set(page_at(self->view, LOST + 1), TAG(1, LOST + 1));
	EXPECT_EQ(1, private_pages(_metadata, self->fd, self->view));
	EXPECT_EQ(1, reset_try(self->fd, self->view, PAGES, 0));

	child = child_fork(_metadata);
	if (!child) {
		expect_lost(_metadata, self->view, LOST);
		_exit(0);
	}
	child_join(_metadata, child);
	snapshot = snapshot_take(_metadata, self->fd, self->view);
	expect_unreadable(_metadata, snapshot, LOST);
	close(snapshot);

	/* The copy is good, but there is nothing to compare it with, or to go back to. */
	EXPECT_EQ(TAG(2, LOST), page_tag(page_at(other, LOST)));
	EXPECT_EQ(1, dirty_try(self->fd, other, PAGES, COWPOOL_DIRTY_CONTENT, range, 2, &next));
	EXPECT_EQ((uintptr_t)page_at(other, LOST), range[0].start);
	EXPECT_EQ(-1, reset_try(self->fd, other, PAGES, COWPOOL_RESET_KEEP));
	EXPECT_EQ(EHWPOISON, errno);
	EXPECT_EQ(1, reset_try(self->fd, other, PAGES, 0));
	expect_lost(_metadata, other, LOST);
	munmap(other, PAGES * PAGE);
	munmap(private, PAGES * PAGE);
}

/*
 * With the pool go its frames, but not the one that is lost: nobody else gets
 * it. That goes for a folio as a whole, as there is no way to cut it up.
 */
TEST_F(poison, frame_is_not_used_again)
{
	uint64_t frame, flags;

	ASSERT_EQ(TAG(0, LOST), page_tag(page_at(self->view, LOST)));
	frame = page_poison(_metadata, page_at(self->view, LOST));
	flags = frame_flags(_metadata, frame) & (KPF_HWPOISON | KPF_COMPOUND_TAIL);
	munmap(self->view, PAGES * PAGE);
	close(self->fd);
	EXPECT_EQ(flags, frame_flags(_metadata, frame) &
			 (KPF_HWPOISON | KPF_COMPOUND_TAIL | KPF_BUDDY));
}

/* A private page is its owner's own loss; RESET gives it up. */
TEST_F(poison, private_page)
{
	uint64_t frames = stat_value(_metadata, "private_frames"), frame;
	char *other = view_map(_metadata, self->fd, PAGES);

	page_set(page_at(self->view, LOST), TAG(1, LOST));
	frame = page_poison(_metadata, page_at(self->view, LOST));
	expect_lost(_metadata, self->view, LOST);
	EXPECT_EQ(TAG(0, LOST), page_tag(page_at(other, LOST)));
	EXPECT_EQ(TAG(0, LOST), pool_page_tag(_metadata, self->fd, LOST));
	EXPECT_EQ(1, private_pages(_metadata, self->fd, self->view));

	EXPECT_EQ(1, reset_try(self->fd, self->view, PAGES, 0));
	EXPECT_EQ(TAG(0, LOST), page_tag(page_at(self->view, LOST)));
	page_set(page_at(self->view, LOST), TAG(2, LOST));
	EXPECT_EQ(TAG(2, LOST), page_tag(page_at(self->view, LOST)));
	EXPECT_EQ(frames + 1, stat_value(_metadata, "private_frames"));
	EXPECT_EQ(KPF_HWPOISON, frame_flags(_metadata, frame) & (KPF_HWPOISON | KPF_BUDDY));
	munmap(other, PAGES * PAGE);
}

/* There is nothing to be kept of a page that is lost. */
TEST_F(poison, reset_keep)
{
	page_set(page_at(self->view, LOST), TAG(1, LOST));
	page_set(page_at(self->view, LOST + 1), TAG(1, LOST + 1));
	page_poison(_metadata, page_at(self->view, LOST));
	EXPECT_EQ(2, reset_try(self->fd, self->view, PAGES, COWPOOL_RESET_KEEP));
	EXPECT_EQ(1, private_pages(_metadata, self->fd, self->view));
	for (size_t page = 0; page < PAGES; page++) {
		EXPECT_EQ(TAG(0, page), page_tag(page_at(self->view, page)))
			TH_LOG("page %zu", page);
	}
	page_set(page_at(self->view, LOST), TAG(2, LOST));
	EXPECT_EQ(TAG(2, LOST), page_tag(page_at(self->view, LOST)));
}

/* fork and SNAPSHOT lose that page, no other, and succeed. */
TEST_F(poison, fork_and_snapshot)
{
	int snapshot;
	pid_t child;

	page_set(page_at(self->view, LOST), TAG(1, LOST));
	page_poison(_metadata, page_at(self->view, LOST));
	child = child_fork(_metadata);
	if (!child) {
		expect_lost(_metadata, self->view, LOST);
		page_set(page_at(self->view, LOST + 1), TAG(2, LOST + 1));
		EXPECT_EQ(TAG(2, LOST + 1), page_tag(page_at(self->view, LOST + 1)));
		_exit(0);
	}
	child_join(_metadata, child);
	snapshot = snapshot_take(_metadata, self->fd, self->view);
	expect_unreadable(_metadata, snapshot, LOST);
	close(snapshot);
	expect_lost(_metadata, self->view, LOST);
}

/* A page that relatives share is lost to both; neither gets a copy. */
TEST_F(poison, page_of_relatives)
{
	pthread_barrier_t *barrier = barrier_new(_metadata, 2);
	pid_t child;

	page_set(page_at(self->view, LOST), TAG(1, LOST));
	child = child_fork(_metadata);
	if (!child) {
		pthread_barrier_wait(barrier);
		expect_lost(_metadata, self->view, LOST);
		EXPECT_EQ(0, view_copies(_metadata, self->fd, self->view));
		EXPECT_EQ(1, reset_try(self->fd, self->view, PAGES, 0));
		EXPECT_EQ(TAG(0, LOST), page_tag(page_at(self->view, LOST)));
		_exit(0);
	}
	ASSERT_EQ(TAG(1, LOST), page_tag(page_at(self->view, LOST)));
	page_poison(_metadata, page_at(self->view, LOST));
	pthread_barrier_wait(barrier);
	expect_lost(_metadata, self->view, LOST);
	EXPECT_EQ(1, view_copies(_metadata, self->fd, self->view));
	child_join(_metadata, child);
	expect_lost(_metadata, self->view, LOST);
	EXPECT_EQ(1, view_copies(_metadata, self->fd, self->view));
}

/* An entry still stands: the kernel knows of nobody that it could take it from. */
TEST_F(poison, write_to_what_is_mapped)
{
	char *addr = page_at(self->view, LOST);

	ASSERT_EQ(TAG(0, LOST), page_tag(addr));
	page_poison(_metadata, addr);
	EXPECT_EQ(SIGBUS, access_byte(addr, BLIND_STORE));
	EXPECT_EQ(0, view_copies(_metadata, self->fd, self->view));
	EXPECT_EQ(0, private_pages(_metadata, self->fd, self->view));
	expect_lost(_metadata, self->view, LOST);
}

/* Nothing is written to it any more, nor is it said to be. */
TEST_F(poison, write_to_the_pool)
{
	static char buffer[3 * 4096];
	ssize_t page = PAGE;

	if (3 * PAGE > sizeof(buffer))
		SKIP(return, "pages are too large");
	ASSERT_EQ(TAG(0, LOST), page_tag(page_at(self->view, LOST)));
	page_poison(_metadata, page_at(self->view, LOST));
	ASSERT_EQ(0, munmap(self->view, PAGES * PAGE));
	EXPECT_EQ(-1, pwrite(self->fd, buffer, 1, LOST * PAGE + 5));
	EXPECT_EQ(EIO, errno);
	EXPECT_EQ(page, pwrite(self->fd, buffer, 3 * PAGE, (LOST - 1) * PAGE));
	EXPECT_EQ(page, pwrite(self->fd, buffer, PAGE, (LOST + 1) * PAGE));
	EXPECT_EQ(0, pool_page_tag(_metadata, self->fd, LOST - 1));
	EXPECT_EQ(0, pool_page_tag(_metadata, self->fd, LOST + 1));
	EXPECT_EQ(TAG(0, LOST + 2), pool_page_tag(_metadata, self->fd, LOST + 2));
	EXPECT_EQ(-1, pread(self->fd, buffer, 1, LOST * PAGE));
	EXPECT_EQ(EIO, errno);
}

/* System calls that would touch it report it; what they did before stays done. */
TEST_F(poison, system_calls)
{
	char *lost = page_at(self->view, LOST);
	int ends[2];

	ASSERT_EQ(TAG(0, LOST), page_tag(lost));
	page_poison(_metadata, lost);
	madvise(lost, PAGE, MADV_DONTNEED);
	ASSERT_EQ(0, pipe(ends));
	EXPECT_EQ(100, write(ends[1], lost - 100, 100));
	EXPECT_EQ(-1, write(ends[1], lost, 100));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, read(ends[0], lost, 100));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(0, private_pages(_metadata, self->fd, self->view));
	EXPECT_EQ(100, read(ends[0], lost + PAGE, 100));
	EXPECT_EQ(1, private_pages(_metadata, self->fd, self->view));
	close(ends[0]);
	close(ends[1]);
}

TEST_HARNESS_MAIN
