// SPDX-License-Identifier: GPL-2.0
/*
 * Whether all is as it must be: what everyone sees, who owns what, and what
 * the module counted.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <nettle/sha2.h>

#include "../lib/cowpool.h"
#include "command.h"
#include "debugfs.h"
#include "demo.h"
#include "term.h"

/* --- Content --- */

/* SHA-256 of what an actor must see: the file with what it wrote. */
static void hash_expected(const struct demo *d, size_t actor,
			  unsigned char *scratch, unsigned char *digest)
{
	size_t page_size = d->image.page_size;
	uint64_t pages = d->image.pages;
	const struct role *role = &d->roles[actor];
	struct sha256_ctx sha;

	memcpy(scratch, d->image.bytes, pages * page_size);
	for (size_t i = 0; i < role->nr_writes; i++) {
		const struct written *written = &role->writes[i];

		memcpy(scratch + written->page * page_size + written->offset,
		       written->piece, PIECE_SIZE);
	}
	sha256_init(&sha);
	for (uint64_t i = 0; i < pages; i++) {
		sha256_update(&sha, page_size, scratch + i * page_size);
		progress("hashing what each must see", actor * pages + i,
			 d->nr_actors * pages);
	}
	sha256_digest(&sha, SHA256_DIGEST_SIZE, digest);
}

/* SHA-256 of the pool as read(2) gives it; false and errno. */
static bool hash_pool(const struct demo *d, unsigned char *scratch,
		      unsigned char *digest)
{
	size_t size = d->image.pages * d->image.page_size, have = 0;
	struct sha256_ctx sha;

	while (have < size) {
		ssize_t got = pread(d->stage.pool, scratch + have, size - have,
				    (off_t)have);

		if (got <= 0)
			return false;
		have += (size_t)got;
	}
	sha256_init(&sha);
	sha256_update(&sha, size, scratch);
	sha256_digest(&sha, SHA256_DIGEST_SIZE, digest);
	return true;
}

static void print_digest(const unsigned char *digest)
{
	for (unsigned int i = 0; i < 12; i++)
		printf("%02x", digest[i]);
	printf("...");
}

static bool print_digests(const char *name, const char *colour, bool shown,
			  const unsigned char *must, const unsigned char *is)
{
	bool equal = !memcmp(must, is, SHA256_DIGEST_SIZE);

	if (shown || !equal) {
		printf("   %s%-12s%s", colour, name, term_style(STYLE_PLAIN));
		print_digest(must);
		printf("  %s%s%s  ",
		       term_style(equal ? STYLE_GOOD : STYLE_BAD),
		       equal ? "==" : "!=", term_style(STYLE_PLAIN));
		print_digest(is);
		putchar('\n');
	}
	return equal;
}

/**
 * struct digests - SHA-256 of content
 * @must: what it must be
 * @is: what it is
 */
struct digests {
	unsigned char must[SHA256_DIGEST_SIZE];
	unsigned char is[SHA256_DIGEST_SIZE];
};

/* @digests: one for each actor, and one more for read(2). */
static bool get_digests(struct demo *d, struct digests *digests)
{
	struct digests *pool = &digests[d->nr_actors];
	struct outcome *outcomes = calloc(d->nr_actors, sizeof(*outcomes));
	unsigned char *scratch = malloc(d->image.pages * d->image.page_size);
	bool fine = false;

	if (!outcomes || !scratch) {
		failed("no memory to compare content");
		goto out;
	}
	if (!cast_read_all(d, outcomes))
		goto out;
	for (size_t i = 0; i < d->nr_actors; i++) {
		hash_expected(d, i, scratch, digests[i].must);
		memcpy(digests[i].is, outcomes[i].digest, SHA256_DIGEST_SIZE);
	}
	progress_end();
	memcpy(pool->must, digests[READER].must, SHA256_DIGEST_SIZE);
	fine = hash_pool(d, scratch, pool->is);
	if (!fine)
		failed_device("cannot read the pool");
out:
	free(scratch);
	free(outcomes);
	return fine;
}

bool verify_content(struct demo *d)
{
	struct digests *digests = calloc(d->nr_actors + 1, sizeof(*digests));
	const struct digests *pool = &digests[d->nr_actors];
	bool equal;

	title("CONTENT: SHA-256 of what each must see, and of what it sees.");
	if (!digests || !get_digests(d, digests)) {
		free(digests);
		return false;
	}
	equal = print_digests("read(2)", "", true, pool->must, pool->is);
	for (size_t i = 0; i < d->nr_actors; i++)
		equal &= print_digests(d->actors[i].name, actor_colour(d, i),
				       is_shown(d, i),
				       digests[i].must, digests[i].is);
	free(digests);
	print_more(d);
	putchar('\n');

	check(d, equal, "everyone sees the file with its own writes, and nobody else's");
	return true;
}

