/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Flags for allocations whose size a caller chooses.
 *
 * All allocations are charged to a memory cgroup: that of the current task, or
 * the one that a work has made active. At the limit of the cgroup a call fails
 * with ENOMEM; the OOM killer is not invoked.
 */
#ifndef KVM_VMEM_GFP_H
#define KVM_VMEM_GFP_H

#include <linux/gfp.h>

/* Reclaim memory of the cgroup and of the machine before failing. */
#define VMEM_GFP (GFP_KERNEL_ACCOUNT | __GFP_RETRY_MAYFAIL | __GFP_NOWARN)
/* One attempt to reclaim, for callers that have a fallback. */
#define VMEM_GFP_QUICK (GFP_KERNEL_ACCOUNT | __GFP_NORETRY | __GFP_NOWARN)
/*
 * The spare, for operations that free memory in the end. __GFP_HIGH charges
 * beyond the limit of the cgroup, and may also use the emergency reserves of
 * the machine. So this is the last attempt, after the others have failed.
 */
#define VMEM_GFP_SPARE (VMEM_GFP_QUICK | __GFP_HIGH)

#endif /* KVM_VMEM_GFP_H */
