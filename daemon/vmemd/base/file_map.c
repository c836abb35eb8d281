// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Part of a file, mapped in whole pages of it.
 *
 * The pages of hugetlbfs are huge ones. mmap(2) takes any length there and maps
 * whole pages; munmap(2), and mmap(2) with MAP_FIXED over such a mapping, refuse
 * a length that is not of whole pages. So a mapping begins and ends at pages of
 * its file, and is unmapped with the length that it really has.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/file_map.h"
#include "base/log.h"

/* The page size of a file, on hugetlbfs its block size; 0 with errno set. */
static uint64_t page_of(int fd)
{
	struct statfs fs;
	long base = sysconf(_SC_PAGESIZE);

	if (base <= 0 || fstatfs(fd, &fs) < 0)
		return 0;
	if (fs.f_bsize > base && !(fs.f_bsize & (fs.f_bsize - 1)))
		return fs.f_bsize;
	return base;
}

/**
 * file_map_open() - map part of a file, to read and write, shared
 * @offset, @size: the part, bytes; need not be of whole pages
 * @flags: of mmap(2), besides MAP_SHARED
 *
 * Return: 0; -EOVERFLOW; an errno of fstatfs(2) or mmap(2).
 */
int file_map_open(struct file_map *map, int fd, uint64_t offset, uint64_t size,
		  int flags)
{
	uint64_t page = page_of(fd), skip, whole;
	void *start;

	if (!page)
		return -errno;
	skip = offset % page;
	if (__builtin_add_overflow(size, skip + page - 1, &whole) ||
	    whole > SIZE_MAX)
		return -EOVERFLOW;
	whole -= whole % page;
	start = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_SHARED | flags,
		     fd, (off_t)(offset - skip));
	if (start == MAP_FAILED)
		return -errno;
	*map = (struct file_map){
		.start = start,
		.size = whole,
		.at = (uint8_t *)start + skip,
	};
	return 0;
}

/* Does nothing if there is no mapping. */
void file_map_close(struct file_map *map)
{
	/* Should not be. Say so, since the memory stays allocated by it. */
	if (map->start && munmap(map->start, map->size) < 0)
		log_err("a mapping of %zu bytes cannot be unmapped: %s",
			map->size, strerror(errno));
	*map = (struct file_map){};
}
