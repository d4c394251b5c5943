/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Private pages: the frames that hold copies.
 *
 * Frames are allocated a few at a time where a view writes much, since most of
 * what an allocation costs it costs once. Those that are not needed yet are a
 * view's *spares*: charged to who allocated them, and gone with the view.
 */
#ifndef COWPOOL_PRIVATE_H
#define COWPOOL_PRIVATE_H

#include <linux/mm_types.h>

/* So many frames are allocated at once, and one of them is needed at once. */
#define COWPOOL_BATCH_ORDER	3
#define COWPOOL_SPARES		((1 << COWPOOL_BATCH_ORDER) - 1)

/**
 * struct cowpool_spares - frames allocated ahead
 * @nr: how many
 * @node: the node that they are on: that of the task that wanted the first
 * @page: the frames, each with a reference that is the owner's
 *
 * Locking: the owner's.
 */
struct cowpool_spares {
	unsigned int nr;
	int node;
	struct page *page[COWPOOL_SPARES];
};

struct page *cowpool_private_alloc(struct cowpool_spares *spares, bool many,
				   struct vm_area_struct *vma,
				   unsigned long addr);
int cowpool_page_copy(struct page *to, struct page *from,
		      struct vm_area_struct *vma, unsigned long addr);
int cowpool_private_fill(struct page *page, struct page *from,
			 struct vm_area_struct *vma, unsigned long addr);
bool cowpool_private_held(struct page *page, int known);
void cowpool_spares_drop(struct cowpool_spares *spares);

unsigned long cowpool_private_frames(void);
unsigned long cowpool_spare_frames(void);

#endif
