/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KVM_VMEM_REGION_MEMSLOTS_H
#define KVM_VMEM_REGION_MEMSLOTS_H

#include <linux/kvm_host.h>
#include <linux/types.h>

#include "batch.h"

struct vmem_metadata;
struct vmem_region;

u64 vmem_region_slot_bytes(const struct vmem_region *region, u32 slot);
void vmem_region_describe_slot(const struct vmem_region *region, u32 slot,
			       int as_id,
			       struct kvm_userspace_memory_region *mem);
void vmem_region_slot_metadata(const struct vmem_region *region, u32 slot,
			       struct vmem_metadata *full);
u32 vmem_region_nr_address_spaces(const struct vmem_region *region);

void vmem_region_mark_changing(struct vmem_region *region, bool changing);
void vmem_region_set_changing(struct vmem_region *region, bool changing);

int vmem_region_begin_batch(struct vmem_region *region);
void vmem_region_end_batch(struct vmem_region *region);
struct vmem_change *
vmem_region_alloc_changes(const struct vmem_region *region, u32 nr_slots,
			  bool spare);
u32 vmem_region_add_changes(const struct vmem_region *region, u32 slot,
			    enum vmem_change_kind kind,
			    struct vmem_change *changes, u32 nr);
int vmem_region_apply(struct vmem_region *region,
		      const struct vmem_change *changes, u32 nr,
		      u32 *bad_index);

int vmem_region_change_populated(struct vmem_region *region,
				 enum vmem_change_kind kind);
int vmem_region_check_memslots(const struct vmem_region *region);
int vmem_region_drop_memslots(struct vmem_region *region);

#endif /* KVM_VMEM_REGION_MEMSLOTS_H */
