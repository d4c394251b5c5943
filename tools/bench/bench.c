// SPDX-License-Identifier: GPL-2.0
/*
 * The benchmark's driver: finds the cases asked for, starts a worker for each
 * way, has them work in turns, and prints what it took: a line of JSON for
 * programs on standard output, a line for people on standard error.
 *
 *   bench [-w] [-l] [CASE...]
 *
 * runs the cases that count instructions, in a VM started by scripts/vm -i; or
 * with -w those that need a real clock. -l only lists what would be run.
 */
#include "bench.h"
#include "../profile/mark.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WARM_UP		1
#define REPETITIONS	5
#define REPETITIONS_WALL	15

#define THP_ENABLED	"/sys/kernel/mm/transparent_hugepage/enabled"
#define SHMEM_ENABLED	"/sys/kernel/mm/transparent_hugepage/shmem_enabled"
#define KHUGEPAGED_SLEEP \
	"/sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs"

#define PCP_FRACTION	"/proc/sys/vm/percpu_pagelist_high_fraction"

static const struct bench_case *const tables[] = {
	touch_cases, share_cases, scale_cases,
};

static const char *doing = "bench";

/**
 * fail() - say what is wrong, and end
 * @format: as of printf()
 */
void fail(const char *format, ...)
{
	int error = errno;
	va_list args;

	fprintf(stderr, "%s: ", doing);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, error ? ": %s\n" : "\n", strerror(error));
	exit(1);
}

/**
 * expect() - end unless all is well
 * @condition: whether it is
 * @what: what was tried
 */
void expect(bool condition, const char *what)
{
	if (!condition)
		fail("%s", what);
}

/**
 * write_setting() - change a setting of the kernel
 * @path: its file
 * @value: the new value
 */
void write_setting(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	expect(fd >= 0, path);
	expect(write(fd, value, strlen(value)) == (ssize_t)strlen(value), path);
	close(fd);
}

static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ULL + time.tv_nsec;
}

/**
 * clock_start() - begin what is measured
 *
 * Lets the kernel do first what it has put off, such as freeing memory.
 *
 * Return: the time, for clock_stop().
 */
uint64_t clock_start(void)
{
	usleep(20000);
	mark_start();
	return now();
}

/**
 * clock_stop() - end what is measured
 * @start: from clock_start()
 *
 * Return: how long it took, in ns; or in instructions, if that is what the
 * machine's clock counts.
 */
uint64_t clock_stop(uint64_t start)
{
	uint64_t time = now() - start;

	mark_stop();
	return time;
}

/**
 * stand_by() - be a process that only has what it had when it was forked
 *
 * It ends with its parent.
 */
void stand_by(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;)
		pause();
}

/*
 * All figures would be wrong if the clock counted something else. Without marks:
 * those are for what is measured.
 */
static void check_clock(void)
{
	uint64_t best = UINT64_MAX;
	int i;

	for (i = 0; i < 10; i++) {
		uint64_t loops = 50000, time = now();

		asm volatile("1: dec %0; jnz 1b" : "+r"(loops));
		time = now() - time;
		if (time < best)
			best = time;
	}
	if (best < 100000 || best > 105000) {
		errno = 0;
		fail("100000 instructions took %llu ns: no clock that counts (scripts/vm -i)",
		     (unsigned long long)best);
	}
}

/*
 * Nothing in the background gets the processor while something is measured,
 * and a child runs when its parent waits, not before.
 */
static void become_important(void)
{
	struct sched_param param = { .sched_priority = 1 };

	expect(!sched_setscheduler(0, SCHED_FIFO, &param),
	       "sched_setscheduler");
}

struct worker {
	pid_t pid;
	int socket;
};

/* Works whenever it gets a byte, and answers with the cost. */
_Noreturn static void work(const struct way *way, unsigned int param,
			   bool important, int socket)
{
	struct job job = { .kind = way->kind, .param = param, .fd = -1 };
	char byte;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (important)
		become_important();
	if (way->prepare)
		way->prepare(&job);
	while (read(socket, &byte, 1) == 1) {
		double cost = way->once(&job);

		expect(write(socket, &cost, sizeof(cost)) == sizeof(cost),
		       "write");
	}
	exit(0);
}

static void worker_start(struct worker *worker, const struct way *way,
			 unsigned int param, bool important)
{
	int sockets[2];

	expect(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets),
	       "socketpair");
	worker->pid = fork();
	expect(worker->pid >= 0, "fork");
	if (!worker->pid) {
		close(sockets[0]);
		work(way, param, important, sockets[1]);
	}
	close(sockets[1]);
	worker->socket = sockets[0];
}

