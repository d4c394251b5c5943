/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Pools, their names, and the list of them all.
 *
 * A pool is a store of pages and an index on top of it. A pool that was filled
 * has an empty index; a snapshot's index is the frozen one of a view.
 *
 * Lock order, outermost first:
 *
 *	mmap_lock, VMA locks
 *	  cowpool_pools_lock		names, the list of pools, the totals
 *	    pool->lock			a pool's mappings and views
 *	      view->lock		a view's index and counters
 *	        folio lock
 *	        i_mmap_rwsem, page table locks
 *	        spares.lock		frames allocated ahead
 *	store->lock			the pools that need a store's frames
 *	  xa_lock			the frames
 *
 * User memory is touched under none of them.
 */
#ifndef COWPOOL_POOL_H
#define COWPOOL_POOL_H

#include <linux/cowpool.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/types.h>
#include <linux/uidgid.h>

#include "stats.h"
#include "store.h"
#include "tree.h"

struct cowpool_view;

/**
 * struct cowpool_pool - a fixed-size array of pages
 * @refs: one for each descriptor that acts on the pool, each mapping of it,
 *	and its name if it has one
 * @id: its number, never used twice
 * @nr_pages: size
 * @node: in the list of pools; guarded by cowpool_pools_lock
 * @name: empty if anonymous; guarded by cowpool_pools_lock
 * @name_node: in the list of named pools, if it is one; likewise
 * @pins_module: the name holds a reference on the module; likewise
 * @uid: owner
 * @gid: group
 * @mode: permission bits
 * @sealed: never written again. Set once
 * @store: the page frames. Holds a reference, and if the pool is a snapshot a
 *	cow_store_use()
 * @store_node: in store->pools, or empty while @tree is being made; guarded by
 *	store->lock
 * @asked_node: in store->asked while it is in store->pools; likewise
 * @tree: what differs from @store. Immutable once the pool is in that list; it
 *	never holds a grant
 * @snapshot: made by SNAPSHOT
 * @lock: guards the fields below
 * @mappings: all mappings of the pool
 * @nr_views: live views in them
 * @past: counters of the views that are gone
 */
struct cowpool_pool {
	struct kref refs;
	u64 id;
	unsigned long nr_pages;
	struct list_head node;
	char name[COWPOOL_NAME_SIZE];
	struct list_head name_node;
	bool pins_module;
	kuid_t uid;
	kgid_t gid;
	umode_t mode;
	bool sealed;
	struct cow_store *store;
	struct list_head store_node;
	struct list_head asked_node;
	struct cow_tree tree;
	bool snapshot;

	struct mutex lock;	/* guards the fields below */
	struct list_head mappings;
	unsigned long nr_views;
	struct cowpool_counters past;
};

/**
 * struct cowpool_pool_state - how a pool is at a time
 * @name: its name
 * @state: COWPOOL_STATE_*
 * @filled_pages: pages of its store that hold data
 * @views: live views
 */
struct cowpool_pool_state {
	char name[COWPOOL_NAME_SIZE];
	u32 state;
	u64 filled_pages;
	u64 views;
};

typedef bool (*cowpool_pool_fn)(struct cowpool_pool *pool,
				const struct cowpool_pool_state *state,
				void *arg);
typedef bool (*cowpool_view_fn)(struct cowpool_view *view, void *arg);

int cowpool_pools_setup(unsigned long default_pages);
void cowpool_pools_teardown(void);

struct cowpool_pool *cowpool_pool_create(unsigned long nr_pages,
					 const char *name, umode_t mode,
					 bool pins_module);
struct cowpool_pool *cowpool_pool_create_snapshot(struct cowpool_pool *of);
void cowpool_pool_enter_store(struct cowpool_pool *pool);
struct cowpool_pool *cowpool_pool_find(const char *name);
struct cowpool_pool *cowpool_pool_get(struct cowpool_pool *pool);
void cowpool_pool_put(struct cowpool_pool *pool);
int cowpool_pool_destroy(struct cowpool_pool *pool);
int cowpool_pool_seal(struct cowpool_pool *pool);
bool cowpool_pool_permits(const struct cowpool_pool *pool, umode_t want);

struct page *cowpool_pool_page(const struct cowpool_pool *pool,
			       unsigned long index);
ssize_t cowpool_pool_write(struct cowpool_pool *pool, const struct file *file,
			   loff_t pos, struct iov_iter *from);
ssize_t cowpool_pool_read(struct cowpool_pool *pool, loff_t pos,
			  struct iov_iter *to);

void cowpool_pool_state(struct cowpool_pool *pool,
			struct cowpool_pool_state *state);
void cowpool_pool_counters(struct cowpool_pool *pool,
			   struct cowpool_counters *counters);
void cowpool_totals(struct cowpool_totals *totals);
void cowpool_pools_walk(cowpool_pool_fn fn, void *arg);
void cowpool_views_walk(cowpool_view_fn fn, void *arg);

#endif
