// SPDX-License-Identifier: GPL-2.0
/*
 * Mappings and views: how they come, fork and go. See view.h for what they
 * are, fault.c for what happens in between.
 */
#include <linux/fs.h>
#include <linux/fs_context.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/pagemap.h>
#include <linux/personality.h>
#include <linux/pseudo_fs.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "compat.h"
#include "entries.h"
#include "limits.h"
#include "view.h"

static atomic64_t last_id;
static struct kmem_cache *view_cache;

/*
 * The pseudo filesystem that mappings' files live on. Its superblock pins the
 * module, so it is mounted only while somebody has a descriptor or a mapping.
 */
static struct vfsmount *view_mnt;
static int view_mnt_pins;

/*
 * What /proc/PID/maps shows. It belongs at the end of the buffer: some callers copy
 * all that follows to the user.
 */
static char *view_dname(struct dentry *dentry, char *buffer, int buflen)
{
	char name[sizeof("/cowpool:") + COWPOOL_NAME_SIZE];
	int size = snprintf(name, sizeof(name), "/cowpool:%s",
			    dentry->d_name.name) + 1;

	if (size > (int)sizeof(name) || size > buflen)
		return ERR_PTR(-ENAMETOOLONG);
	return memcpy(buffer + buflen - size, name, size);
}

static const struct dentry_operations view_dentry_ops = {
	.d_dname = view_dname,
};

static int view_init_fs_context(struct fs_context *fc)
{
	struct pseudo_fs_context *ctx = init_pseudo(fc, 0xc0fb001);

	if (!ctx)
		return -ENOMEM;
	ctx->dops = &view_dentry_ops;
	/* As the kernel expects of anonymous inodes. */
	fc->s_iflags |= SB_I_NOEXEC;
	return 0;
}

static struct file_system_type view_fs = {
	.name = "cowpool",
	.owner = THIS_MODULE,
	.init_fs_context = view_init_fs_context,
	.kill_sb = kill_anon_super,
};

/**
 * cowpool_views_pin() - make sure that files for mappings can be made
 *
 * Return: 0, or -ENOMEM or -EMFILE from mounting it.
 */
int cowpool_views_pin(void)
{
	return simple_pin_fs(&view_fs, &view_mnt, &view_mnt_pins);
}

/**
 * cowpool_views_unpin() - undo cowpool_views_pin()
 */
void cowpool_views_unpin(void)
{
	simple_release_fs(&view_mnt, &view_mnt_pins);
}

/**
 * cowpool_views_setup() - get ready to make views
 *
 * Return: 0 or -ENOMEM.
 */
int cowpool_views_setup(void)
{
	view_cache = KMEM_CACHE(cowpool_view, SLAB_ACCOUNT);
	return view_cache ? 0 : -ENOMEM;
}

/**
 * cowpool_views_teardown() - undo cowpool_views_setup(), when no view is left
 */
void cowpool_views_teardown(void)
{
	kmem_cache_destroy(view_cache);
}

/**
 * cowpool_view_zap() - take a range of a view out of all page tables
 * @view: the view; its relatives by fork lose their entries too, and fault
 *	them in again
 * @first: first page
 * @nr: number of pages
 */
void cowpool_view_zap(struct cowpool_view *view, unsigned long first,
		      unsigned long nr)
{
	unmap_mapping_pages(view->mapping->inode->i_mapping, first, nr, false);
}

/**
 * cowpool_view_lock_faults() - keep faults out
 * @view: the view
 * @vma: a VMA of it, or NULL for one that is locked already
 *
 * There are none half done when this returns, and none begins until the mmap
 * lock is released. (fork() locks one VMA after the other: when it calls
 * ->open for the first of a view that was split, the others are not locked.)
 *
 * Context: the mmap lock of the view's process is held for writing.
 */
void cowpool_view_lock_faults(struct cowpool_view *view,
			      struct vm_area_struct *vma)
{
	VMA_ITERATOR(vmi, view->mm, 0);
	unsigned int left = view->nr_vmas;

	mmap_assert_write_locked(view->mm);
	if (left == 1) {
		if (vma)
			vma_start_write(vma);
		return;
	}
	for_each_vma(vmi, vma) {
		if (cowpool_view_of(vma) != view)
			continue;
		vma_start_write(vma);
		if (!--left)
			break;
	}
}

