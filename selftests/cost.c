// SPDX-License-Identifier: GPL-2.0
/*
 * Cost follows what changed: what fork, SNAPSHOT and RESET allocate, and what
 * they take out of page tables, is bounded by the pages that were written,
 * whatever the size of the view. Counts, not times.
 */
#include "snapshot.h"
#include "rounds.h"

#define DIRTY	40	/* pages written */
#define CLEAN	40	/* pages only read */

FIXTURE(cost) {
	int fd;
	char *view;
	size_t step;
};

FIXTURE_VARIANT(cost) {
	size_t pages;
	size_t filled;
	unsigned int levels;	/* nodes from the root to a page */
};

FIXTURE_VARIANT_ADD(cost, mib_64) { 16384, 16384, 3 };
FIXTURE_VARIANT_ADD(cost, gib_1_sparse) { 262144, 1000, 3 };
FIXTURE_VARIANT_ADD(cost, gib_64_sparse) { 16777216, 1000, 4 };

/* Far apart, so that no two share a leaf. */
static char *dirty_page(char *view, size_t step, size_t i)
{
	return page_at(view, i * step);
}

static char *clean_page(char *view, size_t step, size_t i)
{
	return page_at(view, i * step + step / 2);
}

static void write_dirty(char *view, size_t step, unsigned int writer)
{
	for (size_t i = 0; i < DIRTY; i++)
		page_set(dirty_page(view, step, i), TAG(writer, i));
}

static void read_clean(char *view, size_t step)
{
	for (size_t i = 0; i < CLEAN; i++)
		*(volatile char *)clean_page(view, step, i);
}

static void read_all(char *view, size_t step)
{
	read_clean(view, step);
	for (size_t i = 0; i < DIRTY; i++)
		*(volatile char *)dirty_page(view, step, i);
}

FIXTURE_SETUP(cost)
{
	self->step = variant->pages / (DIRTY + 1);
	self->fd = pool_create(_metadata, variant->pages, NULL, 0);
	pool_fill(_metadata, self->fd, 0, variant->filled);
	self->view = view_map(_metadata, self->fd, variant->pages);
	write_dirty(self->view, self->step, 1);
	read_clean(self->view, self->step);
}

FIXTURE_TEARDOWN(cost)
{
	munmap(self->view, variant->pages * PAGE);
	close(self->fd);
	EXPECT_EQ(0, stat_value(_metadata, "private_frames"));
	EXPECT_EQ(0, stat_value(_metadata, "spare_frames"));
	EXPECT_EQ(0, stat_value(_metadata, "nodes"));
}

/* What is there, or has happened to the view. */
struct cost {
	uint64_t nodes, frames, read_faults, copies;
};

static struct cost cost_now(struct __test_metadata *_metadata, int fd, char *view)
{
	return (struct cost){
		.nodes = stat_value(_metadata, "nodes"),
		.frames = stat_value(_metadata, "private_frames"),
		.read_faults = view_info(_metadata, fd, view).counters.read_faults,
		.copies = view_copies(_metadata, fd, view),
	};
}

#define COST() cost_now(_metadata, self->fd, self->view)

TEST_F(cost, first_writes)
{
	struct cost now = COST();

	EXPECT_EQ(DIRTY, now.frames);
	EXPECT_EQ(DIRTY, now.copies);
	EXPECT_LE(now.nodes, 1 + (variant->levels - 1) * DIRTY);
	EXPECT_GE(now.nodes, DIRTY);
}

/* Where much is written, frames are allocated ahead: few beside what is used. */
TEST_F(cost, frames_ahead)
{
	uint64_t spares, most = 0;

	EXPECT_EQ(0, stat_value(_metadata, "spare_frames"));
	for (size_t i = 1; i <= 2 * DIRTY; i++) {
		page_set(page_at(self->view, i), TAG(1, i));
		EXPECT_EQ(DIRTY + i, COST().frames);
		spares = stat_value(_metadata, "spare_frames");
		EXPECT_LE(8 * spares, DIRTY + i);
		if (spares > most)
			most = spares;
	}
	EXPECT_LT(0, most);
}

