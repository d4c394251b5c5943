// SPDX-License-Identifier: GPL-2.0
/*
 * SNAPSHOT: a view's content at one instant, as a pool that nothing changes any
 * more and that can be used like any other.
 */
#include "snapshot.h"

#include <sys/socket.h>
#include <sys/uio.h>

#define PAGES 80	/* more than one node */

/* The pool's pages from HOLE on were never written. */
#define HOLE 70

FIXTURE(snapshot) {
	int fd;
	char *view;
};

FIXTURE_SETUP(snapshot)
{
	self->fd = pool_create(_metadata, PAGES, NULL, 0);
	pool_fill(_metadata, self->fd, 0, HOLE);
	self->view = view_map(_metadata, self->fd, PAGES);
}

FIXTURE_TEARDOWN(snapshot)
{
	if (self->view)
		munmap(self->view, PAGES * PAGE);
	if (self->fd >= 0)
		close(self->fd);
}

/* Pages 0, 7, 14, ... carry the tag of @writer. */
static void write_some(char *view, unsigned int writer)
{
	for (size_t page = 0; page < PAGES; page += 7)
		page_set(page_at(view, page), TAG(writer, page));
}

static uint64_t written_tag(size_t page, unsigned int writer)
{
	if (page % 7 == 0)
		return TAG(writer, page);
	return page < HOLE ? TAG(0, page) : 0;
}

static void expect_pool(struct __test_metadata *_metadata, int fd, unsigned int writer)
{
	for (size_t page = 0; page < PAGES; page++)
		EXPECT_EQ(written_tag(page, writer), pool_page_tag(_metadata, fd, page));
}

static void expect_view(struct __test_metadata *_metadata, char *view,
			unsigned int writer)
{
	for (size_t page = 0; page < PAGES; page++)
		EXPECT_EQ(written_tag(page, writer), page_tag(page_at(view, page)));
}

TEST_F(snapshot, holds_what_was_there)
{
	int snapshot;
	char *copy;

	write_some(self->view, 1);
	snapshot = snapshot_take(_metadata, self->fd, self->view);
	write_some(self->view, 2);
	expect_pool(_metadata, snapshot, 1);
	copy = view_map(_metadata, snapshot, PAGES);
	expect_view(_metadata, copy, 1);
	expect_view(_metadata, self->view, 2);

	/* A view of it is as private as any. */
	write_some(copy, 3);
	expect_view(_metadata, copy, 3);
	expect_view(_metadata, self->view, 2);
	expect_pool(_metadata, snapshot, 1);
	munmap(copy, PAGES * PAGE);
	close(snapshot);
}

/* SNAPSHOT copies nothing; afterwards each page costs one copy, or none. */
TEST_F(snapshot, copies_are_made_later)
{
	uint64_t written = (PAGES + 6) / 7;
	struct cowpool_counters c;
	int snapshot;

	write_some(self->view, 1);
	snapshot = snapshot_take(_metadata, self->fd, self->view);
	EXPECT_EQ(written, view_copies(_metadata, self->fd, self->view));
	EXPECT_EQ(written, private_pages(_metadata, self->fd, self->view));
	write_some(self->view, 2);
	EXPECT_EQ(2 * written, view_copies(_metadata, self->fd, self->view));

	close(snapshot);
	snapshot = snapshot_take(_metadata, self->fd, self->view);
	close(snapshot);
	write_some(self->view, 3);
	c = view_info(_metadata, self->fd, self->view).counters;
	EXPECT_EQ(2 * written, c.copies_first_touch + c.copies_after_read);
	EXPECT_EQ(written, c.reuses);
	EXPECT_EQ(written, c.private_pages);
	EXPECT_EQ(0, c.copies_pinned);
	EXPECT_EQ(2, c.snapshots);
	expect_view(_metadata, self->view, 3);
}

