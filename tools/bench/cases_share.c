// SPDX-License-Identifier: GPL-2.0
/*
 * Cases of fork, snapshot and reset: what it costs to have the whole memory
 * once more, when little of it was written.
 */
#include "bench.h"

#include <linux/cowpool.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

/* 1 % of the pages is written between two forks or snapshots. */
#define DIRTY_STEP	100

/*
 * Nobody shares the image, as yet: in anonymous memory, all of it is this
 * process's own.
 */
static void prepare_alone(struct job *job)
{
	image_make(job, MIB(job->param));
	job->mem = image_map(job);
	read_all(job, job->mem);
}

/*
 * The image is shared, until it is written to: a view shares it with its pool,
 * anonymous memory with a process that was forked.
 */
static void prepare(struct job *job)
{
	prepare_alone(job);
	if (job->kind != ANON)
		return;
	switch (fork()) {
	case -1:
		fail("fork");
	case 0:
		stand_by();
	}
}

/* Writes every 100th page, and has everything mapped that can be. */
static void make_dirty(struct job *job)
{
	write_pages(job, job->mem, DIRTY_STEP);
	read_all(job, job->mem);
}

static void wait_for(pid_t child)
{
	int status;

	expect(waitpid(child, &status, 0) == child, "waitpid");
	expect(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : !status,
	       "the child's end");
}

static double time_fork(void)
{
	uint64_t time = clock_start();
	pid_t child;

	child = fork();
	if (!child)
		_exit(0);
	time = clock_stop(time);
	expect(child > 0, "fork");
	wait_for(child);
	return time;
}

static double fork_once(struct job *job)
{
	make_dirty(job);
	return time_fork();
}

/* As many pages, but side by side. */
static double fork_block(struct job *job)
{
	struct job block = *job;

	block.pages /= DIRTY_STEP;
	write_pages(&block, job->mem, 1);
	read_all(job, job->mem);
	return time_fork();
}

static double fork_write(struct job *job)
{
	uint64_t time;
	pid_t child;

	make_dirty(job);
	time = clock_start();
	child = fork();
	if (!child) {
		write_pages(job, job->mem, DIRTY_STEP);
		_exit(0);
	}
	expect(child > 0, "fork");
	wait_for(child);
	return clock_stop(time);
}

/* Each snapshot lives until the next one is there. */
static double snapshot(struct job *job)
{
	struct cowpool_snapshot snapshot = { .addr = (uintptr_t)job->mem };
	int *last = job->state;
	uint64_t time;
	int fd;

	make_dirty(job);
	time = clock_start();
	fd = ioctl(job->fd, COWPOOL_IOC_SNAPSHOT, &snapshot);
	time = clock_stop(time);
	expect(fd >= 0, "SNAPSHOT");
	if (last) {
		close(*last);
	} else {
		last = malloc(sizeof(*last));
		expect(last, "malloc");
		job->state = last;
	}
	*last = fd;
	return time;
}

static double fork_snapshot(struct job *job)
{
	pid_t *last = job->state;
	uint64_t time;
	pid_t child;

	make_dirty(job);
	time = clock_start();
	child = fork();
	if (!child)
		stand_by();
	time = clock_stop(time);
	expect(child > 0, "fork");
	if (last) {
		expect(!kill(*last, SIGKILL), "kill");
		wait_for(*last);
	} else {
		last = malloc(sizeof(*last));
		expect(last, "malloc");
		job->state = last;
	}
	*last = child;
	return time;
}

static void prepare_clean(struct job *job)
{
	struct cowpool_snapshot snapshot;

	prepare(job);
	make_dirty(job);
	snapshot = (struct cowpool_snapshot){ .addr = (uintptr_t)job->mem };
	expect(ioctl(job->fd, COWPOOL_IOC_SNAPSHOT, &snapshot) >= 0, "SNAPSHOT");
}

static void prepare_clean_64(struct job *job)
{
	job->param = 64;
	prepare_clean(job);
}

static double snapshot_again(struct job *job)
{
	struct cowpool_snapshot snapshot = { .addr = (uintptr_t)job->mem };
	uint64_t time;
	int fd;

	time = clock_start();
	fd = ioctl(job->fd, COWPOOL_IOC_SNAPSHOT, &snapshot);
	time = clock_stop(time);
	expect(fd >= 0, "SNAPSHOT");
	close(fd);
	return time;
}

