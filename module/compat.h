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
#include <linux/version.h>

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

#endif
