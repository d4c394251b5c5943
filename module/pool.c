// SPDX-License-Identifier: GPL-2.0
/*
 * Pools: making, naming, filling and counting them. See pool.h.
 */
#include <linux/cred.h>
#include <linux/ctype.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/stat.h>
#include <linux/uio.h>

#include "limits.h"
#include "pool.h"
#include "view.h"

/*
 * Guards the lists and the names of pools, and the counters of former ones. Everybody
 * takes it, so nobody but root walks all pools: there may be any number of anonymous
 * ones.
 */
static DEFINE_MUTEX(cowpool_pools_lock);
static LIST_HEAD(pools);
static LIST_HEAD(named_pools);
static u64 nr_pools;
static u64 next_id = 1;
static struct cowpool_counters past;

static int name_check(const char *name)
{
	size_t len = strnlen(name, COWPOOL_NAME_SIZE);
	size_t i;

	if (len == COWPOOL_NAME_SIZE)
		return -EINVAL;
	for (i = 0; i < len; i++) {
		if (isascii(name[i]) && isalnum(name[i]))
			continue;
		if (name[i] == '_' || (i && (name[i] == '.' || name[i] == '-')))
			continue;
		return -EINVAL;
	}
	return 0;
}

static struct cowpool_pool *find_locked(const char *name)
{
	struct cowpool_pool *pool;

	list_for_each_entry(pool, &named_pools, name_node) {
		if (!strcmp(pool->name, name))
			return pool;
		cond_resched();
	}
	return NULL;
}

static struct cowpool_pool *pool_alloc(unsigned long nr_pages)
{
	struct cowpool_pool *pool = kzalloc(sizeof(*pool), GFP_KERNEL_ACCOUNT);

	if (!pool)
		return NULL;
	kref_init(&pool->refs);
	pool->nr_pages = nr_pages;
	pool->uid = current_fsuid();
	pool->gid = current_fsgid();
	INIT_LIST_HEAD(&pool->store_node);
	cow_tree_init(&pool->tree, nr_pages);
	mutex_init(&pool->lock);
	INIT_LIST_HEAD(&pool->mappings);
	return pool;
}

static void pool_add_locked(struct cowpool_pool *pool)
{
	lockdep_assert_held(&cowpool_pools_lock);
	pool->id = next_id++;
	list_add_tail(&pool->node, &pools);
	nr_pools++;
}

/**
 * cowpool_pool_enter_store() - need the frames that a pool shows, from now on
 * @pool: the pool, whose tree does not change any more. Until now the pool that
 *	it was made from has needed them
 */
void cowpool_pool_enter_store(struct cowpool_pool *pool)
{
	mutex_lock(&pool->store->lock);
	list_add_tail(&pool->store_node, &pool->store->pools);
	list_add_tail(&pool->asked_node, &pool->store->asked);
	mutex_unlock(&pool->store->lock);
}

/**
 * cowpool_pool_create() - make an empty pool
 * @nr_pages: its size, at least 1
 * @name: its name, or "" for an anonymous pool; COWPOOL_NAME_SIZE bytes that
 *	need not be terminated
 * @mode: permission bits
 * @pins_module: the name keeps the module from being unloaded
 *
 * Return: the pool with a reference for the caller, or an ERR_PTR: -EINVAL for
 * a bad name, -EPERM for the default pool's without CAP_SYS_ADMIN, -EEXIST for
 * one that is taken, -EDQUOT for more pages than the module parameters allow,
 * -ENOMEM. A name that pins the module is charged as one frame.
 */
struct cowpool_pool *cowpool_pool_create(unsigned long nr_pages,
					 const char *name, umode_t mode,
					 bool pins_module)
{
	struct cowpool_pool *pool;
	bool charged;
	int err;

	err = name_check(name);
	if (err)
		return ERR_PTR(err);
	/* Every new descriptor acts on it. */
	if (!strcmp(name, COWPOOL_DEFAULT_NAME) && !capable(CAP_SYS_ADMIN))
		return ERR_PTR(-EPERM);
	if (nr_pages > cowpool_max_pool_pages())
		return ERR_PTR(-EDQUOT);
	pool = pool_alloc(nr_pages);
	if (!pool)
		return ERR_PTR(-ENOMEM);
	pool->mode = mode;
	pool->store = cow_store_create(nr_pages);
	if (!pool->store) {
		err = -ENOMEM;
		goto err_free;
	}
	cowpool_pool_enter_store(pool);
	/* A name alone keeps a pool, so there must not be any number of them. */
	charged = name[0] && pins_module;
	err = charged ? cow_store_charge(pool->store, 1, NULL) : 0;
	if (err)
		goto err_store;

	mutex_lock(&cowpool_pools_lock);
	if (name[0] && find_locked(name)) {
		mutex_unlock(&cowpool_pools_lock);
		err = -EEXIST;
		goto err_charge;
	}
	if (name[0]) {
		strscpy(pool->name, name, sizeof(pool->name));
		list_add_tail(&pool->name_node, &named_pools);
		kref_get(&pool->refs);
		pool->pins_module = pins_module;
		if (pins_module)
			__module_get(THIS_MODULE);
	}
	pool_add_locked(pool);
	mutex_unlock(&cowpool_pools_lock);
	return pool;

err_charge:
	if (charged)
		cow_store_uncharge(pool->store, 1);
err_store:
	cow_store_put(pool->store);
err_free:
	kfree(pool);
	return ERR_PTR(err);
}

