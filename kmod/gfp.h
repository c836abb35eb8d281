/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Flags for allocations whose size a caller chooses.
 *
 * All of it is charged to a memory cgroup, the current task's or the one that a
 * work has made active. At its limit a call fails with ENOMEM, rather than that
 * the OOM killer kills the VMM for it.
 */
#ifndef KVM_VMEM_GFP_H
#define KVM_VMEM_GFP_H

#include <linux/gfp.h>

/* Reclaims what there is to reclaim, of the cgroup and of the machine. */
#define VMEM_GFP (GFP_KERNEL_ACCOUNT | __GFP_RETRY_MAYFAIL | __GFP_NOWARN)
/* One attempt to reclaim: for what is done without, or tried once more. */
#define VMEM_GFP_QUICK (GFP_KERNEL_ACCOUNT | __GFP_NORETRY | __GFP_NOWARN)
/*
 * The spare of what frees memory in the end: is charged past the cgroup's limit,
 * for which __GFP_HIGH stands. It may draw on what the machine keeps for
 * emergencies as well, so it comes last, after the others have failed.
 */
#define VMEM_GFP_SPARE (VMEM_GFP_QUICK | __GFP_HIGH)

#endif /* KVM_VMEM_GFP_H */
