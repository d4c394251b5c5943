// SPDX-License-Identifier: GPL-2.0
/*
 * The operations, but for those of several threads. Each does something to a
 * view, compares what it gets with the model, and brings that up to date.
 *
 * A range of pages is cut to what is mapped in one piece from its first page
 * on. What returns false has found nothing to do.
 */
#include "process.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#define MADV_POPULATE_WRITE	23
#endif

/* What must work: it is wrong if it does not. */
#define must(call)	must_work((long)(call), #call)

static long must_work(long result, const char *call)
{
	if (result == -1)
		wrong("%.100s: %s", call, strerror(errno));
	return result;
}

/* Single pages */

static volatile uint64_t *word_at(const struct page_model *page, unsigned int word)
{
	return (volatile uint64_t *)page->at + word;
}

static bool do_read(const struct operation *operation)
{
	struct view_model *view = view_of(operation->view);
	unsigned int page = operation->page;
	unsigned int word = cell_word(page, operation->how);
	struct page_model *model;

	if (!view || !view->page[page].at)
		return false;
	model = &view->page[page];
	if (model->prot & PROT_READ)
		word_check(*word_at(model, word), view->now.cell[page][operation->how],
			   page, word, operation->view);
	else if (!access_refused(model->at, false))
		wrong("view %u, page %u could be read", operation->view, page);
	return true;
}

static bool do_write(const struct operation *operation)
{
	struct view_model *view = view_of(operation->view);
	unsigned int page = operation->page;
	unsigned int word = cell_word(page, operation->how);
	struct page_model *model;

	if (!view || !view->page[page].at)
		return false;
	model = &view->page[page];
	if (!(model->prot & PROT_WRITE)) {
		if (!access_refused(model->at, true))
			wrong("view %u, page %u could be written", operation->view, page);
		return true;
	}
	*word_at(model, word) = word_value(operation->number, page, word);
	word_check(*word_at(model, word), operation->number, page, word, operation->view);
	view->now.cell[page][operation->how] = operation->number;
	page_written(view, page);
	return true;
}

static void check_page(const struct view_model *view, unsigned int number,
		       unsigned int page)
{
	if (view->page[page].at && view->page[page].prot & PROT_READ)
		page_check(view->page[page].at, &view->now, page, "view", number);
}

static bool do_check(const struct operation *operation)
{
	struct view_model *view = view_of(operation->view);

	for (unsigned int n = 0; view && n < operation->pages; n++)
		check_page(view, operation->view, operation->page + n);
	return view;
}

/* memcpy() from one view to another. */
static bool do_copy(const struct operation *operation)
{
	struct view_model *from = view_of(operation->view);
	struct view_model *to = view_of(operation->other);
	unsigned int page = operation->page;

	if (!from || !to || from == to || !(from->page[page].prot & PROT_READ) ||
	    !(to->page[page].prot & PROT_WRITE) || !from->page[page].at ||
	    !to->page[page].at)
		return false;
	memcpy(to->page[page].at, from->page[page].at, PAGE);
	memcpy(to->now.cell[page], from->now.cell[page], sizeof(to->now.cell[page]));
	page_written(to, page);
	return true;
}

/* Snapshots */

static int snapshot_fd(unsigned int number)
{
	return self.snapshot[number].fd;
}

/* pread() of a snapshot into a view: the kernel writes. */
static bool do_fetch(const struct operation *operation)
{
	struct view_model *view = view_of(operation->view);
	struct snapshot_model *snapshot = &self.snapshot[operation->other];
	unsigned int page = operation->page;
	ssize_t got;

	if (!view || !view->page[page].at || snapshot->fd < 0)
		return false;
	got = pread(snapshot->fd, view->page[page].at, PAGE,
		    (shared->world.first + page) * PAGE);
	if (!(view->page[page].prot & PROT_WRITE)) {
		if (got != -1 || errno != EFAULT)
			wrong("pread() wrote to view %u, page %u", operation->view, page);
		return true;
	}
	if (got != (ssize_t)PAGE)
		wrong("pread() to view %u: %zd", operation->view, got);
	memcpy(view->now.cell[page], snapshot->now.cell[page],
	       sizeof(view->now.cell[page]));
	page_written(view, page);
	return true;
}

