/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Mappings and views.
 *
 * A *mapping* is what one mmap() call made: a file of its own on a pseudo
 * filesystem, so that unmap_mapping_pages() reaches this mapping and its
 * forks and nothing else. A *view* is a mapping in one process: the private
 * content. fork() adds views to a mapping, since the child's VMAs keep the
 * parent's file. mmap(MAP_PRIVATE) makes a mapping without views: there the
 * kernel does the copying.
 *
 * Who keeps faults out of a view (cowpool_view_lock_faults()) runs alone in that
 * process: no fault is half done. Only then may pages stop being exclusive.
 */
#ifndef COWPOOL_VIEW_H
#define COWPOOL_VIEW_H

#include <linux/cache.h>
#include <linux/mm_types.h>
#include <linux/mutex.h>

#include "pool.h"
#include "private.h"

/**
 * struct cowpool_mapping - what one mmap() made, and its forks
 * @pool: the pool. Holds a reference, and a cow_store_use()
 * @inode: the inode of its file, which holds the mapping
 * @node: in pool->mappings; guarded by pool->lock
 * @views: the views, one a process; guarded by pool->lock
 */
struct cowpool_mapping {
	struct cowpool_pool *pool;
	struct inode *inode;
	struct list_head node;
	struct list_head views;
};

/**
 * struct cowpool_view - one private copy-on-write mapping in one process
 * @mapping: its mapping, which the files of the view's VMAs hold
 * @node: in mapping->views; guarded by pool->lock
 * @id: its number, never used twice
 * @mm: the process. Not a reference: the view is gone before its mm is, as
 *	its last VMA is
 * @nr_vmas: VMAs that point here. Changed under the mmap lock of @mm, held for
 *	writing or downgraded from that
 * @doubled: pages that two VMAs show, at most: while mremap() moves one, and after that
 *	if it had no memory to unmap the old place, or the new one. Changed as @nr_vmas,
 *	and while faults in both are locked out
 * @broken: fork could not give this view its content: every access ends in
 *	SIGBUS. Set before the view's process runs
 * @near: the folios of the store that were last looked up, or NULL, one for each of a
 *	few processors: threads do not have one place in mind. They stay as long as the
 *	pool, which shows a page of each. Not guarded: any folio will do
 * @spares: frames for the next private pages; has a lock of its own
 * @lock: guards the fields below. Whoever locks faults out may count forks and
 *	snapshots without it
 * @tree: the private pages, on top of the pool's
 * @fresh: where a thread last made a copy, or copied in vain, there was no private
 *	page: so there may be none where the next one does
 * @around_next: what a sequence of reads would come to next. 0 at first: one that
 *	begins at the beginning is taken for a sequence
 * @counters: what happened to this view
 */
struct cowpool_view {
	struct cowpool_mapping *mapping;
	struct list_head node;
	u64 id;
	struct mm_struct *mm;
	unsigned int nr_vmas;
	unsigned long doubled;
	bool broken;
	struct folio *near[4] ____cacheline_aligned_in_smp;
	struct cowpool_spares spares;

	struct mutex lock;	/* guards the fields below */
	struct cow_tree tree;
	bool fresh;
	unsigned long around_next;
	struct cowpool_counters counters;
};

int cowpool_views_setup(void);
void cowpool_views_teardown(void);

int cowpool_views_pin(void);
void cowpool_views_unpin(void);

int cowpool_view_mmap(struct cowpool_pool *pool, struct vm_area_struct *vma);
struct cowpool_view *cowpool_view_of(const struct vm_area_struct *vma);
void cowpool_view_lock_faults(struct cowpool_view *view,
			      struct vm_area_struct *vma);
int cowpool_view_share(struct cow_tree *to, struct cowpool_view *from,
		       struct vm_area_struct *vma);
void cowpool_view_zap(struct cowpool_view *view, unsigned long first,
		      unsigned long nr);
long cowpool_view_drop(struct cowpool_view *view, unsigned long first,
		       unsigned long last, gfp_t gfp);

/* fault.c */
vm_fault_t cowpool_view_fault(struct vm_fault *vmf);
vm_fault_t cowpool_view_mkwrite(struct vm_fault *vmf);
vm_fault_t cowpool_map_private_fault(struct vm_fault *vmf);
vm_fault_t cowpool_map_pages(struct vm_fault *vmf, pgoff_t first,
			     pgoff_t last);

#endif
