// SPDX-License-Identifier: GPL-2.0
/*
 * Two ways in which a mapping could show stale data.
 *
 * A 2 MiB entry must never cover a private page. The kernel makes one of its
 * own accord where no page table is: in every child of a fork, and after
 * MADV_DONTNEED. And a page that was looked up must not be installed late,
 * when another thread has replaced it meanwhile.
 *
 * The orders tests touch the pages of a 2 MiB range in every order, reading
 * and writing, for every state that the range may be in, in whoever looks.
 * The racing tests have threads that write, read and take entries away.
 */
#include "cowpool_test.h"
#include "rounds.h"

/* The pages that are touched, as offsets into a 2 MiB range. */
enum { SPOTS = 3, ORDERS = 6 * 8 };
static const size_t spots[SPOTS] = { 0, 1, 511 };

/* All permutations of the spots; combined with every choice of accesses. */
static const size_t permutations[6][SPOTS] = {
	{ 0, 1, 2 }, { 0, 2, 1 }, { 1, 0, 2 }, { 1, 2, 0 }, { 2, 0, 1 }, { 2, 1, 0 },
};

/* What the parent does to a range first: like counts.c, with spots. */
static const char *const states[] = {
	"",			/* clean: nothing private, nothing mapped */
	"r1",			/* clean, mapped by a 2 MiB entry */
	"w0",			/* partly private */
	"w2",
	"w0 w1 w2",
	"r1 w0",		/* was mapped by a 2 MiB entry */
	"w0 r1",		/* partly private, partly mapped */
	"w0 d r1",		/* likewise, the private part not mapped */
};

enum who {
	SAME,			/* the process that did it */
	PARENT,			/* the same, and a child lives */
	CHILD,
	GRANDCHILD,		/* whose parent wrote another spot of the range */
};

/* When MADV_DONTNEED takes all entries away. */
enum when { NEVER, BEFORE_FORK, AFTER_FORK, BETWEEN_TOUCHES, WHENS };

/* Each order has a 2 MiB range of its own, so that a fork serves them all. */
#define RANGE_PAGES	512
#define PAGES		(ORDERS * RANGE_PAGES)

FIXTURE(orders) {
	int fd;
	char *view;
	/* What each range's spots must hold: who wrote last, 0 for nobody */
	int model[ORDERS][SPOTS];
};

FIXTURE_VARIANT(orders) {
	enum who who;
};

FIXTURE_VARIANT_ADD(orders, in_the_same_process) { SAME };
FIXTURE_VARIANT_ADD(orders, in_the_parent) { PARENT };
FIXTURE_VARIANT_ADD(orders, in_a_child) { CHILD };
FIXTURE_VARIANT_ADD(orders, in_a_grandchild) { GRANDCHILD };

FIXTURE_SETUP(orders)
{
	self->fd = pool_filled(_metadata, PAGES);
}

FIXTURE_TEARDOWN(orders)
{
	close(self->fd);
}

static uint64_t spot_tag(int writer, size_t order, size_t spot)
{
	return TAG(writer, order * RANGE_PAGES + spots[spot]);
}

static char *spot_at(char *view, size_t order, size_t spot)
{
	return page_at(view, order * RANGE_PAGES + spots[spot]);
}

/* Brings every range into a state. Writer 1 is the parent. */
static void prepare(char *view, int (*model)[SPOTS], const char *state)
{
	for (size_t order = 0; order < ORDERS; order++) {
		memset(model[order], 0, sizeof(model[order]));
		for (const char *step = state; *step; step++) {
			size_t spot = step[1] - '0';

			if (*step == 'w') {
				page_set(spot_at(view, order, spot), spot_tag(1, order, spot));
				model[order][spot] = 1;
			} else if (*step == 'r') {
				page_tag(spot_at(view, order, spot));
			} else if (*step == 'd') {
				madvise(page_at(view, order * RANGE_PAGES),
					RANGE_PAGES * PAGE, MADV_DONTNEED);
			}
		}
	}
}

