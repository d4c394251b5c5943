/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the scenes of `cowpool demo` share. A file each:
 *
 *	demo.c		options, set-up, the order of scenes, the end
 *	demo_tell.c	how it speaks: titles, checks, names
 *	demo_cast.c	who acts, what that has to do, and what must be seen
 *	demo_steps.c	the five steps, then writes at random
 *	demo_verify.c	content, page map and counts against what must be
 *	demo_saved.c	memory and time against copying up front
 */
#ifndef DEMO_H
#define DEMO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <nettle/sha2.h>

#include "actor.h"
#include "debugfs.h"
#include "image.h"

/* Pages that the five steps look at, if the file has so many. */
#define MAX_HEROES	3
/* Tables show so many processes, then say how many more there are. */
#define MAX_ROWS	8

/* Actors by number: the reader, the first writer, the others, its child. */
#define READER		0
#define PARENT		1
#define CHILD(d)	((d)->writers + 1)

/* A write that was done. */
struct written {
	uint64_t page;
	uint32_t offset;
	unsigned char piece[PIECE_SIZE];
};

/**
 * struct role - what the demo expects of an actor
 * @predicted: what its view has to count
 * @counted: what it had counted when it was last asked
 * @view: its view's id
 * @owned: by page, whether its view has a page of its own there
 * @writes: all that it has written, and its parent before it was born
 * @nr_writes: how many that are
 */
struct role {
	struct cowpool_counters predicted;
	struct cowpool_counters counted;
	uint64_t view;
	bool *owned;
	struct written *writes;
	size_t nr_writes;
};

/**
 * struct demo - all that the demo knows
 * @path: the file to load, or NULL to choose one
 * @writers: how many processes write, the child not included
 * @writes: how many random pages each of them writes
 * @seed: of all that is random
 * @image: the file
 * @stage: the pool, and where it is mapped
 * @entries: the page table can be looked at
 * @frames: and tells frame numbers
 * @debugfs: the module's counters can be read there
 * @stats_before: they as they were at the beginning
 * @fill_time: seconds that filling the pool took
 * @actors: by number
 * @roles: likewise
 * @nr_actors: how many exist now
 * @shared_frames: private frames that parent and child share
 * @heroes: the pages that the five steps look at
 * @nr_heroes: how many those are
 * @pages: room for choose_pages()
 * @checks: how many checks were made
 * @failures: how many of them did not hold
 */
struct demo {
	const char *path;
	uint64_t writers;
	uint64_t writes;
	uint64_t seed;

	struct image image;
	struct stage stage;
	bool entries;
	bool frames;
	bool debugfs;
	struct debugfs_stats stats_before;
	double fill_time;

	struct actor *actors;
	struct role *roles;
	size_t nr_actors;
	uint64_t shared_frames;

	uint64_t heroes[MAX_HEROES];
	size_t nr_heroes;
	uint64_t *pages;

	unsigned int checks;
	unsigned int failures;
};

/* A heading, its claim in one line. */
void title(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Something to know, in small print. */
void note(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Prints the claim with a mark, counts it, and returns @held. */
bool check(struct demo *d, bool held, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* What begins the colour of an actor's name and pages. */
const char *actor_colour(const struct demo *d, size_t actor);
/* The beginning of a line about an actor. */
void print_actor(const struct demo *d, size_t actor, int width);
/* Whether an actor has a line in tables, and how many have not, if any. */
bool is_shown(const struct demo *d, size_t actor);
void print_more(const struct demo *d);
/* "A, B and C": actors @first to @end - 1. Valid until the next call. */
const char *actor_names(const struct demo *d, size_t first, size_t end);
/* "s", except for one. */
const char *plural(uint64_t count);

/* What kind of write has to come of what the writer and others own. */
enum effect {
	EFFECT_COPY,	/* the page is somebody else's too */
	EFFECT_REUSE,	/* it was, and is not any more */
	EFFECT_NONE,	/* it is the writer's own, and its entry writable */
};

/*
 * These say what is wrong, and return false, only if an actor could not do
 * what it was told to. Whether it did what it had to, is for check().
 */
bool cast_start(struct demo *d);
bool cast_map(struct demo *d, size_t actor, struct outcome *outcome);
bool cast_read(struct demo *d, size_t actor, uint64_t page,
	       struct outcome *outcome);
bool cast_write(struct demo *d, size_t actor, uint64_t page,
		enum effect effect, struct outcome *outcome);
bool cast_fork(struct demo *d);
/* @outcomes: one for each actor. */
bool cast_read_all(struct demo *d, struct outcome *outcomes);

void choose_heroes(struct demo *d);
/*
 * As many different pages as there are random writes, heroes not among them.
 * Valid until the next call.
 */
const uint64_t *choose_pages(struct demo *d, size_t actor);

/* Whether @outcome shows the file's own bytes. */
bool is_original(const struct demo *d, uint64_t page,
		 const struct outcome *outcome);

/* Copies of both kinds that the counters tell of. */
uint64_t copies(const struct cowpool_counters *counters);

bool show_steps(struct demo *d);
bool write_at_random(struct demo *d);
bool verify_content(struct demo *d);
void draw_map(struct demo *d);
bool verify_counts(struct demo *d);
void show_savings(struct demo *d);

#endif /* DEMO_H */
