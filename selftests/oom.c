// SPDX-License-Identifier: GPL-2.0
/*
 * The machine runs out of memory because of a view. The OOM killer finds the
 * process that writes to it, by the pages that it has mapped, and gets
 * everything back; nobody else notices.
 */
#include "cowpool_test.h"

#include <sys/sysinfo.h>

#define PANIC		"/proc/sys/vm/panic_on_oom"
#define PARAMETER	"/sys/module/cowpool/parameters/max_total_mib"
#define HUGE_PAGES	"/proc/sys/vm/nr_hugepages"
#define MIB		(1UL << 20)
#define HUGE_PAGE	(2 * MIB)
/* What is left for the process that is to be killed */
#define ROOM		(64 * MIB)

/* Memory that can be had without a swap. */
static uint64_t available(struct __test_metadata *_metadata)
{
	return file_value(_metadata, "/proc/meminfo", "MemAvailable:") << 10;
}

static void number_write(struct __test_metadata *_metadata, const char *path, uint64_t number)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, number);
	file_write(_metadata, path, text);
}

FIXTURE(oom) {
	uint64_t limit;		/* max_total_mib */
	uint64_t huge_pages;	/* nr_hugepages */
	bool skipped;
};

FIXTURE_SETUP(oom)
{
	struct sysinfo info;

	self->skipped = true;
	if (!getenv("COWPOOL_VM"))
		SKIP(return, "not a VM of scripts/vm, which may run out of memory");
	if (file_value(_metadata, PANIC, ""))
		SKIP(return, "the kernel would panic");
	ASSERT_EQ(0, sysinfo(&info));
	if (info.totalswap)
		SKIP(return, "there is swap");
	/*
	 * Code that is reclaimed and read again by turns passes for progress. Not later:
	 * a view would be brought in as a whole.
	 */
	ASSERT_EQ(0, mlockall(MCL_CURRENT));
	self->skipped = false;
	self->limit = file_value(_metadata, PARAMETER, "");
	self->huge_pages = file_value(_metadata, HUGE_PAGES, "");
	number_write(_metadata, PARAMETER, UINT32_MAX);
}

FIXTURE_TEARDOWN_PARENT(oom)
{
	if (!self->skipped) {
		number_write(_metadata, HUGE_PAGES, self->huge_pages);
		number_write(_metadata, PARAMETER, self->limit);
	}
}

TEST_F(oom, killer_frees_views)
{
	const size_t pages = 16UL * 1024 * MIB / PAGE, kept = 100;
	uint64_t frames = stat_value(_metadata, "private_frames");
	uint64_t nodes = stat_value(_metadata, "nodes");
	uint64_t views = stat_value(_metadata, "views");
	int fd = pool_create(_metadata, pages, NULL, 0), status;
	char *view = view_map(_metadata, fd, pages);
	uint64_t nodes_kept;
	pid_t child;

	for (size_t page = 0; page < kept; page++)
		page_set(page_at(view, page), TAG(1, page));
	nodes_kept = stat_value(_metadata, "nodes");
	EXPECT_LT(nodes, nodes_kept);

	/* Most memory goes to no process: as far as it comes in huge pages. */
	number_write(_metadata, HUGE_PAGES, (available(_metadata) - ROOM) / HUGE_PAGE);
	child = child_fork(_metadata);
	if (!child) {
		for (size_t page = 0; page < pages; page++)
			*(volatile char *)page_at(view, page) = 1;
		_exit(0);
	}
	ASSERT_EQ(child, waitpid(child, &status, 0));
	number_write(_metadata, HUGE_PAGES, self->huge_pages);
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_EQ(SIGKILL, WTERMSIG(status));

	EXPECT_EQ(views + 1, stat_value(_metadata, "views"));
	EXPECT_EQ(frames + kept, stat_value(_metadata, "private_frames"));
	EXPECT_EQ(nodes_kept, stat_value(_metadata, "nodes"));
	for (size_t page = 0; page < kept; page++)
		EXPECT_EQ(TAG(1, page), page_tag(page_at(view, page)));
	EXPECT_EQ(0, page_tag(page_at(view, kept)));
	EXPECT_EQ(kept, private_pages(_metadata, fd, view));
	munmap(view, pages * PAGE);
	close(fd);
}

TEST_HARNESS_MAIN
