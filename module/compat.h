/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What differs between kernel versions, in one place. The rest of the module
 * is written as for the newest kernel. HAVE_* come from Kbuild, which looks
 * at the kernel's headers rather than at its version, since distributions
 * backport.
 */
#ifndef COWPOOL_COMPAT_H
#define COWPOOL_COMPAT_H

#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/version.h>

#include "tree.h"

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 1, 0)
#error "cowpool needs Linux 6.1 or later"
#endif

#ifndef CONFIG_64BIT
#error "cowpool needs a 64-bit kernel: its counters are read without a lock"
#endif

#ifndef CONFIG_MMU
#error "cowpool needs an MMU"
#endif

#ifndef HAVE_VM_FLAGS_SET
static inline void vm_flags_set(struct vm_area_struct *vma, vm_flags_t flags)
{
	vma->vm_flags |= flags;
}

static inline void vm_flags_clear(struct vm_area_struct *vma, vm_flags_t flags)
{
	vma->vm_flags &= ~flags;
}
#endif

/* Before per-VMA locks the mmap lock alone keeps faults out. */
#ifndef CONFIG_PER_VMA_LOCK
#define vma_start_write(vma) ((void)(vma))
#endif

#ifndef HAVE_COPY_SPLICE_READ
#define copy_splice_read generic_file_splice_read
#endif

/* One page by the memory policy of @vma. */
static inline struct page *cowpool_vma_alloc_page(gfp_t gfp,
						  struct vm_area_struct *vma,
						  unsigned long addr)
{
	struct folio *folio;

#ifdef HAVE_VMA_ALLOC_FOLIO_HUGEPAGE
	folio = vma_alloc_folio(gfp, 0, vma, addr, false);
#else
	folio = vma_alloc_folio(gfp, 0, vma, addr);
#endif
	return folio ? &folio->page : NULL;
}

/*
 * Putting pages into page tables.
 *
 * From 6.15 on the module does it itself: while it holds view->lock, or when
 * the page is exclusive and no other can come in its place. Before,
 * only the kernel can, after the fault handler has returned the page with that
 * lock dropped. Meanwhile another thread may replace the page in the index,
 * and even have the new entry zapped again. So the page is returned with its
 * folio locked (the kernel unlocks it when the entry stands), and who replaces
 * a page waits for that lock before it zaps.
 *
 * The kernel also maps all of a PMD-sized folio at once, whatever the index
 * holds for the other pages, unless there is a page table.
 */

/* Has the kernel map @page, or copy from it. */
static inline vm_fault_t cowpool_return_page(struct vm_fault *vmf,
					     struct page *page)
{
	get_page(page);
	lock_page(page);
	/* The kernel would look for the mapping of a poisoned page. */
	if (unlikely(PageHWPoison(page))) {
		unlock_page(page);
		put_page(page);
		return VM_FAULT_HWPOISON;
	}
	vmf->page = page;
	return VM_FAULT_LOCKED;
}

#if defined(HAVE_INSERT_FOLIO_PMD) && defined(CONFIG_TRANSPARENT_HUGEPAGE)
#define COWPOOL_HUGE_FAULT
#endif

#if !defined(HAVE_INSERT_PAGE_MKWRITE) && defined(CONFIG_PT_RECLAIM)
#error "Linux 6.14 may free a page table that a fault relies on"
#endif

#ifdef HAVE_INSERT_PAGE_MKWRITE

#define COWPOOL_CAN_INSERT	true

static inline vm_fault_t cowpool_do_insert(struct vm_fault *vmf,
					   struct page *page, bool writable)
{
	vm_fault_t ret = vmf_insert_page_mkwrite(vmf, page, writable);

	/*
	 * MADV_DONTNEED may just have freed the page table that was made for
	 * this: then there is memory for another, and the fault can come again.
	 */
	if (ret == VM_FAULT_OOM && pmd_none(READ_ONCE(*vmf->pmd)))
		ret = vmf_insert_page_mkwrite(vmf, page, writable);
	return ret;
}

static inline vm_fault_t cowpool_insert_page(struct vm_fault *vmf,
					     struct page *page, bool alone)
{
	/* The kernel could not take it for anything but an empty PMD. */
	if (pmd_trans_huge(*vmf->pmd))
		return VM_FAULT_NOPAGE;
	return cowpool_do_insert(vmf, page, false);
}

/* Where no entry stands but one for @page: writable at once. */
static inline vm_fault_t cowpool_insert_writable(struct vm_fault *vmf,
						 struct page *page)
{
	return cowpool_do_insert(vmf, page, true);
}

static inline void cowpool_wait_inserted(struct page *page)
{
}

#else

#define COWPOOL_CAN_INSERT	false

static inline int cowpool_page_table_made(pte_t *pte, unsigned long addr,
					  void *arg)
{
	return 0;
}

/*
 * @alone: the rest of the page's folio must not be mapped with it. The folio
 * is locked, so that no other fault maps it as a whole meanwhile.
 */
static inline vm_fault_t cowpool_insert_page(struct vm_fault *vmf,
					     struct page *page, bool alone)
{
	vm_fault_t ret = cowpool_return_page(vmf, page);

	if (ret == VM_FAULT_LOCKED && alone && pmd_none(READ_ONCE(*vmf->pmd)) &&
	    apply_to_page_range(vmf->vma->vm_mm, vmf->address & PAGE_MASK,
				PAGE_SIZE, cowpool_page_table_made, NULL)) {
		unlock_page(page);
		put_page(page);
		vmf->page = NULL;
		return VM_FAULT_OOM;
	}
	return ret;
}

/* Not possible: the access faults again. */
static inline vm_fault_t cowpool_insert_writable(struct vm_fault *vmf,
						 struct page *page)
{
	return VM_FAULT_NOPAGE;
}

static inline void cowpool_wait_inserted(struct page *page)
{
	folio_wait_locked(page_folio(page));
}

#endif

#endif