/* Copies a page out of a snapshot. */
void snapshot_page(int fd, unsigned int page, void *to)
{
	ssize_t got = pread(fd, to, PAGE, (shared->world.first + page) * PAGE);

	if (got != (ssize_t)PAGE)
		wrong("pread() of a snapshot: %zd", got);
}

static void look_at_page(unsigned int number, unsigned int page)
{
	const struct snapshot_model *snapshot = &self.snapshot[number];
	uint64_t words[WORDS];

	snapshot_page(snapshot->fd, page, words);
	page_check(words, &snapshot->now, page, "snapshot", number);
}

static bool do_look(const struct operation *operation)
{
	if (snapshot_fd(operation->other) < 0)
		return false;
	for (unsigned int n = 0; n < operation->pages; n++)
		look_at_page(operation->other, operation->page + n);
	return true;
}

/* Any address of the view will do. */
static char *view_address(const struct view_model *view)
{
	unsigned int page = 0;

	while (!view->page[page].at)
		page++;
	return view->page[page].at + page % PAGE;
}

int snapshot_take(struct view_model *view)
{
	struct cowpool_snapshot arg = { .addr = (uintptr_t)view_address(view) };
	int fd = must(ioctl(device_fd, COWPOOL_IOC_SNAPSHOT, &arg));

	view->snapshots++;
	grants_end(view);
	return fd;
}

/* Puts a snapshot in its place. */
void snapshot_put(unsigned int number, int fd, const struct content *content)
{
	struct snapshot_model *snapshot = &self.snapshot[number];

	if (snapshot->fd >= 0)
		close(snapshot->fd);
	snapshot->fd = fd;
	if (content)
		memcpy(&snapshot->now, content,
		       shared->world.pages * sizeof(content->cell[0]));
}

static bool do_snapshot(const struct operation *operation)
{
	struct view_model *view = view_of(operation->view);

	if (!view)
		return false;
	snapshot_put(operation->other, snapshot_take(view), &view->now);
	return true;
}

static bool do_close(const struct operation *operation)
{
	if (snapshot_fd(operation->other) < 0)
		return false;
	snapshot_put(operation->other, -1, NULL);
	return true;
}

/* Mappings */

static void unmap_pages(struct view_model *view, unsigned int page, unsigned int nr)
{
	must(munmap(view->page[page].at, nr * PAGE));
	while (nr--)
		page_unmapped(view, page++);
}

static void view_unmap(unsigned int number)
{
	struct operation all = { .pages = shared->world.pages };
	struct view_model *view = &self.view[number];
	unsigned int nr;

	for (; view->mapped; all.page++, all.pages--) {
		nr = piece(view, &all);
		if (nr)
			unmap_pages(view, all.page, nr);
	}
}

/* A descriptor of the pool, as long as the director has one; or -1. */
static int pool_get(void)
{
	int director = must(syscall(SYS_pidfd_open, shared->director, 0));
	int fd = syscall(SYS_pidfd_getfd, director, shared->pool_fd, 0);

	if (fd < 0 && errno != EBADF)
		wrong("pidfd_getfd: %s", strerror(errno));
	close(director);
	return fd;
}

/* A new view of a pool that holds @content. */
static void view_map(unsigned int number, int fd, const struct content *content,
		     unsigned int page, unsigned int nr)
{
	const struct world *world = &shared->world;
	struct view_model *view = &self.view[number];
	size_t size = world->pages * sizeof(view->now.cell[0]);
	char *at = mmap(NULL, nr * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			(world->first + page) * PAGE);

	if (at == MAP_FAILED)
		wrong("mmap: %s", strerror(errno));
	view_unmap(number);
	if (content) {
		memcpy(&view->now, content, size);
		memcpy(&view->pool, content, size);
	} else {
		memset(&view->now, 0, size);
		memset(&view->pool, 0, size);
	}
	memset(view->page, 0, world->pages * sizeof(view->page[0]));
	view->mapped = nr;
	view->areas = 0;
	view->forks = 0;
	view->snapshots = 0;
	view->resets = 0;
	view->grants = 0;
	for (; nr--; page++, at += PAGE) {
		view->page[page].at = at;
		view->page[page].prot = PROT_READ | PROT_WRITE;
	}
}

