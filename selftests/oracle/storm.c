// SPDX-License-Identifier: GPL-2.0
/*
 * Storms: operations by three threads of a process at once. Each writer has a
 * cell of its own and goes from page to page in order; so what a snapshot
 * shows of each is a first part.
 */
#include "process.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>

#define THREADS		3
#define MAX_STORM	16	/* pages */

static struct storm {
	const struct operation *operation;
	struct view_model *view;
	unsigned int nr;
	uint16_t page[MAX_STORM];
	atomic_uint steps;		/* pages written, by all helpers */
	unsigned int least;		/* steps that a snapshot has to show */
	atomic_uint writers;		/* that are not through */
} storm;

static volatile uint64_t *storm_word(unsigned int i, unsigned int cell)
{
	unsigned int page = storm.page[i];

	return (volatile uint64_t *)storm.view->page[page].at + cell_word(page, cell);
}

static bool is_new(unsigned int i, unsigned int cell, uint64_t value)
{
	unsigned int page = storm.page[i], word = cell_word(page, cell);

	if (value == word_value(storm.operation->number, page, word))
		return true;
	word_check(value, storm.view->now.cell[page][cell], page, word,
		   storm.operation->view);
	return false;
}

/* Writes its cell in every page. */
static void *storm_write(void *arg)
{
	unsigned int cell = (uintptr_t)arg;

	for (unsigned int i = 0; i < storm.nr; i++) {
		unsigned int page = storm.page[i], word = cell_word(page, cell);

		if (is_new(i, cell, *storm_word(i, cell)))
			wrong("page %u was written before its time", page);
		*storm_word(i, cell) = word_value(storm.operation->number, page, word);
		if (!is_new(i, cell, *storm_word(i, cell)))
			wrong("view %u, page %u, word %u: a write is lost",
			      storm.operation->view, page, word);
		storm.steps++;
	}
	storm.writers--;
	return NULL;
}

/* Takes entries away, and looks whether anything old comes back. */
static void *storm_drop(void *arg)
{
	bool seen[MAX_STORM][CELLS] = {};

	(void)arg;
	do {
		for (unsigned int i = 0; i < storm.nr; i++) {
			madvise(storm.view->page[storm.page[i]].at, PAGE, MADV_DONTNEED);
			for (unsigned int cell = 0; cell < 2; cell++) {
				bool new = is_new(i, cell, *storm_word(i, cell));

				if (seen[i][cell] && !new)
					wrong("view %u, page %u, word %u: is old again",
					      storm.operation->view, storm.page[i],
					      cell_word(storm.page[i], cell));
				seen[i][cell] = new;
			}
		}
	} while (storm.writers);
	return NULL;
}

static void thread_start(pthread_t *thread, void *(*run)(void *), unsigned int arg)
{
	pthread_attr_t attr;
	int err;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 64 * 1024 + PTHREAD_STACK_MIN);
	err = pthread_create(thread, &attr, run, (void *)(uintptr_t)arg);
	pthread_attr_destroy(&attr);
	if (err)
		wrong("pthread_create: %s", strerror(err));
}

static void *stand_by(void *arg)
{
	for (;;)
		pause();
	return arg;
}

/* A process with a second thread, if that does nothing: it is not alone. */
void bystander_start(void)
{
	pthread_t thread;

	thread_start(&thread, stand_by, 0);
}

/* Waits until the helpers are somewhere in the middle. */
static void storm_wait(void)
{
	while (storm.steps < storm.operation->number % (2 * storm.nr))
		sched_yield();
}

/*
 * Brings @content up to date with what cells 1 and 2 show in a snapshot of any
 * kind: @seen.
 */
static void storm_adopt(struct content *content, uint64_t (*seen)[CELLS])
{
	unsigned int steps = 0;

	for (unsigned int cell = 1; cell < THREADS; cell++) {
		bool before = true;

		for (unsigned int i = 0; i < storm.nr; i++) {
			bool new = is_new(i, cell, seen[i][cell]);

			if (new && !before)
				wrong("torn: page %u, word %u is newer than a page before it",
				      storm.page[i], cell_word(storm.page[i], cell));
			before = new;
			steps += new;
			if (new)
				content->cell[storm.page[i]][cell] =
					storm.operation->number;
		}
	}
	if (steps < storm.least)
		wrong("of %u writes that came before, %u are there", storm.least, steps);
}

