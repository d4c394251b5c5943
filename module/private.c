// SPDX-License-Identifier: GPL-2.0
/*
 * Frames for private pages. See private.h.
 */
#include <linux/cpuset.h>
#include <linux/highmem.h>
#include <linux/mempolicy.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/percpu.h>
#include <linux/sched.h>
#include <linux/topology.h>

#include "compat.h"
#include "limits.h"
#include "private.h"
#include "store.h"
#include "tree.h"

#define PRIVATE_GFP	(GFP_HIGHUSER | __GFP_ACCOUNT)

/* Of all processors together: one that allocates need not be the one that frees. */
static DEFINE_PER_CPU(long, private_frames);
static DEFINE_PER_CPU(long, spare_frames);

/* What changes meanwhile may count on one side only. */
static unsigned long frames_sum(const long __percpu *frames)
{
	long sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(*per_cpu_ptr(frames, cpu));
	return max(sum, 0L);
}

/**
 * cowpool_private_frames() - page frames that hold private copies now
 */
unsigned long cowpool_private_frames(void)
{
	return frames_sum(&private_frames);
}

/**
 * cowpool_spare_frames() - page frames that are allocated ahead now
 */
unsigned long cowpool_spare_frames(void)
{
	return frames_sum(&spare_frames);
}

/* Whether a policy says where a page goes, rather than the task's place. */
static bool policy_set(struct vm_area_struct *vma)
{
#ifdef CONFIG_NUMA
	return vma && (vma_policy(vma) || current->mempolicy);
#else
	return false;
#endif
}

/*
 * Whether the running task would get this frame now: it may have moved since, or
 * another one has allocated it, or its cpuset has changed.
 */
static bool spare_fits(struct page *page)
{
	int node = page_to_nid(page);

	return node == numa_mem_id() &&
	       node_isset(node, cpuset_current_mems_allowed) &&
	       !unlikely(PageHWPoison(page));
}

/* Takes a spare, or only one that fits, if one is no use that does not. */
static struct page *spare_take(struct cowpool_spares *spares, bool fitting)
{
	struct page *page = NULL;

	spin_lock(&spares->lock);
	if (spares->nr &&
	    (!fitting || spare_fits(spares->page[spares->nr - 1])))
		page = spares->page[--spares->nr];
	spin_unlock(&spares->lock);
	if (page)
		this_cpu_dec(spare_frames);
	return page;
}

static void spare_free(struct page *page)
{
	cowpool_frames_uncharge(1);
	put_page(page);
}

/*
 * One frame to use, and the rest of its batch as spares: or NULL, for any
 * reason, and without trying hard.
 */
static struct page *batch_alloc(struct cowpool_spares *spares)
{
	unsigned int nr = COWPOOL_BATCH_SPARES, kept = 0;
	struct page *page;

	if (!cowpool_frames_charge(1 << COWPOOL_BATCH_ORDER))
		return NULL;
	/* Eight at a time may be had elsewhere only, where one is to be had here. */
	page = alloc_pages_node(numa_mem_id(), PRIVATE_GFP | __GFP_THISNODE |
				__GFP_NORETRY | __GFP_NOWARN,
				COWPOOL_BATCH_ORDER);
	if (!page) {
		cowpool_frames_uncharge(1 << COWPOOL_BATCH_ORDER);
		return NULL;
	}
	split_page(page, COWPOOL_BATCH_ORDER);
	spin_lock(&spares->lock);
	/* The last one first: they are used in ascending order. */
	for (; nr && spares->nr < COWPOOL_SPARES; nr--, kept++)
		spares->page[spares->nr++] = page + nr;
	spin_unlock(&spares->lock);
	this_cpu_add(spare_frames, kept);
	/* Other threads were faster. */
	for (; nr; nr--)
		spare_free(page + nr);
	return page;
}

/* As cowpool_private_copy(), but without the content. */
static struct page *private_alloc(struct cowpool_spares *spares,
				  enum cowpool_frame frame,
				  struct vm_area_struct *vma,
				  unsigned long addr)
{
	bool policy = policy_set(vma);
	bool ahead = spares && !policy;
	struct page *page = NULL;

	if (ahead)
		page = spare_take(spares, frame == COWPOOL_FRAME_SPARE);
	/* Not all of them go: tasks on two nodes may take turns. */
	if (page && !spare_fits(page)) {
		spare_free(page);
		page = NULL;
		ahead = false;
	}
	if (!page && frame == COWPOOL_FRAME_SPARE)
		return ERR_PTR(-EAGAIN);
	if (!page && ahead && frame == COWPOOL_FRAME_BATCH)
		page = batch_alloc(spares);
	if (!page) {
		if (!cowpool_frames_charge(1))
			return ERR_PTR(-EDQUOT);
		page = policy ? cowpool_vma_alloc_page(PRIVATE_GFP, vma, addr) :
				alloc_page(PRIVATE_GFP);
	}
	if (!page) {
		cowpool_frames_uncharge(1);
		return ERR_PTR(-ENOMEM);
	}
	cow_page_init(page);
	this_cpu_inc(private_frames);
	return page;
}

