// SPDX-License-Identifier: GPL-2.0
/*
 * Page faults: the copy-on-write itself.
 *
 * The kernel calls in with the mmap lock or the VMA's lock held for reading.
 * Both are held until the entry stands in the page table, so that whoever
 * locks faults out (view.c) finds none half done.
 *
 * Two rules keep an entry from showing anything but what the index holds:
 *
 * - Looking a page up and mapping it are one step, under view->lock or made as
 *   good as one (compat.h). Whoever replaces a page has it out of the page
 *   table before other owners may write it in place.
 *
 * - No entry that comes along with a page, or a PMD entry that covers it, shows
 *   the store's page where the view has another one.
 */
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/mm_inline.h>
#include <linux/oom.h>
#include <linux/pagemap.h>
#include <linux/smp.h>
#include <linux/userfaultfd_k.h>

#include "compat.h"
#include "view.h"

/*
 * The page below an empty slot of the view's index: the store's, since the view
 * began with the pool's index. Needs no lock.
 */
static inline struct page *store_page(struct cowpool_view *view, unsigned long index)
{
	struct folio **near = &view->near[raw_smp_processor_id() %
					  ARRAY_SIZE(view->near)];
	struct folio *folio = READ_ONCE(*near);

	if (!folio || index - folio->index >= folio_nr_pages(folio)) {
		folio = cow_store_folio(view->mapping->pool->store, index);
		if (!folio)
			return cow_zero_page(index);
		WRITE_ONCE(*near, folio);
	}
	return folio_page(folio, index - folio->index);
}

/* The page that the view shows at an index. The caller holds view->lock. */
static struct page *view_page(struct cowpool_view *view, unsigned long index)
{
	return cow_tree_lookup(&view->tree, index, NULL) ?:
	       store_page(view, index);
}

/* Nobody but the running task can be in a fault in @vma's process. */
static bool faulting_alone(const struct vm_area_struct *vma)
{
	return vma->vm_mm == current->mm &&
	       atomic_read(&vma->vm_mm->mm_users) == 1;
}

/* Whether nothing stands at the faulting address, where the PMD is @pmd. */
static bool no_entry(const struct vm_fault *vmf, pmd_t pmd)
{
	return pmd_none(pmd) ||
	       (!pmd_leaf(pmd) &&
		pte_none(ptep_get(pte_offset_kernel(&pmd, vmf->address))));
}

/*
 * Whether no processor can reach a page by an entry at the faulting address: none
 * stands, nor is one changed, which clears it for a moment (NUMA balancing), nor is
 * one gone that a zap for a relative, or MADV_DONTNEED, has yet to flush from TLBs.
 * @alone tells that nobody else is there to do such things.
 */
static bool entry_gone(const struct vm_fault *vmf, bool alone)
{
	struct mm_struct *mm = vmf->vma->vm_mm;
	spinlock_t *ptl;	/* the page table's */
	bool gone;
	pmd_t pmd;

	if (alone)
		return no_entry(vmf, READ_ONCE(*vmf->pmd));
	/* The kernel may free an empty page table meanwhile, by RCU. */
	rcu_read_lock();
	pmd = READ_ONCE(*vmf->pmd);
	if (pmd_none(pmd) || pmd_leaf(pmd))
		ptl = pmd_lockptr(mm, vmf->pmd);
	else
		ptl = pte_lockptr(mm, &pmd);
	/* Entries are changed under it, and cleared after a flush is pending. */
	spin_lock(ptl);
	gone = pmd_same(pmd, READ_ONCE(*vmf->pmd)) && no_entry(vmf, pmd) &&
	       !mm_tlb_flush_pending(mm);
	spin_unlock(ptl);
	rcu_read_unlock();
	return gone;
}

/*
 * Whether a writable entry can be put where none stands: no mark of userfaultfd's may
 * come there meanwhile.
 */