/* Touches every range in its own order, and then looks at all of it. */
static void touch_all(struct __test_metadata *_metadata, char *view,
		      int (*model)[SPOTS], int writer, enum when when, const char *state)
{
	if (when == AFTER_FORK || when == BETWEEN_TOUCHES)
		madvise(view, PAGES * PAGE, MADV_DONTNEED);
	for (size_t order = 0; order < ORDERS; order++) {
		const size_t *permutation = permutations[order / 8];

		for (size_t touch = 0; touch < SPOTS; touch++) {
			size_t spot = permutation[touch];
			char *addr = spot_at(view, order, spot);

			if (order & 1 << touch) {
				/* Only a part, so that the copy must be right. */
				*(volatile uint64_t *)addr =
					spot_tag(model[order][spot], order, spot);
			}
			EXPECT_EQ(spot_tag(model[order][spot], order, spot), page_tag(addr))
				TH_LOG("state \"%s\", DONTNEED %d, order %zu, touch %zu",
				       state, when, order, touch);
			if (order & 1 << touch) {
				model[order][spot] = writer;
				page_set(addr, spot_tag(writer, order, spot));
			}
			if (when == BETWEEN_TOUCHES)
				madvise(page_at(view, order * RANGE_PAGES),
					RANGE_PAGES * PAGE, MADV_DONTNEED);
		}
	}
	for (size_t order = 0; order < ORDERS; order++) {
		for (size_t spot = 0; spot < SPOTS; spot++) {
			EXPECT_EQ(spot_tag(model[order][spot], order, spot),
				  page_tag(spot_at(view, order, spot)))
				TH_LOG("state \"%s\", DONTNEED %d, order %zu, spot %zu",
				       state, when, order, spot);
		}
		/* A neighbour that nobody has written. */
		EXPECT_EQ(TAG(0, order * RANGE_PAGES + 2),
			  page_tag(page_at(view, order * RANGE_PAGES + 2)));
	}
}

TEST_F(orders, of_touching_neighbours)
{
	pthread_barrier_t *barrier = barrier_new(_metadata, 2);
	const size_t stride = one_in() > 1 ? one_in() | 1 : 1;

	/* Where some of them will do, others for each of whom, of every when */
	for (size_t i = variant->who % stride; i < ARRAY_SIZE(states) * WHENS; i += stride) {
		const char *state = states[i / WHENS];
		enum when when = i % WHENS;
		enum who who = variant->who;
		char *view = view_map(_metadata, self->fd, PAGES);
		pid_t child;

		prepare(view, self->model, state);
		if (when == BEFORE_FORK)
			ASSERT_EQ(0, madvise(view, PAGES * PAGE, MADV_DONTNEED));
		child = who == SAME ? 0 : child_fork(_metadata);
		if (who == PARENT && !child) {
			/* Holds on to what it has until the parent is through. */
			pthread_barrier_wait(barrier);
			touch_all(_metadata, view, self->model, 2, NEVER, state);
			_exit(0);
		}
		if (who == GRANDCHILD && !child) {
			for (size_t order = 0; order < ORDERS; order++) {
				page_set(spot_at(view, order, 1), spot_tag(2, order, 1));
				self->model[order][1] = 2;
			}
			child = child_fork(_metadata);
			if (child) {
				child_join(_metadata, child);
				touch_all(_metadata, view, self->model, 2, NEVER, state);
				_exit(0);
			}
		}
		if (!child) {
			touch_all(_metadata, view, self->model, 3, when, state);
		} else if (who == PARENT) {
			touch_all(_metadata, view, self->model, 3, when, state);
			pthread_barrier_wait(barrier);
		}
		if (!child && who != SAME)
			_exit(0);
		if (child) {
			child_join(_metadata, child);
			/* The parent's own, after all that the children did. */
			touch_all(_metadata, view, self->model, 4, NEVER, state);
		}
		munmap(view, PAGES * PAGE);
	}
}

/*
 * Racing: a writer counts up in a page and publishes each number after it is
 * written. Whoever reads the page then must not find an older one. Other
 * threads take the entries away, or fork, so that the page is copied again.
 */