static bool storm_is_in(const struct content *content, unsigned int i, unsigned int cell)
{
	return content->cell[storm.page[i]][cell] == storm.operation->number;
}

static void storm_snapshot(int fd)
{
	struct snapshot_model *snapshot = &self.snapshot[storm.operation->other];
	uint64_t seen[MAX_STORM][CELLS], words[WORDS];

	snapshot_put(storm.operation->other, fd, &storm.view->now);
	for (unsigned int i = 0; i < storm.nr; i++) {
		snapshot_page(fd, storm.page[i], words);
		for (unsigned int cell = 0; cell < CELLS; cell++)
			seen[i][cell] = words[cell_word(storm.page[i], cell)];
	}
	storm_adopt(&snapshot->now, seen);
}

/* The view of a child that was forked meanwhile. */
static void storm_child(void)
{
	uint64_t seen[MAX_STORM][CELLS];

	for (unsigned int i = 0; i < storm.nr; i++)
		for (unsigned int cell = 0; cell < CELLS; cell++)
			seen[i][cell] = *storm_word(i, cell);
	storm_adopt(&storm.view->now, seen);
	for (unsigned int i = 0; i < storm.nr; i++) {
		struct page_model *model = &storm.view->page[storm.page[i]];

		if (storm_is_in(&storm.view->now, i, 1) ||
		    storm_is_in(&storm.view->now, i, 2))
			model->owner = OWN;
		else if (model->owner == NOT_OWN)
			/* A thread was about to write it. */
			model->owner = PERHAPS_OWN;
	}
}

/* All has been written. */
static void storm_written(unsigned int first_cell, unsigned int cells)
{
	for (unsigned int i = 0; i < storm.nr; i++) {
		for (unsigned int cell = 0; cell < cells; cell++)
			storm.view->now.cell[storm.page[i]][first_cell + cell] =
				storm.operation->number;
		page_written(storm.view, storm.page[i]);
	}
}

static void storm_choose(const struct operation *operation, struct view_model *view)
{
	storm = (struct storm){ .operation = operation, .view = view };
	for (unsigned int n = 0; view && n < operation->pages; n++) {
		const struct page_model *model = &view->page[operation->page + n];

		if (model->at && model->prot & PROT_WRITE && storm.nr < MAX_STORM)
			storm.page[storm.nr++] = operation->page + n;
	}
}

/* Three write; or two, and one takes entries away. */
static void storm_of_writes(void)
{
	bool drop = storm.operation->how;
	pthread_t helpers[THREADS - 1];

	storm.writers = drop ? 2 : 3;
	thread_start(&helpers[0], storm_write, 1);
	thread_start(&helpers[1], drop ? storm_drop : storm_write, 2);
	storm_write((void *)0);
	pthread_join(helpers[0], NULL);
	pthread_join(helpers[1], NULL);
	storm_written(0, drop ? 2 : 3);
}

/* Two write, and one takes a snapshot meanwhile, or forks. */
static void storm_and_share(void)
{
	const struct operation *operation = storm.operation;
	bool forks = operation->kind == STORM_FORK;
	unsigned int number = self.number;
	pthread_t helpers[THREADS - 1];
	int fd = -1;

	storm.writers = 2;
	thread_start(&helpers[0], storm_write, 1);
	thread_start(&helpers[1], storm_write, 2);
	storm_wait();
	storm.least = storm.steps;
	if (forks)
		do_fork(operation->other);
	else
		fd = snapshot_take(storm.view);
	if (self.number != number) {
		storm_child();
		return;
	}
	pthread_join(helpers[0], NULL);
	pthread_join(helpers[1], NULL);
	if (!forks)
		storm_snapshot(fd);
	storm_written(1, 2);
	/*
	 * Which pages were written after it, and so can be written without a
	 * fault, is not known. Of the next snapshot it is.
	 */
	close(snapshot_take(storm.view));
	grants_ask(storm.view);
}

bool storm_do(const struct operation *operation)
{
	storm_choose(operation, view_of(operation->view));
	if (!storm.nr) {
		/* The director counts on the child. */
		if (operation->kind == STORM_FORK)
			do_fork(operation->other);
		return operation->kind == STORM_FORK;
	}
	if (operation->kind == STORM)
		storm_of_writes();
	else
		storm_and_share();
	return true;
}
