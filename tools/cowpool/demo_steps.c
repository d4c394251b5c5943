// SPDX-License-Identifier: GPL-2.0
/*
 * The five steps of copy-on-write, each with its evidence, and then the same
 * at random.
 */
#include <stdio.h>
#include <string.h>

#include "../lib/cowpool.h"
#include "command.h"
#include "demo.h"
#include "pagemap.h"
#include "term.h"

/* Width of a column that shows frame numbers, or pages. */
#define FRAME_WIDTH	14

static uint64_t frame_of(const struct outcome *outcome)
{
	return outcome->entry_after & PAGEMAP_FRAME;
}

/* A frame number, or a dash where there is none to be seen. */
static void print_frame(uint64_t entry, enum style style)
{
	char text[24] = "-";

	if (entry & PAGEMAP_FRAME)
		snprintf(text, sizeof(text), "0x%llx",
			 (unsigned long long)(entry & PAGEMAP_FRAME));
	printf("%s%-*s%s", term_style(style), FRAME_WIDTH, text,
	       term_style(STYLE_PLAIN));
}

/* The frame that an actor has a page in or, where those are hidden, bytes. */
static void print_place(const struct demo *d, const struct outcome *outcome,
			enum style style)
{
	if (d->frames) {
		print_frame(outcome->entry_after, style);
		return;
	}
	printf("%s", term_style(style));
	for (unsigned int i = 0; i < 6; i++)
		printf("%02x", outcome->piece[i]);
	printf("%*s%s", FRAME_WIDTH - 12, "", term_style(STYLE_PLAIN));
}

static const char *place_name(const struct demo *d)
{
	return d->frames ? "frame of" : "bytes in";
}

static void print_page(uint64_t page)
{
	char text[32];

	snprintf(text, sizeof(text), "page %llu", (unsigned long long)page);
	printf("%-*s", FRAME_WIDTH, text);
}

static bool step_share(struct demo *d)
{
	uint64_t frames[MAX_HEROES] = { 0 };
	bool same = true, original = true, mapcounts = true, idle = true;
	long mapcount = -1;
	struct outcome outcome;

	title("1. SHARE: every process maps the pool, and none has a copy of anything.");
	printf("   %-12s", place_name(d));
	for (size_t h = 0; h < d->nr_heroes; h++)
		print_page(d->heroes[h]);
	putchar('\n');
	for (size_t i = 0; i < d->nr_actors; i++) {
		if (!cast_map(d, i, &outcome))
			return false;
		if (is_shown(d, i))
			print_actor(d, i, 12);
		for (size_t h = 0; h < d->nr_heroes; h++) {
			if (!cast_read(d, i, d->heroes[h], &outcome))
				return false;
			if (i == READER)
				frames[h] = frame_of(&outcome);
			same &= frame_of(&outcome) == frames[h];
			original &= is_original(d, d->heroes[h], &outcome);
			if (is_shown(d, i))
				print_place(d, &outcome, STYLE_PLAIN);
		}
		if (is_shown(d, i))
			putchar('\n');
		idle &= !copies(&outcome.counters) &&
			!outcome.counters.private_pages;
	}
	print_more(d);
	putchar('\n');

	check(d, original, "everyone reads the file's bytes");
	if (d->frames)
		check(d, same, "from the same physical frames in all %zu processes",
		      d->nr_actors);
	for (size_t h = 0; d->frames && h < d->nr_heroes; h++) {
		mapcount = pagemap_mapcount(frames[h]);
		mapcounts &= mapcount == (long)d->nr_actors;
	}
	if (mapcount >= 0)
		check(d, mapcounts,
		      "each of them mapped %ld times (/proc/kpagecount): it exists once",
		      mapcount);
	check(d, idle, "the module counts no copy and no private page");
	return true;
}