static double worker_go(const struct worker *worker)
{
	double cost;

	if (write(worker->socket, "", 1) != 1 ||
	    read(worker->socket, &cost, sizeof(cost)) != sizeof(cost)) {
		errno = 0;
		fail("a worker has ended early");
	}
	return cost;
}

/*
 * The worker ends when it reads the end of its socket. Later workers have
 * inherited our end, so to close it would not do.
 */
static void worker_stop(const struct worker *worker)
{
	shutdown(worker->socket, SHUT_RDWR);
	close(worker->socket);
	waitpid(worker->pid, NULL, 0);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Prints minimum and median. */
static void report(const struct bench_case *bench, const char *variant,
		   int repetitions, double *ours, double *theirs)
{
	char line[200];
	int length;

	qsort(ours, repetitions, sizeof(*ours), compare);
	length = snprintf(line, sizeof(line), "%-20s %-22s %12.1f",
			  bench->name, variant, ours[0]);
	printf("{\"case\": \"%s\", \"variant\": \"%s\", \"unit\": \"%s\"",
	       bench->name, variant, bench->unit);
	printf(", \"cowpool\": %.2f, \"cowpool_median\": %.2f", ours[0],
	       ours[repetitions / 2]);
	if (theirs) {
		double ratio;

		qsort(theirs, repetitions, sizeof(*theirs), compare);
		ratio = ours[0] / theirs[0];
		snprintf(line + length, sizeof(line) - length,
			 " : %12.1f = %6.3f", theirs[0], ratio);
		printf(", \"reference_name\": \"%s\", \"reference\": %.2f",
		       bench->theirs.name, theirs[0]);
		printf(", \"reference_median\": %.2f, \"ratio\": %.4f",
		       theirs[repetitions / 2], ratio);
	}
	printf("}\n");
	fflush(stdout);
	fprintf(stderr, "%s %s\n", line, bench->unit);
}

static void run(const struct bench_case *bench, unsigned int param)
{
	int repetitions = bench->wall ? REPETITIONS_WALL : REPETITIONS;
	double ours[repetitions], theirs[repetitions];
	struct worker our_worker, their_worker;
	bool compared = bench->theirs.once;
	char variant[80];
	int i;

	snprintf(variant, sizeof(variant), bench->variant, param);
	doing = bench->name;
	write_setting(THP_ENABLED, bench->thp ?: "always");
	write_setting(SHMEM_ENABLED, bench->shmem ?: "never");

	worker_start(&our_worker, &bench->ours, param, !bench->wall);
	if (compared)
		worker_start(&their_worker, &bench->theirs, param,
			     !bench->wall);
	for (i = -WARM_UP; i < repetitions; i++) {
		double cost = worker_go(&our_worker);

		if (i >= 0)
			ours[i] = cost;
		if (!compared)
			continue;
		cost = worker_go(&their_worker);
		if (i >= 0)
			theirs[i] = cost;
	}
	worker_stop(&our_worker);
	if (compared)
		worker_stop(&their_worker);
	/* What workers have left behind is ours now, and about to end. */
	while (wait(NULL) > 0)
		;

	report(bench, variant, repetitions, ours, compared ? theirs : NULL);
}

static bool wanted(const char *name, char *const names[])
{
	if (!*names)
		return true;
	for (; *names; names++)
		if (!strcmp(name, *names))
			return true;
	return false;
}

static bool known(const char *name)
{
	const struct bench_case *bench;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(tables); i++)
		for (bench = tables[i]; bench->name; bench++)
			if (!strcmp(name, bench->name))
				return true;
	return false;
}

int main(int argc, char *argv[])
{
	const struct bench_case *bench;
	bool wall = false, list = false;
	size_t i, j;
	int option;

	while ((option = getopt(argc, argv, "wl")) != -1) {
		if (option == 'w')
			wall = true;
		else if (option == 'l')
			list = true;
		else
			return 2;
	}
	argv += optind;
	for (i = 0; argv[i]; i++)
		if (!known(argv[i]))
			fail("no case '%s'", argv[i]);

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (!list) {
		/* Huge pages come when memory is touched, not some time. */
		write_setting(KHUGEPAGED_SLEEP, "1000000000");
		/*
		 * Freed pages stay with the processor. Else what one way has
		 * freed would have the other's go all the way back.
		 */
		write_setting(PCP_FRACTION, "8");
		if (!wall)
			check_clock();
	}
	for (i = 0; i < ARRAY_SIZE(tables); i++) {
		for (bench = tables[i]; bench->name; bench++) {
			if (bench->wall != wall || !wanted(bench->name, argv))
				continue;
			for (j = 0; bench->params[j]; j++) {
				if (list)
					puts(bench->name);
				else
					run(bench, bench->params[j]);
			}
		}
	}
	return 0;
}
