// SPDX-License-Identifier: GPL-2.0
/*
 * The model of a process: what its views show, where, and what is private.
 */
#include "process.h"

/* The view in a slot, or NULL. */
struct view_model *view_of(unsigned int number)
{
	struct view_model *view = &self.view[number];

	return view->mapped ? view : NULL;
}

/* Is @page mapped right after the one before it? */
bool goes_on(const struct view_model *view, unsigned int page)
{
	return view->page[page].at && view->page[page - 1].at &&
	       view->page[page].at == view->page[page - 1].at + PAGE;
}

/* What of a range is mapped in one piece; 0 if its first page is not. */
unsigned int piece(const struct view_model *view, const struct operation *operation)
{
	unsigned int nr = 0;

	if (!view || !view->page[operation->page].at)
		return 0;
	while (++nr < operation->pages && goes_on(view, operation->page + nr))
		;
	return nr;
}

/* The same, in one VMA. */
unsigned int piece_in_area(const struct view_model *view,
			   const struct operation *operation)
{
	unsigned int all = piece(view, operation), nr;

	for (nr = 1; nr < all; nr++)
		if (view->page[operation->page + nr].area !=
		    view->page[operation->page].area)
			return nr;
	return all;
}

/* The same, as far as all of it may be accessed in a way. */
unsigned int piece_with(const struct view_model *view,
			const struct operation *operation, int prot)
{
	unsigned int all = piece(view, operation), nr;

	for (nr = 0; nr < all; nr++)
		if (!(view->page[operation->page + nr].prot & prot))
			return nr;
	return all;
}

/* From @page on it is another VMA. */
void area_split(struct view_model *view, unsigned int page)
{
	unsigned int area;

	if (!page || page >= shared->world.pages || !goes_on(view, page) ||
	    view->page[page].area != view->page[page - 1].area)
		return;
	area = view->page[page].area;
	view->areas++;
	do {
		view->page[page++].area = view->areas;
	} while (page < shared->world.pages && goes_on(view, page) &&
		 view->page[page].area == area);
}

/* It shows what its pool holds. */
void content_of_pool(struct view_model *view, unsigned int page)
{
	memcpy(view->now.cell[page], view->pool.cell[page], sizeof(view->now.cell[page]));
}

void page_unmapped(struct view_model *view, unsigned int page)
{
	content_of_pool(view, page);
	view->page[page].granted = false;
	view->page[page].owner = NOT_OWN;
	view->page[page].at = NULL;
	view->mapped--;
}

/* The page is private and may be written now, without a fault that counts. */
void page_granted(struct view_model *view, unsigned int page)
{
	struct page_model *model = &view->page[page];

	if (!model->granted)
		view->grants++;
	model->granted = true;
	model->owner = OWN;
}

/* The same, and something was written. */
void page_written(struct view_model *view, unsigned int page)
{
	page_granted(view, page);
	shared->written[page] = true;
}

/* Others have the view's pages now. */
void grants_end(struct view_model *view)
{
	for (unsigned int page = 0; page < shared->world.pages; page++)
		view->page[page].granted = false;
}

/* How many pages of a range are private, at least and at most. */
void count_own(const struct view_model *view, unsigned int page, unsigned int nr,
	       unsigned int *least, unsigned int *most)
{
	*least = 0;
	*most = 0;
	for (; nr--; page++) {
		*least += view->page[page].owner == OWN;
		*most += view->page[page].owner != NOT_OWN;
	}
}

/* Is there something else in a page than in its pool's? */
bool differs(const struct view_model *view, unsigned int page)
{
	return memcmp(view->now.cell[page], view->pool.cell[page],
		      sizeof(view->now.cell[page]));
}