static bool step_read_only(struct demo *d)
{
	const struct actor *actor = &d->actors[PARENT];
	uint64_t page = d->heroes[0];
	char line[256], mode[8] = "unknown";
	struct outcome outcome;

	title("2. READ-ONLY: the mapping is writable, the page table entry is not.");
	if (!cast_read(d, PARENT, page, &outcome))
		return false;
	if (maps_line(actor->pid, d->stage.base, line, sizeof(line))) {
		if (sscanf(line, "%*s %7s", mode) != 1)
			return false;
		printf("   /proc/%d/maps on A's view\n", (int)actor->pid);
		note("   %s", line);
	}
	if (d->entries) {
		printf("   /proc/%d/pagemap on page %llu\n", (int)actor->pid,
		       (unsigned long long)page);
		printf("      %s, frame ", outcome.entry_before &
		       PAGEMAP_PRESENT ? "present" : "absent");
		print_frame(outcome.entry_before, STYLE_PLAIN);
		putchar('\n');
	}
	printf("   A reads the page\n      page faults: %llu\n\n",
	       (unsigned long long)outcome.faults);

	check(d, mode[0] == 'r' && mode[1] == 'w',
	      "the mapping permits writing (%s)", mode);
	if (d->entries)
		check(d, outcome.entry_before & PAGEMAP_PRESENT,
		      "the entry is present");
	check(d, !outcome.faults, "the processor reads through it unhindered");
	note("The kernel shows user space no write bits. But if a write faults now,");
	note("with the page present and the mapping writable, then the bit is off.");
	return true;
}

static void print_counter(const char *name, uint64_t before, uint64_t after)
{
	printf("   %-32s%10llu%10llu", name, (unsigned long long)before,
	       (unsigned long long)after);
	if (after != before)
		printf("   %s+%llu%s", term_style(STYLE_CHANGED),
		       (unsigned long long)(after - before),
		       term_style(STYLE_PLAIN));
	putchar('\n');
}

static bool pool_counters(const struct demo *d,
			  struct cowpool_counters *counters)
{
	if (!cowpool_stats(d->stage.pool, NULL, counters))
		return true;
	failed_device("cannot get the pool's counters");
	return false;
}

/* @write: the outcome of the write that steps 3 and 4 are about. */
static bool step_fault(struct demo *d, struct outcome *write)
{
	const struct cowpool_counters before = d->roles[PARENT].counted;
	const struct cowpool_counters *after = &write->counters;
	struct cowpool_counters pool_before, pool_after;
	bool one;

	title("3. FAULT: the first write to the page faults all the same.");
	if (!pool_counters(d, &pool_before) ||
	    !cast_write(d, PARENT, d->heroes[0], EFFECT_COPY, write) ||
	    !pool_counters(d, &pool_after))
		return false;
	printf("   A writes %d bytes to page %-*llu%10s%10s\n", PIECE_SIZE, 9,
	       (unsigned long long)d->heroes[0], "before", "after");
	print_counter("page faults of the write", 0, write->faults);
	print_counter("A's view: copies_after_read", before.copies_after_read,
		      after->copies_after_read);
	print_counter("          copies_first_touch",
		      before.copies_first_touch, after->copies_first_touch);
	print_counter("          private_pages", before.private_pages,
		      after->private_pages);
	print_counter("all views: copies", copies(&pool_before),
		      copies(&pool_after));
	putchar('\n');

	check(d, write->faults,
	      "the write faulted, so the entry was read-only");
	one = copies(after) == copies(&before) + 1 &&
		after->private_pages == before.private_pages + 1;
	check(d, one, "the module made one copy, owned by A's view");
	if (d->entries)
		check(d, after->copies_after_read ==
			 before.copies_after_read + 1,
		      "it counts as a copy after a read, since the entry was present");
	check(d, copies(&pool_after) == copies(&pool_before) + 1,
	      "it is the only copy made in all of the pool's views");
	return true;
}

static void print_half(const unsigned char *bytes, enum style style)
{
	printf("%s", term_style(style));
	for (unsigned int i = 0; i < 8; i++)
		printf("%02x ", bytes[i]);
	putchar(' ');
	for (unsigned int i = 0; i < 8; i++)
		putchar(bytes[i] >= ' ' && bytes[i] < 0x7f ? bytes[i] : '.');
	printf("%s", term_style(STYLE_PLAIN));
}

