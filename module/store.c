// SPDX-License-Identifier: GPL-2.0
/*
 * Page frames behind pools. See store.h.
 */
#include <linux/bitmap.h>
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/wait_bit.h>

#include "compat.h"
#include "limits.h"
#include "store.h"

/* Larger folios need multi-index entries, which come with huge pages. */
#ifdef CONFIG_TRANSPARENT_HUGEPAGE
#define STORE_MAX_ORDER	HPAGE_PMD_ORDER
#else
#define STORE_MAX_ORDER	0
#endif

struct page *cow_zero_pages;
static atomic_long_t nr_frames;
static atomic_long_t nr_filled;

/**
 * cow_store_setup() - allocate the zero pages
 *
 * The kernel's own zero page cannot stand in: its frames are not counted when
 * they are unmapped, but a driver's mapping counts them in.
 *
 * Return: 0 or -ENOMEM.
 */
int cow_store_setup(void)
{
	void *zeroes = alloc_pages_exact(COW_ZERO_PAGES * PAGE_SIZE,
					 GFP_KERNEL | __GFP_ZERO |
					 __GFP_RETRY_MAYFAIL);

	if (!zeroes)
		return -ENOMEM;
	cow_zero_pages = virt_to_page(zeroes);
	return 0;
}

/**
 * cow_store_teardown() - undo cow_store_setup(), when every store is gone
 */
void cow_store_teardown(void)
{
	free_pages_exact(page_address(cow_zero_pages),
			 COW_ZERO_PAGES * PAGE_SIZE);
}

/**
 * cow_store_frames() - page frames in all stores now
 */
unsigned long cow_store_frames(void)
{
	return atomic_long_read(&nr_frames);
}

/**
 * cow_store_filled() - pages that hold data in all stores now
 */
unsigned long cow_store_filled(void)
{
	return atomic_long_read(&nr_filled);
}

/**
 * cow_store_get() - take a reference
 * @store: the store
 *
 * Return: @store.
 */
struct cow_store *cow_store_get(struct cow_store *store)
{
	kref_get(&store->refs);
	return store;
}

/**
 * cow_store_charge() - charge frames to the owner and to the module's limit
 * @store: the store
 * @nr: number of frames
 * @file: what the content comes through, or NULL
 *
 * The limit on locked memory is that of the running task: it is the one who
 * wants more. The memory counts as the owner's, who can set it free. CAP_IPC_LOCK
 * overrides the limit, but whoever opened @file must have had it, too: he may have
 * made it the standard output of a program that has more rights than he.
 *
 * Return: 0, -ENOMEM over RLIMIT_MEMLOCK, -EDQUOT over max_total_mib.
 */
int cow_store_charge(struct cow_store *store, unsigned long nr,
		     const struct file *file)
{
	unsigned long limit = rlimit(RLIMIT_MEMLOCK) >> PAGE_SHIFT;
	atomic_long_t *locked = &store->user->locked_vm;

	if (!cowpool_charge(locked, nr, limit) &&
	    !((!file || file_ns_capable(file, &init_user_ns, CAP_IPC_LOCK)) &&
	      capable(CAP_IPC_LOCK) &&
	      cowpool_charge(locked, nr, ULONG_MAX)))
		return -ENOMEM;
	/* Last: what is refused must not keep others from theirs for a moment. */
	if (cowpool_frames_charge(nr))
		return 0;
	atomic_long_sub(nr, locked);
	return -EDQUOT;
}

/**
 * cow_store_uncharge() - undo cow_store_charge()
 * @store: the store
 * @nr: number of frames
 */
void cow_store_uncharge(struct cow_store *store, unsigned long nr)
{
	atomic_long_sub(nr, &store->user->locked_vm);
	cowpool_frames_uncharge(nr);
}

/**
 * cow_store_create() - make an empty store
 * @nr_pages: its size
 *
 * Return: the store, with one reference that is the caller's, or NULL if
 * there is no memory.
 */
struct cow_store *cow_store_create(unsigned long nr_pages)
{
	struct cow_store *store = kzalloc(sizeof(*store), GFP_KERNEL_ACCOUNT);

	if (!store)
		return NULL;
	kref_init(&store->refs);
	store->nr_pages = nr_pages;
	xa_init_flags(&store->folios, XA_FLAGS_ACCOUNT);
	store->user = get_uid(current_user());
	mutex_init(&store->lock);
	INIT_LIST_HEAD(&store->pools);
	INIT_LIST_HEAD(&store->asked);
	store->unpruned = nr_pages;
	return store;
}

/*
 * Which pages of a folio hold data: a bitmap in folio->private, or, when that
 * is too small, behind it.
 */
static unsigned long *folio_filled(struct folio *folio)
{
	if (folio_nr_pages(folio) > BITS_PER_LONG)
		return folio->private;
	return (unsigned long *)&folio->private;
}

static struct folio *store_folio_alloc(unsigned long index, unsigned int order)
{
	gfp_t gfp = GFP_HIGHUSER | __GFP_ACCOUNT | __GFP_ZERO;
	struct folio *folio;