static bool do_map(const struct operation *operation)
{
	const struct snapshot_model *snapshot = &self.snapshot[operation->other];
	bool of_pool = operation->kind == MAP;
	int fd = of_pool ? pool_get() : snapshot->fd;

	if (fd < 0)
		return false;
	view_map(operation->view, fd, of_pool ? NULL : &snapshot->now,
		 operation->page, operation->pages);
	if (of_pool)
		close(fd);
	return true;
}

/* What libcowpool's cowpool_dup() does. */
static bool do_dup(const struct operation *operation)
{
	static struct content content;
	struct view_model *view = view_of(operation->view);
	int fd;

	if (!view)
		return false;
	fd = snapshot_take(view);
	/* It may be replaced by the new one. */
	content = view->now;
	view_map(operation->other, fd, &content, 0, shared->world.pages);
	close(fd);
	return true;
}

static bool do_unmap(const struct operation *operation)
{
	struct view_model *view = view_of(operation->view);
	unsigned int nr = piece(view, operation);

	if (nr)
		unmap_pages(view, operation->page, nr);
	return nr;
}

/* Makes room for @nr pages; with @same as far into 2 MiB as @at is. */
static char *room_make(const char *at, unsigned int nr, bool same)
{
	size_t huge = PAGE * WORDS, len = nr * PAGE + (same ? huge : 0), skip;
	char *room = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (room == MAP_FAILED)
		wrong("mmap of room: %s", strerror(errno));
	if (!same)
		return room;
	skip = ((uintptr_t)at - (uintptr_t)room) % huge;
	if (skip)
		munmap(room, skip);
	munmap(room + skip + nr * PAGE, len - skip - nr * PAGE);
	return room + skip;
}

