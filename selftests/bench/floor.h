/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The time to only allocate and free the metadata of memslots, as measured by
 * floor/memslot_floor.c.
 */
#ifndef SELFTESTS_FLOOR_H
#define SELFTESTS_FLOOR_H

#include <stdbool.h>
#include <stdint.h>

bool floor_available(void);
void floor_measure(uint32_t nr, uint64_t slot_gpa, uint64_t slot_size,
		   uint64_t *alloc_ns, uint64_t *free_ns);

#endif /* SELFTESTS_FLOOR_H */
