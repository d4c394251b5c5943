/* SPDX-License-Identifier: MIT */
/*
 * libcowpool: pools of pages and private copy-on-write views of them, as the
 * cowpool kernel module provides through /dev/cowpool.
 *
 * A pool is a file descriptor and a view is memory, so whatever the C library
 * has for those goes on working: close(2) gives a descriptor back, munmap(2) a
 * view, pread(2) reads a pool, mprotect(2) and madvise(2) treat a view as any
 * other mapping. The functions here do what those cannot, or not as shortly.
 *
 * Errors: functions that return int, or a count, return -1 and set errno;
 * functions that return a pointer return NULL and set errno. The library
 * keeps no state of its own and never touches the file position of a pool's
 * descriptor: any number of threads may call it, on the same descriptor too.
 *
 * Functions that take an address but no descriptor open the device for the
 * time of the call. Beside the errors named below, they fail as open(2) does:
 * with EACCES, ENOENT, EMFILE and so on.
 */
#ifndef COWPOOL_H
#define COWPOOL_H

#include <stddef.h>
#include <stdint.h>
#include <linux/cowpool.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * cowpool_create() - make a new pool
 * @name: the pool's name, or NULL for an anonymous pool
 * @size: its size in bytes, rounded up to whole pages: cowpool_info() tells the
 *	result, which is what cowpool_reset() and cowpool_dirty() want
 * @mode: who may open a named pool: permission bits as of a file (0600, ...)
 *
 * A named pool lives until cowpool_destroy(), an anonymous one as long as
 * somebody has a descriptor or a view of it. Fresh pages read as zero and
 * take no memory.
 *
 * Return: a descriptor (close-on-exec) of the new pool, or -1 and errno:
 * EINVAL for a size of 0 or one that cannot be had, an illegal name or mode;
 * EEXIST if the name is taken; EPERM for the name "default" without CAP_SYS_ADMIN;
 * EDQUOT if the module's max_pool_mib forbids the size, or its max_total_mib one
 * more named pool; ENOMEM, also over RLIMIT_MEMLOCK; ENOENT or ENXIO if the
 * module is not loaded; EACCES without permission for the device; or what open(2)
 * gives.
 */
int cowpool_create(const char *name, uint64_t size, unsigned int mode);

/**
 * cowpool_open() - open an existing named pool
 * @name: the pool's name, or NULL for the pool that the module makes when it
 *	is loaded ("default")
 *
 * Return: a descriptor (close-on-exec), or -1 and errno: ENOENT if there is no
 * such pool or no module, EACCES if the pool's mode forbids reading, EINVAL
 * for an illegal name.
 */
int cowpool_open(const char *name);

/**
 * cowpool_fill() - write a buffer to a pool
 * @fd: the pool
 * @offset: where in the pool, in bytes; any alignment
 * @buf: what to write
 * @length: how much, in bytes
 *
 * As pwrite(2), but for all of @length or an error.
 *
 * Return: 0, or -1 and errno: ETXTBSY while the pool is mapped, EPERM once it
 * is sealed, EACCES without write permission, ENOSPC past the pool's end,
 * ENOMEM over RLIMIT_MEMLOCK, EDQUOT over the module's max_total_mib. After an
 * error a first part of the buffer may have been written.
 */
int cowpool_fill(int fd, uint64_t offset, const void *buf, size_t length);

/**
 * cowpool_fill_from() - write what another descriptor has to a pool
 * @fd: the pool, written from its start
 * @src: a file, pipe or socket, read from where it stands to its end
 *
 * Return: how many bytes were copied, or -1 and errno: as cowpool_fill(), or
 * what read(2) gives. ENOSPC if @src has more than the pool can hold.
 */
int64_t cowpool_fill_from(int fd, int src);

/**
 * cowpool_seal() - forbid writing to a pool for ever
 * @fd: the pool
 *
 * A mapped pool cannot be written either, but only as long as it is mapped.
 *
 * Return: 0, or -1 and errno: EACCES without write permission.
 */
int cowpool_seal(int fd);

