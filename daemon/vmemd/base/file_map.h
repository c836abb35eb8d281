/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Part of a file, mapped in whole pages of it; see file_map.c. */
#ifndef FILE_MAP_H
#define FILE_MAP_H

#include <stddef.h>
#include <stdint.h>

/**
 * struct file_map - part of a file in memory
 * @start, @size: the mapping, whole pages of the file; @start is NULL without
 *	one
 * @at: where the part is in it
 */
struct file_map {
	void *start;
	size_t size;
	void *at;
};

int file_map_open(struct file_map *map, int fd, uint64_t offset, uint64_t size,
		  int flags);
void file_map_close(struct file_map *map);

#endif /* FILE_MAP_H */