static bool do_move(const struct operation *operation)
{
	struct view_model *view = view_of(operation->view);
	unsigned int nr = piece_in_area(view, operation), page = operation->page;
	char *from, *to;

	if (!nr)
		return false;
	from = view->page[page].at;
	to = room_make(from, nr, operation->how);
	if (mremap(from, nr * PAGE, nr * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to)
		wrong("mremap: %s", strerror(errno));
	area_split(view, page);
	area_split(view, page + nr);
	view->areas++;
	for (; nr--; page++, to += PAGE) {
		view->page[page].at = to;
		view->page[page].area = view->areas;
	}
	return true;
}

/* mremap() to one page takes the rest away. */
static bool do_shrink(const struct operation *operation)
{
	struct view_model *view = view_of(operation->view);
	unsigned int nr = piece_in_area(view, operation), page = operation->page;

	if (nr < 2)
		return false;
	if (mremap(view->page[page].at, nr * PAGE, PAGE, 0) != view->page[page].at)
		wrong("mremap: %s", strerror(errno));
	while (--nr)
		page_unmapped(view, ++page);
	return true;
}

static bool do_protect(const struct operation *operation)
{
	static const int kinds[] = { PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE };
	int prot = kinds[operation->how % ARRAY_SIZE(kinds)];
	struct view_model *view = view_of(operation->view);
	unsigned int nr = piece(view, operation), page = operation->page;

	if (!nr)
		return false;
	must(mprotect(view->page[page].at, nr * PAGE, prot));
	area_split(view, page);
	area_split(view, page + nr);
	while (nr--)
		view->page[page++].prot = prot;
	return true;
}

static bool do_dontneed(const struct operation *operation)
{
	struct view_model *view = view_of(operation->view);
	unsigned int nr = piece(view, operation);

	if (nr)
		must(madvise(view->page[operation->page].at, nr * PAGE, MADV_DONTNEED));
	return nr;
}

static bool do_populate(const struct operation *operation)
{
	struct view_model *view = view_of(operation->view);
	bool write = operation->how;
	unsigned int nr = piece_with(view, operation, write ? PROT_WRITE : PROT_READ);
	unsigned int page = operation->page;

	if (!nr)
		return false;
	must(madvise(view->page[page].at, nr * PAGE,
		     write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ));
	while (write && nr--)
		page_granted(view, page++);
	return true;
}

/* RESET, DIRTY and INFO */

static bool do_reset(const struct operation *operation)
{
	struct view_model *view = view_of(operation->view);
	unsigned int nr = piece(view, operation), page = operation->page;
	bool keep = operation->kind == KEEP;
	struct cowpool_reset arg = {
		.len = nr * PAGE,
		.flags = keep ? COWPOOL_RESET_KEEP : 0,
	};
	unsigned int least, most;

	if (!nr)
		return false;
	arg.addr = (uintptr_t)view->page[page].at;
	if (keep && operation->number % 2)
		arg.flags |= COWPOOL_RESET_WRITTEN;
	must(ioctl(device_fd, COWPOOL_IOC_RESET, &arg));
	view->resets++;
	count_own(view, page, nr, &least, &most);
	if (arg.pages < least || arg.pages > most)
		wrong("view %u: RESET found %u pages, not %u to %u", operation->view,
		      (unsigned int)arg.pages, least, most);
	for (; nr--; page++) {
		struct page_model *model = &view->page[page];

		content_of_pool(view, page);
		if (!keep) {
			model->granted = false;
			model->owner = NOT_OWN;
		} else if (model->owner == OWN && !model->granted) {
			/* If others have it too, it was dropped. */
			model->owner = PERHAPS_OWN;
		}
	}
	return true;
}

static void dirty_check(struct view_model *view, unsigned int number,
			unsigned int page, bool dirty, bool content)
{
	struct page_model *model = &view->page[page];
	bool expected = content ? differs(view, page) : model->owner == OWN;

	if (!content && model->owner == PERHAPS_OWN)
		model->owner = dirty ? OWN : NOT_OWN;
	else if (dirty != expected)
		wrong("view %u, page %u: is %sdirty", number, page, dirty ? "" : "not ");
}

/* By a few ranges at a time. */
static void dirty_all(struct view_model *view, unsigned int number,
		      const struct operation *operation, bool content)
{
	unsigned int nr = piece(view, operation), page = operation->page;
	uint64_t base = (uintptr_t)view->page[page].at, end = base + nr * PAGE, at = base;
	struct cowpool_range ranges[8];
	struct cowpool_dirty arg = {
		.ranges = (uintptr_t)ranges,
		.nr_ranges = 1 + operation->number % ARRAY_SIZE(ranges),
		.flags = content ? COWPOOL_DIRTY_CONTENT : 0,
	};

	for (uint64_t next = base; next < end; next = arg.next) {
		int found;

		arg.addr = next;
		arg.len = end - next;
		found = must(ioctl(device_fd, COWPOOL_IOC_DIRTY, &arg));
		for (int i = 0; i <= found; i++) {
			uint64_t from = i < found ? ranges[i].start : arg.next;

			if (from < at || from > end)
				wrong("view %u: DIRTY leaves its range", number);
			for (; at < from; at += PAGE)
				dirty_check(view, number, page++, false, content);
			for (; i < found && at < ranges[i].end && at < end; at += PAGE)
				dirty_check(view, number, page++, true, content);
		}
	}
}

static bool do_dirty(const struct operation *operation)
{
	struct view_model *view = view_of(operation->view);

	if (!piece(view, operation))
		return false;
	dirty_all(view, operation->view, operation, operation->kind == DIRTY_CONTENT);
	return true;
}

static struct cowpool_counters counters_of(struct view_model *view)
{
	struct cowpool_info info = {
		.addr = (uintptr_t)view_address(view),
		.flags = COWPOOL_INFO_VIEW,
	};

	must(ioctl(device_fd, COWPOOL_IOC_INFO, &info));
	if (info.size != shared->world.pool_pages * PAGE)
		wrong("INFO tells a wrong size");
	return info.counters;
}

static uint64_t grants_of(const struct cowpool_counters *counters)
{
	return counters->copies_first_touch + counters->copies_after_read +
	       counters->reuses;
}

/* The model cannot know how many there were. */
void grants_ask(struct view_model *view)
{
	struct cowpool_counters counters = counters_of(view);

	view->grants = grants_of(&counters);
}

static void counter_check(unsigned int number, const char *name, uint64_t value,
			  uint64_t least, uint64_t most)
{
	if (value < least || value > most)
		wrong("view %u: %s is %llu, not %llu to %llu", number, name,
		      (unsigned long long)value, (unsigned long long)least,
		      (unsigned long long)most);
}

static bool info_check(unsigned int number)
{
	struct view_model *view = view_of(number);
	struct cowpool_counters counters;
	unsigned int least, most;

	if (!view)
		return false;
	counters = counters_of(view);
	count_own(view, 0, shared->world.pages, &least, &most);
	counter_check(number, "private_pages", counters.private_pages, least, most);
	counter_check(number, "forks", counters.forks, view->forks, view->forks);
	counter_check(number, "snapshots", counters.snapshots, view->snapshots,
		      view->snapshots);
	counter_check(number, "resets", counters.resets, view->resets, view->resets);
	counter_check(number, "copies and reuses", grants_of(&counters), view->grants,
		      view->grants);
	counter_check(number, "copies_pinned", counters.copies_pinned, 0, 0);
	return true;
}

/* Of the pages that nobody has ever written some are enough. */
static bool worth_a_look(unsigned int page)
{
	return shared->written[page] || page % 16 == 0;
}

static void audit_view(const struct operation *operation, unsigned int number)
{
	struct operation part = *operation;
	struct view_model *view = view_of(number);

	if (!view)
		return;
	part.page = 0;
	part.pages = shared->world.pages;
	for (; part.pages; part.page++, part.pages--) {
		if (worth_a_look(part.page))
			check_page(view, number, part.page);
		if (!part.page || !goes_on(view, part.page))
			dirty_all(view, number, &part, false);
	}
	info_check(number);
}

/* Everything that there is. */
static bool audit(const struct operation *operation)
{
	for (unsigned int i = 0; i < MAX_VIEWS; i++)
		audit_view(operation, i);
	for (unsigned int i = 0; i < MAX_SNAPSHOTS; i++)
		for (unsigned int page = 0; page < shared->world.pages; page++)
			if (snapshot_fd(i) >= 0 && worth_a_look(page))
				look_at_page(i, page);
	return true;
}

/*
 * fork(): in the child, this process is another one from now on. The model has
 * come along, as memory does.
 */
void do_fork(unsigned int child)
{
	pid_t pid = must(fork());

	for (unsigned int i = 0; i < MAX_VIEWS; i++) {
		struct view_model *view = view_of(i);

		if (!view)
			continue;
		grants_end(view);
		view->forks++;
		if (!pid) {
			view->forks = 0;
			view->snapshots = 0;
			view->resets = 0;
			view->grants = 0;
		}
	}
	if (!pid)
		process_forked(child);
}

/**
 * operation_do() - do an operation
 * @operation: what to do
 *
 * Return: whether there was anything to do.
 */
bool operation_do(const struct operation *operation)
{
	switch (operation->kind) {
	case FORK:
		do_fork(operation->other);
		return true;
	case READ:
		return do_read(operation);
	case WRITE:
		return do_write(operation);
	case CHECK:
		return do_check(operation);
	case COPY:
		return do_copy(operation);
	case FETCH:
		return do_fetch(operation);
	case LOOK:
		return do_look(operation);
	case MAP:
	case MAP_SNAPSHOT:
		return do_map(operation);
	case SNAPSHOT:
		return do_snapshot(operation);
	case DUP:
		return do_dup(operation);
	case CLOSE:
		return do_close(operation);
	case RESET:
	case KEEP:
		return do_reset(operation);
	case DIRTY:
	case DIRTY_CONTENT:
		return do_dirty(operation);
	case INFO:
		return info_check(operation->view);
	case UNMAP:
		return do_unmap(operation);
	case MOVE:
		return do_move(operation);
	case SHRINK:
		return do_shrink(operation);
	case PROTECT:
		return do_protect(operation);
	case DONTNEED:
		return do_dontneed(operation);
	case POPULATE:
		return do_populate(operation);
	case STORM:
	case STORM_SNAPSHOT:
	case STORM_FORK:
		return storm_do(operation);
	case AUDIT:
		return audit(operation);
	default:
		return true;
	}
}