/**
 * cowpool_destroy() - take a pool's name away
 * @fd: the pool
 *
 * The name is free at once. The memory goes with the last descriptor or view,
 * which go on working until then.
 *
 * Return: 0, or -1 and errno: EPERM if the caller does not own the pool,
 * ENOENT if it has no name.
 */
int cowpool_destroy(int fd);

/**
 * cowpool_map() - map a pool, privately and copy-on-write
 * @fd: the pool
 * @length: how much of it, in bytes; 0 for all from @offset on
 * @offset: from where, in bytes, a multiple of the page size
 *
 * The new view can be read and written, and shares every page with the pool
 * until it is written to. It goes on after close(2) of @fd; munmap(2) ends it,
 * for which cowpool_info() tells the pool's size if @length was 0.
 *
 * Return: the view's address, or NULL and errno: EINVAL if @offset is no
 * multiple of the page size or the range leaves the pool, ETXTBSY while
 * somebody is writing to the pool, or what mmap(2) gives.
 */
void *cowpool_map(int fd, size_t length, uint64_t offset);

/**
 * cowpool_info() - describe a pool or a view
 * @fd: the pool; with @addr, any descriptor of the device
 * @addr: an address inside a view of the calling process, or NULL to ask for
 *	the pool
 * @info: filled in; with @addr its counters are those of the view
 *
 * Return: 0, or -1 and errno: ENOENT if there is no view at @addr.
 */
int cowpool_info(int fd, const void *addr, struct cowpool_info *info);

/**
 * cowpool_stats() - the counters of a pool or a view
 * @fd: the pool; with @addr, any descriptor of the device
 * @addr: an address inside a view of the calling process, or NULL to ask for
 *	the pool
 * @counters: filled in, see struct cowpool_counters
 *
 * Return: 0, or -1 and errno as cowpool_info().
 */
int cowpool_stats(int fd, const void *addr, struct cowpool_counters *counters);

/**
 * cowpool_snapshot() - freeze a view's content as a new pool
 * @addr: an address inside a view of the calling process
 *
 * The new pool holds what the whole view shows at one instant of the call,
 * whatever other threads write meanwhile. It is anonymous and sealed, and can
 * be read, mapped and so be snapshot again as any pool. The cost is in the
 * pages written since the last snapshot or fork(2), and the relatives that the
 * view has by fork(2), not in the view's size.
 *
 * Return: a descriptor (close-on-exec) of the new pool, or -1 and errno:
 * ENOENT if there is no view at @addr, EIO if fork() could not give it its
 * content, EDQUOT if a page that somebody holds could not be copied for the
 * module's max_total_mib, ENOMEM.
 */
int cowpool_snapshot(const void *addr);

/**
 * cowpool_reset() - throw away what was written to a view
 * @addr: start of the range, a multiple of the page size
 * @len: its length in bytes, a nonzero multiple of the page size. All of the
 *	range is in one view
 * @flags: 0, or COWPOOL_RESET_KEEP to copy the pool's content back into the
 *	pages that are private already, for loops that write the same pages
 *	each time. KEEP does not stop other threads: let them pause. With
 *	COWPOOL_RESET_WRITTEN besides, only into those that were written since
 *	the last reset with both flags
 *
 * The range shows the pool's content again. Opening the device is most of the
 * cost when little was written: a loop for which that counts keeps a descriptor
 * and uses COWPOOL_IOC_RESET itself.
 *
 * Return: how many pages were private, or -1 and errno: ENOENT if not all of the
 * range is in one view, EINVAL for a range that is not made of pages or an unknown
 * flag, EIO if fork() could not give the view its content, EHWPOISON with KEEP if
 * the pool's content is destroyed by a memory error, ENOMEM.
 */
int64_t cowpool_reset(void *addr, size_t len, unsigned int flags);

