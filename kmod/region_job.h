/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KVM_VMEM_REGION_JOB_H
#define KVM_VMEM_REGION_JOB_H

#include "inject.h"
#include "queue.h"

struct vmem_region;

/**
 * struct vmem_region_job - a change that waits for its turn
 * @work: in the region's lane; its size is what the job holds, see vmem_queue_add()
 * @region: the region, with a reference
 * @run: makes the change, when it is the job's turn
 * @done: reports what @run has returned, and frees the job
 * @inject: the sender's fault injection
 */
struct vmem_region_job {
	struct vmem_work work;
	struct vmem_region *region;
	int (*run)(struct vmem_region_job *job);
	void (*done)(struct vmem_region_job *job, int err);
	struct vmem_inject inject;
};

int vmem_region_queue(struct vmem_region_job *job, const char **reason);

const char *vmem_region_why_ended(struct vmem_region *region);
const char *vmem_region_refuses(struct vmem_region *region);

#endif /* KVM_VMEM_REGION_JOB_H */