static struct cowpool_view *view_alloc(struct cowpool_mapping *mapping,
				       struct mm_struct *mm, gfp_t gfp)
{
	struct cowpool_view *view = kmem_cache_zalloc(view_cache, gfp);

	if (!view)
		return NULL;
	view->mapping = mapping;
	view->id = atomic64_inc_return(&last_id);
	view->mm = mm;
	view->nr_vmas = 1;
	mutex_init(&view->lock);
	cowpool_spares_init(&view->spares);
	cow_tree_init(&view->tree, mapping->pool->nr_pages);
	return view;
}

static void view_publish(struct cowpool_view *view)
{
	struct cowpool_pool *pool = view->mapping->pool;

	mutex_lock(&pool->lock);
	list_add_tail(&view->node, &view->mapping->views);
	pool->nr_views++;
	mutex_unlock(&pool->lock);
}

static void view_free(struct cowpool_view *view)
{
	struct cowpool_pool *pool = view->mapping->pool;

	mutex_lock(&pool->lock);
	list_del(&view->node);
	pool->nr_views--;
	view->counters.private_pages = 0;
	cowpool_counters_add(&pool->past, &view->counters);
	mutex_unlock(&pool->lock);

	cow_tree_drop(&view->tree);
	cowpool_spares_drop(&view->spares);
	mutex_destroy(&view->lock);
	kmem_cache_free(view_cache, view);
}

static int zap_run(unsigned long first, unsigned long nr, void *view)
{
	/* With many relatives, and pages here and there, it takes long. */
	if (fatal_signal_pending(current))
		return -EINTR;
	cond_resched();
	cowpool_view_zap(view, first, nr);
	return 0;
}

/*
 * Takes the permission to write out of all entries of granted pages. The
 * caller has locked faults out, and holds the lock.
 *
 * To zap them costs a walk through the reverse mapping for each run of pages,
 * and a fault for each page that is read or written later. It is cheaper to
 * change the entries where they are, and flush TLBs once. But the copy that a
 * later write makes then has an entry to zap, in all relatives: so not if
 * there are any.
 *
 * Return: 0, or -EINTR if the task was killed.
 */
static int view_protect(struct cowpool_view *view, struct vm_area_struct *vma)
{
	struct cowpool_entries entries;
	/* No lock: who has no relatives gets some by its own fork() only. */
	bool alone = data_race(list_is_singular(&view->mapping->views));

	if (!alone || !cowpool_entries_begin(&entries, view, vma))
		return cow_tree_walk_grants(&view->tree, zap_run, view);
	cow_tree_walk_grants(&view->tree, cowpool_entries_protect, &entries);
	cowpool_entries_end(&entries);
	return 0;
}

/* A page table's pages; zapping it all costs about as much as so many runs. */
#define DROP_REGION	PTRS_PER_PTE
#define DROP_RUNS	4

/**
 * struct drop - private pages are on their way out
 * @view: the view
 * @pages: how many so far
 * @region: number of the page table that the last one ends in
 * @nr: runs found that are not zapped yet; more than fit if that page table is to be
 *	zapped as a whole, from the first run on if that begins before it
 * @run: the runs
 */
struct drop {
	struct cowpool_view *view;
	long pages;
	unsigned long region;
	unsigned int nr;
	struct {
		unsigned long first;
		unsigned long nr;
	} run[DROP_RUNS];
};

static void drop_zap(struct drop *drop)
{
	unsigned long end = (drop->region + 1) * DROP_REGION, first;
	unsigned int i;

	if (drop->nr > DROP_RUNS) {
		first = min(drop->run[0].first, end - DROP_REGION);
		cowpool_view_zap(drop->view, first, end - first);
	}
	for (i = 0; i < drop->nr && drop->nr <= DROP_RUNS; i++)
		cowpool_view_zap(drop->view, drop->run[i].first,
				 drop->run[i].nr);
	drop->nr = 0;
}

static int drop_run(unsigned long first, unsigned long nr, void *arg)
{
	struct drop *drop = arg;
	unsigned long region = (first + nr - 1) / DROP_REGION;
	unsigned int last = drop->nr - 1;

	drop->pages += nr;
	/* A long one is told of in pieces. */
	if (drop->nr && drop->nr <= DROP_RUNS &&
	    drop->run[last].first + drop->run[last].nr == first) {
		drop->run[last].nr += nr;
		drop->region = region;
		return 0;
	}
	if (region != drop->region)
		drop_zap(drop);
	drop->region = region;
	if (drop->nr < DROP_RUNS) {
		drop->run[drop->nr].first = first;
		drop->run[drop->nr++].nr = nr;
	} else {
		drop->nr = DROP_RUNS + 1;
	}
	return 0;
}

