// SPDX-License-Identifier: GPL-2.0
/*
 * `cowpool demo`: the five steps of copy-on-write, shown on a real file.
 *
 * The demo makes an anonymous pool of a file and starts processes that map
 * it: a reader, called "pool" since what it sees is the pool, and writers
 * called A, B, C ... The first one forks a child, called a. It tells one of
 * them at a time what to touch, predicts from what stands in the page table
 * just before what the module has to count, and in the end compares all
 * predictions with the module's counters and all content with a model of its
 * own. Each claim that it prints with a mark was checked.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../lib/cowpool.h"
#include "command.h"
#include "demo.h"
#include "pagemap.h"
#include "term.h"

#define MAX_WRITERS	200

static const char help[] =
"Usage: cowpool demo [OPTIONS]\n"
"\n"
"Loads a file as a pool, lets processes map and write it, shows the five\n"
"steps of copy-on-write with evidence, checks everything, and exits with 0\n"
"only if every check held.\n"
"\n"
"Options:\n"
"  -i, --image FILE    the file; without it, one of some MiB that is at hand\n"
"  -p, --processes N   how many processes write, 1 to 200 (4)\n"
"  -w, --writes K      how many random pages each of them writes (16)\n"
"  -s, --seed S        seed of all that is random (1)\n"
"      --color WHEN    auto (on a terminal, unless NO_COLOR), always or never\n"
"  -h, --help          this text\n";

static void print_setting(const struct demo *d)
{
	const struct image *image = &d->image;
	uint64_t tail = image->pages * image->page_size - image->length;
	char size[SIZE_TEXT];

	printf("%scowpool demo%s: copy-on-write on a real file, step by step\n\n",
	       term_style(STYLE_TITLE), term_style(STYLE_PLAIN));
	printf("   file       %s\n", image->path);
	printf("   pool       %s in %llu page%s of %zu bytes, filled in %.1f ms\n",
	       size_text(size, image->length),
	       (unsigned long long)image->pages, plural(image->pages),
	       image->page_size, d->fill_time * 1e3);
	if (tail)
		printf("              (%llu bytes behind the file's end are zero)\n",
		       (unsigned long long)tail);
	printf("   writers    %s\n", actor_names(d, PARENT, d->nr_actors));
	printf("   reader     pool: never writes, so what it sees is the pool itself\n");
	printf("   seed       %llu\n\n", (unsigned long long)d->seed);
	note("Every view lies one page past a multiple of 2 MiB. So each of its pages");
	note("has a page table entry of its own, and can be watched by itself.");
	if (!d->entries)
		note("/proc/self/pagemap cannot be read: no evidence from the page table.");
	else if (!d->frames)
		note("The kernel hides frame numbers from this user: run as root to see them.");
	if (!d->debugfs)
		note(DEBUGFS_DIR " cannot be read: INFO alone tells counters.");
}

/* What the kernel lets this user see, found out on a page of our own. */
static void find_evidence(struct demo *d)
{
	int pagemap = pagemap_open();
	uint64_t entry = 0;

	if (pagemap >= 0) {
		entry = pagemap_entry(pagemap, d->image.bytes);
		close(pagemap);
	}
	d->entries = entry & PAGEMAP_PRESENT;
	d->frames = entry & PAGEMAP_FRAME;
	d->debugfs = debugfs_stats(&d->stats_before);
}

static bool make_pool(struct demo *d)
{
	const struct image *image = &d->image;
	size_t size = image->pages * image->page_size;
	double begin = now();

	d->stage.pages = image->pages;
	d->stage.page_size = image->page_size;
	d->stage.pool = cowpool_create(NULL, size, 0600);
	if (d->stage.pool < 0) {
		failed_device("cannot create a pool of %zu bytes", size);
		return false;
	}
	/* In parts, to have something to tell if it takes long. */
	for (size_t done = 0; done < size;) {
		size_t part = size - done < 1 << 20 ? size - done : 1 << 20;

		if (cowpool_fill(d->stage.pool, done, image->bytes + done,
				 part)) {
			failed_device("cannot fill a pool of %zu bytes", size);
			return false;
		}
		done += part;
		progress("filling the pool", done, size);
	}
	progress_end();
	d->fill_time = now() - begin;
	return true;
}

