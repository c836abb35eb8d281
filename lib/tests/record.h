/* SPDX-License-Identifier: MIT */
/*
 * A device that records its mappings, fails when a test requests it, and fails
 * the test if a call is invalid.
 */
#ifndef RECORD_H
#define RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include "kvmvmem.h"

/* The region of the tests; the last memslot is shorter. */
#define RECORD_GPA	  (4ULL << 30)
#define RECORD_BLOCK	  (2ULL << 20)
#define RECORD_BLOCKS	  30
#define RECORD_PER_SLOT	  4
#define RECORD_FIRST_SLOT 100

/**
 * struct record - the device
 * @unit: enum kvmvmem_unit
 * @mapped: mapped blocks
 * @maps: number of map calls so far
 * @unmaps: number of unmap calls so far
 * @map_fails: number of map calls that succeed before calls fail; negative: all
 *	succeed
 * @unmap_fails: as @map_fails, for unmap calls
 * @failures: number of calls that fail then; negative: all
 */
struct record {
	uint32_t unit;
	bool mapped[RECORD_BLOCKS];
	unsigned int maps;
	unsigned int unmaps;
	int map_fails;
	int unmap_fails;
	int failures;
};

void record_init(struct record *record, uint32_t unit);
int record_map(void *arg, const struct kvmvmem_range *range);
int record_unmap(void *arg, const struct kvmvmem_range *range);
uint32_t record_mask(const struct record *record);

#endif /* RECORD_H */