/**
 * cowpool_view_drop() - go back to the pool's pages in a part of a view
 * @view: the view, whose lock the caller holds. Faults in that part are locked
 *	out, or it is not mapped
 * @first: first page
 * @last: last page
 * @gfp: for nodes of the index
 *
 * Return: the number of pages that differed, or -ENOMEM with the content
 * unchanged.
 */
long cowpool_view_drop(struct cowpool_view *view, unsigned long first,
		       unsigned long last, gfp_t gfp)
{
	struct cowpool_pool *pool = view->mapping->pool;
	struct drop drop = { .view = view };
	int err = 0;

	cow_tree_diff(&view->tree, &pool->tree, first, last, drop_run, &drop);
	drop_zap(&drop);
	if (!first && last == pool->nr_pages - 1) {
		cow_tree_drop(&view->tree);
		cow_tree_share(&view->tree, &pool->tree);
	} else if (drop.pages) {
		err = cow_tree_restore(&view->tree, &pool->tree, first, last,
				       gfp);
	}
	if (err)
		return err;
	view->counters.private_pages -= drop.pages;
	return drop.pages;
}

/**
 * struct share - a cowpool_view_share() under way
 * @from: the view
 * @to: the copy of its tree
 * @vma: the VMA of the view that showed the last page that was held, or NULL
 * @copies: pages copied, since they are held
 * @zaps_ended: no zap is under way that may have made pages look held
 */
struct share {
	struct cowpool_view *from;
	struct cow_tree *to;
	struct vm_area_struct *vma;
	unsigned long copies;
	bool zaps_ended;
};

/*
 * Whether somebody holds on to a granted page. It looks like that, too, while a
 * relative's zap has taken our entry away and not yet dropped its reference.
 * All granted pages have lost their entries if there are relatives, so no zap
 * that begins now does that.
 */
static bool share_held(struct share *share, struct page *page)
{
	struct address_space *mapping = share->from->mapping->inode->i_mapping;

	if (!cowpool_private_held(page, 0))
		return false;
	if (!share->zaps_ended) {
		i_mmap_lock_write(mapping);
		i_mmap_unlock_write(mapping);
		share->zaps_ended = true;
	}
	return cowpool_private_held(page, 0);
}

/*
 * A VMA of the view that shows one of @nr pages from @first on, or NULL if there is
 * none. @gone is going, and does not count any more; or NULL.
 */
static struct vm_area_struct *view_vma(struct cowpool_view *view,
				       unsigned long first, unsigned long nr,
				       const struct vm_area_struct *gone)
{
	VMA_ITERATOR(vmi, view->mm, 0);
	unsigned int left = view->nr_vmas;
	struct vm_area_struct *vma;

	for_each_vma(vmi, vma) {
		if (vma == gone || cowpool_view_of(vma) != view)
			continue;
		if (vma->vm_pgoff < first + nr &&
		    first < vma->vm_pgoff + vma_pages(vma))
			return vma;
		if (!--left)
			break;
	}
	return NULL;
}

static bool vma_shows(struct vm_area_struct *vma, unsigned long index)
{
	return index - vma->vm_pgoff < vma_pages(vma);
}

/*
 * The VMA that shows a page, or NULL. Pages come in ascending order, and so do the
 * VMAs of a view that was split.
 */
static struct vm_area_struct *share_vma(struct share *share, unsigned long index)
{
	struct cowpool_view *from = share->from;
	struct vm_area_struct *vma = share->vma;

	if (vma && !vma_shows(vma, index)) {
		vma = find_vma(from->mm, vma->vm_end);
		if (vma && (cowpool_view_of(vma) != from ||
			    !vma_shows(vma, index)))
			vma = NULL;
	}
	share->vma = vma ?: view_vma(from, index, 1, NULL);
	return share->vma;
}

/*
 * Whoever holds on to a page goes on writing to it, for the view that he got
 * it from. So it stays exclusive there, and @to gets a copy.
 */