TEST_F(cost, snapshot)
{
	struct cost before = COST(), after;
	int snapshot = snapshot_take(_metadata, self->fd, self->view);

	/* Nothing is allocated, */
	after = COST();
	EXPECT_EQ(before.nodes, after.nodes);
	EXPECT_EQ(before.frames, after.frames);
	EXPECT_EQ(before.copies, after.copies);
	/* and only what was written has left the page table. */
	read_all(self->view, self->step);
	after = COST();
	EXPECT_LE(after.read_faults - before.read_faults, DIRTY);
	EXPECT_LT(before.read_faults, after.read_faults);

	/* One page more is one page and one path. */
	page_set(dirty_page(self->view, self->step, 5), TAG(2, 5));
	after = COST();
	EXPECT_EQ(before.frames + 1, after.frames);
	EXPECT_EQ(before.nodes + variant->levels, after.nodes);
	close(snapshot);
	after = COST();
	EXPECT_EQ(before.frames, after.frames);
	EXPECT_EQ(before.nodes, after.nodes);
}

/* Only what was written since the last one counts. */
TEST_F(cost, snapshot_again)
{
	int first = snapshot_take(_metadata, self->fd, self->view), second;
	struct cost before, after;

	read_all(self->view, self->step);
	page_set(dirty_page(self->view, self->step, 5), TAG(2, 5));
	before = COST();
	second = snapshot_take(_metadata, self->fd, self->view);
	read_all(self->view, self->step);
	after = COST();
	EXPECT_EQ(before.nodes, after.nodes);
	EXPECT_EQ(before.frames, after.frames);
	EXPECT_LE(after.read_faults - before.read_faults, 1);
	close(second);
	close(first);
}

TEST_F(cost, snapshot_of_clean_view)
{
	char *clean = view_map(_metadata, self->fd, variant->pages);
	struct cost before, after;
	int snapshot;

	read_all(clean, self->step);
	before = cost_now(_metadata, self->fd, clean);
	for (int i = 0; i < 10; i++) {
		snapshot = snapshot_take(_metadata, self->fd, clean);
		read_all(clean, self->step);
		after = cost_now(_metadata, self->fd, clean);
		EXPECT_EQ(0, memcmp(&before, &after, sizeof(before)));
		close(snapshot);
	}
	munmap(clean, variant->pages * PAGE);
}

TEST_F(cost, fork)
{
	struct cost before = COST(), after;
	pid_t child = child_fork(_metadata);

	if (!child) {
		after = COST();
		EXPECT_EQ(before.nodes, after.nodes);
		EXPECT_EQ(before.frames, after.frames);
		EXPECT_EQ(0, after.copies);
		/* No page table is copied either. */
		EXPECT_EQ(0, frame_of(_metadata, clean_page(self->view, self->step, 0)));
		page_set(dirty_page(self->view, self->step, 5), TAG(2, 5));
		after = COST();
		EXPECT_EQ(before.nodes + variant->levels, after.nodes);
		EXPECT_EQ(before.frames + 1, after.frames);
		_exit(0);
	}
	child_join(_metadata, child);
	read_all(self->view, self->step);
	after = COST();
	EXPECT_EQ(before.nodes, after.nodes);
	EXPECT_EQ(before.frames, after.frames);
	EXPECT_EQ(before.copies, after.copies);
	EXPECT_LE(after.read_faults - before.read_faults, DIRTY);
}

TEST_F(cost, reset)
{
	struct cost before = COST(), after;

	/* A range: what is left of the path to its ends stays. */
	EXPECT_EQ(3, reset_try(self->fd, dirty_page(self->view, self->step, 1),
			       3 * self->step, 0));
	after = COST();
	EXPECT_EQ(before.frames - 3, after.frames);
	EXPECT_LE(after.nodes, before.nodes);
	read_all(self->view, self->step);
	after = COST();
	EXPECT_LE(after.read_faults - before.read_faults, 3);

	before = COST();
	EXPECT_EQ(DIRTY - 3, reset_try(self->fd, self->view, variant->pages, 0));
	after = COST();
	EXPECT_EQ(0, after.frames);
	EXPECT_EQ(0, after.nodes);
	read_all(self->view, self->step);
	after = COST();
	EXPECT_LE(after.read_faults - before.read_faults, DIRTY - 3);
}