TEST_F(snapshot, is_a_pool)
{
	struct cowpool_info of = pool_info(_metadata, self->fd), info;
	struct stat stat;
	char *copy;
	int snapshot;

	write_some(self->view, 1);
	snapshot = snapshot_take(_metadata, self->fd, self->view);
	info = pool_info(_metadata, snapshot);
	EXPECT_EQ(COWPOOL_STATE_SEALED | COWPOOL_STATE_SNAPSHOT,
		  info.state & ~COWPOOL_STATE_MAPPED);
	EXPECT_NE(of.pool_id, info.pool_id);
	EXPECT_EQ(PAGES * PAGE, info.size);
	EXPECT_EQ(0, info.views);
	EXPECT_EQ(0600, info.mode);
	EXPECT_EQ(geteuid(), info.uid);
	EXPECT_STREQ("", info.name);
	EXPECT_EQ(0, info.counters.private_pages);

	copy = view_map(_metadata, snapshot, PAGES);
	EXPECT_EQ(1, pool_info(_metadata, snapshot).views);
	EXPECT_EQ(1, pool_info(_metadata, self->fd).views);
	EXPECT_EQ(info.pool_id, view_info(_metadata, self->fd, copy).pool_id);
	EXPECT_EQ(0, private_pages(_metadata, snapshot, copy));
	write_some(copy, 2);
	EXPECT_EQ((PAGES + 6) / 7, private_pages(_metadata, snapshot, copy));
	munmap(copy, PAGES * PAGE);

	EXPECT_EQ((off_t)(PAGES * PAGE), lseek(snapshot, 0, SEEK_END));
	EXPECT_EQ(0, fstat(snapshot, &stat));
	close(snapshot);
}

TEST_F(snapshot, reads_as_a_file)
{
	uint64_t buffer[PAGE / sizeof(uint64_t)];
	int snapshot;

	write_some(self->view, 1);
	snapshot = snapshot_take(_metadata, self->fd, self->view);
	for (size_t page = 0; page < PAGES; page++) {
		ASSERT_EQ((ssize_t)PAGE, read(snapshot, buffer, PAGE));
		EXPECT_EQ(written_tag(page, 1), page_tag(buffer));
	}
	EXPECT_EQ(0, read(snapshot, buffer, PAGE));
	close(snapshot);
}

TEST_F(snapshot, refuses_to_change)
{
	int snapshot = snapshot_take(_metadata, self->fd, self->view);

	EXPECT_EQ(FD_CLOEXEC, fcntl(snapshot, F_GETFD));
	EXPECT_EQ(-1, pwrite(snapshot, "x", 1, 0));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(0, ioctl(snapshot, COWPOOL_IOC_SEAL));
	EXPECT_EQ(-1, ioctl(snapshot, COWPOOL_IOC_DESTROY));
	EXPECT_EQ(ENOENT, errno);
	close(snapshot);
}

/* What it shares with the pool below must not change either. */
TEST_F(snapshot, keeps_the_pool_as_it_is)
{
	int snapshot = snapshot_take(_metadata, self->fd, self->view);

	munmap(self->view, PAGES * PAGE);
	self->view = NULL;
	EXPECT_EQ(-1, pwrite(self->fd, "x", 1, 0));
	EXPECT_EQ(ETXTBSY, errno);
	EXPECT_EQ(-1, pwrite(self->fd, "x", 1, HOLE * PAGE));
	EXPECT_EQ(ETXTBSY, errno);
	EXPECT_EQ(TAG(0, 0), pool_page_tag(_metadata, snapshot, 0));
	EXPECT_EQ(0, pool_page_tag(_metadata, snapshot, HOLE));
	close(snapshot);
	EXPECT_EQ(1, pwrite(self->fd, "x", 1, 0));
}

TEST_F(snapshot, outlives_view_and_pool)
{
	int snapshot;

	write_some(self->view, 1);
	snapshot = snapshot_take(_metadata, self->fd, self->view);
	munmap(self->view, PAGES * PAGE);
	self->view = NULL;
	close(self->fd);
	self->fd = -1;
	expect_pool(_metadata, snapshot, 1);
	self->view = view_map(_metadata, snapshot, PAGES);
	close(snapshot);
	expect_view(_metadata, self->view, 1);
}

/* Taken by a process that is gone, of a view that went with it. */
TEST_F(snapshot, outlives_the_process)
{
	char byte = 0, control[CMSG_SPACE(sizeof(int))] = {};
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	int sockets[2], snapshot;
	pid_t child;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_DGRAM, 0, sockets));
	write_some(self->view, 1);
	child = child_fork(_metadata);
	if (!child) {
		write_some(self->view, 2);
		snapshot = snapshot_take(_metadata, self->fd, self->view);
		write_some(self->view, 3);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(header), &snapshot, sizeof(snapshot));
		ASSERT_EQ(1, sendmsg(sockets[1], &message, 0));
		_exit(0);
	}
	child_join(_metadata, child);
	ASSERT_EQ(1, recvmsg(sockets[0], &message, 0));
	memcpy(&snapshot, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(snapshot));
	expect_pool(_metadata, snapshot, 2);
	expect_view(_metadata, self->view, 1);
	close(snapshot);
	close(sockets[0]);
	close(sockets[1]);
}

