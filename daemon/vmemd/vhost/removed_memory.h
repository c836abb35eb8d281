/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Guest memory that a front end has removed; see removed_memory.c. */
#ifndef REMOVED_MEMORY_H
#define REMOVED_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The maximum number of regions, since a table may remove all of them. */
#define REMOVED_MEMORY_MAX 509

struct removed_range {
	uint64_t gpa;
	uint64_t size;
};

/**
 * struct removed_memory - guest memory that was shared before
 * @ranges: the ranges; allocated with the first one
 * @nr: number of @ranges
 */
struct removed_memory {
	struct removed_range *ranges;
	size_t nr;
};

void removed_memory_add(struct removed_memory *removed, uint64_t gpa,
			uint64_t size);
void removed_memory_back(struct removed_memory *removed, uint64_t gpa,
			 uint64_t size);
bool removed_memory_has(const struct removed_memory *removed, uint64_t gpa);
void removed_memory_clear(struct removed_memory *removed);

#endif /* REMOVED_MEMORY_H */
