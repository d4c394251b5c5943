// SPDX-License-Identifier: GPL-2.0
/*
 * SNAPSHOT, RESET and DIRTY: what the index gives for free.
 *
 * A snapshot shares the view's index, as fork() does; a reset makes it the
 * pool's again; what is dirty is the difference of the two. All cost what was
 * written, whatever the size of the pool.
 */
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "entries.h"
#include "snapshot.h"
#include "view.h"

/*
 * How many pages make it worth while to find out which of them were written.
 * That costs what it costs to copy about three.
 */
#define KEEP_CLEANS		16

/* How much DIRTY does at a time: ranges found, pages compared. */
#define DIRTY_RANGES	64
#define DIRTY_COMPARES	512

/*
 * The view at @addr in the running process, whose mmap lock is held; or
 * ERR_PTR(-ENOENT).
 */
static struct cowpool_view *view_at(unsigned long addr,
				    struct vm_area_struct **vma)
{
	struct cowpool_view *view;

	*vma = vma_lookup(current->mm, addr);
	view = *vma ? cowpool_view_of(*vma) : NULL;
	return view ?: ERR_PTR(-ENOENT);
}

/* @view, or ERR_PTR(-EIO) if fork() could not give it its content. */
static struct cowpool_view *view_intact(struct cowpool_view *view)
{
	return !IS_ERR(view) && view->broken ? ERR_PTR(-EIO) : view;
}

/*
 * The view that shows all of a range of addresses without a gap.
 *
 * Return: the view with @first, the range's first index, and @first_vma, or an
 * ERR_PTR: -EINVAL for a range that is none, -ENOENT, or -EIO as view_intact().
 */
static struct cowpool_view *view_at_range(unsigned long addr,
					  unsigned long len,
					  struct vm_area_struct **first_vma,
					  unsigned long *first)
{
	struct vm_area_struct *vma;
	struct cowpool_view *view;
	unsigned long end = addr + len;
	unsigned long delta;

	if (!len || offset_in_page(addr | len) || end < addr)
		return ERR_PTR(-EINVAL);
	view = view_at(addr, &vma);
	if (IS_ERR(view))
		return view;
	*first_vma = vma;
	*first = vma->vm_pgoff + ((addr - vma->vm_start) >> PAGE_SHIFT);
	delta = (addr >> PAGE_SHIFT) - *first;
	while (vma->vm_end < end) {
		/* Split by mprotect(), say: the next part must continue it. */
		if (view_at(vma->vm_end, &vma) != view ||
		    (vma->vm_start >> PAGE_SHIFT) - vma->vm_pgoff != delta)
			return ERR_PTR(-ENOENT);
	}
	return view_intact(view);
}

/**
 * cowpool_snapshot() - freeze a view's content
 * @addr: an address inside a view of the running process
 *
 * Return: a sealed anonymous pool with a reference for the caller, or an
 * ERR_PTR: -ENOENT if there is no view, -EIO if fork() could not give it its
 * content, -EINTR, or as cowpool_view_share().
 */
struct cowpool_pool *cowpool_snapshot(unsigned long addr)
{
	struct mm_struct *mm = current->mm;
	struct cowpool_pool *of, *pool;
	struct vm_area_struct *vma;
	struct cowpool_view *view;
	int err;

	if (mmap_write_lock_killable(mm))
		return ERR_PTR(-EINTR);
	view = view_intact(view_at(addr, &vma));
	if (IS_ERR(view)) {
		mmap_write_unlock(mm);
		return ERR_CAST(view);
	}
	/* Has all frames that the snapshot is going to need, until it has. */
	of = cowpool_pool_get(view->mapping->pool);
	pool = cowpool_pool_create_snapshot(of);
	err = PTR_ERR_OR_ZERO(pool);
	if (err)
		goto out;
	cowpool_view_lock_faults(view, vma);
	err = cowpool_view_share(&pool->tree, view, vma);
	if (!err)
		view->counters.snapshots++;
out:
	mmap_write_unlock(mm);
	/* Others may take their time with the store's lock. */
	if (!err) {
		cowpool_pool_enter_store(pool);
	} else if (!IS_ERR(pool)) {
		cowpool_pool_put(pool);
		pool = ERR_PTR(err);
	}
	cowpool_pool_put(of);
	return pool;
}

/**
 * struct reset - a RESET under way
 * @view: the view
 * @pages: pages found so far that differ from the pool's
 * @shared: the page that reset_in_place() stopped at
 * @written: copy back only what was written. Entries are clean: a page was not
 *	written since the last time if its folio is not dirty and nobody holds
 *	on to it
 */
struct reset {
	struct cowpool_view *view;
	unsigned long pages;
	unsigned long shared;
	bool written;
};

