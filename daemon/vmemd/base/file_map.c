// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A mapping of part of a file, in whole pages.
 *
 * hugetlbfs files have huge pages. mmap(2) accepts any length and maps whole
 * pages. munmap(2), and mmap(2) with MAP_FIXED over such a mapping, refuse a
 * length that is not a multiple of the page size. So mappings here begin and
 * end at page boundaries of the file, and are unmapped with their real length.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/file_map.h"
#include "base/log.h"

/* Page size of a file; its block size on hugetlbfs. 0: an error, see errno. */
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
 * file_map_open() - map part of a file, shared and writable
 * @map: set on success
 * @fd: the file
 * @offset: start of the part in the file, not necessarily of a page
 * @size: bytes in the part
 * @flags: flags of mmap(2) in addition to MAP_SHARED
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

/* Unmap. Does nothing if there is no mapping. */
void file_map_close(struct file_map *map)
{
	/* This should not fail; if it does, the memory stays in use. */
	if (map->start && munmap(map->start, map->size) < 0)
		log_err("a mapping of %zu bytes cannot be unmapped: %s",
			map->size, strerror(errno));
	*map = (struct file_map){};
}