static bool can_insert(struct vm_fault *vmf)
{
	return COWPOOL_CAN_INSERT && !userfaultfd_wp(vmf->vma);
}

/* Why @page cannot be mapped, or 0. */
static inline vm_fault_t page_trouble(struct page *page)
{
	if (unlikely(PageHWPoison(page)))
		return VM_FAULT_HWPOISON;
	/* A zero page could be mapped once too often. */
	if (unlikely((unsigned int)page_ref_count(compound_head(page)) > INT_MAX / 2))
		return VM_FAULT_SIGBUS;
	return 0;
}

/*
 * Whether the kernel may map all of a folio of the store: it fits the VMA and
 * the page table, @tree has nothing in its range, and no page of it is lost.
 */
static bool whole_folio(const struct vm_fault *vmf, struct folio *folio,
			const struct cow_tree *tree)
{
	unsigned long first = folio->index;
	unsigned long last = first + folio_nr_pages(folio) - 1;
	unsigned long start = vmf->address - ((vmf->pgoff - first) << PAGE_SHIFT);
	unsigned long end = start + folio_size(folio);

	return start <= vmf->address && start >= vmf->vma->vm_start &&
	       end <= vmf->vma->vm_end && !((start ^ (end - 1)) & PMD_MASK) &&
	       !cow_tree_populated(tree, first, last) &&
	       !cow_store_folio_lost(folio);
}

/*
 * Maps @page for reading, and all of its folio if that can be.
 *
 * Return: VM_FAULT_NOPAGE if that is done, VM_FAULT_LOCKED if the kernel is to
 * do it, or an error as cowpool_view_fault().
 */
static vm_fault_t map_page(struct vm_fault *vmf, struct page *page,
			   const struct cow_tree *tree)
{
	struct folio *folio = page_folio(page);
	vm_fault_t trouble = page_trouble(page);

	if (trouble)
		return trouble;
	if (folio_test_large(folio) && whole_folio(vmf, folio, tree))
		return cowpool_return_page(vmf, page);
	return cowpool_insert_page(vmf, page, false);
}

/* How many pages are mapped for a read at most, when it is one of a sequence. */
#define AROUND_PAGES		(2 * COW_NODE_SLOTS)
/* And else: as many as the kernel maps of a file. */
#define AROUND_PAGES_FIRST	16

/*
 * Maps pages @index to @last - 1, all under one leaf of the index, but for the
 * one of the fault. @shift is what page and address differ by.
 */
static void map_neighbours(struct cowpool_view *view, struct vm_fault *vmf,
			   unsigned long index, unsigned long last,
			   unsigned long shift)
{
	bool private = cow_tree_populated(&view->tree, index, last - 1);

	for (; index < last; index++) {
		struct page *page = private ? view_page(view, index) :
					      store_page(view, index);

		if (index != vmf->pgoff && !cow_page_is_zero(page) &&
		    !page_trouble(page))
			cowpool_insert_at(vmf->vma, (index - shift) << PAGE_SHIFT,
					  page);
	}
}

/*
 * A page was mapped alone, so its neighbours may come with it. The caller
 * holds view->lock.
 */
static void map_around(struct cowpool_view *view, struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	bool sequential = vmf->pgoff == view->around_next;
	unsigned long nr = sequential ? AROUND_PAGES : AROUND_PAGES_FIRST;
	unsigned long start = max(vmf->address & PMD_MASK, vma->vm_start);
	unsigned long end = min((vmf->address & PMD_MASK) + PMD_SIZE,
				vma->vm_end);
	unsigned long shift = vmf->pgoff - (vmf->address >> PAGE_SHIFT);
	unsigned long index = ALIGN_DOWN(vmf->pgoff, nr);
	unsigned long last = index + nr, next;

	index = max(index, (start >> PAGE_SHIFT) + shift);
	last = min(last, (end >> PAGE_SHIFT) + shift);
	view->around_next = last;
	for (; index < last; index = next) {
		next = min(last, ALIGN(index + 1, COW_NODE_SLOTS));
		map_neighbours(view, vmf, index, next, shift);
	}
}

