/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KVM_VMEM_REGION_CHANGE_H
#define KVM_VMEM_REGION_CHANGE_H

#include <linux/types.h>

#include "region.h"

/**
 * struct vmem_request - a change of block state
 * @type: what to do
 * @id: chosen by the sender to detect a repetition, 0 for none
 * @nr: how many ranges; 0 for unplug-all
 * @ranges: the blocks, kvmalloc'ed
 */
struct vmem_request {
	enum vmem_request_type type;
	u64 id;
	u32 nr;
	struct vmem_range *ranges;
};

/**
 * struct vmem_fault - why a request was refused
 * @range: index of the range to blame, or enum vmem_set_field for
 *	vmem_region_set(); -1 if none is
 * @reason: a sentence for the user, static; NULL if the error says it all
 */
struct vmem_fault {
	int range;
	const char *reason;
};

enum vmem_set_field {
	VMEM_SET_REQUESTED_SIZE,
	VMEM_SET_DIRTY_LOG,
};

int vmem_region_alloc_ranges(struct vmem_region *region,
			     struct vmem_request *req, struct vmem_fault *fault);
int vmem_region_request(struct vmem_region *region,
			const struct vmem_request *req,
			struct vmem_answer *answer, struct vmem_fault *fault);
int vmem_region_set(struct vmem_region *region, const u64 *requested_size,
		    const bool *dirty_log, struct vmem_fault *fault);

#endif /* KVM_VMEM_REGION_CHANGE_H */
