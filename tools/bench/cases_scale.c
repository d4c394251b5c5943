// SPDX-License-Identifier: GPL-2.0
/*
 * Cases of many: views, forks, threads; and what memory the module takes for
 * itself.
 */
#include "bench.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

/* Another process has all views but ours, and has read them through. */
static void prepare_views(struct job *job)
{
	int ready[2];
	char byte;

	image_make(job, MIB(64));
	expect(!pipe(ready), "pipe");
	switch (fork()) {
	case -1:
		fail("fork");
	case 0:
		while (--job->param)
			read_all(job, image_map(job));
		expect(write(ready[1], "", 1) == 1, "write");
		stand_by();
	}
	expect(read(ready[0], &byte, 1) == 1, "read");
}

static void prepare_one_view(struct job *job)
{
	job->param = 1;
	prepare_views(job);
}

static double many_views(struct job *job)
{
	char *mem = image_map(job);
	uint64_t time;

	read_all(job, mem);
	time = clock_start();
	write_pages(job, mem, 1);
	time = clock_stop(time);
	image_unmap(job, mem);
	return (double)time / job->pages;
}

#define FORKS_STEP	64

static void prepare_forks(struct job *job)
{
	image_make(job, MIB(64));
	job->mem = image_map(job);
	job->state = calloc(job->param, sizeof(pid_t));
	expect(job->state, "calloc");
}

static void prepare_one_fork(struct job *job)
{
	job->param = 1;
	prepare_forks(job);
}

/* Each child has what was written mapped, too, and it is not its own. */
static pid_t fork_reader(struct job *job, int ready)
{
	pid_t child = fork();
	size_t page;

	expect(child >= 0, "fork");
	if (child)
		return child;
	for (page = 0; page < job->pages; page += FORKS_STEP)
		*(volatile char *)(job->mem + page * PAGE);
	expect(write(ready, "", 1) == 1, "write");
	stand_by();
}

static double many_forks(struct job *job)
{
	pid_t *children = job->state;
	int ready[2];
	char byte;
	unsigned int i;
	uint64_t time;

	expect(!pipe(ready), "pipe");
	write_pages(job, job->mem, FORKS_STEP);
	for (i = 0; i < job->param; i++) {
		children[i] = fork_reader(job, ready[1]);
		expect(read(ready[0], &byte, 1) == 1, "read");
	}
	close(ready[0]);
	close(ready[1]);
	read_all(job, job->mem);
	time = clock_start();
	write_pages(job, job->mem, FORKS_STEP);
	time = clock_stop(time);
	for (i = 0; i < job->param; i++) {
		expect(!kill(children[i], SIGKILL), "kill");
		expect(waitpid(children[i], NULL, 0) == children[i], "waitpid");
	}
	return (double)time * FORKS_STEP / job->pages;
}

typedef void work_fn(const struct job *job, char *mem, size_t step);

/* Threads do their part of the work each, in one image, all at the same time. */
struct crew {
	struct job *job;
	work_fn *work;
	char *mem;
	atomic_uint next;
	atomic_uint ready;
	atomic_uint go;
};

static void *crew_member(void *arg)
{
	struct crew *crew = arg;
	struct job part = *crew->job;
	unsigned int number = atomic_fetch_add(&crew->next, 1);
	cpu_set_t cpu;

	CPU_ZERO(&cpu);
	CPU_SET(number, &cpu);
	expect(!sched_setaffinity(0, sizeof(cpu), &cpu), "sched_setaffinity");
	part.pages /= part.param;
	atomic_fetch_add(&crew->ready, 1);
	while (!atomic_load(&crew->go))
		;
	crew->work(&part, crew->mem + number * part.pages * PAGE, 1);
	return NULL;
}

static void prepare_threads(struct job *job)
{
	image_make(job, MIB(64));
}

static void prepare_one_thread(struct job *job)
{
	job->param = 1;
	prepare_threads(job);
}

