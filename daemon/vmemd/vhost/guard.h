/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Mappings of files that another process can truncate; see guard.c. */
#ifndef GUARD_H
#define GUARD_H

#include <stdbool.h>
#include <stddef.h>

/**
 * struct guard_mapping - a guarded mapping
 * @start: start of the mapping
 * @size: bytes; whole pages, on hugetlbfs whole huge pages
 * @lost: flag that is set when the mapping has been replaced by zero pages
 */
struct guard_mapping {
	void *start;
	size_t size;
	volatile bool *lost;
};

/**
 * struct guard - the guarded mappings of one context
 * @next: the next guard of the process
 * @mappings: the guarded mappings
 * @nr: number of @mappings
 */
struct guard {
	struct guard *next;
	struct guard_mapping *mappings;
	size_t nr;
};

void guard_stop(struct guard *guard);
int guard_add(struct guard *guard, void *start, size_t size,
	      volatile bool *lost);
void guard_remove(struct guard *guard, const void *start);

#endif /* GUARD_H */
