/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The demo's actors: processes that each have a view of the pool, and touch
 * it when they are told to. Only one thing happens at a time, so what the
 * demo shows does not depend on timing.
 */
#ifndef ACTOR_H
#define ACTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <linux/cowpool.h>
#include <nettle/sha2.h>

/* How much an actor writes, or shows, at a time: a part of one page. */
#define PIECE_SIZE	32

enum action {
	ACT_MAP,	/* map the pool */
	ACT_READ,	/* read @piece_size bytes */
	ACT_WRITE,	/* write @piece */
	ACT_READ_ALL,	/* read every page */
	ACT_FORK,	/* have a child, which is an actor too */
	ACT_EXIT,	/* wait for children and exit; there is no outcome */
};

struct order {
	enum action action;
	uint64_t page;
	uint32_t offset;		/* in the page */
	unsigned char piece[PIECE_SIZE];
};

/**
 * struct outcome - what came of an order
 * @error: errno, or 0; then the rest says nothing
 * @entry_before: the page's pagemap entry before it was touched
 * @entry_after: and after
 * @faults: page faults that the process took while it touched the page
 * @absent: of ACT_READ_ALL, pages without an entry when their turn came
 * @child: of ACT_FORK, the child's pid
 * @view: id of the actor's view
 * @counters: of the actor's view, afterwards
 * @piece: what stands at the place, afterwards
 * @digest: of ACT_READ_ALL, SHA-256 of all that the actor sees
 */
struct outcome {
	int error;
	uint64_t entry_before;
	uint64_t entry_after;
	uint64_t faults;
	uint64_t absent;
	pid_t child;
	uint64_t view;
	struct cowpool_counters counters;
	unsigned char piece[PIECE_SIZE];
	unsigned char digest[SHA256_DIGEST_SIZE];
};

/**
 * struct stage - what all actors have in common
 * @pool: descriptor of the pool
 * @pages: its size
 * @page_size: in bytes
 * @base: where each actor maps it
 */
struct stage {
	int pool;
	uint64_t pages;
	size_t page_size;
	char *base;
};

/**
 * struct actor - one process with a view
 * @name: what it is called in the demo's text
 * @pid: the process
 * @child: it is the child of another actor, not of the demo
 * @channel: orders go out and outcomes come in here
 * @stage: where it acts
 * @shown: memory shared with the process, an element a page and one more:
 *	ACT_READ_ALL leaves here what each page *is* for this actor: its frame
 *	number or, where the kernel hides that, a hash of its content. The
 *	last element counts the pages that are done
 */
struct actor {
	char name[24];
	pid_t pid;
	bool child;
	int channel;
	const struct stage *stage;
	uint64_t *shown;
};

/*
 * Finds a place for the views, the same in every actor: addresses that are
 * not congruent with the pool modulo 2 MiB, so that every page has an entry of
 * its own in the page tables. False and errno.
 */
bool stage_reserve(struct stage *stage);

/*
 * Starts the process of @actor, whose name is set. If it is to have a child
 * with ACT_FORK, that is @heir, whose name is set too; else NULL. False and
 * errno.
 */
bool actor_start(struct actor *actor, const struct stage *stage,
		 struct actor *heir);

/* Has one order carried out. False after saying what went wrong. */
bool actor_ask(struct actor *actor, const struct order *order,
	       struct outcome *outcome);

/* ACT_READ_ALL by all of them at once. False after saying what went wrong. */
bool actors_read_all(struct actor *actors, size_t count,
		     struct outcome *outcomes);

/* Ends all of them, children first, and waits until they are gone. */
void actors_end(struct actor *actors, size_t count);

#endif /* ACTOR_H */