static vm_fault_t fault_of_error(int err)
{
	switch (err) {
	case -ENOMEM:
		return VM_FAULT_OOM;
	case -EHWPOISON:
		return VM_FAULT_HWPOISON;
	default:
		return VM_FAULT_SIGBUS;
	}
}

/* After so many copies frames may be allocated ahead, the spares being few. */
static enum cowpool_frame frame_to_copy_to(const struct cowpool_view *view)
{
	/* A guess does not need the lock. */
	if (data_race(view->counters.copies_first_touch +
		      view->counters.copies_after_read) < 8 * COWPOOL_BATCH_SPARES)
		return COWPOOL_FRAME_ONE;
	return COWPOOL_FRAME_BATCH;
}

/*
 * Copies the store's page at vmf->pgoff before the lock is taken, on the chance that
 * the view has none of its own there, as at its last write. If it has, nothing is
 * lost but a spare.
 *
 * Return: the page, with a reference, and @copy; or NULL.
 */
static struct page *copy_ahead(struct cowpool_view *view, struct vm_fault *vmf,
			       struct page **copy)
{
	struct page *from, *page;

	/* A guess does not need the lock. The store may lack what a snapshot has itself. */
	if (!data_race(view->fresh) ||
	    !cow_tree_empty(&view->mapping->pool->tree))
		return NULL;
	from = store_page(view, vmf->pgoff);
	/* The entry that stands tells. */
	if (vmf->page && vmf->page != from)
		return NULL;
	page = cowpool_private_copy(from, &view->spares, COWPOOL_FRAME_SPARE,
				    vmf->vma, vmf->address);
	if (IS_ERR(page))
		return NULL;
	get_page(from);
	*copy = page;
	return from;
}

/*
 * Puts @copy into the view's index, in place of @old, and grants it. @path is
 * from the lookup of @old. The caller holds view->lock.
 *
 * Return: 0 or -ENOMEM.
 */
static int view_replace(struct cowpool_view *view, struct cow_path *path,
			struct page *copy, struct page *old, bool old_private)
{
	struct cowpool_pool *pool = view->mapping->pool;
	int err;

	err = cow_tree_unshare(&view->tree, path, GFP_KERNEL_ACCOUNT);
	if (err)
		return err;
	cow_path_set(path, copy);
	cow_path_grant(&view->tree, path);
	/* A page of the pool's own index, if it is a snapshot, is not ours. */
	if (!old_private ||
	    (!cow_tree_empty(&pool->tree) &&
	     old == cow_tree_lookup(&pool->tree, path->index, NULL)))
		view->counters.private_pages++;
	return 0;
}

/*
 * The page that was replaced leaves the process's page table. @mapped tells
 * that an entry stands; else one may be about to be installed by a fault that
 * looked the page up before it was replaced.
 *
 * The caller still holds view->lock: whoever finds the new page in the index
 * may rely on the old one being out of page tables and TLBs.
 */
static void unmap_replaced(struct cowpool_view *view, struct vm_fault *vmf,
			   struct page *old, bool mapped)
{
	bool alone = faulting_alone(vmf->vma);

	/*
	 * Asked after the page was replaced: such a fault has the mm in use.
	 * One that is over, another process's say, has left its entry.
	 */
	if (!alone)
		folio_wait_locked(page_folio(old));
	/* No lock: who has no relatives gets some by its own fork() only. */
	alone = alone && data_race(list_is_singular(&view->mapping->views));
	/* Whoever is not there any more has done what he did. */
	smp_rmb();
	/* One may stand at another address of the page. */
	if (mapped || !entry_gone(vmf, alone) || READ_ONCE(view->doubled))
		cowpool_view_zap(view, vmf->pgoff, 1);
}