/**
 * cowpool_pool_create_snapshot() - make a pool for a snapshot
 * @of: the pool below the view
 *
 * Return: a sealed pool whose content is that of @of's store, with a reference
 * for the caller, who fills in its tree and calls cowpool_pool_enter_store();
 * or an ERR_PTR: -ENOMEM.
 */
struct cowpool_pool *cowpool_pool_create_snapshot(struct cowpool_pool *of)
{
	struct cowpool_pool *pool;
	int err;

	err = cow_store_use(of->store);
	if (err)
		return ERR_PTR(err);
	pool = pool_alloc(of->nr_pages);
	if (!pool) {
		cow_store_unuse(of->store);
		return ERR_PTR(-ENOMEM);
	}
	pool->mode = 0600;
	pool->store = cow_store_get(of->store);
	pool->sealed = true;
	pool->snapshot = true;
	mutex_lock(&cowpool_pools_lock);
	pool_add_locked(pool);
	mutex_unlock(&cowpool_pools_lock);
	return pool;
}

/*
 * How many pools may say that they do not show a folio when one leaves, which cannot
 * be killed: if another one does, so that it was in vain; and if none does, which
 * happens once to a folio. A later one goes on there.
 */
#define PRUNE_VAIN	16384
#define PRUNE_USEFUL	1000000

/**
 * struct prune - a search for folios that no pool shows
 * @store: the store, whose lock is held
 * @next: the first page behind the last folio looked at
 * @vain: what is left of PRUNE_VAIN
 * @useful: what is left of PRUNE_USEFUL
 */
struct prune {
	struct cow_store *store;
	unsigned long next;
	unsigned int vain;
	unsigned int useful;
};

/* Whether a pool shows one of these pages of the store. */
static int pages_are_shown(unsigned long first, unsigned long last, void *arg)
{
	struct prune *prune = arg;
	struct cow_store *store = prune->store;
	const struct cow_node *full = NULL;
	struct cowpool_pool *pool;
	unsigned int asked = 0;

	if (!prune->useful)
		return -EBUSY;
	list_for_each_entry(pool, &store->asked, asked_node) {
		if (asked++ == prune->vain) {
			prune->vain = 0;
			return -EBUSY;
		}
		/* Many snapshots may have been taken of what did not change. */
		if (full && pool->tree.root == full)
			continue;
		if (!cow_tree_full(&pool->tree, first, last)) {
			/*
			 * About the next folio, too, and when the next pool
			 * leaves: it may be the last of very many.
			 */
			list_move(&pool->asked_node, &store->asked);
			prune->vain -= asked - 1;
			return 1;
		}
		full = pool->tree.root;
		cond_resched();
	}
	prune->useful -= min(prune->useful, asked);
	return 0;
}

static int prune_run(unsigned long first, unsigned long nr, void *arg)
{
	struct prune *prune = arg;
	unsigned long last = first + nr - 1;

	cond_resched();
	first = max(first, prune->next);
	if (first > last)
		return 0;
	prune->next = cow_store_prune(prune->store, first, last,
				      pages_are_shown, prune);
	return prune->next <= last;
}

/*
 * Frees the frames that @pool was the last one to show. A folio of which no
 * other pool shows a page is one where all of them have their own, and @pool has
 * not: so it is enough to look where another one differs from it, and where earlier
 * ones gave up. One that was made shortly before or after differs least.
 */