TEST_F(snapshot, of_part_of_a_pool)
{
	char *part = mmap(NULL, 10 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
			  self->fd, 20 * PAGE);
	int snapshot;

	ASSERT_NE(MAP_FAILED, part);
	page_set(page_at(part, 3), TAG(1, 23));
	write_some(self->view, 2);	/* another view, which it knows nothing of */
	snapshot = snapshot_take(_metadata, self->fd, part);
	page_set(page_at(part, 3), TAG(3, 23));
	for (size_t page = 0; page < HOLE; page++)
		EXPECT_EQ(TAG(page == 23, page), pool_page_tag(_metadata, snapshot, page));
	munmap(part, 10 * PAGE);
	close(snapshot);
}

/* One instant of the whole view, whichever address is given. */
TEST_F(snapshot, of_a_view_in_pieces)
{
	void *addrs[] = {
		self->view, self->view + 1, page_at(self->view, 11),
		page_at(self->view, 30), page_at(self->view, PAGES) - 1,
	};
	char *room = mmap(NULL, 20 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, room);
	write_some(self->view, 1);
	ASSERT_EQ(0, mprotect(page_at(self->view, 10), 5 * PAGE, PROT_NONE));
	ASSERT_EQ(0, mprotect(page_at(self->view, 40), 5 * PAGE, PROT_READ));
	ASSERT_EQ(room, mremap(page_at(self->view, 50), 20 * PAGE, 20 * PAGE,
			       MREMAP_MAYMOVE | MREMAP_FIXED, room));
	for (size_t i = 0; i < ARRAY_SIZE(addrs); i++) {
		int snapshot = snapshot_take(_metadata, self->fd, addrs[i]);

		/* Of each piece that can be written */
		page_set(page_at(self->view, 7), TAG(2, 7));
		page_set(page_at(self->view, 35), TAG(2, 35));
		page_set(page_at(room, 56 - 50), TAG(2, 56));
		page_set(page_at(self->view, 77), TAG(2, 77));
		expect_pool(_metadata, snapshot, 1);
		close(snapshot);
		page_set(page_at(self->view, 7), TAG(1, 7));
		page_set(page_at(self->view, 35), TAG(1, 35));
		page_set(page_at(room, 56 - 50), TAG(1, 56));
		page_set(page_at(self->view, 77), TAG(1, 77));
	}
	munmap(room, 20 * PAGE);
}

#define DEPTH 20

/* Each is taken of a view of the one before, and all live. */
TEST_F(snapshot, of_snapshots)
{
	int snapshots[DEPTH], fd = self->fd;
	char *views[DEPTH];

	for (int i = 0; i < DEPTH; i++) {
		views[i] = view_map(_metadata, fd, PAGES);
		page_set(page_at(views[i], i), TAG(1 + i, i));
		page_set(page_at(views[i], 64), TAG(1 + i, 64));
		fd = snapshot_take(_metadata, fd, views[i]);
		snapshots[i] = fd;
		page_set(page_at(views[i], i + 1), TAG(100, i + 1));
	}
	for (int i = 0; i < DEPTH; i++) {
		for (int page = 0; page <= DEPTH; page++) {
			EXPECT_EQ(TAG(page <= i ? 1 + page : 0, page),
				  pool_page_tag(_metadata, snapshots[i], page));
			EXPECT_EQ(TAG(page == i + 1 ? 100 : page <= i ? 1 + page : 0, page),
				  page_tag(page_at(views[i], page)));
		}
		EXPECT_EQ(TAG(1 + i, 64), pool_page_tag(_metadata, snapshots[i], 64));
	}
	/* The oldest go first; the others need nothing of them. */
	for (int i = 0; i < DEPTH; i++) {
		munmap(views[i], PAGES * PAGE);
		close(snapshots[i]);
		if (i + 1 < DEPTH)
			EXPECT_EQ(TAG(DEPTH, 64),
				  pool_page_tag(_metadata, snapshots[DEPTH - 1], 64));
	}
}

