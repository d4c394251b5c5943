/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The ioctl interface of /dev/cowpool.
 *
 * A *pool* is a fixed-size array of pages. A *view* is one private
 * copy-on-write mapping of a pool: mmap(MAP_SHARED) on a pool's file
 * descriptor makes one. Documentation/uapi.rst describes every call.
 *
 * Every struct is the same on 32 and 64 bit. Unknown flags and nonzero
 * reserved fields are refused with EINVAL, so that they can get a meaning
 * later.
 */
#ifndef _UAPI_LINUX_COWPOOL_H
#define _UAPI_LINUX_COWPOOL_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define COWPOOL_DEVICE		"/dev/cowpool"

/* The pool that a newly opened descriptor acts on. */
#define COWPOOL_DEFAULT_NAME	"default"

/*
 * Size of a name's buffer, terminating NUL included. A name consists of
 * letters, digits, '.', '_' and '-', and does not start with '.' or '-'.
 */
#define COWPOOL_NAME_SIZE	32

/**
 * struct cowpool_create - argument of COWPOOL_IOC_CREATE
 * @size: size of the pool in bytes, a nonzero multiple of the page size
 * @flags: none yet, must be 0
 * @mode: who may attach to the named pool: permission bits as of a file
 *	(0 to 0777; the execute bits mean nothing)
 * @name: the new pool's name, or an empty string for an anonymous pool
 * @reserved: must be 0
 */
struct cowpool_create {
	__u64 size;
	__u32 flags;
	__u32 mode;
	char name[COWPOOL_NAME_SIZE];
	__u64 reserved[2];
};

/**
 * struct cowpool_attach - argument of COWPOOL_IOC_ATTACH
 * @flags: none yet, must be 0
 * @reserved: must be 0
 * @name: the pool to attach to
 */
struct cowpool_attach {
	__u32 flags;
	__u32 reserved;
	char name[COWPOOL_NAME_SIZE];
};

/**
 * struct cowpool_counters - what has happened, exactly
 * @read_faults: page faults for reading that this module has served
 * @copies_first_touch: pages copied by a write to a page that had no entry
 *	in the writer's page table
 * @copies_after_read: pages copied by a write to a page that was mapped
 *	read-only
 * @copies_pinned: pages copied by fork() or SNAPSHOT itself, since somebody
 *	else (a read with O_DIRECT under way, say) held on to them
 * @reuses: pages given back to writing without a copy, since nobody else
 *	held them any more
 * @forks: fork() calls that duplicated a view
 * @snapshots: snapshots taken
 * @resets: resets done
 * @private_pages: pages through which a view differs from its pool, now; on
 *	a pool and in total, the sum over the live views
 * @copies_reset: pages that RESET with COWPOOL_RESET_KEEP has copied back
 *
 * The counters of a pool include those of its former views, the totals those
 * of former pools.
 */
struct cowpool_counters {
	__u64 read_faults;
	__u64 copies_first_touch;
	__u64 copies_after_read;
	__u64 copies_pinned;
	__u64 reuses;
	__u64 forks;
	__u64 snapshots;
	__u64 resets;
	__u64 private_pages;
	__u64 copies_reset;
};

/* struct cowpool_info.flags: @addr is set; describe the view mapped there. */
#define COWPOOL_INFO_VIEW	(1U << 0)

/* struct cowpool_info.state */
#define COWPOOL_STATE_SEALED	(1U << 0)	/* never written again */
#define COWPOOL_STATE_MAPPED	(1U << 1)	/* or has snapshots: not writable now */
#define COWPOOL_STATE_SNAPSHOT	(1U << 2)	/* made by SNAPSHOT */

/**
 * struct cowpool_info - argument of COWPOOL_IOC_INFO
 * @addr: in: with COWPOOL_INFO_VIEW, an address inside a view of the calling
 *	process; else 0
 * @flags: in: 0 for the descriptor's pool, or COWPOOL_INFO_VIEW
 * @state: out: COWPOOL_STATE_* of the pool
 * @pool_id: out: the pool's number, never used twice while the module is loaded
 * @view_id: out: the view's number, likewise; 0 without COWPOOL_INFO_VIEW
 * @size: out: the pool's size in bytes
 * @filled_pages: out: pages that hold data written to the pool; of a snapshot,
 *	to the pool that it goes back to
 * @views: out: live views of the pool
 * @mode: out: permission bits
 * @uid: out: owner, in the caller's user namespace
 * @gid: out: group, in the caller's user namespace
 * @page_size: out: the unit of all page counts, in bytes
 * @counters: out: of the view with COWPOOL_INFO_VIEW, else of the pool
 * @name: out: the pool's name, or an empty string
 * @reserved: in: must be 0; out: 0
 */