static void pool_leave_store(struct cowpool_pool *pool)
{
	struct cow_store *store = pool->store;
	struct prune prune = {
		.store = store,
		.vain = PRUNE_VAIN,
		.useful = PRUNE_USEFUL,
	};
	struct cowpool_pool *other;

	mutex_lock(&store->lock);
	if (list_empty(&pool->store_node))
		goto out;
	if (list_is_first(&pool->store_node, &store->pools))
		other = list_next_entry(pool, store_node);
	else
		other = list_prev_entry(pool, store_node);
	list_del(&pool->store_node);
	list_del(&pool->asked_node);
	/* The pool that was filled shows all. */
	if (list_empty(&store->pools) ||
	    cow_tree_empty(&list_first_entry(&store->pools, struct cowpool_pool,
					     store_node)->tree))
		goto out;
	if (cow_tree_diff(&pool->tree, &other->tree, 0, pool->nr_pages - 1,
			  prune_run, &prune)) {
		store->unpruned = min(store->unpruned, prune.next);
		goto out;
	}
	prune.next = store->unpruned;
	store->unpruned = store->nr_pages;
	if (prune_run(prune.next, store->nr_pages - prune.next, &prune))
		store->unpruned = prune.next;
out:
	mutex_unlock(&store->lock);
}

/**
 * cowpool_pool_find() - find a pool by its name
 * @name: the name; COWPOOL_NAME_SIZE bytes that need not be terminated
 *
 * Return: the pool with a reference for the caller, or an ERR_PTR: -EINVAL for
 * something that is no name, -ENOENT.
 */
struct cowpool_pool *cowpool_pool_find(const char *name)
{
	struct cowpool_pool *pool;
	int err = name_check(name);

	if (err || !name[0])
		return ERR_PTR(-EINVAL);
	mutex_lock(&cowpool_pools_lock);
	pool = find_locked(name);
	if (pool)
		cowpool_pool_get(pool);
	mutex_unlock(&cowpool_pools_lock);
	return pool ?: ERR_PTR(-ENOENT);
}

/**
 * cowpool_pool_get() - take a reference
 * @pool: the pool
 *
 * Return: @pool.
 */
struct cowpool_pool *cowpool_pool_get(struct cowpool_pool *pool)
{
	kref_get(&pool->refs);
	return pool;
}

/* The last reference is gone: no name that it could be found by, no descriptor, no mapping. */
static void pool_free(struct kref *refs)
{
	struct cowpool_pool *pool = container_of(refs, struct cowpool_pool,
						 refs);

	mutex_lock(&cowpool_pools_lock);
	list_del(&pool->node);
	if (pool->name[0])
		list_del(&pool->name_node);
	nr_pools--;
	cowpool_counters_add(&past, &pool->past);
	mutex_unlock(&cowpool_pools_lock);

	pool_leave_store(pool);
	cow_tree_drop(&pool->tree);
	if (pool->snapshot)
		cow_store_unuse(pool->store);
	cow_store_put(pool->store);
	mutex_destroy(&pool->lock);
	kfree(pool);
}

/**
 * cowpool_pool_put() - drop a reference
 * @pool: is freed with the last one
 */
void cowpool_pool_put(struct cowpool_pool *pool)
{
	kref_put(&pool->refs, pool_free);
}

/**
 * cowpool_pool_destroy() - take a pool's name away
 * @pool: the pool; the caller holds a reference, and its memory stays until
 *	the last is dropped
 *
 * Return: 0, -ENOENT if it has no name, or -EPERM.
 */
int cowpool_pool_destroy(struct cowpool_pool *pool)
{
	bool pinned;

	if (!uid_eq(current_fsuid(), pool->uid) && !capable(CAP_FOWNER))
		return -EPERM;
	mutex_lock(&cowpool_pools_lock);
	if (!pool->name[0]) {
		mutex_unlock(&cowpool_pools_lock);
		return -ENOENT;
	}
	pool->name[0] = '\0';
	list_del(&pool->name_node);
	pinned = pool->pins_module;
	pool->pins_module = false;
	mutex_unlock(&cowpool_pools_lock);

	if (pinned)
		cow_store_uncharge(pool->store, 1);
	cowpool_pool_put(pool);
	if (pinned)
		module_put(THIS_MODULE);
	return 0;
}

/**
 * cowpool_pool_permits() - check permission bits
 * @pool: the pool
 * @want: 4 to read, 2 to write, or both
 *
 * Return: true if the calling process has the permission, as with a file.
 */
bool cowpool_pool_permits(const struct cowpool_pool *pool, umode_t want)
{
	umode_t mode = pool->mode;

	if (uid_eq(current_fsuid(), pool->uid))
		mode >>= 6;
	else if (in_group_p(pool->gid))
		mode >>= 3;
	return (mode & want) == want || capable(CAP_DAC_OVERRIDE);
}

