// SPDX-License-Identifier: GPL-2.0
/*
 * Memory cgroups: private pages and tree nodes are charged to the writer's
 * cgroup, shared pages to no reader's; out of memory, the writer gets what
 * stock memory gets, and everybody else goes on.
 */
#include "cgroup.h"

#define MIB	(1UL << 20)
#define PAGES	(32 * MIB / PAGE)

FIXTURE(memcg) {
	int fd;
	char *view;
};

FIXTURE_SETUP(memcg)
{
	if (!cgroup_can(_metadata, "memory"))
		SKIP(return, "no cgroup2 with memory at " CGROUP_ROOT);
	cgroup_make(_metadata, "memory");
	self->fd = pool_filled(_metadata, PAGES);
	self->view = view_map(_metadata, self->fd, PAGES);
	page_set(self->view, TAG(1, 0));
}

FIXTURE_TEARDOWN(memcg)
{
	cgroup_remove(_metadata);
}

/* A child in the group, whose memory has a limit. */
static pid_t group_child(struct __test_metadata *_metadata, const char *limit)
{
	pid_t child;

	file_write(_metadata, CGROUP "memory.max", limit);
	child = child_fork(_metadata);
	if (!child)
		file_write(_metadata, CGROUP "cgroup.procs", "0");
	return child;
}

TEST_F(memcg, copies_are_charged_to_the_writer)
{
	const uint64_t written = 16 * MIB, slack = MIB;
	pid_t child = group_child(_metadata, "max");
	uint64_t before;

	if (!child) {
		char *view = view_map(_metadata, self->fd, PAGES);

		before = file_value(_metadata, CGROUP "memory.current", "");
		for (size_t page = 0; page < written / PAGE; page++)
			page_set(page_at(view, page), TAG(2, page));
		/* Charges are kept in batches on each processor. */
		EXPECT_LE(before + written - slack,
			  file_value(_metadata, CGROUP "memory.current", ""));
		EXPECT_GE(before + written + slack,
			  file_value(_metadata, CGROUP "memory.current", ""));
		munmap(view, PAGES * PAGE);
		EXPECT_GE(before + slack,
			  file_value(_metadata, CGROUP "memory.current", ""));
		_exit(0);
	}
	child_join(_metadata, child);
}

/*
 * The tree's memory counts too: one page in each of its nodes is the dearest
 * way to write.
 */
TEST_F(memcg, nodes_are_charged_to_the_writer)
{
	enum { WRITTEN = 4000, APART = 64 };
	int fd = pool_create(_metadata, WRITTEN * APART, NULL, 0);
	pid_t child = group_child(_metadata, "max");

	if (!child) {
		char *view = view_map(_metadata, fd, WRITTEN * APART);
		uint64_t nodes = stat_value(_metadata, "nodes");
		uint64_t slab = file_value(_metadata, CGROUP "memory.stat", "slab ");

		for (size_t i = 0; i < WRITTEN; i++)
			*(volatile char *)page_at(view, i * APART) = 1;
		EXPECT_LE(nodes + WRITTEN, stat_value(_metadata, "nodes"));
		/* A node has 64 slots. */
		EXPECT_LE(slab + WRITTEN * 64 * sizeof(void *),
			  file_value(_metadata, CGROUP "memory.stat", "slab ") + MIB / 4);
		_exit(0);
	}
	child_join(_metadata, child);
	close(fd);
}

TEST_F(memcg, shared_pages_are_nobodys)
{
	pid_t child = group_child(_metadata, "8M");

	if (!child) {
		char *view = view_map(_metadata, self->fd, PAGES);

		for (size_t page = 0; page < PAGES; page++)
			EXPECT_EQ(TAG(0, page), page_tag(page_at(view, page)));
		_exit(0);
	}
	child_join(_metadata, child);
}

TEST_F(memcg, out_of_memory)
{
	uint64_t frames = stat_value(_metadata, "private_frames");
	uint64_t nodes = stat_value(_metadata, "nodes");
	pid_t child = group_child(_metadata, "8M");
	int status;

	if (!child) {
		for (size_t page = 0; page < PAGES; page++)
			page_set(page_at(self->view, page), TAG(2, page));
		_exit(0);
	}
	/* Whoever is outside writes meanwhile. */
	for (size_t page = 1; page < 1000; page++)
		page_set(page_at(self->view, page), TAG(1, page));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_EQ(SIGKILL, WTERMSIG(status));
	EXPECT_EQ(1, file_value(_metadata, CGROUP "memory.events", "oom_kill "));

	for (size_t page = 0; page < PAGES; page++) {
		EXPECT_EQ(TAG(page < 1000 ? 1 : 0, page),
			  page_tag(page_at(self->view, page)));
	}
	/* Nothing of the dead process is left. */
	EXPECT_EQ(1, pool_info(_metadata, self->fd).views);
	EXPECT_EQ(frames + 999, stat_value(_metadata, "private_frames"));
	EXPECT_GE(nodes + 999 / 64 + 1, stat_value(_metadata, "nodes"));
}

TEST_HARNESS_MAIN