#define RACE_PAGES	(2 * RANGE_PAGES)
/* Private copies spread over both ranges, with untouched neighbours. */
static const size_t race_pages[] = { 0, 1, 2, 300, 511, 512, 700 };
#define RACED		ARRAY_SIZE(race_pages)

struct race {
	char *view;
	atomic_ullong published[RACED];
	atomic_bool stop;
	atomic_ullong stale, reads;
};

static volatile uint64_t *race_word(struct race *race, size_t i)
{
	return page_at(race->view, race_pages[i]);
}

static void *race_write(void *arg)
{
	struct race *race = arg;

	while (!race->stop) {
		for (size_t i = 0; i < RACED; i++) {
			uint64_t number = race->published[i];

			/* The writer must find what it wrote. */
			if (number && *race_word(race, i) != number)
				race->stale++;
			*race_word(race, i) = number + 1;
			race->published[i] = number + 1;
		}
	}
	return NULL;
}

static void *race_read(void *arg)
{
	struct race *race = arg;

	while (!race->stop) {
		for (size_t i = 0; i < RACED; i++) {
			uint64_t before = race->published[i];
			uint64_t seen = *race_word(race, i);

			/* Before the first write there is the pool's. */
			if (before && (seen < before || seen > race->published[i] + 1))
				race->stale++;
			/* An untouched neighbour, to bring large entries in. */
			if (*(volatile uint64_t *)page_at(race->view, 256 + 512 * (i % 2)) !=
			    TAG(0, 256 + 512 * (i % 2)))
				race->stale++;
			race->reads++;
		}
	}
	return NULL;
}

static void *race_drop(void *arg)
{
	struct race *race = arg;

	while (!race->stop) {
		madvise(race->view, RACE_PAGES * PAGE, MADV_DONTNEED);
		for (size_t i = 0; i < RACED; i++)
			madvise((void *)race_word(race, i), PAGE, MADV_DONTNEED);
		sched_yield();
	}
	return NULL;
}

FIXTURE(race) {
	int fd;
};

FIXTURE_VARIANT(race) {
	void *(*threads[3])(void *);
	unsigned int views;	/* one after the other, */
	unsigned int forks;	/* and so many forks of each */
};

/* Fresh views, so that first copies race with reads; few forks or many. */
FIXTURE_VARIANT_ADD(race, read) { { race_write, race_read, race_read }, 50, 1 };
FIXTURE_VARIANT_ADD(race, dontneed) { { race_write, race_read, race_drop }, 50, 1 };
FIXTURE_VARIANT_ADD(race, forks) { { race_write, race_read, race_read }, 3, 30 };
FIXTURE_VARIANT_ADD(race, forks_dontneed) { { race_write, race_read, race_drop }, 3, 30 };

FIXTURE_SETUP(race)
{
	self->fd = pool_filled(_metadata, RACE_PAGES);
}

FIXTURE_TEARDOWN(race)
{
	close(self->fd);
}

/* The child reads each page twice, with its own view of the past. */
static void race_child(struct __test_metadata *_metadata, struct race *race)
{
	uint64_t seen[RACED];

	for (size_t i = 0; i < RACED; i++)
		seen[i] = *race_word(race, i);
	for (size_t i = 0; i < RACED; i++) {
		*race_word(race, i) = seen[i] + 1000000;
		EXPECT_EQ(seen[i] + 1000000, *race_word(race, i));
		EXPECT_EQ(TAG(0, 256), *(uint64_t *)page_at(race->view, 256));
	}
	_exit(0);
}

TEST_F(race, no_number_is_seen_again)
{
	const unsigned int views = how_often(variant->views);
	const unsigned int forks = how_often(variant->forks);
	uint64_t reads = 0, writes = 0;

	for (unsigned int i = 0; i < views; i++) {
		struct race race = {};
		pthread_t threads[3];

		race.view = view_map(_metadata, self->fd, RACE_PAGES);
		for (size_t t = 0; t < 3; t++)
			ASSERT_EQ(0, pthread_create(&threads[t], NULL,
						    variant->threads[t], &race));
		for (unsigned int fork = 0; fork < forks; fork++) {
			pid_t child = child_fork(_metadata);

			if (!child)
				race_child(_metadata, &race);
			child_join(_metadata, child);
		}
		race.stop = true;
		for (size_t t = 0; t < 3; t++)
			pthread_join(threads[t], NULL);
		EXPECT_EQ(0, race.stale);
		for (size_t n = 0; n < RACED; n++) {
			writes += race.published[n];
			if (race.published[n])
				EXPECT_EQ(race.published[n], *race_word(&race, n));
		}
		reads += race.reads;
		munmap(race.view, RACE_PAGES * PAGE);
	}
	/* Something did race. */
	EXPECT_LT(views, reads);
	EXPECT_LT(views, writes);
}

