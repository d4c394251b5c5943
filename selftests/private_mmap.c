// SPDX-License-Identifier: GPL-2.0
/*
 * mmap(MAP_PRIVATE): the kernel's own copy-on-write over a pool. It must
 * behave as over any file, so every test is done to a pool and to a memfd of
 * the same content, and both must show the same.
 */
#include "snapshot.h"

#include <sys/ptrace.h>

#define PAGES 1100

FIXTURE(private_mmap) {
	int fd;
	char *map;
};

FIXTURE_VARIANT(private_mmap) {
	bool cowpool;
};

FIXTURE_VARIANT_ADD(private_mmap, pool) { true };
FIXTURE_VARIANT_ADD(private_mmap, memfd) { false };

FIXTURE_SETUP(private_mmap)
{
	self->fd = pool_or_memfd(_metadata, variant->cowpool, PAGES);
	/* The last pages are holes. */
	pool_fill(_metadata, self->fd, 0, PAGES - 10);
	self->map = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE,
			 self->fd, 0);
	ASSERT_NE(MAP_FAILED, self->map);
}

FIXTURE_TEARDOWN(private_mmap)
{
	for (size_t page = 0; page < PAGES; page++) {
		EXPECT_EQ(page < PAGES - 10 ? TAG(0, page) : 0,
			  pool_page_tag(_metadata, self->fd, page));
	}
	munmap(self->map, PAGES * PAGE);
	close(self->fd);
}

static uint64_t expected_tag(size_t page, int writer)
{
	if (page % 50 == 0 || page == PAGES - 1)
		return TAG(writer, page);
	return page < PAGES - 10 ? TAG(0, page) : 0;
}

/* Half of the pages are read first. */
static void write_some(char *map, int writer)
{
	for (size_t page = 0; page < PAGES; page += page == PAGES - 50 ? 49 : 50) {
		if (page % 100)
			page_tag(page_at(map, page));
		page_set(page_at(map, page), TAG(writer, page));
	}
}

static void expect_pages(struct __test_metadata *_metadata, char *map, int writer)
{
	for (size_t page = 0; page < PAGES; page++) {
		EXPECT_EQ(expected_tag(page, writer), page_tag(page_at(map, page)))
			TH_LOG("page %zu", page);
	}
}

TEST_F(private_mmap, writes_are_private)
{
	char *other = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE,
			   self->fd, 0);

	ASSERT_NE(MAP_FAILED, other);
	write_some(self->map, 1);
	write_some(other, 2);
	expect_pages(_metadata, self->map, 1);
	expect_pages(_metadata, other, 2);
	munmap(other, PAGES * PAGE);
}

TEST_F(private_mmap, fork)
{
	pid_t child;

	write_some(self->map, 1);
	child = child_fork(_metadata);
	if (!child) {
		expect_pages(_metadata, self->map, 1);
		write_some(self->map, 2);
		expect_pages(_metadata, self->map, 2);
		_exit(0);
	}
	child_join(_metadata, child);
	expect_pages(_metadata, self->map, 1);
}

/* Here MADV_DONTNEED does throw the private pages away. */
TEST_F(private_mmap, dontneed)
{
	write_some(self->map, 1);
	ASSERT_EQ(0, madvise(self->map, PAGES * PAGE, MADV_DONTNEED));
	for (size_t page = 0; page < PAGES; page++) {
		EXPECT_EQ(page < PAGES - 10 ? TAG(0, page) : 0,
			  page_tag(page_at(self->map, page)));
	}
	write_some(self->map, 2);
	expect_pages(_metadata, self->map, 2);
}

TEST_F(private_mmap, unwritten_pages_exist_once)
{
	char *other = mmap(NULL, PAGES * PAGE, PROT_READ, MAP_PRIVATE, self->fd, 0);
	const size_t pages[] = { 1, 511, 512, 1024 };

	ASSERT_NE(MAP_FAILED, other);
	for (size_t i = 0; i < ARRAY_SIZE(pages); i++) {
		char *mine = page_at(self->map, pages[i]), *theirs = page_at(other, pages[i]);

		page_tag(mine);
		page_tag(theirs);
		EXPECT_NE(0, frame_of(_metadata, mine));
		EXPECT_EQ(frame_of(_metadata, mine), frame_of(_metadata, theirs));
		*mine = 0;
		EXPECT_NE(frame_of(_metadata, mine), frame_of(_metadata, theirs));
	}
	munmap(other, PAGES * PAGE);
}

TEST_F(private_mmap, move_and_protect)
{
	char *moved;

	write_some(self->map, 1);
	ASSERT_EQ(0, mprotect(page_at(self->map, 40), 20 * PAGE, PROT_READ));
	EXPECT_EQ(SIGSEGV, access_byte(page_at(self->map, 50), STORE));
	ASSERT_EQ(0, mprotect(page_at(self->map, 40), 20 * PAGE, PROT_READ | PROT_WRITE));
	expect_pages(_metadata, self->map, 1);
	moved = mremap(self->map, PAGES * PAGE, PAGES * PAGE, MREMAP_MAYMOVE);
	ASSERT_NE(MAP_FAILED, moved);
	self->map = moved;
	expect_pages(_metadata, self->map, 1);
	write_some(self->map, 2);
	expect_pages(_metadata, self->map, 2);
}