/**
 * cowpool_dirty() - tell which pages of a view differ from its pool
 * @addr: start of the range to look at, as for cowpool_reset()
 * @len: its length, likewise
 * @ranges: filled in with ranges of addresses, in ascending order
 * @nr: how many fit into @ranges, not 0
 * @flags: 0 for all pages that are private, also those that a reset has kept,
 *	or COWPOOL_DIRTY_CONTENT to leave out those that have the same bytes as
 *	the pool's
 * @next: set to where to go on: @addr + @len when all was looked at
 *
 * So that a small array serves a large view::
 *
 *	char *end = view + length;
 *	void *at = view;
 *
 *	while (at != end) {
 *		int n = cowpool_dirty(at, end - (char *)at, ranges, nr, 0, &at);
 *
 *		if (n < 0)
 *			break;
 *		...
 *	}
 *
 * Return: how many ranges were stored, or -1 and errno: as cowpool_reset().
 */
int cowpool_dirty(const void *addr, size_t len, struct cowpool_range *ranges,
		  unsigned int nr, unsigned int flags, void **next);

/**
 * cowpool_alloc() - allocate a large block of memory
 * @size: in bytes, rounded up to whole pages
 *
 * As malloc(3), for blocks that cowpool_dup() is to copy. The block is zero
 * and takes no memory until it is written to. It is a view of an anonymous
 * pool that nobody else knows; fork(2) gives the child a block of its own.
 *
 * Return: the block, or NULL and errno: EINVAL for a size of 0, EDQUOT over the
 * module's max_pool_mib, ENOMEM.
 */
void *cowpool_alloc(size_t size);

/**
 * cowpool_dup() - make a second block with the same content
 * @ptr: a block of cowpool_alloc() or cowpool_dup(), or a view of all of a pool
 *
 * No page is copied until one of the two is written to. The content is that of
 * one instant, as with cowpool_snapshot(). Either block can be freed first.
 *
 * Return: the new block, or NULL and errno: ENOENT if @ptr is in no view,
 * EINVAL if it is not the start of a whole one, EIO and EDQUOT as
 * cowpool_snapshot(), ENOMEM.
 */
void *cowpool_dup(const void *ptr);

/**
 * cowpool_free() - give a block back
 * @ptr: a block of cowpool_alloc() or cowpool_dup(), or a view of all of a
 *	pool; or NULL, for which nothing is done
 *
 * Return: 0, or -1 and errno: ENOENT and EINVAL as cowpool_dup(). The block is
 * as it was then. One that fork() could not give its content can be freed.
 */
int cowpool_free(void *ptr);

/**
 * cowpool_delta_save() - write to a file how a view differs from its pool
 * @view: a view of all of a pool, or a block
 * @fd: where to write to, from where it stands; it may be a pipe
 * @flags: 0 or COWPOOL_DIRTY_CONTENT, as for cowpool_dirty()
 *
 * What is saved is the view at one instant, as with cowpool_snapshot(). With
 * COWPOOL_DIRTY_CONTENT that is so only if nobody writes to the view
 * meanwhile: a page may be left out since it had the pool's bytes later on.
 *
 * The file's format is described in cowpool_delta(5).
 *
 * Return: 0, or -1 and errno: as cowpool_dup(), or what write(2) gives.
 */
int cowpool_delta_save(const void *view, int fd, unsigned int flags);

/**
 * cowpool_delta_apply() - write what a delta file holds to a view
 * @view: a view of all of a pool, or a block, that shows the content that the
 *	delta was made from
 * @fd: a file that holds a delta and nothing else. Its position does not
 *	matter and stays
 *
 * All of the file is checked before the view is touched.
 *
 * Return: 0, or -1 and errno: EINVAL if the file is no delta, or one of an
 * unknown version; EBADMSG if it is truncated (behind its first 8 bytes, which
 * make it a delta) or corrupted; ERANGE if it is for
 * a pool of another size; ESPIPE for what is no regular file; ENOENT and EINVAL
 * for @view as cowpool_dup(); ENOMEM; or what read(2) gives: EFAULT if the view
 * cannot be written to, after which a part may have been.
 */
int cowpool_delta_apply(void *view, int fd);

#ifdef __cplusplus
}
#endif

#endif /* COWPOOL_H */
