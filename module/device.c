// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/cowpool: descriptors, file operations and ioctls. Arguments are
 * checked here; the work is done by pool.c, view.c and snapshot.c.
 */
#include <linux/anon_inodes.h>
#include <linux/cowpool.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/splice.h>
#include <linux/uaccess.h>
#include <linux/user_namespace.h>

#include "compat.h"
#include "device.h"
#include "snapshot.h"
#include "view.h"

/**
 * struct cowpool_fd - an open descriptor
 * @lock: guards the fields below
 * @pool: the pool that it acts on, or NULL if there was no default pool.
 *	Holds a reference
 * @may_write: the pool's permission bits allow to fill and to seal it
 */
struct cowpool_fd {
	spinlock_t lock;	/* guards the fields below */
	struct cowpool_pool *pool;
	bool may_write;
};

/* The pool of a descriptor, with a reference. */
static struct cowpool_pool *fd_pool(struct file *file, bool *may_write)
{
	struct cowpool_fd *fd = file->private_data;
	struct cowpool_pool *pool;

	spin_lock(&fd->lock);
	pool = fd->pool;
	if (pool)
		cowpool_pool_get(pool);
	if (may_write)
		*may_write = fd->may_write;
	spin_unlock(&fd->lock);
	return pool ?: ERR_PTR(-ENXIO);
}

/* The same, for those who change the pool. */
static struct cowpool_pool *fd_pool_to_write(struct file *file)
{
	struct cowpool_pool *pool;
	bool may_write;

	if (!(file->f_mode & FMODE_WRITE))
		return ERR_PTR(-EBADF);
	pool = fd_pool(file, &may_write);
	if (!IS_ERR(pool) && !may_write) {
		cowpool_pool_put(pool);
		return ERR_PTR(-EACCES);
	}
	return pool;
}

/* Makes a descriptor act on @pool, whose reference passes to it. */
static void fd_set_pool(struct file *file, struct cowpool_pool *pool,
			bool may_write)
{
	struct cowpool_fd *fd = file->private_data;
	struct cowpool_pool *old;

	spin_lock(&fd->lock);
	old = fd->pool;
	fd->pool = pool;
	fd->may_write = may_write;
	spin_unlock(&fd->lock);
	if (old)
		cowpool_pool_put(old);
}

static const struct file_operations cowpool_fops;

static struct cowpool_fd *fd_alloc(void)
{
	struct cowpool_fd *fd;
	int err;

	err = cowpool_views_pin();
	if (err)
		return ERR_PTR(err);
	fd = kzalloc(sizeof(*fd), GFP_KERNEL_ACCOUNT);
	if (!fd) {
		cowpool_views_unpin();
		return ERR_PTR(-ENOMEM);
	}
	spin_lock_init(&fd->lock);
	return fd;
}

static void fd_free(struct cowpool_fd *fd)
{
	if (fd->pool)
		cowpool_pool_put(fd->pool);
	kfree(fd);
	cowpool_views_unpin();
}

static int cowpool_open(struct inode *inode, struct file *file)
{
	struct cowpool_fd *fd = fd_alloc();
	struct cowpool_pool *pool;

	if (IS_ERR(fd))
		return PTR_ERR(fd);
	file->private_data = fd;
	pool = cowpool_pool_find(COWPOOL_DEFAULT_NAME);
	if (!IS_ERR(pool)) {
		if (cowpool_pool_permits(pool, 4))
			fd_set_pool(file, pool, cowpool_pool_permits(pool, 2));
		else
			cowpool_pool_put(pool);
	}
	return 0;
}

static int cowpool_release(struct inode *inode, struct file *file)
{
	fd_free(file->private_data);
	return 0;
}

static loff_t cowpool_llseek(struct file *file, loff_t offset, int whence)
{
	struct cowpool_pool *pool = fd_pool(file, NULL);
	loff_t ret;

	if (IS_ERR(pool))
		return PTR_ERR(pool);
	ret = fixed_size_llseek(file, offset, whence,
				(loff_t)pool->nr_pages << PAGE_SHIFT);
	cowpool_pool_put(pool);
	return ret;
}

static ssize_t cowpool_read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	struct cowpool_pool *pool = fd_pool(iocb->ki_filp, NULL);
	ssize_t ret;

	if (IS_ERR(pool))
		return PTR_ERR(pool);
	ret = cowpool_pool_read(pool, iocb->ki_pos, to);
	if (ret > 0)
		iocb->ki_pos += ret;
	cowpool_pool_put(pool);
	return ret;
}

static ssize_t cowpool_write_iter(struct kiocb *iocb, struct iov_iter *from)
{
	struct cowpool_pool *pool = fd_pool_to_write(iocb->ki_filp);
	ssize_t ret;

	if (IS_ERR(pool))
		return PTR_ERR(pool);
	if (iocb->ki_flags & IOCB_APPEND)
		iocb->ki_pos = (loff_t)pool->nr_pages << PAGE_SHIFT;
	ret = cowpool_pool_write(pool, iocb->ki_filp, iocb->ki_pos, from);
	if (ret > 0)
		iocb->ki_pos += ret;
	cowpool_pool_put(pool);
	return ret;
}