/*
 * Makes the view's page at vmf->pgoff exclusive and grants it, copying it if
 * need be. @mapped tells that an entry stands.
 *
 * Where other threads may want the lock, a copy is made without it. Then look
 * again: another thread may have been faster, or the other owners may have gone and
 * another thread may be writing the page in place.
 *
 * Return: the page, which stays exclusive as long as faults are not locked
 * out, and the only one that an entry here may be for; or an ERR_PTR: -ENOMEM,
 * -EDQUOT or -EHWPOISON.
 */
static struct page *make_exclusive(struct cowpool_view *view,
				   struct vm_fault *vmf, bool mapped)
{
	const unsigned long index = vmf->pgoff;
	const bool alone = faulting_alone(vmf->vma);
	struct page *page, *from = NULL, *copy = NULL;
	bool replaced = false, private;
	struct cow_path path;
	int known, err = 0;

	if (!alone)
		from = copy_ahead(view, vmf, &copy);
	mutex_lock(&view->lock);
	for (;;) {
		page = cow_tree_lookup(&view->tree, index, &path);
		private = page;
		if (!page)
			page = store_page(view, index);
		if (cow_path_granted(&path))
			break;
		/* A former owner may have put it into a pipe, say. */
		known = page == vmf->page;
		known += page == from;
		if (path.exclusive && !cowpool_private_held(page, known)) {
			cow_path_grant(&view->tree, &path);
			view->counters.reuses++;
			break;
		}
		if (page != from) {
			if (from)
				put_page(from);
			if (copy)
				cow_page_put(copy);
			from = page;
			if (!alone) {
				view->fresh = !private;
				get_page(from);
				mutex_unlock(&view->lock);
			}
			copy = cowpool_private_copy(from, &view->spares,
						    frame_to_copy_to(view),
						    vmf->vma, vmf->address);
			if (!alone)
				mutex_lock(&view->lock);
			err = PTR_ERR_OR_ZERO(copy);
			if (err) {
				copy = NULL;
				break;
			}
			if (!alone)
				continue;
		}
		err = view_replace(view, &path, copy, from, private);
		if (err)
			break;
		if (mapped)
			view->counters.copies_after_read++;
		else
			view->counters.copies_first_touch++;
		unmap_replaced(view, vmf, from, mapped);
		replaced = true;
		page = copy;
		copy = NULL;
		break;
	}
	if (!err && PageHWPoison(page))
		err = -EHWPOISON;
	if (copy) {
		view->fresh = false;
		cow_page_put(copy);
	}
	mutex_unlock(&view->lock);
	if (from && !alone)
		put_page(from);
	if (replaced && private)
		cow_page_put(from);
	return err ? ERR_PTR(err) : page;
}

static vm_fault_t view_read_fault(struct cowpool_view *view,
				  struct vm_fault *vmf)
{
	vm_fault_t ret;

	mutex_lock(&view->lock);
	ret = map_page(vmf, view_page(view, vmf->pgoff), &view->tree);
	if (!(ret & VM_FAULT_ERROR))
		view->counters.read_faults++;
	if (COWPOOL_CAN_INSERT && ret == VM_FAULT_NOPAGE &&
	    !pmd_trans_huge(READ_ONCE(*vmf->pmd)))
		map_around(view, vmf);
	mutex_unlock(&view->lock);
	return ret;
}

static vm_fault_t view_write_fault(struct cowpool_view *view,
				   struct vm_fault *vmf)
{
	struct page *page = make_exclusive(view, vmf, false);

	if (IS_ERR(page))
		return fault_of_error(PTR_ERR(page));
	if (can_insert(vmf) && !cowpool_entry_marked(vmf))
		return cowpool_insert_page(vmf, page, true);
	/*
	 * Exclusive pages are safe to be installed late: only who locks out
	 * all faults can end that.
	 */
	get_page(page);
	vmf->page = page;
	return 0;
}