TEST_F(snapshot, of_a_child)
{
	int before, after;
	pid_t child;

	write_some(self->view, 1);
	child = child_fork(_metadata);
	if (!child) {
		before = snapshot_take(_metadata, self->fd, self->view);
		write_some(self->view, 2);
		after = snapshot_take(_metadata, self->fd, self->view);
		write_some(self->view, 3);
		expect_pool(_metadata, before, 1);
		expect_pool(_metadata, after, 2);
		expect_view(_metadata, self->view, 3);
		_exit(0);
	}
	child_join(_metadata, child);
	expect_view(_metadata, self->view, 1);
}

/* MADV_DONTFORK keeps addresses from the child, not content from its snapshots. */
TEST_F(snapshot, of_a_child_without_a_part)
{
	int snapshot;
	pid_t child;

	write_some(self->view, 1);
	ASSERT_EQ(0, madvise(page_at(self->view, 7), 20 * PAGE, MADV_DONTFORK));
	child = child_fork(_metadata);
	if (!child) {
		EXPECT_EQ(SIGSEGV, access_byte(page_at(self->view, 7), LOAD));
		snapshot = snapshot_take(_metadata, self->fd, self->view);
		expect_pool(_metadata, snapshot, 1);
		_exit(0);
	}
	child_join(_metadata, child);
	expect_view(_metadata, self->view, 1);
}

/* The kernel's own copy-on-write works on a snapshot too. */
TEST_F(snapshot, mapped_privately)
{
	char *copy;
	int snapshot;

	write_some(self->view, 1);
	snapshot = snapshot_take(_metadata, self->fd, self->view);
	copy = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, snapshot, 0);
	ASSERT_NE(MAP_FAILED, copy);
	expect_view(_metadata, copy, 1);
	write_some(copy, 2);
	write_some(self->view, 3);
	expect_view(_metadata, copy, 2);
	expect_pool(_metadata, snapshot, 1);
	munmap(copy, PAGES * PAGE);
	close(snapshot);
}

TEST_F(snapshot, bad_input)
{
	uint64_t pools = stat_value(_metadata, "pools");
	char *private = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, self->fd, 0);
	char *gone = view_map(_metadata, self->fd, 1);
	struct cowpool_snapshot arg = { .addr = (uintptr_t)self->view };
	struct rlimit limit, none;

	munmap(gone, PAGE);
	EXPECT_EQ(-1, snapshot_try(self->fd, NULL));
	EXPECT_EQ(ENOENT, errno);
	EXPECT_EQ(-1, snapshot_try(self->fd, &arg));
	EXPECT_EQ(ENOENT, errno);
	EXPECT_EQ(-1, snapshot_try(self->fd, private));
	EXPECT_EQ(ENOENT, errno);
	EXPECT_EQ(-1, snapshot_try(self->fd, gone));
	EXPECT_EQ(ENOENT, errno);
	EXPECT_EQ(-1, snapshot_try(self->fd, (void *)-1UL));
	EXPECT_EQ(ENOENT, errno);

	arg.flags = 1;
	EXPECT_EQ(-1, ioctl(self->fd, COWPOOL_IOC_SNAPSHOT, &arg));
	EXPECT_EQ(EINVAL, errno);
	arg.flags = 0;
	arg.reserved = 1;
	EXPECT_EQ(-1, ioctl(self->fd, COWPOOL_IOC_SNAPSHOT, &arg));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, ioctl(self->fd, COWPOOL_IOC_SNAPSHOT, NULL));
	EXPECT_EQ(EFAULT, errno);

	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &limit));
	none = limit;
	none.rlim_cur = 0;
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &none));
	EXPECT_EQ(-1, snapshot_try(self->fd, self->view));
	EXPECT_EQ(EMFILE, errno);
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));

	EXPECT_EQ(pools, stat_value(_metadata, "pools"));
	EXPECT_EQ(0, view_info(_metadata, self->fd, self->view).counters.snapshots);
	munmap(private, PAGE);
}

/* Neither the descriptor's pool nor its mode matters, only the view. */
TEST_F(snapshot, by_any_descriptor)
{
	int other = open(COWPOOL_DEVICE, O_RDONLY | O_CLOEXEC), snapshot;

	ASSERT_LE(0, other);
	write_some(self->view, 1);
	snapshot = snapshot_take(_metadata, other, self->view);
	expect_pool(_metadata, snapshot, 1);
	close(snapshot);
	close(other);
}

