// SPDX-License-Identifier: GPL-2.0
/*
 * fork(): parent and child each go on with what the parent had, whoever
 * writes, whoever exits first, however many generations live, and while other
 * threads write at full speed.
 */
#include "cowpool_test.h"

#include <poll.h>
#include <sys/prctl.h>

#define PAGES 64

FIXTURE(fork) {
	int fd;
	char *view;
};

FIXTURE_SETUP(fork)
{
	self->fd = pool_filled(_metadata, PAGES);
	self->view = view_map(_metadata, self->fd, PAGES);
}

FIXTURE_TEARDOWN(fork)
{
	munmap(self->view, PAGES * PAGE);
	close(self->fd);
}

/* Who writes a page, and when; afterwards each looks at what it has. */
TEST_F(fork, both_directions)
{
	enum { NOBODY, PARENT, CHILD, BOTH };
	/* Page n: written by before[n % 2] before the fork, after[n / 2 % 4] after. */
	pthread_barrier_t *barrier = barrier_new(_metadata, 2);
	pid_t child;

	for (size_t page = 1; page < PAGES; page += 2)
		page_set(page_at(self->view, page), TAG(1, page));
	child = child_fork(_metadata);
	for (size_t page = 0; page < PAGES; page++) {
		size_t writer = page / 2 % 4;

		if (writer == (child ? PARENT : CHILD) || writer == BOTH)
			page_set(page_at(self->view, page), TAG(child ? 2 : 3, page));
	}
	pthread_barrier_wait(barrier);
	for (size_t page = 0; page < PAGES; page++) {
		size_t writer = page / 2 % 4;
		uint64_t expected = TAG(page % 2, page);

		if (writer == (child ? PARENT : CHILD) || writer == BOTH)
			expected = TAG(child ? 2 : 3, page);
		EXPECT_EQ(expected, page_tag(page_at(self->view, page)))
			TH_LOG("%s, page %zu", child ? "parent" : "child", page);
	}
	pthread_barrier_wait(barrier);
	if (!child)
		_exit(0);
	child_join(_metadata, child);
	for (size_t page = 0; page < PAGES; page++)
		EXPECT_EQ(TAG(0, page), pool_page_tag(_metadata, self->fd, page));
}

/*
 * A line of generations: each one writes, forks the next and writes again.
 * All live until each has seen what it must see. Then they exit, in the order
 * of the variant; after each exit the others look again, and write.
 */
#define GENERATIONS 5

FIXTURE(generations) {
	int fd;
	pthread_barrier_t *ready;
	struct generations_shared {
		_Atomic int round, done;
		_Atomic pid_t pids[GENERATIONS];
	} *shared;
};

FIXTURE_VARIANT(generations) {
	int order[GENERATIONS];
};

FIXTURE_VARIANT_ADD(generations, oldest_exits_first) { { 0, 1, 2, 3, 4 } };
FIXTURE_VARIANT_ADD(generations, youngest_exits_first) { { 4, 3, 2, 1, 0 } };
FIXTURE_VARIANT_ADD(generations, middle_exits_first) { { 2, 1, 3, 0, 4 } };

FIXTURE_SETUP(generations)
{
	self->fd = pool_filled(_metadata, PAGES);
	self->ready = barrier_new(_metadata, GENERATIONS + 1);
	self->shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)self->shared);
	/* Orphans come to the test, which waits for them. */
	ASSERT_EQ(0, prctl(PR_SET_CHILD_SUBREAPER, 1));
}

FIXTURE_TEARDOWN(generations)
{
	close(self->fd);
}

/* Page 0 is everyone's, 1 + g and 10 + g are generation g's. */
static void generation_check(struct __test_metadata *_metadata, char *view, int me)
{
	EXPECT_EQ(TAG(me + 1, 0), page_tag(view));
	for (int g = 0; g < GENERATIONS; g++) {
		EXPECT_EQ(TAG(g <= me ? g + 1 : 0, 1 + g),
			  page_tag(page_at(view, 1 + g)))
			TH_LOG("%d sees %d's first", me, g);
		EXPECT_EQ(TAG(g == me ? g + 1 : 0, 10 + g),
			  page_tag(page_at(view, 10 + g)))
			TH_LOG("%d sees %d's second", me, g);
	}
	EXPECT_EQ(TAG(0, 30), page_tag(page_at(view, 30)));
}

