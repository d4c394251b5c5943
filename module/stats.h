/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Counters. Only views count: under their own lock, in their own struct. What
 * a pool counts is the sum over its views plus what it inherited from views
 * that are gone; the totals are the sum over pools, likewise. So the fault
 * path shares no cache line, and every counter is exact. Frames are counted by
 * processor: exact when none comes or goes at that moment.
 */
#ifndef COWPOOL_STATS_H
#define COWPOOL_STATS_H

#include <linux/cowpool.h>
#include <linux/types.h>

struct cowpool_pool;

#define COWPOOL_NR_COUNTERS \
	(sizeof(struct cowpool_counters) / sizeof(u64))

/* Names of the members of struct cowpool_counters, in their order. */
extern const char *const cowpool_counter_names[COWPOOL_NR_COUNTERS];

/**
 * struct cowpool_totals - figures of the whole module
 * @counters: sums over pools and views, past and present
 * @pools: pools now
 * @views: live views
 * @filled_pages: pages of pools that hold data
 * @pool_frames: page frames that hold pools' content
 * @private_frames: page frames that hold private copies
 * @spare_frames: page frames that views have allocated ahead
 * @nodes: nodes of indices
 */
struct cowpool_totals {
	struct cowpool_counters counters;
	u64 pools;
	u64 views;
	u64 filled_pages;
	u64 pool_frames;
	u64 private_frames;
	u64 spare_frames;
	u64 nodes;
};

void cowpool_counters_add(struct cowpool_counters *sum,
			  const struct cowpool_counters *counters);
void cowpool_counters_read(struct cowpool_counters *to,
			   const struct cowpool_counters *live);

#endif