/* A loop that writes the same pages again and again costs no fault at all. */
TEST_F(cost, reset_keep)
{
	const struct {
		unsigned int flags;
		long faults;
	} rows[] = {
		{ COWPOOL_RESET_KEEP, 0 },
		/* To notice what is written takes one, which has TLBs flushed. */
		{ COWPOOL_RESET_KEEP | COWPOOL_RESET_WRITTEN, 1 },
	};
	struct cost before = COST(), after;
	long faults;

	numa_balancing_avoid(_metadata);
	for (int round = 0; round < 16; round++) {
		EXPECT_EQ(DIRTY, reset_try(self->fd, self->view, variant->pages,
					   rows[round / 8].flags));
		faults = faults_now();
		write_dirty(self->view, self->step, 2 + round);
		EXPECT_GE(rows[round / 8].faults, faults_now() - faults);
		read_all(self->view, self->step);
		after = COST();
		EXPECT_EQ(0, memcmp(&before, &after, sizeof(before)));
	}
	EXPECT_EQ(0, view_info(_metadata, self->fd, self->view).counters.reuses);
}

#define CHAIN (200 / one_in())

/* Snapshot after snapshot, each dropped: nothing piles up. */
TEST_F(cost, chain_of_dropped_snapshots)
{
	struct cost before = COST(), after;

	for (size_t i = 0; i < CHAIN; i++) {
		int snapshot = snapshot_take(_metadata, self->fd, self->view);

		page_set(dirty_page(self->view, self->step, i % DIRTY), TAG(2, i));
		close(snapshot);
	}
	after = COST();
	EXPECT_EQ(before.nodes, after.nodes);
	EXPECT_EQ(before.frames, after.frames);
	EXPECT_EQ(before.copies + CHAIN, after.copies);
}

/* All kept: each costs a page and a path, and gives it back, in any order. */
TEST_F(cost, chain_of_kept_snapshots)
{
	struct rlimit limit = { CHAIN + 100, CHAIN + 100 };
	struct cost before = COST(), after;
	int *snapshots = calloc(CHAIN, sizeof(*snapshots));

	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
	for (size_t i = 0; i < CHAIN; i++) {
		snapshots[i] = snapshot_take(_metadata, self->fd, self->view);
		page_set(dirty_page(self->view, self->step, i % DIRTY), TAG(2, i));
	}
	after = COST();
	EXPECT_EQ(before.frames + CHAIN, after.frames);
	EXPECT_EQ(before.nodes + CHAIN * variant->levels, after.nodes);
	/* A prime that is no divisor of it: each once, in steps of some size */
	for (size_t i = 0; i < CHAIN; i++)
		close(snapshots[i * 47 % CHAIN]);
	after = COST();
	EXPECT_EQ(before.frames, after.frames);
	EXPECT_EQ(before.nodes, after.nodes);
	free(snapshots);
}

#define DEPTH (5 * (40 / one_in()))

/*
 * A snapshot of a view of a snapshot of ...: the newest is as flat as the
 * first, and of those below it nothing is left but what it shows itself. Nor
 * does it cost more to look a page up and to replace it: one path of nodes.
 */
TEST_F(cost, deep_snapshots)
{
	int fd = snapshot_take(_metadata, self->fd, self->view);
	uint64_t pools = stat_value(_metadata, "pools");
	struct cost before = COST(), after;
	char *view;

	for (size_t depth = 0; depth < DEPTH; depth++) {
		int next;

		view = view_map(_metadata, fd, variant->pages);
		page_set(dirty_page(view, self->step, depth % 5), TAG(3, depth));
		next = snapshot_take(_metadata, fd, view);
		munmap(view, variant->pages * PAGE);
		close(fd);
		fd = next;
	}
	after = COST();
	EXPECT_EQ(pools, stat_value(_metadata, "pools"));
	/* Five pages differ from those of the first view. */
	EXPECT_EQ(before.frames + 5, after.frames);
	EXPECT_LE(after.nodes, before.nodes + 1 + 5 * (variant->levels - 1));
	for (int i = 0; i < DIRTY; i++)
		EXPECT_EQ(i < 5 ? TAG(3, DEPTH - 5 + i) : TAG(1, i),
			  pool_page_tag(_metadata, fd, i * self->step));

	before = after;
	view = view_map(_metadata, fd, variant->pages);
	page_set(dirty_page(view, self->step, 5), TAG(4, 5));
	after = COST();
	EXPECT_EQ(before.frames + 1, after.frames);
	EXPECT_EQ(before.nodes + variant->levels, after.nodes);
	munmap(view, variant->pages * PAGE);
	close(fd);
}

/*
 * What is alive is what somebody can reach: of a line of snapshots, each of
 * which has replaced a page of its own, some in the middle go, and with each its
 * version of the page, that nobody else shows.
 */