/* --- The page map --- */

/* The map's size in cells, if the file has so many pages. */
#define MAP_WIDTH	64
#define MAP_HEIGHT	16

/*
 * Who has pages of its own from @first on, before @end: as the page tables
 * say, since what the reader has is the pool's. Puts one of them in @owner and
 * returns how many they are; clears @expected if that is not as it must be.
 */
static size_t find_owners(const struct demo *d, uint64_t first, uint64_t end,
			  size_t *owner, bool *expected)
{
	const uint64_t *pool = d->actors[READER].shown;
	size_t owners = 0;

	for (size_t i = PARENT; i < d->nr_actors; i++) {
		bool owns = false;

		for (uint64_t page = first; page < end; page++) {
			bool differs = d->actors[i].shown[page] != pool[page];

			*expected &= differs == d->roles[i].owned[page];
			owns |= differs;
		}
		if (owns) {
			owners++;
			*owner = i;
		}
	}
	return owners;
}

static void print_cell(const struct demo *d, size_t owners, size_t owner)
{
	if (!owners)
		printf("%s%s", term_style(STYLE_FAINT), term_sign(SIGN_SHARED));
	else if (owners == 1)
		printf("%s%c", actor_colour(d, owner),
		       d->actors[owner].name[0]);
	else
		printf("%s%c", term_style(STYLE_TITLE),
		       owners < 10 ? (char)('0' + owners) : '#');
	printf("%s", term_style(STYLE_PLAIN));
}

void draw_map(struct demo *d)
{
	const uint64_t pages = d->image.pages;
	const uint64_t group = (pages + MAP_WIDTH * MAP_HEIGHT - 1) /
		(MAP_WIDTH * MAP_HEIGHT);
	bool expected = true;
	char cell[32] = "a page";
	size_t owner;

	if (group > 1)
		snprintf(cell, sizeof(cell), "%llu pages",
			 (unsigned long long)group);
	title("PAGE MAP: who has pages of its own where. A cell is %s.", cell);
	for (uint64_t first = 0; first < pages; first += group) {
		uint64_t end = first + group < pages ? first + group : pages;
		size_t owners = find_owners(d, first, end, &owner, &expected);

		if (first / group % MAP_WIDTH == 0)
			printf("%s   %8llu  ", first ? "\n" : "",
			       (unsigned long long)first);
		print_cell(d, owners, owner);
	}
	printf("\n\n   %s shared by all", term_sign(SIGN_SHARED));
	printf("   %sA%s private to A", actor_colour(d, PARENT),
	       term_style(STYLE_PLAIN));
	if (d->writers > 26)
		printf("   + to one beyond Z");
	printf("   %s2%s private copies in 2%s\n\n", term_style(STYLE_TITLE),
	       term_style(STYLE_PLAIN),
	       d->nr_actors > 10 ? ", # in more than 9" : "");

	check(d, expected, "private are exactly the pages that were written, by their %s",
	      d->frames ? "frames" : "content");
}

/* --- Counts --- */

static void add_counters(struct cowpool_counters *sum,
			 const struct cowpool_counters *c)
{
	sum->read_faults += c->read_faults;
	sum->copies_first_touch += c->copies_first_touch;
	sum->copies_after_read += c->copies_after_read;
	sum->copies_pinned += c->copies_pinned;
	sum->copies_reset += c->copies_reset;
	sum->reuses += c->reuses;
	sum->forks += c->forks;
	sum->snapshots += c->snapshots;
	sum->resets += c->resets;
	sum->private_pages += c->private_pages;
}

/* Where the page table cannot be looked at, only sums can be foretold. */
static bool counters_equal(const struct demo *d,
			   const struct cowpool_counters *predicted,
			   const struct cowpool_counters *counted)
{
	if (d->entries)
		return !memcmp(predicted, counted, sizeof(*predicted));
	return copies(predicted) == copies(counted) &&
		predicted->copies_pinned == counted->copies_pinned &&
		predicted->copies_reset == counted->copies_reset &&
		predicted->reuses == counted->reuses &&
		predicted->forks == counted->forks &&
		predicted->snapshots == counted->snapshots &&
		predicted->resets == counted->resets &&
		predicted->private_pages == counted->private_pages;
}

