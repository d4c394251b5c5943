// SPDX-License-Identifier: GPL-2.0
/*
 * What copying on write saved, against copying everything up front.
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "../lib/cowpool.h"
#include "command.h"
#include "debugfs.h"
#include "demo.h"
#include "term.h"

/* Bytes that an index node takes, or 0 if the kernel does not tell. */
static uint64_t node_size(void)
{
	FILE *file = fopen("/sys/kernel/slab/cowpool_node/slab_size", "re");
	unsigned long long size = 0;

	if (!file)
		return 0;
	if (fscanf(file, "%llu", &size) != 1)
		size = 0;
	fclose(file);
	return size;
}

static void print_comparison(const char *what, const char *front,
			     const char *cow, double ratio)
{
	printf("   %-10s%16s%16s", what, front, cow);
	/* With a tiny file there is nothing to be saved. */
	if (ratio >= 1.1)
		printf("   %s%.1f %s less%s", term_style(STYLE_GOOD), ratio,
		       term_sign(SIGN_TIMES), term_style(STYLE_PLAIN));
	putchar('\n');
}

/* Memory that the index takes, or 0 if that cannot be known. */
static uint64_t index_size(const struct demo *d)
{
	struct debugfs_stats stats;

	/* With views of somebody else about, nodes are not ours alone. */
	if (!d->debugfs || d->stats_before.views || !debugfs_stats(&stats))
		return 0;
	return (stats.nodes - d->stats_before.nodes) * node_size();
}

static void show_memory(const struct demo *d)
{
	uint64_t pool = d->image.pages * d->image.page_size;
	uint64_t copied = d->nr_actors - 1, private = 0, index, cow;
	char front_text[SIZE_TEXT], text[SIZE_TEXT], more[SIZE_TEXT];

	for (size_t i = 0; i < d->nr_actors; i++)
		private += d->roles[i].counted.private_pages;
	private -= d->shared_frames;
	index = index_size(d);
	cow = pool + private * d->image.page_size + index;
	print_comparison("memory", size_text(front_text, copied * pool),
			 size_text(text, cow),
			 (double)(copied * pool) / (double)cow);
	note("          %llu full copies; or the pool, %s in %llu private pages, and",
	     (unsigned long long)copied,
	     size_text(text, private * d->image.page_size),
	     (unsigned long long)private);
	note("          the index of those (%s)",
	     index ? size_text(more, index) : "not known here");
}

/*
 * Gets memory with the file's content and changes some of its pages. Returns
 * the seconds that took, or a negative number for an error.
 */
static double time_once(const struct demo *d, bool cow, const uint64_t *pages,
			uint64_t count)
{
	size_t size = d->image.pages * d->image.page_size;
	double begin = now();
	char *memory;

	if (cow) {
		memory = cowpool_map(d->stage.pool, 0, 0);
		if (!memory)
			return -1;
	} else {
		memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (memory == MAP_FAILED)
			return -1;
		memcpy(memory, d->image.bytes, size);
	}
	for (uint64_t i = 0; i < count; i++)
		memset(memory + pages[i] * d->image.page_size, 1, PIECE_SIZE);
	begin = now() - begin;
	munmap(memory, size);
	return begin;
}

static void show_time(struct demo *d)
{
	const unsigned int rounds = 7;
	const uint64_t *pages = choose_pages(d, PARENT);
	double front = 0, cow = 0;
	char front_text[32], cow_text[32];

	/* The fastest of several, in turns: whatever else runs only adds. */
	for (unsigned int i = 0; i < rounds; i++) {
		double copied = time_once(d, false, pages, d->writes);
		double mapped = time_once(d, true, pages, d->writes);

		if (copied < 0 || mapped < 0) {
			failed("cannot measure: no memory for one more copy");
			return;
		}
		front = i && front < copied ? front : copied;
		cow = i && cow < mapped ? cow : mapped;
		progress("measuring", i + 1, rounds);
	}
	progress_end();
	snprintf(front_text, sizeof(front_text), "%.2f ms", front * 1e3);
	snprintf(cow_text, sizeof(cow_text), "%.2f ms", cow * 1e3);
	print_comparison("time", front_text, cow_text, front / cow);
	note("          for one process to have the file in memory and %llu page%s of",
	     (unsigned long long)d->writes, plural(d->writes));
	note("          it changed: measured just now, the best of %u", rounds);
}

void show_savings(struct demo *d)
{
	title("SAVED: what copying on write costs, against copying all up front.");
	printf("   %-10s%16s%16s\n", "", "up front", "on write");
	show_memory(d);
	show_time(d);
}
