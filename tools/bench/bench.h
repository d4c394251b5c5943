/* SPDX-License-Identifier: GPL-2.0 */
/*
 * cowpool's benchmark: the same work on a view and on what people would use
 * instead, side by side.
 *
 * A *case* is one piece of work, such as the first write to every page. It is
 * done in two *ways*: on a view, and on the reference. Each way runs in a
 * process of its own, a *worker*, so that a fork() duplicates nothing but what
 * is measured. bench.c has the workers take turns, and the files cases_*.c
 * hold the cases.
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE		4096UL
#define MIB(n)		((size_t)(n) << 20)
#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

/* A clock that counts instructions counts one as a nanosecond. */
#define PER_PAGE	"instructions/page"
#define PER_CALL	"instructions"

/* What memory is made of. */
enum kind {
	VIEW,		/* a view of a pool */
	MEMFD,		/* MAP_PRIVATE of a memfd */
	ANON,		/* anonymous memory that the image was copied into */
};

/**
 * struct job - what a worker works on
 * @kind: kind of memory
 * @param: the case's parameter
 * @pages: pages of the image
 * @shift: how far its address is to be off a multiple of 2 MiB, which large pages
 *	need
 * @fd: where the image is, or -1: page n begins with the 64-bit number n
 * @mem: the image in memory, or NULL
 * @order: all page numbers, shuffled
 * @state: the case's own
 */
struct job {
	enum kind kind;
	unsigned int param;
	size_t pages;
	size_t shift;
	int fd;
	char *mem;
	uint32_t *order;
	void *state;
};

/**
 * struct way - a way to do a case's work
 * @name: what the reference is called in the results
 * @kind: kind of memory
 * @prepare: called once, or NULL
 * @once: does the work once. Returns the cost, in ns, of the part between
 *	clock_start() and clock_stop(), divided as the case's unit says
 */
struct way {
	const char *name;
	enum kind kind;
	void (*prepare)(struct job *job);
	double (*once)(struct job *job);
};

/**
 * struct bench_case - a case
 * @name: its name
 * @variant: a printf format: what a parameter means
 * @params: what to do it with, one after the other, ended by 0
 * @unit: what the cost is counted in
 * @thp: the setting of transparent huge pages, or NULL for "always"
 * @shmem: the same for memfds, or NULL for "never", which is the kernel's own
 * @wall: measured on a real clock and several processors
 * @ours: on a view
 * @theirs: the reference; without @once if there is none
 */
struct bench_case {
	const char *name;
	const char *variant;
	const unsigned int *params;
	const char *unit;
	const char *thp;
	const char *shmem;
	bool wall;
	struct way ours;
	struct way theirs;
};

/* The tables of cases; each ends with an entry without a name. */
extern const struct bench_case touch_cases[];
extern const struct bench_case share_cases[];
extern const struct bench_case scale_cases[];

/* bench.c */
_Noreturn void fail(const char *format, ...)
	__attribute__((format(printf, 1, 2)));
void expect(bool condition, const char *what);
void write_setting(const char *path, const char *value);
_Noreturn void stand_by(void);
uint64_t clock_start(void);
uint64_t clock_stop(uint64_t start);

/* memory.c */
void image_make(struct job *job, size_t size);
char *image_map(const struct job *job);
void image_unmap(const struct job *job, char *mem);
void image_shuffle(struct job *job);
void read_all(const struct job *job, const char *mem);
void write_pages(const struct job *job, char *mem, size_t step);

#endif /* BENCH_H */