static void print_pair(int width, bool foretold, uint64_t predicted,
		       uint64_t counted)
{
	char text[64];

	if (foretold)
		snprintf(text, sizeof(text), "%llu %s %llu",
			 (unsigned long long)predicted,
			 predicted == counted ? "==" : "!=",
			 (unsigned long long)counted);
	else
		snprintf(text, sizeof(text), "%llu",
			 (unsigned long long)counted);
	if (foretold && predicted != counted)
		printf("%s%-*s%s", term_style(STYLE_BAD), width, text,
		       term_style(STYLE_PLAIN));
	else
		printf("%-*s", width, text);
}

static void compare_views(struct demo *d, struct cowpool_counters *sum)
{
	struct debugfs_row *rows = NULL;
	bool equal = true, listed = true;
	size_t count = 0;

	if (d->debugfs)
		rows = debugfs_rows("views", &count);
	printf("   %-6s%-17s%-13s%-13s%-8s%-8s%s\n", "view", "read faults",
	       "first touch", "after read", "reuses", "forks", "private pages");
	for (size_t i = 0; i < d->nr_actors; i++) {
		const struct cowpool_counters *must = &d->roles[i].predicted;
		const struct cowpool_counters *is = &d->roles[i].counted;
		const struct debugfs_row *row;
		bool fine = counters_equal(d, must, is);

		add_counters(sum, must);
		row = debugfs_find(rows, count, d->roles[i].view);
		listed &= row && row->pid == (uint64_t)d->actors[i].pid &&
			counters_equal(d, must, &row->counters);
		equal &= fine;
		if (!is_shown(d, i) && fine)
			continue;
		print_actor(d, i, 6);
		print_pair(17, d->entries, must->read_faults, is->read_faults);
		print_pair(13, d->entries, must->copies_first_touch,
			   is->copies_first_touch);
		print_pair(13, d->entries, must->copies_after_read,
			   is->copies_after_read);
		print_pair(8, true, must->reuses, is->reuses);
		print_pair(8, true, must->forks, is->forks);
		print_pair(0, true, must->private_pages, is->private_pages);
		putchar('\n');
	}
	print_more(d);
	putchar('\n');

	check(d, equal, "predicted == counted, in every view (INFO)");
	if (rows)
		check(d, listed, "and in " DEBUGFS_DIR "/views, with the processes' pids");
	free(rows);
}

/* What the totals tell, in the order of the table's lines. */
enum line {
	LINE_READ_FAULTS,
	LINE_FIRST_TOUCH,
	LINE_AFTER_READ,
	LINE_COPIES,
	LINE_REUSES,
	LINE_FORKS,
	LINE_PRIVATE_PAGES,
	LINE_PRIVATE_FRAMES,
	LINE_FILLED_PAGES,
	LINE_VIEWS,
	NR_LINES
};

/**
 * struct column - one source of the totals
 * @has: by line, whether the source tells it
 * @value: by line
 */
struct column {
	bool has[NR_LINES];
	uint64_t value[NR_LINES];
};

static void set_line(struct column *column, enum line line, uint64_t value)
{
	column->has[line] = true;
	column->value[line] = value;
}

static void set_counters(struct column *column,
			 const struct cowpool_counters *c)
{
	set_line(column, LINE_READ_FAULTS, c->read_faults);
	set_line(column, LINE_FIRST_TOUCH, c->copies_first_touch);
	set_line(column, LINE_AFTER_READ, c->copies_after_read);
	set_line(column, LINE_COPIES, copies(c));
	set_line(column, LINE_REUSES, c->reuses);
	set_line(column, LINE_FORKS, c->forks);
	set_line(column, LINE_PRIVATE_PAGES, c->private_pages);
}

static void column_predicted(const struct demo *d,
			     const struct cowpool_counters *sum,
			     struct column *column)
{
	set_counters(column, sum);
	column->has[LINE_READ_FAULTS] = d->entries;
	column->has[LINE_FIRST_TOUCH] = d->entries;
	column->has[LINE_AFTER_READ] = d->entries;
	set_line(column, LINE_PRIVATE_FRAMES,
		 sum->private_pages - d->shared_frames);
	set_line(column, LINE_FILLED_PAGES, d->image.pages);
	set_line(column, LINE_VIEWS, d->nr_actors);
}

static void column_info(const struct cowpool_info *info, struct column *column)
{
	set_counters(column, &info->counters);
	set_line(column, LINE_FILLED_PAGES, info->filled_pages);
	set_line(column, LINE_VIEWS, info->views);
}

/* False if debugfs does not list the pool. */
static bool column_pools(const struct cowpool_info *info,
			 struct column *column)
{
	const struct debugfs_row *row;
	struct debugfs_row *rows;
	size_t count;