/* What two actors read at the same place of the first hero. */
static void print_side_by_side(const struct demo *d,
			       const struct outcome *others,
			       const struct outcome *writer)
{
	const struct role *role = &d->roles[PARENT];
	uint32_t offset = role->writes[role->nr_writes - 1].offset;

	printf("   %-8s   %-33s   %s\n", "at byte", "the others read",
	       "  A reads");
	for (unsigned int i = 0; i < PIECE_SIZE; i += 8) {
		printf("   0x%04x     ", offset + i);
		print_half(others->piece + i, STYLE_PLAIN);
		printf("  %s  ", term_sign(SIGN_BAR));
		print_half(writer->piece + i, STYLE_CHANGED);
		putchar('\n');
	}
}

static bool step_copy(struct demo *d, const struct outcome *write)
{
	uint64_t page = d->heroes[0];
	uint64_t old = write->entry_before & PAGEMAP_FRAME;
	bool kept = true, original = true;
	struct outcome reads, outcome;

	title("4. COPY: the writer's frame is another one now, everyone else's is not.");
	if (d->frames)
		printf("   %-12s%-*s   %s\n", "frame of", FRAME_WIDTH,
		       "before", "after");
	for (size_t i = 0; i < d->nr_actors; i++) {
		const struct outcome *now = i == PARENT ? write : &outcome;

		if (i != PARENT) {
			if (!cast_read(d, i, page, &outcome))
				return false;
			kept &= frame_of(&outcome) == old;
			original &= is_original(d, page, &outcome);
		}
		if (!d->frames || !is_shown(d, i))
			continue;
		print_actor(d, i, 12);
		print_frame(now->entry_before, STYLE_PLAIN);
		printf("%-*s ", i == PARENT ? 0 : 2,
		       i == PARENT ? term_sign(SIGN_ARROW) : "");
		print_frame(now->entry_after,
			    i == PARENT ? STYLE_CHANGED : STYLE_PLAIN);
		putchar('\n');
	}
	if (d->frames) {
		print_more(d);
		putchar('\n');
	}
	if (!cast_read(d, PARENT, page, &reads) ||
	    !cast_read(d, READER, page, &outcome))
		return false;
	print_side_by_side(d, &outcome, &reads);
	putchar('\n');

	if (d->frames) {
		check(d, frame_of(write) && frame_of(write) != old,
		      "A has a frame of its own");
		check(d, kept, "everyone else has the old one");
	}
	check(d, original, "everyone else reads the file's bytes");
	return true;
}

/* The first half of step 5: the writer goes on. */
static bool step_resume(struct demo *d)
{
	const struct role *role = &d->roles[PARENT];
	const struct written *last = &role->writes[role->nr_writes - 1];
	struct outcome read, write;
	uint64_t before;

	title("5. RESUME: the write went through, and everyone else reads the original.");
	if (!cast_read(d, PARENT, last->page, &read))
		return false;
	before = copies(&role->counted);
	if (!cast_write(d, PARENT, last->page, EFFECT_NONE, &write))
		return false;
	printf("   A writes page %llu again\n      page faults: %llu, copies: %llu\n\n",
	       (unsigned long long)d->heroes[0],
	       (unsigned long long)write.faults,
	       (unsigned long long)(copies(&write.counters) - before));

	check(d, !memcmp(read.piece, last->piece, PIECE_SIZE),
	      "A reads what it wrote");
	check(d, !write.faults && copies(&write.counters) == before,
	      "its next write is an ordinary store: the entry is writable now");
	return true;
}

/* A line of the family's table; @second is NULL if there is one page only. */
static void print_moment(const struct demo *d, size_t actor, const char *what,
			 const struct outcome *first, enum style style,
			 const struct outcome *second, const char *remark)
{
	print_actor(d, actor, 2);
	printf("%-20s", what);
	print_place(d, first, style);
	if (second)
		print_place(d, second, STYLE_PLAIN);
	printf("%s\n", remark);
}