/* Everyone leaves: what was theirs has to be gone. */
static void leave(struct demo *d)
{
	struct debugfs_stats stats;
	struct debugfs_row *rows;
	struct cowpool_info info;
	size_t count;
	bool known, empty;

	title("AFTERWARDS: all processes have exited, and the pool is closed.");
	actors_end(d->actors, d->nr_actors);
	d->nr_actors = 0;
	known = !cowpool_info(d->stage.pool, NULL, &info);
	check(d, known && !info.views && !info.counters.private_pages,
	      "the pool had no view and no private page left");
	close(d->stage.pool);
	d->stage.pool = -1;
	if (!d->debugfs)
		return;
	rows = debugfs_rows("pools", &count);
	check(d, known && rows && !debugfs_find(rows, count, info.pool_id),
	      "the pool is gone from the module's list");
	free(rows);
	known = debugfs_stats(&stats);
	/* With views of somebody else about, these are not ours alone. */
	if (d->stats_before.views || (known && stats.views))
		return;
	empty = known && stats.pool_frames == d->stats_before.pool_frames &&
		stats.private_frames == d->stats_before.private_frames &&
		stats.nodes == d->stats_before.nodes;
	check(d, empty, "every page frame and index node was given back");
}

static void release(struct demo *d)
{
	actors_end(d->actors, d->nr_actors);
	for (size_t i = 0; d->roles && i < d->writers + 2; i++) {
		free(d->roles[i].writes);
		free(d->roles[i].owned);
	}
	free(d->roles);
	free(d->actors);
	free(d->pages);
	if (d->stage.pool >= 0)
		close(d->stage.pool);
	image_free(&d->image);
}

static bool set_up(struct demo *d)
{
	uint64_t room;

	if (!image_load(&d->image, d->path))
		return false;
	choose_heroes(d);
	room = d->image.pages - d->nr_heroes;
	if (d->writes > room)
		d->writes = room;
	find_evidence(d);
	return make_pool(d) && cast_start(d);
}

static bool perform(struct demo *d)
{
	print_setting(d);
	if (!show_steps(d) || (d->writes && !write_at_random(d)) ||
	    !verify_content(d))
		return false;
	draw_map(d);
	if (!verify_counts(d))
		return false;
	show_savings(d);
	leave(d);
	return true;
}

static int run(struct demo *d)
{
	bool whole;

	/* Line by line, so that a reader down a pipe can watch too. */
	setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
	d->stage.pool = -1;
	whole = set_up(d) && perform(d);
	release(d);
	if (!whole)
		return failed("the demo could not be finished");
	if (d->failures) {
		printf("\n%s%u of %u checks FAILED.%s\n", term_style(STYLE_BAD),
		       d->failures, d->checks, term_style(STYLE_PLAIN));
		return EXIT_FAILED;
	}
	printf("\n%sAll %u checks held.%s\n", term_style(STYLE_GOOD), d->checks,
	       term_style(STYLE_PLAIN));
	return EXIT_FINE;
}

int demo_main(const struct options *options, int argc, char **argv)
{
	enum { COLOUR = 256 };
	static const struct option long_options[] = {
		{ "color", required_argument, NULL, COLOUR },
		{ "help", no_argument, NULL, 'h' },
		{ "image", required_argument, NULL, 'i' },
		{ "processes", required_argument, NULL, 'p' },
		{ "seed", required_argument, NULL, 's' },
		{ "writes", required_argument, NULL, 'w' },
		{ 0 }
	};
	struct demo d = { .writers = 4, .writes = 16, .seed = 1 };
	enum term_when when = TERM_AUTO;
	int option;

	while ((option = getopt_long(argc, argv, "hi:p:s:w:", long_options,
				     NULL)) != -1) {
		bool valid = true;

		switch (option) {
		case 'h':
			fputs(help, stdout);
			return EXIT_FINE;
		case 'i':
			d.path = optarg;
			break;
		case 'p':
			valid = parse_number(optarg, 0, 1, MAX_WRITERS,
					     &d.writers);
			break;
		case 's':
			valid = parse_number(optarg, 0, 0, UINT64_MAX, &d.seed);
			break;
		case 'w':
			valid = parse_number(optarg, 0, 0, UINT32_MAX,
					     &d.writes);
			break;
		case COLOUR:
			if (!strcmp(optarg, "always"))
				when = TERM_ALWAYS;
			else if (!strcmp(optarg, "never"))
				when = TERM_NEVER;
			else
				valid = !strcmp(optarg, "auto");
			break;
		default:
			return EXIT_USAGE;
		}
		if (!valid)
			return misused("'%s' does not go with its option",
				       optarg);
	}
	if (optind < argc)
		return misused("demo takes no argument '%s'", argv[optind]);
	if (options->json)
		return misused("demo prints no JSON");
	term_init(when);
	return run(&d);
}
