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

#include <linux/cache.h>
#include <linux/mm_types.h>
#include <linux/spinlock.h>

/* So many frames are allocated at once, and one of them is needed at once. */
#define COWPOOL_BATCH_ORDER	3
#define COWPOOL_BATCH_SPARES	((1 << COWPOOL_BATCH_ORDER) - 1)
/* Two threads that find no spare at the same time both have use for a batch. */
#define COWPOOL_SPARES		(2 * COWPOOL_BATCH_SPARES)

/**
 * struct cowpool_spares - frames allocated ahead
 * @lock: guards the fields below. No other lock is taken under it
 * @nr: how many
 * @page: the frames, each with a reference that is the owner's
 *
 * In a cache line of its own: threads change it while others only read what its
 * owner has beside it.
 */
struct cowpool_spares {
	spinlock_t lock;	/* guards the fields below */
	unsigned int nr;
	struct page *page[COWPOOL_SPARES];
} ____cacheline_aligned_in_smp;

/**
 * enum cowpool_frame - where the frame of a private page may come from
 * @COWPOOL_FRAME_SPARE: it is a spare that fits, or there is none
 * @COWPOOL_FRAME_ONE: it may be allocated
 * @COWPOOL_FRAME_BATCH: it may be allocated, and spares with it
 */
enum cowpool_frame {
	COWPOOL_FRAME_SPARE,
	COWPOOL_FRAME_ONE,
	COWPOOL_FRAME_BATCH,
};

void cowpool_spares_init(struct cowpool_spares *spares);
struct page *cowpool_private_copy(struct page *from,
				  struct cowpool_spares *spares,
				  enum cowpool_frame frame,
				  struct vm_area_struct *vma,
				  unsigned long addr);
int cowpool_page_copy(struct page *to, struct page *from,
		      struct vm_area_struct *vma, unsigned long addr);
bool cowpool_private_held(struct page *page, int known);
void cowpool_spares_drop(struct cowpool_spares *spares);

unsigned long cowpool_private_frames(void);
unsigned long cowpool_spare_frames(void);

#endif
