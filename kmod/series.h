/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KVM_VMEM_SERIES_H
#define KVM_VMEM_SERIES_H

#include <linux/types.h>

int vmem_series_check(void);
bool vmem_series_reviewed(void);

#endif /* KVM_VMEM_SERIES_H */
