/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The memory behind a region, see memory.c. */
#ifndef MEMORY_H
#define MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

struct room;

/*
 * Maximum size of an allocation before other work gets its turn. Clearing it
 * takes some tens of milliseconds. A page of 1 GiB is one step and takes
 * longer.
 */
#define MEMORY_ALLOCATE_MAX (64ULL << 20)

/**
 * enum memory_kind - type of a memory file
 * @MEMORY_SHMEM: memfd, or a file on tmpfs
 * @MEMORY_HUGETLB: memfd with MFD_HUGETLB, or a file on hugetlbfs
 * @MEMORY_DAX: a file on persistent memory, mapped without the page cache
 * @MEMORY_FILE: any other file; writes of the guest go to a disk
 */
enum memory_kind {
	MEMORY_SHMEM,
	MEMORY_HUGETLB,
	MEMORY_DAX,
	MEMORY_FILE,
};

/**
 * struct memory - the memory behind a region
 * @fd: the file, whose offset 0 is the region's start
 * @kind: type of the file
 * @page_size: smallest unit that can be allocated and freed, in bytes
 * @room: free memory of the host, checked before shmem is allocated; set by the
 *	caller, not owned; NULL: not checked
 */
struct memory {
	int fd;
	enum memory_kind kind;
	uint64_t page_size;
	const struct room *room;
};

int memory_init(struct memory *memory, int fd, uint64_t size,
		uint64_t block_size, struct error *err);
const char *memory_kind_name(enum memory_kind kind);

int memory_punch(const struct memory *memory, uint64_t offset, uint64_t size,
		 struct error *err);
int memory_allocate(const struct memory *memory, uint64_t offset, uint64_t size,
		    struct error *err);
uint64_t memory_next_data(const struct memory *memory, uint64_t offset,
			  uint64_t size);
int memory_resident(const struct memory *memory, uint64_t *size);

uint64_t memory_map_wanted(const struct memory *memory);
uint64_t memory_map_size(const struct memory *memory, uint64_t gpa,
			 uint64_t hva, uint64_t slot_size);

#endif /* MEMORY_H */