	rows = debugfs_rows("pools", &count);
	row = debugfs_find(rows, count, info->pool_id);
	if (row) {
		set_counters(column, &row->counters);
		set_line(column, LINE_FILLED_PAGES, row->filled_pages);
		set_line(column, LINE_VIEWS, row->views);
	}
	free(rows);
	return row;
}

/* What the totals of the module gained since the demo began. */
static void column_stats(const struct debugfs_stats *from,
			 const struct debugfs_stats *to, struct column *column)
{
	const struct cowpool_counters *was = &from->counters;
	const struct cowpool_counters *is = &to->counters;
	const struct cowpool_counters gained = {
		.read_faults = is->read_faults - was->read_faults,
		.copies_first_touch =
			is->copies_first_touch - was->copies_first_touch,
		.copies_after_read =
			is->copies_after_read - was->copies_after_read,
		.reuses = is->reuses - was->reuses,
		.forks = is->forks - was->forks,
		.private_pages = is->private_pages - was->private_pages,
	};

	set_counters(column, &gained);
	set_line(column, LINE_PRIVATE_FRAMES,
		 to->private_frames - from->private_frames);
	set_line(column, LINE_FILLED_PAGES,
		 to->filled_pages - from->filled_pages);
	set_line(column, LINE_VIEWS, to->views - from->views);
}

/*
 * Prints the line if anything but the prediction tells it. Returns whether all
 * that tell it tell the same.
 */
static bool print_line(const char *name, enum line line,
		       const struct column *columns, size_t count)
{
	bool equal = true, foretold = columns[0].has[line], told = false;

	for (size_t i = 1; i < count; i++)
		told |= columns[i].has[line];
	if (!told)
		return true;
	printf("   %-20s", name);
	for (size_t i = 0; i < count; i++) {
		if (!columns[i].has[line]) {
			printf("%13s", "");
			continue;
		}
		printf("%13llu", (unsigned long long)columns[i].value[line]);
		if (foretold)
			equal &= columns[i].value[line] ==
				columns[0].value[line];
	}
	if (foretold)
		printf("   %s%s%s", term_style(equal ? STYLE_GOOD : STYLE_BAD),
		       equal ? "==" : "!=", term_style(STYLE_PLAIN));
	putchar('\n');
	return equal;
}

static bool compare_totals(struct demo *d, const struct cowpool_counters *sum)
{
	static const char *const lines[NR_LINES] = {
		[LINE_READ_FAULTS] = "read_faults",
		[LINE_FIRST_TOUCH] = "copies_first_touch",
		[LINE_AFTER_READ] = "copies_after_read",
		[LINE_COPIES] = "copies, both kinds",
		[LINE_REUSES] = "reuses",
		[LINE_FORKS] = "forks",
		[LINE_PRIVATE_PAGES] = "private_pages",
		[LINE_PRIVATE_FRAMES] = "private_frames",
		[LINE_FILLED_PAGES] = "filled_pages",
		[LINE_VIEWS] = "views",
	};
	struct column columns[4] = { 0 };
	struct debugfs_stats stats;
	struct cowpool_info info;
	bool equal = true, alone;

	if (cowpool_info(d->stage.pool, NULL, &info)) {
		failed_device("cannot get the pool's counters");
		return false;
	}
	column_predicted(d, sum, &columns[0]);
	column_info(&info, &columns[1]);
	if (d->debugfs)
		equal = column_pools(&info, &columns[2]);
	/* With views of somebody else about, the totals are not ours alone. */
	alone = d->debugfs && debugfs_stats(&stats) &&
		!d->stats_before.views && stats.views == d->nr_actors;
	if (alone)
		column_stats(&d->stats_before, &stats, &columns[3]);

	printf("\n   %-20s%13s%13s%13s%13s\n", "in total", "predicted", "INFO",
	       d->debugfs ? "pools" : "", alone ? "stats" : "");
	for (unsigned int i = 0; i < NR_LINES; i++)
		equal &= print_line(lines[i], i, columns, 4);
	if (d->debugfs && !alone)
		note("Others use the module too: its totals (stats) are not compared.");
	putchar('\n');

	check(d, equal, "predicted == counted, in total (INFO%s%s)",
	      d->debugfs ? ", debugfs pools" : "", alone ? ", stats" : "");
	return true;
}

bool verify_counts(struct demo *d)
{
	struct cowpool_counters sum = { 0 };

	title("COUNTS: predicted from the page table before each touch, and counted.");
	compare_views(d, &sum);
	return compare_totals(d, &sum);
}