TEST_F(cost, nothing_unreachable)
{
	enum { LINE = 16 };
	struct cost before = COST(), after;
	int snapshots[LINE];

	for (int i = 0; i < LINE; i++) {
		page_set(dirty_page(self->view, self->step, 0), TAG(2, i));
		snapshots[i] = snapshot_take(_metadata, self->fd, self->view);
	}
	page_set(dirty_page(self->view, self->step, 0), TAG(2, LINE));
	after = COST();
	EXPECT_EQ(before.frames + LINE, after.frames);
	EXPECT_EQ(before.nodes + LINE * variant->levels, after.nodes);
	for (int i = 0; i < LINE; i++) {
		/* From the middle out */
		int n = (LINE / 2 + (i % 2 ? i / 2 + 1 : -(i / 2)) + LINE) % LINE;

		close(snapshots[n]);
		snapshots[n] = -1;
		after = COST();
		EXPECT_EQ(before.frames + LINE - 1 - i, after.frames);
		EXPECT_EQ(before.nodes + (LINE - 1 - i) * variant->levels, after.nodes);
		for (int left = 0; left < LINE; left++) {
			if (snapshots[left] < 0)
				continue;
			EXPECT_EQ(TAG(2, left),
				  pool_page_tag(_metadata, snapshots[left], 0));
		}
	}
	EXPECT_EQ(DIRTY, reset_try(self->fd, self->view, variant->pages, 0));
	after = COST();
	EXPECT_EQ(0, after.frames);
	EXPECT_EQ(0, after.nodes);
}

#define BELOW (3 * PMD_PAGES)

/* Two snapshots of a view: the second shows less of the pool than the first. */
FIXTURE(below) {
	int pool, first, second;
	char *view;
	uint64_t frames, filled;
};

static void below_check(struct __test_metadata *_metadata, int fd, size_t written)
{
	for (size_t i = 0; i < BELOW; i++)
		ASSERT_EQ(i < written ? TAG(1, i) : TAG(0, i),
			  pool_page_tag(_metadata, fd, i));
}

FIXTURE_SETUP(below)
{
	self->frames = stat_value(_metadata, "pool_frames");
	self->filled = stat_value(_metadata, "filled_pages");
	self->pool = pool_filled(_metadata, BELOW);
	self->view = view_map(_metadata, self->pool, BELOW);
	pages_set(self->view, 0, PMD_PAGES + PMD_PAGES / 2, 1);
	self->first = snapshot_take(_metadata, self->pool, self->view);
	pages_set(self->view, PMD_PAGES + PMD_PAGES / 2, PMD_PAGES / 2, 1);
	self->second = snapshot_take(_metadata, self->pool, self->view);
}

FIXTURE_TEARDOWN(below)
{
	EXPECT_EQ(self->frames, stat_value(_metadata, "pool_frames"));
	EXPECT_EQ(self->filled, stat_value(_metadata, "filled_pages"));
	EXPECT_EQ(0, stat_value(_metadata, "private_frames"));
}

#define EXPECT_BELOW(pages) do {						\
	EXPECT_EQ(self->frames + (pages), stat_value(_metadata, "pool_frames"));	\
	EXPECT_EQ(self->filled + (pages), stat_value(_metadata, "filled_pages")); \
} while (0)

/* A descriptor or a view of the pool can show all of it. */
TEST_F(below, pool_keeps_all)
{
	close(self->pool);
	close(self->second);
	EXPECT_BELOW(BELOW);
	EXPECT_EQ(2 * PMD_PAGES, (size_t)reset_try(self->first, self->view, BELOW, 0));
	for (size_t i = 0; i < BELOW; i++)
		ASSERT_EQ(TAG(0, i), page_tag(page_at(self->view, i)));
	munmap(self->view, BELOW * PAGE);
	EXPECT_BELOW(2 * PMD_PAGES);
	below_check(_metadata, self->first, PMD_PAGES + PMD_PAGES / 2);
	close(self->first);
}

/* Without it, snapshots keep what they show, by whole folios. */
TEST_F(below, snapshots_keep_what_they_show)
{
	int third;

	munmap(self->view, BELOW * PAGE);
	close(self->pool);
	EXPECT_BELOW(2 * PMD_PAGES);
	below_check(_metadata, self->first, PMD_PAGES + PMD_PAGES / 2);
	close(self->first);
	EXPECT_BELOW(PMD_PAGES);
	below_check(_metadata, self->second, 2 * PMD_PAGES);

	self->view = view_map(_metadata, self->second, BELOW);
	pages_set(self->view, 2 * PMD_PAGES, PMD_PAGES, 1);
	third = snapshot_take(_metadata, self->second, self->view);
	EXPECT_BELOW(PMD_PAGES);
	EXPECT_EQ(PMD_PAGES, (size_t)reset_try(third, self->view, BELOW, 0));
	for (size_t i = 0; i < BELOW; i++)
		ASSERT_EQ(TAG(i < 2 * PMD_PAGES, i), page_tag(page_at(self->view, i)));
	close(self->second);
	EXPECT_BELOW(PMD_PAGES);
	munmap(self->view, BELOW * PAGE);
	EXPECT_BELOW(0);
	below_check(_metadata, third, BELOW);
	close(third);
}

