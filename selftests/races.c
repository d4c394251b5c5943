// SPDX-License-Identifier: GPL-2.0
/*
 * Races on views: whatever takes pages, entries or mappings away, against
 * threads that fault on them. stale.c has those on what is shown late.
 */
#include "races.h"

#include <sys/prctl.h>
#include <sys/uio.h>

enum {
	PAGES = 64,
	/* So that every write below goes through a fault sooner or later */
	WRITTEN = 8,
};

struct race {
	struct crew crew;
	int fd;
	char *view;
	/* What the writer has written to each page, as it knows it */
	atomic_ullong written[PAGES];
	/* Snapshots and mappings that were made, by all processes */
	atomic_ullong *shared;
};

FIXTURE(races) {
	struct race race;
};

FIXTURE_SETUP(races)
{
	self->race.fd = pool_filled(_metadata, PAGES);
	self->race.view = view_map(_metadata, self->race.fd, PAGES);
}

FIXTURE_TEARDOWN(races)
{
	munmap(self->race.view, PAGES * PAGE);
	close(self->race.fd);
}

static volatile uint64_t *word(char *view, size_t page)
{
	return page_at(view, page);
}

/* Counts up in page after page, and must find what it wrote. */
static void *count_up(void *arg)
{
	struct race *race = arg;
	uint64_t number = 0;

	while (!race->crew.stop) {
		size_t page = ++number % WRITTEN;

		if (race->written[page] && *word(race->view, page) != race->written[page])
			race->crew.wrong++;
		*word(race->view, page) = number;
		race->written[page] = number;
		race->crew.done++;
	}
	return NULL;
}

/* What somebody else has of the view changes no more, and can be written. */
static bool stands_still(char *view)
{
	uint64_t seen[WRITTEN];

	for (size_t page = 0; page < WRITTEN; page++)
		seen[page] = *word(view, page);
	sched_yield();
	for (size_t page = 0; page < WRITTEN; page++) {
		if (*word(view, page) != seen[page])
			return false;
		*word(view, page) = UINT64_MAX;
	}
	for (size_t page = 0; page < WRITTEN; page++)
		if (*word(view, page) != UINT64_MAX)
			return false;
	return true;
}

TEST_F(races, fork_against_write)
{
	crew_add(_metadata, &self->race.crew, count_up, &self->race);
	for (unsigned int n = how_often(150); n; n--) {
		pid_t child = child_fork(_metadata);

		if (!child)
			_exit(!stands_still(self->race.view));
		child_join(_metadata, child);
	}
	crew_stop(_metadata, &self->race.crew);
}

TEST_F(races, snapshot_against_write)
{
	crew_add(_metadata, &self->race.crew, count_up, &self->race);
	for (unsigned int n = how_often(300); n; n--) {
		int snapshot = snapshot_take(_metadata, self->race.fd, self->race.view);
		char *view = view_map(_metadata, snapshot, PAGES);

		EXPECT_TRUE(stands_still(view));
		munmap(view, PAGES * PAGE);
		close(snapshot);
	}
	crew_stop(_metadata, &self->race.crew);
}

/* Writes whole pages, whatever becomes of them. */
static void *write_pages(void *arg)
{
	struct race *race = arg;

	while (!race->crew.stop) {
		for (size_t page = 0; page < PAGES; page++) {
			page_set(page_at(race->view, page), TAG(1, page));
			race->crew.done++;
		}
	}
	return NULL;
}

static void expect_untouched(struct __test_metadata *_metadata, int fd, char *view)
{
	EXPECT_EQ(0, private_pages(_metadata, fd, view));
	for (size_t page = 0; page < PAGES; page++)
		EXPECT_EQ(TAG(0, page), page_tag(page_at(view, page)));
}

/*
 * Frames that RESET gives up must not be written any more: another view that
 * gets them notices. When the writers are gone RESET leaves nothing.
 */