struct cowpool_info {
	__u64 addr;
	__u32 flags;
	__u32 state;
	__u64 pool_id;
	__u64 view_id;
	__u64 size;
	__u64 filled_pages;
	__u64 views;
	__u32 mode;
	__u32 uid;
	__u32 gid;
	__u32 page_size;
	struct cowpool_counters counters;
	char name[COWPOOL_NAME_SIZE];
	__u64 reserved[7];
};

/**
 * struct cowpool_snapshot - argument of COWPOOL_IOC_SNAPSHOT
 * @addr: an address inside a view of the calling process
 * @flags: none yet, must be 0
 * @reserved: must be 0
 *
 * The ioctl returns a new descriptor (close-on-exec) of a sealed anonymous
 * pool that holds the content of the whole view at one instant. It is open for
 * reading and writing as the one is that was asked.
 */
struct cowpool_snapshot {
	__u64 addr;
	__u32 flags;
	__u32 reserved;
};

/* struct cowpool_reset.flags */
#define COWPOOL_RESET_KEEP	(1U << 0)
#define COWPOOL_RESET_WRITTEN	(1U << 1)	/* only with KEEP */

/**
 * struct cowpool_reset - argument of COWPOOL_IOC_RESET
 * @addr: start of the range, a multiple of the page size
 * @len: length in bytes, a nonzero multiple of the page size. The range lies
 *	in one view of the calling process
 * @flags: 0 to drop the private pages of the range, or COWPOOL_RESET_KEEP to
 *	keep those that are the view's alone and copy the pool's content back into
 *	them: for a loop that writes the same pages again and again. Threads
 *	that write meanwhile are not kept from it. With COWPOOL_RESET_WRITTEN
 *	besides, only into those that were written since the last RESET with
 *	both flags, as the processor's dirty bits tell
 * @reserved: must be 0
 * @pages: out: pages that were private
 */
struct cowpool_reset {
	__u64 addr;
	__u64 len;
	__u32 flags;
	__u32 reserved;
	__u64 pages;
};

/**
 * struct cowpool_range - a range of addresses
 * @start: first byte
 * @end: first byte behind it
 */
struct cowpool_range {
	__u64 start;
	__u64 end;
};

/* struct cowpool_dirty.flags */
#define COWPOOL_DIRTY_CONTENT	(1U << 0)

/**
 * struct cowpool_dirty - argument of COWPOOL_IOC_DIRTY
 * @addr: start of the range, as in struct cowpool_reset
 * @len: its length, likewise
 * @ranges: address of an array of struct cowpool_range to be filled
 * @nr_ranges: its length, not 0
 * @flags: 0 for the pages that are private to the view, or
 *	COWPOOL_DIRTY_CONTENT for those of them whose content differs from the
 *	pool's
 * @next: out: where to go on: the end of the range if all of it was looked at
 * @reserved: must be 0
 *
 * The ioctl returns the number of ranges that it has stored, in ascending
 * order; neighbouring pages are joined.
 */
struct cowpool_dirty {
	__u64 addr;
	__u64 len;
	__u64 ranges;
	__u32 nr_ranges;
	__u32 flags;
	__u64 next;
	__u64 reserved;
};

#define COWPOOL_IOC_CREATE	_IOW(0xCB, 0x40, struct cowpool_create)
#define COWPOOL_IOC_ATTACH	_IOW(0xCB, 0x41, struct cowpool_attach)
#define COWPOOL_IOC_SEAL	_IO(0xCB, 0x42)
#define COWPOOL_IOC_DESTROY	_IO(0xCB, 0x43)
#define COWPOOL_IOC_INFO	_IOWR(0xCB, 0x44, struct cowpool_info)
#define COWPOOL_IOC_SNAPSHOT	_IOW(0xCB, 0x45, struct cowpool_snapshot)
#define COWPOOL_IOC_RESET	_IOWR(0xCB, 0x46, struct cowpool_reset)
#define COWPOOL_IOC_DIRTY	_IOWR(0xCB, 0x47, struct cowpool_dirty)

#endif /* _UAPI_LINUX_COWPOOL_H */
