/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The oracle: random operations by many processes and threads on views,
 * against a model.
 *
 * A *script* is a list of operations, each of which names the process that does
 * it. What a view shows depends on nothing but the operations of its own
 * process and, up to the fork(), of those that it comes from. So processes do
 * theirs without waiting for each other, and yet every content is known. That
 * is what cowpool promises, and what is tested.
 *
 *	generate.c	makes a script from a seed
 *	script.c	prints and reads scripts
 *	direct.c	runs one: the *director* hands out the operations
 *	process.c	a process: takes operations, looks at pages
 *	model.c		what a process must see
 *	operations.c	does the operations, and checks each against the model
 *	storm.c		operations by several threads at once
 *	shrink.c	finds the shortest script that still goes wrong
 *
 * The model is plain memory of the process, which fork() copies with it: for
 * each page of each view and snapshot the numbers of the operations that wrote
 * it. Where the module has a choice (does a page stay private that a RESET
 * kept?) the model knows that it does not know.
 *
 * An operation that finds nothing to do (no such view, say) does nothing. So
 * every part of a script is a script.
 */
#ifndef ORACLE_H
#define ORACLE_H

#define _GNU_SOURCE
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include <kselftest.h>
#include <linux/cowpool.h>

#define MAX_PROCESSES	8
#define MAX_VIEWS	4	/* of a process */
#define MAX_SNAPSHOTS	4	/* of a process */
#define MAX_PAGES	1100
#define CELLS		4	/* words of a page that are written */

/**
 * struct world - what a script runs in
 * @name: its name
 * @pool_pages: size of the pool
 * @first: the first page that is used
 * @pages: how many are, at most MAX_PAGES
 * @filled: how many of those hold data, from the first on
 * @backwards: filled from the end on, so that every page has its own frame
 */
struct world {
	const char *name;
	unsigned int pool_pages;
	unsigned int first;
	unsigned int pages;
	unsigned int filled;
	bool backwards;
};

enum kind {
	/* The director does these. */
	START, KILL, CLOSE_POOL,
	/* A process does these. */
	FORK, EXIT,
	READ, WRITE, CHECK, COPY, FETCH, LOOK,
	MAP, MAP_SNAPSHOT, SNAPSHOT, DUP, CLOSE,
	RESET, KEEP, DIRTY, DIRTY_CONTENT, INFO,
	UNMAP, MOVE, SHRINK, PROTECT, DONTNEED, POPULATE,
	STORM, STORM_SNAPSHOT, STORM_FORK,
	AUDIT,
	NR_KINDS
};

/**
 * struct operation - a line of a script
 * @number: from 1 on. What it writes carries this number
 * @place: where it is in the script; set when that runs
 * @kind: what is done
 * @process: who does it
 * @view: to which of his views
 * @other: a second view, a snapshot, or a process
 * @how: a cell, a protection, or a variant
 * @page: the first page
 * @pages: the number of pages, at least 1
 */
struct operation {
	uint32_t number;
	uint32_t place;
	uint8_t kind;
	uint8_t process;
	uint8_t view;
	uint8_t other;
	uint8_t how;
	uint16_t page;
	uint16_t pages;
};

/**
 * struct script - a list of operations
 * @world: what it runs in
 * @salt: makes its words different from those of other scripts
 * @lockstep: each operation ends before the next one begins
 * @nr: number of operations
 * @operation: the operations
 */
struct script {
	struct world world;
	uint16_t salt;
	bool lockstep;
	size_t nr;
	struct operation *operation;
};

/* What went wrong first. */
struct trouble {
	_Atomic uint32_t set;
	struct operation operation;	/* number 0: at the end of all */
	char text[300];
};

/* What became of an operation */
enum result { NOT_REACHED, IDLE, DONE };

/* script.c */
extern const char *const kind_names[NR_KINDS];
void script_print(const struct script *script, FILE *to);
bool script_read(struct script *script, FILE *from);
void script_free(struct script *script);
void operation_print(const struct operation *operation, FILE *to);

/* generate.c */
uint64_t random_next(uint64_t *state);
void script_generate(struct script *script, const struct world *world,
		     uint64_t seed, size_t nr);

/* direct.c */
/* Others use the module meanwhile: what it holds says nothing about a script. */
extern bool in_company;

bool script_run(const struct script *script, struct trouble *trouble,
		uint8_t *results);

/* shrink.c */
bool script_shrink(struct script *script, unsigned int seconds);

#endif /* ORACLE_H */
