/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Reading what the module shows under /sys/kernel/debug/cowpool/.
 */
#ifndef DEBUGFS_H
#define DEBUGFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <linux/cowpool.h>

#define DEBUGFS_DIR	"/sys/kernel/debug/cowpool"

/* One pool or view as a line of `pools` or `views` tells it. */
struct debugfs_row {
	uint64_t id;
	uint64_t pool;			/* of a view: its pool's id */
	uint64_t pid;			/* of a view */
	uint64_t size_pages;
	uint64_t filled_pages;		/* from here on to state: of a pool */
	uint64_t views;
	uint64_t mode;
	uint64_t uid;
	uint64_t gid;
	char name[COWPOOL_NAME_SIZE];	/* "-" if it has none */
	char state[16];
	struct cowpool_counters counters;
};

/* `stats`: the totals, and what exists now. */
struct debugfs_stats {
	struct cowpool_counters counters;
	uint64_t pools;
	uint64_t views;
	uint64_t filled_pages;
	uint64_t pool_frames;
	uint64_t private_frames;
	uint64_t nodes;
};

/*
 * @table is "pools" or "views". Returns an array for free(), its length in
 * @count; or NULL and errno. An empty table is an array of no rows.
 */
struct debugfs_row *debugfs_rows(const char *table, size_t *count);

/* The row with that id, or NULL. */
const struct debugfs_row *debugfs_find(const struct debugfs_row *rows,
				       size_t count, uint64_t id);

/* False and errno if it cannot be read. */
bool debugfs_stats(struct debugfs_stats *stats);

#endif /* DEBUGFS_H */