TEST_F(races, reset_against_write)
{
	char *other = view_map(_metadata, self->race.fd, PAGES);
	uint64_t frames = stat_value(_metadata, "private_frames");

	crew_add(_metadata, &self->race.crew, write_pages, &self->race);
	crew_add(_metadata, &self->race.crew, write_pages, &self->race);
	for (unsigned int n = how_often(500); n; n--) {
		size_t page = n % PAGES;

		switch (n % 4) {
		case 0:
			EXPECT_LE(0, reset_try(self->race.fd, self->race.view, PAGES, 0));
			break;
		case 1:
			EXPECT_LE(0, reset_try(self->race.fd, page_at(self->race.view, page),
					       PAGES - page, 0));
			break;
		case 2:
			EXPECT_LE(0, reset_try(self->race.fd, self->race.view, PAGES,
					       COWPOOL_RESET_KEEP));
			break;
		case 3:
			EXPECT_LE(0, reset_try(self->race.fd, other, PAGES, 0));
			break;
		}
		page_set(page_at(other, page), TAG(2, page));
		for (size_t i = 0; i < PAGES; i++) {
			uint64_t tag = page_tag(page_at(other, i));

			EXPECT_TRUE(tag == TAG(0, i) || tag == TAG(2, i))
				TH_LOG("page %zu carries %#" PRIx64, i, tag);
		}
	}
	crew_stop(_metadata, &self->race.crew);
	EXPECT_LE(0, reset_try(self->race.fd, self->race.view, PAGES, 0));
	expect_untouched(_metadata, self->race.fd, self->race.view);
	munmap(other, PAGES * PAGE);
	EXPECT_EQ(frames, stat_value(_metadata, "private_frames"));
}

/*
 * DIRTY names what is written, whoever writes there again and whoever forks, so that
 * the index changes all the time.
 */
TEST_F(races, dirty_against_write)
{
	struct cowpool_range range;
	int status;

	for (size_t page = 0; page < WRITTEN; page++)
		*word(self->race.view, page) = 0;
	crew_add(_metadata, &self->race.crew, count_up, &self->race);
	for (unsigned int n = how_often(150); n; n--) {
		pid_t child = child_fork(_metadata), ended;

		if (!child)
			_exit(0);
		/* When it ends, what it shared is its parent's alone. */
		do {
			EXPECT_EQ(1, dirty_try(self->race.fd, self->race.view, PAGES, 0,
					       &range, 1, NULL));
			EXPECT_EQ((uintptr_t)self->race.view, range.start);
			EXPECT_EQ((uintptr_t)page_at(self->race.view, WRITTEN), range.end);
			ended = waitpid(child, &status, WNOHANG);
		} while (!ended);
		ASSERT_EQ(child, ended);
		EXPECT_EQ(0, status);
	}
	crew_stop(_metadata, &self->race.crew);
}

/* Accesses that may find nothing there */

static __thread sigjmp_buf thread_env;

static void thread_signalled(int sig)
{
	siglongjmp(thread_env, sig);
}

static void signals_catch(void)
{
	struct sigaction action = { .sa_handler = thread_signalled, .sa_flags = SA_NODEFER };

	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
}

static void page_try(char *view, size_t page)
{
	if (!sigsetjmp(thread_env, 1))
		page_set(page_at(view, page), TAG(1, page));
}

static void *write_forwards(void *arg)
{
	struct race *race = arg;

	for (size_t page = 0; page < PAGES; page++) {
		page_try(race->view, page);
		race->crew.done++;
	}
	return NULL;
}

static void *write_backwards(void *arg)
{
	struct race *race = arg;

	for (size_t page = PAGES; page--;) {
		page_try(race->view, page);
		race->crew.done++;
	}
	return NULL;
}

/* What is unmapped is gone, with its frames, and nothing else is. */
TEST_F(races, munmap_against_faults)
{
	uint64_t frames = stat_value(_metadata, "private_frames");

	signals_catch();
	for (unsigned int n = how_often(200); n; n--) {
		size_t first = rand() % (PAGES - 1), pages = 1 + rand() % (PAGES - 1 - first);
		size_t rest = first ? 0 : pages;
		char *hole = page_at(self->race.view, first);
		uint64_t when = self->race.crew.done + rand() % PAGES;

		crew_add(_metadata, &self->race.crew, write_forwards, &self->race);
		crew_add(_metadata, &self->race.crew, write_backwards, &self->race);
		while (self->race.crew.done < when)
			sched_yield();
		ASSERT_EQ(0, munmap(hole, pages * PAGE));
		crew_join(_metadata, &self->race.crew);

		EXPECT_EQ(PAGES - pages,
			  private_pages(_metadata, self->race.fd, page_at(self->race.view, rest)));
		EXPECT_EQ(frames + PAGES - pages, stat_value(_metadata, "private_frames"));
		for (size_t page = 0; page < PAGES; page++) {
			if (page >= first && page < first + pages)
				continue;
			EXPECT_EQ(TAG(1, page), page_tag(page_at(self->race.view, page)));
		}
		munmap(self->race.view, PAGES * PAGE);
		EXPECT_EQ(frames, stat_value(_metadata, "private_frames"));
		self->race.view = view_map(_metadata, self->race.fd, PAGES);
	}
}

