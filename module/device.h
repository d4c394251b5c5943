/* SPDX-License-Identifier: GPL-2.0 */
#ifndef COWPOOL_DEVICE_H
#define COWPOOL_DEVICE_H

int cowpool_device_setup(void);
void cowpool_device_teardown(void);

#endif
