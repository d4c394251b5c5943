// SPDX-License-Identifier: GPL-2.0
/*
 * Parts of the stress, see tools/stress/stress:
 *
 *   bystander [NAME]	has a view of a pool, and finds all the time what it must;
 *			makes the pool, with a name that others may attach to
 *   bomb NAME		forks as often as it is allowed to, with views of that pool
 *   hog		writes to a view until it is killed
 */
#include "pages.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <cowpool.h>

/* A pool with some pages in large folios, and some in single ones */
#define PAGES		(PMD_PAGES + 40)
#define SIZE		(PAGES * PAGE)
#define MAX_PAGES	1024

static _Noreturn void die(const char *what)
{
	printf("# %s: %s\n", what, strerror(errno));
	exit(1);
}

/* The bystander */

static volatile sig_atomic_t told_to_end;

static void end(int sig)
{
	(void)sig;
	told_to_end = 1;
}

static int pool_make(const char *name)
{
	int pool = cowpool_create(name, SIZE, 0444);
	char *content = malloc(SIZE);

	if (pool < 0 || !content)
		die("pool");
	pages_set(content, 0, PAGES, 0);
	if (cowpool_fill(pool, 0, content, SIZE))
		die("fill");
	free(content);
	return pool;
}

/*
 * What a view shows, page by page: what the bystander wrote last, by the number of
 * that write, or what the pool has.
 */
static unsigned int writes[MAX_PAGES];

static void look(const char *what, char *view, const unsigned int *written)
{
	for (size_t page = 0; page < PAGES; page++) {
		uint64_t expected = TAG(written[page], page);
		uint64_t seen = page_tag(page_at(view, page));

		if (seen == expected)
			continue;
		printf("# %s: page %zu has %#llx, and not %#llx\n", what, page,
		       (unsigned long long)seen, (unsigned long long)expected);
		exit(1);
	}
}

static void write_page(char *view, unsigned int number)
{
	size_t page = rand() % PAGES;

	/* Tags have 16 bits for who wrote. */
	writes[page] = 1 + number % 65535;
	page_set(page_at(view, page), TAG(writes[page], page));
}

/* A snapshot and a child have what the view had, whatever it gets meanwhile. */
static void look_from_outside(char *view, unsigned int number)
{
	static unsigned int before[MAX_PAGES];
	int snapshot = cowpool_snapshot(view), status;
	char *then = snapshot < 0 ? NULL : cowpool_map(snapshot, 0, 0);
	pid_t child = fork();

	if (!then || child < 0)
		die("snapshot and fork");
	if (!child) {
		look("the child's view", view, writes);
		write_page(view, number + 1);
		look("the child's view, written to", view, writes);
		fflush(stdout);
		_exit(0);
	}
	memcpy(before, writes, sizeof(before));
	for (int left = 20; left; left--)
		write_page(view, number);
	look("the snapshot", then, before);
	if (waitpid(child, &status, 0) != child || status) {
		printf("# the child ended with status %#x\n", status);
		exit(1);
	}
	munmap(then, SIZE);
	close(snapshot);
}

static int bystander(const char *name)
{
	int pool = pool_make(name);
	char *view = cowpool_map(pool, 0, 0);
	unsigned int n;

	if (!view)
		die("map");
	signal(SIGTERM, end);
	for (n = 0; !told_to_end; n++) {
		write_page(view, n);
		look("the view", view, writes);
		if (n % 8 == 0)
			look_from_outside(view, n);
		if (n % 128 == 127) {
			if (cowpool_reset(view, SIZE, n % 256 == 127 ? COWPOOL_RESET_KEEP : 0) < 0)
				die("reset");
			memset(writes, 0, sizeof(writes));
		}
		if (n % 16 == 0)
			printf("# looked %u times at all pages\n", n + 1);
	}
	printf("# looked %u times at all pages, and all was right\n", n);
	return 0;
}

/* Attackers */

enum { VIEWS = 4 };

static int bomb(const char *name)
{
	int pool = cowpool_open(name), snapshot;
	bool first = true;
	char *views[VIEWS];

	if (pool < 0)
		die(name);
	signal(SIGCHLD, SIG_IGN);
	for (size_t i = 0; i < VIEWS; i++)
		views[i] = cowpool_map(pool, 0, 0);
	puts("# views are there");
	for (;;) {
		size_t i = rand() % VIEWS;
		pid_t child = -1;

		if (!views[i]) {
			views[i] = cowpool_map(pool, 0, 0);
			continue;
		}
		switch (rand() % 8) {
		case 0:
		case 1:
			child = fork();
			break;
		case 2:
			/* Everybody but the first is replaced by others. */
			if (!first)
				_exit(0);
			break;
		case 3:
			snapshot = cowpool_snapshot(views[i]);
			munmap(views[i], SIZE);
			views[i] = snapshot < 0 ? NULL : cowpool_map(snapshot, 0, 0);
			close(snapshot);
			break;
		case 4:
			munmap(views[i], SIZE);
			views[i] = cowpool_map(pool, 0, 0);
			break;
		case 5:
			cowpool_reset(views[i], SIZE, rand() % 2 ? COWPOOL_RESET_KEEP : 0);
			break;
		default:
			for (int left = 20; left; left--)
				page_set(page_at(views[i], rand() % PAGES), 1);
		}
		if (!child) {
			first = false;
			srand(getpid());
		}
	}
}

static int hog(void)
{
	const size_t size = 1UL << 30;
	int pool = cowpool_create(NULL, size, 0600);
	char *view = pool < 0 ? NULL : cowpool_map(pool, 0, 0);

	if (!view)
		die("map");
	puts("# the view is there");
	for (size_t page = 0; page < size / PAGE; page++)
		page_set(page_at(view, page), TAG(1, page));
	puts("# nobody has stopped it");
	return 1;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!strcmp(what, "bystander"))
		return bystander(argv[2]);
	if (!strcmp(what, "bomb") && argc > 2)
		return bomb(argv[2]);
	if (!strcmp(what, "hog"))
		return hog();
	fputs("usage: parts bystander [NAME]|bomb NAME|hog\n", stderr);
	return 2;
}