/* Lives through the rounds; in round r, generation order[r] exits. */
static void generation_live(struct __test_metadata *_metadata, char *view, int me,
			    struct generations_shared *shared, const int *order)
{
	for (int round = 0; round < GENERATIONS; round++) {
		while (shared->round <= 2 * round)
			sched_yield();
		if (order[round] == me)
			_exit(0);
		while (shared->round <= 2 * round + 1)
			sched_yield();
		generation_check(_metadata, view, me);
		/* The same content anew: copied, or in place when left alone. */
		page_set(view, TAG(me + 1, 0));
		page_set(page_at(view, 1), TAG(1, 1));
		page_set(page_at(view, 1 + me), TAG(me + 1, 1 + me));
		shared->done++;
	}
	_exit(1);
}

TEST_F(generations, each_keeps_its_own)
{
	struct generations_shared *shared = self->shared;
	int pidfds[GENERATIONS], g = 0;

	if (!child_fork(_metadata)) {
		char *view = view_map(_metadata, self->fd, PAGES);

		for (g = 0;; g++) {
			shared->pids[g] = getpid();
			page_set(view, TAG(g + 1, 0));
			page_set(page_at(view, 1 + g), TAG(g + 1, 1 + g));
			if (g + 1 == GENERATIONS || child_fork(_metadata))
				break;
		}
		page_set(page_at(view, 10 + g), TAG(g + 1, 10 + g));
		generation_check(_metadata, view, g);
		pthread_barrier_wait(self->ready);
		generation_live(_metadata, view, g, shared, variant->order);
	}
	pthread_barrier_wait(self->ready);
	for (g = 0; g < GENERATIONS; g++) {
		pidfds[g] = syscall(SYS_pidfd_open, shared->pids[g], 0);
		ASSERT_LE(0, pidfds[g]);
	}
	for (int round = 0; round < GENERATIONS; round++) {
		struct pollfd gone = { pidfds[variant->order[round]], POLLIN, 0 };

		shared->done = 0;
		shared->round++;
		ASSERT_EQ(1, poll(&gone, 1, -1));
		shared->round++;
		while (shared->done < GENERATIONS - 1 - round)
			sched_yield();
	}
	for (g = 0; g < GENERATIONS; g++) {
		int status;

		ASSERT_LT(0, wait(&status));
		EXPECT_EQ(0, status);
		close(pidfds[g]);
	}
	EXPECT_EQ(0, pool_info(_metadata, self->fd).views);
	EXPECT_EQ(0, pool_info(_metadata, self->fd).counters.private_pages);
}

/* A child goes on when its parent is gone, and the parent's copies are its own. */
TEST_F(fork, child_outlives_parent)
{
	int to_child[2], from_child[2];
	bool bad = true;
	pid_t parent;

	ASSERT_EQ(0, pipe(to_child));
	ASSERT_EQ(0, pipe(from_child));
	page_set(page_at(self->view, 1), TAG(1, 1));
	parent = child_fork(_metadata);
	if (!parent) {
		page_set(page_at(self->view, 2), TAG(2, 2));
		if (child_fork(_metadata)) {
			page_set(page_at(self->view, 2), TAG(3, 2));
			_exit(0);
		}
		close(to_child[1]);
		ASSERT_EQ(0, read(to_child[0], &bad, 1));
		bad = page_tag(page_at(self->view, 0)) != TAG(0, 0) ||
		      page_tag(page_at(self->view, 1)) != TAG(1, 1) ||
		      page_tag(page_at(self->view, 2)) != TAG(2, 2);
		page_set(page_at(self->view, 2), TAG(4, 2));
		page_set(page_at(self->view, 3), TAG(4, 3));
		bad = bad || page_tag(page_at(self->view, 2)) != TAG(4, 2) ||
		      page_tag(page_at(self->view, 3)) != TAG(4, 3);
		ASSERT_EQ(1, write(from_child[1], &bad, 1));
		_exit(0);
	}
	child_join(_metadata, parent);
	close(from_child[1]);
	close(to_child[1]);
	EXPECT_EQ(1, read(from_child[0], &bad, 1));
	EXPECT_FALSE(bad);
	/* The end of the child. */
	EXPECT_EQ(0, read(from_child[0], &bad, 1));
	EXPECT_EQ(TAG(1, 1), page_tag(page_at(self->view, 1)));
	EXPECT_EQ(TAG(0, 2), page_tag(page_at(self->view, 2)));
	EXPECT_EQ(TAG(0, 3), page_tag(page_at(self->view, 3)));
	close(from_child[0]);
	close(to_child[0]);
}

/*
 * One view spread over several VMAs is still one view in the child, and a
 * write through one VMA is no business of the others.
 */