/* Adds to words of its own, at whatever address the view is now. */
struct adder {
	struct crew *crew;
	atomic_uintptr_t *view;
	size_t word;		/* in each of the first pages */
	uint64_t added[WRITTEN];
};

static void add_one(struct adder *adder, size_t page)
{
	if (sigsetjmp(thread_env, 1))
		return;
	/* One instruction: it is done or not */
	__atomic_fetch_add(&word((char *)*adder->view, page)[adder->word], 1, __ATOMIC_SEQ_CST);
	adder->added[page]++;
	adder->crew->done++;
}

static void *add_up(void *arg)
{
	struct adder *adder = arg;

	while (!adder->crew->stop)
		for (size_t page = 0; page < WRITTEN; page++)
			add_one(adder, page);
	return NULL;
}

static void expect_sums(struct __test_metadata *_metadata, const struct adder *adder)
{
	for (size_t page = 0; page < WRITTEN; page++) {
		EXPECT_EQ(TAG(0, page) + adder->word + adder->added[page],
			  word((char *)*adder->view, page)[adder->word]);
	}
}

/*
 * Two threads write to the same pages, whose other owners come and go: each
 * page is copied by one of them only, or written in place by both.
 */
TEST_F(races, two_writers_against_fork_and_exit)
{
	atomic_uintptr_t view = (uintptr_t)self->race.view;
	struct adder adders[2] = {
		{ .crew = &self->race.crew, .view = &view, .word = 1 },
		{ .crew = &self->race.crew, .view = &view, .word = 2 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(adders); i++)
		crew_add(_metadata, &self->race.crew, add_up, &adders[i]);
	for (unsigned int n = how_often(150); n; n--) {
		pid_t child = child_fork(_metadata);

		if (!child)
			_exit(0);
		child_join(_metadata, child);
	}
	crew_stop(_metadata, &self->race.crew);
	for (size_t i = 0; i < ARRAY_SIZE(adders); i++)
		expect_sums(_metadata, &adders[i]);
	EXPECT_EQ(WRITTEN, private_pages(_metadata, self->race.fd, (void *)view));
}

struct remote {
	atomic_size_t next;	/* the page to read */
	atomic_ullong reads;
};

/* Another process, which reads the page of this one's view that comes next */
static void read_remotely(pid_t pid, char *view, struct remote *remote)
{
	char byte;

	for (;;) {
		struct iovec to = { &byte, 1 }, from = { page_at(view, remote->next), 1 };

		remote->reads += process_vm_readv(pid, &to, 1, &from, 1, 0) == 1;
	}
}

/*
 * The only thread of a process writes pages that another process may just have
 * mapped here: no old entry is left, which would fault for ever.
 */
TEST_F(races, first_write_against_a_reader_from_outside)
{
	struct remote *remote = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	unsigned int n = how_often(300);
	int status;
	pid_t child;

	ASSERT_NE(MAP_FAILED, (void *)remote);
	prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
	child = child_fork(_metadata);
	if (!child) {
		/* With a view of its own it would be a relative. */
		munmap(self->race.view, PAGES * PAGE);
		read_remotely(getppid(), self->race.view, remote);
	}
	while (!remote->reads)
		sched_yield();
	for (; n; n--) {
		for (size_t page = 0; page < PAGES; page++) {
			remote->next = page;
			for (int wait = rand() % 2000; wait; wait--)
				atomic_signal_fence(memory_order_seq_cst);
			*word(self->race.view, page) = TAG(1, page);
		}
		for (size_t page = 0; page < PAGES; page++)
			EXPECT_EQ(TAG(1, page), *word(self->race.view, page));
		EXPECT_EQ(PAGES, reset_try(self->race.fd, self->race.view, PAGES, 0));
	}
	ASSERT_EQ(0, kill(child, SIGKILL));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));
	munmap(remote, PAGE);
}

