// SPDX-License-Identifier: GPL-2.0
/*
 * Consistency under fire: two threads write to a view at full speed and keep
 * an invariant, while another one takes snapshots as fast as it can. Every
 * snapshot must hold the invariant, be of an instant between call and return,
 * and never change. So must the view of every child, where fork() is what
 * takes the snapshot.
 */
#include "snapshot.h"

#include <sys/prctl.h>

#define PAGES		1024
#define WRITERS		2

/* What is looked at: memory, or a snapshot by its descriptor. */
struct image {
	char *memory;
	int fd;
};

struct fire {
	struct image live;
	atomic_bool stop;
	atomic_ullong lost;	/* what a writer did not find any more */
};

/*
 * The words of a view. What one thread stores in this order, no other thread
 * sees in another one; nor must a snapshot show the later without the earlier.
 */
static uint64_t get(const struct image *image, size_t page, size_t word)
{
	size_t offset = page * PAGE + word * sizeof(uint64_t);
	uint64_t value = 0;

	if (image->memory)
		return atomic_load_explicit((_Atomic uint64_t *)(image->memory + offset),
					    memory_order_acquire);
	if (pread(image->fd, &value, sizeof(value), offset) != sizeof(value))
		ksft_exit_fail_msg("pread: %s\n", strerror(errno));
	return value;
}

static void set(const struct image *image, size_t page, size_t word, uint64_t value)
{
	size_t offset = page * PAGE + word * sizeof(uint64_t);

	atomic_store_explicit((_Atomic uint64_t *)(image->memory + offset), value,
			      memory_order_release);
}

/*
 * Each invariant comes with what a writer does, one step after the other; how
 * many steps a view shows to be done; and whether it shows them as it should.
 */

/* A pair of counters for each writer, the first of which is first. */
enum { PAIR_FIRST = 5, PAIR_SECOND = 700 };

static bool pair_step(struct fire *fire, unsigned int writer)
{
	uint64_t n = get(&fire->live, PAIR_FIRST, writer) + 1;

	set(&fire->live, PAIR_FIRST, writer, n);
	if (get(&fire->live, PAIR_SECOND, writer) != n - 1)
		fire->lost++;
	set(&fire->live, PAIR_SECOND, writer, n);
	return true;
}

static uint64_t pair_steps(const struct image *image)
{
	return get(image, PAIR_SECOND, 0) + get(image, PAIR_SECOND, 1);
}

static bool pair_holds(const struct image *image)
{
	for (unsigned int writer = 0; writer < WRITERS; writer++) {
		uint64_t second = get(image, PAIR_SECOND, writer);
		uint64_t first = get(image, PAIR_FIRST, writer);

		if (first - second > 1)
			return false;
	}
	return true;
}

/*
 * A list. The writers take turns to put a new element in front, and each does
 * so when it sees the other's. The oldest element's memory is used again. A
 * node has a page of its own: its number, and the page of the next one.
 */
enum { LIST_HEAD = 900, LIST_LENGTH = 14, NODE_NUMBER = 0, NODE_NEXT = 511 };

static size_t list_page(uint64_t number)
{
	return 10 + number % LIST_LENGTH * 61;
}

static bool list_step(struct fire *fire, unsigned int writer)
{
	uint64_t newest = get(&fire->live, LIST_HEAD, 0);
	size_t page = list_page(newest + 1);

	if (newest % WRITERS != writer)
		return false;
	if (newest && get(&fire->live, list_page(newest), NODE_NUMBER) != newest)
		fire->lost++;
	set(&fire->live, page, NODE_NUMBER, newest + 1);
	set(&fire->live, page, NODE_NEXT, list_page(newest));
	set(&fire->live, LIST_HEAD, 0, newest + 1);
	return true;
}

static uint64_t list_steps(const struct image *image)
{
	return get(image, LIST_HEAD, 0);
}

/* The oldest one may be about to become the newest. */
static bool list_holds(const struct image *image)
{
	uint64_t number = get(image, LIST_HEAD, 0);
	size_t page = list_page(number);

	for (int i = 1; i < LIST_LENGTH && number; i++, number--) {
		if (get(image, page, NODE_NUMBER) != number)
			return false;
		page = get(image, page, NODE_NEXT);
		if (page != list_page(number - 1))
			return false;
	}
	return true;
}