/**
 * cowpool_pool_seal() - refuse all writes from now on
 * @pool: the pool
 *
 * Return: 0 when all writes have ended, or -EINTR if the task was killed while
 * it waited for that.
 */
int cowpool_pool_seal(struct cowpool_pool *pool)
{
	WRITE_ONCE(pool->sealed, true);
	/* Pairs with the barrier in cow_store_write_begin(). */
	smp_mb();
	return cow_store_wait_writers(pool->store) ? -EINTR : 0;
}

/**
 * cowpool_pool_page() - look up what a pool holds
 * @pool: the pool
 * @index: index of the page
 *
 * Return: the page, which is a zero page if nothing was written there. It
 * stays valid as long as the pool, which must not be written meanwhile if the
 * content is to stay.
 */
struct page *cowpool_pool_page(const struct cowpool_pool *pool,
			       unsigned long index)
{
	struct page *page = cow_tree_lookup(&pool->tree, index, NULL);

	if (!page)
		page = cow_store_page(pool->store, index);
	return page ?: cow_zero_page(index);
}

/**
 * cowpool_pool_write() - write to a pool
 * @pool: the pool
 * @file: what is written to
 * @pos: offset in bytes
 * @from: the data
 *
 * Return: as cow_store_write(), or -EPERM if the pool is sealed, -ETXTBSY if
 * it is mapped or has snapshots.
 */
ssize_t cowpool_pool_write(struct cowpool_pool *pool, const struct file *file,
			   loff_t pos, struct iov_iter *from)
{
	ssize_t ret;

	if (READ_ONCE(pool->sealed))
		return -EPERM;
	if (!cow_store_write_begin(pool->store))
		return -ETXTBSY;
	/* Either SEAL waits for us, or we see that it came in between. */
	if (READ_ONCE(pool->sealed))
		ret = -EPERM;
	else
		ret = cow_store_write(pool->store, file, pos, from);
	cow_store_write_end(pool->store);
	return ret;
}

/**
 * cowpool_pool_read() - read from a pool
 * @pool: the pool
 * @pos: offset in bytes
 * @to: where to
 *
 * Return: the number of bytes read, 0 at the end, or -EFAULT, -EINTR or -EIO
 * (a memory error) if there were none.
 */
ssize_t cowpool_pool_read(struct cowpool_pool *pool, loff_t pos,
			  struct iov_iter *to)
{
	loff_t size = (loff_t)pool->nr_pages << PAGE_SHIFT;
	ssize_t done = 0;

	while (pos < size && iov_iter_count(to)) {
		struct page *page = cowpool_pool_page(pool, pos >> PAGE_SHIFT);
		size_t offset = offset_in_page(pos);
		size_t bytes = min(PAGE_SIZE - offset, iov_iter_count(to));
		size_t copied;

		if (fatal_signal_pending(current))
			return done ?: -EINTR;
		if (PageHWPoison(page))
			return done ?: -EIO;
		/*
		 * Not copy_page_to_iter(), which may put the page itself into
		 * a pipe. There is no highmem on 64 bit.
		 */
		copied = copy_to_iter(page_address(page) + offset, bytes, to);
		pos += copied;
		done += copied;
		if (copied < bytes)
			return done ?: -EFAULT;
		cond_resched();
	}
	return done;
}

/* As cowpool_views_walk(), for one pool. The caller holds pool->lock. */
static bool pool_views_walk(struct cowpool_pool *pool, cowpool_view_fn fn,
			    void *arg)
{
	struct cowpool_mapping *mapping;
	struct cowpool_view *view;

	lockdep_assert_held(&pool->lock);
	/* There may be any number of pools, and of views of each. */
	cond_resched();
	list_for_each_entry(mapping, &pool->mappings, node) {
		list_for_each_entry(view, &mapping->views, node) {
			if (!fn(view, arg))
				return false;
			cond_resched();
		}
	}
	return true;
}

static bool view_counters_add(struct cowpool_view *view, void *sum)
{
	struct cowpool_counters now;

	cowpool_counters_read(&now, &view->counters);
	cowpool_counters_add(sum, &now);
	return true;
}

/* Adds what @pool has counted until now. The caller holds pool->lock. */
static void pool_counters_add(struct cowpool_pool *pool,
			      struct cowpool_counters *sum)
{
	cowpool_counters_add(sum, &pool->past);
	pool_views_walk(pool, view_counters_add, sum);
}

/**
 * cowpool_pool_counters() - tell what a pool has counted until now
 * @pool: the pool
 * @counters: filled in
 *
 * Takes time for every view of the pool.
 */