TEST_F(fork, view_in_several_areas)
{
	uint64_t views = stat_value(_metadata, "views");
	pid_t child;

	ASSERT_EQ(0, mprotect(page_at(self->view, 8), 8 * PAGE, PROT_READ));
	ASSERT_EQ(0, munmap(page_at(self->view, 20), 4 * PAGE));
	ASSERT_EQ(0, madvise(page_at(self->view, 40), 4 * PAGE, MADV_DONTFORK));
	EXPECT_EQ(views, stat_value(_metadata, "views"));
	page_set(page_at(self->view, 4), TAG(1, 4));
	page_set(page_at(self->view, 30), TAG(1, 30));
	page_set(page_at(self->view, 50), TAG(1, 50));

	child = child_fork(_metadata);
	if (!child) {
		const size_t parts[] = { 0, 8, 16, 24, 44, PAGES - 1 };
		uint64_t id = view_info(_metadata, self->fd, self->view).view_id;

		EXPECT_EQ(views + 1, stat_value(_metadata, "views"));
		for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
			char *part = page_at(self->view, parts[i]);

			EXPECT_EQ(id, view_info(_metadata, self->fd, part).view_id);
		}
		EXPECT_EQ(3, private_pages(_metadata, self->fd, self->view));
		EXPECT_EQ(SIGSEGV, access_byte(page_at(self->view, 8), STORE));
		EXPECT_EQ(SIGSEGV, access_byte(page_at(self->view, 20), LOAD));
		EXPECT_EQ(SIGSEGV, access_byte(page_at(self->view, 40), LOAD));
		EXPECT_EQ(TAG(1, 4), page_tag(page_at(self->view, 4)));
		EXPECT_EQ(TAG(0, 8), page_tag(page_at(self->view, 8)));
		EXPECT_EQ(TAG(1, 30), page_tag(page_at(self->view, 30)));
		page_set(page_at(self->view, 30), TAG(2, 30));
		page_set(page_at(self->view, 63), TAG(2, 63));
		EXPECT_EQ(4, private_pages(_metadata, self->fd, self->view));
		EXPECT_EQ(TAG(1, 50), page_tag(page_at(self->view, 50)));
		_exit(0);
	}
	child_join(_metadata, child);
	EXPECT_EQ(views, stat_value(_metadata, "views"));
	EXPECT_EQ(TAG(1, 30), page_tag(page_at(self->view, 30)));
	EXPECT_EQ(TAG(0, 63), page_tag(page_at(self->view, 63)));
	EXPECT_EQ(3, private_pages(_metadata, self->fd, self->view));
}

/* A view that a child does not inherit at all. */
TEST_F(fork, dontfork)
{
	pid_t child;

	page_set(self->view, TAG(1, 0));
	ASSERT_EQ(0, madvise(self->view, PAGES * PAGE, MADV_DONTFORK));
	child = child_fork(_metadata);
	if (!child) {
		EXPECT_EQ(1, pool_info(_metadata, self->fd).views);
		EXPECT_EQ(SIGSEGV, access_byte(self->view, LOAD));
		_exit(0);
	}
	child_join(_metadata, child);
	EXPECT_EQ(0, view_info(_metadata, self->fd, self->view).counters.forks);
	EXPECT_EQ(TAG(1, 0), page_tag(self->view));
}

/*
 * A reference that outlives the view: the child gives the page to a pipe and
 * unmaps. The parent's next write must not show in the pipe, though nobody
 * maps the page any more.
 */
TEST_F(fork, page_held_by_a_pipe)
{
	uint64_t held[PAGE / sizeof(uint64_t)];
	int pipe_fd;

	page_set(self->view, TAG(1, 0));
	pipe_fd = child_held(_metadata, self->view, PAGES, 0);
	page_set(self->view, TAG(2, 0));
	ASSERT_EQ((ssize_t)PAGE, read(pipe_fd, held, PAGE));
	EXPECT_EQ(TAG(1, 0), page_tag(held));
	EXPECT_EQ(TAG(2, 0), page_tag(self->view));
	close(pipe_fd);
}

/* Many children of one parent at once: each diverges from all others. */
TEST_F(fork, many_children)
{
	enum { CHILDREN = 24 };
	pthread_barrier_t *barrier = barrier_new(_metadata, CHILDREN + 1);
	pid_t children[CHILDREN];

	page_set(self->view, TAG(1, 0));
	page_set(page_at(self->view, 1), TAG(1, 1));
	for (size_t i = 0; i < CHILDREN; i++) {
		children[i] = child_fork(_metadata);
		if (!children[i]) {
			page_set(self->view, TAG(i + 2, 0));
			page_set(page_at(self->view, 10 + i), TAG(i + 2, 10 + i));
			pthread_barrier_wait(barrier);
			EXPECT_EQ(TAG(i + 2, 0), page_tag(self->view));
			EXPECT_EQ(TAG(1, 1), page_tag(page_at(self->view, 1)));
			for (size_t j = 0; j < CHILDREN; j++)
				EXPECT_EQ(TAG(i == j ? i + 2 : 0, 10 + j),
					  page_tag(page_at(self->view, 10 + j)));
			_exit(0);
		}
	}
	pthread_barrier_wait(barrier);
	for (size_t i = 0; i < CHILDREN; i++)
		child_join(_metadata, children[i]);
	EXPECT_EQ(TAG(1, 0), page_tag(self->view));
	EXPECT_EQ(2, private_pages(_metadata, self->fd, self->view));
}

