/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Memory nodes, and the processors on them.
 */
#ifndef COWPOOL_TEST_NODES_H
#define COWPOOL_TEST_NODES_H

#include "cowpool_test.h"

/* Runs on a processor of the node from now on, if it has one. */
static inline bool run_on(int node)
{
	cpu_set_t set;
	unsigned int on;

	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		CPU_ZERO(&set);
		CPU_SET(cpu, &set);
		if (!sched_setaffinity(0, sizeof(set), &set) &&
		    !syscall(SYS_getcpu, NULL, &on, NULL) && (int)on == node)
			return true;
	}
	return false;
}

/* Whether there are nodes 0 and 1, and the caller runs on node 0. */
static inline bool two_nodes(void)
{
	return !access("/sys/devices/system/node/node1/meminfo", F_OK) && run_on(0);
}

#endif
