// SPDX-License-Identifier: GPL-2.0
/*
 * cowpool: copy-on-write in plain sight. Here the module begins and ends; its
 * parameters are the limits that limits.h declares. See pool.h for the lock
 * order, device.c for the way in, view.h and fault.c for the copy-on-write.
 */
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/sizes.h>

#include "debugfs.h"
#include "device.h"
#include "limits.h"
#include "view.h"

#define PAGES_PER_MIB	(SZ_1M >> PAGE_SHIFT)
/* The index ends at 2^36 pages. */
#define MAX_POOL_MIB	((1UL << (COW_NODE_SHIFT * COW_TREE_LEVELS)) / \
			 PAGES_PER_MIB)

static unsigned int default_mib = 16;
module_param(default_mib, uint, 0444);
MODULE_PARM_DESC(default_mib,
		 "Size of the pool named 'default' in MiB, 0 for none (16)");

static unsigned int max_pool_mib = SZ_1M;
module_param(max_pool_mib, uint, 0644);
MODULE_PARM_DESC(max_pool_mib,
		 "Size of the largest pool that can be made, in MiB (1048576)");

static unsigned int max_total_mib;
module_param(max_total_mib, uint, 0644);
MODULE_PARM_DESC(max_total_mib,
		 "Memory for the content of all pools and for private copies, in MiB, 0 for half of the machine's memory (0)");

/* Page frames that count against max_total_mib. */
static atomic_long_t nr_frames;

/**
 * cowpool_max_pool_pages() - size of the largest pool that may be made
 */
unsigned long cowpool_max_pool_pages(void)
{
	return min_t(unsigned long, READ_ONCE(max_pool_mib), MAX_POOL_MIB) *
	       PAGES_PER_MIB;
}

/**
 * cowpool_charge() - add to a count that has a limit
 * @charged: the count
 * @nr: what to add
 * @limit: how far it may go. It never goes farther, not for a moment: that could
 *	fail somebody else
 *
 * Return: true, or false if the limit forbids it.
 */
bool cowpool_charge(atomic_long_t *charged, unsigned long nr,
		    unsigned long limit)
{
	long now = atomic_long_read(charged);

	do {
		if (now + nr > limit)
			return false;
	} while (!atomic_long_try_cmpxchg(charged, &now, now + nr));
	return true;
}

/**
 * cowpool_frames_charge() - count frames against max_total_mib
 * @nr: how many
 *
 * Return: true, or false if the limit forbids it.
 */
bool cowpool_frames_charge(unsigned long nr)
{
	unsigned long limit = (unsigned long)READ_ONCE(max_total_mib) *
			      PAGES_PER_MIB;

	return cowpool_charge(&nr_frames, nr, limit ?: totalram_pages() / 2);
}

/**
 * cowpool_frames_uncharge() - undo cowpool_frames_charge()
 * @nr: how many
 */
void cowpool_frames_uncharge(unsigned long nr)
{
	atomic_long_sub(nr, &nr_frames);
}

static int __init cowpool_init(void)
{
	int err;

	err = cow_tree_setup();
	if (err)
		return err;
	err = cow_store_setup();
	if (err)
		goto err_tree;
	err = cowpool_views_setup();
	if (err)
		goto err_store;
	err = cowpool_pools_setup((unsigned long)default_mib * PAGES_PER_MIB);
	if (err)
		goto err_views;
	cowpool_debugfs_setup();
	err = cowpool_device_setup();
	if (err)
		goto err_debugfs;
	pr_info("cowpool: loaded, default pool %u MiB\n", default_mib);
	return 0;

err_debugfs:
	cowpool_debugfs_teardown();
	cowpool_pools_teardown();
err_views:
	cowpool_views_teardown();
err_store:
	cow_store_teardown();
err_tree:
	cow_tree_teardown();
	return err;
}

static void __exit cowpool_exit(void)
{
	cowpool_device_teardown();
	cowpool_debugfs_teardown();
	cowpool_pools_teardown();
	cowpool_views_teardown();
	cow_store_teardown();
	cow_tree_teardown();
	pr_info("cowpool: unloaded\n");
}

module_init(cowpool_init);
module_exit(cowpool_exit);

MODULE_DESCRIPTION("Copy-on-write memory pools");
MODULE_VERSION("0.1.0");
MODULE_LICENSE("GPL");