/*
 * A late install, provoked. A reader faults on a page again and again. On the
 * same processor a writer of higher priority wakes up now and then, in the
 * middle of such a fault at times: it writes the page and takes the entry
 * away. When the reader goes on, it must not install what it looked up before.
 *
 * The kernel is made preemptible for that, where it can be. Elsewhere the test
 * needs more luck.
 */
#define LATE_PAGES	2048

struct late {
	size_t pages;
	atomic_size_t turn;	/* the page that it is about */
	char *view;
	uint64_t stale;
};

static void late_wait(void)
{
	struct timespec time = { .tv_nsec = 20000 + rand() % 60000 };

	nanosleep(&time, NULL);
}

static void *late_write(void *arg)
{
	struct sched_param priority = { .sched_priority = 1 };
	struct late *late = arg;

	if (pthread_setschedparam(pthread_self(), SCHED_FIFO, &priority))
		abort();
	for (size_t page = 0; page < late->pages; page++) {
		volatile uint64_t *word = page_at(late->view, page);

		late->turn = page;
		late_wait();
		*word = TAG(9, page);
		madvise((void *)word, PAGE, MADV_DONTNEED);
		/* The reader goes on, whatever it is at. */
		late_wait();
		late->stale += *word != TAG(9, page);
	}
	late->turn = late->pages;
	return NULL;
}

FIXTURE(late) {
	int fd;
	size_t pages;
	char preempt[PREEMPT_SIZE];
};

FIXTURE_VARIANT(late) {
	bool forked;		/* the pages replaced are private ones */
};

FIXTURE_VARIANT_ADD(late, page_of_the_pool) { false };
FIXTURE_VARIANT_ADD(late, page_of_a_relative) { true };

FIXTURE_SETUP(late)
{
	preempt_full(self->preempt);
	self->pages = how_often(LATE_PAGES);
	self->fd = pool_filled(_metadata, self->pages);
}

FIXTURE_TEARDOWN_PARENT(late)
{
	preempt_restore(self->preempt);
}

TEST_F(late, install)
{
	struct late late = {
		.pages = self->pages,
		.view = view_map(_metadata, self->fd, self->pages),
	};
	pthread_t writer;
	cpu_set_t cpu;
	pid_t child = 0;
	size_t page;

	CPU_ZERO(&cpu);
	CPU_SET(sched_getcpu(), &cpu);
	ASSERT_EQ(0, sched_setaffinity(0, sizeof(cpu), &cpu));
	if (variant->forked) {
		for (page = 0; page < late.pages; page++)
			page_set(page_at(late.view, page), TAG(1, page));
		child = child_fork(_metadata);
		if (!child) {
			for (;;)
				pause();
		}
	}
	ASSERT_EQ(0, pthread_create(&writer, NULL, late_write, &late));
	while ((page = late.turn) < late.pages) {
		char *addr = page_at(late.view, page);

		*(volatile char *)addr;
		madvise(addr, PAGE, MADV_DONTNEED);
	}
	pthread_join(writer, NULL);
	EXPECT_EQ(0, late.stale);
	EXPECT_EQ(variant->forked ? 2 * late.pages : late.pages,
		  view_copies(_metadata, self->fd, late.view));
	if (child) {
		kill(child, SIGKILL);
		ASSERT_EQ(child, waitpid(child, NULL, 0));
	}
	munmap(late.view, late.pages * PAGE);
	close(self->fd);
}

TEST_HARNESS_MAIN