static double crew_run(struct job *job, work_fn *work)
{
	struct crew crew = { .job = job, .work = work, .mem = image_map(job) };
	pthread_t member[job->param];
	unsigned int i;
	uint64_t time;

	for (i = 0; i < job->param; i++)
		expect(!pthread_create(&member[i], NULL, crew_member, &crew),
		       "pthread_create");
	while (atomic_load(&crew.ready) < job->param)
		usleep(1000);
	time = clock_start();
	atomic_store(&crew.go, 1);
	for (i = 0; i < job->param; i++)
		expect(!pthread_join(member[i], NULL), "pthread_join");
	time = clock_stop(time);
	read_all(job, crew.mem);
	image_unmap(job, crew.mem);
	return (double)time / job->pages;
}

static double threads(struct job *job)
{
	return crew_run(job, write_pages);
}

/* Some 5,000 instructions a page: a first write takes fewer, and longer. */
static void compute(const struct job *job, char *mem, size_t step)
{
	volatile uint64_t number = (uintptr_t)mem;
	size_t i;

	for (i = 0; i < job->pages * 800 / step; i++)
		number = number * 3 + 1;
}

/* What the processors themselves have to give to two threads. */
static double threads_computing(struct job *job)
{
	return crew_run(job, compute);
}

static unsigned long read_number(const char *path, const char *format)
{
	unsigned long number = 0;
	FILE *file = fopen(path, "r");
	char line[80];

	expect(file, path);
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, format, &number) == 1)
			break;
	fclose(file);
	expect(number, path);
	return number;
}

#define SLAB	"/sys/kernel/slab/cowpool_node/"

/* The index's nodes, with what the slab allocator loses between them. */
static double memory(struct job *job)
{
	size_t written = job->pages / job->param;
	char *mem = image_map(job);
	unsigned long nodes, slab;

	write_pages(job, mem, job->param);
	nodes = read_number("/sys/kernel/debug/cowpool/stats", "nodes %lu");
	/* The order of a slab may be 0, which read_number() does not allow. */
	slab = read_number(SLAB "slab_size", "%lu") *
	       read_number(SLAB "objs_per_slab", "%lu");
	slab = (slab + PAGE - 1) & ~(PAGE - 1);
	image_unmap(job, mem);
	return (double)nodes * slab /
	       read_number(SLAB "objs_per_slab", "%lu") / written;
}

static const unsigned int views[] = { 1000, 100, 10, 0 };
static const unsigned int forks[] = { 100, 30, 10, 3, 0 };
static const unsigned int two[] = { 2, 0 };
static const unsigned int densities[] = { 1, 64, 0 };

const struct bench_case scale_cases[] = {
	{
		"many_views", "%u views", views, PER_PAGE,
		.ours = { "cowpool", VIEW, prepare_views, many_views },
		.theirs = {
			"one view", VIEW, prepare_one_view, many_views
		},
	},
	{
		"many_forks", "%u forks", forks, PER_PAGE,
		.ours = { "cowpool", VIEW, prepare_forks, many_forks },
		.theirs = {
			"one fork", VIEW, prepare_one_fork, many_forks
		},
	},
	{
		"threads", "%u threads", two, "ns/page", .wall = true,
		.ours = { "cowpool", VIEW, prepare_threads, threads },
		.theirs = {
			"one thread", VIEW, prepare_one_thread, threads
		},
	},
	{
		"threads", "%u threads, memfd", two, "ns/page", .wall = true,
		.ours = { "cowpool", VIEW, prepare_threads, threads },
		.theirs = {
			"memfd MAP_PRIVATE", MEMFD, prepare_threads, threads
		},
	},
	{
		"threads", "%u threads, memfd alone", two, "ns/page", .wall = true,
		.ours = { "memfd MAP_PRIVATE", MEMFD, prepare_threads, threads },
		.theirs = { "one thread", MEMFD, prepare_one_thread, threads },
	},
	{
		"threads", "%u threads, computing", two, "ns/page", .wall = true,
		.ours = {
			"two threads", VIEW, prepare_threads, threads_computing
		},
		.theirs = {
			"one thread", VIEW, prepare_one_thread,
			threads_computing
		},
	},
	{
		"memory", "one page in %u", densities, "bytes/page",
		.ours = { "cowpool", VIEW, prepare_threads, memory },
	},
	{ NULL }
};