/* A moved view has lost nothing, and the old address shows nothing. */
TEST_F(races, mremap_against_faults)
{
	const size_t size = PAGES * PAGE;
	char *places = mmap(NULL, 2 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	atomic_uintptr_t view = (uintptr_t)self->race.view;
	struct adder adders[2] = {
		{ .crew = &self->race.crew, .view = &view, .word = 1 },
		{ .crew = &self->race.crew, .view = &view, .word = 2 },
	};

	ASSERT_NE(MAP_FAILED, places);
	signals_catch();
	for (size_t i = 0; i < ARRAY_SIZE(adders); i++)
		crew_add(_metadata, &self->race.crew, add_up, &adders[i]);
	for (unsigned int n = how_often(300); n; n--) {
		char *from = (char *)(uintptr_t)view, *to = places + n % 2 * size;

		ASSERT_EQ(to, mremap(from, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, to));
		view = (uintptr_t)to;
		if (from == self->race.view)
			continue;
		ASSERT_EQ(from, mmap(from, size, PROT_NONE,
				     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	}
	crew_stop(_metadata, &self->race.crew);
	for (size_t i = 0; i < ARRAY_SIZE(adders); i++)
		expect_sums(_metadata, &adders[i]);
	EXPECT_EQ(WRITTEN, private_pages(_metadata, self->race.fd, (void *)view));
	munmap(places, 2 * size);
	self->race.view = view_map(_metadata, self->race.fd, PAGES);
}

/* All at once, and then the end in the middle of it */

static void *snapshots(void *arg)
{
	struct race *race = arg;
	char byte;

	while (!race->crew.stop) {
		int snapshot = snapshot_try(race->fd, race->view);

		if (pread(snapshot, &byte, 1, 0) == 1)
			(*race->shared)++;
		close(snapshot);
		race->crew.done++;
	}
	return NULL;
}

static void *mappings(void *arg)
{
	struct race *race = arg;
	size_t n = 0;

	while (!race->crew.stop) {
		char *view = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
				  race->fd, 0);

		n++;
		*word(view, n % PAGES) = n;
		(*race->shared)++;
		mprotect(page_at(view, n % PAGES), PAGE, PROT_READ);
		munmap(view, PAGES * PAGE / 2);
		reset_try(race->fd, race->view, PAGES, n % 2 ? COWPOOL_RESET_KEEP : 0);
		if (!fork())
			_exit(0);
		munmap(view, PAGES * PAGE);
		race->crew.done++;
	}
	return NULL;
}

TEST_F(races, exit_and_sigkill_in_the_middle)
{
	uint64_t views = stat_value(_metadata, "views");
	uint64_t frames = stat_value(_metadata, "private_frames");
	uint64_t nodes = stat_value(_metadata, "nodes");
	uint64_t pools = stat_value(_metadata, "pools");

	self->race.shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)self->race.shared);
	for (unsigned int n = how_often(100); n; n--) {
		pid_t child = child_fork(_metadata);
		int status;

		if (!child) {
			signal(SIGCHLD, SIG_IGN);
			crew_add(_metadata, &self->race.crew, write_pages, &self->race);
			crew_add(_metadata, &self->race.crew, snapshots, &self->race);
			crew_add(_metadata, &self->race.crew, mappings, &self->race);
			if (n % 2)
				pause();
			usleep(n % 10 * 1000);
			_exit(0);
		}
		if (n % 2) {
			usleep(n % 20 * 1000);
			ASSERT_EQ(0, kill(child, SIGKILL));
		}
		ASSERT_EQ(child, waitpid(child, &status, 0));
		EXPECT_EQ(n % 2 ? SIGKILL : 0, status);
	}
	EXPECT_LT(0, *self->race.shared);
	munmap(self->race.shared, PAGE);
	/* Its own children may take a moment longer. */
	for (int i = 0; i < 1000 && (stat_value(_metadata, "views") != views ||
				     stat_value(_metadata, "private_frames") != frames ||
				     stat_value(_metadata, "nodes") != nodes ||
				     stat_value(_metadata, "pools") != pools); i++)
		usleep(10000);
	EXPECT_EQ(views, stat_value(_metadata, "views"));
	EXPECT_EQ(frames, stat_value(_metadata, "private_frames"));
	EXPECT_EQ(nodes, stat_value(_metadata, "nodes"));
	EXPECT_EQ(pools, stat_value(_metadata, "pools"));
	expect_untouched(_metadata, self->race.fd, self->race.view);
}

TEST_HARNESS_MAIN