static int copy_held(unsigned long first, unsigned long nr, void *arg)
{
	struct share *share = arg;
	struct vm_area_struct *vma;
	unsigned long index, addr;
	struct cow_path path;
	struct page *page, *copy;
	int err;

	for (index = first; index < first + nr; index++) {
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
		page = cow_tree_lookup(&share->from->tree, index, NULL);
		if (!share_held(share, page))
			continue;
		vma = share_vma(share, index);
		addr = vma ? vma->vm_start +
			     ((index - vma->vm_pgoff) << PAGE_SHIFT) : 0;
		copy = cowpool_private_copy(page, NULL, COWPOOL_FRAME_ONE,
					    vma, addr);
		/* What is lost may be shared: it is nobody's content. */
		if (copy == ERR_PTR(-EHWPOISON))
			continue;
		if (IS_ERR(copy))
			return PTR_ERR(copy);
		cow_tree_lookup(share->to, index, &path);
		err = cow_tree_unshare(share->to, &path, GFP_KERNEL_ACCOUNT);
		if (err) {
			cow_page_put(copy);
			return err;
		}
		cow_path_set(&path, copy);
		cow_page_put(page);
		share->copies++;
	}
	return 0;
}

static int grant_again(unsigned long first, unsigned long nr, void *arg)
{
	struct cowpool_view *view = arg;
	struct cow_path path;

	for (; nr--; first++) {
		cow_tree_lookup(&view->tree, first, &path);
		cow_path_grant(&view->tree, &path);
	}
	return 0;
}

/**
 * cowpool_view_share() - make a copy of a view's content at this instant
 * @to: an empty tree
 * @from: the view. Faults in it are locked out
 * @vma: a VMA of it, or what fork() has made of one
 *
 * Takes time for what was written since this was last done.
 *
 * Return: 0, or -ENOMEM or -EDQUOT if a page that somebody holds on to could
 * not be copied, or -EINTR if the task was killed: @to is empty then.
 */
int cowpool_view_share(struct cow_tree *to, struct cowpool_view *from,
		       struct vm_area_struct *vma)
{
	struct share share = { .from = from, .to = to };
	int err;

	mutex_lock(&from->lock);
	err = view_protect(from, vma);
	cow_tree_share(to, &from->tree);
	if (!err)
		err = cow_tree_walk_grants(&from->tree, copy_held, &share);
	if (err) {
		cow_tree_drop(to);
	} else {
		cow_tree_revoke(&from->tree);
		if (share.copies)
			cow_tree_diff(&from->tree, to, 0,
				      from->mapping->pool->nr_pages - 1,
				      grant_again, from);
		from->counters.copies_pinned += share.copies;
	}
	mutex_unlock(&from->lock);
	return err;
}

/* The view that @parent's mapping has in @mm, if it was split before fork. */
static struct cowpool_view *view_find(struct cowpool_view *parent,
				      struct mm_struct *mm)
{
	struct cowpool_pool *pool = parent->mapping->pool;
	struct cowpool_view *view, *found = NULL;

	mutex_lock(&pool->lock);
	/* fork() has just added it. */
	list_for_each_entry_reverse(view, &parent->mapping->views, node) {
		if (view->mm == mm) {
			found = view;
			break;
		}
	}
	mutex_unlock(&pool->lock);
	return found;
}

/* fork() has duplicated a VMA of @parent. */
static struct cowpool_view *view_fork(struct cowpool_view *parent,
				      struct vm_area_struct *vma)
{
	struct mm_struct *mm = vma->vm_mm;
	struct cowpool_view *child;

	if (parent->nr_vmas > 1) {
		child = view_find(parent, mm);
		if (child) {
			child->nr_vmas++;
			return child;
		}
	}
	/* ->open cannot fail, and this is small. */
	child = view_alloc(parent->mapping, mm, GFP_KERNEL | __GFP_NOFAIL);
	cowpool_view_lock_faults(parent, NULL);
	child->doubled = parent->doubled;
	child->broken = parent->broken ||
			cowpool_view_share(&child->tree, parent, vma);
	if (child->broken)
		cow_tree_share(&child->tree, &parent->mapping->pool->tree);
	else
		child->counters.private_pages = parent->counters.private_pages;
	parent->counters.forks++;
	view_publish(child);
	return child;
}

/* Whether @vma shows every page that @part does, of the same view. */
static bool vma_shows_all(struct vm_area_struct *vma,
			  struct vm_area_struct *part)
{
	return vma->vm_pgoff <= part->vm_pgoff &&
	       part->vm_pgoff + vma_pages(part) <= vma->vm_pgoff + vma_pages(vma);
}