/* Copies the pool's content back into a page of the view. */
static int page_restore(struct cowpool_view *view, struct page *page,
			unsigned long index)
{
	struct page *from = cowpool_pool_page(view->mapping->pool, index);
	int err = 0;

	if (cow_page_is_zero(from))
		clear_highpage(page);
	else
		err = cowpool_page_copy(page, from, NULL, 0);
	if (!err)
		view->counters.copies_reset++;
	return err;
}

/*
 * Copies the pool's content back into pages that only the view holds. Stops
 * with 1 at one that others hold too, or may have got hold of when they did, or
 * that a memory error has destroyed.
 */
static int reset_in_place(unsigned long first, unsigned long nr, void *arg)
{
	struct reset *reset = arg;
	struct cowpool_view *view = reset->view;
	struct cow_path path;
	struct folio *folio;
	struct page *page;
	bool held;
	int err;

	for (; nr--; first++) {
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
		page = cow_tree_lookup(&view->tree, first, &path);
		folio = page_folio(page);
		held = cowpool_private_held(page, 0);
		if (reset->written && !held && !PageHWPoison(page) &&
		    !folio_test_dirty(folio)) {
			reset->pages++;
			continue;
		}
		if (!path.exclusive || PageHWPoison(page) ||
		    (held && !cow_path_granted(&path))) {
			reset->shared = first;
			return 1;
		}
		reset->pages++;
		/* Before: who pins it meanwhile to write may mark it dirty. */
		if (reset->written)
			folio_clear_dirty(folio);
		err = page_restore(view, page, first);
		/* Who holds on to it has not said yet whether he writes. */
		if (err || held)
			folio_set_dirty(folio);
		if (err)
			return err;
	}
	return 0;
}

/* Drops the private pages of a range. */
static int reset_drop(struct reset *reset, unsigned long first,
		      unsigned long last)
{
	long pages = cowpool_view_drop(reset->view, first, last,
				       GFP_KERNEL_ACCOUNT);

	if (pages < 0)
		return pages;
	reset->pages += pages;
	return 0;
}

/*
 * Finds out which pages of a range were written since the last time, if that
 * pays. Processors have to notice what is written from now on before anything
 * is copied.
 */
static bool reset_clean(struct cowpool_view *view, struct vm_area_struct *vma,
			unsigned long first, unsigned long last)
{
	struct cowpool_entries entries;

	if (last - first + 1 < KEEP_CLEANS ||
	    view->counters.private_pages < KEEP_CLEANS ||
	    !cowpool_entries_begin(&entries, view, vma))
		return false;
	cow_tree_diff(&view->tree, &view->mapping->pool->tree, first, last,
		      cowpool_entries_clean, &entries);
	cowpool_entries_end(&entries);
	return true;
}

/* Keeps the private pages of a range where reset_in_place() can. */
static int reset_keep(struct reset *reset, struct vm_area_struct *vma,
		      unsigned long first, unsigned long last)
{
	struct cowpool_view *view = reset->view;
	int ret;

	if (reset->written)
		reset->written = reset_clean(view, vma, first, last);

	for (;;) {
		ret = cow_tree_diff(&view->tree, &view->mapping->pool->tree,
				    first, last, reset_in_place, reset);
		if (ret <= 0)
			return ret;
		ret = reset_drop(reset, reset->shared, reset->shared);
		if (ret || reset->shared == last)
			return ret;
		first = reset->shared + 1;
	}
}

/**
 * cowpool_reset() - go back to the pool's content
 * @addr: start of the range
 * @len: its length in bytes
 * @flags: COWPOOL_RESET_*, checked
 *
 * Return: the number of pages that differed, or -EINVAL for a bad range,
 * -ENOENT if there is no view in all of it, -EIO, -EINTR; -ENOMEM if nodes ran out,
 * -EHWPOISON if content of the pool is lost. After an error some pages may be
 * reset; all others are as they were, but for one whose content was lost.
 */
long cowpool_reset(unsigned long addr, unsigned long len, u32 flags)
{
	struct mm_struct *mm = current->mm;
	struct reset reset = { .written = flags & COWPOOL_RESET_WRITTEN };
	struct vm_area_struct *vma;
	unsigned long first, last;
	long ret;

	if (mmap_write_lock_killable(mm))
		return -EINTR;
	reset.view = view_at_range(addr, len, &vma, &first);
	ret = PTR_ERR_OR_ZERO(reset.view);
	if (ret)
		goto out;
	last = first + (len >> PAGE_SHIFT) - 1;
	cowpool_view_lock_faults(reset.view, vma);
	mutex_lock(&reset.view->lock);
	if (flags & COWPOOL_RESET_KEEP)
		ret = reset_keep(&reset, vma, first, last);
	else
		ret = reset_drop(&reset, first, last);
	if (!ret) {
		reset.view->counters.resets++;
		ret = reset.pages;
	}
	mutex_unlock(&reset.view->lock);
out:
	mmap_write_unlock(mm);
	return ret;
}