static int cowpool_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct cowpool_pool *pool = fd_pool(file, NULL);
	int err;

	if (IS_ERR(pool))
		return PTR_ERR(pool);
	err = cowpool_view_mmap(pool, vma);
	cowpool_pool_put(pool);
	return err;
}

static int ioctl_create(struct file *file, const void __user *uarg)
{
	struct cowpool_create arg;
	struct cowpool_pool *pool;

	if (!(file->f_mode & FMODE_WRITE))
		return -EBADF;
	if (copy_from_user(&arg, uarg, sizeof(arg)))
		return -EFAULT;
	if (arg.flags || arg.mode & ~0777 ||
	    memchr_inv(arg.reserved, 0, sizeof(arg.reserved)))
		return -EINVAL;
	if (!arg.size || arg.size > LLONG_MAX || !PAGE_ALIGNED(arg.size))
		return -EINVAL;
	pool = cowpool_pool_create(arg.size >> PAGE_SHIFT, arg.name, arg.mode,
				   true);
	if (IS_ERR(pool))
		return PTR_ERR(pool);
	fd_set_pool(file, pool, true);
	return 0;
}

static int ioctl_attach(struct file *file, const void __user *uarg)
{
	struct cowpool_attach arg;
	struct cowpool_pool *pool;

	if (copy_from_user(&arg, uarg, sizeof(arg)))
		return -EFAULT;
	if (arg.flags || arg.reserved)
		return -EINVAL;
	pool = cowpool_pool_find(arg.name);
	if (IS_ERR(pool))
		return PTR_ERR(pool);
	if (!cowpool_pool_permits(pool, 4)) {
		cowpool_pool_put(pool);
		return -EACCES;
	}
	fd_set_pool(file, pool, cowpool_pool_permits(pool, 2));
	return 0;
}

static int ioctl_seal(struct file *file)
{
	struct cowpool_pool *pool = fd_pool_to_write(file);
	int err;

	if (IS_ERR(pool))
		return PTR_ERR(pool);
	err = cowpool_pool_seal(pool);
	cowpool_pool_put(pool);
	return err;
}

static int ioctl_destroy(struct file *file)
{
	struct cowpool_pool *pool = fd_pool(file, NULL);
	int err;

	if (IS_ERR(pool))
		return PTR_ERR(pool);
	err = cowpool_pool_destroy(pool);
	cowpool_pool_put(pool);
	return err;
}

static void info_of_pool(struct cowpool_pool *pool, struct cowpool_info *info)
{
	struct cowpool_pool_state state;

	cowpool_pool_state(pool, &state);
	info->state = state.state;
	info->pool_id = pool->id;
	info->size = (u64)pool->nr_pages << PAGE_SHIFT;
	info->filled_pages = state.filled_pages;
	info->views = state.views;
	info->mode = pool->mode;
	info->uid = from_kuid_munged(current_user_ns(), pool->uid);
	info->gid = from_kgid_munged(current_user_ns(), pool->gid);
	info->page_size = PAGE_SIZE;
	strscpy(info->name, state.name, sizeof(info->name));
}

static int info_of_view(u64 addr, struct cowpool_info *info)
{
	struct vm_area_struct *vma;
	struct cowpool_view *view;
	int err = -ENOENT;

	if (mmap_read_lock_killable(current->mm))
		return -EINTR;
	vma = vma_lookup(current->mm, addr);
	view = vma ? cowpool_view_of(vma) : NULL;
	if (view) {
		info_of_pool(view->mapping->pool, info);
		info->view_id = view->id;
		cowpool_counters_read(&info->counters, &view->counters);
		err = 0;
	}
	mmap_read_unlock(current->mm);
	return err;
}

static int ioctl_info(struct file *file, void __user *uarg)
{
	struct cowpool_info info;
	struct cowpool_pool *pool;
	int err = 0;
	u64 addr;

	if (copy_from_user(&info, uarg, sizeof(info)))
		return -EFAULT;
	addr = info.addr;
	if (info.flags & ~COWPOOL_INFO_VIEW ||
	    memchr_inv(info.reserved, 0, sizeof(info.reserved)))
		return -EINVAL;
	if (info.flags & COWPOOL_INFO_VIEW) {
		memset(&info, 0, sizeof(info));
		info.flags = COWPOOL_INFO_VIEW;
		info.addr = addr;
		err = info_of_view(addr, &info);
	} else {
		if (addr)
			return -EINVAL;
		pool = fd_pool(file, NULL);
		if (IS_ERR(pool))
			return PTR_ERR(pool);
		memset(&info, 0, sizeof(info));
		info_of_pool(pool, &info);
		cowpool_pool_counters(pool, &info.counters);
		cowpool_pool_put(pool);
	}
	if (!err && copy_to_user(uarg, &info, sizeof(info)))
		err = -EFAULT;
	return err;
}