/* A VMA was duplicated: by fork(), or within the process by a split or mremap(). */
static void view_open(struct vm_area_struct *vma)
{
	struct cowpool_view *view = vma->vm_private_data;

	if (vma->vm_mm != view->mm) {
		vma->vm_private_data = view_fork(view, vma);
		return;
	}
	view->nr_vmas++;
	/* A split's is still within the one that it comes from; else it is mremap()'s. */
	if (!vma_lookup(vma->vm_mm, vma->vm_start))
		WRITE_ONCE(view->doubled, view->doubled + vma_pages(vma));
}

/*
 * A VMA goes. Its entries are out of the page tables already. With the last
 * one goes the view, with another one what was private there; but if the
 * process is going (exit, exec, a fork() that failed), the last one will do it
 * all.
 */
static void view_close(struct vm_area_struct *vma)
{
	struct cowpool_view *view = vma->vm_private_data;
	struct vm_area_struct *other;

	if (!--view->nr_vmas) {
		view_free(view);
		return;
	}
	if (!vma_pages(vma) || view->mm != current->mm)
		return;
	/*
	 * What mremap() has moved, or failed to move, another one shows. Only then is it
	 * looked for: a view may have as many VMAs as a process can have, all of which
	 * one munmap() takes away.
	 */
	if (view->doubled) {
		other = view_vma(view, vma->vm_pgoff, vma_pages(vma), vma);
		if (other && vma_shows_all(other, vma))
			WRITE_ONCE(view->doubled, view->doubled - vma_pages(vma));
		if (other)
			return;
	}
	mutex_lock(&view->lock);
	/* munmap() cannot fail any more, and this is a few nodes at most. */
	cowpool_view_drop(view, vma->vm_pgoff,
			  vma->vm_pgoff + vma_pages(vma) - 1,
			  GFP_KERNEL_ACCOUNT | __GFP_NOFAIL);
	mutex_unlock(&view->lock);
}

static const struct vm_operations_struct view_vm_ops = {
	.open = view_open,
	.close = view_close,
	.fault = cowpool_view_fault,
	.page_mkwrite = cowpool_view_mkwrite,
	.map_pages = cowpool_map_pages,
};

/* MAP_PRIVATE: the kernel's own copy-on-write over the pool's pages. */
static const struct vm_operations_struct private_vm_ops = {
	.fault = cowpool_map_private_fault,
	.map_pages = cowpool_map_pages,
};

/**
 * cowpool_view_of() - tell whether a VMA shows a view
 * @vma: any VMA
 *
 * Return: the view, or NULL.
 */
struct cowpool_view *cowpool_view_of(const struct vm_area_struct *vma)
{
	return vma->vm_ops == &view_vm_ops ? vma->vm_private_data : NULL;
}

/* The last VMA of the mapping is gone, in all processes. */
static int mapping_release(struct inode *inode, struct file *file)
{
	struct cowpool_mapping *mapping = file->private_data;
	struct cowpool_pool *pool = mapping->pool;

	mutex_lock(&pool->lock);
	list_del(&mapping->node);
	mutex_unlock(&pool->lock);
	cow_store_unuse(pool->store);
	cowpool_pool_put(pool);
	kfree(mapping);
	cowpool_views_unpin();
	return 0;
}

/* No ->mmap: nothing but mmap() on a pool's descriptor makes a mapping. */
static const struct file_operations mapping_fops = {
	.owner = THIS_MODULE,
	.release = mapping_release,
};

/* There is no content. Early 6.12 asks for a build ID there without looking. */
static int mapping_read_folio(struct file *file, struct folio *folio)
{
	folio_unlock(folio);
	return -EIO;
}

static const struct address_space_operations mapping_aops = {
	.read_folio = mapping_read_folio,
	.dirty_folio = noop_dirty_folio,
};

static struct file *mapping_file(struct cowpool_mapping *mapping)
{
	struct cowpool_pool_state state;
	struct inode *inode;
	struct file *file;
	char name[COWPOOL_NAME_SIZE];

