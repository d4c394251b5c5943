/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A process of the oracle: its model, and what it shares with the director.
 */
#ifndef ORACLE_PROCESS_H
#define ORACLE_PROCESS_H

#include "oracle.h"

#define PAGE		((size_t)sysconf(_SC_PAGESIZE))
#define WORDS		(PAGE / sizeof(uint64_t))

/* Which operation wrote each cell; 0: it is as the pool was filled. */
struct content {
	uint32_t cell[MAX_PAGES][CELLS];
};

/* Whether a page is private to the view. */
enum owner { NOT_OWN, PERHAPS_OWN, OWN };

/**
 * struct page_model - a page of a view
 * @at: where it is mapped, or NULL
 * @area: pages side by side with the same number are in one VMA
 * @prot: how it is mapped
 * @owner: whether it is private
 * @granted: written since the last fork(), SNAPSHOT or RESET
 */
struct page_model {
	char *at;
	uint16_t area;
	uint8_t prot;
	uint8_t owner;
	bool granted;
};

/**
 * struct view_model - a view
 * @mapped: number of pages that are mapped; 0: there is no view
 * @areas: numbers of areas that were given away
 * @now: what it shows
 * @pool: what its pool holds
 * @page: its pages
 * @forks: what its counters must tell
 * @snapshots: likewise
 * @resets: likewise
 * @grants: copies and reuses together, likewise
 */
struct view_model {
	unsigned int mapped;
	unsigned int areas;
	struct content now;
	struct content pool;
	struct page_model page[MAX_PAGES];
	uint64_t forks;
	uint64_t snapshots;
	uint64_t resets;
	uint64_t grants;
};

/* A snapshot; without a descriptor, there is none. */
struct snapshot_model {
	int fd;
	struct content now;
};

/* A process. */
struct process {
	unsigned int number;
	struct view_model view[MAX_VIEWS];
	struct snapshot_model snapshot[MAX_SNAPSHOTS];
};

#define QUEUE_LENGTH	256

/**
 * struct queue - from the director to a process
 * @pid: the process, once it runs
 * @asked: operations that were put in
 * @done: operations that were taken out and done
 * @process_sleeps: the process waits for @asked to change
 * @director_sleeps: the director waits for @done to change
 * @operation: the operations; number n is at n % QUEUE_LENGTH
 */
struct queue {
	_Atomic pid_t pid;
	_Atomic uint32_t asked;
	_Atomic uint32_t done;
	_Atomic uint32_t process_sleeps;
	_Atomic uint32_t director_sleeps;
	struct operation operation[QUEUE_LENGTH];
};

/**
 * struct shared - what all processes and the director share
 * @world: the script's
 * @salt: likewise
 * @director: the director
 * @pool_fd: its descriptor of the pool, which nobody else has for long
 * @written: pages that some process has written in some view
 * @trouble: what went wrong
 * @queue: the processes' queues
 * @result: what became of each operation, an enum result
 */
struct shared {
	struct world world;
	uint16_t salt;
	pid_t director;
	int pool_fd;
	bool written[MAX_PAGES];
	struct trouble trouble;
	struct queue queue[MAX_PROCESSES];
	uint8_t result[];
};

/* Set up before the first process starts; the same in all. */
extern struct shared *shared;
extern int device_fd;

/* direct.c */
void futex_wait(_Atomic uint32_t *word, uint32_t value);
void futex_wake(_Atomic uint32_t *word);
bool trouble_set(const struct operation *operation, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* process.c */
extern struct process self;
_Noreturn void process_run(unsigned int number);
void process_forked(unsigned int number);
_Noreturn void wrong(const char *format, ...)
	__attribute__((format(printf, 1, 2)));
uint64_t word_value(uint32_t writer, unsigned int page, unsigned int word);
unsigned int cell_word(unsigned int page, unsigned int cell);
void page_check(const void *at, const struct content *content, unsigned int page,
		const char *of, unsigned int number);
void word_check(uint64_t value, uint32_t writer, unsigned int page,
		unsigned int word, unsigned int view);
bool access_refused(void *at, bool write);

/* model.c */
struct view_model *view_of(unsigned int number);
bool goes_on(const struct view_model *view, unsigned int page);
unsigned int piece(const struct view_model *view, const struct operation *operation);
unsigned int piece_in_area(const struct view_model *view,
			   const struct operation *operation);
unsigned int piece_with(const struct view_model *view,
			const struct operation *operation, int prot);
void area_split(struct view_model *view, unsigned int page);
void content_of_pool(struct view_model *view, unsigned int page);
void page_unmapped(struct view_model *view, unsigned int page);
void page_granted(struct view_model *view, unsigned int page);
void page_written(struct view_model *view, unsigned int page);
void grants_end(struct view_model *view);
void count_own(const struct view_model *view, unsigned int page, unsigned int nr,
	       unsigned int *least, unsigned int *most);
bool differs(const struct view_model *view, unsigned int page);

/* operations.c */
bool operation_do(const struct operation *operation);
void grants_ask(struct view_model *view);
int snapshot_take(struct view_model *view);
void snapshot_page(int fd, unsigned int page, void *to);
void snapshot_put(unsigned int number, int fd, const struct content *content);
void do_fork(unsigned int child);

/* storm.c */
bool storm_do(const struct operation *operation);
void bystander_start(void);

#endif /* ORACLE_PROCESS_H */