/*
 * A file that acts on no pool yet, as if it came from open(). Whoever was not given
 * @from for writing cannot write to this one either; nor read.
 */
static struct file *fd_create(const struct file *from)
{
	struct cowpool_fd *fd = fd_alloc();
	struct file *file;

	if (IS_ERR(fd))
		return ERR_CAST(fd);
	file = anon_inode_getfile("[cowpool]", &cowpool_fops, fd,
				  from->f_flags & O_ACCMODE);
	if (IS_ERR(file))
		fd_free(fd);
	else
		file->f_mode |= FMODE_LSEEK | FMODE_PREAD | FMODE_PWRITE;
	return file;
}

static int ioctl_snapshot(const struct file *from, const void __user *uarg)
{
	struct cowpool_snapshot arg;
	struct cowpool_pool *pool;
	struct file *file;
	int fd;

	if (copy_from_user(&arg, uarg, sizeof(arg)))
		return -EFAULT;
	if (arg.flags || arg.reserved)
		return -EINVAL;
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;
	/* Last comes what the view notices, so that nothing fails after it. */
	file = fd_create(from);
	pool = IS_ERR(file) ? ERR_CAST(file) : cowpool_snapshot(arg.addr);
	if (IS_ERR(pool)) {
		if (!IS_ERR(file))
			fput(file);
		put_unused_fd(fd);
		return PTR_ERR(pool);
	}
	fd_set_pool(file, pool, true);
	fd_install(fd, file);
	return fd;
}

static int ioctl_reset(void __user *uarg)
{
	struct cowpool_reset arg;
	long pages;

	if (copy_from_user(&arg, uarg, sizeof(arg)))
		return -EFAULT;
	if (arg.flags & ~(COWPOOL_RESET_KEEP | COWPOOL_RESET_WRITTEN) ||
	    arg.flags == COWPOOL_RESET_WRITTEN || arg.reserved)
		return -EINVAL;
	pages = cowpool_reset(arg.addr, arg.len, arg.flags);
	if (pages < 0)
		return pages;
	arg.pages = pages;
	return copy_to_user(uarg, &arg, sizeof(arg)) ? -EFAULT : 0;
}

static long ioctl_dirty(void __user *uarg)
{
	struct cowpool_dirty arg;
	long nr;

	if (copy_from_user(&arg, uarg, sizeof(arg)))
		return -EFAULT;
	if (arg.flags & ~COWPOOL_DIRTY_CONTENT || arg.reserved ||
	    !arg.nr_ranges || arg.nr_ranges > INT_MAX)
		return -EINVAL;
	nr = cowpool_dirty(&arg);
	if (nr < 0)
		return nr;
	return copy_to_user(uarg, &arg, sizeof(arg)) ? -EFAULT : nr;
}

static long cowpool_ioctl(struct file *file, unsigned int cmd,
			  unsigned long arg)
{
	void __user *uarg = (void __user *)arg;

	switch (cmd) {
	case COWPOOL_IOC_CREATE:
		return ioctl_create(file, uarg);
	case COWPOOL_IOC_ATTACH:
		return ioctl_attach(file, uarg);
	case COWPOOL_IOC_SEAL:
		return ioctl_seal(file);
	case COWPOOL_IOC_DESTROY:
		return ioctl_destroy(file);
	case COWPOOL_IOC_INFO:
		return ioctl_info(file, uarg);
	case COWPOOL_IOC_SNAPSHOT:
		return ioctl_snapshot(file, uarg);
	case COWPOOL_IOC_RESET:
		return ioctl_reset(uarg);
	case COWPOOL_IOC_DIRTY:
		return ioctl_dirty(uarg);
	default:
		return -ENOTTY;
	}
}

static const struct file_operations cowpool_fops = {
	.owner = THIS_MODULE,
	.open = cowpool_open,
	.release = cowpool_release,
	.llseek = cowpool_llseek,
	.read_iter = cowpool_read_iter,
	.write_iter = cowpool_write_iter,
	.splice_read = copy_splice_read,
	.splice_write = iter_file_splice_write,
	.mmap = cowpool_mmap,
	/* PMD-aligned addresses, for huge pages. */
	.get_unmapped_area = thp_get_unmapped_area,
	.unlocked_ioctl = cowpool_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static struct miscdevice cowpool_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "cowpool",
	.mode = 0600,
	.fops = &cowpool_fops,
};

/**
 * cowpool_device_setup() - make the device
 *
 * From here on it can be opened: everything else must be ready.
 *
 * Return: 0 or an error.
 */
int cowpool_device_setup(void)
{
	return misc_register(&cowpool_device);
}

/**
 * cowpool_device_teardown() - remove the device
 */
void cowpool_device_teardown(void)
{
	misc_deregister(&cowpool_device);
}
