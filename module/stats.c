// SPDX-License-Identifier: GPL-2.0
/*
 * Arithmetic on counters. Who adds what to whom: see stats.h.
 */
#include <linux/compiler.h>
#include <linux/kernel.h>

#include "stats.h"

const char *const cowpool_counter_names[COWPOOL_NR_COUNTERS] = {
	"read_faults", "copies_first_touch", "copies_after_read",
	"copies_pinned", "reuses", "forks", "snapshots", "resets",
	"private_pages", "copies_reset",
};

/**
 * cowpool_counters_add() - add a set of counters to a sum
 * @sum: the sum
 * @counters: what to add
 */
void cowpool_counters_add(struct cowpool_counters *sum,
			  const struct cowpool_counters *counters)
{
	u64 *to = (u64 *)sum;
	const u64 *from = (const u64 *)counters;
	unsigned int i;

	for (i = 0; i < COWPOOL_NR_COUNTERS; i++)
		to[i] += from[i];
}

/**
 * cowpool_counters_read() - copy counters that are being counted
 * @to: the copy
 * @live: counters that may change meanwhile; each is read once
 */
void cowpool_counters_read(struct cowpool_counters *to,
			   const struct cowpool_counters *live)
{
	u64 *copy = (u64 *)to;
	const u64 *from = (const u64 *)live;
	unsigned int i;

	for (i = 0; i < COWPOOL_NR_COUNTERS; i++)
		copy[i] = READ_ONCE(from[i]);
}