/*
 * What somebody holds on to is copied for the snapshot and goes on being the view's,
 * whatever part of it shows the page, and wherever that is.
 */
TEST_F(snapshot, pages_held_of_a_view_in_parts)
{
	enum { READ_ONLY = 21, WRITABLE = 42, MOVED = 56 };
	static const size_t held[] = { 0, 14, READ_ONLY, WRITABLE, 49, MOVED, 63 };
	const size_t nr = sizeof(held) / sizeof(*held), moved_size = (PAGES - MOVED) * PAGE;
	uint64_t content[PAGE / sizeof(uint64_t)], copies;
	char *moved, *pages[sizeof(held) / sizeof(*held)];
	int ends[2], snapshot;

	write_some(self->view, 1);
	moved = mmap(NULL, moved_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, moved);
	ASSERT_EQ(moved, mremap(page_at(self->view, MOVED), moved_size, moved_size,
				MREMAP_MAYMOVE | MREMAP_FIXED, moved));
	ASSERT_EQ(0, mprotect(page_at(self->view, READ_ONLY),
			      (WRITABLE - READ_ONLY) * PAGE, PROT_READ));
	ASSERT_EQ(0, pipe(ends));
	for (size_t i = 0; i < nr; i++) {
		struct iovec iovec = { .iov_len = PAGE };

		pages[i] = held[i] < MOVED ? page_at(self->view, held[i]) :
					     page_at(moved, held[i] - MOVED);
		iovec.iov_base = pages[i];
		ASSERT_EQ((ssize_t)PAGE, vmsplice(ends[1], &iovec, 1, 0));
	}
	copies = view_copies(_metadata, self->fd, self->view);
	snapshot = snapshot_take(_metadata, self->fd, self->view);
	EXPECT_EQ(nr, view_info(_metadata, self->fd, self->view).counters.copies_pinned);
	for (size_t i = 0; i < nr; i++) {
		if (held[i] != READ_ONLY)
			page_set(pages[i], TAG(2, held[i]));
		ASSERT_EQ((ssize_t)PAGE, read(ends[0], content, PAGE));
		EXPECT_EQ(TAG(held[i] == READ_ONLY ? 1 : 2, held[i]), page_tag(content));
	}
	EXPECT_EQ(copies, view_copies(_metadata, self->fd, self->view));
	expect_pool(_metadata, snapshot, 1);
	close(snapshot);
	close(ends[0]);
	close(ends[1]);
	munmap(moved, moved_size);
}

/*
 * A relative that takes snapshots takes entries away here, too, and drops their
 * references last. Here it is interrupted in between, on the same processor:
 * the pages are not held by anybody.
 */
FIXTURE(relative) {
	int fd;
	char *view;
	char preempt[PREEMPT_SIZE];
};

FIXTURE_SETUP(relative)
{
	preempt_full(self->preempt);
	self->fd = pool_filled(_metadata, PAGES);
	self->view = view_map(_metadata, self->fd, PAGES);
}

FIXTURE_TEARDOWN_PARENT(relative)
{
	preempt_restore(self->preempt);
}

static void write_and_snapshot(struct __test_metadata *_metadata, int fd, char *view)
{
	for (size_t page = 0; page < PAGES; page++)
		*(volatile char *)page_at(view, page) = 1;
	usleep(rand() % 500);
	close(snapshot_take(_metadata, fd, view));
}

TEST_F(relative, is_interrupted)
{
	struct sched_param priority = { .sched_priority = 1 };
	cpu_set_t cpu;
	pid_t child;

	CPU_ZERO(&cpu);
	CPU_SET(sched_getcpu(), &cpu);
	ASSERT_EQ(0, sched_setaffinity(0, sizeof(cpu), &cpu));
	child = child_fork(_metadata);
	while (!child)
		write_and_snapshot(_metadata, self->fd, self->view);
	ASSERT_EQ(0, sched_setscheduler(0, SCHED_FIFO, &priority));
	for (int round = 0; round < 300; round++)
		write_and_snapshot(_metadata, self->fd, self->view);
	EXPECT_EQ(0, view_info(_metadata, self->fd, self->view).counters.copies_pinned);
	kill(child, SIGKILL);
	ASSERT_EQ(child, waitpid(child, NULL, 0));
	munmap(self->view, PAGES * PAGE);
	close(self->fd);
}

TEST_HARNESS_MAIN
