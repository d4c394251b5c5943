/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Page table entries that are changed where they stand.
 *
 * For many pages that is much cheaper than to zap them, which walks through the
 * reverse mapping each time, and has them faulted in again. TLBs are flushed
 * once, at the end.
 */
#ifndef COWPOOL_ENTRIES_H
#define COWPOOL_ENTRIES_H

#include <linux/mm_types.h>

struct cowpool_view;

/**
 * struct cowpool_entries - a change of a view's entries under way
 * @view: the view
 * @vma: a VMA that shows what the view's only one does, at the same addresses
 * @last: the last page that had an entry changed, or ULONG_MAX
 * @base: address of the range that @table maps
 * @table: the page table last used, or NULL if there is none
 * @ptl: its lock
 */
struct cowpool_entries {
	struct cowpool_view *view;
	struct vm_area_struct *vma;
	unsigned long last;
	unsigned long base;
	pte_t *table;
	spinlock_t *ptl;	/* guards the entries of @table */
};

bool cowpool_entries_begin(struct cowpool_entries *entries,
			   struct cowpool_view *view,
			   struct vm_area_struct *vma);
int cowpool_entries_protect(unsigned long first, unsigned long nr, void *arg);
int cowpool_entries_clean(unsigned long first, unsigned long nr, void *arg);
void cowpool_entries_end(struct cowpool_entries *entries);

#endif
