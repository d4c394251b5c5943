/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the parts of the matrix share: main.c plays the cells, party.c has the
 * parties and the ways to share, touch.c the ways to touch, and pins.c those
 * that pin pages for a time.
 */
#ifndef COWPOOL_TEST_MATRIX_H
#define COWPOOL_TEST_MATRIX_H

#include "../pages.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

#include <linux/cowpool.h>
#include <kselftest.h>

/* What is touched is the first part of a page, which is why it is copied. */
#define HEAD_WORDS	64
#define HEAD		(HEAD_WORDS * sizeof(uint64_t))

/* The pages that are looked at */
enum { CLEAN, OWNED, OTHER, PAGES };
extern const size_t page_index[PAGES];

#define SMALL_POOL	16
#define LARGE_POOL	1024

#define MAX_PARTIES	6

struct seen {
	uint64_t head, tail;
};

/* What everybody sees who has nothing of his own */
extern const struct seen pool_content[PAGES];

/* A process that does what it is told: calls a function of this program. */
struct agent {
	_Atomic uint32_t asked, answered;
	pid_t pid;
	void (*fn)(struct agent *agent);
	char *view;
	uint64_t tag;
	const struct touch *touch;
	int result;
	struct seen seen[PAGES];
};

struct party {
	const char *name;
	struct agent *agent;	/* NULL: this process */
	char *view;		/* NULL: a pool, seen through its descriptor */
	int fd;			/* else -1 */
	bool private;		/* MAP_PRIVATE */
	bool gone;
	struct seen expected[PAGES];
};

/* Results of a touch, besides 0 */
enum { TOUCH_FAILED = 1, TOUCH_SKIP, TOUCH_XFAIL };

struct touch {
	const char *name;
	/* Done by the first party, before anything is shared; then it touches */
	int (*before)(char *view, uint64_t tag);
	int (*touch)(char *view, uint64_t tag);
	/* What those see who got hold of pages; @old is what was there then. */
	bool (*held)(int page, const struct seen *seen, const struct seen *old,
		     uint64_t tag, bool exclusive);
	bool leaves;		/* the toucher is gone afterwards */
	bool discards;		/* what a MAP_PRIVATE mapping has of its own */
};

extern struct shared {
	struct agent agents[MAX_PARTIES];
	_Atomic uint32_t nr_agents;
	char trouble[256];
	char reason[128];	/* for a SKIP or an XFAIL */
	struct helper {
		_Atomic uint32_t asked, answered;
		pid_t pid;
		char *view;
		uint64_t tag;
		bool ptrace;
		int result;
	} helper;
	struct server {
		_Atomic uint32_t hold, pending;
		uint64_t tag;
	} server;
} *shared;

extern int pools[2];
extern const size_t pool_pages[2];
extern int source_fd;		/* a file */
extern int pipe_fds[2];

struct scene {
	int pool;		/* index in pools[] */
	int nr;
	struct party party[MAX_PARTIES];
};

#define SHARES		7
#define TOUCHES		19

struct share {
	const char *name;
	void (*share)(struct scene *scene);
	/* Takes write access away from what was written before */
	bool revokes;
};

/* party.c */
extern const struct share shares[SHARES];
_Noreturn void die(const char *what);
void futex_wait(_Atomic uint32_t *word, uint32_t value);
void futex_wake(_Atomic uint32_t *word);
int reason(int result, const char *format, ...) __attribute__((format(printf, 2, 3)));
void head_set(void *page, uint64_t tag);
char *view_page(char *view, int page);
struct seen page_seen(const void *page);
void agent_touch(struct agent *agent);
void agent_store(struct agent *agent);
void agent_exit(struct agent *agent);
void agent_call(struct agent *agent, void (*fn)(struct agent *agent));
int party_do(struct party *party, void (*fn)(struct agent *agent),
	     const struct touch *touch, uint64_t tag);
bool party_looks(struct party *party, const char *when);
struct party *scene_add(struct scene *scene, const char *name, char *view, int fd,
			struct agent *agent, const struct seen *expected);
char *scene_map(struct scene *scene, int fd, int flags);

/* touch.c */
extern const struct touch touches[TOUCHES];
void vector_set(uint64_t *data, char *view, uint64_t tag, struct iovec *to);
int source_set(uint64_t tag);
void helper_start(void);

/* pins.c */
void direct_start(void);
int touch_direct(char *view, uint64_t tag);
int before_direct(char *view, uint64_t tag);
int touch_direct_end(char *view, uint64_t tag);
int before_fixed(char *view, uint64_t tag);
int touch_fixed(char *view, uint64_t tag);

#endif /* COWPOOL_TEST_MATRIX_H */
