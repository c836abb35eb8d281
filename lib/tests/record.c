// SPDX-License-Identifier: MIT
#include "record.h"

#include <errno.h>
#include <string.h>

#include "unit.h"

void record_init(struct record *record, uint32_t unit)
{
	memset(record, 0, sizeof(*record));
	record->unit = unit;
	record->map_fails = -1;
	record->unmap_fails = -1;
	record->failures = -1;
}

static void check_memslots(const struct kvmvmem_range *range, uint64_t first,
			   uint64_t nr)
{
	uint64_t slots = (nr - 1) / RECORD_PER_SLOT + 1;

	assert_int_equal(first % RECORD_PER_SLOT, 0);
	assert_true(nr % RECORD_PER_SLOT == 0 || first + nr == RECORD_BLOCKS);
	assert_int_equal(range->first_slot,
			 RECORD_FIRST_SLOT + first / RECORD_PER_SLOT);
	assert_int_equal(range->nr_slots, slots);
}

static bool fails(struct record *record, int *counter)
{
	if (*counter < 0)
		return false;
	if (*counter > 0) {
		--*counter;
		return false;
	}
	if (!record->failures)
		return false;
	if (record->failures > 0)
		record->failures--;
	return true;
}

static int change(struct record *record, const struct kvmvmem_range *range,
		  bool map)
{
	uint64_t first = range->offset / RECORD_BLOCK;
	uint64_t nr = range->size / RECORD_BLOCK;

	assert_int_equal(range->gpa, RECORD_GPA + range->offset);
	assert_int_equal(range->offset % RECORD_BLOCK, 0);
	assert_int_equal(range->size % RECORD_BLOCK, 0);
	assert_true(nr && first + nr <= RECORD_BLOCKS);
	if (record->unit == KVMVMEM_EACH_BLOCK)
		assert_int_equal(nr, 1);
	if (record->unit == KVMVMEM_MEMSLOT_RUNS)
		check_memslots(range, first, nr);
	else
		assert_int_equal(range->nr_slots, 0);
	for (uint64_t i = first; i < first + nr; i++)
		assert_int_equal(record->mapped[i], !map);
	if (fails(record, map ? &record->map_fails : &record->unmap_fails))
		return map ? -ENOSPC : -EBUSY;
	for (uint64_t i = first; i < first + nr; i++)
		record->mapped[i] = map;
	return 0;
}

int record_map(void *arg, const struct kvmvmem_range *range)
{
	struct record *record = arg;

	record->maps++;
	return change(record, range, true);
}

int record_unmap(void *arg, const struct kvmvmem_range *range)
{
	struct record *record = arg;

	record->unmaps++;
	return change(record, range, false);
}

/* The mapped blocks, a bit for each block. */
uint32_t record_mask(const struct record *record)
{
	uint32_t mask = 0;

	for (int i = 0; i < RECORD_BLOCKS; i++)
		mask |= (uint32_t)record->mapped[i] << i;
	return mask;
}