	cowpool_pool_state(mapping->pool, &state);
	if (state.name[0])
		strscpy(name, state.name, sizeof(name));
	else
		snprintf(name, sizeof(name), "[%llu]", mapping->pool->id);
	inode = alloc_anon_inode(view_mnt->mnt_sb);
	if (IS_ERR(inode))
		return ERR_CAST(inode);
	/* Who unmounts ends what inotify watches by /proc/PID/map_files. */
	inode_sb_list_add(inode);
	inode->i_mapping->a_ops = &mapping_aops;
	/* Some 6.x would collapse MAP_PRIVATE mappings of what nobody writes to. */
	get_write_access(inode);
	/* Nothing to reclaim, nor to look for by what was accessed. */
	mapping_set_unevictable(inode->i_mapping);
	/* The size lets the kernel map huge pages. */
	i_size_write(inode, (loff_t)mapping->pool->nr_pages << PAGE_SHIFT);
	mapping->inode = inode;

	/* The last fput() drops a reference that nobody takes for us. */
	__module_get(THIS_MODULE);
	file = alloc_file_pseudo(inode, view_mnt, name, O_RDWR, &mapping_fops);
	if (IS_ERR(file)) {
		module_put(THIS_MODULE);
		iput(inode);
		return file;
	}
	file->private_data = mapping;
	return file;
}

/*
 * Makes a mapping. Its file is the only reference on it; dropping the file
 * undoes everything.
 */
static struct file *mapping_create(struct cowpool_pool *pool)
{
	struct cowpool_mapping *mapping;
	struct file *file;
	int err;

	err = cow_store_use(pool->store);
	if (err)
		return ERR_PTR(err);
	err = cowpool_views_pin();
	if (err)
		goto err_unmap;
	err = -ENOMEM;
	mapping = kzalloc(sizeof(*mapping), GFP_KERNEL_ACCOUNT);
	if (!mapping)
		goto err_unpin;
	mapping->pool = pool;
	INIT_LIST_HEAD(&mapping->views);
	file = mapping_file(mapping);
	if (IS_ERR(file)) {
		err = PTR_ERR(file);
		goto err_free;
	}
	cowpool_pool_get(pool);
	mutex_lock(&pool->lock);
	list_add_tail(&mapping->node, &pool->mappings);
	mutex_unlock(&pool->lock);
	return file;

err_free:
	kfree(mapping);
err_unpin:
	cowpool_views_unpin();
err_unmap:
	cow_store_unuse(pool->store);
	return ERR_PTR(err);
}

/**
 * cowpool_view_mmap() - the pool's part of mmap()
 * @pool: the pool
 * @vma: the VMA, not yet known to anybody
 *
 * A MAP_SHARED mapping becomes a view. The flag reads the wrong way round, but
 * the kernel asks ->page_mkwrite for shared mappings only: a driver that wants
 * to copy on write itself has to ask for one.
 *
 * Context: the mmap lock is held for writing.
 *
 * Return: 0, -EINVAL if the VMA reaches beyond the pool, -EPERM if it asks for
 * execution, -ETXTBSY if the pool is being written, -ENFILE, -ENOMEM.
 */
int cowpool_view_mmap(struct cowpool_pool *pool, struct vm_area_struct *vma)
{
	struct cowpool_view *view;
	struct file *file;

	if (vma->vm_pgoff > pool->nr_pages ||
	    vma_pages(vma) > pool->nr_pages - vma->vm_pgoff)
		return -EINVAL;
	/* A personality of old asks for it in the name of programs that do not. */
	if (vma->vm_flags & VM_EXEC &&
	    !(vma->vm_flags & VM_READ &&
	      current->personality & READ_IMPLIES_EXEC))
		return -EPERM;

	file = mapping_create(pool);
	if (IS_ERR(file))
		return PTR_ERR(file);
	if (vma->vm_flags & VM_MAYSHARE) {
		view = view_alloc(file->private_data, vma->vm_mm, GFP_KERNEL);
		if (!view) {
			fput(file);
			return -ENOMEM;
		}
		cow_tree_share(&view->tree, &pool->tree);
		view_publish(view);
		vma->vm_private_data = view;
		vma->vm_ops = &view_vm_ops;
		/* Keeps mremap() from showing one page at two addresses. */
		vm_flags_set(vma, VM_DONTEXPAND);
	} else {
		vma->vm_private_data = pool;
		vma->vm_ops = &private_vm_ops;
	}
	vma_set_file(vma, file);
	fput(file);
	vm_flags_clear(vma, VM_EXEC | VM_MAYEXEC);
	return 0;
}
