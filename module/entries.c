// SPDX-License-Identifier: GPL-2.0
/*
 * Page table entries that are changed where they stand. See entries.h.
 */
#include <linux/mm.h>
#include <linux/mm_inline.h>
#include <linux/mmu_notifier.h>
#include <linux/sched.h>
#include <linux/userfaultfd_k.h>

#include "compat.h"
#include "entries.h"
#include "view.h"

/**
 * cowpool_entries_begin() - begin to change a view's entries
 * @entries: set up
 * @view: the view. Faults in it are locked out, and the caller holds its lock
 * @vma: a VMA of it, or what fork() has made of one
 *
 * Return: false if that cannot be: the view is spread over VMAs, others mirror the
 * page table (KVM, say), whom only a zap tells, or fork() will copy the entries after
 * all, for the marks of userfaultfd's that are among them.
 */
bool cowpool_entries_begin(struct cowpool_entries *entries,
			   struct cowpool_view *view,
			   struct vm_area_struct *vma)
{
	if (view->nr_vmas > 1 || mm_has_notifiers(view->mm) ||
	    userfaultfd_wp(vma))
		return false;
	*entries = (struct cowpool_entries) {
		.view = view,
		.vma = vma,
		.last = ULONG_MAX,
		.base = ULONG_MAX,
	};
	/* A zap that sees a flush pending beside its own flushes everything. */
	inc_tlb_flush_pending(view->mm);
	return true;
}

/**
 * cowpool_entries_end() - no entry is used any more as it was before
 * @entries: the change
 *
 * If none was changed none was dirty, nor is there one in a TLB: the kernel flushes
 * dirty entries that it takes away before others can see that they are gone.
 */
void cowpool_entries_end(struct cowpool_entries *entries)
{
	/* Nothing else that a module can call flushes TLBs. */
	if (entries->last != ULONG_MAX)
		cowpool_view_zap(entries->view, entries->last, 1);
	dec_tlb_flush_pending(entries->view->mm);
}

/*
 * Goes to the page table for an address. Where there is none, nothing stands;
 * where a PMD entry stands instead, it is read-only and clean: the copy of a
 * page that it covers has been granted, but not mapped yet. Nobody frees page
 * tables of a VMA that is locked for writing.
 */
static void table_enter(struct cowpool_entries *entries, unsigned long addr)
{
	struct mm_struct *mm = entries->view->mm;
	pgd_t *pgd = pgd_offset(mm, addr);
	p4d_t *p4d;
	pud_t *pud;
	pmd_t *pmd, entry;

	entries->table = NULL;
	entries->base = addr & PMD_MASK;
	if (pgd_none(*pgd))
		return;
	p4d = p4d_offset(pgd, addr);
	if (p4d_none(*p4d))
		return;
	pud = pud_offset(p4d, addr);
	if (pud_none(*pud))
		return;
	pmd = pmd_offset(pud, addr);
	/* A relative's zap may take a PMD entry away. */
	entry = READ_ONCE(*pmd);
	if (pmd_none(entry) || pmd_leaf(entry))
		return;
	entries->table = pte_offset_kernel(&entry, entries->base);
	entries->ptl = pte_lockptr(mm, &entry);
}

/* Returns whether the entry was changed. */
static bool entry_change(struct mm_struct *mm, unsigned long addr, pte_t *pte,
			 bool protect)
{
	pte_t entry = ptep_get(pte);

	if (!pte_present(entry))
		return false;
	if (!protect && !pte_dirty(entry))
		return false;
	/* Until it is cleared a processor may make it dirty. */
	entry = ptep_get_and_clear(mm, addr, pte);
	if (pte_dirty(entry))
		folio_set_dirty(page_folio(pte_page(entry)));
	entry = pte_mkclean(entry);
	set_pte_at(mm, addr, pte, protect ? pte_wrprotect(entry) : entry);
	return true;
}

static void entries_change(struct cowpool_entries *entries,
			   unsigned long first, unsigned long nr, bool protect)
{
	struct vm_area_struct *vma = entries->vma;
	struct mm_struct *mm = entries->view->mm;
	unsigned long index = max(first, vma->vm_pgoff);
	unsigned long end = min(first + nr, vma->vm_pgoff + vma_pages(vma));

	while (index < end) {
		unsigned long addr = vma->vm_start +
				     ((index - vma->vm_pgoff) << PAGE_SHIFT);
		pte_t *pte, *stop;

		if ((addr & PMD_MASK) != entries->base) {
			cond_resched();
			table_enter(entries, addr);
		}
		nr = min(PTRS_PER_PTE - pte_index(addr), end - index);
		if (!entries->table) {
			index += nr;
			continue;
		}
		pte = entries->table + pte_index(addr);
		spin_lock(entries->ptl);
		for (stop = pte + nr; pte < stop; pte++, addr += PAGE_SIZE) {
			if (entry_change(mm, addr, pte, protect))
				entries->last = index;
			index++;
		}
		spin_unlock(entries->ptl);
	}
}

/*
 * What both do: entries are clean afterwards, and what was written by one has
 * its folio marked dirty.
 */

/**
 * cowpool_entries_protect() - no write without a fault any more
 * @first: first page
 * @nr: number of pages
 * @arg: the struct cowpool_entries
 *
 * Nor is mprotect() to make one writable without asking, as it does with dirty
 * entries of a shared mapping.
 *
 * Return: 0. This is a cow_run_fn.
 */
int cowpool_entries_protect(unsigned long first, unsigned long nr, void *arg)
{
	entries_change(arg, first, nr, true);
	return 0;
}

/**
 * cowpool_entries_clean() - from now on the processor tells what is written
 * @first: first page
 * @nr: number of pages
 * @arg: the struct cowpool_entries
 *
 * Return: 0. This is a cow_run_fn.
 */
int cowpool_entries_clean(unsigned long first, unsigned long nr, void *arg)
{
	entries_change(arg, first, nr, false);
	return 0;
}