/* A ring of slots that one writer fills and the other one empties. */
enum { RING_IN = 3, RING_OUT = 800, RING_SLOTS = 8 };
static const size_t slot_words[] = { 0, 1, 200, 511 };

static size_t slot_page(uint64_t number)
{
	return 20 + number % RING_SLOTS * 64;
}

static bool slot_holds(const struct image *image, uint64_t number)
{
	for (size_t i = 0; i < ARRAY_SIZE(slot_words); i++)
		if (get(image, slot_page(number), slot_words[i]) != number + i)
			return false;
	return true;
}

static bool ring_step(struct fire *fire, unsigned int writer)
{
	uint64_t out = get(&fire->live, RING_OUT, 0);
	uint64_t in = get(&fire->live, RING_IN, 0);

	if (writer == 0) {
		if (in - out == RING_SLOTS)
			return false;
		for (size_t i = 0; i < ARRAY_SIZE(slot_words); i++)
			set(&fire->live, slot_page(in), slot_words[i], in + i);
		set(&fire->live, RING_IN, 0, in + 1);
	} else {
		if (in == out)
			return false;
		if (!slot_holds(&fire->live, out))
			fire->lost++;
		set(&fire->live, RING_OUT, 0, out + 1);
	}
	return true;
}

static uint64_t ring_steps(const struct image *image)
{
	return get(image, RING_IN, 0);
}

static bool ring_holds(const struct image *image)
{
	uint64_t in = get(image, RING_IN, 0), out = get(image, RING_OUT, 0);

	if (in - out > RING_SLOTS)
		return false;
	for (; out < in; out++)
		if (!slot_holds(image, out))
			return false;
	return true;
}

struct invariant {
	bool (*step)(struct fire *fire, unsigned int writer);
	uint64_t (*steps)(const struct image *image);
	bool (*holds)(const struct image *image);
};

static const struct invariant pair = { pair_step, pair_steps, pair_holds };
static const struct invariant list = { list_step, list_steps, list_holds };
static const struct invariant ring = { ring_step, ring_steps, ring_holds };

struct writer {
	struct fire *fire;
	bool (*step)(struct fire *fire, unsigned int writer);
	unsigned int number;
	pthread_t thread;
};

/* How a view is write-protected depends on what else there is. */
enum state {
	ALONE,
	RELATED,	/* a child lives that has the view too */
	SPLIT,		/* it is in several areas */
};

FIXTURE(fire) {
	int fd;
	pid_t relative;
	struct fire fire;
	struct writer writers[WRITERS];
	atomic_ullong *child_steps;
};

FIXTURE_VARIANT(fire) {
	const struct invariant *invariant;
	enum state state;
};

FIXTURE_VARIANT_ADD(fire, pair) { &pair, ALONE };
FIXTURE_VARIANT_ADD(fire, pair_related) { &pair, RELATED };
FIXTURE_VARIANT_ADD(fire, pair_split) { &pair, SPLIT };
FIXTURE_VARIANT_ADD(fire, list) { &list, ALONE };
FIXTURE_VARIANT_ADD(fire, list_related) { &list, RELATED };
FIXTURE_VARIANT_ADD(fire, ring) { &ring, ALONE };
FIXTURE_VARIANT_ADD(fire, ring_related) { &ring, RELATED };

static void *writer_run(void *arg)
{
	struct writer *writer = arg;
	struct fire *fire = writer->fire;

	while (!fire->stop)
		if (!writer->step(fire, writer->number))
			sched_yield();
	return NULL;
}

