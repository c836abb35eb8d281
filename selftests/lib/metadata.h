/* SPDX-License-Identifier: GPL-2.0-or-later */
/* KVM's allocations for a memslot, computed from its source code. */
#ifndef SELFTESTS_METADATA_H
#define SELFTESTS_METADATA_H

#include <stdbool.h>
#include <stdint.h>

#include "common/vmem_nl.h"

/**
 * struct metadata_arrays - bytes of each array of a memslot; 0: not allocated
 * @rmap: reverse maps for pages of 4 KiB, 2 MiB, 1 GiB
 * @lpage_info: for pages of 2 MiB and 1 GiB
 * @gfn_track: write tracking
 * @dirty_bitmap: the two bitmaps of dirty logging
 */
struct metadata_arrays {
	uint64_t rmap[3];
	uint64_t lpage_info[2];
	uint64_t gfn_track;
	uint64_t dirty_bitmap;
};

bool metadata_uses_rmaps(void);
void metadata_arrays(struct metadata_arrays *arrays, uint64_t gpa,
		     uint64_t size, bool dirty_log, bool nested);
struct vmem_nl_metadata metadata_cost(uint64_t gpa, uint64_t size,
				      bool dirty_log, bool nested);

#endif /* SELFTESTS_METADATA_H */
