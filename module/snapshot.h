/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Operations on the view at an address: SNAPSHOT, RESET and DIRTY.
 */
#ifndef COWPOOL_SNAPSHOT_H
#define COWPOOL_SNAPSHOT_H

#include <linux/cowpool.h>

#include "pool.h"

struct cowpool_pool *cowpool_snapshot(unsigned long addr);
long cowpool_reset(unsigned long addr, unsigned long len, u32 flags);
long cowpool_dirty(struct cowpool_dirty *arg);

#endif