FIXTURE_SETUP(fire)
{
	struct fire *fire = &self->fire;
	char *zeroes;

	self->fd = pool_create(_metadata, PAGES, NULL, 0);
	/* Huge pages, but zeroes: every invariant holds in there. */
	zeroes = calloc(PAGES, PAGE);
	ASSERT_EQ((ssize_t)(PAGES * PAGE), pwrite(self->fd, zeroes, PAGES * PAGE, 0));
	free(zeroes);
	self->child_steps = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)self->child_steps);
	fire->live.memory = view_map(_metadata, self->fd, PAGES);
	if (variant->state == SPLIT)
		ASSERT_EQ(0, mprotect(page_at(fire->live.memory, 400), PAGE, PROT_READ));
	if (variant->state == RELATED) {
		self->relative = child_fork(_metadata);
		if (!self->relative) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			for (;;)
				pause();
		}
	}
	for (unsigned int i = 0; i < WRITERS; i++) {
		struct writer *writer = &self->writers[i];

		*writer = (struct writer){
			.fire = fire,
			.step = variant->invariant->step,
			.number = i,
		};
		ASSERT_EQ(0, pthread_create(&writer->thread, NULL, writer_run, writer));
	}
}

FIXTURE_TEARDOWN(fire)
{
	self->fire.stop = true;
	for (unsigned int i = 0; i < WRITERS; i++)
		pthread_join(self->writers[i].thread, NULL);
	EXPECT_EQ(0, self->fire.lost);
	EXPECT_TRUE(variant->invariant->holds(&self->fire.live));
	if (self->relative) {
		kill(self->relative, SIGKILL);
		waitpid(self->relative, NULL, 0);
	}
	munmap((void *)self->child_steps, PAGE);
	munmap(self->fire.live.memory, PAGES * PAGE);
	close(self->fd);
}

/*
 * Lets the writers do something since the last time.
 *
 * Return: the number of steps that are done.
 */
static uint64_t more_steps(const struct invariant *invariant,
			   const struct image *live, uint64_t last)
{
	uint64_t steps;

	/* Asleep, since they may have to take turns on the processors. */
	while ((steps = invariant->steps(live)) <= last)
		usleep(10);
	return steps;
}

/*
 * Looks at what must not change any more, twice.
 *
 * Return: the number of steps that it shows, or UINT64_MAX if it is wrong.
 */
static uint64_t frozen_steps(const struct invariant *invariant,
			     const struct image *image)
{
	uint64_t steps = invariant->steps(image);

	return invariant->holds(image) && invariant->holds(image) &&
	       invariant->steps(image) == steps ? steps : UINT64_MAX;
}

TEST_F_TIMEOUT(fire, snapshot, 3600)
{
	const struct invariant *invariant = variant->invariant;
	const struct image *live = &self->fire.live;
	struct image image = {}, last = { .fd = -1 };
	uint64_t steps, last_steps = 0;
	unsigned int raced = 0;

	for (unsigned int left = how_often(300); left; left--) {
		uint64_t before = more_steps(invariant, live, last_steps), after;

		image.fd = snapshot_take(_metadata, self->fd, live->memory);
		after = invariant->steps(live);
		raced += before < after;
		steps = frozen_steps(invariant, &image);
		ASSERT_NE(UINT64_MAX, steps) TH_LOG("torn");
		ASSERT_LE(before, steps);
		ASSERT_GE(after, steps);
		/* The one before is still what it was. */
		if (last.fd >= 0) {
			ASSERT_EQ(last_steps, frozen_steps(invariant, &last));
			close(last.fd);
		}
		last.fd = image.fd;
		last_steps = steps;
	}
	close(last.fd);
	EXPECT_LT(0, raced);
}

TEST_F_TIMEOUT(fire, fork, 3600)
{
	const struct invariant *invariant = variant->invariant;
	const struct image *live = &self->fire.live;
	uint64_t steps = 0;

	for (unsigned int left = how_often(25); left; left--) {
		uint64_t before = more_steps(invariant, live, steps), after;
		pid_t child = child_fork(_metadata);

		if (!child) {
			*self->child_steps = frozen_steps(invariant, live);
			_exit(0);
		}
		after = invariant->steps(live);
		child_join(_metadata, child);
		steps = *self->child_steps;
		ASSERT_NE(UINT64_MAX, steps) TH_LOG("torn");
		ASSERT_LE(before, steps);
		ASSERT_GE(after, steps);
	}
}

TEST_HARNESS_MAIN