/**
 * cowpool_view_fault() - ->fault of a view: no entry stands
 * @vmf: the fault
 *
 * Return:
 * * VM_FAULT_NOPAGE - the page is mapped
 * * VM_FAULT_LOCKED - vmf->page is to be mapped for reading
 * * 0 - vmf->page is exclusive and to be mapped for writing; the kernel calls
 *   cowpool_view_mkwrite() before it does
 * * VM_FAULT_OOM - no memory
 * * VM_FAULT_HWPOISON - the content is lost
 * * VM_FAULT_SIGBUS - over the module's limit, a page is mapped too often, or
 *   fork() ran out of memory
 */
vm_fault_t cowpool_view_fault(struct vm_fault *vmf)
{
	struct cowpool_view *view = cowpool_view_of(vmf->vma);

	if (unlikely(view->broken))
		return VM_FAULT_SIGBUS;
	if (vmf->flags & FAULT_FLAG_WRITE)
		return view_write_fault(view, vmf);
	return view_read_fault(view, vmf);
}

/**
 * cowpool_view_mkwrite() - ->page_mkwrite of a view: a page becomes writable
 * @vmf: the fault
 *
 * Comes for a write to an entry that stands read-only, and right after
 * cowpool_view_fault() for a write to an absent one.
 *
 * Return:
 * * VM_FAULT_LOCKED - vmf->page is exclusive; write in place
 * * VM_FAULT_NOPAGE - the page was copied: access again, which may take one
 *   more fault to map the copy
 * * errors as cowpool_view_fault()
 */
vm_fault_t cowpool_view_mkwrite(struct vm_fault *vmf)
{
	struct cowpool_view *view = cowpool_view_of(vmf->vma);
	struct page *page;

	/* No entry: cowpool_view_fault() has done all. */
	if (!vmf->pte) {
		lock_page(vmf->page);
		return VM_FAULT_LOCKED;
	}

	page = make_exclusive(view, vmf, true);
	if (IS_ERR(page))
		return fault_of_error(PTR_ERR(page));
	/* It was replaced: by us, or by another thread a moment ago. */
	if (page != vmf->page)
		return can_insert(vmf) ? cowpool_insert_page(vmf, page, true) :
					 VM_FAULT_NOPAGE;
	lock_page(page);
	return VM_FAULT_LOCKED;
}

/**
 * cowpool_map_private_fault() - ->fault of a MAP_PRIVATE mapping
 * @vmf: the fault
 *
 * The kernel copies; we only say what from.
 *
 * Return: as cowpool_view_fault().
 */
vm_fault_t cowpool_map_private_fault(struct vm_fault *vmf)
{
	struct cowpool_pool *pool = vmf->vma->vm_private_data;
	struct page *page;
	vm_fault_t ret;

	/* mremap() can make it longer than the pool. */
	if (unlikely(vmf->pgoff >= pool->nr_pages))
		return VM_FAULT_SIGBUS;
	/*
	 * What is missing may be a private page that the OOM killer has taken: it says so
	 * before it does.
	 */
	smp_rmb();
	ret = check_stable_address_space(vmf->vma->vm_mm);
	if (unlikely(ret))
		return ret;
	page = cowpool_pool_page(pool, vmf->pgoff);
	/* Nothing here is ever replaced, but a snapshot has private pages. */
	if (vmf->flags & FAULT_FLAG_WRITE)
		return page_trouble(page) ?: cowpool_return_page(vmf, page);
	return map_page(vmf, page, &pool->tree);
}

/**
 * cowpool_map_pages() - ->map_pages: maps nothing
 * @vmf: the fault
 * @first: first page
 * @last: last page
 *
 * A VMA without this operation does not get its faults under the VMA's lock.
 *
 * Return: 0: go on with ->fault.
 */
vm_fault_t cowpool_map_pages(struct vm_fault *vmf, pgoff_t first, pgoff_t last)
{
	return 0;
}