/*
 * Threads that write while others fork. Each thread counts in two words of
 * its own, the first of them first; the words of all threads share two pages.
 * So at any instant first - second is 0 or 1, and each thread finds what it
 * wrote last: a lost write shows at once.
 */
#define WRITERS 2

struct writer {
	volatile uint64_t *first, *second;
	_Atomic bool stop;
	_Atomic uint64_t counted;
	uint64_t lost;
	pthread_t thread;
};

static void *writer_run(void *arg)
{
	struct writer *w = arg;

	while (!w->stop) {
		w->lost += *w->first != w->counted;
		*w->first = ++w->counted;
		w->lost += *w->second != w->counted - 1;
		*w->second = w->counted;
	}
	return NULL;
}

FIXTURE(threads) {
	int fd;
	char *view;
	struct writer writers[WRITERS];
};

FIXTURE_VARIANT(threads) {
	int rounds;
	bool child_writes;
	bool parent_waits;	/* for each child before it forks the next */
};

FIXTURE_VARIANT_ADD(threads, children_look) { 60, false, true };
FIXTURE_VARIANT_ADD(threads, children_write) { 60, true, true };
FIXTURE_VARIANT_ADD(threads, children_pile_up) { 40, true, false };

FIXTURE_SETUP(threads)
{
	self->fd = pool_create(_metadata, 1024, NULL, 0);
	self->view = view_map(_metadata, self->fd, 1024);
	for (size_t i = 0; i < WRITERS; i++) {
		struct writer *w = &self->writers[i];

		/* The pages are in different nodes of any tree. */
		w->first = (uint64_t *)page_at(self->view, 5) + i;
		w->second = (uint64_t *)page_at(self->view, 700) + i;
		ASSERT_EQ(0, pthread_create(&w->thread, NULL, writer_run, w));
	}
}

FIXTURE_TEARDOWN(threads)
{
	munmap(self->view, 1024 * PAGE);
	close(self->fd);
}

static void child_look(struct __test_metadata *_metadata,
		       const struct writer *writers, bool write)
{
	uint64_t first[WRITERS], second[WRITERS];

	for (size_t i = 0; i < WRITERS; i++) {
		second[i] = *writers[i].second;
		first[i] = *writers[i].first;
		EXPECT_GE(1, first[i] - second[i])
			TH_LOG("torn: %" PRIu64 ", %" PRIu64, first[i], second[i]);
	}
	for (size_t i = 0; write && i < WRITERS; i++) {
		*writers[i].first = i;
		*writers[i].second = i;
		first[i] = i;
		second[i] = i;
	}
	for (int round = 0; round < 4; round++) {
		sched_yield();
		for (size_t i = 0; i < WRITERS; i++) {
			EXPECT_EQ(first[i], *writers[i].first);
			EXPECT_EQ(second[i], *writers[i].second);
		}
	}
}

TEST_F(threads, fork_while_they_write)
{
	pid_t children[variant->rounds];

	for (int round = 0; round < variant->rounds; round++) {
		/* They race with this one, too. */
		for (size_t i = 0; i < WRITERS; i++) {
			uint64_t counted = self->writers[i].counted;

			while (self->writers[i].counted == counted)
				sched_yield();
		}
		children[round] = child_fork(_metadata);
		if (!children[round]) {
			child_look(_metadata, self->writers, variant->child_writes);
			_exit(0);
		}
		if (variant->parent_waits)
			child_join(_metadata, children[round]);
	}
	for (int round = 0; !variant->parent_waits && round < variant->rounds; round++)
		child_join(_metadata, children[round]);
	for (size_t i = 0; i < WRITERS; i++) {
		struct writer *w = &self->writers[i];

		w->stop = true;
		pthread_join(w->thread, NULL);
		EXPECT_EQ(0, w->lost);
		EXPECT_EQ(w->counted, *w->first);
		EXPECT_EQ(w->counted, *w->second);
	}
	EXPECT_EQ(variant->rounds,
		  view_info(_metadata, self->fd, self->view).counters.forks);
}

TEST_HARNESS_MAIN