/* Behind the end there is nothing, in a mapping of a snapshot either. */
TEST_F(private_mmap, grows_beyond_the_end)
{
	char *view, *grown;
	int fd = self->fd;

	write_some(self->map, 1);
	if (variant->cowpool) {
		view = view_map(_metadata, self->fd, PAGES);
		page_set(view, TAG(3, 0));
		fd = snapshot_take(_metadata, self->fd, view);
		munmap(view, PAGES * PAGE);
	}
	view = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	ASSERT_NE(MAP_FAILED, view);
	grown = mremap(view, PAGES * PAGE, 2 * PAGES * PAGE, MREMAP_MAYMOVE);
	ASSERT_NE(MAP_FAILED, grown);
	for (size_t page = PAGES; page < 2 * PAGES; page += PAGES - 1) {
		EXPECT_EQ(SIGBUS, access_byte(page_at(grown, page), LOAD));
		EXPECT_EQ(SIGBUS, access_byte(page_at(grown, page), STORE));
	}
	EXPECT_EQ(TAG(variant->cowpool ? 3 : 0, 0), page_tag(grown));
	EXPECT_EQ(0, page_tag(page_at(grown, PAGES - 1)));
	munmap(grown, 2 * PAGES * PAGE);
	if (fd != self->fd)
		close(fd);

	self->map = mremap(self->map, PAGES * PAGE, (PAGES + 1) * PAGE, MREMAP_MAYMOVE);
	ASSERT_NE(MAP_FAILED, self->map);
	EXPECT_EQ(SIGBUS, access_byte(page_at(self->map, PAGES), LOAD));
	EXPECT_EQ(SIGBUS, access_byte(page_at(self->map, PAGES), STORE));
	munmap(page_at(self->map, PAGES), PAGE);
	expect_pages(_metadata, self->map, 1);
}

/* It keeps the pool from being written, and is no view of ours. */
TEST_F(private_mmap, what_the_pool_knows)
{
	struct cowpool_counters none = {};
	struct cowpool_info info;
	char byte = 0;

	if (!variant->cowpool)
		SKIP(return, "a memfd has no counters");
	write_some(self->map, 1);
	info = pool_info(_metadata, self->fd);
	EXPECT_EQ(COWPOOL_STATE_MAPPED, info.state);
	EXPECT_EQ(0, info.views);
	EXPECT_EQ(0, memcmp(&none, &info.counters, sizeof(none)));
	EXPECT_EQ(-1, pwrite(self->fd, &byte, 1, 0));
	EXPECT_EQ(ETXTBSY, errno);
}

/*
 * What the OOM killer takes from a process that is on its way out does not show the
 * pool's content instead: it might still go to a file.
 */
TEST_F(private_mmap, reaped)
{
	char *addr = page_at(self->map, PAGES - 1), path[32];
	pid_t child = child_fork(_metadata);
	int mem, pidfd, status;
	uint64_t tag;

	if (!child) {
		page_set(addr, TAG(1, 0));
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		_exit(1);
	}
	ASSERT_EQ(child, waitpid(child, &status, 0));
	ASSERT_TRUE(WIFSTOPPED(status));
	snprintf(path, sizeof(path), "/proc/%d/mem", child);
	mem = open(path, O_RDONLY);
	ASSERT_LE(0, mem);
	pidfd = syscall(SYS_pidfd_open, child, 0);
	ASSERT_LE(0, pidfd);
	ASSERT_EQ((ssize_t)sizeof(tag), pread(mem, &tag, sizeof(tag), (off_t)addr));
	EXPECT_EQ(TAG(1, 0), tag);

	/* It stops again before it gives its memory back. */
	ASSERT_EQ(0, ptrace(PTRACE_SETOPTIONS, child, NULL, PTRACE_O_TRACEEXIT));
	ASSERT_EQ(0, kill(child, SIGKILL));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	ASSERT_EQ(SIGTRAP | PTRACE_EVENT_EXIT << 8, status >> 8);
	ASSERT_EQ(0, syscall(SYS_process_mrelease, pidfd, 0));
	/* The kernel maps what it has of a memfd around a page without a question. */
	if (variant->cowpool) {
		EXPECT_EQ(-1, pread(mem, &tag, sizeof(tag), (off_t)addr));
		EXPECT_EQ(EIO, errno);
	}

	close(pidfd);
	close(mem);
	ptrace(PTRACE_CONT, child, NULL, NULL);
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(SIGKILL, WTERMSIG(status));
}

TEST_HARNESS_MAIN
