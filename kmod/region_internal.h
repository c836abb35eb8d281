/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KVM_VMEM_REGION_INTERNAL_H
#define KVM_VMEM_REGION_INTERNAL_H

#include <linux/bits.h>
#include <linux/types.h>

#include "region.h"

/*
 * What the files of a region share; no others include this.
 */

/*
 * Blocks of which a count is kept, so that a reader who looks for the next run
 * passes over what is all plugged or all unplugged. Of the most blocks that
 * there can be, it looks at 16384 counts and at 2 KiB of bits.
 */
#define CHUNK_SHIFT 14
#define CHUNK_BLOCKS BIT(CHUNK_SHIFT)

/* From vmem_region_init() on. */
extern const struct vmem_region_ops *vmem_region_ops;

static inline bool vmem_ranges_meet(u64 first_a, u64 nr_a, u64 first_b,
				    u64 nr_b)
{
	return first_a < first_b + nr_b && first_b < first_a + nr_a;
}

#endif /* KVM_VMEM_REGION_INTERNAL_H */