/* The other half: a child sees what its parent wrote, and they part. */
static bool step_fork(struct demo *d)
{
	const size_t nr = d->nr_heroes < 2 ? 1 : 2, child = CHILD(d);
	const uint64_t page = d->heroes[0];
	struct outcome parents[2], born[2], copied, reused, outcome;
	const struct outcome *second[2] = { NULL, NULL };
	bool same = true, original = true, held;

	/* A second page is to stay shared by parent and child. */
	if (nr == 2 &&
	    !cast_write(d, PARENT, d->heroes[1], EFFECT_COPY, &outcome))
		return false;
	if (!cast_fork(d))
		return false;
	for (size_t h = 0; h < nr; h++) {
		if (!cast_read(d, PARENT, d->heroes[h], &parents[h]) ||
		    !cast_read(d, child, d->heroes[h], &born[h]))
			return false;
		same &= frame_of(&parents[h]) == frame_of(&born[h]);
	}
	if (!cast_write(d, child, page, EFFECT_COPY, &copied) ||
	    !cast_write(d, PARENT, page, EFFECT_REUSE, &reused) ||
	    !cast_read(d, child, page, &outcome))
		return false;

	printf("\n   The same for a fork()ed child: A ");
	if (nr == 2) {
		printf("writes page %llu too, and then ",
		       (unsigned long long)d->heroes[1]);
		second[0] = &parents[1];
		second[1] = &born[1];
	}
	printf("forks a.\n\n   %-22s", place_name(d));
	for (size_t h = 0; h < nr; h++)
		print_page(d->heroes[h]);
	putchar('\n');
	print_moment(d, PARENT, "after the fork", &parents[0], STYLE_PLAIN,
		     second[0], "A's own until now");
	print_moment(d, child, "after the fork", &born[0], STYLE_PLAIN,
		     second[1], "the same: shared again");
	print_moment(d, child, "writes the first", &copied, STYLE_CHANGED,
		     second[1], "copied");
	print_moment(d, PARENT, "writes the first", &reused, STYLE_PLAIN,
		     second[0], "in place: nobody shares it now");
	putchar('\n');

	if (d->frames)
		check(d, same, "after the fork, parent and child had the same frames");
	held = !memcmp(born[0].piece, parents[0].piece, PIECE_SIZE) &&
		!is_original(d, page, &born[0]);
	check(d, held, "the child was born with what its parent had written");
	held = frame_of(&copied) != frame_of(&born[0]) &&
		frame_of(&reused) == frame_of(&parents[0]);
	if (d->frames)
		check(d, held, "the child's write gave it a new frame; the parent kept its own");
	held = copies(&copied.counters) == 1 && reused.counters.reuses == 1;
	check(d, held, "the module counts one copy for the child, one reuse for the parent");
	check(d, memcmp(outcome.piece, reused.piece, PIECE_SIZE),
	      "they read different bytes now");
	for (size_t i = 0; i < child; i++) {
		if (i == PARENT)
			continue;
		if (!cast_read(d, i, page, &outcome))
			return false;
		original &= is_original(d, page, &outcome);
	}
	check(d, original, "everyone else still reads the original");
	return true;
}

bool show_steps(struct demo *d)
{
	struct outcome write;

	return step_share(d) && step_read_only(d) && step_fault(d, &write) &&
		step_copy(d, &write) && step_resume(d) && step_fork(d);
}

bool write_at_random(struct demo *d)
{
	uint64_t total = d->writes * (d->nr_actors - 1), done = 0;
	uint64_t first_touch = 0, after_read = 0;
	struct outcome outcome;

	title("IN EARNEST: %s write %llu random page%s each.",
	      actor_names(d, PARENT, d->nr_actors),
	      (unsigned long long)d->writes, plural(d->writes));
	for (size_t i = PARENT; i < d->nr_actors; i++) {
		const struct cowpool_counters before = d->roles[i].counted;
		const uint64_t *pages = choose_pages(d, i);

		for (uint64_t j = 0; j < d->writes; j++) {
			/* Every other page is read first: two ways to copy. */
			if ((j % 2 && !cast_read(d, i, pages[j], &outcome)) ||
			    !cast_write(d, i, pages[j], EFFECT_COPY, &outcome))
				return false;
			progress("writing random pages", ++done, total);
		}
		first_touch += d->roles[i].counted.copies_first_touch -
			before.copies_first_touch;
		after_read += d->roles[i].counted.copies_after_read -
			before.copies_after_read;
	}
	progress_end();
	printf("   %-24s%8llu   every other page is read first\n", "writes",
	       (unsigned long long)total);
	printf("   %-24s%8llu\n", "copies on first touch",
	       (unsigned long long)first_touch);
	printf("   %-24s%8llu\n\n", "copies after a read",
	       (unsigned long long)after_read);

	check(d, first_touch + after_read == total,
	      "one copy for each page written, no more and no less");
	return true;
}