/* The parameter says how many pages are written, all over 64 MiB. */
static void prepare_reset(struct job *job)
{
	image_make(job, MIB(64));
	job->mem = image_map(job);
}

static void reset(struct job *job, unsigned int flags, uint64_t pages)
{
	struct cowpool_reset reset = {
		.addr = (uintptr_t)job->mem,
		.len = job->pages * PAGE,
		.flags = flags,
	};

	expect(!ioctl(job->fd, COWPOOL_IOC_RESET, &reset), "RESET");
	expect(reset.pages == pages, "the number of pages");
}

static double cycle(struct job *job, unsigned int flags, uint64_t pages)
{
	uint64_t time = clock_start();

	write_pages(job, job->mem, job->pages / job->param);
	reset(job, flags, pages);
	return (double)clock_stop(time) / job->param;
}

static double reset_cycle(struct job *job)
{
	return cycle(job, 0, job->param);
}

static double reset_keep_cycle(struct job *job)
{
	return cycle(job, COWPOOL_RESET_KEEP, job->param);
}

/* A loop that has written many pages before, and writes some of them now. */
#define WRITTEN_BEFORE	16384
#define KEEP_WRITTEN	(COWPOOL_RESET_KEEP | COWPOOL_RESET_WRITTEN)

static void prepare_reset_written(struct job *job)
{
	prepare_reset(job);
	if (job->kind != VIEW)
		return;
	write_pages(job, job->mem, job->pages / WRITTEN_BEFORE);
	reset(job, KEEP_WRITTEN, WRITTEN_BEFORE);
}

static double reset_written_cycle(struct job *job)
{
	return cycle(job, KEEP_WRITTEN, WRITTEN_BEFORE);
}

static double dontneed_cycle(struct job *job)
{
	uint64_t time = clock_start();

	write_pages(job, job->mem, job->pages / job->param);
	expect(!madvise(job->mem, job->pages * PAGE, MADV_DONTNEED),
	       "MADV_DONTNEED");
	return (double)clock_stop(time) / job->param;
}

static const unsigned int sizes[] = { 1024, 64, 256, 0 };
static const unsigned int largest[] = { 1024, 0 };
static const unsigned int dirty[] = { 1024, 64, 256, 4096, 16384, 0 };

#define FORK(prepare, fn)						\
	.ours = { "cowpool", VIEW, prepare, fn },			\
	.theirs = { "anonymous memory", ANON, prepare, fn }
#define RESET(prepare, fn)						\
	.ours = { "cowpool", VIEW, prepare, fn },			\
	.theirs = {							\
		"MADV_DONTNEED on memfd MAP_PRIVATE", MEMFD,		\
		prepare_reset, dontneed_cycle				\
	}

const struct bench_case share_cases[] = {
	{ "fork", "%u MiB", sizes, PER_CALL, FORK(prepare, fork_once) },
	{
		"fork", "%u MiB, 1 %% in one piece", largest, PER_CALL,
		FORK(prepare, fork_block)
	},
	{
		"fork", "%u MiB, never shared", largest, PER_CALL,
		FORK(prepare_alone, fork_once)
	},
	{
		"fork_write", "%u MiB", sizes, PER_CALL,
		FORK(prepare, fork_write)
	},
	{
		"fork_write", "%u MiB, never shared", largest, PER_CALL,
		FORK(prepare_alone, fork_write)
	},
	{
		"snapshot", "%u MiB", sizes, PER_CALL,
		.ours = { "cowpool", VIEW, prepare, snapshot },
		.theirs = {
			"fork() of anonymous memory", ANON,
			prepare, fork_snapshot
		},
	},
	{
		"snapshot_again", "%u MiB", largest, PER_CALL,
		.ours = { "cowpool", VIEW, prepare_clean, snapshot_again },
		.theirs = {
			"the same with 64 MiB", VIEW,
			prepare_clean_64, snapshot_again
		},
	},
	{
		"reset_cycle", "%u pages of 64 MiB", dirty, PER_PAGE,
		RESET(prepare_reset, reset_cycle)
	},
	{
		"reset_keep_cycle", "%u pages of 64 MiB", dirty, PER_PAGE,
		RESET(prepare_reset, reset_keep_cycle)
	},
	{
		"reset_written_cycle", "%u pages, 16384 before", dirty,
		PER_PAGE, RESET(prepare_reset_written, reset_written_cycle)
	},
	{ NULL }
};