	if (order)
		gfp |= __GFP_NORETRY | __GFP_NOWARN;
	folio = folio_alloc(gfp, order);
	if (!folio)
		return NULL;
	/* The kernel looks, too: it maps no folio whole that ends behind the file. */
	folio->index = index;
	folio->private = NULL;
	if (folio_nr_pages(folio) > BITS_PER_LONG) {
		folio->private = bitmap_zalloc(folio_nr_pages(folio),
					       GFP_KERNEL_ACCOUNT);
		if (!folio->private) {
			folio_put(folio);
			return NULL;
		}
	}
	return folio;
}

/**
 * cow_store_folio_lost() - tell whether a memory error has destroyed a part
 * @folio: a folio of a store
 *
 * Of a driver's folio the kernel marks the page, and not the folio. Flags are looked
 * at together, since each fault asks that maps 2 MiB.
 *
 * Return: true if so.
 */
bool cow_store_folio_lost(struct folio *folio)
{
	unsigned long flags = 0;
#ifdef CONFIG_MEMORY_FAILURE
	/* At most 2 MiB, whose struct pages follow each other in memory. */
	const struct page *page = folio_page(folio, 0);
	const struct page *end = page + folio_nr_pages(folio);

#pragma GCC unroll 8
	for (; page < end; page++)
		/* A page that is lost this moment has to be found by the next one. */
		flags |= data_race(cowpool_page_flags(page));
	flags &= BIT(PG_hwpoison);
#endif
	return flags;
}

/*
 * The page allocator keeps a page that is destroyed out of use, but not one in
 * the middle of a folio: such folios are never given back.
 */
static void store_folio_free(struct folio *folio)
{
	if (folio_nr_pages(folio) > BITS_PER_LONG)
		bitmap_free(folio->private);
	folio->private = NULL;
	if (!folio_test_large(folio) || !cow_store_folio_lost(folio))
		folio_put(folio);
}

static void store_remove_folio(struct cow_store *store, struct folio *folio)
{
	long nr = folio_nr_pages(folio);
	long filled = bitmap_weight(folio_filled(folio), nr);

	xa_erase(&store->folios, folio->index);
	store_folio_free(folio);
	atomic_long_sub(filled, &store->nr_filled);
	atomic_long_sub(filled, &nr_filled);
	atomic_long_sub(nr, &store->nr_frames);
	atomic_long_sub(nr, &nr_frames);
	cow_store_uncharge(store, nr);
}

/**
 * cow_store_prune() - free the folios that nobody needs any more
 * @store: the store, whose lock is held
 * @first: first page
 * @last: last page
 * @needs: asked for each folio that has a page in that range, with the first and
 *	the last page of the folio
 * @arg: passed to it
 *
 * Who has pinned a page keeps it.
 *
 * Return: the first page that was not asked about. It is not behind @last if @needs
 * has ended that.
 */
unsigned long cow_store_prune(struct cow_store *store, unsigned long first,
			      unsigned long last, cow_store_needs_fn needs,
			      void *arg)
{
	unsigned long next = last + 1;
	struct folio *folio;
	unsigned long index;
	int needed;

	lockdep_assert_held(&store->lock);
	xa_for_each_range(&store->folios, index, folio, first, last) {
		next = folio->index + folio_nr_pages(folio);
		needed = needs(folio->index, next - 1, arg);
		if (needed < 0)
			return folio->index;
		if (!needed)
			store_remove_folio(store, folio);
		cond_resched();
	}
	return max(next, last + 1);
}

static void store_free(struct kref *refs)
{
	struct cow_store *store = container_of(refs, struct cow_store, refs);
	struct folio *folio;
	unsigned long index;

	xa_for_each(&store->folios, index, folio) {
		store_remove_folio(store, folio);
		cond_resched();
	}
	/* An insertion that failed half way has left nodes without folios. */
	xa_destroy(&store->folios);
	mutex_destroy(&store->lock);
	free_uid(store->user);
	kfree(store);
}

/**
 * cow_store_put() - drop a reference
 * @store: is freed with the last one
 */
void cow_store_put(struct cow_store *store)
{
	kref_put(&store->refs, store_free);
}

/**
 * cow_store_use() - rely on the content from now on
 * @store: the store
 *
 * Return: 0, or -ETXTBSY while a write is under way. (It cannot be waited
 * for: it may need the mmap lock, which the caller holds.)
 */
int cow_store_use(struct cow_store *store)
{
	return atomic_inc_unless_negative(&store->users) ? 0 : -ETXTBSY;
}

/**
 * cow_store_unuse() - undo cow_store_use()
 * @store: the store
 */
void cow_store_unuse(struct cow_store *store)
{
	atomic_dec(&store->users);
}

/**
 * cow_store_write_begin() - announce a write
 * @store: the store
 *
 * A full barrier if it succeeds.
 *
 * Return: true, or false if somebody relies on the content.
 */
bool cow_store_write_begin(struct cow_store *store)
{
	return atomic_dec_unless_positive(&store->users);
}

/**
 * cow_store_write_end() - undo cow_store_write_begin()
 * @store: the store
 */
void cow_store_write_end(struct cow_store *store)
{
	if (!atomic_inc_return(&store->users))
		wake_up_var(&store->users);
}