void cowpool_pool_counters(struct cowpool_pool *pool,
			   struct cowpool_counters *counters)
{
	memset(counters, 0, sizeof(*counters));
	mutex_lock(&pool->lock);
	pool_counters_add(pool, counters);
	mutex_unlock(&pool->lock);
}

static void pool_state_locked(struct cowpool_pool *pool,
			      struct cowpool_pool_state *state)
{
	lockdep_assert_held(&cowpool_pools_lock);
	memset(state, 0, sizeof(*state));
	strscpy(state->name, pool->name, sizeof(state->name));
	if (READ_ONCE(pool->sealed))
		state->state |= COWPOOL_STATE_SEALED;
	if (atomic_read(&pool->store->users) > 0)
		state->state |= COWPOOL_STATE_MAPPED;
	if (pool->snapshot)
		state->state |= COWPOOL_STATE_SNAPSHOT;
	state->filled_pages = atomic_long_read(&pool->store->nr_filled);
	state->views = READ_ONCE(pool->nr_views);
}

/**
 * cowpool_pool_state() - tell how a pool is now
 * @pool: the pool
 * @state: filled in
 */
void cowpool_pool_state(struct cowpool_pool *pool,
			struct cowpool_pool_state *state)
{
	mutex_lock(&cowpool_pools_lock);
	pool_state_locked(pool, state);
	mutex_unlock(&cowpool_pools_lock);
}

/**
 * cowpool_totals() - tell what is to be known about the module now
 * @totals: filled in
 */
void cowpool_totals(struct cowpool_totals *totals)
{
	struct cowpool_pool *pool;

	memset(totals, 0, sizeof(*totals));
	mutex_lock(&cowpool_pools_lock);
	totals->pools = nr_pools;
	cowpool_counters_add(&totals->counters, &past);
	list_for_each_entry(pool, &pools, node) {
		mutex_lock(&pool->lock);
		totals->views += pool->nr_views;
		pool_counters_add(pool, &totals->counters);
		mutex_unlock(&pool->lock);
	}
	mutex_unlock(&cowpool_pools_lock);
	totals->filled_pages = cow_store_filled();
	totals->pool_frames = cow_store_frames();
	totals->private_frames = cowpool_private_frames();
	totals->spare_frames = cowpool_spare_frames();
	totals->nodes = cow_tree_nodes();
}

/**
 * cowpool_pools_walk() - call a function for every pool
 * @fn: the function, which must not take a reference: the last may be gone. Returns
 *	false to end that
 * @arg: passed to it
 */
void cowpool_pools_walk(cowpool_pool_fn fn, void *arg)
{
	struct cowpool_pool_state state;
	struct cowpool_pool *pool;

	mutex_lock(&cowpool_pools_lock);
	list_for_each_entry(pool, &pools, node) {
		pool_state_locked(pool, &state);
		if (!fn(pool, &state, arg))
			break;
	}
	mutex_unlock(&cowpool_pools_lock);
}

/**
 * cowpool_views_walk() - call a function for every live view
 * @fn: the function. Runs under the lock of the view's pool: neither view nor
 *	its mm go away. Returns false to end that
 * @arg: passed to it
 */
void cowpool_views_walk(cowpool_view_fn fn, void *arg)
{
	struct cowpool_pool *pool;
	bool go_on;

	mutex_lock(&cowpool_pools_lock);
	list_for_each_entry(pool, &pools, node) {
		mutex_lock(&pool->lock);
		go_on = pool_views_walk(pool, fn, arg);
		mutex_unlock(&pool->lock);
		if (!go_on)
			break;
	}
	mutex_unlock(&cowpool_pools_lock);
}

/**
 * cowpool_pools_setup() - make the default pool
 * @default_pages: its size, or 0 for none
 *
 * Return: 0, -EDQUOT or -ENOMEM.
 */
int cowpool_pools_setup(unsigned long default_pages)
{
	struct cowpool_pool *pool;

	if (!default_pages)
		return 0;
	/* The device's own permissions say who may use it. */
	pool = cowpool_pool_create(default_pages, COWPOOL_DEFAULT_NAME, 0666,
				   false);
	if (IS_ERR(pool))
		return PTR_ERR(pool);
	cowpool_pool_put(pool);
	return 0;
}

/**
 * cowpool_pools_teardown() - drop the default pool, the only one left
 */
void cowpool_pools_teardown(void)
{
	struct cowpool_pool *pool = list_first_entry_or_null(&pools,
					struct cowpool_pool, node);

	if (pool)
		cowpool_pool_put(pool);
}
