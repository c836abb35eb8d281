/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KVM_VMEM_REGION_DUMP_H
#define KVM_VMEM_REGION_DUMP_H

#include <linux/kvm_host.h>
#include <linux/types.h>

#include "memslot.h"

struct vmem_range;
struct vmem_region;

/*
 * struct vmem_region_slot - a populated slot as a dump shows it
 */
struct vmem_region_slot {
	u32 id;
	gpa_t gpa;
	u64 size;
	u64 hva;
	u64 plugged_size;
	bool stale;
	bool has_metadata;
	struct vmem_metadata metadata;
};

void vmem_region_metadata(struct vmem_region *region,
			  struct vmem_metadata *sum);
bool vmem_region_whole_metadata(struct vmem_region *region,
				struct vmem_metadata *sum);
u32 vmem_region_dump_seq(struct vmem_region *region, u32 last);
bool vmem_region_next_run(struct vmem_region *region, u64 *block,
			  struct vmem_range *run);
bool vmem_region_next_slot(struct vmem_region *region, u32 *index,
			   struct vmem_region_slot *slot);

#endif /* KVM_VMEM_REGION_DUMP_H */