/**
 * cow_store_wait_writers() - wait until no write is under way
 * @store: the store
 *
 * Return: 0, or -ERESTARTSYS if the task was killed.
 */
int cow_store_wait_writers(struct cow_store *store)
{
	return wait_var_event_killable(&store->users,
				       atomic_read(&store->users) >= 0);
}

/**
 * cow_store_folio() - look the folio up that holds a page
 * @store: the store; the caller holds a reference
 * @index: index of the page
 *
 * Return: the folio, whose first page is the one at folio->index, or NULL if
 * none of its pages was ever written. It stays valid as long as the caller's
 * pool, which shows the page.
 */
struct folio *cow_store_folio(struct cow_store *store, unsigned long index)
{
	return xa_load(&store->folios, index);
}

/**
 * cow_store_page() - look a page up
 * @store: the store; the caller holds a reference
 * @index: index of the page
 *
 * Return: the page frame, or NULL if the page was never written. It stays
 * valid as cow_store_folio() says.
 */
struct page *cow_store_page(struct cow_store *store, unsigned long index)
{
	struct folio *folio = cow_store_folio(store, index);

	return folio ? folio_page(folio, index - folio->index) : NULL;
}

/* Enters @folio at @index, unless another writer has been there meanwhile. */
static int store_insert(struct cow_store *store, unsigned long index,
			struct folio *folio)
{
	XA_STATE_ORDER(xas, &store->folios, index, folio_order(folio));

	do {
		xas_lock(&xas);
		if (xas_find_conflict(&xas))
			xas_set_err(&xas, -EEXIST);
		else
			xas_store(&xas, folio);
		xas_unlock(&xas);
	} while (xas_nomem(&xas, GFP_KERNEL_ACCOUNT));
	return xas_error(&xas);
}

static int store_add_folio(struct cow_store *store, unsigned long index,
			   unsigned int order, const struct file *file)
{
	struct folio *folio;
	int err;

	err = cow_store_charge(store, 1UL << order, file);
	if (err)
		return err;
	folio = store_folio_alloc(index, order);
	err = folio ? store_insert(store, index, folio) : -ENOMEM;
	if (!err) {
		atomic_long_add(1UL << order, &store->nr_frames);
		atomic_long_add(1UL << order, &nr_frames);
		return 0;
	}
	if (folio)
		store_folio_free(folio);
	cow_store_uncharge(store, 1UL << order);
	return err;
}

/*
 * The folio to write at @index into. Larger folios are tried first
 * and given up for any reason: no memory, a limit, or a neighbour that is
 * there already.
 */
static struct folio *store_make_folio(struct cow_store *store,
				      unsigned long index,
				      const struct file *file)
{
	struct folio *folio = cow_store_folio(store, index);
	unsigned int order = STORE_MAX_ORDER;
	int err;

	while (!folio) {
		while (order && (!IS_ALIGNED(index, 1UL << order) ||
				 index + (1UL << order) > store->nr_pages))
			order--;
		err = store_add_folio(store, index, order, file);
		if (err && err != -EEXIST && !order)
			return ERR_PTR(err);
		if (err && order)
			order--;
		folio = cow_store_folio(store, index);
	}
	return folio;
}

/**
 * cow_store_write() - copy data in
 * @store: the store. Nobody maps it
 * @file: what is written to
 * @pos: offset in bytes
 * @from: the data
 *
 * Context: may sleep, and touches user memory: no locks.
 *
 * Return: the number of bytes copied, less than asked for if the store ends,
 * memory or a limit runs out or the source faults on the way; if there were
 * none, -ENOSPC, -ENOMEM, -EDQUOT, -EFAULT, -EINTR or -EIO (a page is lost to a
 * memory error).
 */
ssize_t cow_store_write(struct cow_store *store, const struct file *file,
			loff_t pos, struct iov_iter *from)
{
	loff_t size = (loff_t)store->nr_pages << PAGE_SHIFT;
	ssize_t done = 0;
	int err = 0;

	while (iov_iter_count(from)) {
		unsigned long index = pos >> PAGE_SHIFT;
		size_t offset = offset_in_page(pos);
		size_t bytes = min(PAGE_SIZE - offset, iov_iter_count(from));
		struct folio *folio;
		size_t copied;

		err = -ENOSPC;
		if (pos >= size)
			break;
		err = -EINTR;
		if (fatal_signal_pending(current))
			break;
		folio = store_make_folio(store, index, file);
		err = PTR_ERR_OR_ZERO(folio);
		if (err)
			break;
		index -= folio->index;
		err = -EIO;
		if (PageHWPoison(folio_page(folio, index)))
			break;
		copied = copy_page_from_iter(folio_page(folio, index), offset,
					     bytes, from);
		if (copied && !test_and_set_bit(index, folio_filled(folio))) {
			atomic_long_inc(&store->nr_filled);
			atomic_long_inc(&nr_filled);
		}
		pos += copied;
		done += copied;
		err = -EFAULT;
		if (copied < bytes)
			break;
		err = 0;
		cond_resched();
	}
	return done ?: err;
}
