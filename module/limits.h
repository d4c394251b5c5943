/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The module's own limits, set by module parameters (main.c).
 */
#ifndef COWPOOL_LIMITS_H
#define COWPOOL_LIMITS_H

#include <linux/types.h>

unsigned long cowpool_max_pool_pages(void);
bool cowpool_frames_charge(unsigned long nr);
void cowpool_frames_uncharge(unsigned long nr);

#endif
