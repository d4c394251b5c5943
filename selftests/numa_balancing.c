// SPDX-License-Identifier: GPL-2.0
/*
 * Automatic NUMA balancing takes entries away for a moment, to see who uses a page.
 * What a view holds, what of it may be written in place and what was written must
 * survive that.
 */
#include "nodes.h"
#include "snapshot.h"

#define PAGES	700

/* Makes it begin at once, and look at 16 MiB every few milliseconds. */
static struct setting {
	const char *path, *value;
	char before[32];
} settings[] = {
	{ "/sys/kernel/debug/sched/numa_balancing/scan_size_mb", "16", "" },
	{ "/sys/kernel/debug/sched/numa_balancing/scan_delay_ms", "1", "" },
	{ "/sys/kernel/debug/sched/numa_balancing/scan_period_min_ms", "5", "" },
	{ "/sys/kernel/debug/sched/numa_balancing/scan_period_max_ms", "20", "" },
	{ "/proc/sys/kernel/numa_balancing", "1", "" },
};

static bool setting_read(const char *path, char *value, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, value, size - 1);

	close(fd);
	if (n <= 0)
		return false;
	value[n] = '\0';
	return true;
}

/* A figure of the whole machine's */
static uint64_t vm_event(struct __test_metadata *_metadata, const char *name)
{
	return file_value(_metadata, "/proc/vmstat", name);
}

/* Runs until most entries of a view are likely to have been taken away. */
static void wait_for_marks(struct __test_metadata *_metadata)
{
	uint64_t before = vm_event(_metadata, "numa_pte_updates");

	for (int i = 0; i < 200; i++)
		if (vm_event(_metadata, "numa_pte_updates") - before >= PAGES)
			break;
}

FIXTURE(balancing) {
	int fd;
	bool on;
};

FIXTURE_SETUP(balancing)
{
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		if (!setting_read(settings[i].path, settings[i].before,
				  sizeof(settings[i].before)))
			SKIP(return, "takes NUMA balancing and its settings in debugfs");
	}
	if (!two_nodes())
		SKIP(return, "takes two nodes");
	self->fd = pool_filled(_metadata, PAGES);
	self->on = true;
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++)
		file_write(_metadata, settings[i].path, settings[i].value);
}

FIXTURE_TEARDOWN(balancing)
{
	if (!self->on)
		return;
	for (size_t i = ARRAY_SIZE(settings); i--;)
		file_write(_metadata, settings[i].path, settings[i].before);
	close(self->fd);
}

static void expect_tags(struct __test_metadata *_metadata, char *view, const uint64_t *tags)
{
	for (size_t page = 0; page < PAGES; page++) {
		ASSERT_EQ(tags[page], page_tag(page_at(view, page)))
			TH_LOG("page %zu", page);
	}
}

/* A third of the pages, other ones each time */
static void write_third(char *view, uint64_t *tags, unsigned int round)
{
	for (size_t page = round % 3; page < PAGES; page += 3) {
		tags[page] = TAG(round % 200 + 1, page);
		page_set(page_at(view, page), tags[page]);
	}
}

/*
 * What was written is found by the entries. (Only of pages that RESET has kept: for
 * the balancing the others are pages of a file that is to be written to a disk.)
 */
static void write_and_reset(struct __test_metadata *_metadata, int fd, char *view,
			    uint64_t *tags, unsigned int round)
{
	write_third(view, tags, round);
	wait_for_marks(_metadata);
	ASSERT_LE(0, reset_try(fd, view, PAGES,
			       COWPOOL_RESET_KEEP | COWPOOL_RESET_WRITTEN));
	for (size_t page = 0; page < PAGES; page++)
		tags[page] = TAG(0, page);
	expect_tags(_metadata, view, tags);
}

static void write_and_freeze(struct __test_metadata *_metadata, int fd, char *view,
			     uint64_t *tags, unsigned int round)
{
	static uint64_t frozen[PAGES];
	uint64_t copies;
	char *shown;
	int snapshot;

	write_third(view, tags, round);
	wait_for_marks(_metadata);
	snapshot = snapshot_take(_metadata, fd, view);
	memcpy(frozen, tags, sizeof(frozen));
	copies = view_copies(_metadata, fd, view);
	write_third(view, tags, round);
	write_third(view, tags, round);
	/* All were shared with the snapshot, and each is copied once. */
	EXPECT_EQ((PAGES - round % 3 + 2) / 3, view_copies(_metadata, fd, view) - copies);
	shown = view_map(_metadata, snapshot, PAGES);
	expect_tags(_metadata, shown, frozen);
	expect_tags(_metadata, view, tags);
	munmap(shown, PAGES * PAGE);
	close(snapshot);
}

/* One round after the other on another node */
static void use(struct __test_metadata *_metadata, int fd)
{
	char *view = view_map(_metadata, fd, PAGES);
	uint64_t before = vm_event(_metadata, "numa_hint_faults"), faults;
	unsigned int rounds = how_often(20);
	static uint64_t tags[PAGES];

	for (size_t page = 0; page < PAGES; page++)
		tags[page] = TAG(0, page);
	for (unsigned int round = 0; round < rounds; round++) {
		run_on(round % 2);
		/* The second one finds the pages that the first one has kept. */
		write_and_reset(_metadata, fd, view, tags, round);
		write_and_reset(_metadata, fd, view, tags, round);
		write_and_freeze(_metadata, fd, view, tags, round);
	}
	faults = vm_event(_metadata, "numa_hint_faults") - before;
	EXPECT_LT(0, faults);
	ksft_print_msg("%" PRIu64 " faults of the balancing\n", faults);
	munmap(view, PAGES * PAGE);
}

TEST_F(balancing, content_and_counts_stay)
{
	pid_t child = child_fork(_metadata);

	/* A process that it has not looked at yet */
	if (!child) {
		use(_metadata, self->fd);
		_exit(0);
	}
	child_join(_metadata, child);
	for (size_t page = 0; page < PAGES; page++)
		EXPECT_EQ(TAG(0, page), pool_page_tag(_metadata, self->fd, page));
}

TEST_HARNESS_MAIN