/**
 * struct dirty - a part of a DIRTY
 * @view: the view
 * @content: compare content
 * @compared: pages compared so far
 * @nr: number of ranges found
 * @next: where to go on, if the part was cut short
 * @range: the ranges found, as page indices
 */
struct dirty {
	struct cowpool_view *view;
	bool content;
	unsigned int compared;
	unsigned int nr;
	unsigned long next;
	struct {
		unsigned long first;
		unsigned long nr;
	} range[DIRTY_RANGES];
};

static bool same_content(struct dirty *dirty, unsigned long index)
{
	struct cowpool_view *view = dirty->view;
	struct page *page = cow_tree_lookup(&view->tree, index, NULL);
	struct page *base = cowpool_pool_page(view->mapping->pool, index);

	/* Content that is lost is not the same as any. */
	return !PageHWPoison(page) && !PageHWPoison(base) &&
	       !memcmp(page_address(page), page_address(base), PAGE_SIZE);
}

static int dirty_run(unsigned long first, unsigned long nr, void *arg)
{
	struct dirty *dirty = arg;

	while (nr) {
		unsigned long run = dirty->content ? 1 : nr;
		unsigned int last = dirty->nr - 1;

		dirty->next = first;
		if (dirty->content) {
			if (dirty->compared++ == DIRTY_COMPARES)
				return 1;
			if (same_content(dirty, first))
				goto next;
		}
		if (dirty->nr && dirty->range[last].first +
				 dirty->range[last].nr == first) {
			dirty->range[last].nr += run;
		} else {
			if (dirty->nr == DIRTY_RANGES)
				return 1;
			dirty->range[dirty->nr].first = first;
			dirty->range[dirty->nr++].nr = run;
		}
next:
		first += run;
		nr -= run;
	}
	return 0;
}

/*
 * Finds what is dirty from @addr on, as much as may be done in one go.
 *
 * Return: 0 if that reaches the end, 1 if not, or an error.
 */
static int dirty_part(struct dirty *dirty, unsigned long addr,
		      unsigned long len, unsigned long *first)
{
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	struct cowpool_view *view;
	int ret;

	if (mmap_read_lock_killable(mm))
		return -EINTR;
	view = view_at_range(addr, len, &vma, first);
	ret = PTR_ERR_OR_ZERO(view);
	if (!ret) {
		dirty->view = view;
		dirty->nr = 0;
		dirty->compared = 0;
		mutex_lock(&view->lock);
		ret = cow_tree_diff(&view->tree, &view->mapping->pool->tree,
				    *first, *first + (len >> PAGE_SHIFT) - 1,
				    dirty_run, dirty);
		mutex_unlock(&view->lock);
	}
	mmap_read_unlock(mm);
	return ret;
}

/**
 * cowpool_dirty() - tell which pages differ from the pool's
 * @arg: the ioctl's argument, its flags checked. @arg->next is set
 *
 * Not one instant: large views are looked at in parts.
 *
 * Context: touches user memory.
 *
 * Return: the number of ranges stored, or -EINVAL, -ENOENT, -EIO, -EFAULT,
 * -EINTR, -ENOMEM.
 */
long cowpool_dirty(struct cowpool_dirty *arg)
{
	struct cowpool_range __user *to = u64_to_user_ptr(arg->ranges);
	struct cowpool_range range = { };
	u64 addr = arg->addr, end = arg->addr + arg->len;
	struct dirty *dirty;
	unsigned long first;
	long stored = 0;
	unsigned int i;
	int more;

	dirty = kmalloc(sizeof(*dirty), GFP_KERNEL_ACCOUNT);
	if (!dirty)
		return -ENOMEM;
	dirty->content = arg->flags & COWPOOL_DIRTY_CONTENT;
	do {
		cond_resched();
		more = fatal_signal_pending(current) ? -EINTR :
		       dirty_part(dirty, addr, end - addr, &first);
		if (more < 0) {
			stored = more;
			goto out;
		}
		for (i = 0; i < dirty->nr; i++) {
			u64 start = addr + ((dirty->range[i].first - first)
					    << PAGE_SHIFT);

			/* A run that was cut between two parts is one. */
			if (!stored || range.end != start) {
				if (stored == arg->nr_ranges) {
					arg->next = start;
					goto out;
				}
				range.start = start;
				stored++;
			}
			range.end = start + (dirty->range[i].nr << PAGE_SHIFT);
			if (copy_to_user(&to[stored - 1], &range,
					 sizeof(range))) {
				stored = -EFAULT;
				goto out;
			}
		}
		if (more)
			addr += (dirty->next - first) << PAGE_SHIFT;
	} while (more);
	arg->next = end;
out:
	kfree(dirty);
	return stored;
}
