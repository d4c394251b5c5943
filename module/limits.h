/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The module's own limits, set by module parameters (main.c).
 */
#ifndef COWPOOL_LIMITS_H
#define COWPOOL_LIMITS_H

#include <linux/atomic.h>

unsigned long cowpool_max_pool_pages(void);
bool cowpool_charge(atomic_long_t *charged, unsigned long nr,
		    unsigned long limit);
bool cowpool_frames_charge(unsigned long nr);
void cowpool_frames_uncharge(unsigned long nr);

#endif
