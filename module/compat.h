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

static inline unsigned long cowpool_page_flags(const struct page *page)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 18, 0)
	return page->flags.f;
#else
	return page->flags;
#endif
}

/*
 * Putting pages into page tables.
 *
 * The kernel maps a page that the fault handler returns, and with it, where
 * that can be, the whole of its folio: by a PMD entry, or (7.x) by one entry a
 * page. But it does so after view->lock is dropped. Meanwhile another thread
 * may replace the page in the index, and even have the new entry zapped again.
 * So the page is returned with its folio locked (the kernel unlocks it when
 * the entries stand), and who replaces a page waits for that lock before he
 * zaps.
 *
 * Where the rest of the folio must not be mapped, from 6.15 on the module maps
 * the page itself, under view->lock. Before, a page table has to be there: the
 * kernel uses it then, and maps the page alone.
 */

/* Has the kernel map @page's folio, or copy from @page. */
static inline vm_fault_t cowpool_return_page(struct vm_fault *vmf,
					     struct page *page)
{
	get_page(page);
	lock_page(page);
	/*
	 * The kernel would look for the mapping of a poisoned page. A memory error in the
	 * next few instructions goes unnoticed.
	 */
	if (unlikely(PageHWPoison(page))) {
		unlock_page(page);
		put_page(page);
		return VM_FAULT_HWPOISON;
	}
	vmf->page = page;
	return VM_FAULT_LOCKED;
}

#if !defined(HAVE_INSERT_PAGE_MKWRITE) && defined(CONFIG_PT_RECLAIM)
#error "Linux 6.14 may free a page table that a fault relies on"
#endif

/* In a fault for want of an entry: a mark of userfaultfd's is in the way. */
static inline bool cowpool_entry_marked(struct vm_fault *vmf)
{
	return vmf->flags & FAULT_FLAG_ORIG_PTE_VALID &&
	       !pte_none(vmf->orig_pte);
}

#ifdef HAVE_INSERT_PAGE_MKWRITE

#define COWPOOL_CAN_INSERT	true

/* Maps @page for reading where a page table is, unless an entry stands there. */
static inline void cowpool_insert_at(struct vm_area_struct *vma,
				     unsigned long addr, struct page *page)
{
	struct vm_fault vmf = { .vma = vma, .address = addr };

	vmf_insert_page_mkwrite(&vmf, page, false);
}

static inline vm_fault_t cowpool_insert_page(struct vm_fault *vmf,
					     struct page *page, bool writable)
{
	vm_fault_t ret;

	/* The kernel could not take it for anything but an empty PMD. */
	if (pmd_trans_huge(READ_ONCE(*vmf->pmd)))
		return VM_FAULT_NOPAGE;
	/* The kernel knows what to do. */
	if (!writable && cowpool_entry_marked(vmf))
		return cowpool_return_page(vmf, page);
	ret = vmf_insert_page_mkwrite(vmf, page, writable);
	/*
	 * MADV_DONTNEED may just have freed the page table that was made for
	 * this: then there is memory for another, or there is one already.
	 */
	if (ret == VM_FAULT_OOM && pmd_none(READ_ONCE(*vmf->pmd)))
		ret = vmf_insert_page_mkwrite(vmf, page, writable);
	if (ret == VM_FAULT_OOM && !pmd_none(READ_ONCE(*vmf->pmd)))
		ret = VM_FAULT_NOPAGE;
	return ret;
}

#else

/* Not possible: the access faults again. */
#define COWPOOL_CAN_INSERT	false

static inline void cowpool_insert_at(struct vm_area_struct *vma,
				     unsigned long addr, struct page *page)
{
}

static inline int cowpool_page_table_made(pte_t *pte, unsigned long addr,
					  void *arg)
{
	return 0;
}

/*
 * Before the folio is locked, which others wait for: it may be a zero page, and
 * memory may be long in coming. No other fault of the view maps the folio as a
 * whole meanwhile: view->lock is held, and pages in its range are private.
 */
static inline vm_fault_t cowpool_insert_page(struct vm_fault *vmf,
					     struct page *page, bool writable)
{
	if (pmd_none(READ_ONCE(*vmf->pmd)) &&
	    apply_to_page_range(vmf->vma->vm_mm, vmf->address & PAGE_MASK,
				PAGE_SIZE, cowpool_page_table_made, NULL))
		return VM_FAULT_OOM;
	return cowpool_return_page(vmf, page);
}

#endif

#endif
