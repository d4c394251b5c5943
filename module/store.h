/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A store: the page frames behind pools. It is filled through one pool and
 * shared by that pool, its snapshots and their views.
 *
 * Content comes in the largest folios that can be had: a write to a page that
 * has no frame yet allocates the largest naturally aligned folio that begins
 * at that page and ends inside the store. So a store that is filled from start
 * to end consists of PMD-sized folios, while pages written here and there take
 * little more than themselves, unless they are at round offsets. Where there
 * is no folio, pages read as zero pages.
 */
#ifndef COWPOOL_STORE_H
#define COWPOOL_STORE_H

#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mm_types.h>
#include <linux/mutex.h>
#include <linux/sched/user.h>
#include <linux/uio.h>
#include <linux/xarray.h>

/**
 * struct cow_store - page frames of a pool
 * @refs: one for each pool over this store
 * @nr_pages: its size
 * @users: number of mappings and snapshots (above 0), or of write() calls under
 *	way (below 0): the content is either written or relied on
 * @folios: the folios by page index. Looked up without a lock, as none is
 *	removed that a pool shows a page of
 * @nr_filled: pages that hold data; folio->private tells which
 * @nr_frames: page frames in @folios
 * @user: owner, charged for them (RLIMIT_MEMLOCK). Holds a reference
 * @lock: guards the lists
 * @pools: the pools that need frames of it, by age. The first is the one that was
 *	filled and shows all of them, while it is there
 * @asked: the same pools, in the order in which to ask whether they show a frame:
 *	whoever did last comes first
 * @unpruned: no pool may show frames from this page on: asking has been given up
 *	there. @nr_pages if it has not
 */
struct cow_store {
	struct kref refs;
	unsigned long nr_pages;
	atomic_t users;
	struct xarray folios;
	atomic_long_t nr_filled;
	atomic_long_t nr_frames;
	struct user_struct *user;

	struct mutex lock;	/* guards the fields below */
	struct list_head pools;
	struct list_head asked;
	unsigned long unpruned;
};

/* Returns 1, 0, or a negative number to end that. */
typedef int (*cow_store_needs_fn)(unsigned long first, unsigned long last,
				  void *arg);

int cow_store_setup(void);
void cow_store_teardown(void);
unsigned long cow_store_frames(void);
unsigned long cow_store_filled(void);

struct cow_store *cow_store_create(unsigned long nr_pages);
struct cow_store *cow_store_get(struct cow_store *store);
void cow_store_put(struct cow_store *store);

int cow_store_charge(struct cow_store *store, unsigned long nr,
		     const struct file *file);
void cow_store_uncharge(struct cow_store *store, unsigned long nr);

int cow_store_use(struct cow_store *store);
void cow_store_unuse(struct cow_store *store);
bool cow_store_write_begin(struct cow_store *store);
void cow_store_write_end(struct cow_store *store);
int cow_store_wait_writers(struct cow_store *store);

struct folio *cow_store_folio(struct cow_store *store, unsigned long index);
bool cow_store_folio_lost(struct folio *folio);
struct page *cow_store_page(struct cow_store *store, unsigned long index);
unsigned long cow_store_prune(struct cow_store *store, unsigned long first,
			      unsigned long last, cow_store_needs_fn needs,
			      void *arg);
ssize_t cow_store_write(struct cow_store *store, const struct file *file,
			loff_t pos, struct iov_iter *from);

/*
 * What pages without a frame read as. One for all would do, but whoever maps a pool of
 * nothing but holes, and forks, takes a reference with each entry, and an int counts
 * them. Neighbours read as different ones, so that a page table has few references to
 * each.
 */
#define COW_ZERO_PAGES	64
extern struct page *cow_zero_pages;

/**
 * cow_zero_page() - tell what a hole reads as
 * @index: index of the page
 */
static inline struct page *cow_zero_page(unsigned long index)
{
	return cow_zero_pages + index % COW_ZERO_PAGES;
}

/**
 * cow_page_is_zero() - tell whether a page is what a hole reads as
 * @page: any page
 */
static inline bool cow_page_is_zero(const struct page *page)
{
	return page >= cow_zero_pages &&
	       page < cow_zero_pages + COW_ZERO_PAGES;
}

#endif
