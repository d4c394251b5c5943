/* SPDX-License-Identifier: GPL-2.0 */
#ifndef COWPOOL_DEBUGFS_H
#define COWPOOL_DEBUGFS_H

void cowpool_debugfs_setup(void);
void cowpool_debugfs_teardown(void);

#endif
