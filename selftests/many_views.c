// SPDX-License-Identifier: GPL-2.0
/*
 * Thousands of views of one pool, in one process and in many.
 */
#include "cowpool_test.h"
#include "rounds.h"

#define PAGES 64

FIXTURE(many_views) {
	int fd;
};

FIXTURE_SETUP(many_views)
{
	self->fd = pool_filled(_metadata, PAGES);
}

FIXTURE_TEARDOWN(many_views)
{
	close(self->fd);
}

TEST_F(many_views, in_one_process)
{
	const size_t nr = 3000 / one_in() / 2 * 2;
	char **views = calloc(nr, sizeof(*views));
	uint64_t before = stat_value(_metadata, "views");
	uint64_t frames = stat_value(_metadata, "private_frames");
	uint64_t nodes = stat_value(_metadata, "nodes");

	ASSERT_NE(NULL, views);
	for (size_t v = 0; v < nr; v++)
		views[v] = view_map(_metadata, self->fd, PAGES);
	EXPECT_EQ(before + nr, stat_value(_metadata, "views"));
	EXPECT_EQ(nr, pool_info(_metadata, self->fd).views);
	EXPECT_EQ(nodes, stat_value(_metadata, "nodes"));
	for (size_t v = 0; v < nr; v++)
		*(uint64_t *)page_at(views[v], v % PAGES) = v;
	EXPECT_EQ(frames + nr, stat_value(_metadata, "private_frames"));
	for (size_t v = 0; v < nr; v++) {
		size_t page = v % PAGES, other = (v + 1) % PAGES;

		EXPECT_EQ(v, *(uint64_t *)page_at(views[v], page));
		EXPECT_EQ(TAG(0, other), *(uint64_t *)page_at(views[v], other));
	}
	/* Every second one first: the rest is as before. */
	for (size_t v = 0; v < nr; v += 2)
		munmap(views[v], PAGES * PAGE);
	EXPECT_EQ(before + nr / 2, stat_value(_metadata, "views"));
	EXPECT_EQ(frames + nr / 2, stat_value(_metadata, "private_frames"));
	for (size_t v = 1; v < nr; v += 2) {
		EXPECT_EQ(v, *(uint64_t *)page_at(views[v], v % PAGES));
		munmap(views[v], PAGES * PAGE);
	}
	EXPECT_EQ(before, stat_value(_metadata, "views"));
	EXPECT_EQ(frames, stat_value(_metadata, "private_frames"));
	EXPECT_EQ(nodes, stat_value(_metadata, "nodes"));
	free(views);
}

/* A fork of a process with many views forks them all. */
TEST_F(many_views, in_many_processes)
{
	enum { VIEWS = 100, PROCESSES = 20 };
	pthread_barrier_t *barrier = barrier_new(_metadata, PROCESSES + 1);
	uint64_t before = stat_value(_metadata, "views");
	uint64_t frames = stat_value(_metadata, "private_frames");
	pid_t children[PROCESSES];
	char *views[VIEWS];

	for (size_t v = 0; v < VIEWS; v++) {
		views[v] = view_map(_metadata, self->fd, PAGES);
		*(uint64_t *)page_at(views[v], 1) = v;
	}
	for (size_t p = 0; p < PROCESSES; p++) {
		children[p] = child_fork(_metadata);
		if (!children[p]) {
			for (size_t v = 0; v < VIEWS; v++)
				*(uint64_t *)page_at(views[v], 2) = (p + 1) * 1000 + v;
			pthread_barrier_wait(barrier);
			pthread_barrier_wait(barrier);
			for (size_t v = 0; v < VIEWS; v++) {
				EXPECT_EQ(v, *(uint64_t *)page_at(views[v], 1));
				EXPECT_EQ((p + 1) * 1000 + v, *(uint64_t *)page_at(views[v], 2));
			}
			_exit(0);
		}
	}
	pthread_barrier_wait(barrier);
	EXPECT_EQ(before + VIEWS * (PROCESSES + 1), stat_value(_metadata, "views"));
	EXPECT_EQ(frames + VIEWS * (PROCESSES + 1), stat_value(_metadata, "private_frames"));
	pthread_barrier_wait(barrier);
	for (size_t p = 0; p < PROCESSES; p++)
		child_join(_metadata, children[p]);
	EXPECT_EQ(before + VIEWS, stat_value(_metadata, "views"));
	for (size_t v = 0; v < VIEWS; v++) {
		EXPECT_EQ(TAG(0, 2), *(uint64_t *)page_at(views[v], 2));
		EXPECT_EQ(1, view_info(_metadata, self->fd, views[v]).counters.private_pages);
		munmap(views[v], PAGES * PAGE);
	}
}

TEST_HARNESS_MAIN
