/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A fuzzer of /dev/cowpool: random sequences of system calls by a user without
 * privileges, those of which are kept and changed further that reach code of
 * the module which none before has reached.
 *
 *	main.c		sets up as root, watches over the worker
 *	worker.c	runs sequences and keeps the good ones
 *	sequence.c	makes, changes, prints and reads sequences
 *	run.c		runs one: processes, threads, and what it leaves behind
 *	call.c		the calls
 *	argument.c	what their bytes mean
 *	cover.c		what kcov tells
 *
 * A sequence is an array of bytes, and every array of bytes is a sequence: what
 * a byte cannot mean is mapped to something that it can. Calls find the
 * descriptors and mappings that there are, so that most have something to do.
 */
#ifndef FUZZ_H
#define FUZZ_H

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

#include <linux/cowpool.h>

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

#define PAGE		((size_t)4096)

#define MAX_CALLS	48
#define MAX_CHILDREN	4	/* of a sequence */
#define MAX_NAMES	64	/* that a sequence gives to pools */

/* What sequences open is below, what the fuzzer itself has is above. */
#define OWN_FDS		100
#define MAX_FDS		128

/* All mappings are made in here, at any of the slots or behind its beginning. */
#define ARENA		((char *)0x1000000000)
#define SLOT_PAGES	4096UL
#define NR_SLOTS	8
#define ARENA_SIZE	(NR_SLOTS * SLOT_PAGES * PAGE)

/**
 * struct call - a call
 * @kind: which one
 * @fd: on which descriptor
 * @slot: at which slot of the arena; and how far into a large pool
 * @page: at which page there
 * @pages: how many
 * @how: flags, or a variant
 * @value: what is written, the size of a pool, or another slot
 * @bad: whether something about it is bad, and what
 */
struct call {
	uint8_t kind;
	uint8_t fd;
	uint8_t slot;
	uint8_t page;
	uint8_t pages;
	uint8_t how;
	uint8_t value;
	uint8_t bad;
};

/**
 * struct sequence - calls
 * @seed: of the run that made it
 * @number: in that run, from 0 on
 * @nr: number of calls
 * @call: the calls
 */
struct sequence {
	uint64_t seed;
	uint64_t number;
	unsigned int nr;
	struct call call[MAX_CALLS];
};

/**
 * struct kind - a kind of call
 * @name: its name
 * @run: does it; NULL for what run.c does itself
 * @weight: how often it comes
 */
struct kind {
	const char *name;
	void (*run)(const struct call *call);
	unsigned int weight;
};

/* What run.c does itself. */
enum { FORK, THREADS, KILL, EXIT, INJECT, NR_SPECIAL };

/**
 * struct shared - what all processes of the fuzzer share
 * @number: of the sequence that runs
 * @covers: kcov's devices that are in use
 * @nr_children: processes that the sequence has forked
 * @child: their numbers
 * @nr_names: names that the sequence has given to pools
 * @name: those
 */
struct shared {
	_Atomic uint64_t number;
	atomic_uint covers;
	atomic_uint nr_children;
	_Atomic pid_t child[MAX_CHILDREN];
	atomic_uint nr_names;
	char name[MAX_NAMES][COWPOOL_NAME_SIZE];
};

/**
 * struct options - how to run, from the environment
 * @seconds: how long
 * @seed: what is random follows from it
 * @pcs: instrumented places of the module, to print
 * @directory: where to put what others are to read
 * @seeds: file with sequences to begin with
 * @replay: file with sequences to run instead
 * @times: how often
 */
struct options {
	unsigned int seconds;
	uint64_t seed;
	unsigned int pcs;
	const char *directory;
	const char *seeds;
	const char *replay;
	unsigned int times;
};

/* main.c */
extern struct shared *shared;
extern struct options options;
extern int kmsg_fd;		/* the kernel's log */
extern int root_fd;		/* to the one who may all */
_Noreturn void die(const char *what);
int own_fd(int fd);

/* worker.c */
void worker_setup(void);
void *worker_memory(size_t size, int fd);
int worker_run(void);

/* sequence.c */
uint64_t random_next(uint64_t *state);
unsigned int random_below(uint64_t *state, unsigned int n);
void sequence_make(struct sequence *sequence, uint64_t *random);
void sequence_change(struct sequence *sequence, const struct sequence *other,
		     uint64_t *random);
size_t sequence_print(const struct sequence *sequence, char *to, size_t size);
bool sequence_read(struct sequence *sequence, FILE *from);

/* run.c */
void run_begin(void);
bool run_sequence(const struct sequence *sequence);
void run_cleanup(void);

/* call.c */
extern const struct kind kinds[];
extern const unsigned int nr_kinds;
extern bool tracing;
void call_forget(void);
void call_told(const struct call *call, long result, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* argument.c */
extern atomic_int call_budget;
void argument_setup(void);

/* cover.c */
bool cover_setup(void);
void cover_map(void);
void cover_reset(void);
void cover_begin(void);
void cover_end(void);
bool cover_collect(void);
unsigned int cover_reached(void);
void cover_save(int fd);

#endif /* FUZZ_H */
