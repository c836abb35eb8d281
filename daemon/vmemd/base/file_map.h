/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A mapping of part of a file, in whole pages; see file_map.c. */
#ifndef FILE_MAP_H
#define FILE_MAP_H

#include <stddef.h>
#include <stdint.h>

/**
 * struct file_map - a mapping of part of a file
 * @start: start of the mapping; NULL: none
 * @size: bytes in the mapping, whole pages of the file
 * @at: address of the requested part in the mapping
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