/*
 * On x86 a copy ends where its source is lost if the processor has fast string
 * instructions; else copy_mc_to_kernel() is memcpy(), which is not the fastest
 * way to copy a page. (Unless the kernel copies warily, which it does not tell:
 * on some processors, all of which have those instructions, and by mce=recovery.)
 */
static bool copy_may_end(void)
{
#ifdef CONFIG_X86
	return boot_cpu_has(X86_FEATURE_ERMS);
#else
	return true;
#endif
}

/**
 * cowpool_page_copy() - copy a page
 * @to: the page to write
 * @from: the page to copy. One that is lost to a memory error must not bring
 *	the machine down, nor be handed on
 * @vma: the VMA that @to is mapped in, or NULL
 * @addr: where in @vma
 *
 * Return: 0 or -EHWPOISON.
 */
int cowpool_page_copy(struct page *to, struct page *from,
		      struct vm_area_struct *vma, unsigned long addr)
{
	if (PageHWPoison(from))
		return -EHWPOISON;
	if (copy_may_end())
		return copy_mc_user_highpage(to, from, addr, vma) ?
		       -EHWPOISON : 0;
	copy_user_highpage(to, from, addr, vma);
	return 0;
}

static int private_fill(struct page *page, struct page *from,
			struct vm_area_struct *vma, unsigned long addr)
{
	/* For all that is known here, it is not what the pool holds. */
	folio_set_dirty(page_folio(page));
	if (cow_page_is_zero(from)) {
		/* The allocator may have done it. */
		if (!want_init_on_alloc(PRIVATE_GFP))
			clear_user_highpage(page, addr);
		return 0;
	}
	return cowpool_page_copy(page, from, vma, addr);
}

/**
 * cowpool_private_copy() - make a private page
 * @from: the page to copy
 * @spares: the view's, or NULL
 * @frame: where the frame may come from
 * @vma: the VMA that the page will be mapped in: its memory policy is obeyed, or
 *	that of the running task if it has none. NULL if there is no such VMA
 * @addr: where in @vma
 *
 * The frame is charged to the memory cgroup of the running task, and ready for
 * cow_path_set(). cow_page_put() gives it back.
 *
 * Return: the page, or an ERR_PTR: -ENOMEM, -EDQUOT over the module's limit,
 * -EAGAIN if it was to be a spare and there is none, or -EHWPOISON as
 * cowpool_page_copy().
 */
struct page *cowpool_private_copy(struct page *from,
				  struct cowpool_spares *spares,
				  enum cowpool_frame frame,
				  struct vm_area_struct *vma,
				  unsigned long addr)
{
	struct page *copy = private_alloc(spares, frame, vma, addr);
	int err;

	if (IS_ERR(copy))
		return copy;
	err = private_fill(copy, from, vma, addr);
	if (err) {
		cow_page_put(copy);
		return ERR_PTR(err);
	}
	return copy;
}

/**
 * cowpool_private_held() - does anybody hold on to a private page?
 * @page: a page that is exclusive to a view whose lock the caller holds
 * @known: references that the caller knows of, beside the index's and those
 *	of page tables
 *
 * Somebody outside of the page tables, that is: the kernel reads into the page
 * for O_DIRECT, say, or vmsplice() put it into a pipe.
 */
bool cowpool_private_held(struct page *page, int known)
{
	int count = page_count(page);

	/*
	 * In this order: a former owner's entry that goes meanwhile can make
	 * us see a holder too many, but not one too few.
	 */
	smp_rmb();
	/* A single page; folio_mapcount() is not exported everywhere. */
	return count != 1 + atomic_read(&page->_mapcount) + 1 + known;
}

/* The index let go of private pages. Others may still hold references. */
void cow_pages_free(struct page **pages, unsigned int nr)
{
	this_cpu_sub(private_frames, nr);
	cowpool_frames_uncharge(nr);
	release_pages(pages, nr);
}

/**
 * cowpool_spares_init() - get ready to allocate ahead
 * @spares: is empty afterwards
 */
void cowpool_spares_init(struct cowpool_spares *spares)
{
	spin_lock_init(&spares->lock);
	spares->nr = 0;
}

/**
 * cowpool_spares_drop() - give spares back
 * @spares: is empty afterwards. Nobody else uses it any more
 */
void cowpool_spares_drop(struct cowpool_spares *spares)
{
	if (!spares->nr)
		return;
	this_cpu_sub(spare_frames, spares->nr);
	cowpool_frames_uncharge(spares->nr);
	release_pages(spares->page, spares->nr);
	spares->nr = 0;
}
