/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KVM_VMEM_BATCH_JUDGE_H
#define KVM_VMEM_BATCH_JUDGE_H

#include <linux/types.h>

struct batch;

int vmem_batch_judge(struct batch *b, bool validate_only);

#endif /* KVM_VMEM_BATCH_JUDGE_H */