/* The one that shows most may be the first or the last, and go so. */
TEST_F(below, in_any_order)
{
	int third;

	EXPECT_EQ(2 * PMD_PAGES, (size_t)reset_try(self->pool, self->view, BELOW, 0));
	third = snapshot_take(_metadata, self->pool, self->view);
	close(self->second);
	close(self->pool);
	munmap(self->view, BELOW * PAGE);
	EXPECT_BELOW(BELOW);
	below_check(_metadata, third, 0);
	close(third);
	EXPECT_BELOW(2 * PMD_PAGES);
	below_check(_metadata, self->first, PMD_PAGES + PMD_PAGES / 2);
	close(self->first);
}

/* Pages that were filled one by one go one by one. */
TEST_F(below, single_pages)
{
	int fd = pool_create(_metadata, 256, NULL, 0), snapshot;
	char *view;

	for (size_t i = 1; i < 256; i += 2)
		pool_fill(_metadata, fd, i, 1);
	view = view_map(_metadata, fd, 256);
	pages_set(view, 0, 100, 1);
	snapshot = snapshot_take(_metadata, fd, view);
	EXPECT_BELOW(BELOW + 128);
	munmap(view, 256 * PAGE);
	close(fd);
	EXPECT_BELOW(BELOW + 78);
	for (size_t i = 0; i < 256; i++)
		EXPECT_EQ(i < 100 ? TAG(1, i) : i % 2 ? TAG(0, i) : 0,
			  pool_page_tag(_metadata, snapshot, i));
	close(snapshot);
	EXPECT_BELOW(BELOW);
	munmap(self->view, BELOW * PAGE);
	close(self->pool);
	close(self->first);
	close(self->second);
}

/*
 * Whoever leaves does not ask for ever who else shows a page: here 128 pages are shown
 * by one snapshot each, behind 256 that show none, so that 64 are looked at. What is not
 * found to be free for that is when the third one leaves.
 */
TEST_F(below, asked_in_vain)
{
	enum { PAGES = 128, OTHERS = 256 };
	int fd = pool_create(_metadata, PAGES + 1, NULL, 0);
	int others[OTHERS], one[PAGES];
	char *view;

	for (size_t i = 1; i <= PAGES; i += 2)
		pool_fill(_metadata, fd, i, 1);
	for (size_t i = 0; i <= PAGES; i += 2)
		pool_fill(_metadata, fd, i, 1);
	view = view_map(_metadata, fd, PAGES + 1);
	pages_set(view, 0, PAGES + 1, 1);
	for (size_t i = 0; i < OTHERS; i++)
		others[i] = snapshot_take(_metadata, fd, view);
	munmap(view, (PAGES + 1) * PAGE);
	for (size_t i = 0; i < PAGES; i++) {
		view = view_map(_metadata, fd, PAGES + 1);
		pages_set(view, 0, i, 2);
		pages_set(view, i + 1, PAGES - i, 2);
		one[i] = snapshot_take(_metadata, fd, view);
		munmap(view, (PAGES + 1) * PAGE);
	}
	EXPECT_BELOW(BELOW + PAGES + 1);
	/* The last page is nobody's now, but comes after all the others. */
	close(fd);
	EXPECT_BELOW(BELOW + PAGES + 1);
	close(others[0]);
	EXPECT_BELOW(BELOW + PAGES + 1);
	close(others[1]);
	EXPECT_BELOW(BELOW + PAGES);
	for (size_t i = 0; i < PAGES; i++) {
		EXPECT_EQ(TAG(0, i), pool_page_tag(_metadata, one[i], i));
		close(one[i]);
		EXPECT_BELOW(BELOW + PAGES - 1 - i);
	}
	for (size_t i = 2; i < OTHERS; i++)
		close(others[i]);
	munmap(self->view, BELOW * PAGE);
	close(self->pool);
	close(self->first);
	close(self->second);
}

TEST_HARNESS_MAIN
