// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Guest memory, mapped from the front end's descriptors.
 *
 * The front end chooses every number here. A region is accepted only if its
 * guest and front end ranges neither wrap nor overlap others, and if the file
 * is at least as long as the region: a mapping faults beyond the end of its
 * file. Ranges are compared by their last byte, inclusive, so that a range that
 * ends with the address space is no special case.
 *
 * Not all shared memory may be accessed. A front end shares the whole region of
 * a virtio-mem device. A write to an unplugged block would allocate memory that
 * is never freed, and the guest would find the data when the block is plugged.
 * So each look-up checks that the memory is accessible: guest_access.c.
 *
 * A file can be truncated at any time: see guard.c. Mappings have whole pages
 * of their file: see base/file_map.c.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "common/min_max.h"
#include "vhost/guest_memory.h"

/* The end of a range must be a number too, so that no user overflows it. */
static bool range_last(uint64_t first, uint64_t size, uint64_t *last)
{
	*last = first + (size - 1);
	return size && first <= UINT64_MAX - size;
}

static bool overlap(uint64_t first_a, uint64_t first_b, uint64_t size_a,
		    uint64_t size_b)
{
	return first_a <= first_b + (size_b - 1) &&
	       first_b <= first_a + (size_a - 1);
}

/* Index of the first region that starts after an address. */
static size_t first_behind(const struct guest_memory *memory, uint64_t gpa)
{
	size_t low = 0, high = memory->nr;

	while (low < high) {
		size_t middle = (low + high) / 2;

		work_add(memory->work, 1);
		if (memory->regions[middle].gpa <= gpa)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/**
 * guest_memory_add() - map a region
 * @memory: the guest's memory
 * @gpa: guest-physical address
 * @uva: address in the front end
 * @size: bytes
 * @offset: offset of the region in @fd
 * @fd: a regular file (memfd, tmpfs, hugetlbfs); the caller keeps it
 * @err: set on failure; may be NULL
 *
 * Return: 0; -EINVAL, -EEXIST, -ENOSPC, or an errno of mmap(2).
 */
int guest_memory_add(struct guest_memory *memory, uint64_t gpa, uint64_t uva,
		     uint64_t size, uint64_t offset, int fd, struct error *err)
{
	struct guest_memory_region *region, *grown;
	struct file_map map;
	uint64_t last;
	size_t at;
	struct stat st;
	int ret;

	if (!range_last(gpa, size, &last) || !range_last(uva, size, &last) ||
	    !range_last(offset, size, &last))
		return error_set(err, -EINVAL,
				 "an empty or overflowing memory region");
	for (size_t i = 0; i < memory->nr; i++) {
		region = &memory->regions[i];
		if (overlap(gpa, region->gpa, size, region->size) ||
		    overlap(uva, region->uva, size, region->size))
			return error_set(err, -EEXIST,
					 "overlapping memory regions");
	}
	if (memory->nr >= GUEST_MEMORY_MAX_REGIONS)
		return error_set(err, -ENOSPC, "too many memory regions");
	if (fstat(fd, &st) < 0)
		return error_set(
			err, -errno,
			"a memory region's descriptor cannot be examined");
	if (!S_ISREG(st.st_mode) || last >= (uint64_t)st.st_size)
		return error_set(err, -EINVAL,
				 "a memory region beyond the end of its file");
	grown = reallocarray(memory->regions, memory->nr + 1, sizeof(*grown));
	if (!grown)
		return error_set(err, -ENOMEM, "out of memory");
	memory->regions = grown;
	ret = file_map_open(&map, fd, offset, size, MAP_NORESERVE);
	if (ret)
		return error_set(err, ret, "a memory region cannot be mapped");
	if (memory->guard &&
	    guard_add(memory->guard, map.start, map.size, &memory->lost)) {
		file_map_close(&map);
		return error_set(err, -ENOMEM, "out of memory");
	}
	at = first_behind(memory, gpa);
	memmove(&grown[at + 1], &grown[at], (memory->nr - at) * sizeof(*grown));
	grown[at] = (struct guest_memory_region){
		.gpa = gpa,
		.uva = uva,
		.size = size,
		.offset = offset,
		.dev = st.st_dev,
		.ino = st.st_ino,
		.hva = map.at,
		.map = map,
	};
	memory->nr++;
	return 0;
}

static void unmap(const struct guest_memory *memory,
		  struct guest_memory_region *region)
{
	if (memory->guard)
		guard_remove(memory->guard, region->map.start);
	file_map_close(&region->map);
}

/* Return: 0, or -ENOENT: no region has these values. */
int guest_memory_remove(struct guest_memory *memory, uint64_t gpa, uint64_t uva,
			uint64_t size)
{
	for (size_t i = 0; i < memory->nr; i++) {
		struct guest_memory_region *region = &memory->regions[i];

		if (region->gpa != gpa || region->uva != uva ||
		    region->size != size)
			continue;
		unmap(memory, region);
		memory->nr--;
		memmove(region, region + 1, (memory->nr - i) * sizeof(*region));
		return 0;
	}
	return -ENOENT;
}

void guest_memory_clear(struct guest_memory *memory)
{
	for (size_t i = 0; i < memory->nr; i++)
		unmap(memory, &memory->regions[i]);
	free(memory->regions);
	memory->regions = NULL;
	memory->nr = 0;
	memory->lost = false;
}

/**
 * guest_memory_replace() - replace a memory table
 * @memory: the table to replace
 * @by: the new table, with the same guard; empty afterwards
 */
void guest_memory_replace(struct guest_memory *memory, struct guest_memory *by)
{
	/* The mappings are guarded already, so this cannot fail. */
	for (size_t i = 0; memory->guard && i < by->nr; i++)
		guard_add(memory->guard, by->regions[i].map.start,
			  by->regions[i].map.size, &memory->lost);
	guest_memory_clear(memory);
	memory->regions = by->regions;
	memory->nr = by->nr;
	by->regions = NULL;
	by->nr = 0;
}

/* Accessible bytes from an offset in a region on, at most @size. */
static uint64_t accessible(const struct guest_memory *memory,
			   const struct guest_memory_region *region,
			   uint64_t offset, uint64_t size)
{
	size = min(size, region->size - offset);
	if (!memory->accessible || !size)
		return size;
	return memory->accessible(memory->arg, region->gpa + offset, size);
}

/* Is the whole range accessible? accessible() returns it in parts. */
static bool all_accessible(const struct guest_memory *memory,
			   const struct guest_memory_region *region,
			   uint64_t offset, uint64_t size)
{
	while (size) {
		uint64_t part = accessible(memory, region, offset, size);

		if (!part)
			return false;
		size -= part;
		offset += part;
	}
	return true;
}

/**
 * guest_memory_at_gpa() - translate a guest-physical address
 * @memory: the guest's memory
 * @gpa: guest-physical address
 * @size: maximum number of bytes
 * @left: set to the number of accessible bytes, at least 1 and at most @size
 *
 * Return: the address in vmemd; NULL: there is no accessible memory at @gpa.
 */
void *guest_memory_at_gpa(const struct guest_memory *memory, uint64_t gpa,
			  uint64_t size, uint64_t *left)
{
	size_t behind = first_behind(memory, gpa);
	const struct guest_memory_region *region;

	if (!behind)
		return NULL;
	region = &memory->regions[behind - 1];
	if (gpa - region->gpa >= region->size)
		return NULL;
	*left = accessible(memory, region, gpa - region->gpa, size);
	return *left ? region->hva + (gpa - region->gpa) : NULL;
}

/* Translate an address of the front end; all @size bytes are in one region. */
void *guest_memory_at_uva(const struct guest_memory *memory, uint64_t uva,
			  uint64_t size)
{
	for (size_t i = 0; i < memory->nr; i++) {
		const struct guest_memory_region *region = &memory->regions[i];

		work_add(memory->work, 1);
		if (uva < region->uva || uva - region->uva >= region->size)
			continue;
		if (!all_accessible(memory, region, uva - region->uva, size))
			return NULL;
		return region->hva + (uva - region->uva);
	}
	return NULL;
}
