// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Guest memory that a front end has removed.
 *
 * A front end changes the memory that it shares while the guest runs. QEMU
 * removes a region and adds it again, perhaps split or merged, when something
 * is mapped over part of it. Between the two messages this memory is not
 * shared. A request in such memory waits, while a request in memory that never
 * existed is an error of the driver. Removed ranges are therefore recorded
 * until they are added again.
 *
 * If there are too many, the oldest range is dropped. A request there is then
 * treated as an error of the driver.
 */
#include <stdlib.h>
#include <string.h>

#include "vhost/removed_memory.h"

static void drop(struct removed_memory *removed, size_t i)
{
	removed->nr--;
	memmove(&removed->ranges[i], &removed->ranges[i + 1],
		(removed->nr - i) * sizeof(removed->ranges[0]));
}

/* Record that a region is not shared any more. Its range does not wrap. */
void removed_memory_add(struct removed_memory *removed, uint64_t gpa,
			uint64_t size)
{
	if (!removed->ranges)
		removed->ranges =
			calloc(REMOVED_MEMORY_MAX, sizeof(removed->ranges[0]));
	/* Out of memory: treat the region as never shared. */
	if (!removed->ranges)
		return;
	removed_memory_back(removed, gpa, size);
	if (removed->nr == REMOVED_MEMORY_MAX)
		drop(removed, 0);
	removed->ranges[removed->nr++] = (struct removed_range){gpa, size};
}

/* A region is shared: remove the parts of ranges that it overlaps. */
void removed_memory_back(struct removed_memory *removed, uint64_t gpa,
			 uint64_t size)
{
	uint64_t last = gpa + (size - 1);

	for (size_t i = 0; i < removed->nr;) {
		struct removed_range *range = &removed->ranges[i];
		uint64_t range_last = range->gpa + (range->size - 1);

		if (range_last < gpa || range->gpa > last) {
			i++;
		} else if (range->gpa < gpa) {
			/* Split: the part after the region is next. */
			range->size = gpa - range->gpa;
			if (range_last > last &&
			    removed->nr < REMOVED_MEMORY_MAX)
				removed->ranges[removed->nr++] =
					(struct removed_range){
						last + 1, range_last - last};
			i++;
		} else if (range_last > last) {
			range->size = range_last - last;
			range->gpa = last + 1;
			i++;
		} else {
			drop(removed, i);
		}
	}
}

bool removed_memory_has(const struct removed_memory *removed, uint64_t gpa)
{
	for (size_t i = 0; i < removed->nr; i++)
		if (gpa >= removed->ranges[i].gpa &&
		    gpa - removed->ranges[i].gpa < removed->ranges[i].size)
			return true;
	return false;
}

void removed_memory_clear(struct removed_memory *removed)
{
	free(removed->ranges);
	*removed = (struct removed_memory){};
}
